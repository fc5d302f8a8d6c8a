//! A service that only takes: what its programs print is printed.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use aqueduct::bytes::{Buf, BytesMut};
use aqueduct::stdio::Stdout;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

use super::facts::Facts;
use super::{Jobs, begun, idle};
use crate::config::ServeConfig;
use crate::exit::Exit;
use crate::printable::{push_hex, push_lines};
use crate::recv;
use crate::report::Report;
use crate::signals::Signals;
use crate::sole_reader::SoleReader;
use crate::stdout;

/// How long after a signal the rest of a message that was begun is waited for.
const GRACE: Duration = Duration::from_millis(500);
/// How long after that output may wait for who reads it.
const OUTPUT_GRACE: Duration = Duration::from_secs(5);
/// How many messages may be finished while their output waits for that of an earlier one.
const FINISHED: usize = 10_000;
/// How many bytes that output may have. Jobs at work may exceed it by one output each.
const FINISHED_BYTES: usize = 16 << 20;
/// How much output is gathered.
const BATCH: usize = 64 * 1024;

pub(super) async fn run(
    config: &ServeConfig,
    jobs: &Jobs,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    let mut printed = Printed::new()?;
    let mut options = config.link.options();
    // A service does not end with its first client, unless its address says so.
    options.persist(true);
    let opening = options.open_receiver(&config.endpoint);
    let (_sole, mut incoming) = SoleReader::before(&config.endpoint, opening).await?;
    begun(report, config, &config.endpoint);
    let facts = Facts::new(&config.endpoint);
    let on_terminal = io::stdout().is_terminal();
    let finished_bytes = Cell::new(0);
    let finished_bytes = &finished_bytes;
    // What they print comes in the order of the messages.
    let mut running = FuturesOrdered::new();
    let mut failure = None;
    let mut open = true;
    let mut signalled = false;
    let mut stopped: Option<Instant> = None;
    while open || !running.is_empty() || printed.is_behind() {
        let changed = jobs.changed();
        let full = jobs.is_short()
            || jobs.in_hand() >= config.jobs
            || running.len() >= FINISHED
            || finished_bytes.get() >= FINISHED_BYTES;
        let until = |grace| async move {
            match stopped {
                Some(since) => sleep_until(since + grace).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = signals.recv() => {
                anyhow::ensure!(!signalled, "stopped before all that came was done");
                signalled = true;
                stopped = stopped.or_else(|| Some(Instant::now()));
                jobs.stop();
                incoming.stop();
            }
            read = printed.go_on() => if !read? {
                // What was taken is finished, for nobody to read.
                stopped = stopped.or_else(|| Some(Instant::now()));
                jobs.stop();
                incoming.stop();
            },
            Some::<Vec<u8>>(output) = running.next(), if !running.is_empty() && printed.has_room() => {
                finished_bytes.set(finished_bytes.get() - output.capacity());
                printed.add(output);
            }
            item = incoming.next(), if open && !full => match item {
                None => open = false,
                Some(Err(error)) => {
                    failure = Some(recv::broken(error, &config.endpoint));
                    open = false;
                }
                Some(Ok(message)) => {
                    let (job, runs) = (jobs.take(message, &facts), jobs.runs());
                    running.push_back(async move {
                        let output = match runs {
                            true => job.output().await.0,
                            false => echoed(&job.answer().await.unwrap_or_default(), on_terminal),
                        };
                        finished_bytes.set(finished_bytes.get() + output.capacity());
                        output
                    });
                }
            },
            // One that is done makes room, also behind one that is not.
            () = changed, if full => {}
            () = until(GRACE), if open => {
                let n = incoming.unfinished();
                failure = (n > 0).then(|| anyhow::anyhow!(
                    "{n} bytes of an unfinished message were dropped when it was told to stop"
                ));
                open = false;
            }
            () = until(OUTPUT_GRACE), if running.is_empty() && printed.is_behind() => {
                anyhow::bail!("standard output is not read, and what was printed is lost with it");
            }
            () = jobs.idle(config.link.timeout), if open && stopped.is_none() => {
                return Err(idle(config));
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Exit::Done),
    }
}

/// A message as the output of a service without a CMD.
fn echoed(message: &[u8], on_terminal: bool) -> Vec<u8> {
    let mut line = Vec::with_capacity(message.len() + 1);
    if on_terminal {
        let cut = push_lines(message, &mut line);
        push_hex(&message[message.len() - cut..], &mut line);
    } else {
        line.extend_from_slice(message);
    }
    line.push(b'\n');
    line
}

/// Output on its way to standard output. Nobody there to read it is no failure.
struct Printed {
    stdout: Stdout,
    buf: BytesMut,
    unflushed: bool,
    closed: bool,
}

impl Printed {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            stdout: stdout::open()?,
            buf: BytesMut::new(),
            unflushed: false,
            closed: false,
        })
    }

    fn add(&mut self, output: Vec<u8>) {
        if !self.closed {
            self.buf.extend_from_slice(&output);
        }
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
