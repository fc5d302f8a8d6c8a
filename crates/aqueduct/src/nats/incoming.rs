//! The receiving end.

mod arrival;
mod backlog;
mod pull;
pub(super) mod subscription;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::pull::Engine;
use super::connection::{Line, Target};
use super::outgoing::Shared;
use crate::connect::{Inlet, Message, MessageReceiver};
use crate::frame::Late;

/// The receiving end of a stream.
pub(super) fn receiver(target: Target, line: Line) -> MessageReceiver {
    let (incoming, to_end, stop) = Incoming::new(target.address.window());
    tokio::spawn(Engine::new(target, to_end, stop).run(line));
    MessageReceiver::new(incoming)
}

type Wanted<T> = Box<dyn Fn(&T, &Shared) -> bool + Send + Sync>;

/// What arrives from a task: messages, or what they are made of.
pub(super) struct Incoming<T> {
    messages: mpsc::Receiver<io::Result<T>>,
    stop: CancellationToken,
    left: Option<u64>,
    /// Of replies: what they are to, and which of them are still wanted when they are taken.
    replies: Option<(Arc<Shared>, Wanted<T>)>,
}

/// What a message is made of, or an error that does not end the stream.
pub(super) trait Item {
    fn into_message(self) -> io::Result<Message>;
}

impl Item for Message {
    fn into_message(self) -> io::Result<Message> {
        Ok(self)
    }
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
            replies: None,
        };
        (incoming, to_end, stop)
    }

    /// Of replies to what was asked, leaves out what is not wanted any more when it is taken.
    pub(super) fn replies(
        mut self,
        asked: Arc<Shared>,
        wanted: impl Fn(&T, &Shared) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.replies = Some((asked, Box::new(wanted)));
        self
    }

    pub(super) fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<T>>> {
        loop {
            let next = ready!(self.messages.poll_recv(cx));
            if let (Some(Ok(item)), Some((asked, wanted))) = (&next, &self.replies)
                && !wanted(item, asked)
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

impl<T: Item> Stream for Incoming<T> {
    type Item = io::Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.poll_item(cx));
        Poll::Ready(next.map(|it| it.and_then(T::into_message)))
    }
}

impl<T: Item> Inlet for Incoming<T> {
    fn stop(self: Pin<&mut Self>) {
        self.stop.cancel();
    }

    fn limit(mut self: Pin<&mut Self>, count: u64) {
        self.left = Some(count);
        if count == 0 {
            self.stop.cancel();
        }
    }

    fn late(self: Pin<&mut Self>, owed: u64, _sent: u64) -> Late {
        let Some((asked, _)) = &self.replies else {
            return Late::InOrder { lost: 0 };
        };
        if owed > 0 {
            asked.give_up();
        }
        Late::Dropped
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
