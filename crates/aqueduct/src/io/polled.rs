use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::polling::{Polling, Round};

/// A byte stream in latency mode: it polls before each wait for input.
///
/// For pipes, FIFOs and sockets. Writes pass through.
///
/// Putting a process to sleep and waking it takes 3 to 6 µs if its processor is busy with other
/// processes, and 60 to 100 µs on an idle processor of a virtual machine. That is far longer than a
/// message takes to cross. An end in latency mode polls for a limited time before it sleeps. Before
/// each poll it yields its processor to other processes and its thread to other tasks of its
/// runtime.
///
/// By default an end polls 4 times, which takes some microseconds, or, on a pipe or socket, 16 times
/// if it is alone in its thread and that pays; and not at all on a multi-thread runtime (queues do). Use latency mode, with about 50 µs, if replies follow requests
/// quickly and a processor can be spared:
///
/// | for | use |
/// |---|---|
/// | an address | [`connect::Options::poll_for`](crate::connect::Options::poll_for) |
/// | a pipe, a FIFO, a socket | `Polled` |
/// | a queue | [`mq::OpenOptions::poll_for`](crate::mq::OpenOptions::poll_for) |
///
/// # Cost
///
/// A polling thread is never idle. It polls only while that pays: if nothing arrives within the
/// limit, the next waits sleep at once, twice as many each time, so useless polling costs some 3 µs
/// per wait on average. A wait that exceeds the limit by half a millisecond counts a sixteenth, so
/// slow input is hardly ever polled for. A stream that is never empty costs nothing, and one on
/// which nothing arrives costs the limit once.
///
/// Where other processes compute, each gets a turn of some milliseconds when this one yields the
/// processor, while a process that sleeps is woken sooner. So a yield that takes longer than 1 ms
/// and the limit stops polling in its thread for 32 times as long.
///
/// With 50 µs, 64-byte round trips between two processes on the two processors of a busy virtual
/// machine (medians): a pipe 3.3 instead of 41 µs, a Unix socket 5.4 instead of 41, TCP 7.4 instead
/// of 47. The processor time of each was a seventh to a quarter, since sleeping costs time as well.
/// The benchmark cases `…/feed` and `…/feed/latency` (`cargo run --release -p aqueduct-bench`)
/// measure it on any machine.
///
/// # Cancel safety
///
/// As for the stream underneath.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use aqueduct::frame::{FramedRead, Framing};
/// use aqueduct::Polled;
/// use aqueduct::{bytes::Bytes, pipe};
/// use futures_util::{SinkExt, StreamExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let (tx, rx) = pipe::pipe()?;
/// let rx = Polled::new(rx, Duration::from_micros(50));
/// let mut rx = FramedRead::new(rx, Framing::length()).with_chunk(8192);
/// let mut tx = tx.framed(Framing::length());
/// tx.send(Bytes::from("hello")).await?;
/// assert_eq!(rx.next().await.transpose()?, Some(Bytes::from("hello")));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Polled<S> {
    stream: S,
    polling: Polling,
    round: Round,
}

impl<S> Polled<S> {
    /// Polls `stream` for `limit` before each wait; zero does not poll.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            polling: Polling::new(limit),
            round: Round::default(),
        }
    }

    /// Returns the stream.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Returns the stream.
    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Polled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self {
            stream,
            polling,
            round,
        } = &mut *self;
        let read = Pin::new(stream).poll_read(cx, buf);
        if read.is_ready() {
            polling.done(round);
        } else if polling.yields(round) {
            // Tokio's way to yield has its driver look for events before this task's next turn. A
            // plain wake-up would look only now and then.
            let _ = pin!(yield_now()).poll(cx);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Polled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;
    use tokio_test::{assert_pending, assert_ready_ok, task};

    use super::*;
    use crate::pipe;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn other_tasks_run_while_it_polls() {
        let (mut tx, rx) = pipe::pipe().unwrap();
        let mut rx = Polled::new(rx, 3600 * SECOND);
        let turns = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&turns);
        // It polls for an hour. This task writes only after many turns of its own, and a timer.
        let writing = tokio::spawn(async move {
            for _ in 0..1000 {
                yield_now().await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            tx.write_all(b"x").await.unwrap();
            tx
        });
        let read = timeout(30 * SECOND, rx.read_u8()).await;
        assert_eq!(read.expect("it is read").unwrap(), b'x');
        assert_eq!(turns.load(Ordering::Relaxed), 1000);
        drop(writing.await);
        let end = timeout(30 * SECOND, rx.read_u8()).await;
        assert!(end.expect("it ends").is_err());
    }

    #[tokio::test]
    async fn it_wakes_its_task_while_polling_and_then_sleeps() {
        let (mut tx, rx) = pipe::pipe().unwrap();
        // Long, since on a busy machine the yielded processor returns late.
        let limit = Duration::from_millis(500);
        let mut rx = Polled::new(rx, limit);
        let began = Instant::now();
        let mut reading = task::spawn(rx.read_u8());
        assert_pending!(reading.poll());
        let mut turns = 0;
        loop {
            yield_now().await;
            if !reading.is_woken() {
                break;
            }
            assert_pending!(reading.poll());
            turns += 1;
        }
        assert!(began.elapsed() >= limit);
        assert!(turns > 0);
        // From here on it is woken as usual.
        tx.write_all(b"x").await.unwrap();
        while !reading.is_woken() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(assert_ready_ok!(reading.poll()), b'x');
    }

    #[tokio::test]
    async fn by_default_it_goes_to_sleep_at_once() {
        let (_tx, rx) = pipe::pipe().unwrap();
        let mut rx = Polled::new(rx, Duration::ZERO);
        let mut reading = task::spawn(rx.read_u8());
        assert_pending!(reading.poll());
        yield_now().await;
        assert!(!reading.is_woken());
    }

    #[tokio::test]
    async fn what_is_written_passes_through() {
        let (here, mut there) = tokio::net::UnixStream::pair().unwrap();
        let mut here = Polled::new(here, SECOND);
        here.write_all(b"he").await.unwrap();
        // A writer of many pieces asks first, and would copy them otherwise.
        assert!(here.is_write_vectored());
        let pieces = [IoSlice::new(b"l"), IoSlice::new(b"lo")];
        assert_eq!(here.write_vectored(&pieces).await.unwrap(), 3);
        here.flush().await.unwrap();
        here.shutdown().await.unwrap();
        let mut said = String::new();
        there.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "hello");
    }
}
