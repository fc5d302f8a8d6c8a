//! `aqueduct send`: send the arguments, or standard input.

mod replay;

use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::time::Duration;

use aqueduct::bytes::Bytes;
use aqueduct::connect::{Message, MessageSender};
use aqueduct::frame::FrameError;
use futures_util::{FutureExt, Sink, SinkExt, StreamExt};

use crate::config::SendConfig;
use crate::exit::{Exit, Failure};
use crate::input::{self, Cut, Messages};
use crate::link::{self, expiry};
use crate::progress::Progress;
use crate::report::{Report, about};
use crate::signals::Signals;

use self::replay::Replay;

/// How long the other side may take to receive the messages in hand after a signal.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn run(config: SendConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    // Before anybody is waited for.
    let replay = match &config.replay {
        Some(replay) => Some(Replay::open(replay, &config)?),
        None => None,
    };
    let from_input = replay.is_none() && config.messages.is_empty();
    if from_input && config.link.raw_ignored && config.input == Cut::Lines {
        report.note(format_args!(
            "{} keeps message boundaries, so --frame raw has no effect: each line of standard input \
             is a message, without its newline; see --input",
            config.endpoint.scheme().name
        ));
    }
    let Some(mut outgoing) = open(&config, &mut signals, report).await? else {
        return Ok(Exit::Done);
    };
    let child = outgoing.take_child();
    let mut send = Send {
        outgoing,
        progress: Progress::new(report, io::stdin().is_terminal()),
        signals,
        config: &config,
        unflushed: 0,
        unflushed_bytes: 0,
    };
    let rest = if let Some(replay) = replay {
        send.replay(replay, report).await?
    } else if config.messages.is_empty() {
        let largest = config.link.largest();
        send.input(input::messages(config.input, largest)?, report)
            .await?
    } else {
        send.arguments().await?
    };
    send.finish(rest).await?;
    let Send {
        outgoing,
        mut signals,
        ..
    } = send;
    // A program sees the end of its input only now.
    drop(outgoing);
    link::ended_well(&config.endpoint, child, config.link.timeout, &mut signals).await?;
    Ok(Exit::Done)
}

/// Opens the sending end. `None`: a signal came first.
async fn open(
    config: &SendConfig,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Option<MessageSender>> {
    let (endpoint, link, side) = (&config.endpoint, &config.link, config.side);
    let opening = link::sender(endpoint, link, side, config.lasting, report);
    let opened = link::opened(opening, endpoint, link, side, signals, report).await?;
    if opened.is_none() && !config.messages.is_empty() {
        report.note(format_args!("stopped, nothing was sent to {endpoint}"));
    }
    Ok(opened)
}

struct Send<'a> {
    outgoing: MessageSender,
    progress: Progress,
    signals: Signals,
    config: &'a SendConfig,
    /// Messages that the sink has taken and not yet written.
    unflushed: u64,
    /// Their bytes.
    unflushed_bytes: u64,
}

/// Whether a signal has asked to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    Yes,
}

/// Messages in hand when a signal arrived; `None` if none did.
type Rest = Option<Vec<Bytes>>;

impl Send<'_> {
    async fn arguments(&mut self) -> anyhow::Result<Rest> {
        let messages = &self.config.messages;
        for (i, message) in messages.iter().enumerate() {
            if self.feed(self.config.message(message.clone())).await? == Stopped::Yes {
                return Ok(Some(messages[i..].to_vec()));
            }
        }
        Ok(None)
    }

    /// Sends incoming messages, and flushes whenever no more are available at once.
    async fn input(&mut self, mut messages: Messages, report: &Report) -> anyhow::Result<Rest> {
        loop {
            let item = match messages.next().now_or_never() {
                Some(item) => item,
                None => {
                    if self.flush().await? == Stopped::Yes {
                        return Ok(Some(in_hand(None, messages, report)));
                    }
                    tokio::select! {
                        biased;
                        () = self.signals.recv() => {
                            return Ok(Some(in_hand(None, messages, report)));
                        }
                        item = messages.next() => item,
                        () = expiry(self.config.link.timeout) => return Err(self.idle()),
                    }
                }
            };
            match item {
                None => return Ok(None),
                Some(Ok(message)) => {
                    if self.feed(self.config.message(message.clone())).await? == Stopped::Yes {
                        return Ok(Some(in_hand(Some(message), messages, report)));
                    }
                }
                Some(Err(error)) => {
                    // Those before it are good.
                    self.flush().await?;
                    return Err(self.bad_input(error));
                }
            }
        }
    }

    /// Hands a message to the sink. A signal that arrives while the sink has no room stops before
    /// this message.
    async fn feed(&mut self, message: Message) -> anyhow::Result<Stopped> {
        let size = message.body().len();
        let outgoing = &mut self.outgoing;
        let ready = poll_fn(|cx| Pin::new(&mut *outgoing).poll_ready(cx));
        let ready = tokio::select! {
            biased;
            ready = ready => ready,
            () = self.signals.recv() => return Ok(Stopped::Yes),
            () = expiry(self.config.link.timeout) => return Err(self.idle()),
        };
        ready.map_err(|e| self.failed(e))?;
        let number = self.progress.messages() + 1;
        if let Err(error) = self.outgoing.start_send_unpin(message) {
            self.flush().await?;
            return Err(match FrameError::of(&error) {
                Some(_) => {
                    let what = format!("message {number}");
                    anyhow::Error::msg(self.config.link.refused(what, &error))
                }
                None => self.failed(error),
            });
        }
        self.unflushed += 1;
        self.unflushed_bytes += size as u64;
        self.progress.add(1, size);
        Ok(Stopped::No)
    }

    async fn flush(&mut self) -> anyhow::Result<Stopped> {
        if self.unflushed == 0 {
            return Ok(Stopped::No);
        }
        let flushed = tokio::select! {
            biased;
            flushed = self.outgoing.flush() => flushed,
            () = self.signals.recv() => return Ok(Stopped::Yes),
            () = expiry(self.config.link.timeout) => return Err(self.idle()),
        };
        flushed.map_err(|e| self.failed(e))?;
        (self.unflushed, self.unflushed_bytes) = (0, 0);
        Ok(Stopped::No)
    }

    /// Flushes the taken messages. After a signal this may take a few seconds; a second signal ends
    /// it.
    async fn finish(&mut self, rest: Rest) -> anyhow::Result<()> {
        let mut stopped = rest.is_some();
        let rest = rest.unwrap_or_default();
        self.unflushed += rest.len() as u64;
        self.unflushed_bytes += rest.iter().map(|it| it.len() as u64).sum::<u64>();
        let limit = match (stopped, self.config.link.timeout) {
            (true, limit) => Some(limit.unwrap_or(GRACE).min(GRACE)),
            (false, limit) => limit,
        };
        let expired = expiry(limit);
        tokio::pin!(expired);
        let closed = {
            let outgoing = &mut self.outgoing;
            let config = self.config;
            let closing = async move {
                for message in rest {
                    outgoing.feed(config.message(message)).await?;
                }
                outgoing.close().await
            };
            tokio::pin!(closing);
            loop {
                tokio::select! {
                    biased;
                    closed = &mut closing => break Some(closed),
                    () = &mut expired => break None,
                    () = self.signals.recv() => {
                        if stopped {
                            break None;
                        }
                        stopped = true;
                        expired.set(expiry(Some(GRACE)));
                    }
                }
            }
        };
        match closed {
            Some(closed) => closed.map_err(|e| self.failed(e)),
            None if stopped => Err(self.given_up()),
            None => Err(self.idle()),
        }
    }

    /// How much of what was taken may not have been sent.
    fn lost(&self) -> String {
        let (n, sent, what) = match self.config.link.is_raw() {
            true => (self.unflushed_bytes, self.progress.bytes(), "bytes"),
            false => (self.unflushed, self.progress.messages(), "messages"),
        };
        let sent = sent.max(n);
        format!("the last {n} of {sent} {what}, or fewer, were not sent")
    }

    fn idle(&self) -> anyhow::Error {
        let limit = self.config.link.timeout.unwrap_or_default();
        let address = &self.config.endpoint;
        let sentence = format!("nothing was sent to {address} for {limit:?}");
        Failure::timed_out(match self.unflushed {
            0 => sentence,
            _ => format!("{sentence}: {}", self.lost()),
        })
    }

    fn given_up(&self) -> anyhow::Error {
        let (address, lost) = (&self.config.endpoint, self.lost());
        anyhow::anyhow!(
            "stopped before {address} took all that was in hand: messages are lost, {lost}"
        )
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        let address = about(&self.config.endpoint);
        if matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionRefused
        ) {
            let lost = self.lost();
            return anyhow::Error::new(error)
                .context(format!("{address}: the reader has gone, {lost}"));
        }
        anyhow::Error::new(error).context(address)
    }

    fn bad_input(&self, error: io::Error) -> anyhow::Error {
        let number = self.progress.messages() + 1;
        input::failed(format_args!("message {number}"), error)
    }
}

/// What was read of standard input and is not sent yet: `first`, then the whole messages in the
/// buffer.
fn in_hand(first: Option<Bytes>, messages: Messages, report: &Report) -> Vec<Bytes> {
    let rest = input::in_hand(messages, report);
    first.into_iter().chain(rest).collect()
}
