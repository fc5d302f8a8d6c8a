//! Standard input, cut into messages.

use std::fmt::Display;
use std::io;

use anyhow::Context;
use aqueduct::bytes::{Buf, Bytes, BytesMut};
use aqueduct::frame::{FrameError, FramedRead, Framing, UserCodec};
use aqueduct::stdio::{self, Stdin};
use tokio_util::codec::Decoder;

use crate::cli::Input;
use crate::config;

/// Messages from standard input.
pub(crate) type Messages = FramedRead<Stdin, UserCodec<Cutter>>;

pub(crate) fn messages(input: Input, largest: usize) -> anyhow::Result<Messages> {
    let stdin = stdio::stdin().context("cannot open standard input")?;
    Ok(FramedRead::with_codec(stdin, Cutter::new(input, largest)))
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
    fn new(input: Input, largest: usize) -> Self {
        let framing = match input {
            Input::Lines => Framing::lines(),
            Input::Nul => Framing::nul(),
            Input::Whole => Framing::raw(),
        };
        Self {
            framing: framing.max_frame(largest),
            whole: (input == Input::Whole).then_some(Whole::Coming),
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

    fn cut(input: Input, text: &'static [u8]) -> io::Result<Vec<Bytes>> {
        let messages = FramedRead::with_codec(text, Cutter::new(input, 8)).with_chunk(3);
        messages.try_collect().now_or_never().unwrap()
    }

    #[test]
    fn the_last_delimiter_may_be_missing() {
        assert_eq!(cut(Input::Lines, b"a\n\nb").unwrap(), ["a", "", "b"]);
        assert_eq!(cut(Input::Nul, b"a\n\0\0b").unwrap(), ["a\n", "", "b"]);
        assert_eq!(cut(Input::Nul, b"a\0").unwrap(), ["a"]);
    }

    #[test]
    fn all_of_it_can_be_one_message_within_the_limit() {
        assert_eq!(cut(Input::Whole, b"a\nb\0c").unwrap(), ["a\nb\0c"]);
        assert_eq!(cut(Input::Whole, b"").unwrap(), [""]);
        assert!(cut(Input::Whole, b"123456789").is_err());
        assert!(cut(Input::Lines, b"123456789\n").is_err());
    }
}
