use std::any::Any;
use std::fmt::{self, Debug, Formatter};
use std::io;

use aqueduct::codec::Codec;
use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
use aqueduct::{Channel, Receiver, Sender};
use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

/// One end of a transport: a sink and a stream of frames.
///
/// For a one-way mechanism an end consists of two, one for each direction.
#[must_use = "dropping it closes the end"]
pub struct End {
    sink: BoxFrameSink,
    frames: BoxFrameStream,
    kept: Kept,
    coalesced: bool,
}

/// What has to live as long as an end.
pub(crate) type Kept = Vec<Box<dyn Any + Send>>;

impl End {
    /// Creates an end that sends to `sink` and receives from `frames`.
    pub fn new(
        sink: impl Sink<Bytes, Error = io::Error> + Send + 'static,
        frames: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Self {
        Self {
            sink: Box::pin(sink),
            frames: Box::pin(frames),
            kept: Vec::new(),
            coalesced: false,
        }
    }

    /// Keeps `rest`, such as a guard that removes a name, until the end is closed and dropped.
    pub fn keeping(mut self, rest: impl Send + 'static) -> Self {
        self.kept.push(Box::new(rest));
        self
    }

    /// Sends with a [coalesced](Sender::coalesced) sender.
    pub fn coalesced(mut self) -> Self {
        self.coalesced = true;
        self
    }

    pub(crate) fn channel<Out, In>(
        self,
        codec: impl Codec<Out> + Codec<In> + Clone + 'static,
    ) -> (Channel<Out, In>, Kept) {
        let mut sender = Sender::new(self.sink, codec.clone());
        if self.coalesced {
            sender = sender.coalesced();
        }
        let receiver = Receiver::new(self.frames, codec);
        (Channel::new(sender, receiver), self.kept)
    }
}

impl Debug for End {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}
