//! From an [`Endpoint`] to its ends: whatever the address names, messages come in and go out.
//!
//! # Which call
//!
//! A two-way mechanism is *connected* by one side and *bound* by the other; of a one-way mechanism
//! one side opens the *sender* and the other the *receiver*. Two-way endpoints have these two calls
//! as well, for who needs one direction alone.
//!
//! | endpoint | [`connect`] | [`bind`] | [`open_sender`] | [`open_receiver`] |
//! |---|---|---|---|---|
//! | `fifo:` | | | waits for a reader | makes the FIFO |
//! | `mq:` | | | makes the queue | makes the queue |
//! | `unix:` `unixpacket:` `tcp:` | waits for a server | a [`Listener`] | connects | binds: all clients at once |
//! | `exec:` | starts the program, over its input and output | one connection, as `connect` | starts it, over its input | starts it, over its output |
//! | `stdio:` | standard input and output | one connection, as `connect` | standard output | standard input |
//! | `fd:` stream or packet socket | yes | one connection, as `connect` | yes | yes |
//! | `fd:` listening socket | | a [`Listener`] | | all clients at once |
//! | `fd:` pipe, FIFO, queue, file | | | if open for writing | if open for reading |
//! | `fd:` terminal, device | if open for both | one connection, as `connect` | if open for writing | if open for reading |
//!
//! An empty cell is [`Unsupported`](OpenErrorKind::Unsupported), which says why, before anything happens: a mechanism
//! whose [direction](crate::endpoint::Capabilities::direction) is one-way cannot be connected. Two
//! one-way endpoints, such as two queues, are one connection by [`connect_pair`] on one side and
//! [`accept_pairs`] on the other.
//!
//! All calls are on [`Options`]; [`Endpoint`] has them with the default options.
//!
//! # What they give
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
//! A [`Message`] is a frame and what its mechanism tells of it, such as a queue's priority. Who
//! needs frames alone turns an end into one half of the waist with [`MessageReceiver::into_frames`] and
//! [`MessageSender::into_frames`].
//!
//! # Who starts first
//!
//! Either side may. A sender waits for the reader of a FIFO, and whoever connects for the server,
//! for as long as [`Options::wait`] says: by default for ever. A queue needs nobody.
//!
//! # End, and the peer's death
//!
//! - The receiving end of a FIFO ends when the last sender has gone (`?persist=true`: never); a
//!   queue never ends, but as one direction of a pair; a connection ends when the peer has closed its sending half, or has died.
//! - [`MessageSender`]'s `close` writes what was not written and ends that direction. So does dropping
//!   it, but for what was not written.
//! - A program in `exec:` ends its direction when it closes its output or has exited: a process
//!   that it leaves behind does not hold up the end for longer than 1 s. Its exit status comes from the
//!   [`Child`](crate::child::Child) that [`Connection::take_child`] gives.
//!
//! # Inherited descriptors
//!
//! `fd:N` finds out by `fstat(2)` and `fcntl(2)` what descriptor N is. From 3 on it has to be claimed
//! by the program, [`inherited::claim`](crate::inherited::claim), or to be
//! [offered](crate::inherited::offer), and is taken over: closed when the end is dropped, closed on
//! `exec`, and not there for a second time. 0 to 2 belong to `std::io`, and are shared, any number of
//! times. Everything else that the program has open is out of reach.
//!
//! The blocking mode, which a descriptor shares with other processes that have the same open file, is
//! left as it is: a pipe or a queue is opened once more through `/proc`, a connected socket is
//! used by calls that do not depend on it, a terminal or file gets a thread. Listening sockets
//! are made non-blocking, since `accept(2)` depends on it.
//!
//! A receiver that is [limited](MessageReceiver::limit) or [stopped](MessageReceiver::stop) leaves what
//! follows to the next reader of the same open file, to the byte.
//!
//! # Socket activation
//!
//! [`bind`] of a `unix:`, `unixpacket:` or `tcp:` endpoint takes a socket that a service manager
//! has bound already, by the protocol of `sd_listen_fds(3)`:
//!
//! - The program has to call [`inherited::claim`](crate::inherited::claim) first thing in `main`.
//! - `LISTEN_PID` has to be this process. Then the `LISTEN_FDS` descriptors from number 3 on are
//!   looked at, in order, and the first one is taken that is a listening socket of the right type
//!   whose own address is exactly the endpoint's. A path has to be the same bytes; a host name in
//!   `tcp:` stands for all its addresses, `0.0.0.0` for itself alone (`ListenStream=80` binds
//!   `[::]:80`), and port 0 for none. If there is none, the endpoint is bound as usual.
//! - [`Listener::activation_name`] is its name in `LISTEN_FDNAMES`. To take a socket by number,
//!   whatever its address, bind `fd:3`.
//! - Nothing is removed from the file system when such a listener is dropped: the socket is the
//!   manager's. The address options `mode` and `nodelay` have no effect on it.
//! - The variables stay set: no program with more than one thread can remove one soundly
//!   (`setenv(3)`). Nothing follows from it. Each socket is taken once, taken ones are closed on
//!   `exec`, and `LISTEN_PID` keeps other processes from believing the rest.
//!
//! Opening needs a Tokio runtime with its I/O driver enabled. Its timer is not needed.
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
mod byte_stream;
mod clients;
mod connection;
mod cut;
mod endpoint;
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
mod receiver;
mod reconnect;
mod send_only;
mod sender;
mod verbs;

pub(crate) use self::accept::{Accept, Bound};
pub use self::byte_stream::ByteStream;
pub use self::connection::Connection;
pub(crate) use self::connection::MessageLink;
pub(crate) use self::endpoint::{Asked, Mechanism, Opening, Served};
pub use self::endpoint::{Endpoint, Scheme};
pub(crate) use self::half::{BoxHalf, Half, Rest, Shared};
pub(crate) use self::link::{Link, MessageSink};
pub use self::listener::Listener;
pub use self::message::Message;
pub use self::open_error::{OpenError, OpenErrorKind};
pub use self::options::Options;
pub use self::peer::{Credentials, Peer};
pub(crate) use self::place::{End, Place};
pub use self::prioritized::Prioritized;
pub use self::receiver::MessageReceiver;
pub(crate) use self::receiver::{Frames, Inlet};
pub use self::reconnect::{GaveUp, Reconnect, ReconnectEvent};
pub use self::sender::MessageSender;
