//! What its errors say of a queue, held against what the kernel says of the same.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aqueduct::mq::{Driver, Error, OpenOptions, Queue};
use nix::errno::Errno;
use nix::mqueue::{MQ_OFlag, MqdT, mq_close, mq_open, mq_receive, mq_send};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;

use super::{QueueName, blocking};
use crate::support::{Log, alone};

/// Checks the number, and that it is still there, with the whole error, in an [`io::Error`].
fn has_number(error: Error, number: Errno) {
    let said = error.to_string();
    assert_eq!(error.raw_os_error(), Some(number as i32), "{said}");
    let kind = error.kind();
    let error = io::Error::from(error);
    assert_eq!(error.kind(), kind, "{said}");
    let found = Error::find(&error).expect("it is inside");
    assert_eq!(found.to_string(), said);
}

fn found(error: io::Error) -> Error {
    *error
        .into_inner()
        .expect("it has one inside")
        .downcast()
        .expect("it is a queue's")
}

/// Opens a queue as a program without this library does, and gives the number of the failure.
fn number(name: &str, flags: MQ_OFlag) -> Errno {
    mq_open(name, flags, Mode::empty(), None).expect_err("it is refused")
}

#[test]
fn a_refusal_before_the_system_call_has_the_number_that_the_call_would_have_had() {
    let name = QueueName::new();
    let queue = name.create(Driver::Pool, 1, 8);
    let (read, write) = (MQ_OFlag::O_RDONLY, MQ_OFlag::O_WRONLY);
    for name in ["/a/b", "/.", "/..", "none", &format!("/{:0256}", 0)] {
        has_number(Queue::open(name).unwrap_err(), number(name, read));
    }
    let absent = QueueName::new();
    has_number(Queue::open(&absent.0).unwrap_err(), number(&absent.0, read));
    let mut again = OpenOptions::new();
    let error = again.create_new(true).open(&name.0).unwrap_err();
    has_number(error, number(&name.0, MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL));

    let open = |flags| mq_open(name.0.as_str(), flags, Mode::empty(), None).unwrap();
    let (reader, writer) = (open(read), open(write));
    let mut options = OpenOptions::new();
    let receiving = options.write(false).read(true).open(&name.0).unwrap();
    let sending = options.read(false).write(true).open(&name.0).unwrap();
    let mut buffer = [0; 8];
    for (error, number) in [
        (
            sending.try_send(0, &[0; 9]).unwrap_err(),
            mq_send(&writer, &[0; 9], 0).unwrap_err(),
        ),
        (
            sending.try_send(32_768, b"").unwrap_err(),
            mq_send(&writer, b"", 32_768).unwrap_err(),
        ),
        (
            receiving.try_send(0, b"").unwrap_err(),
            mq_send(&reader, b"", 0).unwrap_err(),
        ),
        (
            sending.try_recv().unwrap_err(),
            mq_receive(&writer, &mut buffer, &mut 0).unwrap_err(),
        ),
        (
            receiving.try_recv_into(&mut buffer[1..]).unwrap_err(),
            mq_receive(&reader, &mut buffer[1..], &mut 0).unwrap_err(),
        ),
    ] {
        has_number(found(error), number);
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
fn a_queue_that_cannot_be_unlinked_when_it_is_dropped_is_told_of() {
    alone(
        "mq::errors::a_queue_that_cannot_be_unlinked_when_it_is_dropped_is_told_of",
        || {
            let name = QueueName::new();
            let mut options = OpenOptions::new();
            options.create_new(true).capacity(1).max_message(8);
            let queue = options.unlink_on_drop(true).open(&name.0).unwrap();
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            let error = queue.check_name().unwrap_err();
            let Error::System { action, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(*action, "look up");
            assert_eq!(
                error.to_string(),
                format!("cannot look up queue {}", name.0)
            );
            has_number(error, Errno::EMFILE);
            let ((), lines) = Log::record(|| drop(queue));
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            let warnings: Vec<_> = lines.iter().filter(|it| it.contains("WARN")).collect();
            assert_eq!(warnings.len(), 1, "{lines:?}");
            assert!(
                warnings[0].contains("queue not unlinked") && warnings[0].contains(&name.0),
                "{lines:?}"
            );
            let left = Queue::open(&name.0).unwrap();
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
        (message.priority, &message.body[..]),
        (7, &b"from theirs"[..])
    );
    let _ = mq_close(theirs);
    assert_eq!(queue.driver(), Driver::default());
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
