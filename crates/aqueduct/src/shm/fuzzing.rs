//! The parts of a connection that a peer's bytes and words reach, for the fuzz target `shm`.

use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

use super::error::PeerError;
use super::hello::Hello;
use super::ring::{Data, Half, Link, Patience, Rung, Rx, SMALLEST, Tx, Word};

pub(crate) fn hello(wire: &[u8]) -> Result<Option<Vec<u8>>, PeerError> {
    Ok(Hello::parse(wire)?.map(|it| it.encode().to_vec()))
}

/// A peer whose every word, whenever it is looked at, has the next of these values.
struct Peer<'a> {
    words: &'a [u64],
    next: Cell<usize>,
    capacity: usize,
}

impl Link for Peer<'_> {
    fn store(&self, _: Word, _: u64, _: Ordering) {}

    fn load(&self, _: Word) -> u64 {
        let next = self.next.get();
        self.next.set(next + 1);
        self.words.get(next).copied().unwrap_or(0)
    }

    fn copy_out(&self, at: usize, len: usize, buf: &mut ReadBuf<'_>) {
        assert!(
            at < self.capacity && len <= self.capacity - at,
            "{at}, {len}"
        );
        buf.put_slice(&vec![0; len]);
    }

    fn ring(&self) -> io::Result<()> {
        Ok(())
    }

    fn register(&self, _: Half, _: &mut Context<'_>) {}

    fn poll_rung(&self) -> Poll<io::Result<Rung>> {
        match self.next.get() < self.words.len() {
            true => Poll::Ready(Ok(Rung::Bell)),
            false => Poll::Ready(Ok(Rung::Gone)),
        }
    }
}

/// Checks where it is written to.
struct Room(usize);

impl Data for Room {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at < self.0 && bytes.len() <= self.0 - at);
    }
}

struct Eager;

impl Patience for Eager {
    fn paid(&mut self) {}

    fn poll_again(&mut self, _: &mut Context<'_>) -> Poll<bool> {
        Poll::Ready(false)
    }
}

pub(crate) fn ring_of(words: &[u64], capacity: u32) -> (usize, Option<io::Error>) {
    let most = (SMALLEST << (capacity % 5)).next_power_of_two();
    let link = Peer {
        words,
        next: Cell::new(0),
        capacity: most as usize,
    };
    let mut cx = Context::from_waker(Waker::noop());
    let mut rx = Rx::new(most);
    let mut tx = Tx::new(Room(most as usize), SMALLEST);
    tx.grow_to(most);
    let mut bytes = [0; 8192];
    let mut read = 0;
    loop {
        let before = link.next.get();
        let put = tx.put(&link, &bytes).and_then(|n| {
            tx.publish(&link)?;
            Ok(n)
        });
        let waited = put.and_then(|n| match n {
            0 => match tx.poll_room(&link, &mut cx, 1) {
                Poll::Ready(room) => room,
                Poll::Pending => Ok(()),
            },
            _ => Ok(()),
        });
        if let Err(error) = waited {
            return (read, Some(error));
        }
        let mut buf = ReadBuf::new(&mut bytes);
        match rx.poll_read(&link, &mut cx, &mut buf, &mut Eager) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return (read, None),
            Poll::Ready(Ok(())) => read += buf.filled().len(),
            Poll::Ready(Err(error)) => return (read, Some(error)),
            Poll::Pending => {}
        }
        assert!(link.next.get() > before || link.next.get() >= words.len());
        if link.next.get() > words.len() + 64 {
            return (read, None);
        }
    }
}
