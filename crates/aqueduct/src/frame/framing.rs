//! [`Framing`]: how a byte stream is split into frames, and its options.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use super::cut::{Cut, NAMES};
use super::{headers, netstring, stuffed};
use crate::address::AddressProblem;
use crate::address::nearest::nearest;

/// Size of the length header in bytes.
pub(super) const HEADER: usize = 4;

/// The default limit of a frame: 1 MiB.
pub(crate) const DEFAULT_MAX_FRAME: usize = 1 << 20;

/// The largest possible limit: the range of a 4-byte header, and on 32-bit targets a size that can be
/// doubled without overflow.
const LARGEST: usize = if usize::BITS > 32 {
    u32::MAX as usize
} else {
    1 << 29
};

/// How a byte stream is split into frames; a codec for [`Bytes`](bytes::Bytes).
///
/// The [module](super) helps to choose one. A frame is limited to 1 MiB by default. A `Framing`
/// also holds the decoder's position in its stream, so use a separate one for each stream.
///
/// # Examples
///
/// ```
/// use aqueduct::frame::Framing;
/// use aqueduct::bytes::{Bytes, BytesMut};
/// use tokio_util::codec::{Decoder, Encoder};
///
/// let mut wire = BytesMut::new();
/// Framing::nul().encode(Bytes::from("hi"), &mut wire)?;
/// assert_eq!(wire, "hi\0");
/// assert_eq!(Framing::nul().decode(&mut wire)?, Some(Bytes::from("hi")));
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A framing is printed and parsed by its name. Parse one for a length of another width:
///
/// ```
/// use aqueduct::frame::Framing;
/// use aqueduct::bytes::{Bytes, BytesMut};
/// use tokio_util::codec::Encoder;
///
/// let mut wire = BytesMut::new();
/// "u16be+header".parse::<Framing>()?.encode(Bytes::from("hi"), &mut wire)?;
/// assert_eq!(&wire[..], b"\0\x04hi");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    pub(super) cut: Cut,
    /// The limit that was set. If a header has less room, [`get_max_frame`](Self::get_max_frame) is
    /// less.
    pub(super) max_frame: usize,
    partial: Option<Partial>,
    too_long: Option<TooLong>,
    /// Bytes at the front of the buffer that are known to hold no delimiter.
    pub(super) searched: usize,
    /// Inside a message over the limit whose rest is dropped: how many bytes of it have arrived.
    pub(super) over: Option<usize>,
    /// How many messages over the limit were skipped or truncated.
    pub(super) over_count: u64,
}

/// What happens to the bytes after the last delimiter when a stream ends.
///
/// Set by [`Framing::partial`].
///
/// # Examples
///
/// ```
/// use aqueduct::frame::{FramedRead, Framing, Partial};
/// use futures_util::TryStreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// for (partial, expected) in [(Partial::Keep, vec!["whole", "tor"]), (Partial::Drop, vec!["whole"])] {
///     let frames = FramedRead::new(&b"whole\ntor"[..], Framing::lines().partial(partial));
///     assert_eq!(frames.try_collect::<Vec<_>>().await?, expected);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Partial {
    /// They are the last message. The default for a single input.
    Keep,
    /// They are dropped, with a warning that reports their size.
    ///
    /// The default for a receiver of a listening socket, where a killed sender leaves them, and for
    /// a persistent FIFO when it stops. (Until then the next writer's bytes follow them directly.)
    Drop,
    /// They are an error: [`FrameError::Truncated`](super::FrameError::Truncated).
    Fail,
}

/// What happens to a delimited message over the limit.
///
/// Set by [`Framing::too_long`].
///
/// # Examples
///
/// ```
/// use aqueduct::frame::{FramedRead, Framing, TooLong};
/// use futures_util::TryStreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let lines = Framing::lines().max_frame(5).too_long(TooLong::Truncate);
/// let frames = FramedRead::new(&b"one\nfar too long\ntwo\n"[..], lines);
/// assert_eq!(frames.try_collect::<Vec<_>>().await?, ["one", "far t", "two"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLong {
    /// The stream ends with an error. The default for a single input.
    ///
    /// The error is [`FrameError::TooLarge`](super::FrameError::TooLarge) or
    /// [`FrameError::Unterminated`](super::FrameError::Unterminated).
    Fail,
    /// The message is dropped with a warning.
    ///
    /// The stream goes on after its delimiter.
    ///
    /// The default for a receiver of a listening socket and of a persistent FIFO.
    Skip,
    /// Its beginning, as long as the limit, is delivered with a warning.
    ///
    /// The stream goes on after its delimiter.
    Truncate,
}

impl Framing {
    /// A 4-byte big-endian length before each body, which may hold any bytes.
    pub const fn length() -> Self {
        Self::new(Cut::Length)
    }

    /// A newline after each body.
    ///
    /// Only `\n` counts; a `\r` before it stays part of the message. An unterminated last line is a
    /// message by default. A receiver of a listening socket drops it with a `tracing` warning,
    /// because it looks like the line of a killed sender. [`partial`](Self::partial) keeps, drops
    /// or refuses it everywhere.
    ///
    /// With [`Json`](crate::codec::Json) the bytes are those that tokio-util's `LinesCodec` with
    /// `serde_json` writes, and each of its lines can be read. `LinesCodec` removes a `\r` before
    /// the newline.
    pub const fn lines() -> Self {
        Self::new(Cut::Delimiter(b'\n'))
    }

    /// A NUL byte after each body, as C programs that write whole strings send it.
    ///
    /// An unterminated last message is handled as with [`lines`](Self::lines).
    pub const fn nul() -> Self {
        Self::new(Cut::Delimiter(0))
    }

    /// A carriage return and a newline after each body, as in Internet text protocols.
    ///
    /// A newline without a carriage return also ends a message, since many programs send it, so a
    /// body with a newline cannot be sent. An unterminated last message is handled as with
    /// [`lines`](Self::lines).
    pub const fn crlf() -> Self {
        Self::new(Cut::Crlf)
    }

    /// Unframed bytes: each read returns one frame, however the sender wrote them.
    ///
    /// An empty body writes nothing and is never received. There is no limit: sent messages may
    /// have any size, and a received one is as large as a read, 64 KiB by default.
    pub const fn raw() -> Self {
        Self::new(Cut::Raw)
    }

    /// The length in decimal digits, a colon, the body and a comma: `5:hello,`.
    ///
    /// See [netstrings](https://cr.yp.to/proto/netstrings.txt).
    pub const fn netstring() -> Self {
        Self::new(Cut::Netstring)
    }

    /// A header with a `Content-Length` before each body, as in language servers.
    ///
    /// Debug adapters use it too. Other fields of a received header are ignored. It has at most 4
    /// KiB and 16 fields.
    pub const fn headers() -> Self {
        Self::new(Cut::Headers)
    }

    /// Consistent overhead byte stuffing (COBS), as over serial lines.
    ///
    /// A body without zero bytes, then a zero byte. It adds one byte for each 254. Consecutive zero
    /// bytes have no frame between them. A stream that ends inside a frame is an error unless
    /// [`partial`](Self::partial) drops the rest. A frame over the limit is never
    /// [truncated](TooLong::Truncate) but skipped.
    pub const fn cobs() -> Self {
        Self::new(Cut::Cobs)
    }

    /// Returns the names of all framings, which parse to them.
    ///
    /// They are `lines`, `crlf`, `nul`, `raw`, `length`, lengths such as `u16le` and
    /// `u16le+header`, `netstring`, `headers` and `cobs`.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    const fn new(cut: Cut) -> Self {
        Self {
            cut,
            max_frame: DEFAULT_MAX_FRAME,
            partial: None,
            too_long: None,
            searched: 0,
            over: None,
            over_count: 0,
        }
    }

    /// Sets the largest frame in bytes, without header or delimiter.
    ///
    /// The largest limit is 4 GiB - 1, on 32-bit targets 512 MiB, or the range of a narrower length
    /// header. [`raw`](Self::raw) has no limit.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = if bytes < LARGEST { bytes } else { LARGEST };
        self
    }

    /// Returns the largest frame in bytes, without header or delimiter.
    ///
    /// It is `usize::MAX` for [`raw`](Self::raw).
    pub const fn get_max_frame(&self) -> usize {
        let most = self.cut.most();
        match self.cut {
            Cut::Raw => most,
            _ if self.max_frame < most => self.max_frame,
            _ => most,
        }
    }

    /// The largest message of a mechanism that keeps boundaries and so ignores the framing.
    pub(crate) const fn max_message(&self) -> usize {
        self.max_frame
    }

    /// Whether both split a byte stream in the same way, whatever their limits.
    pub(crate) fn cuts_like(&self, other: &Self) -> bool {
        self.cut == other.cut
    }

    /// Sets what happens to an unterminated last message.
    ///
    /// Applies to [`lines`](Self::lines), [`crlf`](Self::crlf) and [`nul`](Self::nul). With a length
    /// it is always an error, and [`raw`](Self::raw) has none.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::frame::{FramedRead, Framing, Partial};
    /// use futures_util::TryStreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let wire = &b"whole\ntor"[..];
    /// let lines = Framing::lines().partial(Partial::Drop);
    /// let got: Vec<_> = FramedRead::new(wire, lines).try_collect().await?;
    /// assert_eq!(got, ["whole"]);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn partial(mut self, partial: Partial) -> Self {
        self.partial = Some(partial);
        self
    }

    /// Sets what happens to a received message over the limit.
    ///
    /// Applies to [`lines`](Self::lines), [`crlf`](Self::crlf) and [`nul`](Self::nul). With a length
    /// such a message always ends the stream, since a wrong length leaves no way to find the next one.
    /// [`raw`](Self::raw) has none.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::frame::{FramedRead, Framing, TooLong};
    /// use futures_util::TryStreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let wire = &b"one\nfar too long\ntwo\n"[..];
    /// let lines = Framing::lines().max_frame(5).too_long(TooLong::Skip);
    /// let got: Vec<_> = FramedRead::new(wire, lines).try_collect().await?;
    /// assert_eq!(got, ["one", "two"]);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub const fn too_long(mut self, too_long: TooLong) -> Self {
        self.too_long = Some(too_long);
        self
    }

    /// Uses the defaults of a receiver that outlives its senders, where nothing was set:
    /// [`Partial::Drop`] and [`TooLong::Skip`].
    #[must_use]
    pub(crate) fn collecting(mut self) -> Self {
        self.partial.get_or_insert(Partial::Drop);
        self.too_long.get_or_insert(TooLong::Skip);
        self
    }

    /// The least overhead of a received frame on the wire, in bytes: zero only without boundaries.
    pub(crate) const fn least_overhead(&self) -> usize {
        match self.cut {
            Cut::Length => HEADER,
            Cut::Field(field) => field.bytes(),
            Cut::Delimiter(_) | Cut::Crlf => 1,
            Cut::Netstring => netstring::LEAST,
            Cut::Headers => headers::LEAST,
            Cut::Cobs => 2,
            Cut::Raw => 0,
        }
    }

    /// The largest size of a body of `len` bytes on the wire.
    pub(crate) const fn on_wire(&self, len: usize) -> usize {
        let added = match self.cut {
            Cut::Length => HEADER,
            Cut::Field(field) => field.bytes(),
            Cut::Delimiter(_) => 1,
            Cut::Crlf => 2,
            Cut::Netstring => netstring::MOST,
            Cut::Headers => headers::MOST,
            Cut::Cobs => return stuffed::most(len).saturating_add(1),
            Cut::Raw => 0,
        };
        len.saturating_add(added)
    }

    pub(super) fn at_partial(&self) -> Partial {
        match (self.partial.unwrap_or(Partial::Keep), self.cut) {
            (Partial::Keep, Cut::Cobs) => Partial::Fail,
            (partial, _) => partial,
        }
    }

    /// What happens to a message over the limit, for transports that keep boundaries too.
    pub(crate) fn when_too_long(&self) -> TooLong {
        self.too_long.unwrap_or(TooLong::Fail)
    }

    pub(super) fn at_too_long(&self) -> TooLong {
        match (self.when_too_long(), self.cut) {
            (TooLong::Truncate, Cut::Cobs) => TooLong::Skip,
            (too_long, _) => too_long,
        }
    }

    /// Whether a frame may hold any bytes, and stays one frame.
    pub(crate) fn carries_any_bytes(&self) -> bool {
        !matches!(self.cut, Cut::Delimiter(_) | Cut::Crlf | Cut::Raw)
    }
}

/// Prints its name, without the options.
impl Display for Framing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.cut.name())
    }
}

/// Parses one of its [names](Framing::names); `u32be` is another name of `length`.
impl FromStr for Framing {
    type Err = AddressProblem;

    fn from_str(name: &str) -> Result<Self, AddressProblem> {
        Cut::named(name)
            .map(Self::new)
            .ok_or_else(|| AddressProblem::InvalidValue {
                option: "frame",
                value: name.to_owned(),
                expected: EXPECTED,
                nearest: nearest(name, NAMES),
            })
    }
}

const EXPECTED: &str = "lines, crlf, nul, raw, netstring, headers (Content-Length), cobs, length (4 \
                        bytes, big-endian), u8, u16be, u16le, u32be, u32le, u64be or u64le, each of \
                        these with +header where the length counts its own bytes too";
