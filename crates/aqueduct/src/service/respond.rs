use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join;
use futures_util::{FutureExt, StreamExt};
use tokio::task::coop::consume_budget;

use super::Context;
use crate::channel::{Channel, Error};
use crate::io::polling::glance;

/// How long [`Context::close`] waits for the peer to close its side, or a quarter of the grace
/// period if that is less.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// Answers each message of `channel` with the result of `answer`, in order.
///
/// It ends when the peer ends its side or the service shuts down. Then it flushes and closes with
/// [`Context::close`]. Every request that was given to `answer` is answered. Replies to requests
/// that arrived together are sent together, but none waits for an `answer` that has to wait. At
/// shutdown the channel ends as an [`UntilShutdown`](super::UntilShutdown) stream does.
///
/// # Errors
///
/// The error of the channel. A message that does not parse also ends the conversation, with
/// [`Error::Decode`], after the replies to earlier messages: without a reply to it the peer could
/// no longer match replies to requests. [`respond_or`] replies to it instead.
///
/// # Cancel safety
///
/// Dropping the future drops the channel with its unsent items.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{self, CancellationToken, Context};
/// use futures_util::stream;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let handler = |connection: Connection, cx: Context| async move {
///     let client = cx.channel::<String, String>(connection, Text);
///     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
/// };
/// tokio::spawn(aqueduct::serve(stream::iter([Ok(there)]), CancellationToken::new(), handler));
/// let mut client = here.channel::<String, String>(Text);
/// assert_eq!(client.call("hello".into()).await?, "HELLO");
/// # Ok(()) }
/// ```
pub async fn respond<Out, In, F, A>(
    channel: Channel<Out, In>,
    context: &Context,
    answer: F,
) -> Result<(), Error>
where
    F: FnMut(In) -> A,
    A: Future<Output = Out>,
{
    respond_or(channel, context, answer, Err).await
}

/// Answers messages as [`respond`] does, and replies to messages that do not parse.
///
/// `malformed` gets the error. It returns the reply, or an error that ends the conversation.
///
/// # Errors
///
/// The error of the channel, or the one that `malformed` returns, after the replies to earlier
/// requests.
///
/// # Cancel safety
///
/// Dropping the future drops the channel with its unsent items.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Json;
/// use aqueduct::connect::Connection;
/// use aqueduct::frame::Framing;
/// use aqueduct::service::{self, CancellationToken, Context};
/// use futures_util::stream;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (mut client, server) = tokio::net::UnixStream::pair()?;
/// let handler = |connection: Connection, cx: Context| async move {
///     let client = cx.channel::<String, u32>(connection, Json);
///     let double = |n: u32| async move { (2 * n).to_string() };
///     let refuse = |error: aqueduct::Error| Ok(format!("bad request: {error}"));
///     service::respond_or(client, &cx, double, refuse).await
/// };
/// let one = stream::iter([Ok(Connection::from_io(server, Framing::lines()))]);
/// let served = aqueduct::serve(one, CancellationToken::new(), handler);
/// let asking = async {
///     client.write_all(b"21\nnonsense\n4\n").await?;
///     client.shutdown().await?;
///     let mut replies = String::new();
///     client.read_to_string(&mut replies).await?;
///     std::io::Result::Ok(replies)
/// };
/// let (served, replies) = tokio::join!(served, asking);
/// served?;
/// let replies = replies?;
/// let replies: Vec<_> = replies.lines().collect();
/// assert_eq!((replies[0], replies[2]), ("\"42\"", "\"8\""));
/// assert!(replies[1].starts_with("\"bad request"));
/// # Ok(())
/// # }
/// ```
pub async fn respond_or<Out, In, F, A, M>(
    channel: Channel<Out, In>,
    context: &Context,
    mut answer: F,
    mut malformed: M,
) -> Result<(), Error>
where
    F: FnMut(In) -> A,
    A: Future<Output = Out>,
    M: FnMut(Error) -> Result<Out, Error>,
{
    let (mut sender, receiver) = channel.into_split();
    let mut requests = context.until_shutdown(receiver);
    let mut result = Ok(());
    loop {
        // One read can bring thousands of requests: other tasks have their turns in between.
        consume_budget().await;
        // Before waiting for the peer, which may be waiting for the replies.
        let request = match glance(|| requests.next().now_or_never()) {
            Some(request) => request,
            None => {
                sender.flush().await?;
                requests.next().await
            }
        };
        let request = match request {
            Some(Ok(request)) => request,
            Some(Err(error @ Error::Decode { .. })) => match malformed(error) {
                Ok(reply) => {
                    sender.feed(reply).await?;
                    continue;
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            },
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
        // Earlier replies are still sent; the first error is the one to report.
        let _ = sender.close().await;
        return result;
    }
    context
        .close(Channel::new(sender, requests.into_inner()))
        .await
}

#[cfg(test)]
mod tests;
