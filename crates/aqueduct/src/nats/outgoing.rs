//! The sending end.

mod kept;
mod publisher;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use futures_util::task::AtomicWaker;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard, PollSender};

use self::kept::LONGEST_ID;
use self::publisher::Publisher;
use super::connection::{Failure, Line, Target};
use crate::connect::{Message, MessageSender};
use crate::frame::FrameError;

/// What a message with headers takes beside its body and its id: `NATS/1.0`, two names, line ends.
const HEADERS: usize = 64;

pub(super) fn sender(target: Target, line: Line) -> MessageSender {
    let (outgoing, given) = Outgoing::new(&target, &line);
    let largest = outgoing.largest;
    let publisher = Publisher::new(target, given.messages, given.shared);
    tokio::spawn(async move {
        tokio::select! {
            () = given.gone.cancelled() => {}
            () = publisher.run(line) => {}
        }
    });
    MessageSender::new(outgoing)
        .with_max_message(largest)
        .settling()
}

/// What the task of an end needs.
pub(super) struct Given {
    pub(super) messages: mpsc::Receiver<Message>,
    pub(super) shared: Arc<Shared>,
    /// The end was dropped.
    pub(super) gone: CancellationToken,
}

/// What the end and its task share.
#[derive(Default)]
pub(super) struct Shared {
    /// How many messages were given to the end.
    given: AtomicU64,
    /// How many messages are confirmed.
    confirmed: AtomicU64,
    /// No replies are wanted to those up to this one.
    given_up: AtomicU64,
    failure: OnceLock<Failure>,
    changed: AtomicWaker,
}

impl Shared {
    fn check(&self) -> io::Result<()> {
        match self.failure.get() {
            Some(failure) => Err(failure.clone().into()),
            None => Ok(()),
        }
    }

    /// The number of the newest message.
    pub(super) fn newest(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    /// No reply to any of the messages so far is wanted.
    pub(super) fn give_up(&self) {
        self.given_up.store(self.newest(), Ordering::Release);
    }

    /// Whether no reply to a message is wanted.
    pub(super) fn is_given_up(&self, number: u64) -> bool {
        number <= self.given_up.load(Ordering::Acquire)
    }

    /// Everything up to this message is confirmed.
    pub(super) fn confirm(&self, number: u64) {
        self.confirmed.store(number, Ordering::Release);
        self.changed.wake();
    }

    pub(super) fn fail(&self, failure: Failure) {
        let _ = self.failure.set(failure);
        self.changed.wake();
    }
}

pub(super) struct Outgoing {
    given: u64,
    sender: Option<PollSender<Message>>,
    shared: Arc<Shared>,
    pub(super) largest: usize,
    _gone: DropGuard,
}

impl Outgoing {
    pub(super) fn new(target: &Target, line: &Line) -> (Self, Given) {
        let (sender, messages) = mpsc::channel(target.address.window());
        let shared = Arc::new(Shared::default());
        let gone = CancellationToken::new();
        let room = match &target.address.stream {
            Some(stream) => HEADERS + stream.len() + LONGEST_ID,
            None => 0,
        };
        let outgoing = Self {
            given: 0,
            sender: Some(PollSender::new(sender)),
            shared: Arc::clone(&shared),
            largest: line.client.max_payload().saturating_sub(room),
            _gone: gone.clone().drop_guard(),
        };
        let given = Given {
            messages,
            shared,
            gone,
        };
        (outgoing, given)
    }
}

impl Sink<Message> for Outgoing {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.changed.register(cx.waker());
        self.shared.check()?;
        match &mut self.sender {
            Some(sender) => ready!(sender.poll_reserve(cx)).map_err(|_| gone())?,
            None => return Poll::Ready(Err(gone())),
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        let (len, max) = (message.body().len(), self.largest);
        if len > max {
            let error = FrameError::TooLarge { len, max };
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let Some(sender) = &mut self.sender else {
            return Err(gone());
        };
        sender.send_item(message).map_err(|_| gone())?;
        self.given += 1;
        self.shared.given.store(self.given, Ordering::Release);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.changed.register(cx.waker());
        self.shared.check()?;
        match self.shared.confirmed.load(Ordering::Acquire) < self.given {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        self.sender = None;
        Poll::Ready(Ok(()))
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "cannot send: this end is closed")
}
