//! [`Capabilities`]: what a mechanism can do, told without opening it.

/// The most bytes that one write to a pipe or FIFO puts there in one piece (`pipe(7)`).
pub(crate) const PIPE_BUF: usize = 4096;

/// What the mechanism behind an [`Endpoint`](crate::connect::Endpoint) can do.
///
/// Nothing is opened to find out, so what only the system knows says so
/// ([`Direction::AsOpened`] and its likes): an inherited descriptor is whatever it is, and a queue
/// that exists has the limits it was made with.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::{Direction, EndOfStream};
///
/// let jobs = "mq:/jobs".parse::<Endpoint>()?.capabilities();
/// assert_eq!(jobs.direction, Direction::OneWay);
/// assert_eq!(jobs.keeps_boundaries, Some(true));
/// assert_eq!(jobs.end_of_stream, EndOfStream::Never);
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Capabilities {
    /// Which way messages go.
    pub direction: Direction,
    /// Whether what is sent as one message is received as one, with no framing needed; `None` where
    /// only opening tells.
    pub keeps_boundaries: Option<bool>,
    /// In which order messages arrive.
    pub ordering: Ordering,
    /// When a reader sees the end of the stream.
    pub end_of_stream: EndOfStream,
    /// The largest message that can be sent.
    pub largest_message: LargestMessage,
    /// How many may read at a time.
    pub readers: Sharing,
    /// How many may write at a time.
    pub writers: Sharing,
    /// Whom opening the sending end, or connecting, waits for.
    pub awaits: Awaited,
    /// Whether one side binds the address and any number of others connect to it, as with sockets;
    /// `None` where only opening tells.
    pub listens: Option<bool>,
    /// Whether what was made stays, with the messages in it, when no process has it open any more.
    /// [`Endpoint::remove`](crate::Endpoint::remove) removes it.
    pub outlives_processes: bool,
    /// Whether the address names something of this process alone: what it has inherited, or a program
    /// that it starts.
    pub private: bool,
    /// Whether it is the standard input and output of this process.
    pub stdio: bool,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// An end either sends or receives.
    OneWay,
    /// Each end does both.
    TwoWay,
    /// As the descriptor was opened by whoever made it.
    AsOpened,
}

/// In which order messages arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ordering {
    /// As they were sent, by each sender.
    Sent,
    /// The highest priority first; within a priority as they were sent.
    Priority,
    /// As the descriptor's mechanism has it.
    AsOpened,
}

/// When a reader sees the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndOfStream {
    /// When the last writer has closed its end and all was read.
    LastWriter,
    /// When the peer has closed its end, or its sending half, and all was read.
    Peer,
    /// Never: the mechanism has none, or the address asks to go on.
    Never,
    /// As the descriptor's mechanism has it.
    AsOpened,
}

/// The largest message that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LargestMessage {
    /// The mechanism sets no limit; the framing does.
    Framing,
    /// This many bytes, if the object is made as the address says.
    Bytes(usize),
    /// What the system says when it is opened.
    AsOpened,
}

/// How many may use one side of an endpoint at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// One. Several would get, or make, pieces of messages.
    One,
    /// Several, as long as no message with its framing is larger than so many bytes.
    UpTo(usize),
    /// Any number; each message is sent by one and received by one.
    Many,
    /// Any number, each over a connection of its own.
    PerConnection,
    /// As the descriptor's mechanism has it.
    AsOpened,
}

/// Whom opening the sending end waits for.
///
/// [`Options::wait`](crate::connect::Options::wait) limits the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaited {
    /// Nobody: the mechanism keeps messages, or the peer is there already.
    Nobody,
    /// A process that has the receiving end open.
    Reader,
    /// A process that serves the address.
    Server,
}

impl Capabilities {
    /// A two-way byte stream with a connection for each peer, as sockets are.
    pub(crate) const BYTE_STREAM: Self = Self {
        direction: Direction::TwoWay,
        keeps_boundaries: Some(false),
        ordering: Ordering::Sent,
        end_of_stream: EndOfStream::Peer,
        largest_message: LargestMessage::Framing,
        readers: Sharing::PerConnection,
        writers: Sharing::PerConnection,
        awaits: Awaited::Server,
        listens: Some(true),
        outlives_processes: false,
        private: false,
        stdio: false,
    };
}
