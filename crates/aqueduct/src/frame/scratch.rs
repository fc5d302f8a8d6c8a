//! Memory that whole messages are received into.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;

use super::slabs::Slabs;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Receives messages and holds the copies. One per thread, not per socket, so that many sockets use no
/// memory.
#[derive(Default)]
struct Scratch {
    /// Its pages are untouched until a large message needs them.
    buffer: Vec<u8>,
    slabs: Slabs,
}

/// Receives one message with `receive` into a buffer of `limit` bytes, and copies the part of it that
/// `receive` says was filled. Keeping the copy keeps little more.
pub(crate) fn received<T>(
    limit: usize,
    mut receive: impl FnMut(&mut [u8]) -> io::Result<(usize, T)>,
) -> io::Result<(Bytes, T)> {
    let mut into = |scratch: &mut Scratch| {
        let Scratch { buffer, slabs } = scratch;
        if buffer.len() < limit {
            // Fresh zeroed memory and not `resize`, which would touch every page.
            *buffer = vec![0; limit];
        }
        let (len, rest) = receive(&mut buffer[..limit])?;
        Ok((slabs.copy_one(&buffer[..len]), rest))
    };
    SCRATCH
        .try_with(|scratch| into(&mut scratch.borrow_mut()))
        // Only in the last moments of a thread.
        .unwrap_or_else(|_| into(&mut Scratch::default()))
}
