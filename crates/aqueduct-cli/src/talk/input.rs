//! What is sent in a conversation: lines typed at a terminal, or standard input as it is.

use std::io::{self, IsTerminal};

use aqueduct::bytes::Bytes;
use aqueduct::connect::Message;
use aqueduct::stdio;
use futures_util::future::{self, Fuse, FutureExt, LocalBoxFuture};
use futures_util::stream::{self, LocalBoxStream, StreamExt};
use nix::libc;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::Talk;
use super::crlf::Adding;
use super::editor::Typed;
use crate::cli::Output;
use crate::config::refused;
use crate::input;

/// How many bytes are read of a terminal at once, and so how many lines may wait to be sent.
const KEYS: usize = 1024;

/// Messages to be sent, until the command is told to stop.
pub(super) type Input<'a> = LocalBoxStream<'a, anyhow::Result<Message>>;

/// What is sent, and what has to run for it to come.
pub(super) fn open<'a>(
    talk: &'a Talk<'_>,
) -> anyhow::Result<(Input<'a>, Fuse<LocalBoxFuture<'a, ()>>)> {
    if is_edited(talk) && talk.screen.edit().is_ok() {
        let (lines, mut typed) = mpsc::channel(KEYS);
        let messages = stream::poll_fn(move |cx| typed.poll_recv(cx)).map(Ok);
        let typing = read_keys(talk, lines).boxed_local().fuse();
        return Ok((paced(talk, messages), typing));
    }
    let config = talk.config;
    let largest = config.link.largest();
    let messages = input::messages(config.input, largest)?;
    let stop = talk.stop.clone().cancelled_owned();
    let mut adding = config.crlf.then(Adding::default);
    let mut number = 0_u64;
    let messages = input::until_stopped(messages, stop, talk.report).map(move |message| {
        number += 1;
        let failed = |error| input::failed(format_args!("message {number}"), error);
        let body: Bytes = message.map_err(failed)?;
        let body = match &mut adding {
            Some(adding) => adding.add(&body),
            None => body,
        };
        config.link.check(&body).map_err(failed)?;
        Ok(Message::new(body))
    });
    Ok((
        paced(talk, messages),
        future::pending().boxed_local().fuse(),
    ))
}

/// As they come; where they are shown too, no faster than that.
fn paced<'a>(
    talk: &'a Talk<'_>,
    messages: impl futures_util::Stream<Item = anyhow::Result<Message>> + 'a,
) -> Input<'a> {
    if talk.config.output != Output::Json {
        return messages.boxed_local();
    }
    let paced = messages.then(async |message| {
        talk.screen.room().await;
        message
    });
    paced.boxed_local()
}

/// Whether lines are typed and edited: at a terminal that can move its cursor.
fn is_edited(talk: &Talk<'_>) -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    io::stdin().is_terminal()
        && io::stdout().is_terminal()
        && !term.is_empty()
        && term != "dumb"
        && talk.config.output != Output::Raw
}

/// Reads keys until the last line was typed, the terminal has gone or the command is told to stop.
async fn read_keys(talk: &Talk<'_>, lines: mpsc::Sender<Message>) {
    let Ok(mut stdin) = stdio::stdin() else {
        return;
    };
    // Without them it is drawn as it would be in a terminal of the old width.
    let mut resized = signal(SignalKind::window_change()).ok();
    let mut continued = signal(SignalKind::from_raw(libc::SIGCONT)).ok();
    let mut keys = [0; KEYS];
    loop {
        let read = async {
            talk.screen.room().await;
            // No line that is read is left behind when the command is told to stop.
            let room = lines.reserve_many(KEYS).await.ok()?;
            let n = stdin.read(&mut keys).await.ok().filter(|n| *n > 0)?;
            Some((room, n))
        };
        let (room, n) = tokio::select! {
            biased;
            () = talk.stop.cancelled() => return,
            () = one_of(&mut resized, &mut continued) => {
                talk.screen.renew();
                continue;
            }
            read = read => match read {
                Some(read) => read,
                None => return,
            },
        };
        let mut room = room;
        for typed in talk.screen.press(&keys[..n]) {
            let Typed::Line(line) = typed else {
                return;
            };
            let message = message(talk, line);
            match talk.config.link.check(&message) {
                Ok(()) => {
                    if let Some(place) = room.next() {
                        place.send(Message::new(message));
                    }
                }
                Err(error) => talk.note(refused("the line", &error)),
            }
        }
    }
}

/// A line as it is sent.
fn message(talk: &Talk<'_>, mut line: String) -> Bytes {
    if talk.config.link.is_raw() {
        line.push_str(if talk.config.crlf { "\r\n" } else { "\n" });
    }
    line.into()
}

async fn one_of(one: &mut Option<Signal>, other: &mut Option<Signal>) {
    async fn wait(signal: &mut Option<Signal>) {
        match signal {
            Some(signal) => drop(signal.recv().await),
            None => future::pending().await,
        }
    }
    tokio::select! {
        () = wait(one) => {}
        () = wait(other) => {}
    }
}
