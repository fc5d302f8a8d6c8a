use std::fmt::{self, Debug, Formatter};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use sync_wrapper::SyncWrapper;
use tokio::io::{AsyncRead, AsyncWrite, duplex};

use super::attached::Attached;
use super::byte_stream::{ByteStream, Held};
use super::half::Half;
use super::link::{Fate, Link};
use super::send_only::{Rest, SendOnly};
use super::{MessageReceiver, MessageSender, Peer};
use crate::channel::Channel;
use crate::codec::Codec;
use crate::frame::{BoxFrameSink, BoxFrameStream, FramedWrite, Framing, Pace};
use crate::io::hangup::hung_up;

/// A two-way connection.
///
/// [`Options::connect`](super::Options::connect) returns one, and a [`Listener`](super::Listener)
/// is a stream of them. [`Options::connect_pair`](super::Options::connect_pair) makes one of two
/// one-way ends. A connection turns into one of:
///
/// | call | result |
/// |---|---|
/// | [`channel`](Self::channel) | a typed [`Channel`] |
/// | [`into_split`](Self::into_split) | both directions as messages |
/// | [`into_frames`](Self::into_frames) | both directions as a stream and a sink of frames |
/// | [`into_sender`](Self::into_sender), [`into_receiver`](Self::into_receiver) | one direction; the other is handled |
/// | [`into_bytes`](Self::into_bytes) | `AsyncRead` and `AsyncWrite`, for a custom protocol |
///
/// Dropping the sending half ends that direction: the peer receives what was flushed, then the end
/// of stream. Dropping only the receiving half does not tell the peer, which blocks once the
/// buffers are full.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::codec::Text;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cat: Endpoint = "exec:cat".parse()?;
/// let connection = cat.connect().await?;
/// println!("connected to {}", connection.peer());
/// let mut cat = connection.channel::<String, String>(Text);
/// assert_eq!(cat.call("meow".into()).await?, "meow");
/// # Ok(()) }
/// ```
#[must_use = "dropping it ends the connection"]
pub struct Connection {
    body: Body,
    framing: Framing,
    pace: Pace,
    peer: Peer,
    attached: Attached,
    /// Whether incoming data may be discarded by a send-only end. Standard input may not.
    discards: bool,
    /// The limit of latency mode, for the receiving direction.
    poll_for: Duration,
    /// Bytes that were read before.
    read: BytesMut,
}

enum Body {
    Bytes(SyncWrapper<ByteStream>),
    Messages(Box<dyn MessageLink>),
}

/// A two-way mechanism that keeps message boundaries.
pub(crate) trait MessageLink: Send + Sync {
    /// The largest message that can be sent, if the mechanism has a limit.
    fn max_message(&self) -> Option<usize>;

    /// Duplicates the descriptor of a socket.
    fn duplicate(&self) -> Option<OwnedFd> {
        None
    }

    /// Splits it into both directions.
    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver);

    /// Returns the receiving direction. The other one stays open until this one has ended.
    fn into_receiver(self: Box<Self>) -> MessageReceiver;

    /// Returns only the sending direction.
    fn into_sender(self: Box<Self>) -> MessageSender {
        let lingers = self.lingers();
        let (sender, receiver) = self.split();
        let rest = Rest::Messages(Box::new(receiver));
        let only = SendOnly::new(sender.into_frames(), rest);
        MessageSender::frames(if lingers { only.lingering() } else { only })
    }

    /// Returns both directions, for an end that reconnects.
    fn into_link(self: Box<Self>) -> Link {
        let (sender, receiver) = self.split();
        Link::frames(sender, receiver)
    }

    /// Whether the peer may still have to be told of the end after everything was sent.
    fn lingers(&self) -> bool {
        false
    }
}

impl Connection {
    pub(crate) fn bytes(bytes: ByteStream, framing: Framing, pace: Pace, peer: Peer) -> Self {
        Self::new(Body::Bytes(SyncWrapper::new(bytes)), framing, pace, peer)
    }

    pub(crate) fn messages(link: impl MessageLink + 'static, framing: Framing, peer: Peer) -> Self {
        Self::new(
            Body::Messages(Box::new(link)),
            framing,
            Pace::default(),
            peer,
        )
    }

    fn new(body: Body, framing: Framing, pace: Pace, peer: Peer) -> Self {
        Self {
            body,
            framing,
            pace,
            peer,
            attached: Attached::default(),
            discards: true,
            poll_for: Duration::ZERO,
            read: BytesMut::new(),
        }
    }

    pub(crate) fn framing(&self) -> &Framing {
        &self.framing
    }

    /// Returns its halves, if they are of these types and nothing was read from them.
    #[expect(
        clippy::result_large_err,
        reason = "the connection is given back, not described"
    )]
    pub(crate) fn into_halves<R: Half, W: 'static>(mut self) -> Result<(R, W), Self> {
        let fits = match &mut self.body {
            Body::Bytes(bytes) => bytes.get_mut().consists_of::<R, W>(),
            Body::Messages(_) => false,
        };
        if !fits || !self.read.is_empty() {
            return Err(self);
        }
        let halves = self.take_bytes().and_then(|bytes| {
            let bytes = bytes.polled(self.poll_for);
            bytes.typed_halves()
        });
        halves.ok_or(self)
    }

    /// Takes the bytes out, if it has any. They must be [put back](Self::put_bytes).
    pub(crate) fn take_bytes(&mut self) -> Option<ByteStream> {
        let Body::Bytes(bytes) = &mut self.body else {
            return None;
        };
        let none = ByteStream::join(tokio::io::empty(), tokio::io::sink());
        Some(std::mem::replace(bytes.get_mut(), none))
    }

    /// Puts the bytes back, of which `read` was read.
    pub(crate) fn put_bytes(&mut self, bytes: ByteStream, read: BytesMut, max_frame: usize) {
        self.body = Body::Bytes(SyncWrapper::new(bytes));
        self.read = read;
        self.framing = self.framing.clone().max_frame(max_frame);
    }

    /// Returns what its mechanism has attached.
    pub(crate) fn attached(&mut self) -> &mut Attached {
        &mut self.attached
    }

    /// Receives in latency mode, if the limit says so.
    pub(crate) fn polled(mut self, limit: Duration) -> Self {
        self.poll_for = limit;
        self
    }

    pub(crate) fn never_discarding(mut self) -> Self {
        self.discards = false;
        self
    }

    /// Creates two connections to each other within this process, for tests.
    ///
    /// The frames have a length header and travel in memory, 64 KiB in each direction. No runtime
    /// is needed.
    ///
    /// # Examples
    ///
    /// A test of a service's handler:
    ///
    /// ```
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    ///
    /// async fn shout(client: Connection) -> Result<(), aqueduct::Error> {
    ///     let mut client = client.channel::<String, String>(Text);
    ///     while let Some(request) = client.recv().await {
    ///         client.send(request?.to_uppercase()).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = Connection::pair();
    /// let service = tokio::spawn(shout(there));
    /// let mut client = here.channel::<String, String>(Text);
    /// assert_eq!(client.call("hello".into()).await?, "HELLO");
    /// client.close().await?;
    /// service.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pair() -> (Self, Self) {
        // One stream per direction, so that dropping the writer is the end of stream.
        let ((to_there, from_here), (to_here, from_there)) = (duplex(PAIR), duplex(PAIR));
        let connection = |reader, writer| {
            let bytes = ByteStream::join(reader, writer);
            Self::bytes(bytes, Framing::length(), Pace::default(), Peer::Unknown)
        };
        (
            connection(from_there, to_there),
            connection(from_here, to_here),
        )
    }

    /// Creates a connection over a byte stream, such as one end of a TLS session.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    /// use aqueduct::frame::Framing;
    /// use tokio::net::UnixStream;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = UnixStream::pair()?;
    /// let mut client = Connection::from_io(here, Framing::lines()).channel::<String, String>(Text);
    /// let mut server = Connection::from_io(there, Framing::lines()).channel::<String, String>(Text);
    /// client.send("hello".into()).await?;
    /// assert_eq!(server.recv().await.transpose()?.as_deref(), Some("hello"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_io(io: impl AsyncRead + AsyncWrite + Send + 'static, framing: Framing) -> Self {
        let (reader, writer) = tokio::io::split(io);
        let bytes = ByteStream::join(reader, writer);
        Self::bytes(bytes, framing, Pace::default(), Peer::Unknown)
    }

    /// Creates a connection over a sink and a stream that keep message boundaries.
    ///
    /// `max_message` is the largest message that can be sent, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::codec::Text;
    /// use aqueduct::connect::Connection;
    /// use bytes::Bytes;
    /// use futures_util::SinkExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (tx, rx) = futures_channel();
    /// let echo = Connection::from_frames(tx, rx, 1024);
    /// let mut echo = echo.channel::<String, String>(Text);
    /// echo.send("hello".into()).await?;
    /// assert_eq!(echo.recv().await.transpose()?.as_deref(), Some("hello"));
    /// # Ok(())
    /// # }
    /// # fn futures_channel() -> (
    /// #     impl futures_util::Sink<Bytes, Error = std::io::Error> + Send + Unpin,
    /// #     impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
    /// # ) {
    /// #     let (tx, mut rx) = tokio::sync::mpsc::channel(8);
    /// #     let tx = tokio_util::sync::PollSender::new(tx).sink_map_err(std::io::Error::other);
    /// #     let rx = futures_util::stream::poll_fn(move |cx| rx.poll_recv(cx).map(|it| it.map(Ok)));
    /// #     (tx, rx)
    /// # }
    /// ```
    pub fn from_frames(
        sink: impl Sink<Bytes, Error = io::Error> + Send + Unpin + 'static,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
        max_message: usize,
    ) -> Self {
        let frames = Frames {
            sink: MessageSender::frames(sink),
            stream: MessageReceiver::frames(stream),
            max_message,
        };
        Self::messages(
            frames,
            Framing::length().max_frame(max_message),
            Peer::Unknown,
        )
    }

    /// Receives as one of many clients.
    ///
    /// Unless the framing says otherwise, it drops an unfinished message of a killed client and
    /// skips a message over the limit.
    pub(crate) fn collecting(mut self) -> Self {
        self.framing = self.framing.collecting();
        self
    }

    /// Returns who is at the other end, as far as the mechanism knows.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits until both directions have ended.
    ///
    /// The peer has then closed the connection or was killed, or each side has ended its own direction.
    /// The end of the receiving direction alone does not show whether the peer still receives. Over
    /// TCP a peer that closes looks like one that ends only its own direction. The difference shows
    /// once this side ends its direction or sends something, which a closed peer answers with a
    /// reset.
    ///
    /// The future never completes without a socket (`exec:`, `stdio:`), for datagram sockets and inherited
    /// descriptors, and if no file descriptor is free to watch with. Until it is dropped it keeps the socket open. Poll
    /// it inside a Tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::connect::Options;
    /// use futures_util::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let address = format!("unix:{}", dir.path().join("app.sock").display()).parse()?;
    /// let mut listener = Options::new().bind(&address).await?;
    /// let mut client = Options::new().connect(&address).await?;
    /// let server = listener.accept().await.transpose()?;
    ///
    /// let closed = client.closed();
    /// let (_outgoing, mut incoming) = client.into_split();
    /// drop(server);
    /// assert!(incoming.next().await.is_none()); // nothing more arrives
    /// closed.await; // and no one receives what would be sent
    /// # Ok(())
    /// # }
    /// ```
    pub fn closed(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let socket = match &mut self.body {
            Body::Bytes(bytes) => bytes.get_mut().duplicate(),
            Body::Messages(link) => link.duplicate(),
        };
        async move {
            match socket {
                Some(socket) => hung_up(socket).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns the largest message that can be sent, in bytes.
    pub fn max_message(&self) -> usize {
        match &self.body {
            Body::Bytes(_) => None,
            Body::Messages(link) => link.max_message(),
        }
        .unwrap_or_else(|| self.framing.get_max_frame())
    }

    /// Whether a message may hold any bytes.
    pub(crate) fn carries_any_bytes(&self) -> bool {
        let whole = |link: &dyn MessageLink| link.max_message().is_some();
        match &self.body {
            Body::Bytes(_) => self.framing.carries_any_bytes(),
            Body::Messages(link) => whole(&**link) || self.framing.carries_any_bytes(),
        }
    }

    /// Splits the connection into both directions, as messages.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::connect::Connection;
    /// use futures_util::{SinkExt, StreamExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (here, there) = Connection::pair();
    /// let (mut sender, _receiver) = here.into_split();
    /// let (_sender, mut receiver) = there.into_split();
    /// sender.send("hello".into()).await?;
    /// let message = receiver.next().await.ok_or("end of stream")??;
    /// assert_eq!(message.body(), "hello");
    /// # Ok(()) }
    /// ```
    pub fn into_split(self) -> (MessageSender, MessageReceiver) {
        match self.body {
            Body::Bytes(bytes) => {
                let (reader, writer) = bytes.into_inner().polled(self.poll_for).halves();
                let frames =
                    FramedWrite::new(writer, self.framing.clone()).with_pace(self.pace.clone());
                let (read, framing) = (self.read, self.framing);
                let incoming = MessageReceiver::bytes_behind(read, reader, framing, self.pace);
                (MessageSender::bytes(frames), incoming)
            }
            Body::Messages(link) => link.split(),
        }
    }

    /// Splits the connection into a sink and a stream of frames.
    pub fn into_frames(self) -> (BoxFrameSink, BoxFrameStream) {
        let (outgoing, incoming) = self.into_split();
        (outgoing.into_frames(), incoming.into_frames())
    }

    /// Creates a typed channel that sends `Out` and receives `In`.
    pub fn channel<Out, In>(
        self,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> Channel<Out, In> {
        let (outgoing, incoming) = self.into_split();
        Channel::new(outgoing.typed(codec.clone()), incoming.typed(codec))
    }

    /// Returns only the sending direction.
    ///
    /// Data from the peer is discarded while this end is used, so a peer that talks back never
    /// blocks. Standard input and terminals are not read at all.
    ///
    /// Closing flushes and ends the direction. If the peer has sent anything, closing also waits
    /// for its end of stream, for one second at most: closing a socket with unread input discards
    /// data still on its way to the peer.
    pub fn into_sender(self) -> MessageSender {
        match self.body {
            Body::Bytes(bytes) => {
                let (reader, writer) = bytes.into_inner().halves();
                let frames = FramedWrite::new(writer, self.framing).with_pace(self.pace);
                if self.discards {
                    MessageSender::bytes(SendOnly::new(frames, Rest::Bytes(reader)))
                } else {
                    MessageSender::bytes(frames)
                }
            }
            Body::Messages(link) => link.into_sender(),
        }
    }

    /// Returns the parts of an end that reconnects. `wanted`: the receiving direction is used.
    pub(super) fn into_link(self, wanted: bool) -> Link {
        let fate = match self.peer {
            Peer::Process(_) => Fate::Readable,
            Peer::Address(_) | Peer::Certified { .. } => Fate::Arrival,
            _ => Fate::Unknown,
        };
        let (framing, pace, read) = (self.framing, self.pace, self.read);
        match self.body {
            Body::Bytes(bytes) if wanted => {
                let (reader, writer) = bytes.into_inner().polled(self.poll_for).halves();
                let (framed, paced) = (framing.clone(), pace.clone());
                let incoming = MessageReceiver::bytes_behind(read, reader, framed, paced);
                Link::two_way(writer, incoming, framing, pace).with_fate(fate)
            }
            Body::Bytes(bytes) => {
                let (reader, writer) = bytes.into_inner().halves();
                Link::bytes(writer, reader, framing, pace).with_fate(fate)
            }
            Body::Messages(link) if wanted => link.into_link(),
            Body::Messages(link) => link.into_link().refuse(),
        }
    }

    /// Returns only the receiving direction.
    ///
    /// The other direction stays open, without sending, until the peer has ended its own: some
    /// programs stop sending when they see the end of their input.
    pub fn into_receiver(self) -> MessageReceiver {
        match self.body {
            Body::Bytes(bytes) => {
                let (reader, writer) = bytes.into_inner().polled(self.poll_for).halves();
                let held = Held::new(reader, writer);
                MessageReceiver::bytes_behind(self.read, held, self.framing, self.pace)
            }
            Body::Messages(link) => link.into_receiver(),
        }
    }

    /// Returns the bytes before any framing.
    ///
    /// # Errors
    ///
    /// Returns the connection itself if its mechanism has messages and no bytes (`unixpacket:`, a
    /// pair of one-way endpoints).
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sort: Endpoint = "exec:sort".parse()?;
    /// let mut sort = sort.connect().await?.into_bytes().map_err(|_| "not a byte stream")?;
    /// sort.write_all(b"2\n1\n").await?;
    /// sort.shutdown().await?;
    /// let mut sorted = String::new();
    /// sort.read_to_string(&mut sorted).await?;
    /// assert_eq!(sorted, "1\n2\n");
    /// # Ok(()) }
    /// ```
    #[expect(
        clippy::result_large_err,
        reason = "the connection is given back, not described"
    )]
    pub fn into_bytes(self) -> Result<ByteStream, Self> {
        match self.body {
            Body::Bytes(bytes) => Ok(bytes.into_inner().polled(self.poll_for).behind(self.read)),
            body => Err(Self { body, ..self }),
        }
    }
}

/// How many bytes each direction of a pair holds.
const PAIR: usize = 64 * 1024;

/// A sink and a stream of frames.
struct Frames {
    sink: MessageSender,
    stream: MessageReceiver,
    max_message: usize,
}

impl MessageLink for Frames {
    fn max_message(&self) -> Option<usize> {
        Some(self.max_message)
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        (self.sink, self.stream)
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        self.stream.holding(self.sink)
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
