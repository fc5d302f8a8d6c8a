//! Frames of bytes cost no allocation once the buffers have grown. A binary of its own, since it
//! counts what the allocator does.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use aqueduct::bytes::Bytes;
use aqueduct::frame::Framing;
use futures_util::{SinkExt, StreamExt};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // Threads that are being torn down are not counted.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: passes every call on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[tokio::test]
async fn frames_allocate_nothing_in_the_steady_state() {
    for size in [1, 64, 1024, 10_000, 65_536, 1 << 20] {
        let (tx, rx) = aqueduct::pipe::pipe().unwrap();
        let (mut tx, mut rx) = (tx.framed(Framing::length()), rx.framed(Framing::length()));
        let body = Bytes::from(vec![7; size]);
        let mut allocating = 0;
        for round in 0..400 {
            let before = ALLOCATIONS.get();
            let send = async {
                tx.feed(body.clone()).await.unwrap();
                tx.send(body.clone()).await.unwrap();
            };
            let receive = async {
                assert_eq!(rx.next().await.unwrap().unwrap().len(), size);
                assert_eq!(rx.next_borrowed().await.unwrap().unwrap().len(), size);
            };
            tokio::pin!(send, receive);
            futures_util::future::join(send, receive).await;
            // Before that the buffers grow, and Tokio makes a list when the task first uses up its
            // budget.
            if round >= 300 {
                allocating += usize::from(ALLOCATIONS.get() != before);
            }
        }
        // On a busy machine a writer that is woken for nothing starts to wait elsewhere, once in a while.
        assert!(
            allocating <= 3,
            "{allocating} of 100 rounds with frames of {size} bytes allocated"
        );
    }
}
