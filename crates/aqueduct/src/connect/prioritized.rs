//! [`Prioritized`]: typed items with a priority each.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;

use super::receipt::Last;
use super::{Message, MessageReceiver, MessageSender};
use crate::channel::{Receiver, Sender, lent};
use crate::codec::{BoxError, Decode, Encode, Format};
use crate::frame::{Lend, Lent};

/// An item and its priority, for typed ends of a message queue.
///
/// The highest priority is received first. Only queues have priorities. Elsewhere the priority is
/// ignored when sending and 0 when receiving ([`Message::priority`] is `None` there). The codec
/// sees only the item, so the peer may be a plain typed end or a program in another language.
///
/// # Examples
///
/// ```
/// use aqueduct::{Endpoint, Receiver, Sender, codec::Text, connect::{Options, Prioritized}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let name = format!("/doc-priorities-{}", std::process::id());
/// let jobs: Endpoint = format!("mq:{name}?capacity=4&max-message=64").parse()?;
/// let mut rx: Receiver<Prioritized<String>> = jobs.open_receiver().await?.prioritized(Text);
/// let mut tx: Sender<Prioritized<&str>> = jobs.open_sender().await?.prioritized(Text);
///
/// tx.send(Prioritized { priority: 0, item: "when you have time" }).await?;
/// tx.send(Prioritized { priority: 9, item: "now" }).await?;
/// let first = rx.recv().await.ok_or("no item")??;
/// assert_eq!((first.priority, &*first.item), (9, "now"));
/// # aqueduct::mq::unlink(&name)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prioritized<T> {
    /// The priority, from 0 to 32,767 (highest).
    pub priority: u32,
    /// The item.
    pub item: T,
}

/// The size of the priority in front of each body on its way from the codec to the sink. It is not
/// sent: a typed sender passes on frames and nothing else.
const HEADER: usize = size_of::<u32>();

impl MessageSender {
    /// Creates a sender of items that carry a [priority](Prioritized) each.
    pub fn prioritized<T>(self, codec: impl Encode<T> + 'static) -> Sender<Prioritized<T>> {
        Sender::new(Tagged(self), Tags(codec))
    }
}

struct Tags<C>(C);

impl<C: Format> Format for Tags<C> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl<T, C: Encode<T>> Encode<Prioritized<T>> for Tags<C> {
    fn encode(&self, item: &Prioritized<T>, dst: &mut BytesMut) -> Result<(), BoxError> {
        dst.put_u32(item.priority);
        self.0.encode(&item.item, dst)
    }
}

struct Tagged(MessageSender);

impl Sink<Bytes> for Tagged {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, mut frame: Bytes) -> io::Result<()> {
        // `Tags` has put it there, so no frame is shorter.
        if frame.len() < HEADER {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let priority = frame.get_u32();
        Pin::new(&mut self.0).start_send(Message::new(frame).with_priority(priority))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

impl MessageReceiver {
    /// Creates a receiver of items with the [priority](Prioritized) each was sent with.
    pub fn prioritized<T>(self, codec: impl Decode<T> + 'static) -> Receiver<Prioritized<T>> {
        let priority = Arc::new(AtomicU32::new(0));
        let bodies = Bodies {
            receiver: self,
            priority: Arc::clone(&priority),
            last: Last::default(),
        };
        lent(bodies, Reads { codec, priority })
    }
}

/// The bodies alone. The priority of the last one is put aside for the codec.
struct Bodies {
    receiver: MessageReceiver,
    priority: Arc<AtomicU32>,
    last: Last,
}

impl Stream for Bodies {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.last.settle();
        let next = ready!(Pin::new(&mut self.receiver).poll_next(cx));
        Poll::Ready(next.map(|received| {
            let mut message = received?;
            self.last.keep(&mut message);
            let priority = message.priority().unwrap_or_default();
            self.priority.store(priority, Ordering::Relaxed);
            Ok(message.into_body())
        }))
    }
}

impl Lend for Bodies {
    fn poll_lend(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Lent<'_>>>> {
        let body = ready!(Pin::new(self).poll_next(cx));
        Poll::Ready(body.map(|body| body.map(Lent::Kept)))
    }

    fn is_unsettled(&self) -> bool {
        self.last.is_open()
    }

    fn stop(&mut self) {
        self.receiver.stop();
    }
}

/// Decodes a body with the priority put aside. A typed receiver decodes each body before it asks
/// for the next one.
struct Reads<C> {
    codec: C,
    priority: Arc<AtomicU32>,
}

impl<C: Format> Format for Reads<C> {
    fn name(&self) -> &'static str {
        self.codec.name()
    }
}

impl<T, C: Decode<T>> Decode<Prioritized<T>> for Reads<C> {
    fn decode(&self, body: Bytes) -> Result<Prioritized<T>, BoxError> {
        let priority = self.priority.load(Ordering::Relaxed);
        Ok(Prioritized {
            priority,
            item: self.codec.decode(body)?,
        })
    }
}
