use std::time::Duration;

use super::reconnect::Reconnect;
use super::timeouts::Timeouts;
use crate::frame::Framing;

/// Options for opening the ends of an endpoint.
///
/// Options in the address take precedence.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Options;
/// use aqueduct::frame::Framing;
/// use aqueduct::{Endpoint, OpenErrorKind};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let jobs: Endpoint = format!("fifo:{}/jobs", dir.path().display()).parse()?;
/// # let _ = r#"
/// let jobs: Endpoint = "fifo:/run/app/jobs".parse()?;
/// # "#;
/// let mut options = Options::new();
/// options.framing(Framing::lines()).create(false).wait(Duration::from_secs(5));
/// let error = options.open_receiver(&jobs).await.unwrap_err();
/// assert_eq!(error.kind(), &OpenErrorKind::NotFound);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until something is opened with them"]
pub struct Options {
    pub(crate) framing: Framing,
    /// Whether the framing was set.
    pub(super) is_framed: bool,
    /// Whether the address has a framing too.
    pub(crate) is_addressed: bool,
    pub(crate) create: bool,
    pub(crate) persist: bool,
    pub(crate) wait: Option<Duration>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(super) clients: ClientLimits,
    pub(crate) poll_for: Duration,
    pub(crate) watch_name: Option<Duration>,
    pub(crate) sole_reader: bool,
    pub(crate) allow_foreign_owner: bool,
    /// Whether the end is one direction of a [pair](super::pair).
    pub(crate) paired: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Creates the default options.
    ///
    /// Frames have a length header and at most 1 MiB. A missing FIFO or queue is created. Waiting
    /// for a peer has no limit.
    pub fn new() -> Self {
        Self {
            framing: Framing::length(),
            is_framed: false,
            is_addressed: false,
            create: true,
            persist: false,
            wait: None,
            reconnect: None,
            clients: ClientLimits::default(),
            poll_for: Duration::ZERO,
            watch_name: None,
            sole_reader: false,
            allow_foreign_owner: false,
            paired: false,
        }
    }

    /// Sets how a byte stream is split into messages, and the largest message.
    ///
    /// The default is [`Framing::length`], which carries any bytes. Use [`Framing::lines`] to talk
    /// to programs that read and write lines, including the `aqueduct` command with its default.
    ///
    /// If the address has the option `frame`, that framing is the default, and opening fails with
    /// [`InvalidOption`](super::OpenErrorKind::InvalidOption) if this sets a different one.
    ///
    /// Message-oriented transports ignore the framing. The largest message also applies to
    /// `unixpacket:`, `unixgram:` and `udp:`; a queue has its own limit.
    pub fn framing(&mut self, framing: Framing) -> &mut Self {
        self.framing = framing;
        self.is_framed = true;
        self
    }

    /// Sets whether a missing FIFO or queue is created (on by default).
    ///
    /// The address option `create` takes precedence.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets whether a receiver outlives its senders (off by default).
    ///
    /// The receiver of a FIFO goes on when its last sender has closed it. A Unix socket that loses
    /// its path is bound again (see [`watch_name`](Self::watch_name)). The address option `persist`
    /// takes precedence. Schemes without that option ignore this one.
    ///
    /// If a writer of a FIFO is killed inside a line, the start of that line is prepended to the
    /// next writer's first line: a persistent receiver sees no boundary between writers.
    pub fn persist(&mut self, persist: bool) -> &mut Self {
        self.persist = persist;
        self
    }

    /// Sets how long to wait for the reader of a FIFO or the server of a socket.
    ///
    /// `None`, the default, waits indefinitely. Zero tries once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use aqueduct::{Endpoint, connect::Options};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let nobody: Endpoint = "unix:@nobody-is-here".parse()?;
    /// let limit = Some(Duration::from_millis(10));
    /// assert!(Options::new().wait(limit).connect(&nobody).await.is_err());
    /// # Ok(()) }
    /// ```
    pub fn wait(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.wait = limit.into();
        self
    }

    /// Sets how a connecting end reconnects when its connection breaks or ends.
    ///
    /// `None`, the default, does not reconnect.
    ///
    /// - **Sockets**: applies to [`connect`](Self::connect) and [`open_sender`](Self::open_sender).
    ///   The first connection is made as without this option. A send-only end also leaves a
    ///   connection when its peer ends the other direction, as a receiver that
    ///   [stops](super::MessageReceiver::stop) does. Messages already given to that connection are
    ///   sent first; the next message goes to the next connection.
    /// - **FIFOs**: the sender waits for another reader when the last one has closed
    ///   ([`ReaderGone::Wait`](crate::fifo::ReaderGone::Wait)). Bytes that were written and not
    ///   read stay for the next reader, from where the last one stopped. There are no events.
    /// - **[`open_receiver`](Self::open_receiver)** binds a socket and receives from all clients,
    ///   so it ignores this option. To receive from a server, use `connect` and
    ///   [`Connection::into_receiver`](super::Connection::into_receiver).
    /// - **Queues** have no peer. **Programs and inherited descriptors** cannot be opened again.
    ///   Both ignore this option.
    ///
    /// Each wait for a peer lasts as long as [`Reconnect::give_up_after`] says, otherwise
    /// [`wait`](Self::wait). Then it fails with [`TimedOut`](std::io::ErrorKind::TimedOut).
    ///
    /// Messages arrive in order, whole, and **at most once**. [`Reconnect`] documents what can be
    /// lost, and [`MessageSender::broken_connections`](super::MessageSender::broken_connections)
    /// counts the connections that may have lost messages.
    ///
    /// Closing a send-only end waits until the peer has read everything, which the peer shows by
    /// ending its own direction. The wait is 10 seconds at most.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    /// use aqueduct::connect::{Options, Reconnect};
    /// use futures_util::SinkExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let collector: Endpoint = format!("unix:{}/collector", dir.path().display()).parse()?;
    /// # let _receiver = collector.open_receiver().await?;
    /// # let _ = r#"
    /// let collector: Endpoint = "unix:/run/app/collector".parse()?;
    /// # "#;
    /// let mut options = Options::new();
    /// options.reconnect(Reconnect::new().on_event(|event| eprintln!("{event}")));
    /// let mut sender = options.open_sender(&collector).await?;
    /// sender.send("the collector may restart now".into()).await?;
    /// # Ok(()) }
    /// ```
    pub fn reconnect(&mut self, reconnect: impl Into<Option<Reconnect>>) -> &mut Self {
        self.reconnect = reconnect.into();
        self
    }

    /// Sets how many clients a receiver of a bound socket serves at once.
    ///
    /// At least 1; the default is 1,024. Applies to [`open_receiver`](Self::open_receiver) and
    /// [`Listener::into_receiver`](super::Listener::into_receiver). Stay below the process's limit
    /// on open files (`RLIMIT_NOFILE`).
    ///
    /// When all places are taken, a new client replaces the client that has been silent longest
    /// without ever sending a message. If every client has sent one, the new client waits in the
    /// kernel's backlog until another leaves.
    ///
    /// For a service with a handler per connection, see
    /// [`service::Options::max_connections`](crate::service::Options::max_connections).
    pub fn max_connections(&mut self, connections: usize) -> &mut Self {
        self.clients.connections = connections.max(1);
        self
    }

    /// Sets how long a client of a receiver may take to begin its first message.
    ///
    /// `None`, the default, is no limit. A client that takes longer loses its connection. Data that
    /// it has just sent over TCP may be lost, so do not limit clients that connect early and send
    /// rarely.
    ///
    /// For a service with a handler per connection, see
    /// [`service::Options::first_timeout`](crate::service::Options::first_timeout).
    pub fn first_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.clients.timeouts.first = limit.into();
        self
    }

    /// Sets how long a client of a receiver may take to finish a message.
    ///
    /// The default is 30 s; `None` is no limit. Time in which the program does not ask for the next
    /// message does not count.
    ///
    /// For a service with a handler per connection, see
    /// [`service::Options::message_timeout`](crate::service::Options::message_timeout).
    pub fn message_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.clients.timeouts.message = limit.into();
        self
    }

    /// Sets how long a client of a receiver may be silent between two messages.
    ///
    /// `None`, the default, is no limit.
    ///
    /// For a service with a handler per connection, see
    /// [`service::Options::idle_timeout`](crate::service::Options::idle_timeout).
    pub fn idle_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.clients.timeouts.idle = limit.into();
        self
    }

    /// Sets how long to poll before each wait for a message (latency mode).
    ///
    /// Zero, the default, does not poll, except for a handful of tries on queues.
    /// [`Polled`](crate::Polled) describes when polling pays and what it costs. Applies to pipes,
    /// FIFOs, stream sockets and queues; packet and datagram sockets sleep at once.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.poll_for = limit;
        self
    }

    /// Makes a waiting end notice that its name was removed or replaced.
    ///
    /// The name is that of a queue, a FIFO or a bound socket path. If it is removed or recreated,
    /// later peers would never meet this end. `None`, the default, does not watch.
    ///
    /// The end notices at once where the system reports the change, otherwise within `interval`.
    /// Then:
    ///
    /// - The receiver of a FIFO with `persist=true` opens the FIFO again, and reads the old one too
    ///   while a writer has it open. A sender that [reconnects](Self::reconnect) and waits for a
    ///   reader does the same.
    /// - A Unix socket that was bound with [`persist`](Self::persist) binds its path again.
    ///   Connected clients stay; those of a datagram socket get `EPIPE`.
    /// - Every other end fails with [`Replaced`](super::OpenErrorKind::Replaced), which
    ///   [`OpenError::of`](super::OpenError::of) finds inside the [`io::Error`](std::io::Error).
    ///   The receiver of a FIFO fails when no writer has the old FIFO open any more.
    pub fn watch_name(&mut self, interval: impl Into<Option<Duration>>) -> &mut Self {
        self.watch_name = interval.into();
        self
    }

    /// Sets whether a FIFO may have only one receiver (off by default).
    ///
    /// Two receivers of one FIFO each get parts of the messages, and neither notices. With this
    /// option the second one fails with [`InUse`](super::OpenErrorKind::InUse). A receiver that
    /// [opens the FIFO again](Self::watch_name) is the only one of the new FIFO, or fails. A receiver
    /// of a JetStream consumer keeps the order: messages that an earlier one has not settled come
    /// first, and it waits up to `ack-wait` and 2 s for them. Other mechanisms ignore the option.
    ///
    /// It is a record lock on the FIFO's second byte, held by an additional descriptor and released
    /// with the receiver. It does not keep out receivers without this option, such as those of other
    /// programs.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Endpoint, OpenErrorKind, connect::Options};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let jobs: Endpoint = format!("fifo:{}/jobs", dir.path().display()).parse()?;
    /// let mut options = Options::new();
    /// options.sole_reader(true);
    /// let first = options.open_receiver(&jobs).await?;
    /// let error = options.open_receiver(&jobs).await.unwrap_err();
    /// assert_eq!(error.kind(), &OpenErrorKind::InUse);
    /// drop(first);
    /// options.open_receiver(&jobs).await?;
    /// # Ok(()) }
    /// ```
    pub fn sole_reader(&mut self, sole: bool) -> &mut Self {
        self.sole_reader = sole;
        self
    }

    /// Sets whether to use a FIFO, queue or socket of any user (off by default).
    ///
    /// By default the owner must be this user or root; otherwise another user could plant it to
    /// eavesdrop. A socket that a client connects to may also belong to the owner of a directory
    /// that no other user can write to; see
    /// [`unix::ConnectOptions`](crate::unix::ConnectOptions::allow_foreign_owner).
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }
}

/// Limits for the clients of a receiver of a bound socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    pub(super) connections: usize,
    pub(super) timeouts: Timeouts,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            timeouts: Timeouts {
                message: Some(Duration::from_secs(30)),
                ..Timeouts::NONE
            },
        }
    }
}
