//! `aqueduct call`: send a message and print the reply.

mod failed;
mod reply;
mod request;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use aqueduct::child::Child;
use aqueduct::connect::{Connection, Message, MessageReceiver};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::config::{self, CallConfig, Ending};
use crate::exit::{Exit, Failure};
use crate::forward::{End, Stopped};
use crate::link;
use crate::report::{Report, about};
use crate::signals::Signals;

use self::reply::{OutputClosed, Reply};
use self::request::{Failed, Outgoing, Requests};

/// How long to wait for the reply after a signal.
const GRACE: Duration = Duration::from_secs(5);
/// How long a program that ended its output without a reply has to say how it ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long to look for unexpected bytes after the last reply.
const LOOK: Duration = Duration::from_millis(50);
/// How many bytes of a reply are gathered, as long as more is there.
const BATCH: usize = 64 * 1024;

pub(crate) async fn run(config: CallConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let Some((mut requests, mut connection)) = begin(&config, &mut signals, report).await? else {
        report.note(format_args!(
            "stopped, nothing was sent to {}",
            config.endpoint
        ));
        return Ok(Exit::Done);
    };
    let child = connection.take_child();
    let (sender, incoming) = connection.into_split();
    let sent_at = Rc::new(Cell::new(Instant::now()));
    // A program at the other end of a pipe often answers only then. Of those behind sockets some take
    // it for a farewell.
    let end = match config.ending == Ending::Stream || child.is_some() {
        true if !config.keep_open => End::Passed,
        _ => End::Kept,
    };
    let mut outgoing = Outgoing {
        sender,
        end,
        sent_at: Rc::clone(&sent_at),
    };
    let mut call = Call {
        config: &config,
        incoming,
        child,
        reply: Reply::new(&config)?,
        signals,
        stopped: None,
        sent_at,
        ended: false,
        unasked: 0,
    };
    let mut result = call.all(&mut requests, &mut outgoing).await;
    // What came before an error is printed before it is told.
    call.reply.end();
    if let Err(error) = call.print().await
        && (result.is_ok() || error.is::<OutputClosed>())
    {
        result = Err(error);
    }
    match result {
        Ok(()) => call.look().await,
        Err(error) if error.is::<OutputClosed>() => return Ok(Exit::Done),
        Err(error) => return Err(error),
    }
    let Call {
        incoming,
        child,
        unasked,
        mut signals,
        ..
    } = call;
    drop((outgoing, incoming));
    if unasked > 0 {
        report.failure(format_args!(
            "{}: {unasked} unexpected bytes after the reply: see --replies, --until, --idle, --all and \
             --greeting",
            about(&config.endpoint)
        ));
    }
    // One that is cut off fails, and is not to blame.
    let child = child.filter(|_| unasked == 0);
    link::ended_well(&config.endpoint, child, config.link.timeout, &mut signals).await?;
    Ok(if unasked == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// The requests and their peer. `None`: a signal has come.
async fn begin<'a>(
    config: &'a CallConfig,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Option<(Requests<'a>, Connection)>> {
    let requests = tokio::select! {
        biased;
        requests = Requests::open(config) => requests?,
        () = signals.recv() => return Ok(None),
    };
    let (endpoint, link, side) = (&config.endpoint, &config.link, config.side);
    let opening = link::open(endpoint, link, side, report);
    let opened = link::opened(opening, endpoint, link, side, signals, report);
    Ok(opened.await?.map(|connection| (requests, connection)))
}

/// A call that is under way.
struct Call<'a> {
    config: &'a CallConfig,
    incoming: MessageReceiver,
    child: Option<Child>,
    reply: Reply<'a>,
    signals: Signals,
    /// After a signal: until when to wait for the reply.
    stopped: Option<Instant>,
    sent_at: Rc<Cell<Instant>>,
    /// The stream has ended.
    ended: bool,
    /// How many bytes have arrived that are not part of a reply.
    unasked: usize,
}

/// The state of a request.
enum Sent<T> {
    Sending,
    Done(Result<T, Failed>),
}

/// The part of a reply that has arrived.
enum Came {
    /// There is more of it.
    More,
    /// All of it.
    All,
    /// The end of the stream.
    End,
}

impl Call<'_> {
    /// Sends all requests and prints their replies.
    async fn all(
        &mut self,
        requests: &mut Requests<'_>,
        outgoing: &mut Outgoing,
    ) -> anyhow::Result<()> {
        if self.config.greeting {
            self.greeting().await?;
        }
        if self.config.ending != Ending::Message {
            let sending = requests.send_all(outgoing);
            tokio::pin!(sending);
            return match self.reply(sending.as_mut()).await? {
                Sent::Done(sent) => self.taken(sent),
                // It was answered before it was sent.
                Sent::Sending => self.rest(sending).await.map(drop),
            };
        }
        let first = requests.next().await;
        let mut next = self.taken(first)?;
        while let Some(request) = next {
            let sending = requests.send(request, outgoing);
            tokio::pin!(sending);
            next = match self.reply(sending.as_mut()).await? {
                Sent::Done(sent) => self.taken(sent)?,
                Sent::Sending => self.rest(sending).await?.flatten(),
            };
            if self.stopped.is_some() {
                break;
            }
            // What is there before the next request is sent is no reply to it.
            while !self.ended
                && let Some(item) = self.incoming.next().now_or_never()
            {
                self.count(item);
            }
        }
        Ok(())
    }

    /// Waits for the peer's greeting, and discards it.
    async fn greeting(&mut self) -> anyhow::Result<()> {
        let address = &self.config.endpoint;
        tokio::select! {
            biased;
            item = self.incoming.next() => match item {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(self.broken(error)),
                None => anyhow::bail!("{address} closed before its greeting"),
            },
            () = self.reply.stdout.closed() => Err(OutputClosed.into()),
            () = self.signals.recv() => anyhow::bail!("stopped before the greeting of {address}"),
            () = link::expiry(self.config.link.timeout) => {
                let limit = self.config.link.timeout.unwrap_or_default();
                Err(Failure::timed_out(format!("no greeting arrived from {address} for {limit:?}")))
            }
        }
    }

    /// Prints one reply while its request is sent: the peer may answer before it has it all.
    async fn reply<T>(
        &mut self,
        mut sending: Pin<&mut impl Future<Output = Result<T, Failed>>>,
    ) -> anyhow::Result<Sent<T>> {
        self.reply.begin();
        let mut sent = Sent::Sending;
        let mut moved = Instant::now();
        let mut unfinished = self.incoming.unfinished();
        loop {
            let (deadline, pause) = self.deadline(moved);
            tokio::select! {
                biased;
                result = sending.as_mut(), if matches!(sent, Sent::Sending) => {
                    moved = Instant::now();
                    match result {
                        // What is not whole may never be answered.
                        Err(Stopped::From(error)) if self.config.ending != Ending::Message => {
                            return Err(error);
                        }
                        // No end of the stream would follow.
                        Err(Stopped::To(_)) if !config::has_end(&self.config.endpoint) => {
                            return Ok(Sent::Done(result));
                        }
                        result => sent = Sent::Done(result),
                    }
                }
                item = self.incoming.next() => {
                    moved = Instant::now();
                    match self.batch(item).await? {
                        Came::More => {}
                        Came::All => return Ok(sent),
                        Came::End => {
                            self.ended(&sent).await?;
                            return Ok(sent);
                        }
                    }
                }
                () = self.reply.stdout.closed() => return Err(OutputClosed.into()),
                () = self.signals.recv() => {
                    if self.stopped.is_some() {
                        return Err(self.given_up());
                    }
                    self.stopped = Some(Instant::now() + GRACE);
                }
                () = reached(deadline) => {
                    // A large message may take longer, as long as something of it moves.
                    let now_unfinished = self.incoming.unfinished();
                    if self.stopped.is_some() {
                        return Err(self.given_up());
                    }
                    if std::mem::replace(&mut unfinished, now_unfinished) != now_unfinished {
                        moved = Instant::now();
                    } else if self.sent_at.get() > moved {
                        moved = self.sent_at.get();
                    } else if pause {
                        return Ok(sent);
                    } else {
                        return Err(self.timed_out());
                    }
                }
            }
        }
    }

    /// The deadline of the wait, and whether it ends the reply.
    fn deadline(&self, moved: Instant) -> (Option<Instant>, bool) {
        if self.stopped.is_some() {
            return (self.stopped, false);
        }
        // One beyond what the clock can hold is none.
        match &self.config.ending {
            Ending::Pause(pause) if self.reply.has_begun() => (moved.checked_add(*pause), true),
            _ => {
                let limit = self.config.link.timeout;
                (limit.and_then(|limit| moved.checked_add(limit)), false)
            }
        }
    }

    /// Prints a message and those available without waiting.
    async fn batch(&mut self, first: Option<io::Result<Message>>) -> anyhow::Result<Came> {
        let mut item = first;
        let came = loop {
            match item {
                Some(Ok(message)) => {
                    if self.reply.add(&message) {
                        break Came::All;
                    }
                }
                Some(Err(error)) => return Err(self.broken(error)),
                None => {
                    self.ended = true;
                    break Came::End;
                }
            }
            if self.reply.waiting() >= BATCH {
                break Came::More;
            }
            match self.incoming.next().now_or_never() {
                Some(next) => item = next,
                None => break Came::More,
            }
        };
        self.print().await?;
        Ok(came)
    }

    /// Writes what was gathered.
    async fn print(&mut self) -> anyhow::Result<()> {
        let mut signalled = self.stopped.is_some();
        let written = self.reply.write(&mut self.signals, &mut signalled).await;
        if signalled && self.stopped.is_none() {
            self.stopped = Some(Instant::now() + GRACE);
        }
        written
    }

    /// Waits for the rest of a request that was answered already, or for the next one. `None`: told to
    /// stop.
    async fn rest<T>(
        &mut self,
        mut sending: Pin<&mut impl Future<Output = Result<T, Failed>>>,
    ) -> anyhow::Result<Option<T>> {
        let mut moved = Instant::now();
        while self.stopped.is_none() {
            let limit = self.config.link.timeout;
            let deadline = limit.and_then(|limit| moved.checked_add(limit));
            tokio::select! {
                biased;
                sent = sending.as_mut() => return self.taken(sent).map(Some),
                item = self.incoming.next(), if !self.ended => self.count(item),
                () = self.reply.stdout.closed() => return Err(OutputClosed.into()),
                () = self.signals.recv() => break,
                () = reached(deadline) => {
                    let sent_at = self.sent_at.get();
                    if sent_at <= moved {
                        let limit = limit.unwrap_or_default();
                        let address = &self.config.endpoint;
                        return Err(Failure::timed_out(format!("nothing was sent to {address} for {limit:?}")));
                    }
                    moved = sent_at;
                }
            }
        }
        Ok(None)
    }

    /// Looks for unexpected bytes.
    async fn look(&mut self) {
        let until = Instant::now() + LOOK;
        // The timer alone does not end it where a peer sends without end.
        while !self.ended && Instant::now() < until {
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                () = self.signals.recv() => break,
                item = self.incoming.next() => self.count(item),
            }
        }
        self.unasked += self.incoming.unfinished();
    }

    /// Counts bytes that are not part of a reply.
    fn count(&mut self, item: Option<io::Result<Message>>) {
        match item {
            Some(Ok(message)) => {
                self.unasked += reply::size(message, &self.config.link.framing);
            }
            Some(Err(_)) | None => self.ended = true,
        }
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
