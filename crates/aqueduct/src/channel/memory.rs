use std::io;

use bytes::Bytes;
use futures_util::{SinkExt, stream};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::channel::{Channel, Receiver, Sender};
use crate::codec::Codec;

/// How many frames each direction of [`Channel::pair`] holds before a sender waits: 16.
const PAIR_CAPACITY: usize = 16;

impl<Out, In> Channel<Out, In> {
    /// Creates two connected channels within this process.
    ///
    /// For tests, or for parts of one program.
    ///
    /// Items are serialised as on any transport. Each direction holds 16 frames; then a sender
    /// waits. If an end is dropped, the other one receives the end of stream, and its sends fail
    /// with [`BrokenPipe`](io::ErrorKind::BrokenPipe).
    pub fn pair<C>(codec: C) -> (Self, Channel<In, Out>)
    where
        C: Codec<Out> + Codec<In> + Clone + 'static,
    {
        let (there_tx, there_rx) = one_way(codec.clone());
        let (here_tx, here_rx) = one_way(codec);
        (
            Self::new(there_tx, here_rx),
            Channel::new(here_tx, there_rx),
        )
    }
}

fn one_way<T>(codec: impl Codec<T> + Clone + 'static) -> (Sender<T>, Receiver<T>) {
    let (tx, mut rx) = mpsc::channel::<Bytes>(PAIR_CAPACITY);
    let sink = PollSender::new(tx).sink_map_err(|_| io::ErrorKind::BrokenPipe.into());
    let stream = stream::poll_fn(move |cx| rx.poll_recv(cx).map(|frame| frame.map(Ok)));
    (
        Sender::new(sink, codec.clone()),
        Receiver::new(stream, codec),
    )
}
