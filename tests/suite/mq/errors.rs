//! What its errors say of a queue, held against what the kernel says of the same.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct::connect::{Message, MessageSender};
use aqueduct::frame::FrameError;
use aqueduct::mq::{Driver, OpenOptions, Queue};
use aqueduct::{OpenError, OpenErrorKind};
use futures_util::SinkExt;
use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqdT, mq_close, mq_open, mq_receive, mq_send};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use tokio_test::assert_ready;
use tokio_test::task::spawn;

use super::{QueueName, blocking, replaced};
use crate::actor::{Actor, become_nobody};
use crate::support::{Log, alone, is_peer};

/// Checks the number, and that it is still there, with the whole error, in an [`io::Error`].
fn has_number(error: OpenError, number: Errno) {
    let said = error.to_string();
    assert_eq!(error.raw_os_error(), Some(number as i32), "{said}");
    let kind = error.kind().clone();
    let error = io::Error::from(error);
    let found = OpenError::of(&error).expect("it is inside");
    assert_eq!((found.to_string(), found.kind()), (said, &kind));
}

/// Opens a queue as a program without this library does, and gives the number of the failure.
fn number(name: &str, flags: MQ_OFlag) -> Errno {
    mq_open(name, flags, Mode::empty(), None).expect_err("it is refused")
}

#[test]
fn an_early_refusal_has_the_errno_of_the_system_call() {
    let name = QueueName::new();
    let queue = name.create(Driver::Pool, 1, 8);
    let (read, write) = (MQ_OFlag::O_RDONLY, MQ_OFlag::O_WRONLY);
    for name in ["/", "/a/b", "/.", "/..", "none", &format!("/{:0256}", 0)] {
        has_number(
            OpenOptions::new().open(name).unwrap_err(),
            number(name, read),
        );
    }
    let absent = QueueName::new();
    has_number(
        OpenOptions::new().open(&absent.0).unwrap_err(),
        number(&absent.0, read),
    );
    let mut again = OpenOptions::new();
    let error = again.create_new(true).open(&name.0).unwrap_err();
    has_number(error, number(&name.0, MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL));

    let open = |flags| mq_open(name.0.as_str(), flags, Mode::empty(), None).unwrap();
    let (reader, writer) = (open(read), open(write));
    let mut options = OpenOptions::new();
    let receiving = options.write(false).read(true).open(&name.0).unwrap();
    let sending = options.read(false).write(true).open(&name.0).unwrap();
    let mut buffer = [0; 8];
    // One that concerns the message alone is a refusal; the queue goes on.
    for (error, number, refusal) in [
        (
            sending.try_send(0, &[0; 9]).unwrap_err(),
            mq_send(&writer, &[0; 9], 0).unwrap_err(),
            FrameError::TooLarge { len: 9, max: 8 },
        ),
        (
            sending.try_send(32_768, b"").unwrap_err(),
            mq_send(&writer, b"", 32_768).unwrap_err(),
            FrameError::Priority {
                asked: 32_768,
                max: 32_767,
            },
        ),
    ] {
        assert!([Errno::EMSGSIZE, Errno::EINVAL].contains(&number));
        assert_eq!(FrameError::of(&error), Some(&refusal));
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    for (error, number) in [
        (
            receiving.try_send(0, b"").unwrap_err(),
            mq_send(&reader, b"", 0).unwrap_err(),
        ),
        (
            sending.try_recv().unwrap_err(),
            mq_receive(&writer, &mut buffer, &mut 0).unwrap_err(),
        ),
    ] {
        let error = OpenError::of(&error).expect("it is inside");
        assert_eq!(error.kind(), &OpenErrorKind::Unsupported);
        assert_eq!(error.raw_os_error(), Some(number as i32), "{error}");
    }
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    has_number(Queue::try_from(null).unwrap_err(), Errno::EBADF);
    assert_eq!(queue.attributes().unwrap().messages, 0, "nothing was sent");
    for queue in [reader, writer] {
        let _: Result<(), Errno> = mq_close(queue);
    }
}

/// Where the name cannot be looked up the queue stays, and the log says so.
#[test]
fn a_queue_that_cannot_be_unlinked_on_drop_is_reported() {
    alone(
        "mq::errors::a_queue_that_cannot_be_unlinked_on_drop_is_reported",
        || {
            let name = QueueName::new();
            let mut options = OpenOptions::new();
            options.create_new(true).capacity(1).max_message(8);
            let queue = options.unlink_on_drop(true).open(&name.0).unwrap();
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            let error = queue.check_name().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::EMFILE as i32));
            let ((), lines) = Log::record(|| drop(queue));
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            let warnings: Vec<_> = lines.iter().filter(|it| it.contains("WARN")).collect();
            assert_eq!(warnings.len(), 1, "{lines:?}");
            assert!(
                warnings[0].contains("queue not unlinked") && warnings[0].contains(&name.0),
                "{lines:?}"
            );
            let left = OpenOptions::new().open(&name.0).unwrap();
            left.unlink().unwrap();
        },
    );
}

/// From another program's descriptor to a queue, and what it shows of itself.
#[test]
fn a_descriptor_becomes_a_queue() {
    let name = QueueName::new();
    let made = name.create(Driver::AsyncFd, 3, 16);
    let theirs: MqdT = blocking(&name);
    let fd = theirs.as_fd().try_clone_to_owned().unwrap();
    let number = fd.as_raw_fd();
    let queue = Queue::try_from(fd).unwrap();
    assert_ne!(
        queue.as_fd().as_raw_fd(),
        number,
        "a description of its own"
    );
    mq_send(&theirs, b"from theirs", 7).unwrap();
    let message = queue.try_recv().unwrap();
    assert_eq!(
        (message.priority().unwrap(), &message.into_body()[..]),
        (7, &b"from theirs"[..])
    );
    let _ = mq_close(theirs);
    let shown = format!("{queue:?}");
    for part in [
        &name.0,
        "readable: true",
        "writable: true",
        "capacity: 3",
        "max_message: 16",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(format!("{made:?}").contains("AsyncFd"), "{made:?}");
}

/// The look now and then is not all there is to sending: one that fails is told of, and left to the next.
#[test]
fn a_name_that_cannot_be_looked_at_now_stops_nobody() {
    alone(
        "mq::errors::a_name_that_cannot_be_looked_at_now_stops_nobody",
        || {
            let name = QueueName::new();
            let _made = name.create(Driver::Pool, 4, 8);
            let mut options = OpenOptions::new();
            let often = Duration::from_millis(10);
            let queue = options.watch_name(Some(often)).open(&name.0).unwrap();
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            // Until a look is due.
            let begun = Instant::now();
            while begun.elapsed() < often {
                std::thread::yield_now();
            }
            let (sent, lines) = Log::record(|| queue.try_send(1, b"sent"));
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            sent.unwrap();
            let warned = |it: &String| it.contains("WARN") && it.contains("cannot check whether");
            assert_eq!(lines.iter().filter(|it| warned(it)).count(), 1, "{lines:?}");
            assert_eq!(queue.try_recv().unwrap().into_body(), "sent");
        },
    );
}

/// A queue that even its owner may not open is still the one of its name, until it is unlinked.
#[tokio::test]
async fn the_name_of_an_inaccessible_queue_is_still_looked_up() {
    Actor::spawn("mq::errors::role_nobody_may_open")
        .succeed()
        .await;
}

#[test]
fn role_nobody_may_open() {
    if !is_peer("mq::errors::role_nobody_may_open") {
        return;
    }
    // Root may open everything.
    become_nobody();
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options.create_new(true).capacity(1).max_message(8).mode(0);
    let queue = options.open(&name.0).unwrap();
    let denied = OpenOptions::new().open(&name.0).unwrap_err();
    assert!(
        denied.kind() == &OpenErrorKind::PermissionDenied,
        "{denied:?}"
    );
    assert!(denied.to_string().contains("ask its owner"), "{denied}");
    has_number(denied, Errno::EACCES);
    let mut create = OpenOptions::new();
    let denied = create.create(true).open(&name.0).unwrap_err();
    has_number(denied, Errno::EACCES);
    assert_eq!(replaced(&queue), None);
    queue.unlink().unwrap();
    assert_eq!(replaced(&queue), Some(false));
    let _again = options.open(&name.0).unwrap();
    assert_eq!(replaced(&queue), Some(true));
}

/// A sender that is dropped with a message in hand has lost it, and says so.
#[test]
fn a_message_that_a_sender_still_has_is_told_of() {
    let name = QueueName::new();
    let queue = Arc::new(name.create(Driver::Pool, 1, 8));
    queue.try_send(0, b"full").unwrap();
    let mut sender = MessageSender::try_from(Arc::clone(&queue)).unwrap();
    sender.start_send_unpin(Message::new("held")).unwrap();
    let ((), lines) = Log::record(|| drop(sender));
    let warnings: Vec<_> = lines.iter().filter(|it| it.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{lines:?}");
    assert!(
        warnings[0].contains("a message unsent") && warnings[0].contains("len=4"),
        "{lines:?}"
    );
    assert_eq!(queue.try_recv().unwrap().into_body(), "full");
    assert_eq!(queue.drain().unwrap(), 0, "nothing of it was sent");
}

/// A runtime of which only the handle is left cannot be waited in.
#[test]
fn a_runtime_that_has_gone_before_the_wait_is_an_error() {
    for driver in [Driver::Pool, Driver::AsyncFd] {
        let name = QueueName::new();
        let queue = name.create(driver, 1, 8);
        let gone = crate::mq_runtime::runtime();
        let handle = gone.handle().clone();
        drop(gone);
        let _inside = handle.enter();
        let error = assert_ready!(spawn(queue.recv()).poll()).unwrap_err();
        let gone = error.to_string().contains("runtime has shut down");
        assert!(gone, "{driver}: {error:?}");
        let kind = OpenError::of(&error).map(OpenError::kind);
        assert_eq!(kind, Some(&OpenErrorKind::NoRuntime));
    }
}
