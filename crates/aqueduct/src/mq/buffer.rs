//! Receive buffers: as large as the queue's largest message, zeroed once and used again.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use std::sync::Arc;

/// How many free receive buffers a queue keeps for the next messages.
pub(super) const MAX_FREE_BUFFERS: usize = 8;

/// A message shorter than this is always copied out of its receive buffer.
const COPY_BELOW: usize = 2048;

/// A message shorter than this fraction of its receive buffer is copied too, so that keeping it
/// never pins more than four times its size.
const COPY_FRACTION: usize = 4;

/// The receive buffers of one queue.
#[derive(Debug)]
pub(super) struct Buffers {
    size: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    pub(super) fn new(size: usize) -> Arc<Self> {
        let free = Mutex::new(Vec::new());
        Arc::new(Self { size, free })
    }

    /// Receives with `op`, which fills a whole buffer from its start and returns how much it
    /// filled, and gives the bytes away: copied where they are few, else in the buffer itself,
    /// which comes back here when they are dropped.
    pub(super) fn receive<R>(
        self: &Arc<Self>,
        op: impl FnOnce(&mut [u8]) -> io::Result<(R, usize)>,
    ) -> io::Result<(R, Bytes)> {
        let mut lease = self.lease();
        let (result, len) = op(&mut lease.buffer)?;
        lease.len = len.min(lease.buffer.len());
        let bytes = if len < COPY_BELOW || len < self.size / COPY_FRACTION {
            Bytes::copy_from_slice(lease.as_ref())
        } else {
            Bytes::from_owner(lease)
        };
        Ok((result, bytes))
    }

    /// The same, but only lends the bytes.
    pub(super) fn lend<R>(
        self: &Arc<Self>,
        op: impl FnOnce(&mut [u8]) -> io::Result<(R, usize)>,
        take: impl FnOnce(&[u8]),
    ) -> io::Result<R> {
        let mut lease = self.lease();
        let (result, len) = op(&mut lease.buffer)?;
        lease.len = len.min(lease.buffer.len());
        take(lease.as_ref());
        Ok(result)
    }

    fn lease(self: &Arc<Self>) -> Lease {
        let free = self.free.lock();
        let buffer = free.unwrap_or_else(PoisonError::into_inner).pop();
        Lease {
            buffer: buffer.unwrap_or_else(|| vec![0; self.size]),
            len: 0,
            home: Arc::clone(self),
        }
    }
}

/// A buffer on loan: it goes home when dropped.
struct Lease {
    buffer: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Lease {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let free = self.home.free.lock();
        let mut free = free.unwrap_or_else(PoisonError::into_inner);
        if free.len() < MAX_FREE_BUFFERS {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffers: &Arc<Buffers>, len: usize) -> Bytes {
        let fill = |buffer: &mut [u8]| {
            buffer[..len].fill(7);
            Ok(((), len))
        };
        buffers.receive(fill).unwrap().1
    }

    fn free(buffers: &Buffers) -> usize {
        buffers.free.lock().unwrap().len()
    }

    #[test]
    fn a_kept_small_message_does_not_pin_its_buffer() {
        let buffers = Buffers::new(8192);
        let kept = receive(&buffers, 10);
        assert_eq!((kept.len(), free(&buffers)), (10, 1));
    }

    #[test]
    fn a_large_message_keeps_its_buffer_and_gives_it_back() {
        let buffers = Buffers::new(8192);
        let large = receive(&buffers, 8000);
        assert_eq!((large.len(), free(&buffers)), (8000, 0));
        drop(large);
        assert_eq!(free(&buffers), 1);
    }

    #[test]
    fn free_buffers_are_bounded() {
        let buffers = Buffers::new(4096);
        let many: Vec<_> = (0..100).map(|_| receive(&buffers, 4096)).collect();
        drop(many);
        assert_eq!(free(&buffers), MAX_FREE_BUFFERS);
    }

    #[test]
    fn a_failed_receive_gives_its_buffer_back() {
        let buffers = Buffers::new(64);
        let failed = buffers.receive(|_| Err::<((), _), _>(io::ErrorKind::WouldBlock.into()));
        assert!(failed.is_err());
        assert_eq!(free(&buffers), 1);
    }
}
