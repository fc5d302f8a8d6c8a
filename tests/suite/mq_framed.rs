//! Message queues as streams and sinks: codecs, the end of a conversation, and what goes wrong.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use aqueduct::mq::{self, Driver, Error, Framed, Message, OpenOptions, Queue, WholeMessage};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::FusedStream;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};
use tokio_util::codec::{BytesCodec, Decoder, Encoder, LinesCodec};

use crate::mq::{QueueName, over_both_drivers};

over_both_drivers!(
    any_codec_with_priorities_over_two_halves,
    empty_message_is_one_item_of_the_codec,
    a_failed_encode_leaves_nothing_behind,
    a_failed_send_does_not_stay,
    an_oversized_item_is_refused_at_once,
    a_broken_message_costs_one_item,
    a_broken_message_does_not_spoil_a_codec_with_a_state,
    a_codec_that_takes_nothing_makes_no_endless_items,
    a_full_queue_holds_one_message_back,
    a_kept_item_pins_its_message_only,
    closing_announces_the_end_after_everything,
    the_end_with_several_senders_and_receivers,
    framed_ends_too,
    the_end_cannot_be_mistaken_for_a_message,
);

/// One byte of length, then that many bytes; fails on `0xff`, after having written half.
#[derive(Debug, Default)]
struct Short;

impl Decoder for Short {
    type Item = Vec<u8>;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<Vec<u8>>> {
        match src.first() {
            None => Ok(None),
            Some(0xff) => Err(io::ErrorKind::InvalidData.into()),
            Some(0xfe) => Ok(Some(b"stuck".to_vec())),
            Some(len) if src.len() <= usize::from(*len) => Ok(None),
            Some(_) => {
                let len = usize::from(src.get_u8());
                Ok(Some(src.split_to(len).to_vec()))
            }
        }
    }
}

impl Encoder<&[u8]> for Short {
    type Error = io::Error;

    fn encode(&mut self, item: &[u8], dst: &mut BytesMut) -> io::Result<()> {
        dst.put_u8(item.len() as u8);
        dst.put_slice(item);
        if item.first() == Some(&0xff) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn two() -> NonZeroUsize {
    NonZeroUsize::new(2).unwrap()
}

async fn next<C: Decoder>(framed: &mut Framed<C, Arc<Queue>>) -> Option<(C::Item, u32)>
where
    C::Error: std::fmt::Debug,
{
    framed.next().await.transpose().unwrap()
}

async fn any_codec_with_priorities_over_two_halves(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 3, 32));
    let mut lines = Framed::new(Arc::clone(&queue), LinesCodec::new());
    let mut half = Framed::new(Arc::clone(&queue), LinesCodec::new());
    lines.send(("a", 0)).await.unwrap();
    lines.send(("b", 7)).await.unwrap();
    assert_eq!(next(&mut half).await, Some(("b".to_owned(), 7)));
    assert_eq!(next(&mut half).await, Some(("a".to_owned(), 0)));
    // Several items in one message all have its priority; the last needs no newline.
    queue.send(5, b"x\ny\r\nz").await.unwrap();
    for line in ["x", "y", "z"] {
        assert_eq!(next(&mut half).await, Some((line.to_owned(), 5)));
    }
    let mut waiting = spawn(half);
    assert_pending!(waiting.poll_next());
    assert_eq!(lines.get_ref().name(), name.0);
    let (_, _, pending) = lines.into_parts();
    assert_eq!(pending, None);
}

/// `UdpFramed` asks a codec that takes empty messages for ever, and swallows them with others.
async fn empty_message_is_one_item_of_the_codec(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 3, 32));
    let mut whole = Framed::new(Arc::clone(&queue), WholeMessage);
    whole.send((b"", 2)).await.unwrap();
    whole.send((b"", 1)).await.unwrap();
    whole.send((b"x", 0)).await.unwrap();
    assert_eq!(next(&mut whole).await, Some((Bytes::new(), 2)));
    assert_eq!(next(&mut whole).await, Some((Bytes::new(), 1)));
    assert_eq!(next(&mut whole).await, Some((Bytes::from("x"), 0)));
    // This one makes nothing of no bytes, and goes on.
    let mut bytes = Framed::new(Arc::clone(&queue), BytesCodec::new());
    queue.send(0, b"").await.unwrap();
    queue.send(0, b"y").await.unwrap();
    assert_eq!(next(&mut bytes).await, Some((BytesMut::from("y"), 0)));
}

/// `UdpFramed` begins the next message with what a failed encode has left.
async fn a_failed_encode_leaves_nothing_behind(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 32));
    let mut framed = Framed::new(Arc::clone(&queue), Short);
    let error = framed.send((&b"\xffhalf"[..], 0)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    framed.send((&b"whole"[..], 0)).await.unwrap();
    assert_eq!(
        queue.recv().await.unwrap(),
        Message::new(0, &b"\x05whole"[..])
    );
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// tokio#7648: after a failed send `UdpFramed` fails with it at every later one.
async fn a_failed_send_does_not_stay(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 32));
    let mut framed = Framed::new(Arc::clone(&queue), WholeMessage);
    for _ in 0..2 {
        let error = framed.send((b"x", 40_000)).await.unwrap_err();
        assert!(matches!(
            Error::find(&error),
            Some(Error::Priority { asked: 40_000 })
        ));
    }
    framed.send((b"fine", 1)).await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), Message::new(1, "fine"));
    // In a wait, too: it fails for want of a runtime, and then it does not.
    let (first, second) = (queue.send(0, b"1"), queue.send(0, b"2"));
    first.await.unwrap();
    second.await.unwrap();
    let fail = std::thread::spawn(move || {
        let failed = framed
            .send((b"lost", 0))
            .now_or_never()
            .expect("it cannot wait");
        assert!(matches!(
            Error::find(&failed.unwrap_err()),
            Some(Error::NoRuntime)
        ));
        framed
    });
    let mut framed = tokio::task::spawn_blocking(|| fail.join().unwrap())
        .await
        .unwrap();
    assert_eq!(queue.drain().unwrap(), 2);
    framed.send((b"again", 0)).await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), Message::new(0, "again"));
}

async fn an_oversized_item_is_refused_at_once(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    let mut framed = Framed::new(Arc::clone(&queue), WholeMessage);
    let mut sink = mq::Sender::new(Arc::clone(&queue)).unwrap();
    for error in [
        framed.feed((b"nine byte", 0)).await.unwrap_err(),
        sink.feed("nine byte".into()).await.unwrap_err(),
    ] {
        assert!(matches!(
            Error::find(&error),
            Some(Error::MessageTooLarge { len: 9, max: 8, .. })
        ));
    }
    framed.send((b"8 bytes!", 0)).await.unwrap();
    sink.send("8 bytes!".into()).await.unwrap();
    assert_eq!(queue.drain().unwrap(), 2);
}

/// `UdpFramed` decodes the same bytes again after an error.
async fn a_broken_message_costs_one_item(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 3, 32));
    let mut framed = Framed::new(Arc::clone(&queue), Short);
    queue.send(0, b"\x01a\xff\x01b").await.unwrap();
    queue.send(0, b"\x09truncated").await.unwrap();
    queue.send(0, b"\x09trunc").await.unwrap();
    assert_eq!(next(&mut framed).await, Some((b"a".to_vec(), 0)));
    let error = framed.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(framed.read_buffer().is_empty());
    assert_eq!(next(&mut framed).await, Some((b"truncated".to_vec(), 0)));
    // What is left at the end of a message is never the beginning of the next.
    framed.next().await.unwrap().unwrap_err();
    queue.send(0, b"\x01c").await.unwrap();
    assert_eq!(next(&mut framed).await, Some((b"c".to_vec(), 0)));
}

/// A codec that waits for the rest of a message cut off took the next one, whole, for that: one
/// message of four bytes cost another sender's.
async fn a_broken_message_does_not_spoil_a_codec_with_a_state(driver: Driver) {
    use tokio_util::codec::{LengthDelimitedCodec, LinesCodec};

    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 4, 32));
    let codec = LengthDelimitedCodec::new();
    let mut framed = Framed::new(Arc::clone(&queue), codec).with_fresh_codec();
    // Cut off in the body: an error. Cut off before it: the codec says nothing at all.
    queue.send(0, b"\0\0\0\x06cut").await.unwrap();
    queue.send(0, b"\0\0\0\x06").await.unwrap();
    queue.send(0, b"\0\0\0\x02ok").await.unwrap();
    framed.next().await.unwrap().unwrap_err();
    let (item, _) = framed.next().await.unwrap().unwrap();
    assert_eq!(item, "ok");

    let codec = LinesCodec::new_with_max_length(4);
    let mut framed = Framed::new(Arc::clone(&queue), codec).with_fresh_codec();
    queue.send(0, b"too long\n").await.unwrap();
    queue.send(0, b"ok\n").await.unwrap();
    framed.next().await.unwrap().unwrap_err();
    assert_eq!(next(&mut framed).await, Some(("ok".to_owned(), 0)));
}

/// A decoder that returns an item without taking bytes does so for ever.
async fn a_codec_that_takes_nothing_makes_no_endless_items(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 3, 32));
    let mut framed = Framed::new(Arc::clone(&queue), Short);
    queue.send(0, b"\xfe").await.unwrap();
    queue.send(0, b"\x02ok").await.unwrap();
    assert_eq!(next(&mut framed).await, Some((b"stuck".to_vec(), 0)));
    assert_eq!(next(&mut framed).await, Some((b"ok".to_vec(), 0)));
}

/// What a sink has taken it sends, whole, whatever happens to the future that gave it.
async fn a_full_queue_holds_one_message_back(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 1, 8));
    let mut sink = mq::Sender::new(Arc::clone(&queue)).unwrap();
    let mut framed = Framed::new(Arc::clone(&queue), WholeMessage);
    sink.feed("1".into()).await.unwrap();
    // Sent at once: there was room, and nobody flushed.
    assert_eq!(queue.attributes().unwrap().messages, 1);
    sink.feed("2".into()).now_or_never().unwrap().unwrap();
    assert!(sink.feed("never".into()).now_or_never().is_none());
    assert!(sink.flush().now_or_never().is_none());
    framed.feed((b"3", 0)).now_or_never().unwrap().unwrap();
    assert!(
        SinkExt::<(&[u8], u32)>::flush(&mut framed)
            .now_or_never()
            .is_none()
    );

    for expected in ["1", "2"] {
        assert_eq!(queue.recv().await.unwrap().body, expected);
        sink.flush().await.unwrap();
    }
    SinkExt::<(&[u8], u32)>::flush(&mut framed).await.unwrap();
    assert_eq!(queue.recv().await.unwrap().body, "3");
    sink.close().await.unwrap();
    let error = sink.feed("4".into()).await.unwrap_err();
    assert!(matches!(Error::find(&error), Some(Error::Closed { .. })));
    let (_, pending) = sink.into_inner();
    assert_eq!(pending, None);
}

/// Keeping a 10-byte item pinned its 8 KiB buffer.
async fn a_kept_item_pins_its_message_only(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 1, 8192));
    let mut framed = Framed::new(Arc::clone(&queue), BytesCodec::new());
    framed
        .send((Bytes::from_static(b"ten bytes!"), 0))
        .await
        .unwrap();
    let (item, _) = next(&mut framed).await.unwrap();
    assert!(
        item.capacity() < 64,
        "{} bytes are kept for ten",
        item.capacity()
    );
}

/// The end is of the lowest priority, so it comes after all that the sender has sent.
async fn closing_announces_the_end_after_everything(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    let mut sender = mq::Sender::new(Arc::clone(&queue))
        .unwrap()
        .announces_end(one());
    let mut receiver = mq::Receiver::new(Arc::clone(&queue))
        .unwrap()
        .ends_after(one());
    sender.send("low".into()).await.unwrap();
    queue.send(9, b"high").await.unwrap();
    // The queue is full: closing waits, and may be cancelled and tried again.
    let mut close = spawn(sender.close());
    assert_pending!(close.poll());
    drop(close);
    assert_eq!(receiver.next().await.unwrap().unwrap(), "high");
    sender.close().await.unwrap();
    sender.close().await.unwrap();
    assert_eq!(receiver.next().await.unwrap().unwrap(), "low");
    assert!(receiver.next().await.is_none());
    // Fused, and one end only was sent.
    queue.send(0, b"later").await.unwrap();
    assert!(receiver.next().await.is_none());
    assert_eq!(receiver.into_inner().recv().await.unwrap().body, "later");
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

async fn the_end_with_several_senders_and_receivers(driver: Driver) {
    const EACH: u32 = 300;
    let name = QueueName::new();
    let _made = name.create(driver, 4, 8);
    let options = OpenOptions::new().driver(driver).clone();
    let mut receivers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let receiver = options.open_receiver(&name.0).unwrap().ends_after(two());
        receivers.spawn(receiver.map(|it| it.unwrap()).collect::<Vec<_>>());
    }
    let mut senders = tokio::task::JoinSet::new();
    for from in 0..2 {
        let receivers = NonZeroUsize::new(3).unwrap();
        let mut sender = options
            .open_sender(&name.0)
            .unwrap()
            .announces_end(receivers);
        senders.spawn(async move {
            for i in 0..EACH {
                let body = (from * EACH + i).to_le_bytes();
                sender.send(Bytes::copy_from_slice(&body)).await.unwrap();
            }
            sender.close().await.unwrap();
        });
    }
    senders.join_all().await;
    let mut got: Vec<_> = receivers.join_all().await.concat();
    got.sort_by_key(|it| u32::from_le_bytes(it[..].try_into().unwrap()));
    let all: Vec<_> = (0..2 * EACH)
        .map(|it| Bytes::copy_from_slice(&it.to_le_bytes()))
        .collect();
    assert_eq!(got, all);
    assert_eq!(
        _made.attributes().unwrap().messages,
        0,
        "no end is left over"
    );
}

async fn framed_ends_too(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 4, 8));
    let mut sink = Framed::new(Arc::clone(&queue), LinesCodec::new()).announces_end(two());
    let mut stream = Framed::new(Arc::clone(&queue), LinesCodec::new()).ends_after(one());
    let mut other = mq::Receiver::new(Arc::clone(&queue))
        .unwrap()
        .ends_after(one());
    sink.send(("a", 3)).await.unwrap();
    SinkExt::<(&str, u32)>::close(&mut sink).await.unwrap();
    let error = sink.feed(("b", 0)).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert_eq!(next(&mut stream).await, Some(("a".to_owned(), 3)));
    assert!(stream.next().await.is_none());
    assert!(stream.next().await.is_none());
    assert!(other.next().await.is_none());
}

/// Whoever announces ends refuses to send what would look like one.
async fn the_end_cannot_be_mistaken_for_a_message(driver: Driver) {
    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 4, 8));
    let mut sender = mq::Sender::new(Arc::clone(&queue))
        .unwrap()
        .announces_end(one());
    let mut framed = Framed::new(Arc::clone(&queue), WholeMessage).announces_end(one());
    for error in [
        sender.send(Bytes::new()).await.unwrap_err(),
        framed.send((b"", 0)).await.unwrap_err(),
    ] {
        assert!(matches!(
            Error::find(&error),
            Some(Error::EmptyMessage { .. })
        ));
    }
    assert_eq!(queue.attributes().unwrap().messages, 0);
    // Who has not agreed sees a message.
    let mut plain = spawn(mq::Receiver::new(Arc::clone(&queue)).unwrap());
    sender.close().await.unwrap();
    assert_eq!(assert_ready!(plain.poll_next()).unwrap().unwrap(), "");
}

/// A codec can be looked at and changed under way, and what is taken apart is the queue as it was.
#[tokio::test]
async fn what_an_end_is_made_of_can_be_had() {
    let name = QueueName::new();
    let queue = Arc::new(name.create(Driver::Pool, 4, 16));
    let mut framed = Framed::new(Arc::clone(&queue), LinesCodec::new());
    framed.send(("a line of more", 1)).await.unwrap();
    assert_eq!(framed.codec().max_length(), usize::MAX);
    *framed.codec_mut() = LinesCodec::new_with_max_length(3);
    assert!(
        framed.next().await.unwrap().is_err(),
        "longer than is allowed now"
    );
    framed.send(("two", 2)).await.unwrap();
    assert!(
        format!("{framed:?}").contains("active: false"),
        "{framed:?}"
    );
    let back: Arc<Queue> = framed.into_inner();
    let mut receiver = mq::Receiver::new(back).unwrap().ends_after(one());
    assert_eq!(receiver.queue().name(), name.0);
    assert_eq!(receiver.next().await.unwrap().unwrap(), "two\n");
    assert!(!receiver.is_terminated());
    queue.try_send(0, b"").unwrap();
    assert!(receiver.next().await.is_none());
    assert!(receiver.is_terminated());
}
