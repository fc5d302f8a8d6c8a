//! The memory of ends that are idle: each thread keeps a little of it for the end that reads or
//! writes next.
//!
//! An end takes memory when it has something to read or write, and gives it back when its buffers
//! are empty. So thousands of idle connections hold next to nothing, and busy ones find memory that
//! is warm.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;

/// Buffers up to this size stay with an end that is idle: one page.
pub(super) const STAYS: usize = 4096;

/// How many buffers a thread keeps, of each kind.
const MOST: usize = 16;

/// How many bytes of each kind a thread keeps: 8 MiB.
const MOST_BYTES: usize = 8 << 20;

/// A buffer of more than this many times what is needed is left to those that need it.
const TOO_LARGE: usize = 4;

thread_local! {
    /// The memory that was read into last: most ends find it here.
    static LAST: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static READ: RefCell<Shelf<Vec<u8>>> = const { RefCell::new(Shelf::new()) };
    static LOOSE: RefCell<Shelf<BytesMut>> = const { RefCell::new(Shelf::new()) };
}

struct Shelf<T> {
    buffers: Vec<(usize, T)>,
    bytes: usize,
}

impl<T> Shelf<T> {
    const fn new() -> Self {
        Self {
            buffers: Vec::new(),
            bytes: 0,
        }
    }

    /// Keeps a buffer. Those that were not used for longest make room for it.
    fn put(&mut self, size: usize, buffer: T) {
        if size > MOST_BYTES {
            return;
        }
        while self.buffers.len() == MOST || self.bytes + size > MOST_BYTES {
            let (oldest, _) = self.buffers.remove(0);
            self.bytes -= oldest;
        }
        self.bytes += size;
        self.buffers.push((size, buffer));
    }

    /// Takes the buffer that was put in last of those that suit and are free.
    fn take(&mut self, needed: usize, mut free: impl FnMut(&mut T) -> bool) -> Option<T> {
        let at = self
            .buffers
            .iter_mut()
            .rposition(|(size, buffer)| suits(*size, needed) && free(buffer))?;
        let (size, buffer) = self.buffers.remove(at);
        self.bytes -= size;
        Some(buffer)
    }
}

/// Gives back memory to read into; its contents stay as they are.
pub(super) fn give_read(memory: Vec<u8>) {
    if memory.is_empty() {
        return;
    }
    // A thread that is ending keeps nothing.
    let _ = LAST.try_with(|last| {
        let before = last.replace(memory);
        if !before.is_empty() {
            let _ = READ.try_with(|shelf| shelf.borrow_mut().put(before.len(), before));
        }
    });
}

/// At least `needed` bytes to read into: used ones, or new ones that are zero.
pub(super) fn take_read(needed: usize) -> Vec<u8> {
    let last = LAST.try_with(Cell::take).unwrap_or_default();
    if suits(last.len(), needed) {
        return last;
    }
    take_other(last, needed)
}

#[cold]
fn take_other(last: Vec<u8>, needed: usize) -> Vec<u8> {
    let used = READ.try_with(|shelf| {
        let mut shelf = shelf.borrow_mut();
        if !last.is_empty() {
            shelf.put(last.len(), last);
        }
        shelf.take(needed, |_| true)
    });
    used.ok().flatten().unwrap_or_else(|| vec![0; needed])
}

/// Whether a buffer is large enough, and not so large that it is left to those that need it.
fn suits(size: usize, needed: usize) -> bool {
    size >= needed && size / TOO_LARGE <= needed
}

/// Gives back a buffer whose memory has room for `size` bytes. Frames may still share it.
pub(super) fn give(mut buffer: BytesMut, size: usize) {
    buffer.clear();
    let _ = LOOSE.try_with(|shelf| shelf.borrow_mut().put(size, buffer));
}

/// An empty buffer with room for `needed` bytes, if there is one that no frame shares any more.
pub(super) fn take(needed: usize) -> Option<BytesMut> {
    let free = |buffer: &mut BytesMut| buffer.try_reclaim(needed);
    LOOSE
        .try_with(|shelf| shelf.borrow_mut().take(needed, free))
        .ok()
        .flatten()
}
