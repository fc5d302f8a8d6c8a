//! `aqueduct recv`: print messages as they arrive.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use aqueduct::connect::{Message, MessageReceiver, Receipt};
use aqueduct::frame::FrameError;
use aqueduct::stdio::Stdout;
use aqueduct::{Endpoint, OpenError};
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use crate::config::{RecvConfig, Side, wrong_guess};
use crate::exit::{Exit, Failure};
use crate::link;
use crate::output::Printer;
use crate::progress::Progress;
use crate::report::{Report, about};
use crate::signals::Signals;
use crate::stdout;

/// How many bytes of output are gathered while messages are available without waiting.
const BATCH: usize = 64 * 1024;
/// How many messages of a queue are gathered: once taken, they are lost if this process is killed.
const FROM_A_QUEUE: u32 = 8;

pub(crate) async fn run(config: RecvConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let (endpoint, link) = (&config.endpoint, &config.link);
    let opening = link::receiver(endpoint, link, config.side, config.lasting, report);
    // Also what is bound may wait for a server.
    let opened = link::opened(opening, endpoint, link, Side::Connect, &mut signals, report);
    let Some(mut incoming) = opened.await? else {
        return Ok(Exit::Done);
    };
    signals
        .ready(format_args!("receiving from {}", config.endpoint))
        .await;
    let child = incoming.take_child();
    if let Some(count) = config.count {
        incoming.limit(count);
    }
    let mut recv = Recv {
        printer: Printer::new(config.output, &config.endpoint, &config.link),
        stdout: stdout::open()?,
        receipts: Vec::new(),
        progress: Progress::new(report, io::stdout().is_terminal()),
        signals,
        signalled: false,
        grace: None,
        ended: false,
    };
    let result = recv.pump(&mut incoming, &config).await;
    // Nothing more is read: a sender must not take this for a reader that is still there.
    drop(incoming);
    // What came before an error is printed before it is told.
    recv.printer.end_of_text();
    let printed = recv.write().await;
    match (result, printed) {
        (_, Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        (_, Err(error)) => Err(error).context("cannot write to standard output"),
        (Ok(exit), Ok(())) => {
            // One that is cut off fails, and is not to blame.
            let child = child.filter(|_| recv.ended);
            link::ended_well(
                &config.endpoint,
                child,
                config.link.timeout,
                &mut recv.signals,
            )
            .await?;
            Ok(exit)
        }
        (result, Ok(())) => result,
    }
}

struct Recv {
    printer: Printer,
    stdout: Stdout,
    /// Those of the messages in the printer.
    receipts: Vec<Receipt>,
    progress: Progress,
    signals: Signals,
    signalled: bool,
    /// `Some` once receiving was stopped.
    grace: Option<Grace>,
    /// The stream has ended by itself.
    ended: bool,
}

/// The next step.
enum Event {
    Item(Option<io::Result<Message>>),
    Signal,
    OutputClosed,
    TimedOut,
}

impl Recv {
    /// Moves messages to standard output. What is printed and not yet written is left in the
    /// printer.
    async fn pump(
        &mut self,
        incoming: &mut MessageReceiver,
        config: &RecvConfig,
    ) -> anyhow::Result<Exit> {
        loop {
            // Also one that arrived while output was written.
            if self.signalled && self.grace.is_none() {
                incoming.stop();
                self.grace = Some(Grace::default());
            }
            match self.next(incoming, config.link.timeout).await {
                Event::Item(item) => {
                    if !self.batch(item, incoming, config)? {
                        return Ok(Exit::Done);
                    }
                }
                Event::Signal if !self.signalled => self.signalled = true,
                Event::OutputClosed | Event::Signal => return Ok(Exit::Done),
                // Clients who are silent, and did not heed that nothing more is wanted.
                Event::TimedOut if self.grace.is_some() && incoming.unfinished() == 0 => {
                    return Ok(Exit::Done);
                }
                Event::TimedOut if self.grace.is_some() => {
                    return Err(cut_short(incoming, "when the command was stopped"));
                }
                Event::TimedOut => {
                    let limit = config.link.timeout.unwrap_or_default();
                    let sentence =
                        format!("nothing arrived from {} for {limit:?}", config.endpoint);
                    return Err(Failure::timed_out(match incoming.unfinished() {
                        0 => sentence,
                        n => format!("{sentence}, with {n} bytes of a message still unfinished"),
                    }));
                }
            }
            match self.write().await {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                result => result.context("cannot write to standard output")?,
            }
        }
    }

    async fn next(&mut self, incoming: &mut MessageReceiver, limit: Option<Duration>) -> Event {
        loop {
            let began = Instant::now();
            let limit = self.grace.as_ref().map(Grace::limit).or(limit);
            let unfinished = incoming.unfinished();
            let event = tokio::select! {
                biased;
                () = self.signals.recv() => Some(Event::Signal),
                item = incoming.next() => Some(Event::Item(item)),
                () = self.stdout.closed() => Some(Event::OutputClosed),
                () = link::expiry(limit) => None,
            };
            if let Some(grace) = &mut self.grace {
                grace.spend(began.elapsed());
            }
            // A large message may take longer than that, as long as something of it comes.
            match event {
                Some(event) => return event,
                None if incoming.unfinished() == unfinished => return Event::TimedOut,
                None => {}
            }
        }
    }

    /// Prints an item and those available without waiting; returns whether there may be more.
    fn batch(
        &mut self,
        first: Option<io::Result<Message>>,
        incoming: &mut MessageReceiver,
        config: &RecvConfig,
    ) -> anyhow::Result<bool> {
        let (mut item, mut from_a_queue) = (first, 0);
        loop {
            match item {
                None => {
                    let all = config.count.is_some_and(|n| self.progress.messages() >= n);
                    self.ended = !self.signalled && !all;
                    return Ok(false);
                }
                Some(Ok(mut message)) => {
                    self.receipts.extend(message.take_receipt());
                    // Nothing else has priorities.
                    from_a_queue += u32::from(message.priority().is_some());
                    self.printer.print(&message);
                    self.progress.add(1, message.body().len());
                }
                Some(Err(error)) => return Err(broken(error, &config.endpoint)),
            }
            if self.printer.buf.len() >= BATCH || from_a_queue >= FROM_A_QUEUE {
                return Ok(true);
            }
            match incoming.next().now_or_never() {
                Some(next) => item = next,
                None => return Ok(true),
            }
        }
    }

    /// Writes the printed output, and settles its messages.
    async fn write(&mut self) -> io::Result<()> {
        stdout::write_out(
            &mut self.stdout,
            &mut self.printer.buf,
            &mut self.signals,
            &mut self.signalled,
        )
        .await?;
        self.receipts.drain(..).for_each(Receipt::settle);
        Ok(())
    }
}

/// How long a command that was stopped waits for what its peers had sent by then.
#[derive(Debug)]
pub(crate) struct Grace {
    left: Duration,
}

impl Default for Grace {
    fn default() -> Self {
        Self { left: Self::IN_ALL }
    }
}

impl Grace {
    /// Until the next message, or a further part of one.
    const EACH: Duration = Duration::from_millis(500);
    /// For peers that do not heed the stop and send on.
    const IN_ALL: Duration = Duration::from_secs(5);

    /// How long the next wait may take.
    pub(crate) fn limit(&self) -> Duration {
        self.left.min(Self::EACH)
    }

    /// Counts a wait. Time spent otherwise, as in writing, is not the peers'.
    pub(crate) fn spend(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }
}

/// The error that ended receiving from `address`, with the flag that helps.
pub(crate) fn broken(error: io::Error, address: &Endpoint) -> anyhow::Error {
    if let Some(sentence) = wrong_guess(&error) {
        return anyhow::anyhow!("{}: {sentence}", about(address));
    }
    match FrameError::of(&error) {
        Some(FrameError::TooLarge { len, max }) => anyhow::anyhow!(
            "{}: a message has {len} bytes or more, over the limit of {max}: raise \
             --max-frame, or check that both sides use the same --frame",
            about(address)
        ),
        Some(FrameError::Unterminated { max, .. }) => anyhow::anyhow!(
            "{}: a message has no end within the limit of {max} bytes: raise --max-frame, or check \
             that both sides use the same --frame",
            about(address)
        ),
        _ => match OpenError::of(&error).and_then(|it| link::read_by_another(it, address)) {
            Some(error) => error,
            None => anyhow::Error::new(error).context(about(address)),
        },
    }
}

fn cut_short(incoming: &mut MessageReceiver, when: &str) -> anyhow::Error {
    let n = incoming.unfinished();
    anyhow::anyhow!("{n} bytes of an unfinished message were dropped {when}")
}
