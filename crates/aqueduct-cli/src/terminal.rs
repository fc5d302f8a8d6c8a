//! [`Terminal`]: the terminal on standard output as an end to send to.

use std::io::{self, IsTerminal};
use std::mem::take;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::connect::{Connection, Message, MessageSender};
use aqueduct::frame::{BoxFrameStream, FramedWrite, Framing};
use aqueduct::stdio::Stdout;
use futures_util::{Sink, SinkExt, stream};

use crate::cli::Output;
use crate::config::LinkConfig;
use crate::output::Printer;
use crate::stdout;

/// Prints messages as `recv` does, with what would steer the terminal escaped.
struct Terminal {
    printer: Printer,
    stdout: FramedWrite<Stdout>,
}

/// Where messages to standard output go if it is a terminal. `None`: it is not, or the endpoint is
/// something else.
pub(crate) fn sender(
    endpoint: &Endpoint,
    link: &LinkConfig,
) -> anyhow::Result<Option<MessageSender>> {
    if !is_shown(endpoint) {
        return Ok(None);
    }
    let nothing = Box::pin(stream::pending());
    Ok(Some(joined(endpoint, link, nothing)?.into_sender()))
}

/// Has what is sent over a connection printed, if it is to standard input and output and the latter is
/// a terminal.
pub(crate) fn shown(
    connection: Connection,
    endpoint: &Endpoint,
    link: &LinkConfig,
) -> anyhow::Result<Connection> {
    if !is_shown(endpoint) {
        return Ok(connection);
    }
    let (_, incoming) = connection.into_split();
    joined(endpoint, link, incoming.into_frames())
}

fn is_shown(endpoint: &Endpoint) -> bool {
    endpoint.capabilities().stdio && io::stdout().is_terminal()
}

fn joined(
    endpoint: &Endpoint,
    link: &LinkConfig,
    incoming: BoxFrameStream,
) -> anyhow::Result<Connection> {
    let terminal = Terminal {
        printer: Printer::new(Output::Text, endpoint, link),
        // What is printed has its line breaks.
        stdout: FramedWrite::new(stdout::open()?, Framing::raw().max_frame(usize::MAX)),
    };
    Ok(Connection::from_frames(terminal, incoming, usize::MAX))
}

impl Terminal {
    fn print(&mut self) -> io::Result<()> {
        match take(&mut self.printer.buf) {
            // The beginning of a character prints nothing yet.
            text if text.is_empty() => Ok(()),
            text => self.stdout.start_send_unpin(text.into()),
        }
    }
}

impl Sink<Bytes> for Terminal {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdout.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> io::Result<()> {
        self.printer.print(&Message::new(message));
        self.print()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdout.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stdout.poll_ready_unpin(cx))?;
        self.printer.end_of_text();
        self.print()?;
        self.stdout.poll_close_unpin(cx)
    }
}
