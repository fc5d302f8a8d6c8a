//! Framing of pipes, with the step that suits them.

use super::{FramedRead, FramedWrite, Framing};
use crate::pipe::{Receiver, Sender};

/// How many bytes one read or write of a pipe moves at most: two pages, 8 KiB.
///
/// A pipe is a ring of pages. In small steps of whole pages reader and writer work at the same
/// time; in large ones they take turns.
pub const PIPE_CHUNK: usize = 8192;

impl Sender {
    /// A [`Sink`](futures_sink::Sink) of frames onto this pipe, written 8 KiB at a time.
    ///
    /// With one writer frames arrive whole whatever their size. With several, only what is written
    /// by one call of at most `PIPE_BUF` (4096) bytes does, `pipe(7)`; this sink writes more at a
    /// time.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{bytes::Bytes, frame::Framing, pipe};
    /// use futures_util::{SinkExt, StreamExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let (tx, rx) = pipe::pipe()?;
    /// let mut tx = tx.framed(Framing::length());
    /// let mut rx = rx.framed(Framing::length());
    /// tx.send(Bytes::from("hello")).await?;
    /// tx.close().await?;
    /// drop(tx);
    /// assert_eq!(rx.next().await.transpose()?, Some(Bytes::from("hello")));
    /// assert_eq!(rx.next().await.transpose()?, None);
    /// # Ok(()) }
    /// ```
    pub fn framed(self, framing: Framing) -> FramedWrite<Self> {
        FramedWrite::new(self, framing).with_chunk(PIPE_CHUNK)
    }
}

impl Receiver {
    /// A [`Stream`](futures_core::Stream) of frames from this pipe, read 8 KiB at a time.
    pub fn framed(self, framing: Framing) -> FramedRead<Self> {
        FramedRead::new(self, framing).with_chunk(PIPE_CHUNK)
    }
}
