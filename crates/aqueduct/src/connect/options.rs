use std::time::Duration;

use super::reconnect::Reconnect;
use crate::frame::Framing;

/// How to open the ends of an endpoint. What the address itself says goes before.
///
/// # Examples
///
/// See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "options do nothing until something is opened with them"]
pub struct Options {
    pub(crate) framing: Framing,
    pub(crate) create: bool,
    pub(crate) persist: bool,
    pub(crate) wait: Option<Duration>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(super) clients: ClientLimits,
    pub(crate) poll_for: Duration,
    pub(crate) watch_name: Option<Duration>,
    pub(crate) allow_foreign_owner: bool,
    /// Whether what is opened is one direction of a [pair](super::pair).
    pub(crate) paired: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Length framing with frames of at most 1 MiB;
    /// what is missing is created; a peer is waited for without a limit.
    pub fn new() -> Self {
        Self {
            framing: Framing::length(),
            create: true,
            persist: false,
            wait: None,
            reconnect: None,
            clients: ClientLimits::default(),
            poll_for: Duration::ZERO,
            watch_name: None,
            allow_foreign_owner: false,
            paired: false,
        }
    }

    /// Sets how a byte stream is cut into messages, and the largest message.
    ///
    /// The default is [`Framing::length`], which carries any bytes; the command's is lines, and so is
    /// that of many programs: [`Framing::lines`] talks to them.
    ///
    /// Mechanisms that keep boundaries themselves ignore the cut. The largest message holds for
    /// `unixpacket:` too; that of a queue is the queue's own.
    pub fn framing(&mut self, framing: Framing) -> &mut Self {
        self.framing = framing;
        self
    }

    /// Sets whether a FIFO or queue that is missing is created. The address option `create` goes
    /// before.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets whether the receiving end of a FIFO goes on when its last sender has gone, rather than
    /// end, and whether a Unix socket whose path is lost is bound again (see
    /// [`watch_name`](Self::watch_name)). Off by default. The address option `persist` takes
    /// precedence; schemes that have no such option ignore this one.
    ///
    /// A line that a killed writer of a FIFO left unfinished becomes the beginning of the next writer's:
    /// nothing tells a receiver that goes on where the one ended and the other began.
    pub fn persist(&mut self, persist: bool) -> &mut Self {
        self.persist = persist;
        self
    }

    /// Sets how long a peer that has to be there is waited for: the reader of a FIFO, the server
    /// of a socket. `None`, the default: for ever; zero: it is tried once.
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
    pub fn wait(&mut self, limit: Option<Duration>) -> &mut Self {
        self.wait = limit;
        self
    }

    /// Sets whether, and how, an end that connects does so again when its connection breaks or ends.
    /// `None`, the default, does not.
    ///
    /// - On a **socket** it holds for [`connect`](Self::connect) and
    ///   [`open_sender`](Self::open_sender). The first connection is made as without this option. An
    ///   end that only sends leaves a connection also when its peer ends its own direction, as a
    ///   receiver does that [stops](super::MessageReceiver::stop): what was given to the connection is
    ///   sent first, and the next message goes to the next connection.
    /// - The sender of a **FIFO** waits for another reader when the last one has gone
    ///   ([`ReaderGone::Wait`](crate::fifo::ReaderGone::Wait)). What was written and not read is there
    ///   for the next reader, from where the last one has stopped. There are no events.
    /// - [`open_receiver`](Self::open_receiver) binds a socket and receives from all who connect, so
    ///   it needs no such option; use `connect` and
    ///   [`Connection::into_receiver`](super::Connection::into_receiver) to receive from a server.
    /// - A **queue** has no peer; there is one program or inherited descriptor.
    ///
    /// Each time a peer is waited for as long as [`Reconnect::give_up_after`] says, otherwise
    /// [`wait`](Self::wait); then it fails with [`TimedOut`](std::io::ErrorKind::TimedOut).
    ///
    /// Messages arrive in order, whole, and **at most once**; [`Reconnect`] tells what may be lost.
    /// [`MessageSender::broken_connections`](super::MessageSender::broken_connections) counts the
    /// connections that may have lost messages.
    ///
    /// Closing an end that only sends waits until the peer has read all, which it shows by ending its
    /// own direction, for 10 seconds at most.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use aqueduct::Endpoint;
    /// use aqueduct::connect::{Options, Reconnect};
    /// use futures_util::SinkExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let collector: Endpoint = "unix:/run/app/collector".parse()?;
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

    /// Sets how many clients of a bound socket [`open_receiver`](Self::open_receiver) and
    /// [`Listener::into_receiver`](super::Listener::into_receiver) receive from at once, at least 1:
    /// 1,024 by default.
    ///
    /// When there are that many, a client that connects takes the place of the one that has been silent
    /// longest without having sent a message. If all have sent one it waits in the kernel's backlog
    /// until another one leaves. Stay below the process's limit of descriptors (`RLIMIT_NOFILE`).
    ///
    /// For a service, which has a connection each, see
    /// [`service::Options::max_connections`](crate::service::Options::max_connections).
    pub fn max_connections(&mut self, connections: usize) -> &mut Self {
        self.clients.connections = connections.max(1);
        self
    }

    /// Sets how long such a client may take until its first message begins; `None`, the default, is no
    /// limit.
    ///
    /// A client that takes longer loses its connection. What it had just sent over TCP may be lost, so
    /// do not cut off clients that connect early and speak rarely.
    ///
    /// For a service, which has a connection each, see
    /// [`service::Options::first_timeout`](crate::service::Options::first_timeout).
    pub fn first_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.clients.first = limit.into();
        self
    }

    /// Sets how long such a client may take for a message that has begun: 30 s by default, `None` for
    /// no limit. Time in which nobody asks for the next message does not count.
    ///
    /// For a service, which has a connection each, see
    /// [`service::Options::message_timeout`](crate::service::Options::message_timeout).
    pub fn message_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.clients.message = limit.into();
        self
    }

    /// Sets how long such a client may be silent between two messages; `None`, the default, is no
    /// limit.
    ///
    /// For a service, which has a connection each, see
    /// [`service::Options::idle_timeout`](crate::service::Options::idle_timeout).
    pub fn idle_timeout(&mut self, limit: impl Into<Option<Duration>>) -> &mut Self {
        self.clients.idle = limit.into();
        self
    }

    /// Latency mode: before each wait for a message, looks again for this long. Zero, the default, is
    /// not at all (a handful of tries, for queues). See [`Polled`](crate::Polled) for when
    /// to take it and what it costs.
    ///
    /// It is for pipes, FIFOs, stream sockets and queues; `unixpacket:` sleeps at once.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.poll_for = limit;
        self
    }

    /// Makes an end that waits notice that its name no longer stands for what it has open: a queue,
    /// a FIFO or a bound socket path that was removed or made anew, so that peers that come later do
    /// not meet this end. `None`, the default, does not watch.
    ///
    /// Where the system reports it, it is noticed at once, otherwise within `interval`. Then
    ///
    /// - a receiver of a FIFO with `persist=true` opens the FIFO again, and reads the old one too for
    ///   as long as a writer has it open; so does a sender that [reconnects](Self::reconnect) and
    ///   waits for a reader;
    /// - a Unix socket that was bound with [`persist`](Self::persist) binds its path again; clients
    ///   that are connected stay;
    /// - every other end fails with [`Replaced`](super::OpenErrorKind::Replaced), which
    ///   [`OpenError::of`](super::OpenError::of) finds inside the [`io::Error`](std::io::Error). A
    ///   FIFO's receiver does so when no writer has the old one open any more.
    pub fn watch_name(&mut self, interval: Option<Duration>) -> &mut Self {
        self.watch_name = interval;
        self
    }

    /// Sets whether to use a FIFO, queue or socket of any user (off by default).
    ///
    /// Otherwise its owner must be this user or root: another user could have planted it to read what
    /// is sent. The socket that a client connects to may also belong to the owner of a directory in
    /// which nobody else can write; see
    /// [`unix::ConnectOptions`](crate::unix::ConnectOptions::allow_foreign_owner).
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }
}

/// Limits for the clients of a bound socket that are all received from at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    pub(super) connections: usize,
    pub(super) first: Option<Duration>,
    pub(super) message: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl ClientLimits {
    /// Whether any time is limited.
    pub(super) fn any(&self) -> bool {
        self.first.is_some() || self.message.is_some() || self.idle.is_some()
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            first: None,
            message: Some(Duration::from_secs(30)),
            idle: None,
        }
    }
}
