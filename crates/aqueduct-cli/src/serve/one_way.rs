//! A service that only takes: what its programs print is printed.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use anyhow::Context;
use aqueduct::bytes::{Buf, Bytes, BytesMut};
use aqueduct::connect::Message;
use aqueduct::endpoint::Sharing;
use aqueduct::stdio::Stdout;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::facts::Facts;
use super::{Jobs, begun, idle};
use crate::cli::Output;
use crate::config::{ServeConfig, Side};
use crate::exit::Exit;
use crate::link;
use crate::output::Printer;
use crate::recv::{self, Grace};
use crate::report::Report;
use crate::signals::Signals;
use crate::stdout;

/// How long after a signal, or the last output, output may wait for a reader.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);
/// How many messages may be finished while their output waits for that of an earlier one.
const FINISHED: usize = 10_000;
/// How many bytes that output may have. Jobs at work may exceed it by one output each.
const FINISHED_BYTES: usize = 16 << 20;
/// How many pieces a job without a largest message may have printed ahead of that.
const AHEAD: usize = 4;
/// How much output is gathered.
const BATCH: usize = 64 * 1024;

pub(super) async fn run(
    config: &ServeConfig,
    jobs: &Jobs,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    // What programs print is theirs; an echo must not steer the terminal.
    let (runs, pours) = (jobs.runs(), jobs.pours());
    let echo = (!runs).then(|| Printer::new(Output::Text, &config.endpoint, &config.link));
    let mut printed = Printed::new(echo)?;
    let mut options = config.link.options();
    // A service does not end with its first client, unless its address says so.
    options.persist(true);
    // The workers of others have messages in hand for as long as they like.
    options.sole_reader(config.endpoint.capabilities().readers != Sharing::Many);
    let (endpoint, link) = (&config.endpoint, &config.link);
    let opening = async {
        let opened = options.open_receiver(endpoint).await;
        opened.map_err(|error| link::unopened(error, endpoint))
    };
    let opened = link::opened(opening, endpoint, link, Side::Connect, signals, report);
    let Some(mut incoming) = opened.await? else {
        return Ok(Exit::Done);
    };
    begun(report, config, &config.endpoint);
    signals
        .ready(format_args!("serving {}", config.endpoint))
        .await;
    let facts = Facts::new(&config.endpoint);
    let finished_bytes = Cell::new(0);
    let finished_bytes = &finished_bytes;
    let mut running = FuturesUnordered::new();
    // What they print, in the order of the messages.
    let mut outputs: VecDeque<mpsc::Receiver<Bytes>> = VecDeque::new();
    let mut failure = None;
    let mut open = true;
    let mut signalled = false;
    let mut grace: Option<Grace> = None;
    while open || !running.is_empty() || !outputs.is_empty() || printed.is_behind() {
        let changed = jobs.load().changed();
        let full = jobs.load().is_short()
            || jobs.load().in_hand() >= config.jobs
            || outputs.len() >= FINISHED
            || finished_bytes.get() >= FINISHED_BYTES;
        let waits = open && !full;
        let began = Instant::now();
        tokio::select! {
            biased;
            () = signals.recv() => {
                anyhow::ensure!(!signalled, "stopped before all received messages were processed");
                signalled = true;
                grace.get_or_insert_default();
                jobs.stop();
                incoming.stop();
            }
            read = printed.go_on() => if !read? {
                // What was taken is finished, for nobody to read.
                grace.get_or_insert_default();
                jobs.stop();
                incoming.stop();
            },
            Some(()) = running.next(), if !running.is_empty() => {}
            piece = next(&mut outputs), if !outputs.is_empty() && printed.has_room() => match piece {
                Some(piece) => {
                    if !pours {
                        finished_bytes.set(finished_bytes.get() - piece.len());
                    }
                    printed.add(piece);
                }
                None => drop(outputs.pop_front()),
            },
            item = incoming.next(), if waits => match item {
                None => open = false,
                Some(Err(error)) => {
                    failure = Some(recv::broken(error, &config.endpoint));
                    open = false;
                }
                Some(Ok(message)) => {
                    let job = jobs.take(message, &facts);
                    let (pieces, output) = mpsc::channel(AHEAD);
                    outputs.push_back(output);
                    running.push(async move {
                        if pours {
                            job.pour(pieces).await;
                            return;
                        }
                        let output = match runs {
                            true => job.output().await.into(),
                            false => job.answer().await.unwrap_or_default(),
                        };
                        finished_bytes.set(finished_bytes.get() + output.len());
                        // Nobody there to read it is no failure.
                        let _ = pieces.send(output).await;
                    });
                }
            },
            // One that is done makes room, also behind one that is not.
            () = changed, if full => {}
            () = link::expiry(grace.as_ref().map(Grace::limit)), if waits => {
                let n = incoming.unfinished();
                failure = (n > 0).then(|| anyhow::anyhow!(
                    "{n} bytes of an unfinished message were dropped when the command was stopped"
                ));
                open = false;
            }
            () = sleep(OUTPUT_GRACE), if grace.is_some() && running.is_empty() && printed.is_behind() => {
                anyhow::bail!("nothing reads standard output; the rest of the output is lost");
            }
            () = jobs.load().idle(config.link.timeout), if open && grace.is_none() => {
                return Err(idle(config));
            }
        }
        if waits && let Some(grace) = &mut grace {
            grace.spend(began.elapsed());
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Exit::Done),
    }
}

/// The next piece of the first output; `None` is its end.
async fn next(outputs: &mut VecDeque<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match outputs.front_mut() {
        Some(first) => first.recv().await,
        None => None,
    }
}

/// Output on its way to standard output. Nobody there to read it is no failure.
struct Printed {
    stdout: Stdout,
    /// What prints an echo.
    echo: Option<Printer>,
    buf: BytesMut,
    unflushed: bool,
    closed: bool,
}

impl Printed {
    fn new(echo: Option<Printer>) -> anyhow::Result<Self> {
        Ok(Self {
            stdout: stdout::open()?,
            echo,
            buf: BytesMut::new(),
            unflushed: false,
            closed: false,
        })
    }

    fn add(&mut self, output: Bytes) {
        if self.closed {
            return;
        }
        let Some(echo) = &mut self.echo else {
            return self.buf.extend_from_slice(&output);
        };
        echo.print(&Message::new(output));
        self.buf.extend_from_slice(&echo.buf);
        echo.buf.clear();
    }

    fn has_room(&self) -> bool {
        self.buf.len() < BATCH
    }

    fn is_behind(&self) -> bool {
        self.unflushed || !self.buf.is_empty()
    }

    /// Writes all of it, or waits until nobody reads any more; whether somebody does. Cancel safe.
    async fn go_on(&mut self) -> anyhow::Result<bool> {
        if self.closed {
            return std::future::pending().await;
        }
        if self.is_behind() {
            match self.write().await {
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                result => {
                    result.context("cannot write to standard output")?;
                    return Ok(true);
                }
            }
        } else {
            self.stdout.closed().await;
        }
        self.buf.clear();
        (self.unflushed, self.closed) = (false, true);
        Ok(false)
    }

    async fn write(&mut self) -> io::Result<()> {
        while !self.buf.is_empty() {
            let n = self.stdout.write(&self.buf).await?;
            self.buf.advance(n);
            self.unflushed = true;
        }
        self.stdout.flush().await?;
        self.unflushed = false;
        Ok(())
    }
}
