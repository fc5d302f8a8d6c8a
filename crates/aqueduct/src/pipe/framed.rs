//! Framing of pipes, with the step size that suits them.

use super::{Receiver, Sender};
use crate::frame::{FramedRead, FramedWrite, Framing, Pace};

impl Sender {
    /// Creates a [`Sink`](futures_sink::Sink) of frames onto this pipe.
    ///
    /// It writes 8 KiB at a time, and up to 64 KiB of large frames. With one writer, frames of any
    /// size arrive whole. With several, only a write of at most `PIPE_BUF` (4096) bytes is atomic,
    /// `pipe(7)`, and this sink writes more at a time.
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
        FramedWrite::new(self, framing).with_pace(Pace::pipe())
    }
}

impl Receiver {
    /// Creates a [`Stream`](futures_core::Stream) of frames from this pipe.
    ///
    /// It reads 8 KiB at a time, and up to 64 KiB of large frames.
    pub fn framed(self, framing: Framing) -> FramedRead<Self> {
        FramedRead::new(self, framing).with_pace(Pace::pipe())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::frame::PIPE_CHUNK;
    use crate::pipe;

    /// An end of a pipe, and the size of each call.
    struct Asked<T>(T, Vec<usize>);

    impl AsyncWrite for Asked<Sender> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.push(buf.len());
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Asked<Receiver> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1.push(buf.remaining());
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    /// Moves frames between two tasks of one thread, which take turns; returns the sizes of the
    /// writes and reads.
    async fn in_turn(len: usize, count: usize) -> (Vec<usize>, Vec<usize>) {
        let (tx, rx) = pipe::pipe().unwrap();
        let mut tx = FramedWrite::new(Asked(tx, Vec::new()), Framing::length());
        let mut rx = FramedRead::new(Asked(rx, Vec::new()), Framing::length());
        tx = tx.with_pace(Pace::pipe());
        rx = rx.with_pace(Pace::pipe());
        let body = move |i: usize| Bytes::from(vec![i as u8; len]);
        let sends = async move {
            for i in 0..count {
                tx.feed(body(i)).await.unwrap();
            }
            tx.flush().await.unwrap();
            tx.get_ref().1.clone()
        };
        let receives = async move {
            for i in 0..count {
                assert!(rx.next().await.unwrap().unwrap() == body(i), "frame {i}");
            }
            rx.get_ref().1.clone()
        };
        let both = async { tokio::join!(sends, receives) };
        let deadline = Duration::from_secs(60);
        tokio::time::timeout(deadline, both).await.unwrap()
    }

    #[tokio::test]
    async fn sides_that_take_turns_come_to_large_steps_for_large_frames() {
        for (len, count) in [(70_000, 200), (1 << 20, 20)] {
            let (writes, reads) = in_turn(len, count).await;
            for asked in [writes, reads] {
                let small = asked.iter().take_while(|it| **it <= PIPE_CHUNK).count();
                // Enough to fill the pipe eight times.
                assert!((50..200).contains(&small), "{len}: {small}");
                assert_eq!(asked.iter().max(), Some(&65_536), "{len}");
                let large = asked.iter().filter(|it| **it == 65_536).count();
                assert!(large > 20, "{len}: {large}");
            }
        }
    }

    #[tokio::test]
    async fn small_frames_go_in_small_steps_whoever_takes_turns() {
        let (writes, reads) = in_turn(100, 100_000).await;
        for asked in [writes, reads] {
            assert_eq!(asked.iter().max(), Some(&PIPE_CHUNK));
        }
    }

    /// Copies between different offsets into a page may be slow, and the body lies behind the header
    /// in the pipe that it comes from and in the one that it goes to next.
    #[tokio::test]
    async fn large_bodies_keep_their_offset_into_a_page() {
        let (tx, rx) = pipe::pipe().unwrap();
        let mut tx = tx.framed(Framing::length());
        let mut rx = rx
            .framed(Framing::length())
            .with_read_buffer(Default::default());
        for _ in 0..3 {
            tx.send(Bytes::from(vec![1; 60_000])).await.unwrap();
            let body = rx.next().await.unwrap().unwrap();
            assert_eq!(body.as_ptr().align_offset(4096), 4096 - 4);
        }
    }

    /// A reader that makes room at once, and preempts the writer each time.
    #[derive(Default)]
    struct Preempting(Vec<usize>);

    impl AsyncWrite for Preempting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(buf.len());
            Pace::preempt();
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_writer_that_is_preempted_comes_to_large_steps() {
        let tx = FramedWrite::new(Preempting::default(), Framing::length());
        let mut tx = tx.with_pace(Pace::pipe());
        for _ in 0..100 {
            tx.send(Bytes::from(vec![7; 30_000])).await.unwrap();
        }
        let writes = &tx.get_ref().0;
        assert_eq!(writes[0], PIPE_CHUNK);
        assert!(writes.iter().any(|it| *it > 30_000), "{writes:?}");
    }
}
