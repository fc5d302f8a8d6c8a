//! Pipes between a parent and its child: typed messages, then many.

use std::time::Instant;

use anyhow::Context;
use aqueduct::Channel;
use aqueduct::child::Command;
use aqueduct::codec::Json;
use aqueduct::frame::Framing;
use futures_util::SinkExt;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::numbered;
use super::stage::{Stage, count};
use super::tally::Tally;

/// The descriptor on which the child reads.
pub(super) const TO_CHILD: i32 = 3;
/// The descriptor on which the child writes.
pub(super) const TO_PARENT: i32 = 4;

const MANY: u64 = 200_000;
const SIZE: usize = 64;

#[derive(Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) id: u32,
    pub(super) text: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) id: u32,
    pub(super) text: String,
}

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("This process starts another one with two pipes: it reads jobs on")?;
    stage.say("descriptor 3 and writes answers on descriptor 4, as typed messages.")?;
    talk(stage).await?;
    flood(stage).await
}

async fn talk(stage: &Stage) -> anyhow::Result<()> {
    let mut command = peer(stage, "shout");
    command.pipe_to_child(TO_CHILD).pipe_from_child(TO_PARENT);
    let mut child = command.spawn()?;
    let mut worker: Channel<Job, Answer> =
        child.channel(TO_CHILD, TO_PARENT, Framing::length(), Json)?;
    let texts = ["sort the attic", "two\nlines", "größer"];
    for (id, text) in (1..).zip(texts) {
        let text = text.to_owned();
        let job = Job { id, text };
        stage.sent(serde_json::to_string(&job)?)?;
        let expected = job.text.to_uppercase();
        worker.send(job).await?;
        let answer = worker.recv().await.context("the child has gone")??;
        stage.received(serde_json::to_string(&answer)?)?;
        anyhow::ensure!(answer.id == id && answer.text == expected, "a wrong answer");
    }
    worker.close().await?;
    anyhow::ensure!(worker.recv().await.is_none(), "an answer too many");
    let status = child.wait().await?;
    anyhow::ensure!(status.success(), "the child ended with {status}");
    stage.verified("3 answers, each to its job; the child saw the end and left")
}

async fn flood(stage: &Stage) -> anyhow::Result<()> {
    let mut command = peer(stage, "count");
    command.pipe_to_child(TO_CHILD).pipe_from_child(1);
    let mut child = command.spawn()?;
    let mut frames = child.take_sender(TO_CHILD)?.framed(Framing::length());
    let mut report = child.take_receiver(1)?;
    stage.sent(format_args!("{} messages of {SIZE} bytes", count(MANY)))?;
    let start = Instant::now();
    for i in 0..MANY {
        frames.feed(numbered::message(0, i, SIZE)).await?;
    }
    frames.close().await?;
    drop(frames);
    let mut text = Vec::new();
    report.read_to_end(&mut text).await?;
    let time = start.elapsed();
    let tally: Tally = serde_json::from_slice(&text).context("the child printed no tally")?;
    stage.received(format_args!("{} messages", count(tally.messages)))?;
    tally.check_sender(0, MANY)?;
    anyhow::ensure!(child.wait().await?.success(), "the child failed");
    stage.verified("every message, byte for byte, in order")?;
    stage.speed(tally.messages, tally.bytes, time)
}

fn peer(stage: &Stage, role: &str) -> Command {
    let mut command = Command::new(stage.program());
    command.args(["tour-peer", role]).kill_on_drop(true);
    command
}
