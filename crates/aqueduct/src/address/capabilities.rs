//! [`Capabilities`]: what a mechanism can do, known without opening it.

/// The largest write to a pipe or FIFO that is atomic, in bytes (`pipe(7)`).
pub(crate) const PIPE_BUF: usize = 4096;

/// What the mechanism behind an [`Endpoint`](crate::connect::Endpoint) can do.
///
/// Nothing is opened to find out. Where only the system knows, the value is [`Direction::AsOpened`]
/// or its like: an inherited descriptor may be anything, and an existing queue has the limits it
/// was created with.
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
    /// The direction of messages.
    pub direction: Direction,
    /// Whether one sent message is received as one, without framing.
    ///
    /// `None` if only opening tells.
    pub keeps_boundaries: Option<bool>,
    /// The order in which messages arrive.
    pub ordering: Ordering,
    /// When a reader sees the end of the stream.
    pub end_of_stream: EndOfStream,
    /// The largest message that can be sent.
    pub largest_message: LargestMessage,
    /// How many may read at a time.
    pub readers: Sharing,
    /// How many may write at a time.
    pub writers: Sharing,
    /// The peer that opening the sending end, or connecting, waits for.
    pub awaits: Awaited,
    /// Whether one side binds the address and others connect to it, as with sockets.
    ///
    /// Any number may connect.
    ///
    /// `None` if only opening tells.
    pub listens: Option<bool>,
    /// Whether the object and its messages stay when no process has it open any more.
    ///
    /// [`Endpoint::remove`](crate::Endpoint::remove) removes it.
    pub outlives_processes: bool,
    /// Whether the address names something of this process only.
    ///
    /// That is an inherited descriptor, or a program that it starts.
    pub private: bool,
    /// Whether it is the standard input and output of this process.
    pub stdio: bool,
}

/// The direction of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Direction {
    /// An end either sends or receives.
    OneWay,
    /// Each end does both.
    TwoWay,
    /// As the descriptor was opened by its creator.
    AsOpened,
}

/// The order in which messages arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ordering {
    /// In the order they were sent, per sender.
    Sent,
    /// The highest priority first; within a priority in the order they were sent.
    Priority,
    /// As for the descriptor's mechanism.
    AsOpened,
    /// In any order: a message may overtake another, or be lost.
    Any,
}

/// When a reader sees the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndOfStream {
    /// When the last writer has closed its end and everything was read.
    LastWriter,
    /// When the peer has closed its end, or its sending half, and everything was read.
    Peer,
    /// Never: the mechanism has none, or the address asks for a persistent receiver.
    Never,
    /// As for the descriptor's mechanism.
    AsOpened,
}

/// The largest message that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LargestMessage {
    /// The mechanism sets no limit; the framing does.
    Framing,
    /// This many bytes, if the object is created as the address says.
    Bytes(usize),
    /// The system knows when it is opened.
    AsOpened,
}

/// How many may use one side of an endpoint at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sharing {
    /// One. Several would read, or write, parts of messages.
    One,
    /// Several, as long as each message with its framing has at most this many bytes.
    UpTo(usize),
    /// Any number; each message is sent by one and received by one.
    Many,
    /// Any number, each over its own connection.
    PerConnection,
    /// As for the descriptor's mechanism.
    AsOpened,
}

/// The peer that opening the sending end waits for.
///
/// [`Options::wait`](crate::connect::Options::wait) limits the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Awaited {
    /// None: the mechanism keeps messages, or the peer already exists.
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
