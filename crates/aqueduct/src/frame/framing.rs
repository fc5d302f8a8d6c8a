//! [`Framing`]: how a byte stream is split into frames, and its options.

/// Size of the length header in bytes.
pub(super) const HEADER: usize = 4;

/// The default limit of a frame: 1 MiB.
pub(crate) const DEFAULT_MAX_FRAME: usize = 1 << 20;

/// The largest possible limit: the range of a header, and on 32-bit targets a size that can be
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    pub(super) cut: Cut,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Length,
    Delimiter(u8),
    Raw,
}

/// What happens to the bytes after the last delimiter when a stream ends.
///
/// Set by [`Framing::partial`], which has an example.
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
/// Set by [`Framing::too_long`], which has an example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TooLong {
    /// The stream ends with an error. The default for a single input.
    ///
    /// The error is [`FrameError::TooLarge`](super::FrameError::TooLarge) or
    /// [`FrameError::Unterminated`](super::FrameError::Unterminated).
    Fail,
    /// The message is dropped, with a warning, and the stream goes on after its delimiter.
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

    /// Unframed bytes: each read returns one frame, however the sender wrote them.
    ///
    /// An empty body writes nothing and is never received.
    pub const fn raw() -> Self {
        Self::new(Cut::Raw)
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
    /// A length header holds at most 4 GiB - 1, which is the largest limit; on 32-bit targets it is
    /// 512 MiB. With [`raw`](Self::raw) a limit of 0 receives byte by byte, as 1 does.
    #[must_use]
    pub const fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = if bytes < LARGEST { bytes } else { LARGEST };
        self
    }

    /// Returns the largest frame in bytes, without header or delimiter.
    pub const fn get_max_frame(&self) -> usize {
        self.max_frame
    }

    /// Sets what happens to an unterminated last message.
    ///
    /// Applies to [`lines`](Self::lines) and [`nul`](Self::nul). With [`length`](Self::length) it
    /// is always an error, and [`raw`](Self::raw) has none.
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
    /// Applies to [`lines`](Self::lines) and [`nul`](Self::nul). With [`length`](Self::length) such
    /// a message always ends the stream, since a wrong length leaves no way to find the next one.
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

    /// How many bytes this framing adds to a body on the wire.
    pub(crate) const fn overhead(&self) -> usize {
        match self.cut {
            Cut::Length => HEADER,
            Cut::Delimiter(_) => 1,
            Cut::Raw => 0,
        }
    }

    pub(super) fn at_partial(&self) -> Partial {
        self.partial.unwrap_or(Partial::Keep)
    }

    pub(super) fn at_too_long(&self) -> TooLong {
        self.too_long.unwrap_or(TooLong::Fail)
    }

    /// Whether a frame may hold any bytes, and stays one frame.
    pub(crate) fn carries_any_bytes(&self) -> bool {
        matches!(self.cut, Cut::Length)
    }
}
