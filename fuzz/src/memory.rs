use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// An allocator that counts, for each thread, the bytes in use and the most there have been.
///
/// A target makes it its `#[global_allocator]` and asks [`most`].
pub struct Meter;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Runs `body`, and returns with what it returned the most bytes that it had in use at once.
pub fn most<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    MOST.set(before);
    let value = body();
    (value, usize::try_from(MOST.get() - before).unwrap_or(0))
}

fn count(change: isize) {
    // A thread that is going away has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + change);
        MOST.set(MOST.get().max(now.get()));
    });
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: hands every call on to `System` as it came, and only counts beside it, without allocating.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new: usize) -> *mut u8 {
        // Both are there while the contents move.
        count(size(new));
        // SAFETY: as above.
        let moved = unsafe { System.realloc(at, layout, new) };
        count(-size(layout.size()));
        moved
    }
}
