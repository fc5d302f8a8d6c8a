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
    use std::thread;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::{SinkExt, StreamExt};
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_test::task;

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

    /// Runs `f` in a thread that shares one processor with the threads it starts.
    fn on_one_processor<R: Send + 'static>(f: impl AsyncFnOnce() -> R + Send + 'static) -> R {
        let run = || {
            let this = Pid::from_raw(0);
            let allowed = sched_getaffinity(this).unwrap();
            let mut cpus = (0..CpuSet::count()).filter(|it| allowed.is_set(*it).unwrap());
            let mut only = CpuSet::new();
            only.set(cpus.next().unwrap()).unwrap();
            sched_setaffinity(this, &only).unwrap();
            block_on(f())
        };
        thread::spawn(run).join().unwrap()
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        let in_time = async { tokio::time::timeout(Duration::from_secs(60), future).await };
        runtime.block_on(in_time).expect("it ends in time")
    }

    /// The ends of pipes to a thread that returns each frame.
    fn to_echo() -> (Sender, FramedRead<Receiver>, thread::JoinHandle<()>) {
        let (from, answer) = io::pipe().unwrap();
        let (to, ask) = io::pipe().unwrap();
        let echo = async {
            let asked = Receiver::from_owned_fd(to.into()).unwrap();
            let mut asked = asked.framed(Framing::length());
            let answers = Sender::from_owned_fd(answer.into()).unwrap();
            let mut answers = answers.framed(Framing::length());
            while let Some(frame) = asked.next().await {
                answers.send(frame.unwrap()).await.unwrap();
            }
        };
        let echo = thread::spawn(|| block_on(echo));
        let rx = Receiver::from_owned_fd(from.into()).unwrap();
        let rx = rx.framed(Framing::length());
        (Sender::from_owned_fd(ask.into()).unwrap(), rx, echo)
    }

    /// Neither side ever waits for room.
    #[test]
    fn a_conversation_on_one_processor_comes_to_large_steps() {
        const COUNT: usize = 1000;
        let writes = on_one_processor(async || {
            let (tx, mut rx, echo) = to_echo();
            let tx = FramedWrite::new(Asked(tx, Vec::new()), Framing::length());
            let mut tx = tx.with_pace(Pace::pipe());
            let body = Bytes::from(vec![7; 30_000]);
            for _ in 0..COUNT {
                tx.send(body.clone()).await.unwrap();
                assert!(rx.next().await.unwrap().unwrap() == body);
            }
            let writes = tx.into_parts().0.1;
            echo.join().unwrap();
            writes
        });
        let large = writes.iter().filter(|it| **it > 30_000).count();
        // Few if other programs share the processor.
        assert!(large > 0, "{large} of {COUNT}");
    }

    /// A frame and its header are a little more than the pipe holds. Other programs may get the
    /// processor instead, so some good times of many count.
    #[test]
    fn a_reader_on_the_same_processor_makes_room_for_the_rest_of_a_frame() {
        const COUNT: usize = 400;
        let at_once = on_one_processor(async || {
            let (tx, mut rx, echo) = to_echo();
            let mut tx = tx.framed(Framing::length());
            let body = Bytes::from(vec![7; 65_536]);
            let mut at_once = 0;
            for _ in 0..COUNT {
                let mut send = task::spawn(tx.send(body.clone()));
                match send.poll() {
                    Poll::Ready(sent) => {
                        sent.unwrap();
                        at_once += 1;
                    }
                    Poll::Pending => send.await.unwrap(),
                }
                assert!(rx.next().await.unwrap().unwrap() == body);
            }
            drop(tx);
            echo.join().unwrap();
            at_once
        });
        assert!(at_once > COUNT / 4, "{at_once} of {COUNT}");
    }
}
