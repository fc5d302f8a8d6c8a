use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that gives and takes a few bytes at a time, as `steps` say over and over: one of 0
/// makes the other side wait once.
#[derive(Debug)]
pub struct Pieces<'a> {
    input: &'a [u8],
    /// What was written.
    pub output: Vec<u8>,
    steps: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    waited: bool,
}

impl<'a> Pieces<'a> {
    /// Gives `input` to whoever reads, then the end of the stream.
    pub fn new(input: &'a [u8], steps: &'a [u8]) -> Self {
        let steps = if steps.is_empty() { &[255][..] } else { steps };
        Self {
            input,
            output: Vec::new(),
            steps: steps.iter().cycle(),
            waited: false,
        }
    }

    fn step(&mut self, cx: &Context<'_>, most: usize) -> Poll<usize> {
        let step = usize::from(self.steps.next().copied().unwrap_or(1));
        if step == 0 && !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        Poll::Ready(step.max(1).min(most))
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let most = this.input.len().min(buf.remaining());
        let n = std::task::ready!(this.step(cx, most));
        let (now, later) = this.input.split_at(n);
        buf.put_slice(now);
        this.input = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
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
