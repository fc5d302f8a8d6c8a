//! Message queues: what the kernel's events do and do not tell.

use std::io;
use std::time::Duration;

use aqueduct::mq::{Driver, OpenOptions};

use crate::mq::{QueueName, blocking, body, over_both_drivers};

over_both_drivers!(
    sends_that_were_not_looked_at_in_between_all_arrive,
    sent_and_taken_by_another_before_the_wait_ends,
    receive_while_a_sender_is_blocked_in_the_kernel,
    a_receiver_blocked_in_the_kernel_shares_the_queue,
    both_directions_wait_at_once,
    a_wait_is_not_woken_for_the_other_direction,
);

/// Sends that nobody looked at in between make one event.
async fn sends_that_were_not_looked_at_in_between_all_arrive(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 5, 8);
    let sender = name.open(driver);
    for round in 0..50_u32 {
        let mut recv = tokio_test::task::spawn(queue.recv());
        tokio_test::assert_pending!(recv.poll());
        for i in 0..5 {
            sender.try_send(0, &[i]).unwrap();
        }
        assert_eq!(recv.await.unwrap().into_body(), [0][..], "round {round}");
        for i in 1..5 {
            assert_eq!(
                queue.recv().await.unwrap().into_body(),
                [i][..],
                "round {round}"
            );
        }
    }
}

/// A message that another takes before the wait ends gives no event, or a futile one.
async fn sent_and_taken_by_another_before_the_wait_ends(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    let other = name.open(driver);
    let mut recv = tokio_test::task::spawn(queue.recv());
    tokio_test::assert_pending!(recv.poll());
    for _ in 0..50 {
        other.try_send(0, b"taken").unwrap();
        assert_eq!(other.try_recv().unwrap(), body("taken"));
        tokio::task::yield_now().await;
        if recv.is_woken() {
            tokio_test::assert_pending!(recv.poll());
        }
    }
    other.try_send(0, b"left").unwrap();
    assert_eq!(recv.await.unwrap(), body("left"));
}

/// Receiving while a sender is blocked on the full queue gives no event at all.
async fn receive_while_a_sender_is_blocked_in_the_kernel(driver: Driver) {
    const COUNT: u32 = 2000;
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let blocked = blocking(&name);
    let sender = std::thread::spawn(move || {
        for i in 0..COUNT {
            nix::mqueue::mq_send(&blocked, &i.to_le_bytes(), 0).expect("the queue is there");
        }
        let _ = nix::mqueue::mq_close(blocked);
    });
    for i in 0..COUNT {
        assert_eq!(queue.recv().await.unwrap().into_body(), i.to_le_bytes()[..]);
    }
    sender.join().unwrap();
}

/// Who is blocked in `mq_receive` is served first, and the others see nothing of it.
async fn a_receiver_blocked_in_the_kernel_shares_the_queue(driver: Driver) {
    const COUNT: u32 = 2000;
    const END: u32 = u32::MAX;
    let name = QueueName::new();
    let queue = name.create(driver, 4, 8);
    let sender = name.open(driver);
    let blocked = blocking(&name);
    let other = std::thread::spawn(move || {
        let mut got = Vec::new();
        loop {
            let mut buffer = [0; 8];
            let len = nix::mqueue::mq_receive(&blocked, &mut buffer, &mut 0).expect("a message");
            let i = u32::from_le_bytes(buffer[..len].try_into().unwrap());
            if i == END {
                let _ = nix::mqueue::mq_close(blocked);
                return got;
            }
            got.push(i);
        }
    });
    let send = async {
        for i in 0..COUNT {
            sender.send(1, &i.to_le_bytes()).await.unwrap();
        }
    };
    let receive = async {
        let mut got = Vec::new();
        while let Ok(message) = queue.recv_timeout(Duration::from_millis(300)).await {
            got.push(u32::from_le_bytes(
                message.into_body()[..].try_into().unwrap(),
            ));
        }
        got
    };
    let ((), mut got) = tokio::join!(send, receive);
    sender.send(0, &END.to_le_bytes()).await.unwrap();
    got.extend(
        tokio::task::spawn_blocking(|| other.join().unwrap())
            .await
            .unwrap(),
    );
    got.sort_unstable();
    assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
}

/// One-shot events disarm a whole registration, so the directions must not share one.
async fn both_directions_wait_at_once(driver: Driver) {
    let name = QueueName::new();
    let empty = name.create(driver, 1, 8);
    let other = name.open(driver);
    for _ in 0..100 {
        // A receive that waits, armed first, then a send that waits: impossible on one queue
        // unless another takes and gives in between.
        let mut recv = tokio_test::task::spawn(empty.recv());
        tokio_test::assert_pending!(recv.poll());
        other.try_send(0, b"1").unwrap();
        let mut send = tokio_test::task::spawn(empty.send(0, b"2"));
        tokio_test::assert_pending!(send.poll());
        assert_eq!(recv.await.unwrap(), body("1"));
        send.await.unwrap();
        assert_eq!(other.try_recv().unwrap(), body("2"));
    }
}

/// A queue open for receiving alone is reported ready for sending, too, for as long as it has room,
/// and the reverse: who listens to both is woken without end.
async fn a_wait_is_not_woken_for_the_other_direction(driver: Driver) {
    async fn wakes<T>(waiting: impl Future<Output = io::Result<T>>) -> u32 {
        let mut waiting = tokio_test::task::spawn(waiting);
        let mut wakes = 0;
        assert!(waiting.poll().is_pending());
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if waiting.is_woken() {
                wakes += 1;
                assert!(waiting.poll().is_pending());
            }
        }
        wakes
    }

    let name = QueueName::new();
    let made = name.create(driver, 1, 8);
    let mut options = OpenOptions::new();
    let options = options.driver(driver);
    let reader = options.clone().read(true).open(&name.0).unwrap();
    let writer = options.clone().write(true).open(&name.0).unwrap();
    // The first wait is woken once when the driver's thread has begun.
    assert!(wakes(reader.recv()).await <= 1);
    assert_eq!(wakes(made.recv()).await, 0);
    made.try_send(0, b"full").unwrap();
    assert_eq!(wakes(writer.send(0, b"x")).await, 0);
    assert_eq!(wakes(made.send(0, b"x")).await, 0);
}
