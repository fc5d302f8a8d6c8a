use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use futures_core::{FusedStream, Stream};
use futures_sink::Sink;
use tokio::task::coop;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::conduct::Conduct;

/// A stream that ends when the service shuts down, at the boundary of a message.
///
/// At shutdown it still delivers messages that have arrived, and waits for the rest of one that has
/// begun to arrive on the connection's channel. It ends where it would wait for a new message. At
/// half of the service's grace period it ends in any case, before the next item. So a handler that
/// takes items until `None` and answers each has answered every item it took.
///
/// [`Context::until_shutdown`](super::Context::until_shutdown) creates it. After the end,
/// [`into_inner`](Self::into_inner) returns the inner stream.
///
/// If the inner stream is also a [`Sink`], such as a [`Channel`](crate::Channel), so is this one,
/// and shutdown does not affect sending. It fits libraries that ask for both in one value.
///
/// # Cancel safety
///
/// Cancel safe. Dropping a future of `next()` loses nothing.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{CancellationToken, Context};
/// use futures_util::{StreamExt, stream};
///
/// async fn collect(connection: Connection, cx: Context) -> Result<(), aqueduct::Error> {
///     let lines = cx.channel::<String, String>(connection, Text);
///     let mut lines = cx.until_shutdown(lines);
///     while let Some(line) = lines.next().await.transpose()? {
///         println!("{line}");
///     }
///     cx.close(lines.into_inner()).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let stop = CancellationToken::new();
/// let service = tokio::spawn(aqueduct::serve(stream::iter([Ok(there)]), stop.clone(), collect));
/// let mut client = here.channel::<String, String>(Text);
/// client.send("hello".into()).await?;
/// stop.cancel();
/// service.await??;
/// # Ok(()) }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct UntilShutdown<S> {
    inner: S,
    conduct: Conduct,
    stopping: CancellationToken,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    end: CancellationToken,
    /// Waits for `end`, from shutdown on.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    ended: bool,
}

impl<S> UntilShutdown<S> {
    pub(super) fn new(
        inner: S,
        conduct: Conduct,
        stop: CancellationToken,
        end: CancellationToken,
    ) -> Self {
        Self {
            inner,
            conduct,
            stop: Box::pin(stop.clone().cancelled_owned()),
            stopping: stop,
            end,
            ending: None,
            ended: false,
        }
    }

    /// Returns the inner stream, which does not end at shutdown.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Whether the stream should end where it now has to wait.
    fn poll_end(&mut self, cx: &mut Task<'_>) -> Poll<()> {
        if !coop::has_budget_remaining() {
            // The stream waited for its turn, not for the peer: it will be polled again.
            return Poll::Pending;
        }
        let ending = match &mut self.ending {
            Some(ending) => ending,
            None => {
                if self.stop.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.ending
                    .insert(Box::pin(self.end.clone().cancelled_owned()))
            }
        };
        if !self.conduct.is_receiving() {
            return Poll::Ready(());
        }
        ending.as_mut().poll(cx)
    }
}

impl<S: Stream + Unpin> Stream for UntilShutdown<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Option<S::Item>> {
        let this = self.get_mut();
        if this.ended || (this.stopping.is_cancelled() && this.end.is_cancelled()) {
            this.ended = true;
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = Pin::new(&mut this.inner).poll_next(cx) {
            this.ended = item.is_none();
            return Poll::Ready(item);
        }
        if this.poll_end(cx).is_pending() {
            return Poll::Pending;
        }
        this.ended = true;
        Poll::Ready(None)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.ended {
            return (0, Some(0));
        }
        (0, self.inner.size_hint().1)
    }
}

impl<S: Stream + Unpin> FusedStream for UntilShutdown<S> {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl<T, S: Sink<T> + Unpin> Sink<T> for UntilShutdown<S> {
    type Error = S::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<(), S::Error> {
        Pin::new(&mut self.inner).start_send(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl<S: fmt::Debug> fmt::Debug for UntilShutdown<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UntilShutdown")
            .field("inner", &self.inner)
            .field("shutting_down", &self.stopping.is_cancelled())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
