use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio_util::sync::CancellationToken;

use super::UntilShutdown;
use super::conduct::Conduct;
use super::timed::{TimedSink, TimedStream};
use crate::channel::Channel;
use crate::channel::{Error, Receiver, Sender};
use crate::codec::Codec;
use crate::connect::timeouts::Timeouts;
use crate::connect::{Connection, Frames};
use crate::io::timer::timeout;

/// The context of a handler: its connection's limits and its service's shutdown.
///
/// Clones are the same context.
///
/// # Examples
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::connect::Connection;
/// use aqueduct::service::{self, CancellationToken, Context};
/// use futures_util::{SinkExt, StreamExt, stream};
///
/// /// Answers each line until the peer or the service ends.
/// async fn handle(connection: Connection, cx: Context) -> Result<(), aqueduct::Error> {
///     let mut client = cx.until_shutdown(cx.channel::<String, String>(connection, Text));
///     while let Some(text) = client.next().await.transpose()? {
///         client.send(text.to_uppercase()).await?;
///     }
///     cx.close(client.into_inner()).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, there) = Connection::pair();
/// let service = aqueduct::serve(stream::iter([Ok(there)]), CancellationToken::new(), handle);
/// let service = tokio::spawn(service);
/// let mut client = here.channel::<String, String>(Text);
/// assert_eq!(client.call("hello".into()).await?, "HELLO");
/// client.close().await?;
/// assert_eq!(service.await??.finished, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
}

struct Shared {
    id: u64,
    timeouts: Timeouts,
    linger: Duration,
    stop: CancellationToken,
    end_streams: CancellationToken,
    conduct: Conduct,
}

impl Context {
    pub(super) fn new(
        id: u64,
        timeouts: Timeouts,
        linger: Duration,
        stop: CancellationToken,
        end_streams: CancellationToken,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                id,
                timeouts,
                linger,
                stop,
                end_streams,
                conduct: Conduct::default(),
            }),
        }
    }

    /// Returns the number of this connection in its service, from 1.
    pub(super) fn id(&self) -> u64 {
        self.shared.id
    }

    /// Completes when the service shuts down.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.stop.clone().cancelled_owned()
    }

    /// Makes `stream` end at shutdown; see [`UntilShutdown`].
    ///
    /// Works for any stream that ends in this connection's [`channel`](Self::channel): of frames, a
    /// [`Receiver`], a [`Channel`].
    pub fn until_shutdown<S: Stream>(&self, stream: S) -> UntilShutdown<S> {
        UntilShutdown::new(
            stream,
            self.conduct().clone(),
            self.shared.stop.clone(),
            self.shared.end_streams.clone(),
        )
    }

    /// Creates a typed channel over `connection` that keeps the service's limits.
    ///
    /// It does not end at shutdown by itself: use [`respond`](super::respond), or wrap the channel
    /// with [`until_shutdown`](Self::until_shutdown).
    ///
    /// # Examples
    ///
    /// A service at any two-way address:
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    /// use aqueduct::service::{self, CancellationToken, Context};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let address: Endpoint = format!("unix:{}/shout", dir.path().display()).parse()?;
    /// # let _ = r#"
    /// let address: Endpoint = "unix:/run/app/shout".parse()?;
    /// # "#;
    /// let stop = CancellationToken::new();
    /// # stop.cancel();
    /// aqueduct::serve(address.bind().await?, stop, |connection: Connection, cx: Context| async move {
    ///     let client = cx.channel::<String, String>(connection, Text);
    ///     service::respond(client, &cx, |text| async move { text.to_uppercase() }).await
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    pub fn channel<Out, In>(
        &self,
        connection: Connection,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> Channel<Out, In> {
        let (sender, receiver) = connection.into_split();
        Channel::new(
            Sender::new(self.sink(sender.into_frames()), codec.clone()),
            Receiver::new(self.stream(Frames::new(receiver), Frames::has_begun), codec),
        )
    }

    pub(super) fn stream<S>(&self, stream: S, begun: fn(&mut S) -> bool) -> TimedStream<S> {
        TimedStream::new(stream, self.shared.timeouts, begun).observed_by(self.conduct().clone())
    }

    pub(super) fn sink<S>(&self, sink: S) -> TimedSink<S> {
        TimedSink::new(sink, self.shared.timeouts).observed_by(self.conduct().clone())
    }

    /// Ends a conversation so that the peer receives everything that was sent.
    ///
    /// It flushes, closes this side, and discards what the peer still sends until it closes too,
    /// for 1 s at most. Closing a socket with unread input would discard messages that the peer has
    /// not read yet (RFC 1122, 4.2.2.13). [`respond`](super::respond) ends with this; a custom
    /// handler should too.
    ///
    /// # Errors
    ///
    /// As for [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the channel with its unsent items.
    pub async fn close<Out, In>(&self, mut channel: Channel<Out, In>) -> Result<(), Error> {
        channel.close().await?;
        let (_, receiver) = channel.split_mut();
        if !receiver.is_ended() {
            let discard = async { while let Some(Ok(_)) = receiver.recv().await {} };
            // The peer has received everything, whatever it does now.
            let _ = timeout(self.shared.linger, discard).await;
        }
        Ok(())
    }

    /// Whether a message had begun to arrive when the connection's stream was last polled.
    pub(super) fn conduct(&self) -> &Conduct {
        &self.shared.conduct
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.id())
            .field("shutting_down", &self.shared.stop.is_cancelled())
            .finish_non_exhaustive()
    }
}
