//! Message queues: what one process sees. Every test runs over both drivers.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aqueduct::bytes::Bytes;
use aqueduct::mq::{self, Driver, Error, MAX_PRIORITY, Message, NameState, OpenOptions, Queue};

use crate::support::deadline;

/// A queue name of a test's own; whatever queue has it is removed when the test ends, however.
#[derive(Debug)]
pub(crate) struct QueueName(pub(crate) String);

impl QueueName {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::of(std::process::id(), next)
    }

    fn of(process: u32, number: u32) -> Self {
        Self(format!("/aqueduct-test-{process}-{number}"))
    }

    /// Removes what a process has left of its first thousand, and says how many that were.
    pub(crate) fn remove_all_of(process: u32) -> usize {
        let names = (0..1000).map(|number| Self::of(process, number));
        names.filter(|it| mq::unlink(&it.0).is_ok()).count()
    }

    /// A new queue of this name. Small: the system allows each user few bytes of queues.
    pub(crate) fn create(&self, driver: Driver, capacity: usize, max_message: usize) -> Queue {
        OpenOptions::new()
            .create_new(true)
            .capacity(capacity)
            .max_message(max_message)
            .driver(driver)
            .open(&self.0)
            .expect("a small queue can be made")
    }

    /// The queue once more, by a descriptor of its own.
    pub(crate) fn open(&self, driver: Driver) -> Queue {
        let opened = OpenOptions::new().driver(driver).open(&self.0);
        opened.expect("the queue is there")
    }
}

impl Drop for QueueName {
    fn drop(&mut self) {
        let _ = mq::unlink(&self.0);
    }
}

/// Stamps each test, an `async fn(Driver)`, out for both drivers.
macro_rules! over_both_drivers {
    ($($(#[$meta:meta])* $test:ident),* $(,)?) => {
        over_both_drivers!(@ pool, aqueduct::mq::Driver::Pool, $($(#[$meta])* $test),*);
        over_both_drivers!(@ async_fd, aqueduct::mq::Driver::AsyncFd, $($(#[$meta])* $test),*);
    };
    (@ $module:ident, $driver:expr, $($(#[$meta:meta])* $test:ident),*) => {
        mod $module {
            $(
                $(#[$meta])*
                #[tokio::test]
                async fn $test() {
                    crate::support::deadline(super::$test($driver)).await;
                }
            )*
        }
    };
}
pub(crate) use over_both_drivers;

over_both_drivers!(
    higher_priorities_first_equal_ones_in_order,
    empty_message_is_a_message,
    message_of_any_size_arrives_whole,
    message_too_large_is_refused_before_the_system_call,
    receiving_needs_a_buffer_of_the_queues_size_not_of_the_message,
    wrong_direction_is_a_typed_error,
    full_and_empty_queues_would_block,
    all_senders_closed_is_no_end,
    timeouts_take_what_is_there_and_give_up_when_there_is_nothing,
    unlinked_queue_works_on_and_its_name_is_another_queue,
    inherited_descriptor_gets_a_description_of_its_own,
    attributes_tell_the_depth,
    drain_empties_once,
    always_ready_queue_lets_other_tasks_run,
    receiving_into_a_buffer_of_the_callers_needs_one_as_large_as_the_queue_says,
    a_full_sink_without_budget_is_not_ready_to_flush_either,
);

pub(crate) fn body(text: &str) -> Message {
    Message::new(0, text.to_owned())
}

async fn receiving_into_a_buffer_of_the_callers_needs_one_as_large_as_the_queue_says(
    driver: Driver,
) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    let mut buffer = [7; 9];
    let error = queue.try_recv_into(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let recv = queue.recv_into(&mut buffer);
    let send = async {
        tokio::task::yield_now().await;
        queue.send(5, b"abc").await.unwrap();
    };
    assert_eq!(tokio::join!(recv, send).0.unwrap(), (5, 3));
    assert_eq!(&buffer, b"abc\x07\x07\x07\x07\x07\x07");
    queue.send(0, b"").await.unwrap();
    let error = queue.recv_into(&mut buffer[..7]).await.unwrap_err();
    assert!(matches!(
        Error::find(&error),
        Some(Error::BufferTooSmall {
            len: 7,
            needed: 8,
            ..
        })
    ));
    assert_eq!(queue.try_recv_into(&mut buffer[..8]).unwrap(), (0, 0));
}

/// tarpc and others flush until there is room: a sink that had none for want of budget, and yet
/// was flushed at once, made them spin for ever.
async fn a_full_sink_without_budget_is_not_ready_to_flush_either(driver: Driver) {
    use futures_util::Sink;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    fn fed<S: Sink<I> + Unpin, I>(sink: &mut S, cx: &mut Context<'_>, item: impl Fn() -> I) {
        // More than any budget.
        for _ in 0..1000 {
            if Pin::new(&mut *sink).poll_ready(cx).is_pending() {
                assert!(Pin::new(sink).poll_flush(cx).is_pending());
                return;
            }
            assert!(Pin::new(&mut *sink).start_send(item()).is_ok());
        }
        panic!("the budget has no end");
    }

    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 10, 8));
    let mut sender = mq::Sender::new(Arc::clone(&queue)).unwrap();
    let mut framed = mq::Framed::new(Arc::clone(&queue), mq::WholeMessage);
    std::future::poll_fn(|cx| {
        fed(&mut sender, cx, || {
            queue.drain().unwrap();
            Bytes::from("x")
        });
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    std::future::poll_fn(|cx| {
        fed(&mut framed, cx, || {
            queue.drain().unwrap();
            (Bytes::from("x"), 0)
        });
        Poll::Ready(())
    })
    .await;
}

/// Fact 38: order is by priority, and first in first out within one.
async fn higher_priorities_first_equal_ones_in_order(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 6, 8);
    for (priority, text) in [(0, "a"), (5, "b"), (MAX_PRIORITY, "c"), (5, "d"), (0, "e")] {
        queue.send(priority, text.as_bytes()).await.unwrap();
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        let message = queue.recv().await.unwrap();
        order.push((message.priority, message.body));
    }
    let expected = [(MAX_PRIORITY, "c"), (5, "b"), (5, "d"), (0, "a"), (0, "e")];
    assert_eq!(order, expected.map(|(p, it)| (p, it.into())));

    let error = queue.send(MAX_PRIORITY + 1, b"x").await.unwrap_err();
    assert!(matches!(
        Error::find(&error),
        Some(Error::Priority { asked: 32_768 })
    ));
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// Fact 38: a zero-length message is an item, never an end.
async fn empty_message_is_a_message(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    queue.send(3, b"").await.unwrap();
    queue.send(3, b"after").await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), Message::new(3, ""));
    assert_eq!(queue.recv().await.unwrap(), Message::new(3, "after"));
}

/// Messages below and above the size from which they are not copied.
async fn message_of_any_size_arrives_whole(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8192);
    let pattern: Vec<u8> = (0..8192_u32).map(|i| (i % 251) as u8).collect();
    let mut kept = Vec::new();
    for len in [0, 1, 2, 2047, 2048, 2049, 4095, 4096, 8191, 8192] {
        queue.send(0, &pattern[..len]).await.unwrap();
        kept.push((len, queue.recv().await.unwrap().body));
    }
    // Kept while others came: their buffers are not used again under them.
    for (len, body) in kept {
        assert!(body == pattern[..len], "message of {len} bytes");
    }
}

/// Fact 37: one byte too many is `EMSGSIZE`; the error says how large it was and may be.
async fn message_too_large_is_refused_before_the_system_call(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 16);
    queue.send(0, &[1; 16]).await.unwrap();
    // The queue is full: had the kernel been asked, it might have waited.
    for result in [queue.send(0, &[2; 17]).await, queue.try_send(0, &[2; 17])] {
        let error = result.unwrap_err();
        let Some(
            error @ Error::MessageTooLarge {
                len: 17, max: 16, ..
            },
        ) = Error::find(&error)
        else {
            panic!("{error:?}");
        };
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        let text = error.to_string();
        assert!(
            text.contains("17 bytes") && text.contains("largest is 16"),
            "{text}"
        );
    }
    assert_eq!(queue.recv().await.unwrap().body, [1; 16][..]);
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// Fact 37: a receive buffer smaller than the queue's largest message fails even for 4 bytes.
async fn receiving_needs_a_buffer_of_the_queues_size_not_of_the_message(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 2, 4096);
    // Opened by one who asks for less: what counts is what the queue has.
    let queue = OpenOptions::new()
        .max_message(16)
        .driver(driver)
        .open(&name.0)
        .unwrap();
    assert_eq!(queue.max_message(), 4096);
    made.send(0, b"four").await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), body("four"));
}

/// Fact 39: sending on a queue open for receiving, and the reverse, is `EBADF`.
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
    let error = reader.send(0, b"x").await.unwrap_err();
    let error = Error::find(&error).unwrap();
    assert!(matches!(error, Error::NotWritable { .. }));
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    for error in [
        writer.recv().await.unwrap_err(),
        writer.try_recv().unwrap_err(),
        writer.recv_timeout(Duration::ZERO).await.unwrap_err(),
    ] {
        assert!(matches!(
            Error::find(&error),
            Some(Error::NotReadable { .. })
        ));
    }
    assert!(matches!(
        mq::Receiver::new(writer),
        Err(Error::NotReadable { .. })
    ));
    assert!(matches!(
        mq::Sender::new(reader),
        Err(Error::NotWritable { .. })
    ));
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

/// Fact 40: a queue has no end of stream.
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

/// Fact 49: past deadline and empty is a timeout, past deadline and a message is the message.
async fn timeouts_take_what_is_there_and_give_up_when_there_is_nothing(driver: Driver) {
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

/// Fact 45: unlinked while open it works on; the same name again is another queue.
async fn unlinked_queue_works_on_and_its_name_is_another_queue(driver: Driver) {
    let name = QueueName::new();
    let old = name.create(driver, 1, 8);
    assert_eq!(old.name_state().unwrap(), NameState::Linked);
    old.unlink().unwrap();
    assert_eq!(old.name_state().unwrap(), NameState::Unlinked);
    assert!(matches!(
        old.check_name(),
        Err(Error::Replaced {
            replaced: false,
            ..
        })
    ));
    old.send(0, b"old").await.unwrap();

    let new = name.create(driver, 1, 8);
    assert_eq!(old.name_state().unwrap(), NameState::Replaced);
    assert!(matches!(
        old.unlink(),
        Err(Error::Replaced { replaced: true, .. })
    ));
    assert_eq!(new.name_state().unwrap(), NameState::Linked);
    new.send(0, b"new").await.unwrap();
    assert_eq!(old.recv().await.unwrap(), body("old"));
    assert_eq!(new.recv().await.unwrap(), body("new"));
}

/// Fact 26: `O_NONBLOCK` is the description's. One that is shared must not be changed.
async fn inherited_descriptor_gets_a_description_of_its_own(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 1, 8);
    let shared = blocking(&name);
    made.unlink().unwrap();
    let queue = OpenOptions::new().driver(driver).open_fd(&shared).unwrap();
    assert_eq!((queue.capacity(), queue.max_message()), (1, 8));
    assert!(queue.is_readable() && queue.is_writable() && queue.name() == name.0);
    made.send(0, b"x").await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), body("x"));
    assert_eq!(
        nix::mqueue::mq_getattr(&shared).unwrap().flags(),
        0,
        "blocking still"
    );
    let _ = nix::mqueue::mq_close(shared);

    let file = std::fs::File::open("/proc/self/status").unwrap();
    assert!(matches!(
        OpenOptions::new().open_fd(file.as_fd()),
        Err(Error::NotAQueue)
    ));
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

/// Fact 46: messages outlive everybody, so who starts must be able to begin afresh.
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

/// Finding 2: a loop on something that is always ready must not keep other tasks from running.
async fn always_ready_queue_lets_other_tasks_run(driver: Driver) {
    use futures_util::{SinkExt, StreamExt};

    async fn runs_within<F: Future>(rounds: u32, mut round: impl FnMut() -> F) {
        let other = tokio::spawn(async {});
        for _ in 0..rounds {
            if other.is_finished() {
                return;
            }
            round().await;
        }
        panic!("no other task ran in {rounds} rounds");
    }

    let name = QueueName::new();
    let queue = Arc::new(name.create(driver, 2, 8));
    // Each by itself: either alone has to give way.
    runs_within(1000, || async {
        queue.send(0, b"x").await.unwrap();
        queue.try_recv().unwrap();
    })
    .await;
    runs_within(1000, || async {
        queue.try_send(0, b"x").unwrap();
        queue.recv().await.unwrap();
    })
    .await;
    runs_within(1000, || async {
        queue
            .send_timeout(0, b"x", Duration::from_secs(1))
            .await
            .unwrap();
        queue.recv_timeout(Duration::from_secs(1)).await.unwrap();
    })
    .await;
    let mut stream = mq::Receiver::new(Arc::clone(&queue)).unwrap();
    let other = tokio::spawn(async {});
    for _ in 0..1000 {
        if !other.is_finished() {
            queue.try_send(0, b"x").unwrap();
            stream.next().await.unwrap().unwrap();
        }
    }
    assert!(other.is_finished(), "the stream yields");
    let mut sink = mq::Sender::new(Arc::clone(&queue)).unwrap();
    let other = tokio::spawn(async {});
    for _ in 0..1000 {
        if !other.is_finished() {
            sink.send("x".into()).await.unwrap();
            queue.try_recv().unwrap();
        }
    }
    assert!(other.is_finished(), "the sink yields");
}

/// The queue once more, blocking, as a program without this library has it.
pub(crate) fn blocking(name: &QueueName) -> nix::mqueue::MqdT {
    use nix::mqueue::{MQ_OFlag, mq_open};
    use nix::sys::stat::Mode;
    mq_open(name.0.as_str(), MQ_OFlag::O_RDWR, Mode::empty(), None).expect("the queue is there")
}

/// The types can be used where they must.
#[test]
fn types_are_send_and_sync() {
    fn both<T: Send + Sync + std::fmt::Debug>() {}
    both::<Queue>();
    both::<mq::Sender>();
    both::<mq::Receiver>();
    both::<mq::Framed<mq::WholeMessage>>();
    both::<Error>();
    both::<OpenOptions>();
}

/// A driver has one spelling, in configuration as in addresses.
#[test]
fn a_driver_is_spelled_as_in_an_address() {
    for driver in [Driver::Pool, Driver::AsyncFd] {
        let address = format!("mq:/jobs?driver={driver}");
        let endpoint: aqueduct::Endpoint = address.parse().unwrap();
        assert_eq!(endpoint.to_string(), address);
        assert_eq!(driver.to_string().parse(), Ok(driver));
    }
    let error = "async-fd".parse::<Driver>().unwrap_err().to_string();
    assert!(error.contains("pool or asyncfd"), "{error}");
}

/// Two queues make a channel; at the waist each end is a stream or sink of bytes.
#[tokio::test]
async fn ends_meet_the_waist() {
    use bytes::Bytes;
    use futures_util::{Sink, SinkExt, Stream, StreamExt};
    use std::io;
    use std::pin::Pin;

    deadline(async {
        let (there, back) = (QueueName::new(), QueueName::new());
        let (_a, _b) = (
            there.create(Driver::Pool, 2, 64),
            back.create(Driver::AsyncFd, 2, 64),
        );
        let options = OpenOptions::new();
        let mut near: (Pin<Box<dyn Sink<Bytes, Error = io::Error> + Send>>, _) = (
            Box::pin(options.open_sender(&there.0).unwrap()),
            options.open_receiver(&back.0).unwrap(),
        );
        let mut far: (_, Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>) = (
            options
                .open_sender(&back.0)
                .unwrap()
                .with_priority(4)
                .unwrap(),
            Box::pin(options.open_receiver(&there.0).unwrap()),
        );
        near.0.send("question".into()).await.unwrap();
        assert_eq!(far.1.next().await.unwrap().unwrap(), "question");
        far.0.send("".into()).await.unwrap();
        assert_eq!(near.1.recv().await.unwrap().unwrap(), Message::new(4, ""));
    })
    .await;
}
