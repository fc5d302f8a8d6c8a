use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop::consume_budget;

use super::Context;
use crate::channel::{Channel, Error};

/// How long [`Context::close`] waits for the peer to close its side: 1 s, or a quarter of the grace
/// period if that is less.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(1);

/// Answers each message of `channel` with what `answer` makes of it, in order, until the peer ends
/// its side or the service shuts down; then sends what is left and closes.
///
/// Every request that was given to `answer` is answered. Replies to requests that came together
/// leave together, but none waits for an `answer` that has to wait.
///
/// At shutdown the channel ends as an [`UntilShutdown`](super::UntilShutdown) stream does. After
/// the last reply it is closed by [`Context::close`].
///
/// # Errors
///
/// That of the channel. A message that does not parse ends the conversation too, with
/// [`Error::Decode`], after the replies to those before it: without a reply to it the peer could no
/// longer tell which reply belongs to which request.
///
/// # Cancel safety
///
/// Dropping the future drops the channel with what was not yet sent.
///
/// # Examples
///
/// See [`serve()`](super::serve()).
pub async fn respond<Out, In, F, A>(
    channel: Channel<Out, In>,
    context: &Context,
    mut answer: F,
) -> Result<(), Error>
where
    F: FnMut(In) -> A,
    A: Future<Output = Out>,
{
    let (mut sender, receiver) = channel.into_split();
    let mut requests = context.until_shutdown(receiver);
    let mut result = Ok(());
    loop {
        // One read can bring thousands of requests: other tasks have their turns between them.
        consume_budget().await;
        // Waiting for the peer: it may be waiting for the replies.
        let request = match requests.next().now_or_never() {
            Some(request) => request,
            None => {
                sender.flush().await?;
                requests.next().await
            }
        };
        let request = match request {
            Some(Ok(request)) => request,
            Some(Err(error)) => {
                result = Err(error);
                break;
            }
            None => break,
        };
        let mut answering = pin!(answer(request));
        let at_once = poll_fn(|cx| Poll::Ready(answering.as_mut().poll(cx))).await;
        let reply = match at_once {
            Poll::Ready(reply) => reply,
            Poll::Pending => {
                let (flushed, reply) = join(sender.flush(), answering).await;
                flushed?;
                reply
            }
        };
        sender.feed(reply).await?;
    }
    if result.is_err() {
        // What was answered before still goes out; the first error is the one to tell.
        let _ = sender.close().await;
        return result;
    }
    context
        .close(Channel::new(sender, requests.into_inner()))
        .await
}

#[cfg(test)]
mod tests;
