//! The cases in one process: both ends, under a typed channel of plain bytes.

mod alone;
mod points;
mod schedule;

use std::future::Future;
use std::io;
use std::time::Duration;

use aqueduct::codec::Raw;
use aqueduct::{Channel, Error};
use bytes::Bytes;
use tokio::task::yield_now;
use tokio_test::{assert_pending, task};

pub use self::alone::{idle, nothing_stays, signals};
pub use self::points::await_points;
pub use self::schedule::{handed_over, runtime_dropped, tasks, timer};
use crate::deadline;
use crate::end::Kept;
use crate::place::{Place, Side, Transport};
use crate::processes::refused;

/// Plain bytes both ways.
pub(crate) type Frames = Channel<Bytes, Bytes>;

/// The largest frame where a case is about something else.
const USUAL: usize = 1 << 20;

/// Both ends of a transport.
pub(crate) struct Pair {
    pub(crate) here: Frames,
    pub(crate) there: Frames,
    _kept: (Kept, Kept, Place),
}

impl Pair {
    pub(crate) async fn open(transport: &impl Transport) -> Self {
        Self::with_max_frame(transport, USUAL).await
    }

    async fn with_max_frame(transport: &impl Transport, bytes: usize) -> Self {
        let place = Place::new().with_max_frame(bytes);
        let ends = async {
            tokio::join!(
                transport.open(&place, Side::Here),
                transport.open(&place, Side::There)
            )
        };
        let (here, there) = deadline(ends).await;
        let (here, kept_here) = here.expect("it can be opened").channel(Raw);
        let (there, kept_there) = there.expect("it can be opened").channel(Raw);
        Self {
            here,
            there,
            _kept: (kept_here, kept_there, place),
        }
    }
}

/// A message that tells a piece of one from another: its number first, as far as there is room.
pub(crate) fn message(number: usize, size: usize) -> Bytes {
    // A prime, so that no piece of a usual size is like the next one.
    let pattern = (0..size).map(|i| ((number * 31 + i) % 251) as u8);
    let mut bytes: Vec<u8> = pattern.collect();
    let number = number.to_le_bytes();
    let head = size.min(number.len());
    bytes[..head].copy_from_slice(&number[..head]);
    bytes.into()
}

/// Sizes around the limits of pipes, pages and read buffers, as far as the transport allows.
pub(crate) fn size(transport: &impl Transport, number: usize) -> usize {
    const SIZES: [usize; 12] = [
        1, 7, 8, 100, 900, 4090, 4092, 4097, 8192, 12_288, 65_536, 200_001,
    ];
    let size = SIZES[number % SIZES.len()];
    let most = transport.promises().limit(USUAL);
    if size > most {
        1 + size % 900.min(most)
    } else {
        size
    }
}

pub(crate) async fn next(channel: &mut Frames) -> Bytes {
    let item = deadline(channel.recv()).await;
    item.expect("the stream goes on").expect("it is whole")
}

async fn send(channel: &mut Frames, message: Bytes) {
    deadline(channel.send(message)).await.expect("it is sent");
}

fn expect(came: &Bytes, number: usize, size: usize) {
    assert!(*came == message(number, size), "message {number} is wrong");
}

/// With nobody there any more, sending fails after a few messages, and does not hang.
async fn sending_fails(channel: &mut Frames) -> Error {
    let failed = async {
        for number in 0..10_000 {
            if let Err(error) = channel.send(message(number, 100)).await {
                return error;
            }
            yield_now().await;
        }
        panic!("it can still be sent to");
    };
    let error = deadline(failed).await;
    assert!(GONE.contains(&error.kind()), "{error:?}");
    error
}

/// How sending to a peer that has gone fails: the last one of a datagram socket.
pub(crate) const GONE: [io::ErrorKind; 3] = [
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionRefused,
];

/// The stream is at its end and stays so; or, where there is none, waits.
async fn ended(transport: &impl Transport, channel: &mut Frames) {
    if transport.promises().end_of_stream {
        assert!(deadline(channel.recv()).await.is_none());
        assert!(deadline(channel.recv()).await.is_none(), "it stays ended");
    } else {
        assert_pending!(task::spawn(channel.recv()).poll());
    }
}

/// Messages of all sizes arrive whole, once and in order, with both directions busy.
pub async fn order(transport: &impl Transport) {
    const MESSAGES: usize = 120;
    let mut pair = Pair::open(transport).await;
    let (here_tx, here_rx) = pair.here.split_mut();
    let (there_tx, there_rx) = pair.there.split_mut();
    let size = |number| size(transport, number);
    let give = async |sender: &mut aqueduct::Sender<Bytes>| {
        for number in 0..MESSAGES {
            sender.feed(message(number, size(number))).await?;
            if number % 10 == 9 {
                sender.flush().await?;
            }
        }
        Ok::<_, Error>(())
    };
    let take = async |receiver: &mut aqueduct::Receiver<Bytes>| {
        for number in 0..MESSAGES {
            let came = receiver.recv().await.expect("it goes on");
            expect(&came.expect("it is whole"), number, size(number));
        }
    };
    let all = async { tokio::join!(give(here_tx), take(there_rx), give(there_tx), take(here_rx)) };
    let (one, (), other, ()) = deadline(all).await;
    one.and(other).expect("all is sent");
}

/// An empty message arrives as one, or is refused and harms nothing.
pub async fn empty(transport: &impl Transport) {
    let mut pair = Pair::open(transport).await;
    send(&mut pair.here, message(0, 5)).await;
    if transport.promises().empty {
        send(&mut pair.here, Bytes::new()).await;
        send(&mut pair.here, Bytes::new()).await;
    } else {
        let error = deadline(pair.here.send(Bytes::new())).await;
        let error = error.expect_err("it is no message");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error:?}");
    }
    send(&mut pair.here, message(1, 5)).await;
    expect(&next(&mut pair.there).await, 0, 5);
    if transport.promises().empty {
        assert_eq!(next(&mut pair.there).await, "");
        assert_eq!(next(&mut pair.there).await, "");
    }
    expect(&next(&mut pair.there).await, 1, 5);
}

/// A message at the limit passes; one byte more is refused, and the sender goes on.
pub async fn largest(transport: &impl Transport) {
    for asked in [1, 1000, 70_000] {
        let limit = transport.promises().limit(asked);
        let Pair { here, there, .. } = &mut Pair::with_max_frame(transport, limit).await;
        for number in 0..3 {
            let passes = async {
                let (sent, came) = tokio::join!(here.send(message(number, limit)), there.recv());
                sent.expect("it fits");
                came.expect("the stream goes on").expect("it is whole")
            };
            expect(&deadline(passes).await, number, limit);
            let error = deadline(here.send(message(number, limit + 1))).await;
            refused(&error.expect_err("it is too large"), limit + 1, limit);
        }
    }
}

/// Closing ends this direction after all sent messages, and not the other one.
pub async fn end(transport: &impl Transport) {
    let mut pair = Pair::open(transport).await;
    let give = async {
        for number in 0..6 {
            pair.here.feed(message(number, 100)).await?;
        }
        pair.here.close().await
    };
    let take = async {
        for number in 0..6 {
            expect(&next(&mut pair.there).await, number, 100);
        }
    };
    let (closed, ()) = deadline(async { tokio::join!(give, take) }).await;
    closed.expect("it closes");
    ended(transport, &mut pair.there).await;
    // The other way goes on.
    send(&mut pair.there, message(7, 100)).await;
    expect(&next(&mut pair.here).await, 7, 100);
    let error = deadline(pair.here.send(message(0, 1))).await;
    assert!(matches!(error, Err(Error::Closed)));
}

/// A dropped sending half: flushed messages arrive, then the end; the other way goes on.
pub async fn drop_sender(transport: &impl Transport) {
    let Pair {
        here,
        mut there,
        _kept,
    } = Pair::open(transport).await;
    let (mut sender, mut receiver) = here.into_split();
    let give = async {
        for number in 0..3 {
            sender.feed(message(number, 100)).await?;
        }
        sender.flush().await?;
        drop(sender);
        Ok::<_, Error>(())
    };
    let take = async {
        for number in 0..3 {
            expect(&next(&mut there).await, number, 100);
        }
    };
    let (sent, ()) = deadline(async { tokio::join!(give, take) }).await;
    sent.expect("it is sent");
    ended(transport, &mut there).await;
    send(&mut there, message(3, 100)).await;
    let came = deadline(receiver.recv()).await.expect("it goes on");
    expect(&came.expect("it is whole"), 3, 100);
}

/// A dropped receiving half: the other way goes on; the peer notices if the transport can tell.
pub async fn drop_receiver(transport: &impl Transport) {
    let Pair {
        here,
        mut there,
        _kept,
    } = Pair::open(transport).await;
    let (mut sender, receiver) = here.into_split();
    drop(receiver);
    if transport.promises().halves_told_apart {
        sending_fails(&mut there).await;
    }
    for number in 0..3 {
        deadline(sender.send(message(number, 100)))
            .await
            .expect("it is sent");
        expect(&next(&mut there).await, number, 100);
    }
}

/// A dropped end, with and without unread messages: the other sees the end and cannot send.
pub async fn drop_end(transport: &impl Transport) {
    for unread in [false, true] {
        let Pair {
            mut here,
            there,
            _kept,
        } = Pair::open(transport).await;
        if unread {
            send(&mut here, message(0, 100)).await;
        }
        drop(there);
        if !transport.promises().end_of_stream {
            assert_pending!(task::spawn(here.recv()).poll());
            match transport.promises().receivers_told {
                true => drop(sending_fails(&mut here).await),
                // The message waits.
                false => send(&mut here, message(1, 100)).await,
            }
            continue;
        }
        if let Some(item) = deadline(here.recv()).await {
            let error = item.expect_err("nothing was sent");
            assert!(
                unread && error.kind() == io::ErrorKind::ConnectionReset,
                "{error:?}"
            );
            assert!(deadline(here.recv()).await.is_none(), "an error ends it");
        }
        sending_fails(&mut here).await;
    }
}

/// Feeds and flushes until there is no room, neither in the transport nor in the channel; gives how
/// many messages the channel has taken.
pub(crate) async fn fill(channel: &mut Frames, size: usize) -> usize {
    fill_within(channel, size, Duration::from_millis(50)).await
}

/// The same, with this long a `moment` for bytes on their way within the system. Once there is no
/// room, there stays none, since nothing is received.
pub(crate) async fn fill_within(channel: &mut Frames, size: usize, moment: Duration) -> usize {
    let mut stuck = false;
    for number in 0.. {
        assert!(number * size < 64 << 20, "nothing ever makes it wait");
        match tokio::time::timeout(moment, channel.split_mut().0.reserve()).await {
            Ok(permit) => permit.expect("there is room").send(message(number, size)),
            Err(_) => return number,
        }
        .expect("it fits");
        if !stuck {
            match tokio::time::timeout(moment, channel.flush()).await {
                Ok(flushed) => flushed.expect("the other end is there"),
                Err(_) => stuck = true,
            }
        }
    }
    unreachable!("the loop has no end")
}

/// A full buffer makes the sender wait; a read wakes it, and nothing is lost.
pub async fn full(transport: &impl Transport) {
    let size = transport.promises().limit(4900).min(4900);
    let mut pair = Pair::open(transport).await;
    let sent = fill(&mut pair.here, size).await;
    assert!(sent > 0);
    let mut flush = task::spawn(pair.here.flush());
    assert_pending!(flush.poll());
    for number in 0..sent {
        // The last ones come only once the woken sender was polled.
        let came = {
            let mut recv = std::pin::pin!(pair.there.recv());
            let came = std::future::poll_fn(|cx| {
                if flush.is_woken() {
                    let _ = flush.poll().map(|it| it.expect("it is sent"));
                }
                recv.as_mut().poll(cx)
            });
            until(came).await
        };
        let came = came.expect("the stream goes on").expect("it is whole");
        expect(&came, number, size);
    }
}

/// Polls `future` each time the runtime has run, woken or not.
async fn until<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let polled = async {
        loop {
            let once = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx)));
            if let std::task::Poll::Ready(output) = once.await {
                return output;
            }
            yield_now().await;
        }
    };
    deadline(polled).await
}
