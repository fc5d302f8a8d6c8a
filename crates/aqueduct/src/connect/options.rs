use std::time::Duration;

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
    pub(crate) reconnect: bool,
    pub(crate) poll_for: Duration,
    pub(crate) check_name_every: Option<Duration>,
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
    /// Length framing with frames of at most [`DEFAULT_MAX_FRAME`](crate::frame::DEFAULT_MAX_FRAME);
    /// what is missing is created; a peer is waited for without a limit.
    pub fn new() -> Self {
        Self {
            framing: Framing::length(),
            create: true,
            persist: false,
            wait: None,
            reconnect: false,
            poll_for: Duration::ZERO,
            check_name_every: None,
            allow_foreign_owner: false,
            paired: false,
        }
    }

    /// Sets how a byte stream is cut into messages, and the largest message.
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
    /// end. Off by default. The address option `persist` takes precedence.
    pub fn persist(&mut self, persist: bool) -> &mut Self {
        self.persist = persist;
        self
    }

    /// Sets how long a peer that has to be there is waited for: the reader of a FIFO, the server
    /// of a socket. `None`: for ever; zero: it is tried once.
    pub fn wait(&mut self, limit: Option<Duration>) -> &mut Self {
        self.wait = limit;
        self
    }

    /// Sets whether a sending end ([`open_sender`](Self::open_sender),
    /// [`Listener::into_sender`](super::Listener::into_sender)) outlives its peer. Off by
    /// default.
    ///
    /// - The sender of a **FIFO** waits for another reader when the last one has gone
    ///   ([`ReaderGone::Wait`](fifo::ReaderGone::Wait)).
    /// - The sender on a **socket** connects again when the connection breaks, and when the peer
    ///   ends its own direction: a receiver that stops says so in that way. What was given to the
    ///   connection is sent first, and the next message goes to the next connection.
    /// - A **queue** has no peer; of a program or an inherited descriptor there is but one.
    ///
    /// Each time it waits for as long as [`wait`](Self::wait) says, and fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut) then.
    ///
    /// # What is promised
    ///
    /// Messages arrive in order, whole, and **at most once**; each is given to one connection
    /// only, unless the system says that it has not taken all of it.
    ///
    /// - **Unix sockets**: a message that the system has taken can be read by the peer, and one that
    ///   it has not taken goes to the next connection, whole. So nothing is lost as long as the
    ///   peer stops in order, which is to read what is there after it takes no more
    ///   ([`MessageReceiver::stop`]). If it is killed, what it had not read is lost: at most what the
    ///   socket's buffer holds (`SO_SNDBUF`, 208 KiB by default).
    /// - **TCP**: nothing is lost if the peer ends its direction, goes on reading until this one has
    ///   ended, and then closes, as [`MessageReceiver::stop`] does. If the connection breaks in any other way
    ///   what was on its way is lost, and nobody can tell how much that was.
    /// - **FIFO**: what was written and not read is there for the next reader, from where the last one
    ///   has stopped.
    ///
    /// Where messages may be lost a `tracing` warning says so, and
    /// [`MessageSender::broken_connections`] counts.
    ///
    /// Closing such an end waits until the peer has read all, which it shows by ending its own
    /// direction, for [`DEFAULT_FAREWELL`](super::DEFAULT_FAREWELL) at most.
    pub fn reconnect(&mut self, reconnect: bool) -> &mut Self {
        self.reconnect = reconnect;
        self
    }

    /// Latency mode: before each wait for a message, looks again for this long. Zero, the default, is
    /// not at all (a handful of tries, for queues). See [`latency`](crate::io::polling) for when to take
    /// it and what it costs.
    ///
    /// It is for pipes, FIFOs, stream sockets and queues; `unixpacket:` sleeps at once.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.poll_for = limit;
        self
    }

    /// Looks this often whether the name of a queue still stands for the queue that is open, and
    /// fails with [`mq::QueueError::Replaced`] if not: a queue that was removed, or made anew by that
    /// name, would be waited for in vain. `None`, the default, never looks. See
    /// [`mq::OpenOptions::check_name_every`].
    pub fn check_name_every(&mut self, interval: Option<Duration>) -> &mut Self {
        self.check_name_every = interval;
        self
    }

    /// Takes a FIFO or queue that exists whoever it belongs to. By default that has to be this user
    /// or root: another one may have put it there to listen in.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }
}
