//! The receiving end.

mod arrival;
mod backlog;
mod pull;
pub(super) mod subscription;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::pull::Engine;
use super::connection::{Line, Target};
use crate::connect::{Inlet, Message, MessageReceiver};

/// The receiving end of a stream.
pub(super) fn receiver(target: Target, line: Line) -> MessageReceiver {
    let (incoming, to_end, stop) = Incoming::new(target.address.window());
    tokio::spawn(Engine::new(target, to_end, stop).run(line));
    MessageReceiver::new(incoming)
}

type Wanted<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// What arrives from a task: messages, or what they are made of.
pub(super) struct Incoming<T> {
    messages: mpsc::Receiver<io::Result<T>>,
    stop: CancellationToken,
    left: Option<u64>,
    /// Says which items are still wanted when they are taken.
    wanted: Option<Wanted<T>>,
}

impl<T> Incoming<T> {
    /// Also returns what its task needs: where to put at most `window` items, and when to stop.
    pub(super) fn new(window: usize) -> (Self, mpsc::Sender<io::Result<T>>, CancellationToken) {
        let (to_end, messages) = mpsc::channel(window);
        let stop = CancellationToken::new();
        let incoming = Self {
            messages,
            stop: stop.clone(),
            left: None,
            wanted: None,
        };
        (incoming, to_end, stop)
    }

    /// Leaves out what is not wanted any more when it is taken.
    pub(super) fn only(mut self, wanted: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.wanted = Some(Box::new(wanted));
        self
    }

    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<T>>> {
        loop {
            let next = ready!(self.messages.poll_recv(cx));
            if let (Some(Ok(item)), Some(wanted)) = (&next, &self.wanted)
                && !wanted(item)
            {
                continue;
            }
            match (&mut self.left, &next) {
                // Given back.
                (Some(0), Some(Ok(_))) => {}
                (Some(left), Some(Ok(_))) => {
                    *left -= 1;
                    if *left == 0 {
                        self.stop.cancel();
                    }
                    return Poll::Ready(next);
                }
                _ => return Poll::Ready(next),
            }
        }
    }
}

impl<T: Into<Message>> Stream for Incoming<T> {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.poll_item(cx));
        Poll::Ready(next.map(|it| it.map(Into::into)))
    }
}

impl<T: Into<Message>> Inlet for Incoming<T> {
    fn stop(self: Pin<&mut Self>) {
        self.stop.cancel();
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
        if count == 0 {
            self.stop.cancel();
        }
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        0
    }
}

impl<T> Drop for Incoming<T> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
