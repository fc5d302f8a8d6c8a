//! Sending typed items allocates nothing once it has got going. A binary of its own, since it counts
//! what the allocator does.
#![cfg(feature = "json")]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aqueduct::Sender;
use aqueduct::codec::Json;
use aqueduct::frame::Framing;
use serde::Serialize;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes every call on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Threads that are being torn down are not counted.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Serialize)]
struct Job<'a> {
    id: u64,
    text: &'a str,
}

#[tokio::test]
async fn sending_allocates_nothing_in_the_steady_state() {
    for size in [10, 1000, 30_000] {
        let text = "x".repeat(size);
        let (tx, rx) = aqueduct::pipe::pipe().unwrap();
        let drain = std::thread::spawn(move || {
            let mut rx = std::fs::File::from(rx.into_blocking_fd().unwrap());
            std::io::copy(&mut rx, &mut std::io::sink()).unwrap();
        });
        let mut sender = Sender::new(tx.framed(Framing::length()), Json);
        // Before that the buffers grow, and Tokio makes a list when the task first uses up its budget.
        let mut allocating = 0;
        for id in 0..1000 {
            let before = ALLOCATIONS.get();
            sender.send(Job { id, text: &text }).await.unwrap();
            if id >= 300 {
                allocating += usize::from(ALLOCATIONS.get() != before);
            }
        }
        // On a busy machine a writer that is woken for nothing starts to wait elsewhere, once in a while.
        assert!(
            allocating <= 7,
            "{allocating} of 700 messages of {size} bytes allocated"
        );
        sender.close().await.unwrap();
        drain.join().unwrap();
    }
}
