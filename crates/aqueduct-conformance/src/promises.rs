use aqueduct::endpoint::{Capabilities, EndOfStream, LargestMessage};

/// The promises in which transports differ.
///
/// All transports promise order, boundaries and no loss by dropped futures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promises {
    pub(crate) end_of_stream: bool,
    pub(crate) receivers_told: bool,
    pub(crate) empty: bool,
    pub(crate) halves_told_apart: bool,
    pub(crate) largest: Option<usize>,
}

impl Default for Promises {
    fn default() -> Self {
        Self::new()
    }
}

impl Promises {
    /// Creates the promises of a socket.
    ///
    /// The stream ends when the peer has closed its sending half or died, sending to a peer that
    /// has gone fails, an empty message is a message, and only the framing limits the size.
    pub fn new() -> Self {
        Self {
            end_of_stream: true,
            receivers_told: true,
            empty: true,
            halves_told_apart: false,
            largest: None,
        }
    }

    /// There is no end of stream, and a sender does not notice that the receiver has gone, as with
    /// a queue.
    #[must_use]
    pub fn without_end(mut self) -> Self {
        self.end_of_stream = false;
        self.receivers_told = false;
        self
    }

    /// There are no empty messages: sending one is an error, and the sender goes on.
    #[must_use]
    pub fn without_empty_messages(mut self) -> Self {
        self.empty = false;
        self
    }

    /// Sending fails as soon as the peer has dropped its receiving half.
    ///
    /// This holds even while its sending half is open, as for an end made of two one-way ones.
    #[must_use]
    pub fn with_halves_told_apart(mut self) -> Self {
        self.halves_told_apart = true;
        self
    }

    /// The largest message is this many bytes, whatever was requested.
    #[must_use]
    pub fn with_largest(mut self, bytes: usize) -> Self {
        self.largest = Some(bytes);
        self
    }

    /// The largest message where `asked` is asked for.
    pub(crate) fn limit(&self, asked: usize) -> usize {
        self.largest.unwrap_or(asked)
    }
}

impl From<Capabilities> for Promises {
    /// What an address says of its transport, so that this is tested too.
    fn from(capabilities: Capabilities) -> Self {
        let mut promises = Self::new();
        promises.end_of_stream = capabilities.end_of_stream != EndOfStream::Never;
        if let LargestMessage::Bytes(bytes) = capabilities.largest_message {
            promises.largest = Some(bytes);
        }
        promises
    }
}
