use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use tokio_util::sync::CancellationToken;

use super::UntilShutdown;
use super::conduct::Conduct;
use super::timed::{TimedSink, TimedStream};
use super::timeouts::Timeouts;
use crate::channel::Channel;
use crate::channel::{Error, Receiver, Sender};
use crate::codec::Codec;
use crate::connect::{Connection, Frames};
use crate::io::timer::timeout;

/// What a handler is told about its connection and its service. Clones are the same context.
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

    /// The number of this connection in its service, from 1.
    pub(super) fn id(&self) -> u64 {
        self.shared.id
    }

    /// Completes when the service shuts down: finish what is in hand.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.stop.clone().cancelled_owned()
    }

    /// Makes `stream` end at shutdown; see [`UntilShutdown`].
    ///
    /// Any stream that ends in this connection's [`channel`](Self::channel) will do: of frames, a
    /// [`Receiver`], a [`Channel`].
    pub fn until_shutdown<S: Stream>(&self, stream: S) -> UntilShutdown<S> {
        UntilShutdown::new(
            stream,
            self.conduct().clone(),
            self.shared.stop.clone(),
            self.shared.end_streams.clone(),
        )
    }

    /// A typed channel over `connection` that keeps the limits of the service.
    ///
    /// It does not end at shutdown by itself: [`respond`](super::respond) sees to that, or
    /// [`until_shutdown`](Self::until_shutdown) round the channel.
    ///
    /// # Examples
    ///
    /// A service at any two-way address:
    ///
    /// ```no_run
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    /// use aqueduct::service::{self, CancellationToken, Context};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let address: Endpoint = "unix:/run/app/shout".parse()?;
    /// let stop = CancellationToken::new();
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

    /// Ends a conversation so that the peer gets all that was sent: sends what is queued, closes
    /// this side, and throws away what the peer still sends until it closes too, for
    /// 1 s at most.
    ///
    /// A socket closed with unread input would destroy messages that the peer has not read yet
    /// (RFC 1122, 4.2.2.13). [`respond`](super::respond) ends with this; a handler of your own
    /// should too.
    ///
    /// # Errors
    ///
    /// Those of [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the channel with what was not yet sent.
    pub async fn close<Out, In>(&self, mut channel: Channel<Out, In>) -> Result<(), Error> {
        channel.close().await?;
        let (_, receiver) = channel.split_mut();
        if !receiver.is_ended() {
            let discard = async { while let Some(Ok(_)) = receiver.recv().await {} };
            // Whatever the peer does now, it had all that was for it.
            let _ = timeout(self.shared.linger, discard).await;
        }
        Ok(())
    }

    /// Whether a message had begun to arrive when the connection's stream was last asked.
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
