//! `aqueduct talk`: hold a conversation.

mod crlf;
mod editor;
mod input;
mod screen;

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::pin::{Pin, pin};
use std::time::Duration;

use aqueduct::child::Child;
use aqueduct::connect::{Message, MessageReceiver, MessageSender};
use aqueduct::service::CancellationToken;
use futures_util::StreamExt;
use nix::libc;
use tokio::time::{Instant, sleep_until};

use crate::cli::Output;
use crate::config::{self, TalkConfig};
use crate::exit::{Exit, Failure};
use crate::forward::{Stopped, forward};
use crate::link;
use crate::output::Printer;
use crate::printable::Printable;
use crate::recv;
use crate::report::{Report, about};
use crate::signals::Signals;
use crate::stdout;

use self::crlf::Removing;
use self::screen::Screen;

/// How long sending the data in hand may take after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait, once the peer's stream has ended, for the peer to close altogether, and then
/// for more input to send.
const PATIENCE: Duration = Duration::from_millis(100);

/// The directions of messages, as JSON has them.
const SENT: &str = "sent";
const RECEIVED: &str = "received";

pub(crate) async fn run(config: TalkConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let (endpoint, link) = (&config.endpoint, &config.link);
    let opening = link::open(endpoint, link, config.side, report);
    let opened = link::opened(opening, endpoint, link, config.side, &mut signals, report);
    let Some(mut connection) = opened.await? else {
        return Ok(Exit::Done);
    };
    let mut child = connection.take_child();
    let closed = connection.closed();
    let (outgoing, incoming) = connection.into_split();
    let on_terminal = io::stdout().is_terminal();
    let removing = config.crlf && config.output == Output::Text && on_terminal;
    let talk = Talk {
        screen: Screen::new(),
        printer: RefCell::new(Printer::new(config.output, endpoint, link)),
        removing: RefCell::new(removing.then(Removing::default)),
        moved: Cell::new(Instant::now()),
        stop: CancellationToken::new(),
        config: &config,
        report,
        on_terminal,
    };
    let gone = gone(&mut child, closed);
    let ended = talk
        .converse(outgoing, incoming, gone, &mut signals)
        .await?;
    // One that is cut off fails, and is not to blame.
    let child = child.filter(|_| ended == Ended::ByBoth);
    link::ended_well(endpoint, child, link.timeout, &mut signals).await?;
    Ok(Exit::Done)
}

/// Waits until the peer can no longer receive.
async fn gone(child: &mut Option<Child>, closed: impl Future<Output = ()>) {
    match child {
        Some(child) => drop(child.wait().await),
        None => closed.await,
    }
}

async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// How a conversation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByBoth,
    /// Nothing more is wanted here.
    Here,
}

/// What a time limit was for.
enum Due {
    /// What may go on no longer.
    Over,
    /// Nothing was moved.
    Idle,
}

struct Talk<'a> {
    config: &'a TalkConfig,
    report: &'a Report,
    /// Standard output is a terminal, or was one before it went.
    on_terminal: bool,
    screen: Screen,
    printer: RefCell<Printer>,
    /// Takes carriage returns away from what is shown.
    removing: RefCell<Option<Removing>>,
    /// When something was sent or received last.
    moved: Cell<Instant>,
    stop: CancellationToken,
}

impl Talk<'_> {
    /// Talks until both sides have ended, and shows all that was said.
    async fn converse(
        &self,
        outgoing: MessageSender,
        incoming: MessageReceiver,
        gone: impl Future<Output = ()>,
        signals: &mut Signals,
    ) -> anyhow::Result<Ended> {
        let mut writing = pin!(self.screen.write(stdout::open()?));
        let result = tokio::select! {
            biased;
            error = &mut writing => Err(Unseen(error).into()),
            result = self.both_ways(outgoing, incoming, gone, signals) => result,
        };
        let result = match result {
            Err(error) if error.is::<Unseen>() => Err(error),
            result => self.finish(writing, signals).await.and(result),
        };
        match result {
            // Nobody there to read it is no failure.
            Err(error) if self.is_closed(&error) => Ok(Ended::Here),
            result => result,
        }
    }

    async fn both_ways(
        &self,
        mut outgoing: MessageSender,
        mut incoming: MessageReceiver,
        gone: impl Future<Output = ()>,
        signals: &mut Signals,
    ) -> anyhow::Result<Ended> {
        let (messages, mut typing) = input::open(self)?;
        let shown = self.config.output == Output::Json;
        let sending = forward(messages, &mut outgoing, self.config.end, |message| {
            self.moved.set(Instant::now());
            if let Some(message) = message.filter(|_| shown) {
                self.print(SENT, message);
            }
        });
        let mut sending = pin!(sending);
        let mut receiving = pin!(self.receive(&mut incoming));
        let mut gone = pin!(gone);
        let (mut sent, mut received, mut closed) = (None, false, false);
        // Until when it may go on.
        let mut until: Option<Instant> = None;
        // When it is told that the peer has ended its side and is still there.
        let mut untold: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                () = signals.recv() => {
                    anyhow::ensure!(!self.stop.is_cancelled(), self.given_up());
                    self.stop.cancel();
                    until = Instant::now().checked_add(GRACE);
                }
                () = &mut typing => {}
                result = &mut sending, if sent.is_none() => {
                    self.screen.end_editing();
                    match result {
                        Err(Stopped::From(error)) => return Err(error),
                        // No end of the stream would follow.
                        Err(Stopped::To(error)) if !config::has_end(&self.config.endpoint) => {
                            return Err(self.not_sent(error));
                        }
                        _ => {}
                    }
                    sent = Some(result);
                    let linger = self.config.linger.and_then(|it| Instant::now().checked_add(it));
                    until = until.or(linger);
                }
                result = &mut receiving, if !received => {
                    result.map_err(|error| recv::broken(error, &self.config.endpoint))?;
                    received = true;
                    untold = Instant::now().checked_add(PATIENCE);
                }
                () = &mut gone, if received && sent.is_none() && !closed => {
                    closed = true;
                    untold = None;
                    // What is there of the input fails now, rather than to be left out unsaid.
                    until = until.or_else(|| Instant::now().checked_add(PATIENCE));
                }
                () = reached(untold), if sent.is_none() && !self.stop.is_cancelled() => {
                    untold = None;
                    let address = &self.config.endpoint;
                    self.note(format_args!("{address} has stopped sending; Ctrl-D ends the conversation"));
                }
                due = self.due(until) => match due {
                    Due::Over if self.stop.is_cancelled() => return Err(self.given_up()),
                    Due::Over if closed && sent.is_none() => {
                        self.note(format_args!("{} closed the connection", about(&self.config.endpoint)));
                        return Ok(Ended::ByBoth);
                    }
                    Due::Over => {
                        return match sent {
                            Some(Err(Stopped::To(error))) => Err(self.not_sent(error)),
                            _ => Ok(Ended::Here),
                        };
                    }
                    Due::Idle => return Err(self.timed_out()),
                },
            }
            if let Some(result) = sent.take_if(|_| received) {
                return match result {
                    Err(Stopped::To(error)) => Err(self.not_sent(error)),
                    Err(Stopped::From(error)) => Err(error),
                    Ok(()) if self.stop.is_cancelled() => Ok(Ended::Here),
                    Ok(()) => Ok(Ended::ByBoth),
                };
            }
        }
    }

    /// Shows what the peer says, until it ends or the command is told to stop.
    async fn receive(&self, incoming: &mut MessageReceiver) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = self.screen.room() => {}
            }
            let item = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                item = incoming.next() => item,
            };
            match item {
                Some(message) => {
                    let mut message = message?;
                    self.print(RECEIVED, &message);
                    if let Some(receipt) = message.take_receipt() {
                        receipt.settle();
                    }
                }
                None => return Ok(()),
            }
            self.moved.set(Instant::now());
        }
    }

    fn print(&self, direction: &'static str, message: &Message) {
        let mut printer = self.printer.borrow_mut();
        match &mut *self.removing.borrow_mut() {
            Some(removing) => {
                let body = removing.remove(message.body());
                printer.print_as(direction, &Message::new(body));
            }
            None => printer.print_as(direction, message),
        }
        self.screen.show(&std::mem::take(&mut printer.buf));
    }

    /// Shows a notice at the terminal.
    fn note(&self, sentence: impl Display) {
        if self.report.is_quiet() || !io::stdin().is_terminal() {
            return;
        }
        let sentence = sentence.to_string();
        let line = format!("aqueduct: {}\n", Printable(&sentence));
        if !io::stderr().is_terminal() || !self.screen.note(&line) {
            self.report.note(sentence);
        }
    }

    async fn due(&self, until: Option<Instant>) -> Due {
        loop {
            let limit = self.config.link.timeout;
            let idle = limit.and_then(|limit| self.moved.get().checked_add(limit));
            // One beyond what the clock can hold is none.
            let Some(next) = [until, idle].into_iter().flatten().min() else {
                return std::future::pending().await;
            };
            sleep_until(next).await;
            if until == Some(next) {
                return Due::Over;
            }
            let idle = limit.and_then(|limit| self.moved.get().checked_add(limit));
            if idle == Some(next) {
                return Due::Idle;
            }
        }
    }

    /// Shows what is left to be shown.
    async fn finish(
        &self,
        writing: Pin<&mut impl Future<Output = io::Error>>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        self.screen.end_editing();
        self.end_of_text();
        let grace = self.stop.is_cancelled().then_some(GRACE);
        tokio::select! {
            biased;
            () = self.screen.written() => return Ok(()),
            error = writing => return Err(Unseen(error).into()),
            () = signals.recv() => {}
            () = link::expiry(grace) => {}
        }
        anyhow::bail!("nothing reads standard output; the rest of the peer's output is lost")
    }

    /// Shows what the end of the conversation leaves incomplete.
    fn end_of_text(&self) {
        let mut printer = self.printer.borrow_mut();
        if let Some(removing) = &mut *self.removing.borrow_mut() {
            printer.text(removing.end());
        }
        printer.end_of_text();
        self.screen.show(&std::mem::take(&mut printer.buf));
        if self.on_terminal && self.config.output != Output::Raw {
            self.screen.end_line();
        }
    }

    /// Whether standard output has lost its reader: the other end of the pipe, or the terminal.
    fn is_closed(&self, error: &anyhow::Error) -> bool {
        let unseen = error.downcast_ref().map(|Unseen(error)| error);
        unseen.is_some_and(|error| match error.raw_os_error() {
            Some(libc::EIO) => self.on_terminal,
            _ => error.kind() == io::ErrorKind::BrokenPipe,
        })
    }

    fn given_up(&self) -> anyhow::Error {
        let address = &self.config.endpoint;
        anyhow::anyhow!("stopped before everything was sent to {address}; the rest is lost")
    }

    fn not_sent(&self, error: io::Error) -> anyhow::Error {
        let address = about(&self.config.endpoint);
        let sentence = match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("no process receives at {address}"),
            _ => format!("{address} closed the connection before everything was sent"),
        };
        anyhow::Error::new(error).context(sentence)
    }

    fn timed_out(&self) -> anyhow::Error {
        let limit = self.config.link.timeout.unwrap_or_default();
        let address = &self.config.endpoint;
        Failure::timed_out(format!(
            "nothing was received from or sent to {address} for {limit:?}"
        ))
    }
}

/// Standard output takes no more.
#[derive(Debug)]
struct Unseen(io::Error);

impl Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot write to standard output: {}", self.0)
    }
}

impl std::error::Error for Unseen {}
