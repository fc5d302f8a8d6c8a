//! The two halves of [`Lasting`], and the connection that has them.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use futures_core::Stream;
use futures_sink::Sink;
use futures_util::task::AtomicWaker;

use super::{Connector, Lasting, State};
use crate::connect::connection::{Connection, MessageLink};
use crate::connect::message::Message;
use crate::connect::peer::Peer;
use crate::connect::receiver::{Inlet, MessageReceiver};
use crate::connect::reconnect::Reconnect;
use crate::connect::sender::MessageSender;
use crate::frame::{Framing, Late};

impl Reconnect {
    /// Creates a connection that `connect` makes, and makes again when it breaks.
    ///
    /// The first attempt starts on first use. Each call of `connect` makes one connection: to an
    /// [endpoint](crate::connect::Options::connect), or with [`Connection::from_io`] or
    /// [`Connection::from_frames`]. A [handshake](crate::handshake) belongs in there too.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping a future of an end keeps the progress of connecting; the next call
    /// continues.
    pub fn connect<F, A>(self, mut connect: F) -> Connection
    where
        F: FnMut() -> A + Send + 'static,
        A: Future<Output = io::Result<Connection>> + Send + 'static,
    {
        let connector: Connector = Box::new(move || Box::pin(connect()));
        self.over("a peer".into(), connector, None)
    }

    /// Creates a connection over those that `connector` makes, beginning with `first`.
    pub(in crate::connect) fn over(
        self,
        address: String,
        connector: Connector,
        first: Option<Connection>,
    ) -> Connection {
        let peer = first.as_ref().map_or(Peer::Unknown, |it| it.peer().clone());
        let framing = first.as_ref().map_or_else(Framing::length, |first| {
            let framing = match first.carries_any_bytes() {
                true => Framing::length(),
                false => first.framing().clone(),
            };
            framing.max_frame(first.max_message())
        });
        let wakers = Arc::new(Wakers::default());
        let lasting = Lasting {
            waker: Waker::from(Arc::clone(&wakers)),
            backoff: self.backoff(),
            policy: self,
            address,
            connector,
            state: first.map_or(State::Idle, |it| State::Made(Box::new(it))),
            failed: 0,
            trying_since: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            given: 0,
            ready: false,
            unused: 0,
            broken: Arc::default(),
            closing: false,
            sending: true,
            receiving: true,
            stopped: false,
            left: None,
            unread: VecDeque::new(),
        };
        let lasting = Shared {
            engine: Arc::new(Mutex::new(lasting)),
            wakers,
        };
        Connection::messages(lasting, framing, peer)
    }
}

/// The engine, shared by its two halves.
#[derive(Clone)]
struct Shared {
    engine: Arc<Mutex<Lasting>>,
    wakers: Arc<Wakers>,
}

/// The tasks that use the two halves.
#[derive(Default)]
struct Wakers {
    sending: AtomicWaker,
    receiving: AtomicWaker,
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.sending.wake();
        self.receiving.wake();
    }
}

impl Shared {
    /// A panic in a caller's function leaves the engine consistent.
    fn lock(&self) -> MutexGuard<'_, Lasting> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MessageLink for Shared {
    fn max_message(&self) -> Option<usize> {
        None
    }

    fn split(self: Box<Self>) -> (MessageSender, MessageReceiver) {
        let broken = Arc::clone(&self.lock().broken);
        let sender = MessageSender::new(Sending(Self::clone(&self))).counting(broken);
        (sender, MessageReceiver::new(Receiving(*self)))
    }

    fn into_sender(self: Box<Self>) -> MessageSender {
        let (sender, receiver) = self.split();
        drop(receiver);
        sender
    }

    fn into_receiver(self: Box<Self>) -> MessageReceiver {
        let (sender, receiver) = self.split();
        drop(sender);
        receiver
    }
}

/// The sending half. Dropping it without closing leaves the connection to the other half.
struct Sending(Shared);

impl Sending {
    fn lock(&self, cx: &Context<'_>) -> MutexGuard<'_, Lasting> {
        let engine = self.0.lock();
        // Registered before anything is looked at, so that a change by the other half wakes us.
        self.0.wakers.sending.register(cx.waker());
        engine
    }
}

impl Sink<Message> for Sending {
    type Error = io::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> io::Result<()> {
        self.0.lock().start_send(message.into_body())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_sent(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock(cx).poll_close(cx)
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.lock().sending = false;
        // If it was told to stop, it ends this direction now.
        self.0.wakers.receiving.wake();
    }
}

/// The receiving half.
struct Receiving(Shared);

impl Stream for Receiving {
    type Item = io::Result<Message>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut engine = self.0.lock();
        self.0.wakers.receiving.register(cx.waker());
        let item = ready!(engine.poll_next(cx));
        if matches!(engine.state, State::GaveUp(_)) && !matches!(item, Some(Ok(_))) {
            // After that error the stream has ended.
            engine.left = Some(0);
        }
        Poll::Ready(item)
    }
}

impl Inlet for Receiving {
    fn stop(self: Pin<&mut Self>) {
        let mut engine = self.0.lock();
        engine.stopped = true;
        for incoming in engine.each_incoming() {
            incoming.stop();
        }
    }

    fn limit(self: Pin<&mut Self>, count: u64) {
        let mut engine = self.0.lock();
        engine.left = Some(count);
        for incoming in engine.each_incoming() {
            incoming.limit(count);
        }
    }

    fn late(self: Pin<&mut Self>, owed: u64, sent: u64) -> Late {
        self.0.lock().late(owed, sent)
    }

    fn unfinished(self: Pin<&mut Self>) -> usize {
        let mut engine = self.0.lock();
        engine
            .each_incoming()
            .map(MessageReceiver::unfinished)
            .sum()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.lock().refuse();
    }
}
