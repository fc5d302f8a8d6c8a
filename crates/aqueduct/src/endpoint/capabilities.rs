//! [`Capabilities`]: what a mechanism can do, told without opening it.

use super::{Endpoint, Mq};

/// The most bytes that one write to a pipe or FIFO puts there in one piece (`pipe(7)`).
pub(crate) const PIPE_BUF: usize = 4096;

/// What the mechanism behind an [`Endpoint`] can do.
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
/// assert_eq!(jobs.direction(), Direction::OneWay);
/// assert_eq!(jobs.keeps_boundaries(), Some(true));
/// assert_eq!(jobs.end_of_stream(), EndOfStream::Never);
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities {
    direction: Direction,
    keeps_boundaries: Option<bool>,
    ordering: Ordering,
    end_of_stream: EndOfStream,
    largest_message: LargestMessage,
    readers: Sharing,
    writers: Sharing,
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

impl Capabilities {
    /// Which way messages go.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether what is sent as one message is received as one, with no framing needed; `None`
    /// where only opening tells.
    pub fn keeps_boundaries(&self) -> Option<bool> {
        self.keeps_boundaries
    }

    /// In which order messages arrive.
    pub fn ordering(&self) -> Ordering {
        self.ordering
    }

    /// When a reader sees the end of the stream.
    pub fn end_of_stream(&self) -> EndOfStream {
        self.end_of_stream
    }

    /// The largest message that can be sent.
    pub fn largest_message(&self) -> LargestMessage {
        self.largest_message
    }

    /// How many may read at a time.
    pub fn readers(&self) -> Sharing {
        self.readers
    }

    /// How many may write at a time.
    pub fn writers(&self) -> Sharing {
        self.writers
    }

    pub(super) fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Fifo(fifo) => Self {
                direction: Direction::OneWay,
                end_of_stream: match fifo.persist() {
                    Some(true) => EndOfStream::Never,
                    _ => EndOfStream::LastWriter,
                },
                readers: Sharing::One,
                writers: Sharing::UpTo(PIPE_BUF),
                ..Self::BYTE_STREAM
            },
            Endpoint::Mq(mq) => Self::queue(mq),
            Endpoint::UnixPacket(_) => Self {
                keeps_boundaries: Some(true),
                // A packet has to fit the socket's send buffer, whose size the system sets.
                largest_message: LargestMessage::AsOpened,
                ..Self::BYTE_STREAM
            },
            Endpoint::Unix(_) | Endpoint::Tcp(_) => Self::BYTE_STREAM,
            Endpoint::Stdio | Endpoint::Exec(_) => Self {
                readers: Sharing::One,
                writers: Sharing::One,
                ..Self::BYTE_STREAM
            },
            Endpoint::Fd(_) => Self {
                direction: Direction::AsOpened,
                keeps_boundaries: None,
                ordering: Ordering::AsOpened,
                end_of_stream: EndOfStream::AsOpened,
                largest_message: LargestMessage::AsOpened,
                readers: Sharing::AsOpened,
                writers: Sharing::AsOpened,
            },
        }
    }

    const BYTE_STREAM: Self = Self {
        direction: Direction::TwoWay,
        keeps_boundaries: Some(false),
        ordering: Ordering::Sent,
        end_of_stream: EndOfStream::Peer,
        largest_message: LargestMessage::Framing,
        readers: Sharing::PerConnection,
        writers: Sharing::PerConnection,
    };

    fn queue(mq: &Mq) -> Self {
        Self {
            direction: Direction::OneWay,
            keeps_boundaries: Some(true),
            ordering: Ordering::Priority,
            end_of_stream: EndOfStream::Never,
            largest_message: match mq.max_message() {
                Some(bytes) => LargestMessage::Bytes(bytes),
                None => LargestMessage::AsOpened,
            },
            readers: Sharing::Many,
            writers: Sharing::Many,
        }
    }
}
