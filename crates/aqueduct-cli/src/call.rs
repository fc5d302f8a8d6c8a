//! `aqueduct call`: send one message and print the reply.

use std::io;
use std::time::Duration;

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::child::Child;
use aqueduct::connect::{Connection, Message, MessageReceiver};
use aqueduct::frame::FrameError;
use aqueduct::stdio::Stdout;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cli::{Frame, Output};
use crate::config::CallConfig;
use crate::exit::{Exit, Failure};
use crate::input;
use crate::link;
use crate::output::Printer;
use crate::recv;
use crate::report::Report;
use crate::signals::Signals;
use crate::stdout;

/// Who has to be waited for longer than this is told of.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long after a signal the reply is still waited for.
const GRACE: Duration = Duration::from_secs(5);
/// How long a program that ended its output without a reply has to say how it ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

pub(crate) async fn run(config: CallConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let opened = tokio::select! {
        biased;
        opened = begin(&config, report) => opened?,
        () = signals.recv() => {
            report.note(format_args!("stopped, nothing was sent to {}", config.endpoint));
            return Ok(Exit::Done);
        }
    };
    let (message, mut connection) = opened;
    let mut child = connection.take_child();
    let mut call = Call {
        reply: Reply::new(&config)?,
        config: &config,
        signals,
    };
    let result = match call.exchange(connection, message, &mut child).await {
        Ok(()) => call.reply.finish().await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => {}
        Err(error) if error.is::<OutputClosed>() => return Ok(Exit::Done),
        Err(error) => return Err(error),
    }
    link::ended_well(&config.endpoint, child, &mut call.signals).await?;
    Ok(Exit::Done)
}

/// The message and who it is for.
async fn begin(config: &CallConfig, report: &Report) -> anyhow::Result<(Bytes, Connection)> {
    let message = match &config.message {
        Some(message) => message.clone(),
        None => from_input(config).await?,
    };
    let opening = link::open(&config.endpoint, &config.link, config.side, report);
    tokio::pin!(opening);
    let connection = tokio::select! {
        biased;
        opened = &mut opening => opened?,
        () = sleep(PATIENCE) => {
            let who = link::awaited(&config.endpoint, config.side);
            report.note(format_args!("waiting for {who} {}", config.endpoint));
            opening.await?
        }
    };
    Ok((message, connection))
}

/// The one message on standard input; nothing there is an empty message.
async fn from_input(config: &CallConfig) -> anyhow::Result<Bytes> {
    let failed = |error| input::failed("the message", error);
    let largest = config.link.framing.get_max_frame();
    let mut messages = input::messages(config.input, largest)?;
    let message = messages.next().await.transpose().map_err(failed)?;
    if messages.next().await.is_some() {
        return Err(Failure::wrong_use(
            "standard input has more than one message, and a call takes one: with --input whole \
             and --frame length all of it is one",
        ));
    }
    let message = message.unwrap_or_default();
    config.link.check(&message).map_err(failed)?;
    Ok(message)
}

struct Call<'a> {
    config: &'a CallConfig,
    reply: Reply,
    signals: Signals,
}

impl Call<'_> {
    /// Sends and receives at the same time: the peer may answer before it has it all.
    async fn exchange(
        &mut self,
        connection: Connection,
        message: Bytes,
        child: &mut Option<Child>,
    ) -> anyhow::Result<()> {
        let address = &self.config.endpoint;
        let raw = self.config.link.frame == Some(Frame::Raw);
        // A program at the other end of a pipe often answers only then. Of those behind sockets
        // some take it for a farewell.
        let ends = raw || child.is_some();
        let (mut outgoing, mut incoming) = connection.into_split();
        let sending = async move {
            outgoing.send(Message::new(message)).await?;
            if ends {
                outgoing.close().await?;
                return Ok(None);
            }
            Ok::<_, io::Error>(Some(outgoing))
        };
        tokio::pin!(sending);
        let mut sent = None;
        let mut stopped: Option<Instant> = None;
        loop {
            let timeout = self.config.link.timeout;
            let deadline =
                stopped.or_else(|| timeout.and_then(|limit| Instant::now().checked_add(limit)));
            let expired = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = &mut sending, if sent.is_none() => sent = Some(result),
                item = incoming.next() => match item {
                    Some(Ok(reply)) => {
                        self.reply.add(reply).await?;
                        if !raw {
                            break;
                        }
                    }
                    Some(Err(error)) => return Err(recv::broken(error, address)),
                    None => break,
                },
                () = self.reply.stdout.closed() => return Err(OutputClosed.into()),
                () = self.signals.recv() => {
                    if stopped.is_some() {
                        anyhow::bail!("stopped before {address} replied");
                    }
                    stopped = Some(Instant::now() + GRACE);
                }
                () = expired => {
                    if stopped.is_some() {
                        anyhow::bail!("stopped before {address} replied");
                    }
                    return Err(self.timed_out(&mut incoming));
                }
            }
        }
        // How a program ended tells more than that it did not take what it was sent.
        if !self.reply.came
            && let Some(child) = child
            && let Ok(status) = tokio::time::timeout(LAST_WORDS, child.wait()).await
        {
            let status = status?;
            anyhow::bail!("{address} ended without a reply, with {status}");
        }
        if let Some(Err(error)) = sent {
            self.reply.finish().await?;
            let sentence = format!("{address} has closed before it took the whole message");
            return Err(anyhow::Error::new(error).context(sentence));
        }
        anyhow::ensure!(self.reply.came, "{address} closed without a reply");
        Ok(())
    }

    fn timed_out(&self, incoming: &mut MessageReceiver) -> anyhow::Error {
        let limit = self.config.link.timeout.unwrap_or_default();
        let address = &self.config.endpoint;
        let n = incoming.unfinished();
        Failure::timed_out(match (n, self.reply.came) {
            (0, false) => format!("no reply came from {address} for {limit:?}"),
            (0, true) => format!("{address} did not end its reply for {limit:?}"),
            _ => format!("the reply of {address} is unfinished after {n} bytes for {limit:?}"),
        })
    }
}

/// The reply, printed.
struct Reply {
    printer: Printer,
    output: Output,
    stdout: Stdout,
    /// Without framing all that comes is one reply.
    raw: bool,
    largest: usize,
    address: Endpoint,
    gathered: Vec<u8>,
    came: bool,
}

impl Reply {
    fn new(config: &CallConfig) -> anyhow::Result<Self> {
        Ok(Self {
            printer: Printer::new(config.output, &config.endpoint, &config.link),
            output: config.output,
            stdout: stdout::open()?,
            raw: config.link.frame == Some(Frame::Raw),
            largest: config.link.framing.get_max_frame(),
            address: config.endpoint.clone(),
            gathered: Vec::new(),
            came: false,
        })
    }

    /// Takes a message, or a piece of one where there is no framing. Pieces go out as they come,
    /// where what is printed does not depend on what follows.
    async fn add(&mut self, message: Message) -> anyhow::Result<()> {
        self.came = true;
        if !self.raw {
            self.printer.print(&message);
            return self.write().await;
        }
        match self.output {
            Output::Text | Output::Raw => {
                self.printer.print(&message);
                self.write().await
            }
            Output::Json | Output::Hex => {
                self.gathered.extend_from_slice(message.body());
                let (len, max) = (self.gathered.len(), self.largest);
                if len > max {
                    let error = FrameError::TooLarge { len, max };
                    return Err(recv::broken(error.into(), &self.address));
                }
                Ok(())
            }
        }
    }

    /// Prints what belongs to the end of a reply.
    async fn finish(&mut self) -> anyhow::Result<()> {
        if self.raw && self.came {
            match self.output {
                Output::Raw => {}
                Output::Text => {
                    self.printer.end_of_text();
                    self.printer.buf.push(b'\n');
                }
                Output::Json | Output::Hex => {
                    let body = std::mem::take(&mut self.gathered);
                    self.printer.print(&Message::new(body));
                }
            }
        }
        self.write().await
    }

    async fn write(&mut self) -> anyhow::Result<()> {
        let buf = std::mem::take(&mut self.printer.buf);
        let mut written = self.stdout.write_all(&buf).await;
        if written.is_ok() {
            written = self.stdout.flush().await;
        }
        match written {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
            result => result.context("cannot write to standard output"),
        }
    }
}

/// Nobody wants the reply any more.
#[derive(Debug)]
struct OutputClosed;

impl std::fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for OutputClosed {}
