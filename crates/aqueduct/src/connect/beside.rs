//! [`receive`]: typed items with a part of their message beside each.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use super::receipt::Last;
use super::{Message, MessageReceiver};
use crate::channel::{Receiver, lent};
use crate::codec::{BoxError, Decode, Format};
use crate::frame::{Late, Lend, Lent};

/// A part of a message that stands beside its item.
pub(super) trait Part: Send + Sized + 'static {
    fn take(message: &mut Message) -> Self;

    /// Its body did not parse, and the next item is asked for.
    fn unparsed(self) {}
}

/// Creates a receiver of items that consist of what `codec` parses and a part of the message.
pub(super) fn receive<I, C, P>(incoming: MessageReceiver, codec: C) -> Receiver<I>
where
    P: Part,
    Reads<C, P>: Decode<I> + 'static,
{
    let aside = Arc::new(Aside(Mutex::new(None)));
    let bodies = Bodies {
        incoming,
        aside: Arc::clone(&aside),
        last: Last::default(),
    };
    lent(bodies, Reads { codec, aside })
}

/// The part of the message whose body is decoded next. A typed receiver decodes each body before it
/// asks for the next one.
struct Aside<P>(Mutex<Option<P>>);

impl<P> Aside<P> {
    fn replace(&self, part: Option<P>) -> Option<P> {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *aside, part)
    }
}

/// The bodies alone. The part of the last message is put aside for the codec.
struct Bodies<P> {
    incoming: MessageReceiver,
    aside: Arc<Aside<P>>,
    last: Last,
}

impl<P: Part> Stream for Bodies<P> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.last.settle();
        if let Some(part) = self.aside.replace(None) {
            part.unparsed();
        }
        let next = ready!(Pin::new(&mut self.incoming).poll_next(cx));
        Poll::Ready(next.map(|received| {
            let mut message = received?;
            self.aside.replace(Some(P::take(&mut message)));
            self.last.keep(&mut message);
            Ok(message.into_body())
        }))
    }
}

impl<P: Part> Lend for Bodies<P> {
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        let body = ready!(Pin::new(self).poll_next(cx));
        Poll::Ready(body.map(|body| body.map(Lent::Kept)))
    }

    fn is_unsettled(&self) -> bool {
        self.last.is_open()
    }

    fn late(&mut self, owed: u64, sent: u64) -> Late {
        self.incoming.late(owed, sent)
    }

    fn stop(&mut self) {
        self.incoming.stop();
    }
}

/// Decodes a body and adds what was put aside.
pub(super) struct Reads<C, P> {
    codec: C,
    aside: Arc<Aside<P>>,
}

impl<C, P> Reads<C, P> {
    pub(super) fn parse<T>(&self, body: Bytes) -> Result<(T, P), BoxError>
    where
        C: Decode<T>,
    {
        let item = self.codec.decode(body)?;
        let part = self.aside.replace(None);
        Ok((item, part.ok_or("the body has no message")?))
    }
}

impl<C: Format, P: Send> Format for Reads<C, P> {
    fn name(&self) -> &'static str {
        self.codec.name()
    }
}
