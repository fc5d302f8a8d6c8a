//! The parts that processes of the tour play: `aqueduct tour-peer ROLE -- ARG...`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;

use anyhow::Context;
use aqueduct::codec::Json;
use aqueduct::connect::{Message, Options};
use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::Framing;
use aqueduct::{Endpoint, inherited, pipe};
use futures_util::SinkExt;
use tokio::io::AsyncReadExt;

use super::numbered;
use super::pipes::{Answer, Job, TO_CHILD, TO_PARENT};
use super::requests;
use super::tally::Tally;
use crate::cli::PeerArgs;
use crate::exit::Exit;

pub(crate) async fn run(args: PeerArgs) -> anyhow::Result<Exit> {
    match args.role.as_str() {
        // These end with the pipe that they read.
        "shout" => shout().await?,
        "count" => print(&count().await?)?,
        _ => tokio::select! {
            biased;
            result = play(args) => result?,
            gone = tour_gone() => gone?,
        },
    }
    Ok(Exit::Done)
}

/// The parts that could wait for ever, or go on for ever, after a tour that is killed.
async fn play(args: PeerArgs) -> anyhow::Result<()> {
    let mut rest = args.args.into_iter();
    match args.role.as_str() {
        "answer" => requests::answer(next(&mut rest)?).await?,
        "receive" => print(&receive(next(&mut rest)?, number(&mut rest)?).await?)?,
        "send" => {
            let (endpoint, sender) = (next(&mut rest)?, number(&mut rest)? as u32);
            let (count, size) = (number(&mut rest)?, number(&mut rest)? as usize);
            send(endpoint, sender, count, size).await?;
        }
        "share" => {
            let (path, sender) = (rest.next().context("a path")?, number(&mut rest)? as u32);
            share(path, sender, number(&mut rest)?).await?;
        }
        other => anyhow::bail!("the tour has no part {other:?}"),
    }
    Ok(())
}

/// Fails as soon as the tour has gone, however it ended: standard input ends with it.
async fn tour_gone() -> anyhow::Result<()> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut lifeline = pipe::Receiver::from_owned_fd(stdin)?;
    let _end: usize = lifeline.read(&mut [0]).await?;
    anyhow::bail!("the tour has gone")
}

/// The child that answers jobs in capitals.
async fn shout() -> anyhow::Result<()> {
    let framing = Framing::length();
    let mut parent = inherited::channel::<Answer, Job, _>(TO_PARENT, TO_CHILD, framing, Json)?;
    while let Some(job) = parent.recv().await {
        let Job { id, text } = job?;
        let text = text.to_uppercase();
        parent.send(Answer { id, text }).await?;
    }
    parent.close().await?;
    Ok(())
}

/// The child that counts what its parent sends.
async fn count() -> anyhow::Result<Tally> {
    let frames = inherited::receiver(TO_CHILD)?.framed(Framing::length());
    Tally::of(frames, u64::MAX).await
}

/// Counts what comes from an address.
async fn receive(endpoint: Endpoint, limit: u64) -> anyhow::Result<Tally> {
    let incoming = Options::new().open_receiver(&endpoint).await?;
    Tally::of(incoming.into_frames(), limit).await
}

/// Sends numbered messages to an address.
async fn send(endpoint: Endpoint, sender: u32, count: u64, size: usize) -> anyhow::Result<()> {
    let mut outgoing = Options::new().open_sender(&endpoint).await?;
    for i in 0..count {
        outgoing
            .feed(Message::new(numbered::message(sender, i, size)))
            .await?;
    }
    outgoing.close().await?;
    Ok(())
}

/// What a writer says when its first message is in the FIFO.
pub(super) const BEGUN: &str = "begun\n";

/// Sends numbered messages of many sizes to a FIFO that others write to.
async fn share(path: OsString, sender: u32, count: u64) -> anyhow::Result<()> {
    let fifo = fifo::OpenOptions::new().open_sender(path).await?;
    let mut shared = SharedSender::new(fifo, Framing::length());
    for i in 0..count {
        let size = 20 + (i * 37 % 1500) as usize;
        shared.feed(numbered::message(sender, i, size)).await?;
        if i == 0 {
            shared.flush().await?;
            io::stdout().write_all(BEGUN.as_bytes())?;
        }
    }
    shared.close().await?;
    Ok(())
}

fn print(tally: &Tally) -> anyhow::Result<()> {
    let text = serde_json::to_string(tally)?;
    Ok(writeln!(io::stdout(), "{text}")?)
}

fn next(args: &mut impl Iterator<Item = OsString>) -> anyhow::Result<Endpoint> {
    Ok(args.next().context("an address")?.try_into()?)
}

fn number(args: &mut impl Iterator<Item = OsString>) -> anyhow::Result<u64> {
    let text = args.next().context("a number")?;
    text.to_str()
        .context("a number")?
        .parse()
        .context("a number")
}
