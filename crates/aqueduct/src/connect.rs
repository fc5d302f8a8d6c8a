//! Opens an [`Endpoint`]: messages in and out of any address.
//!
//! # Which call
//!
//! One side *connects* to a two-way mechanism and the other *binds* it. Of a one-way mechanism, one
//! side opens the *sender* and the other the *receiver*. Two-way endpoints have these two calls as
//! well, for callers that need only one direction.
//!
//! | endpoint | [`connect`] | [`bind`] | [`open_sender`] | [`open_receiver`] |
//! |---|---|---|---|---|
//! | `fifo:` | | | waits for a reader | creates the FIFO |
//! | `mq:` | | | creates the queue | creates the queue |
//! | `nats:` (feature `nats`) | | | waits for the server | waits for the server |
//! | `unix:` `unixpacket:` `tcp:` `tls:` | waits for a server | a [`Listener`] | connects | binds: all clients at once |
//! | `unixgram:` `udp:` | connects a socket, which also gets replies | a [`Listener`]: each datagram is a connection | connects | binds: all senders at once |
//! | `exec:` | starts the program, over its input and output | one connection, as `connect` | starts it, over its input | starts it, over its output |
//! | `stdio:` | standard input and output | one connection, as `connect` | standard output | standard input |
//! | `fd:` stream or packet socket | yes | one connection, as `connect` | yes | yes |
//! | `fd:` listening socket | | a [`Listener`] | | all clients at once |
//! | `fd:` pipe, FIFO, queue, file | | | if open for writing | if open for reading |
//! | `fd:` terminal, device | if open for both | one connection, as `connect` | if open for writing | if open for reading |
//!
//! An empty cell returns [`Unsupported`](OpenErrorKind::Unsupported) with a reason, and does
//! nothing. [`Capabilities::direction`](crate::endpoint::Capabilities::direction) can be checked
//! beforehand. [`connect_pair`] and [`accept_pairs`] join two one-way endpoints, such as two
//! queues, into one connection.
//!
//! [`Options`] has all calls. [`Endpoint`] has them with the default options.
//!
//! # Results
//!
//! ```text
//!  connect        ──>  Connection ──┬── channel(codec)  ──>  Channel<Out, In>
//!  bind           ──>  Listener: Stream<Item = io::Result<Connection>>
//!                                   ├── into_split()    ──>  (MessageSender, MessageReceiver)
//!                                   └── into_bytes()    ──>  AsyncRead + AsyncWrite
//!  open_sender    ──>  MessageSender:   Sink<Message, Error = io::Error>      ── typed(codec) ──>  Sender<T>
//!  open_receiver  ──>  MessageReceiver: Stream<Item = io::Result<Message>>      ── typed(codec) ──>  Receiver<T>
//! ```
//!
//! A [`Message`] is a frame with what its mechanism adds, such as the priority of a queue.
//! [`MessageReceiver::into_frames`] and [`MessageSender::into_frames`] turn an end into a plain
//! stream or sink of frames.
//!
//! # Which side starts first
//!
//! Either side may start first. A sender waits for the reader of a FIFO and a client waits for its
//! server, for as long as [`Options::wait`] says. The default is no limit. A queue needs no peer, and
//! `udp:` cannot tell whether there is one.
//!
//! # End of stream
//!
//! - The receiver of a FIFO ends when the last sender has closed it (with `?persist=true`, never).
//!   A queue has no end, except as one direction of a pair. A connection ends when the peer closes
//!   its sending half or dies. Datagrams have no end.
//! - Closing a [`MessageSender`] flushes it and ends that direction. Dropping it also ends the
//!   direction but discards unflushed messages.
//! - A program in `exec:` ends its direction when it closes its output or exits. A process that it
//!   leaves behind delays the end by 1 s at most. [`Connection::take_child`] gives the
//!   [`Child`](crate::child::Child) with the exit status.
//!
//! # Datagrams
//!
//! Each datagram of `unixgram:` and `udp:` is a message. Datagram sockets accept no connections, so a
//! [`Listener`] turns each datagram into a [`Connection`] that receives this one message; messages
//! sent on it go to the sender of the datagram. [`open_receiver`] and [`Listener::into_receiver`]
//! return the datagrams of all senders as one stream, and [`Message::peer`] names the sender of each.
//!
//! A sender whose socket is not bound, such as `logger`, cannot be answered: sending a reply fails
//! with [`NotConnected`](std::io::ErrorKind::NotConnected). [`connect`] binds its socket to a name
//! that the kernel chooses. A `udp:` socket that is bound to `0.0.0.0` or `[::]` replies from the
//! address that the kernel chooses for the route; on a host with several addresses bind a single one.
//!
//! A datagram larger than the framing's [limit](crate::frame::Framing::max_frame) is an error that
//! names both sizes, and the stream goes on. [`Framing::too_long`](crate::frame::Framing::too_long)
//! can skip or truncate it instead.
//!
//! # Inherited descriptors
//!
//! `fd:N` finds out by `fstat(2)` and `fcntl(2)` what file descriptor N is. Numbers from 3 on must
//! be claimed by the program ([`inherited::claim`](crate::inherited::claim)) or
//! [offered](crate::inherited::offer). Opening takes the descriptor over: it is closed with the
//! end, closed on `exec`, and cannot be opened twice. Numbers 0 to 2 belong to `std::io` and are
//! shared any number of times. No address reaches any other descriptor of the program.
//!
//! The blocking mode stays unchanged, because all processes that share an open file share it. A
//! pipe or queue is opened again through `/proc`, a connected socket is used with calls that do not
//! depend on the mode, and a terminal or file gets a thread. Listening sockets become non-blocking,
//! because `accept(2)` depends on the mode.
//!
//! A receiver that is [limited](MessageReceiver::limit) or [stopped](MessageReceiver::stop) leaves
//! everything after its last message to the next reader of the same open file, to the byte.
//!
//! # Socket activation
//!
//! [`bind`] of a `unix:`, `unixpacket:`, `unixgram:`, `tcp:` or `udp:` endpoint takes a socket that a
//! service manager has already bound, by the protocol of `sd_listen_fds(3)`:
//!
//! - The program must call [`inherited::claim`](crate::inherited::claim) first thing in `main`.
//! - `LISTEN_PID` must be this process. `bind` then looks at the `LISTEN_FDS` descriptors from
//!   number 3 on, in order. It takes the first socket of the right type whose own address
//!   equals the endpoint's. A path must be the same bytes. A host name in `tcp:` stands for all its
//!   addresses. `0.0.0.0` stands for itself only (`ListenStream=80` binds `[::]:80`), and port 0
//!   never matches. Without a match the endpoint is bound as usual.
//! - [`Listener::activation_name`] is the name in `LISTEN_FDNAMES`. To take a socket by number,
//!   whatever its address, bind `fd:3`.
//! - The socket belongs to the manager: dropping the listener removes nothing from the file system,
//!   and the address options `mode` and `nodelay` have no effect.
//! - The variables stay set, because a program with several threads cannot remove one soundly
//!   (`setenv(3)`). This is harmless: each socket is taken once, taken sockets are closed on
//!   `exec`, and `LISTEN_PID` keeps other processes from using the rest.
//!
//! Opening needs a Tokio runtime; in one without its I/O driver it panics, as `tokio::net` does.
//! Queues need a runtime only to wait. The timer is not needed.
//!
//! # Examples
//!
//! One-way:
//!
//! ```
//! use aqueduct::{Endpoint, connect::Options, frame::Framing};
//! use futures_util::{SinkExt, StreamExt};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let jobs: Endpoint = format!("fifo:{}/jobs", dir.path().display()).parse()?;
//! # let _ = r#"
//! let jobs: Endpoint = "fifo:/run/app/jobs".parse()?;
//! # "#;
//! let mut options = Options::new();
//! options.framing(Framing::lines());
//! let mut incoming = options.open_receiver(&jobs).await?;
//! let mut outgoing = options.open_sender(&jobs).await?;
//!
//! outgoing.send("sort the attic".into()).await?;
//! outgoing.close().await?;
//! let message = incoming.next().await.ok_or("no message came")??;
//! assert_eq!(message.body(), "sort the attic");
//! # Ok(()) }
//! ```
//!
//! Two-way and typed:
//!
//! ```
//! use aqueduct::Endpoint;
//! use aqueduct::codec::Text;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut listener = "tcp://127.0.0.1:0".parse::<Endpoint>()?.bind().await?;
//! let address = listener.local_endpoint().clone();
//! let server = tokio::spawn(async move {
//!     let connection = listener.accept().await.ok_or("no connection")??;
//!     let mut client = connection.channel::<String, String>(Text);
//!     while let Some(request) = client.recv().await {
//!         client.send(request?.to_uppercase()).await?;
//!     }
//!     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
//! });
//!
//! let mut client = address.connect().await?.channel::<String, String>(Text);
//! client.send("hello".into()).await?;
//! assert_eq!(client.recv().await.transpose()?, Some("HELLO".into()));
//! client.close().await?;
//! # server.await?.map_err(|e| e.to_string())?;
//! # Ok(()) }
//! ```
//!
//! [`connect`]: Options::connect
//! [`bind`]: Options::bind
//! [`connect_pair`]: Options::connect_pair
//! [`accept_pairs`]: Options::accept_pairs
//! [`open_sender`]: Options::open_sender
//! [`open_receiver`]: Options::open_receiver

mod accept;
pub(crate) mod activation;
mod attached;
mod attempt;
mod beside;
mod byte_stream;
mod clients;
mod connection;
mod cut;
mod datagram;
mod deliveries;
mod endpoint;
mod finding;
pub(crate) mod group;
mod half;
mod lasting;
mod link;
mod listener;
mod message;
mod open_error;
mod options;
mod pair;
mod peer;
mod place;
mod prioritized;
mod receipt;
mod receiver;
mod reconnect;
mod send_only;
mod sender;
pub(crate) mod timeouts;
mod verbs;

pub(crate) use self::accept::{Accept, Bound};
pub(crate) use self::attempt::{Attempt, Meaning};
pub use self::byte_stream::ByteStream;
pub(crate) use self::byte_stream::SocketHalf;
pub(crate) use self::clients::Warnings;
pub use self::connection::Connection;
pub(crate) use self::connection::MessageLink;
pub(crate) use self::datagram::{
    Accepting as AcceptingDatagrams, BoundPath, BoundSocket, Datagrams,
};
pub use self::deliveries::Delivery;
pub(crate) use self::endpoint::{Asked, Mechanism, Opening, Served};
pub use self::endpoint::{Endpoint, Scheme};
pub use self::finding::{Finding, Grade};
pub(crate) use self::half::{BoxHalf, Half, Rest, Shared};
pub(crate) use self::link::{Link, MessageSink};
pub use self::listener::Listener;
pub use self::message::Message;
pub use self::open_error::{OpenError, OpenErrorKind};
pub use self::options::Options;
pub use self::peer::{Credentials, Peer};
pub(crate) use self::place::{End, Place};
pub use self::prioritized::Prioritized;
pub use self::receipt::Receipt;
pub use self::receiver::MessageReceiver;
pub(crate) use self::receiver::{Frames, Inlet};
pub use self::reconnect::{GaveUp, Reconnect, ReconnectEvent};
pub use self::sender::MessageSender;
