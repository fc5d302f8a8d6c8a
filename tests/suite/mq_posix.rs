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

use aqueduct::OpenError;
use aqueduct::frame::FrameError;
use aqueduct::mq::{self, Driver, OpenOptions, Queue};
use nix::sys::stat::fstat;
use nix::unistd::geteuid;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

use crate::mq::{QueueName, message};
use crate::support::{Peer, compile_c, deadline};

use Step::{Close, Fails, Is, Make, Messages, Open, Other, Put, Take, Unlink};
use Way::{C, Do, No, Ours};

/// How an assertion is checked.
enum Way {
    /// Through this library, in these steps.
    Do(&'static [Step]),
    /// Through this library.
    Ours(fn(Driver)),
    /// Through the C library: the check of that name in `calls.c`.
    C(&'static str),
    /// Not at all, for this reason.
    No(&'static str),
}

/// One step, on the descriptor at hand: the one that was opened last.
enum Step {
    /// Creates the queue: its capacity, and the size of its messages.
    Make(usize, usize),
    /// Opens it once more: to read, to write, or both.
    Open(&'static str),
    /// Goes back to the descriptor before, or on again.
    Other,
    /// Closes all descriptors.
    Close,
    Unlink,
    /// Sends a message of this priority.
    Put(u32, &'static str),
    /// Receives this one.
    Take(u32, &'static str),
    /// So many messages are in it.
    Messages(usize),
    /// Its attributes: capacity, and the size of its messages.
    Is(usize, usize),
    /// What the call fails with.
    Fails(Call, i32),
}

enum Call {
    Put,
    Take,
    Open,
    Make(usize, usize),
    Unlink,
}

/// Where the assertion stands, what it says, and how it is checked.
type Row = (&'static str, &'static str, Way);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("mq_open 1-1", "gives a descriptor that refers to the queue", Do(&[Make(1, 8), Open("rw"), Put(0, "x"), Take(0, "x")])),
    ("mq_open 2-1", "may be opened to receive several times", Do(&[Make(2, 8), Put(0, "x"), Put(0, "y"), Open("r"), Take(0, "x"), Open("r"), Take(0, "y")])),
    ("mq_open 7-1", "O_RDONLY receives", Do(&[Make(1, 8), Put(0, "x"), Open("r"), Take(0, "x")])),
    ("mq_open 7-2", "O_RDONLY does not send", Do(&[Make(1, 8), Open("r"), Fails(Call::Put, libc::EBADF)])),
    ("mq_open 8-1", "O_WRONLY sends", Do(&[Make(1, 8), Open("w"), Put(0, "x"), Other, Take(0, "x")])),
    ("mq_open 8-2", "O_WRONLY does not receive", Do(&[Make(1, 8), Open("w"), Fails(Call::Take, libc::EBADF)])),
    ("mq_open 9-1", "O_RDWR does both", Do(&[Make(1, 8), Open("rw"), Put(0, "x"), Take(0, "x")])),
    ("mq_open 11-1", "O_CREAT creates the queue", Ours(create_creates)),
    ("mq_open 12-1", "O_CREAT leaves an existing queue as it is", Ours(create_leaves_an_existing_one)),
    ("mq_open 13-1", "a new queue belongs to the effective user", Ours(belongs_to_the_effective_user)),
    ("mq_open 15-1", "a new queue has the mode asked for", Ours(has_the_mode)),
    ("mq_open 16-1", "without attributes the defaults apply", Ours(defaults_apply)),
    ("mq_open 17-1", "mq_maxmsg and mq_msgsize are what was asked for", Do(&[Make(3, 17), Put(0, "x"), Is(3, 17), Messages(1)])),
    ("mq_open 18-1", "O_EXCL fails if it exists (EEXIST)", Do(&[Make(1, 8), Fails(Call::Make(1, 8), libc::EEXIST)])),
    ("mq_open 19-1", "of processes that race with O_EXCL one succeeds", Ours(exclusive_is_atomic)),
    ("mq_open 20-1", "O_NONBLOCK: EAGAIN where it would block", Do(&[Make(1, 8), Fails(Call::Take, libc::EAGAIN), Put(0, "x"), Fails(Call::Put, libc::EAGAIN), Messages(1)])),
    ("mq_open 21-1", "without it, the call waits", Ours(waits_to_receive)),
    ("mq_open 22-1", "opening adds and removes no message", Do(&[Make(2, 8), Put(0, "x"), Open("rw"), Close, Open("r"), Messages(1)])),
    ("mq_open 23-1", "EACCES without permission", No("mq_open::queue_of_another_user_is_refused_unless_allowed: takes a second user")),
    ("mq_open 26-1", "EINTR", No("mq_open does not sleep on Linux")),
    ("mq_open 27-1", "EINVAL for a capacity of 0", Do(&[Fails(Call::Make(0, 8), libc::EINVAL)])),
    ("mq_open 27-2", "EINVAL for a message size of 0", Do(&[Fails(Call::Make(1, 0), libc::EINVAL)])),
    ("mq_open 28-1", "EMFILE", No("mq_open::too_many_descriptors_are_told_from_too_many_bytes: takes a process of its own")),
    ("mq_open 29-1", "ENAMETOOLONG above NAME_MAX", Ours(long_name)),
    ("mq_open 30-1", "ENFILE", No("would take all descriptors of the machine")),
    ("mq_open 31-1", "ENOENT without O_CREAT", Do(&[Fails(Call::Open, libc::ENOENT)])),
    ("mq_open 32-1", "ENOSPC above queues_max", No("mq_limits::room_for_queues_is_predicted_exactly_and_met: takes a namespace of its own")),
    ("LTP mq_open01", "EINVAL without a slash, EACCES with two, ENOENT for \"/\"", Ours(odd_names)),
    ("mq_close 1-1", "ends the association with the queue", Do(&[Make(1, 8), Put(0, "x"), Close, Open("r"), Take(0, "x")])),
    ("mq_close 2-1", "removes the process's notification", C("close_removes_the_notification")),
    ("mq_close 3-1", "EBADF for what is no open queue", C("close_twice_is_an_error")),
    ("mq_unlink 1-1", "removes the name", Do(&[Make(1, 8), Unlink, Fails(Call::Open, libc::ENOENT)])),
    ("mq_unlink 2-1", "the queue works on until the last close", Do(&[Make(1, 8), Open("r"), Unlink, Other, Put(0, "x"), Other, Take(0, "x")])),
    ("mq_unlink 2-2", "its name can be used for another at once", Do(&[Make(1, 8), Unlink, Make(1, 8), Other, Put(0, "x"), Other, Messages(0)])),
    ("mq_unlink 7-1", "ENOENT if there is none", Do(&[Fails(Call::Unlink, libc::ENOENT)])),
    ("LTP mq_unlink01", "ENAMETOOLONG; EACCES of another user's", Ours(unlink_long_name)),
    ("mq_send 1-1", "puts the message into the queue", Do(&[Make(2, 8), Put(0, "x"), Messages(1), Take(0, "x"), Messages(0)])),
    ("mq_send 2-1", "a message may be shorter than mq_msgsize, or empty", Do(&[Make(1, 8), Put(0, ""), Take(0, ""), Put(0, "1"), Take(0, "1"), Put(0, "12345678"), Take(0, "12345678")])),
    ("mq_send 3-1", "by priority, then by age", Do(ORDER)),
    ("mq_send 4-1", "all priorities below MQ_PRIO_MAX are taken", Ours(all_priorities)),
    ("mq_send 5-1", "waits while the queue is full", Ours(waits_to_send)),
    ("mq_send 5-2", "and goes on when there is room", Ours(waits_to_send)),
    ("mq_send 7-1", "EAGAIN where it must not wait; nothing is sent", Do(&[Make(1, 8), Fails(Call::Take, libc::EAGAIN), Put(0, "x"), Fails(Call::Put, libc::EAGAIN), Messages(1)])),
    ("mq_send 10-1", "EBADF without a queue", C("send_needs_a_descriptor")),
    ("mq_send 11-1", "EBADF if it is not open for sending", Do(&[Make(1, 8), Open("r"), Fails(Call::Put, libc::EBADF)])),
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
    ("mq_receive 1-1", "the oldest of the highest priority", Do(ORDER)),
    ("mq_receive 2-1", "EMSGSIZE for a buffer below mq_msgsize", C("receive_needs_a_buffer_of_the_queues_size")),
    ("mq_receive 5-1", "waits while the queue is empty", Ours(waits_to_receive)),
    ("mq_receive 7-1", "what is received is not there any more", Do(&[Make(2, 8), Put(0, "x"), Messages(1), Take(0, "x"), Messages(0)])),
    ("mq_receive 8-1", "EAGAIN where it must not wait", Do(&[Make(1, 8), Fails(Call::Take, libc::EAGAIN), Put(0, "x"), Fails(Call::Put, libc::EAGAIN), Messages(1)])),
    ("mq_receive 10-1", "gives the length of the message", Do(&[Make(1, 8), Put(0, ""), Take(0, ""), Put(0, "1"), Take(0, "1"), Put(0, "12345678"), Take(0, "12345678")])),
    ("mq_receive 11-1", "EBADF without a queue", C("receive_needs_a_descriptor")),
    ("mq_receive 11-2", "EBADF if it is not open for receiving", Do(&[Make(1, 8), Open("w"), Fails(Call::Take, libc::EBADF)])),
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
    ("mq_getattr 2-2", "tells capacity, message size and messages", Do(&[Make(3, 17), Put(0, "x"), Is(3, 17), Messages(1)])),
    ("mq_getattr 3-1", "EBADF without a queue", C("getattr_needs_a_descriptor")),
    ("mq_setattr 1-1", "sets the flags", C("setattr_sets_the_flags")),
    ("mq_setattr 1-2", "sets nothing else", C("setattr_sets_nothing_else")),
    ("mq_setattr 2-1", "gives what was before", C("setattr_gives_the_old")),
    ("mq_setattr 3-1", "is of the open description alone", C("setattr_is_of_one_description")),
    ("mq_setattr 5-1", "EBADF without a queue", C("setattr_needs_a_descriptor")),
    ("LTP mq_setattr", "EINVAL for other flags than O_NONBLOCK", C("setattr_refuses_other_flags")),
];

/// By priority, and then by age.
const ORDER: &[Step] = &[
    Make(5, 8),
    Put(1, "d"),
    Put(7, "a"),
    Put(3, "c"),
    Put(7, "b"),
    Put(0, "e"),
    Take(7, "a"),
    Take(7, "b"),
    Take(3, "c"),
    Take(1, "d"),
    Take(0, "e"),
];

#[test]
fn the_assertions_of_posix_hold() {
    let calls = of_the_c_library();
    let (mut checked, mut broken) = (0, Vec::new());
    for (number, says, way) in ROWS {
        let held = match way {
            Do(steps) => with_both_drivers(|driver| follow(steps, driver)),
            Ours(check) => with_both_drivers(check),
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

fn with_both_drivers(check: impl Fn(Driver) + std::panic::RefUnwindSafe) -> bool {
    [Driver::Pool, Driver::AsyncFd]
        .into_iter()
        .all(|driver| std::panic::catch_unwind(|| check(driver)).is_ok())
}

fn follow(steps: &[Step], driver: Driver) {
    let name = QueueName::new();
    let make = |capacity, size| {
        let mut options = small(driver, capacity, size);
        options.create_new(true).open(&name.0)
    };
    let open = |access: &str| {
        let mut options = OpenOptions::new();
        options.driver(driver);
        options
            .read(access.contains('r'))
            .write(access.contains('w'));
        options.open(&name.0)
    };
    let mut queues: Vec<Queue> = Vec::new();
    for step in steps {
        match step {
            Make(capacity, size) => queues.insert(0, make(*capacity, *size).unwrap()),
            Open(access) => queues.insert(0, open(access).unwrap()),
            Other => queues.swap(0, 1),
            Close => queues.clear(),
            Unlink => mq::unlink(&name.0).unwrap(),
            Put(priority, body) => queues[0].try_send(*priority, body.as_bytes()).unwrap(),
            Take(priority, body) => {
                assert_eq!(queues[0].try_recv().unwrap(), message(*priority, *body));
            }
            Messages(count) => assert_eq!(queues[0].attributes().unwrap().messages, *count),
            Is(capacity, size) => {
                let is = queues[0].attributes().unwrap();
                assert_eq!((is.capacity, is.max_message), (*capacity, *size));
            }
            Fails(call, number) => {
                let error = match call {
                    Call::Put => queues[0].try_send(0, b"x").unwrap_err(),
                    Call::Take => queues[0].try_recv().unwrap_err(),
                    Call::Open => open("rw").unwrap_err().into(),
                    Call::Make(capacity, size) => make(*capacity, *size).unwrap_err().into(),
                    Call::Unlink => mq::unlink(&name.0).unwrap_err().into(),
                };
                let opening = OpenError::of(&error).and_then(OpenError::raw_os_error);
                assert_eq!(error.raw_os_error().or(opening), Some(*number), "{error:?}");
            }
        }
    }
}

fn small(driver: Driver, capacity: usize, size: usize) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.driver(driver).capacity(capacity).max_message(size);
    options
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

/// Polls once, which must not be enough, then lets `change` make it go on.
fn waits<R: std::fmt::Debug>(wait: impl Future<Output = R>, change: impl FnOnce()) -> R {
    block_on(async {
        let mut wait = spawn(wait);
        assert_pending!(wait.poll());
        change();
        wait.await
    })
}

fn create_creates(driver: Driver) {
    let name = QueueName::new();
    small(driver, 1, 8).create(true).open(&name.0).unwrap();
    assert!(mq::info(&name.0).is_ok());
}

fn create_leaves_an_existing_one(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 2, 16);
    made.try_send(3, b"kept").unwrap();
    let before = mq::info(&name.0).unwrap();
    small(driver, 1, 8)
        .create(true)
        .mode(0o640)
        .open(&name.0)
        .unwrap();
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
    small(driver, 1, 8)
        .create_new(true)
        .mode(0o640)
        .open(&name.0)
        .unwrap();
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

fn exclusive_is_atomic(driver: Driver) {
    let name = QueueName::new();
    let mut options = small(driver, 1, 8);
    options.create_new(true);
    let made = std::thread::scope(|scope| {
        let threads = [(); 8].map(|()| scope.spawn(|| options.open(&name.0).is_ok()));
        threads.map(|it| usize::from(it.join().unwrap()))
    });
    assert_eq!(made.iter().sum::<usize>(), 1);
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

fn long_name(driver: Driver) {
    let name = format!("/{}", "x".repeat(256));
    let error = OpenOptions::new().driver(driver).open(name).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
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

fn unlink_long_name(_: Driver) {
    let error = mq::unlink(&format!("/{}", "x".repeat(256))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
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
