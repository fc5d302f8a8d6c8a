//! Standard input, cut into messages.

use std::fmt::Display;
use std::io;

use anyhow::Context;
use aqueduct::bytes::{Buf, Bytes, BytesMut};
use aqueduct::frame::{FrameError, FramedRead, Framing, UserCodec};
use aqueduct::stdio::{self, Stdin};
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};
use tokio_util::codec::Decoder;

use crate::cli::Input;
use crate::config;
use crate::report::Report;

/// Messages from standard input.
pub(crate) type Messages = FramedRead<Stdin, UserCodec<Cutter>>;

pub(crate) fn messages(cut: Cut, largest: usize) -> anyhow::Result<Messages> {
    let stdin = stdio::stdin().context("cannot open standard input")?;
    Ok(FramedRead::with_codec(stdin, Cutter::new(cut, largest)))
}

/// How standard input is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Lines,
    /// Lines that may end with a carriage return and a newline.
    Crlf,
    Nul,
    /// All of it is one message.
    Whole,
    /// Not at all: each read is a piece.
    Pieces,
}

impl From<Input> for Cut {
    fn from(input: Input) -> Self {
        match input {
            Input::Lines => Self::Lines,
            Input::Nul => Self::Nul,
            Input::Whole => Self::Whole,
        }
    }
}

/// Why `what` cannot be had from standard input, with the flag that helps.
pub(crate) fn failed(what: impl Display, error: io::Error) -> anyhow::Error {
    match FrameError::of(&error) {
        // How much larger is not known: the rest was not read.
        Some(FrameError::TooLarge { max, .. }) => {
            anyhow::anyhow!("{what} has more than {max} bytes: raise --max-frame on both sides")
        }
        Some(_) => anyhow::Error::msg(config::refused(what, &error)),
        None => anyhow::Error::new(error).context("cannot read standard input"),
    }
}

/// Messages from standard input until the command is told to stop, and then those that were read and
/// not yet taken.
pub(crate) fn until_stopped(
    messages: Messages,
    stop: impl Future<Output = ()>,
    report: &Report,
) -> impl Stream<Item = io::Result<Bytes>> {
    let state = (Some(messages), Vec::new().into_iter(), Box::pin(stop));
    stream::unfold(state, async |(messages, mut rest, mut stop)| {
        let Some(mut reading): Option<Messages> = messages else {
            let next: Option<Bytes> = rest.next();
            return next.map(|next| (Ok(next), (None, rest, stop)));
        };
        tokio::select! {
            biased;
            () = &mut stop => {
                let mut rest = in_hand(reading, report).into_iter();
                let next = rest.next()?;
                Some((Ok(next), (None, rest, stop)))
            }
            next = reading.next() => Some((next?, (Some(reading), rest, stop))),
        }
    })
}

/// The whole messages that were read and not yet taken, where the command was told to stop.
pub(crate) fn in_hand(mut messages: Messages, report: &Report) -> Vec<Bytes> {
    let mut cutter = messages.decoder_mut().0.clone();
    let (_, mut buf) = messages.into_parts();
    let whole = std::iter::from_fn(|| cutter.decode(&mut buf).ok().flatten()).collect();
    if !buf.is_empty() {
        let n = buf.len();
        report.note(format_args!(
            "stopped inside a message, its first {n} bytes were not sent"
        ));
    }
    whole
}

/// Cuts input into messages. Unlike on the wire the last delimiter may be missing: what a person
/// or `printf` left out is no sign that something was cut off.
#[derive(Clone)]
pub(crate) struct Cutter {
    framing: Framing,
    /// All of the input is one message, which is yet to be given, even if it is empty.
    whole: Option<Whole>,
    largest: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Coming,
    Given,
}

impl Cutter {
    fn new(cut: Cut, largest: usize) -> Self {
        let framing = match cut {
            Cut::Lines => Framing::lines(),
            Cut::Crlf => Framing::crlf(),
            Cut::Nul => Framing::nul(),
            Cut::Whole | Cut::Pieces => Framing::raw(),
        };
        Self {
            framing: framing.max_frame(largest),
            whole: (cut == Cut::Whole).then_some(Whole::Coming),
            largest,
        }
    }
}

impl Decoder for Cutter {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if self.whole.is_none() {
            return self.framing.decode(src);
        }
        if src.len() > self.largest {
            let (len, max) = (src.len(), self.largest);
            return Err(FrameError::TooLarge { len, max }.into());
        }
        Ok(None)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if let Some(message) = self.decode(src)? {
            return Ok(Some(message));
        }
        let coming = self.whole == Some(Whole::Coming);
        self.whole = self.whole.map(|_| Whole::Given);
        Ok((coming || !src.is_empty()).then(|| src.copy_to_bytes(src.len())))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, TryStreamExt};

    use super::*;

    fn cut(at: Cut, text: &'static [u8]) -> io::Result<Vec<Bytes>> {
        let messages = FramedRead::with_codec(text, Cutter::new(at, 8)).with_chunk(3);
        messages.try_collect().now_or_never().unwrap()
    }

    #[test]
    fn the_last_delimiter_may_be_missing() {
        assert_eq!(cut(Cut::Lines, b"a\n\nb").unwrap(), ["a", "", "b"]);
        assert_eq!(cut(Cut::Nul, b"a\n\0\0b").unwrap(), ["a\n", "", "b"]);
        assert_eq!(cut(Cut::Nul, b"a\0").unwrap(), ["a"]);
        assert_eq!(cut(Cut::Crlf, b"a\r\nb\nc").unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn all_of_it_can_be_one_message_within_the_limit() {
        assert_eq!(cut(Cut::Whole, b"a\nb\0c").unwrap(), ["a\nb\0c"]);
        assert_eq!(cut(Cut::Whole, b"").unwrap(), [""]);
        assert!(cut(Cut::Whole, b"123456789").is_err());
        assert!(cut(Cut::Lines, b"123456789\n").is_err());
    }

    #[test]
    fn pieces_are_all_the_bytes() {
        let pieces = cut(Cut::Pieces, b"a\n\n\0\xff and more than the limit\n").unwrap();
        assert_eq!(pieces.concat(), b"a\n\n\0\xff and more than the limit\n");
        assert!(cut(Cut::Pieces, b"").unwrap().is_empty());
    }
}
