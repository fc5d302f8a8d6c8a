//! [`Reply`]: what is printed, and where it ends.

use std::io;

use anyhow::Context;
use aqueduct::bytes::{Bytes, BytesMut};
use aqueduct::connect::Message;
use aqueduct::frame::Framing;
use aqueduct::stdio::Stdout;
use tokio_util::codec::Encoder;

use crate::cli::Frame;
use crate::config::{CallConfig, Ending};
use crate::output::Printer;
use crate::signals::Signals;
use crate::stdout;

/// How many bytes of TEXT an error shows.
const SHOWN: usize = 60;

/// A reply, printed as it comes.
pub(super) struct Reply<'a> {
    config: &'a CallConfig,
    printer: Printer,
    pub(super) stdout: Stdout,
    /// How many of its messages have come.
    messages: usize,
}

impl<'a> Reply<'a> {
    pub(super) fn new(config: &'a CallConfig) -> anyhow::Result<Self> {
        Ok(Self {
            printer: Printer::new(config.output, &config.endpoint, &config.link),
            stdout: stdout::open()?,
            config,
            messages: 0,
        })
    }

    /// The next one begins.
    pub(super) fn begin(&mut self) {
        self.messages = 0;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.messages > 0
    }

    /// Prints a message, or a piece of a stream without framing; whether it is the last.
    pub(super) fn add(&mut self, message: &Message) -> bool {
        self.messages += 1;
        self.printer.print(message);
        match &self.config.ending {
            Ending::Message => true,
            Ending::Messages(n) => self.messages >= *n,
            Ending::Text(text) => self.is(message.body(), text),
            Ending::Pause(_) | Ending::Stream => false,
        }
    }

    /// A line may end with the carriage return of a peer that sends one with each newline.
    fn is(&self, line: &Bytes, text: &Bytes) -> bool {
        let rest = line.strip_prefix(&text[..]);
        let lines = self.config.link.frame.is_some_and(Frame::is_lines);
        rest.is_some_and(|rest| rest.is_empty() || lines && rest == b"\r")
    }

    /// Why it is not whole, where the stream has ended; `None` where it is.
    pub(super) fn missing(&self) -> Option<String> {
        let address = &self.config.endpoint;
        match &self.config.ending {
            Ending::Messages(n) => {
                let came = self.messages;
                Some(format!("{address} closed after {came} of {n} messages"))
            }
            Ending::Text(text) => {
                let shown = &text[..text.len().min(SHOWN)];
                let text = String::from_utf8_lossy(shown);
                Some(format!("{address} closed before it sent {text:?}"))
            }
            Ending::Message | Ending::Pause(_) | Ending::Stream => None,
        }
    }

    /// How many bytes wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.printer.buf.len()
    }

    /// Adds what belongs to the end.
    pub(super) fn end(&mut self) {
        self.printer.end_of_text();
    }

    pub(super) async fn write(
        &mut self,
        signals: &mut Signals,
        signalled: &mut bool,
    ) -> anyhow::Result<()> {
        let (output, buf) = (&mut self.stdout, &mut self.printer.buf);
        match stdout::write_out(output, buf, signals, signalled).await {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
            result => result.context("cannot write to standard output"),
        }
    }
}

/// How many bytes a message had on its way.
pub(super) fn size(message: Message, framing: &Framing) -> usize {
    let len = message.body().len();
    let mut framed = BytesMut::new();
    match framing.clone().encode(message.into_body(), &mut framed) {
        Ok(()) => framed.len(),
        Err(_) => len,
    }
}

/// Nobody wants the reply any more.
#[derive(Debug)]
pub(super) struct OutputClosed;

impl std::fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for OutputClosed {}
