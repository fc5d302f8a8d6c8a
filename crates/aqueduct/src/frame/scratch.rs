//! The buffer into which whole messages are received.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;

use super::slabs::Slabs;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// One per thread, not per socket, so that idle sockets use no memory.
#[derive(Default)]
struct Scratch {
    /// The kernel provides its pages as large messages fill them.
    buffer: Vec<u8>,
    slabs: Slabs,
}

/// Calls `receive` with a buffer of `limit` bytes and returns a copy of the part that it filled.
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
        // The thread is being destroyed.
        .unwrap_or_else(|_| into(&mut Scratch::default()))
}
