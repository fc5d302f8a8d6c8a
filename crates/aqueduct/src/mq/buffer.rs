//! Receive buffers: as large as the queue's largest message, zeroed once and reused.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::frame::Slabs;

/// How many free receive buffers an open queue keeps for the next messages. There are no more than
/// messages in use at a time.
const MAX_FREE_BUFFERS: usize = 8;

/// Their total size in bytes, at most: 1 MiB. One is kept whatever its size.
const MAX_FREE_BYTES: usize = 1 << 20;

/// A message shorter than this is always copied out of its receive buffer.
const COPY_BELOW: usize = 2048;

/// A message shorter than this fraction of its receive buffer is copied too, so that keeping it
/// never pins more than four times its size.
const COPY_FRACTION: usize = 4;

/// The receive buffers of one queue.
#[derive(Debug)]
pub(super) struct Buffers {
    size: usize,
    max_free: usize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    /// The memory that small messages are copied into.
    slabs: Slabs,
}

impl Buffers {
    pub(super) fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            size,
            max_free: (MAX_FREE_BYTES / size.max(1)).clamp(1, MAX_FREE_BUFFERS),
            free: Mutex::default(),
        })
    }

    /// Receives with `op`, which fills a whole buffer from its start and returns how much it
    /// filled. Returns the bytes: copied if there are few, otherwise in the buffer itself, which
    /// returns here when they are dropped.
    pub(super) fn receive<R>(
        self: &Arc<Self>,
        op: impl FnOnce(&mut [u8]) -> io::Result<(R, usize)>,
    ) -> io::Result<(R, Bytes)> {
        let mut buffer = self.take();
        let received = op(&mut buffer);
        let (result, len) = match received {
            Ok((result, len)) => (result, len.min(buffer.len())),
            Err(error) => {
                self.put(buffer);
                return Err(error);
            }
        };
        let bytes = if len < COPY_BELOW || len < self.size / COPY_FRACTION {
            let mut free = self.free();
            let bytes = free.slabs.copy_one(&buffer[..len]);
            self.put_to(&mut free, buffer);
            bytes
        } else {
            let home = Arc::clone(self);
            Bytes::from_owner(Lease { buffer, len, home })
        };
        Ok((result, bytes))
    }

    fn take(&self) -> Vec<u8> {
        let buffer = self.free().buffers.pop();
        buffer.unwrap_or_else(|| vec![0; self.size])
    }

    fn put(&self, buffer: Vec<u8>) {
        self.put_to(&mut self.free(), buffer);
    }

    fn put_to(&self, free: &mut Free, buffer: Vec<u8>) {
        if free.buffers.len() < self.max_free {
            free.buffers.push(buffer);
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A borrowed buffer that is returned when dropped.
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
        self.home.put(std::mem::take(&mut self.buffer));
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
        buffers.free.lock().unwrap().buffers.len()
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
    fn free_buffers_are_bounded_in_bytes_too() {
        let free_of = |size| {
            let buffers = Buffers::new(size);
            let many: Vec<_> = (0..16).map(|_| receive(&buffers, size)).collect();
            drop(many);
            free(&buffers)
        };
        assert_eq!(free_of(MAX_FREE_BYTES / 4), 4);
        assert_eq!(free_of(MAX_FREE_BYTES / 8 * 3), 2);
        assert_eq!(free_of(MAX_FREE_BYTES * 2), 1);
    }

    #[test]
    fn a_failed_receive_gives_its_buffer_back() {
        let buffers = Buffers::new(64);
        let failed = buffers.receive(|_| Err::<((), _), _>(io::ErrorKind::WouldBlock.into()));
        assert!(failed.is_err());
        assert_eq!(free(&buffers), 1);
    }
}
