use std::fmt::{self, Debug, Formatter};
use std::io;
use std::time::Duration;

use super::byte_stream::{ByteStream, Held};
use super::packets::Packets;
use super::pair::Conversation;
use super::send_only::{Rest, SendOnly};
use super::{Incoming, Outgoing, Peer, lasting};
use crate::child::Child;
use crate::codec::Codec;
use crate::frame::{BoxFrameSink, BoxFrameStream, FramedWrite, Framing, Pace};
use crate::serve::Context;
use crate::unix::seqpacket;
use crate::{Channel, Receiver, Sender};

/// A two-way connection: what [`Options::connect`](super::Options::connect) gives, and what a
/// [`Listener`](super::Listener) is a stream of; or two one-way ends as one
/// ([`Options::connect_pair`](super::Options::connect_pair)).
///
/// Take from it what you need:
///
/// | call | gives |
/// |---|---|
/// | [`channel`](Self::channel) | a typed [`Channel`] |
/// | [`channel_within`](Self::channel_within) | a typed [`Channel`] with the limits of a service |
/// | [`into_split`](Self::into_split) | both directions as messages |
/// | [`into_frames`](Self::into_frames) | both halves of the waist |
/// | [`into_outgoing`](Self::into_outgoing), [`into_incoming`](Self::into_incoming) | one direction, the other looked after |
/// | [`into_bytes`](Self::into_bytes) | `AsyncRead` and `AsyncWrite`, for a protocol of your own |
///
/// Dropping the sending half ends that direction: the peer receives what was flushed, then the end.
/// Dropping the receiving half alone tells the peer nothing; what it sends fills the buffers, and
/// then it waits.
///
/// # Examples
///
/// See the [module](super).
#[must_use = "dropping it ends the connection"]
pub struct Connection {
    link: Link,
    framing: Framing,
    pace: Pace,
    peer: Peer,
    child: Option<Child>,
    /// Whether what comes may be thrown away where only sending is wanted. Standard input may not.
    discards: bool,
    /// Whether others read from it too, now or later: it was handed down. (Byte streams know.)
    shared: bool,
    /// The limit of latency mode, for whoever wants what comes.
    poll_for: Duration,
}

enum Link {
    Bytes(ByteStream),
    Packets(seqpacket::Socket),
    Pair(Box<(Outgoing, Incoming)>),
}

impl Connection {
    pub(super) fn bytes(bytes: ByteStream, framing: Framing, pace: Pace, peer: Peer) -> Self {
        Self {
            link: Link::Bytes(bytes),
            framing,
            pace,
            peer,
            child: None,
            discards: true,
            shared: false,
            poll_for: Duration::ZERO,
        }
    }

    pub(super) fn packets(socket: seqpacket::Socket, framing: Framing) -> Self {
        let peer = socket.peer_credentials().map_or(Peer::Unknown, Peer::Unix);
        Self {
            link: Link::Packets(socket),
            framing,
            pace: Pace::default(),
            peer,
            child: None,
            discards: true,
            shared: false,
            poll_for: Duration::ZERO,
        }
    }

    /// Two ends as one.
    pub(super) fn pair(outgoing: Outgoing, incoming: Incoming, framing: Framing) -> Self {
        Self {
            link: Link::Pair(Box::new((outgoing, incoming))),
            framing,
            pace: Pace::default(),
            peer: Peer::Unknown,
            child: None,
            discards: true,
            shared: false,
            poll_for: Duration::ZERO,
        }
    }

    pub(super) fn with_child(mut self, child: Child) -> Self {
        self.child = Some(child);
        self
    }

    /// Receives in latency mode, if the limit says so.
    pub(super) fn polled(mut self, limit: Duration) -> Self {
        self.poll_for = limit;
        self
    }

    pub(super) fn never_discarding(mut self) -> Self {
        self.discards = false;
        self
    }

    pub(super) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Who is at the other end, as far as the mechanism tells.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The largest message that can be sent.
    pub fn max_message(&self) -> usize {
        match &self.link {
            Link::Bytes(_) => self.framing.get_max_frame(),
            Link::Packets(socket) => socket.max_message(),
            Link::Pair(ends) => {
                let own = ends.0.max_message();
                own.unwrap_or_else(|| self.framing.get_max_frame())
            }
        }
    }

    /// Takes the process that `exec:` has started, to wait for its exit status or to kill it.
    ///
    /// What is not taken is reaped by Tokio when it exits; nothing kills it. It can be taken once.
    pub fn take_child(&mut self) -> Option<Child> {
        self.child.take()
    }

    /// Both directions, as messages.
    pub fn into_split(self) -> (Outgoing, Incoming) {
        match self.link {
            Link::Bytes(bytes) => {
                let ByteStream { reader, writer } = bytes.polled(self.poll_for);
                let frames =
                    FramedWrite::new(writer, self.framing.clone()).with_pace(self.pace.clone());
                let incoming = Incoming::bytes(reader, self.framing, self.pace);
                (Outgoing::frames(frames), incoming)
            }
            Link::Packets(socket) => {
                let (sender, receiver) = socket.into_split();
                let incoming = Incoming::new(Packets::new(receiver, None, self.shared));
                (Outgoing::frames(sender), incoming)
            }
            Link::Pair(ends) => *ends,
        }
    }

    /// Both halves of the waist: a sink and a stream of frames.
    pub fn into_frames(self) -> (BoxFrameSink, BoxFrameStream) {
        let (outgoing, incoming) = self.into_split();
        (outgoing.into_frames(), incoming.into_frames())
    }

    /// A typed channel: sends `Out`, receives `In`.
    pub fn channel<Out, In>(
        self,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> Channel<Out, In> {
        let (outgoing, incoming) = self.into_split();
        Channel::new(outgoing.typed(codec.clone()), incoming.typed(codec))
    }

    /// A typed channel with the limits of a service on its peer: what a handler of
    /// [`serve`](mod@crate::serve) makes of its connection.
    ///
    /// It does not end at shutdown by itself; see
    /// [`Context::channel`](crate::serve::Context::channel).
    ///
    /// # Examples
    ///
    /// A service at any two-way address:
    ///
    /// ```no_run
    /// use aqueduct::Endpoint;
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    /// use aqueduct::serve::{self, CancellationToken, Context};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let address: Endpoint = "unix:/run/app/shout".parse()?;
    /// let stop = CancellationToken::new();
    /// aqueduct::serve(address.bind().await?, stop, |connection: Connection, cx: Context| async move {
    ///     let client = connection.channel_within::<String, String>(&cx, Text);
    ///     serve::respond(client, &cx, |text| async move { text.to_uppercase() }).await
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    pub fn channel_within<Out, In>(
        self,
        context: &Context,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> Channel<Out, In> {
        let (outgoing, incoming) = self.into_split();
        Channel::new(
            Sender::new(context.sink(outgoing.into_frames()), codec.clone()),
            Receiver::new(context.incoming(incoming), codec),
        )
    }

    /// The sending direction alone.
    ///
    /// Closing it ends that direction, after all was sent. What the peer says is thrown away
    /// whenever this is used, so that a peer which talks back is never stuck on it; closing waits
    /// for such a peer to end its own direction, for [`DEFAULT_LINGER`](super::DEFAULT_LINGER) at
    /// most, since a socket that is closed with input unread takes back what is still on its way.
    /// (Standard input and terminals are not read at all.)
    pub fn into_outgoing(self) -> Outgoing {
        match self.link {
            Link::Bytes(ByteStream { reader, writer }) => {
                let frames = FramedWrite::new(writer, self.framing).with_pace(self.pace);
                if self.discards {
                    Outgoing::frames(SendOnly::new(frames, Rest::Bytes(reader)))
                } else {
                    Outgoing::frames(frames)
                }
            }
            Link::Packets(socket) => {
                let (sender, receiver) = socket.into_split();
                Outgoing::frames(SendOnly::new(sender, Rest::Packets(receiver)))
            }
            Link::Pair(ends) => {
                let (outgoing, incoming) = *ends;
                let rest = Rest::Messages(Box::new(incoming));
                Outgoing::frames(SendOnly::new(outgoing.into_frames(), rest))
            }
        }
    }

    /// The sending direction, for one that connects again.
    pub(super) fn into_link(self) -> io::Result<lasting::Link> {
        // Of others the system does not tell what their peers have.
        let knows = matches!(self.peer, Peer::Unix(_));
        match self.link {
            Link::Bytes(ByteStream { reader, writer }) => Ok(lasting::Link::bytes(
                reader,
                writer,
                self.framing,
                self.pace,
                knows,
            )),
            Link::Packets(socket) => Ok(lasting::Link::packets(socket)),
            // None is ever made by what connects again.
            Link::Pair(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The receiving direction alone.
    ///
    /// The other direction stays open, with nothing sent, until the peer has ended its own: some
    /// programs stop sending when they see an end.
    pub fn into_incoming(self) -> Incoming {
        match self.link {
            Link::Bytes(bytes) => {
                let ByteStream { reader, writer } = bytes.polled(self.poll_for);
                Incoming::bytes(Held::new(reader, writer), self.framing, self.pace)
            }
            Link::Packets(socket) => {
                let (sender, receiver) = socket.into_split();
                Incoming::new(Packets::new(receiver, Some(sender), self.shared))
            }
            Link::Pair(ends) => {
                let (outgoing, incoming) = *ends;
                Incoming::new(Conversation::new(incoming).holding(outgoing))
            }
        }
    }

    /// The bytes before any framing.
    ///
    /// # Errors
    ///
    /// The connection itself where its mechanism has messages and no bytes (`unixpacket:`, a pair of
    /// one-way endpoints).
    #[expect(
        clippy::result_large_err,
        reason = "the connection is given back, not described"
    )]
    pub fn into_bytes(self) -> Result<ByteStream, Self> {
        match self.link {
            Link::Bytes(bytes) => Ok(bytes.polled(self.poll_for)),
            link => Err(Self { link, ..self }),
        }
    }
}

impl Debug for Connection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer)
            .field("framing", &self.framing)
            .finish_non_exhaustive()
    }
}
