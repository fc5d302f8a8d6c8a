//! Sending and receiving: order, sizes, directions, time.

use std::sync::Arc;
use std::time::Duration;

use aqueduct::connect::{MessageReceiver, MessageSender};
use aqueduct::frame::FrameError;
use aqueduct::mq::{Driver, OpenOptions};
use aqueduct::{OpenError, OpenErrorKind};

use super::{QueueName, body, message, over_both_drivers, refused};

/// The highest priority Linux has.
const MAX_PRIORITY: u32 = 32_767;

over_both_drivers!(
    higher_priorities_first_equal_ones_in_order,
    empty_message_is_a_message,
    message_of_any_size_arrives_whole,
    message_too_large_is_refused_before_the_system_call,
    receiving_needs_a_buffer_of_the_queues_message_size,
    wrong_direction_is_a_typed_error,
    full_and_empty_queues_would_block,
    all_senders_closed_is_no_end,
    timeouts_take_what_is_there_and_give_up_on_nothing,
    attributes_tell_the_depth,
    drain_empties_once,
);

/// Order is by priority, and first in first out within one.
async fn higher_priorities_first_equal_ones_in_order(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 6, 8);
    for (priority, text) in [(0, "a"), (5, "b"), (MAX_PRIORITY, "c"), (5, "d"), (0, "e")] {
        queue.send(priority, text.as_bytes()).await.unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        let message = queue.recv().await.unwrap();
        order.push((message.priority().unwrap(), message.into_body()));
    }
    let expected = [(MAX_PRIORITY, "c"), (5, "b"), (5, "d"), (0, "a"), (0, "e")];
    assert_eq!(order, expected.map(|(p, it)| (p, it.into())));

    let error = queue.send(MAX_PRIORITY + 1, b"x").await.unwrap_err();
    let refusal = FrameError::Priority {
        asked: MAX_PRIORITY + 1,
        max: MAX_PRIORITY,
    };
    assert_eq!(FrameError::of(&error), Some(&refusal));
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// A zero-length message is an item, never an end.
async fn empty_message_is_a_message(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    queue.send(3, b"").await.unwrap();
    queue.send(3, b"after").await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), message(3, ""));
    assert_eq!(queue.recv().await.unwrap(), message(3, "after"));
}

/// Messages below and above the size from which they are not copied.
async fn message_of_any_size_arrives_whole(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8192);
    let pattern: Vec<u8> = (0..8192_u32).map(|i| (i % 251) as u8).collect();
    let mut kept = Vec::new();
    for len in [0, 1, 2, 2047, 2048, 2049, 4095, 4096, 8191, 8192] {
        queue.send(0, &pattern[..len]).await.unwrap();
        kept.push((len, queue.recv().await.unwrap().into_body()));
    }
    // Kept while others came: their buffers are not used again under them.
    for (len, body) in kept {
        assert!(body == pattern[..len], "message of {len} bytes");
    }
}

/// One byte too many is `EMSGSIZE`; the error says how large it was and may be.
async fn message_too_large_is_refused_before_the_system_call(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 16);
    queue.send(0, &[1; 16]).await.unwrap();
    // The queue is full: had the kernel been asked, it might have waited.
    for result in [queue.send(0, &[2; 17]).await, queue.try_send(0, &[2; 17])] {
        let error = result.unwrap_err();
        let refusal = FrameError::TooLarge { len: 17, max: 16 };
        assert_eq!(FrameError::of(&error), Some(&refusal));
    }
    assert_eq!(queue.recv().await.unwrap().into_body(), [1; 16][..]);
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// A receive buffer smaller than the queue's largest message fails even for 4 bytes.
async fn receiving_needs_a_buffer_of_the_queues_message_size(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 2, 4096);
    // Opened by one who asks for less: what counts is what the queue has.
    let queue = OpenOptions::new()
        .max_message(16)
        .driver(driver)
        .open(&name.0)
        .unwrap();
    assert_eq!(queue.attributes().unwrap().max_message, 4096);
    made.send(0, b"four").await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), body("four"));
}

/// Sending on a queue open for receiving, and the reverse, is `EBADF`.
async fn wrong_direction_is_a_typed_error(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 1, 8);
    let reader = OpenOptions::new()
        .read(true)
        .driver(driver)
        .open(&name.0)
        .unwrap();
    let writer = OpenOptions::new()
        .write(true)
        .driver(driver)
        .open(&name.0)
        .unwrap();
    for error in [
        reader.send(0, b"x").await.unwrap_err(),
        writer.recv().await.unwrap_err(),
        writer.try_recv().unwrap_err(),
        writer.recv_timeout(Duration::ZERO).await.unwrap_err(),
    ] {
        let error = OpenError::of(&error).expect("it is inside");
        assert_eq!(error.kind(), &OpenErrorKind::Unsupported);
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
    let (reader, writer) = (Arc::new(reader), Arc::new(writer));
    let unsupported = OpenErrorKind::Unsupported;
    assert!(refused(
        MessageReceiver::try_from(writer),
        unsupported.clone()
    ));
    assert!(refused(MessageSender::try_from(reader), unsupported));
}

async fn full_and_empty_queues_would_block(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    assert_eq!(
        queue.try_recv().unwrap_err().raw_os_error(),
        Some(libc::EAGAIN)
    );
    queue.try_send(0, b"1").unwrap();
    queue.try_send(0, b"2").unwrap();
    assert_eq!(
        queue.try_send(0, b"3").unwrap_err().raw_os_error(),
        Some(libc::EAGAIN)
    );
    assert_eq!(queue.try_recv().unwrap(), body("1"));
}

/// A queue has no end of stream.
async fn all_senders_closed_is_no_end(driver: Driver) {
    let name = QueueName::new();
    let receiver = {
        let _made = name.create(driver, 1, 8);
        OpenOptions::new()
            .read(true)
            .driver(driver)
            .open(&name.0)
            .unwrap()
    };
    let mut recv = tokio_test::task::spawn(receiver.recv());
    tokio_test::assert_pending!(recv.poll());
    drop(name.open(driver));
    let late = name.open(driver);
    late.send(0, b"late").await.unwrap();
    assert_eq!(recv.await.unwrap(), body("late"));
}

/// Past deadline and empty is a timeout, past deadline and a message is the message.
async fn timeouts_take_what_is_there_and_give_up_on_nothing(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let timed_out = std::io::ErrorKind::TimedOut;
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        assert_eq!(
            queue.recv_timeout(timeout).await.unwrap_err().kind(),
            timed_out
        );
    }
    queue
        .send_timeout(0, b"here", Duration::ZERO)
        .await
        .unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(20)] {
        let error = queue.send_timeout(0, b"more", timeout).await.unwrap_err();
        assert_eq!(error.kind(), timed_out);
    }
    assert_eq!(
        queue.recv_timeout(Duration::ZERO).await.unwrap(),
        body("here")
    );
    // What timed out is not sent later.
    assert_eq!(queue.attributes().unwrap().messages, 0);
    // With all of the task's budget spent, too.
    queue.send(0, b"budget").await.unwrap();
    while tokio::task::coop::has_budget_remaining() {
        tokio::task::coop::consume_budget().await;
    }
    assert_eq!(
        queue.recv_timeout(Duration::ZERO).await.unwrap(),
        body("budget")
    );
}

async fn attributes_tell_the_depth(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 3, 8);
    queue.send(0, b"1").await.unwrap();
    queue.send(9, b"2").await.unwrap();
    let attributes = queue.attributes().unwrap();
    assert_eq!(attributes.capacity, 3);
    assert_eq!(attributes.max_message, 8);
    assert_eq!(attributes.messages, 2);
}

/// Messages outlive everybody, so who starts must be able to begin afresh.
async fn drain_empties_once(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 3, 8);
    queue.send(0, b"1").await.unwrap();
    queue.send(1, b"").await.unwrap();
    drop(queue);
    let queue = name.open(driver);
    assert_eq!(queue.drain().unwrap(), 2);
    assert_eq!(queue.drain().unwrap(), 0);
}
