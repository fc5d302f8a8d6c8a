use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that gives and takes a few bytes at a time, as `steps` say over and over: one of 0
/// makes the other side wait once.
#[derive(Debug)]
pub struct Pieces<I, S> {
    input: I,
    read: usize,
    /// What was written.
    pub output: Vec<u8>,
    steps: S,
    stepped: usize,
    waited: bool,
}

impl<I: AsRef<[u8]>, S: AsRef<[u8]>> Pieces<I, S> {
    /// Gives `input` to whoever reads, then the end of the stream.
    pub fn new(input: I, steps: S) -> Self {
        Self {
            input,
            read: 0,
            output: Vec::new(),
            steps,
            stepped: 0,
            waited: false,
        }
    }

    fn step(&mut self, cx: &Context<'_>, most: usize) -> Poll<usize> {
        let steps = self.steps.as_ref();
        let step = match steps.len() {
            0 => 255,
            len => usize::from(steps[self.stepped % len]),
        };
        self.stepped += 1;
        if step == 0 && !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        Poll::Ready(step.max(1).min(most))
    }
}

impl<I: AsRef<[u8]> + Unpin, S: AsRef<[u8]> + Unpin> AsyncRead for Pieces<I, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.input.as_ref().len() - this.read;
        let n = std::task::ready!(this.step(cx, left.min(buf.remaining())));
        buf.put_slice(&this.input.as_ref()[this.read..this.read + n]);
        this.read += n;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsRef<[u8]> + Unpin, S: AsRef<[u8]> + Unpin> AsyncWrite for Pieces<I, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = std::task::ready!(this.step(cx, buf.len()));
        this.output.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls to the end a future that is always ready again. One that is polled `most` times and still
/// waits hangs or spins: that is a finding.
pub fn drive<F: Future>(future: F, most: usize) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..most {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("still waiting after {most} polls");
}
