//! The assertions about message queues of POSIX, as the Open POSIX Test Suite and the Linux Test
//! Project number and check them, held against the kernel that runs here.
//!
//! Each row is checked through this library where it offers the call, through the C library where
//! it does not, or says why it cannot apply.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use aqueduct::frame::FrameError;
use aqueduct::mq::{self, Driver, OpenOptions, Queue};
use aqueduct::{OpenError, OpenErrorKind};
use nix::sys::stat::fstat;
use nix::unistd::geteuid;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

use crate::mq::{QueueName, message, refused};
use crate::support::{Peer, compile_c, deadline};

use Way::{C, No, Ours};

/// How an assertion is checked.
enum Way {
    /// Through this library.
    Ours(fn(Driver)),
    /// Through the C library: the check of that name in `calls.c`.
    C(&'static str),
    /// Not at all, for this reason.
    No(&'static str),
}

/// Where the assertion stands, what it says, and how it is checked.
type Row = (&'static str, &'static str, Way);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("mq_open 1-1", "gives a descriptor that refers to the queue", Ours(refers_to_the_queue)),
    ("mq_open 2-1", "may be opened to receive several times", Ours(opened_several_times)),
    ("mq_open 7-1", "O_RDONLY receives", Ours(read_only_receives)),
    ("mq_open 7-2", "O_RDONLY does not send", Ours(read_only_does_not_send)),
    ("mq_open 8-1", "O_WRONLY sends", Ours(write_only_sends)),
    ("mq_open 8-2", "O_WRONLY does not receive", Ours(write_only_does_not_receive)),
    ("mq_open 9-1", "O_RDWR does both", Ours(refers_to_the_queue)),
    ("mq_open 11-1", "O_CREAT creates the queue", Ours(create_creates)),
    ("mq_open 12-1", "O_CREAT leaves an existing queue as it is", Ours(create_leaves_an_existing_one)),
    ("mq_open 13-1", "a new queue belongs to the effective user", Ours(belongs_to_the_effective_user)),
    ("mq_open 15-1", "a new queue has the mode asked for", Ours(has_the_mode)),
    ("mq_open 16-1", "without attributes the defaults apply", Ours(defaults_apply)),
    ("mq_open 17-1", "mq_maxmsg and mq_msgsize are what was asked for", Ours(attributes_apply)),
    ("mq_open 18-1", "O_EXCL fails if it exists (EEXIST)", Ours(exclusive_fails)),
    ("mq_open 19-1", "of processes that race with O_EXCL one succeeds", Ours(exclusive_is_atomic)),
    ("mq_open 20-1", "O_NONBLOCK: EAGAIN where it would block", Ours(would_block)),
    ("mq_open 21-1", "without it, the call waits", Ours(waits_to_receive)),
    ("mq_open 22-1", "opening adds and removes no message", Ours(opening_moves_no_message)),
    ("mq_open 23-1", "EACCES without permission", No("mq_open::queue_of_another_user_is_refused_unless_allowed: takes a second user")),
    ("mq_open 26-1", "EINTR", No("mq_open does not sleep on Linux")),
    ("mq_open 27-1", "EINVAL for a capacity of 0", Ours(no_capacity)),
    ("mq_open 27-2", "EINVAL for a message size of 0", Ours(no_size)),
    ("mq_open 28-1", "EMFILE", No("mq_open::too_many_descriptors_are_told_from_too_many_bytes: takes a process of its own")),
    ("mq_open 29-1", "ENAMETOOLONG above NAME_MAX", Ours(long_name)),
    ("mq_open 30-1", "ENFILE", No("would take all descriptors of the machine")),
    ("mq_open 31-1", "ENOENT without O_CREAT", Ours(missing)),
    ("mq_open 32-1", "ENOSPC above queues_max", No("mq_limits::room_for_queues_is_predicted_exactly_and_met: takes a namespace of its own")),
    ("LTP mq_open01", "EINVAL without a slash, EACCES with two, ENOENT for \"/\"", Ours(odd_names)),
    ("mq_close 1-1", "ends the association with the queue", Ours(closing_keeps_the_queue)),
    ("mq_close 2-1", "removes the process's notification", C("close_removes_the_notification")),
    ("mq_close 3-1", "EBADF for what is no open queue", C("close_twice_is_an_error")),
    ("mq_unlink 1-1", "removes the name", Ours(unlink_removes_the_name)),
    ("mq_unlink 2-1", "the queue works on until the last close", Ours(unlinked_works_on)),
    ("mq_unlink 2-2", "its name can be used for another at once", Ours(unlinked_name_is_free)),
    ("mq_unlink 7-1", "ENOENT if there is none", Ours(unlink_missing)),
    ("LTP mq_unlink01", "ENAMETOOLONG; EACCES of another user's", Ours(unlink_long_name)),
    ("mq_send 1-1", "puts the message into the queue", Ours(send_adds)),
    ("mq_send 2-1", "a message may be shorter than mq_msgsize, or empty", Ours(short_messages)),
    ("mq_send 3-1", "by priority, then by age", Ours(order)),
    ("mq_send 4-1", "all priorities below MQ_PRIO_MAX are taken", Ours(all_priorities)),
    ("mq_send 5-1", "waits while the queue is full", Ours(waits_to_send)),
    ("mq_send 5-2", "and goes on when there is room", Ours(waits_to_send)),
    ("mq_send 7-1", "EAGAIN where it must not wait; nothing is sent", Ours(would_block)),
    ("mq_send 10-1", "EBADF without a queue", C("send_needs_a_descriptor")),
    ("mq_send 11-1", "EBADF if it is not open for sending", Ours(read_only_does_not_send)),
    ("mq_send 12-1", "EINTR", C("send_is_interrupted")),
    ("mq_send 13-1", "EINVAL for MQ_PRIO_MAX", Ours(highest_priority)),
    ("mq_send 14-1", "EMSGSIZE above mq_msgsize", Ours(too_long)),
    ("mq_timedsend 5-1", "waits while the queue is full", Ours(send_times_out)),
    ("mq_timedsend 8-1", "no wait where there is room, whatever the time", C("timedsend_with_room_ignores_the_time")),
    ("mq_timedsend 10-1", "EBADF without a queue", C("timedsend_needs_a_descriptor")),
    ("mq_timedsend 15-1", "EINVAL for nanoseconds outside a second", C("timedsend_refuses_odd_times")),
    ("mq_timedsend 16-1", "ETIMEDOUT", Ours(send_times_out)),
    ("mq_timedsend 18-1", "a time that has passed is a timeout at once", C("timedsend_past_is_a_timeout")),
    ("mq_timedsend 20-1", "one that failed sent nothing", C("timedsend_that_failed_sent_nothing")),
    ("mq_receive 1-1", "the oldest of the highest priority", Ours(order)),
    ("mq_receive 2-1", "EMSGSIZE for a buffer below mq_msgsize", C("receive_needs_a_buffer_of_the_queues_size")),
    ("mq_receive 5-1", "waits while the queue is empty", Ours(waits_to_receive)),
    ("mq_receive 7-1", "what is received is not there any more", Ours(send_adds)),
    ("mq_receive 8-1", "EAGAIN where it must not wait", Ours(would_block)),
    ("mq_receive 10-1", "gives the length of the message", Ours(short_messages)),
    ("mq_receive 11-1", "EBADF without a queue", C("receive_needs_a_descriptor")),
    ("mq_receive 11-2", "EBADF if it is not open for receiving", Ours(write_only_does_not_receive)),
    ("mq_receive 13-1", "EINTR", C("receive_is_interrupted")),
    ("mq_timedreceive 5-1", "waits while the queue is empty", Ours(receive_times_out)),
    ("mq_timedreceive 5-3", "ends when a message arrives", Ours(message_ends_the_wait)),
    ("mq_timedreceive 10-1", "a message that is there is received at once", Ours(message_before_the_timeout)),
    ("mq_timedreceive 8-1", "and whatever the time", C("timedreceive_with_a_message_ignores_the_time")),
    ("mq_timedreceive 13-1", "EBADF without a queue", C("timedreceive_needs_a_descriptor")),
    ("mq_timedreceive 17-1", "EINVAL for nanoseconds outside a second", C("timedreceive_refuses_odd_times")),
    ("mq_timedreceive 18-1", "ETIMEDOUT", Ours(receive_times_out)),
    ("mq_timedreceive 18-2", "a time that has passed is a timeout at once", C("timedreceive_past_is_a_timeout")),
    ("mq_notify 1-1", "registers the process", C("notify_registers")),
    ("mq_notify 2-1", "tells of a message that arrives at an empty queue", C("notify_tells_of_a_message")),
    ("mq_notify 3-1", "not of one that arrives at a queue with messages", C("notify_needs_an_empty_queue")),
    ("mq_notify 4-1", "NULL removes the registration", C("notify_null_removes")),
    ("mq_notify 5-1", "telling removes the registration", C("notify_tells_once")),
    ("mq_notify 8-1", "EBUSY if a process is registered", C("notify_is_busy")),
    ("mq_notify 9-1", "a process that waits in mq_receive gets the message instead", C("notify_yields_to_a_blocked_receiver")),
    ("LTP mq_notify02", "EINVAL for an unknown kind", C("notify_refuses_an_unknown_kind")),
    ("LTP mq_notify01", "EBADF without a queue", C("notify_needs_a_descriptor")),
    ("LTP mq_notify03", "EBADF for another kind of descriptor", C("notify_needs_a_queue")),
    ("mq_getattr 2-1", "tells the flags", C("getattr_tells_the_flags")),
    ("mq_getattr 2-2", "tells capacity, message size and messages", Ours(attributes_apply)),
    ("mq_getattr 3-1", "EBADF without a queue", C("getattr_needs_a_descriptor")),
    ("mq_setattr 1-1", "sets the flags", C("setattr_sets_the_flags")),
    ("mq_setattr 1-2", "sets nothing else", C("setattr_sets_nothing_else")),
    ("mq_setattr 2-1", "gives what was before", C("setattr_gives_the_old")),
    ("mq_setattr 3-1", "is of the open description alone", C("setattr_is_of_one_description")),
    ("mq_setattr 5-1", "EBADF without a queue", C("setattr_needs_a_descriptor")),
    ("LTP mq_setattr", "EINVAL for other flags than O_NONBLOCK", C("setattr_refuses_other_flags")),
];

#[test]
fn the_assertions_of_posix_hold() {
    let calls = of_the_c_library();
    let (mut checked, mut broken) = (0, Vec::new());
    for (number, says, way) in ROWS {
        let held = match way {
            Ours(check) => [Driver::Pool, Driver::AsyncFd]
                .into_iter()
                .all(|driver| std::panic::catch_unwind(|| check(driver)).is_ok()),
            C(name) => calls.get(*name).is_some_and(|it| it == "holds"),
            No(reason) => {
                println!("not checked: {number}, {says}: {reason}");
                continue;
            }
        };
        checked += 1;
        if !held {
            broken.push(format!("{number}: {says}"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}\n{calls:#?}");
    assert!(checked >= 40, "{checked}");
}

/// What each check of the C program found.
fn of_the_c_library() -> HashMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let program = compile_c(directory.path(), "calls", include_str!("mq_posix/calls.c"));
    let name = QueueName::new();
    let mut peer = Peer::spawn(Command::new(program).arg(&name.0).stdout(Stdio::piped()));
    let exit = block_on(peer.exit()).unwrap();
    let mut text = String::new();
    let mut stdout = peer.0.stdout.take().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert!(exit.success(), "{text}");
    let lines = text.lines().filter_map(|it| it.split_once(' '));
    lines.map(|(row, held)| (row.into(), held.into())).collect()
}

fn block_on<R>(future: impl Future<Output = R>) -> R {
    crate::mq_runtime::runtime().block_on(deadline(future))
}

/// Asks for one direction, or for both.
fn open(name: &QueueName, driver: Driver, read: bool, write: bool) -> Queue {
    let mut options = OpenOptions::new();
    options.driver(driver).read(read).write(write);
    options.open(&name.0).unwrap()
}

fn bad_descriptor(error: io::Error) {
    let number = OpenError::of(&error).and_then(OpenError::raw_os_error);
    assert_eq!(number, Some(libc::EBADF), "{error:?}");
}

/// Polls once, which must not be enough, then lets `change` make it go on.
fn waits<R: std::fmt::Debug>(wait: impl Future<Output = R>, change: impl FnOnce()) -> R {
    block_on(async {
        let mut wait = spawn(wait);
        assert_pending!(wait.poll());
        change();
        wait.await
    })
}

fn refers_to_the_queue(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 1, 8);
    let queue = name.open(driver);
    queue.try_send(0, b"x").unwrap();
    assert_eq!(queue.try_recv().unwrap(), message(0, "x"));
}

fn opened_several_times(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 2, 8);
    let both = [(); 2].map(|()| open(&name, driver, true, false));
    for queue in &both {
        made.try_send(0, b"x").unwrap();
        assert_eq!(queue.try_recv().unwrap(), message(0, "x"));
    }
}

fn read_only_receives(driver: Driver) {
    let name = QueueName::new();
    name.create(driver, 1, 8).try_send(0, b"x").unwrap();
    let queue = open(&name, driver, true, false);
    assert_eq!(queue.try_recv().unwrap(), message(0, "x"));
}

fn read_only_does_not_send(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 1, 8);
    bad_descriptor(
        open(&name, driver, true, false)
            .try_send(0, b"x")
            .unwrap_err(),
    );
}

fn write_only_sends(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 1, 8);
    open(&name, driver, false, true).try_send(0, b"x").unwrap();
    assert_eq!(made.try_recv().unwrap(), message(0, "x"));
}

fn write_only_does_not_receive(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 1, 8);
    bad_descriptor(open(&name, driver, false, true).try_recv().unwrap_err());
}

fn create_creates(driver: Driver) {
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .driver(driver)
        .create(true)
        .capacity(1)
        .max_message(8);
    options.open(&name.0).unwrap();
    assert!(mq::info(&name.0).is_ok());
}

fn create_leaves_an_existing_one(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 2, 16);
    made.try_send(3, b"kept").unwrap();
    let before = mq::info(&name.0).unwrap();
    let mut options = OpenOptions::new();
    options
        .driver(driver)
        .create(true)
        .capacity(1)
        .max_message(8);
    options.mode(0o640).open(&name.0).unwrap();
    assert_eq!(mq::info(&name.0).unwrap(), before);
    assert_eq!(made.try_recv().unwrap(), message(3, "kept"));
}

fn belongs_to_the_effective_user(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 1, 8);
    let owner = fstat(made.as_fd()).unwrap().st_uid;
    assert_eq!(owner, geteuid().as_raw());
}

fn has_the_mode(driver: Driver) {
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .driver(driver)
        .create_new(true)
        .capacity(1)
        .max_message(8);
    options.mode(0o640).open(&name.0).unwrap();
    assert_eq!(mq::info(&name.0).unwrap().mode, 0o640);
}

fn defaults_apply(driver: Driver) {
    let name = QueueName::new();
    let limits = mq::limits();
    let mut options = OpenOptions::new();
    // One at a time: both together cost what few users have left.
    options.driver(driver).create_new(true).max_message(8);
    let made = options.open(&name.0).unwrap().attributes().unwrap();
    assert_eq!(made.capacity as u64, limits.msg_default.min(limits.msg_max));
}

fn attributes_apply(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 3, 17);
    made.try_send(0, b"x").unwrap();
    let attributes = made.attributes().unwrap();
    assert_eq!((attributes.capacity, attributes.max_message), (3, 17));
    assert_eq!(attributes.messages, 1);
}

fn exclusive_fails(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 1, 8);
    let mut options = OpenOptions::new();
    options.create_new(true).capacity(1).max_message(8);
    let error = options.open(&name.0).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::AlreadyExists);
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
}

fn exclusive_is_atomic(driver: Driver) {
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .driver(driver)
        .create_new(true)
        .capacity(1)
        .max_message(8);
    let made = std::thread::scope(|scope| {
        let threads = [(); 8].map(|()| scope.spawn(|| options.open(&name.0).is_ok()));
        threads.map(|it| usize::from(it.join().unwrap()))
    });
    assert_eq!(made.iter().sum::<usize>(), 1);
}

fn would_block(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let empty = queue.try_recv().unwrap_err();
    assert_eq!(empty.raw_os_error(), Some(libc::EAGAIN));
    queue.try_send(0, b"x").unwrap();
    let full = queue.try_send(0, b"y").unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(queue.drain().unwrap(), 1);
}

fn waits_to_receive(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let other = name.open(driver);
    let received = waits(queue.recv(), || other.try_send(0, b"x").unwrap());
    assert_eq!(received.unwrap(), message(0, "x"));
}

fn waits_to_send(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    queue.try_send(0, b"1").unwrap();
    let other = name.open(driver);
    let room = || drop(other.try_recv().unwrap());
    waits(queue.send(0, b"2"), room).unwrap();
    assert_eq!(other.try_recv().unwrap(), message(0, "2"));
}

fn opening_moves_no_message(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 2, 8);
    made.try_send(0, b"x").unwrap();
    drop(name.open(driver));
    assert_eq!(made.attributes().unwrap().messages, 1);
}

fn invalid(driver: Driver, capacity: usize, max_message: usize) {
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options.driver(driver).create_new(true);
    options.capacity(capacity).max_message(max_message);
    let error = options.open(&name.0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

fn no_capacity(driver: Driver) {
    invalid(driver, 0, 8);
}

fn no_size(driver: Driver) {
    invalid(driver, 1, 0);
}

fn long_name(driver: Driver) {
    let name = format!("/{}", "x".repeat(256));
    let error = OpenOptions::new().driver(driver).open(name).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}

fn missing(driver: Driver) {
    let name = QueueName::new();
    let error = OpenOptions::new().driver(driver).open(&name.0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

fn odd_names(driver: Driver) {
    let numbers = [
        ("x", libc::EINVAL),
        ("/x/y", libc::EACCES),
        ("/", libc::ENOENT),
    ];
    for (name, number) in numbers {
        let error = OpenOptions::new().driver(driver).open(name).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(number), "{name}");
    }
}

fn closing_keeps_the_queue(driver: Driver) {
    let name = QueueName::new();
    name.create(driver, 1, 8).try_send(0, b"x").unwrap();
    assert_eq!(name.open(driver).try_recv().unwrap(), message(0, "x"));
}

fn unlink_removes_the_name(driver: Driver) {
    let name = QueueName::new();
    let _made = name.create(driver, 1, 8);
    mq::unlink(&name.0).unwrap();
    missing_is(&name);
}

fn missing_is(name: &QueueName) {
    let opened = OpenOptions::new().open(&name.0);
    assert!(refused(opened, OpenErrorKind::NotFound));
}

fn unlinked_works_on(driver: Driver) {
    let name = QueueName::new();
    let (made, other) = (name.create(driver, 1, 8), name.open(driver));
    mq::unlink(&name.0).unwrap();
    made.try_send(0, b"x").unwrap();
    assert_eq!(other.try_recv().unwrap(), message(0, "x"));
}

fn unlinked_name_is_free(driver: Driver) {
    let name = QueueName::new();
    let old = name.create(driver, 1, 8);
    mq::unlink(&name.0).unwrap();
    let new = name.create(driver, 1, 8);
    old.try_send(0, b"x").unwrap();
    assert_eq!(new.attributes().unwrap().messages, 0);
}

fn unlink_missing(_: Driver) {
    let name = QueueName::new();
    let error = mq::unlink(&name.0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

fn unlink_long_name(_: Driver) {
    let error = mq::unlink(&format!("/{}", "x".repeat(256))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
}

fn send_adds(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 8);
    queue.try_send(0, b"x").unwrap();
    assert_eq!(queue.attributes().unwrap().messages, 1);
    assert_eq!(queue.try_recv().unwrap(), message(0, "x"));
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

fn short_messages(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    for body in ["", "1", "12345678"] {
        queue.try_send(0, body.as_bytes()).unwrap();
        assert_eq!(queue.try_recv().unwrap(), message(0, body));
    }
}

fn order(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 5, 8);
    for (priority, body) in [(1, "d"), (7, "a"), (3, "c"), (7, "b"), (0, "e")] {
        queue.try_send(priority, body.as_bytes()).unwrap();
    }
    for (priority, body) in [(7, "a"), (7, "b"), (3, "c"), (1, "d"), (0, "e")] {
        assert_eq!(queue.try_recv().unwrap(), message(priority, body));
    }
}

fn all_priorities(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    for priority in (0..32_768).step_by(31).chain([32_767]) {
        queue.try_send(priority, b"").unwrap();
        assert_eq!(queue.try_recv().unwrap(), message(priority, ""));
    }
}

fn highest_priority(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let error = queue.try_send(32_768, b"").unwrap_err();
    let (asked, max) = (32_768, 32_767);
    let refusal = FrameError::Priority { asked, max };
    assert_eq!(FrameError::of(&error), Some(&refusal));
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

fn too_long(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let error = queue.try_send(0, &[0; 9]).unwrap_err();
    let refusal = FrameError::TooLarge { len: 9, max: 8 };
    assert_eq!(FrameError::of(&error), Some(&refusal));
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

const SHORT: Duration = Duration::from_millis(5);

fn send_times_out(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    queue.try_send(0, b"1").unwrap();
    let error = block_on(queue.send_timeout(0, b"2", SHORT)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(queue.drain().unwrap(), 1);
}

fn receive_times_out(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let error = block_on(queue.recv_timeout(SHORT)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

fn message_ends_the_wait(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    let other = name.open(driver);
    let long = queue.recv_timeout(Duration::from_secs(3600));
    let received = waits(long, || other.try_send(0, b"x").unwrap());
    assert_eq!(received.unwrap(), message(0, "x"));
}

fn message_before_the_timeout(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 1, 8);
    queue.try_send(0, b"x").unwrap();
    block_on(async {
        let received = assert_ready!(spawn(queue.recv_timeout(Duration::ZERO)).poll());
        assert_eq!(received.unwrap(), message(0, "x"));
    });
}
