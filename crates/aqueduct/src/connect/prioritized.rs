//! [`Prioritized`]: typed items with a priority each.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_sink::Sink;

use super::beside::{self, Part, Reads};
use super::{Message, MessageReceiver, MessageSender};
use crate::channel::{Receiver, Sender};
use crate::codec::{BoxError, Decode, Encode, Format};

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
        beside::receive::<_, _, Priority>(self, codec)
    }
}

/// That of a message, or 0.
struct Priority(u32);

impl Part for Priority {
    fn take(message: &mut Message) -> Self {
        Self(message.priority().unwrap_or_default())
    }
}

impl<T, C: Decode<T>> Decode<Prioritized<T>> for Reads<C, Priority> {
    fn decode(&self, body: Bytes) -> Result<Prioritized<T>, BoxError> {
        let (item, Priority(priority)) = self.parse(body)?;
        Ok(Prioritized { priority, item })
    }
}
