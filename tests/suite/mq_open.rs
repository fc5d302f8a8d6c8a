//! Opening, making and removing queues, and what can be wrong with that.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::support::MARK;
use aqueduct::mq::{self, Driver, OpenOptions};
use aqueduct::{Endpoint, OpenErrorKind};
use futures_util::StreamExt;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Uid, geteuid, seteuid};

use crate::mq::{QueueName, refused, replaced};
use crate::support::{Peer, is_peer, peer_command};

/// How long a process that runs a test of its own may take.
const ALONE: Duration = Duration::from_secs(90);

/// Runs `role` as a process of its own and shows what it said if it fails, does not end, or leaves
/// a queue.
pub(crate) fn run_alone(role: &str) {
    let (status, left, text) = alone(role);
    assert!(
        status.is_some_and(|it| it.success()),
        "{role}: {status:?}\n{text}"
    );
    assert_eq!(left, 0, "{role}: queues are left\n{text}");
    // What was left out must be seen, also where the test passes: so not by a macro, whose output
    // the harness keeps.
    for line in text.lines().filter(|it| it.contains("SKIPPED")) {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// How the process ended, if it did, how many queues it left, and what it said. None are left now.
fn alone(role: &str) -> (Option<ExitStatus>, usize, String) {
    let said = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let mut command = peer_command(role);
    // One file description for both, or one would write over the other.
    let file = said.reopen().unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let mut peer = Peer::spawn(&mut command);
    let started = Instant::now();
    let status = loop {
        match peer.0.try_wait().expect("it is our child") {
            Some(status) => break Some(status),
            None if started.elapsed() > ALONE => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    // A process that is killed removes nothing.
    peer.kill();
    let left = QueueName::remove_all_of(peer.0.id());
    let text = std::fs::read_to_string(said.path()).unwrap();
    (status, left, text)
}

/// Queues outlive their processes: a test that fails must not leave any.
#[test]
fn a_test_that_fails_leaves_no_queue() {
    const ROLE: &str = "mq_open::a_test_that_fails_leaves_no_queue";
    if is_peer(ROLE) {
        let name = QueueName::new();
        let queue = name.create(Driver::Pool, 1, 8);
        panic!("meant to be seen: it fails with {} open", queue.name());
    }
    let (status, left, text) = alone(ROLE);
    assert!(!status.expect("it ends").success());
    assert!(text.contains("it fails with /aqueduct-test-"), "{text}");
    assert_eq!(left, 0);
}

/// An existing queue keeps its attributes whatever is asked for.
#[test]
fn attributes_asked_of_an_existing_queue_are_compared() {
    let name = QueueName::new();
    let _made = name.create(Driver::Pool, 3, 100);
    let mut options = OpenOptions::new();
    options.create(true).capacity(5).max_message(100);
    let queue = options.open(&name.0).unwrap();
    let attributes = queue.attributes().unwrap();
    assert_eq!((attributes.capacity, attributes.max_message), (3, 100));

    let error = options.strict(true).open(&name.0).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::Mismatch);
    assert!(
        error
            .to_string()
            .contains("holds 3 messages of up to 100 bytes, not 5"),
        "{error}"
    );
    options.capacity(3).open(&name.0).unwrap();
}

/// With only one of capacity and size given the other one is the system's default.
#[test]
fn one_attribute_alone_is_enough() {
    let limits = mq::limits();
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    let queue = options
        .create_new(true)
        .max_message(16)
        .open(&name.0)
        .unwrap();
    let attributes = queue.attributes().unwrap();
    assert_eq!(
        attributes.capacity as u64,
        limits.msg_default.min(limits.msg_max)
    );
    assert_eq!(attributes.max_message, 16);
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    let queue = options.create_new(true).capacity(1).open(&name.0).unwrap();
    let attributes = queue.attributes().unwrap();
    assert_eq!(
        attributes.max_message as u64,
        limits.msgsize_default.min(limits.msgsize_max)
    );
    assert_eq!(attributes.capacity, 1);
}

/// `EINVAL` says which value it is, which sysctl limits it, and what is allowed.
#[test]
fn invalid_attributes_name_the_value_and_the_limit() {
    let limits = mq::limits();
    let name = QueueName::new();
    // Whoever has CAP_SYS_RESOURCE meets the kernel's own limits; who has not is not told of them,
    // however far above both the value is.
    let (max_capacity, largest) = match limits.exempt {
        true => (65_536, 16 * 1024 * 1024),
        false => (limits.msg_max, limits.msgsize_max),
    };
    let above = |max: u64| usize::try_from(max).unwrap() + 1;
    for capacity in [0, above(max_capacity), 65_537, usize::MAX / 2] {
        let mut options = OpenOptions::new();
        let error = options
            .create(true)
            .capacity(capacity)
            .max_message(8)
            .open(&name.0);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::InvalidOption);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        let text = error.to_string();
        let said =
            format!("its capacity cannot be {capacity} messages, allowed are 1 to {max_capacity};");
        assert!(
            text.contains("fs.mqueue.msg_max") && text.contains(&said),
            "{text}"
        );
    }
    for size in [0, above(largest), 16 * 1024 * 1024 + 1, usize::MAX / 2] {
        let mut options = OpenOptions::new();
        let error = options
            .create(true)
            .capacity(1)
            .max_message(size)
            .open(&name.0);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::InvalidOption);
        let text = error.to_string();
        let said =
            format!("its largest message cannot be {size} bytes, allowed are 1 to {largest};");
        assert!(
            text.contains("fs.mqueue.msgsize_max") && text.contains(&said),
            "{text}"
        );
    }
    assert!(
        refused(OpenOptions::new().open(&name.0), OpenErrorKind::NotFound),
        "nothing was made"
    );
}

/// `ENOENT` and `EEXIST`.
#[test]
fn missing_and_existing_queues_are_typed_errors() {
    let name = QueueName::new();
    let error = OpenOptions::new().open(&name.0).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::NotFound);
    assert_eq!(error.object(), name.0);
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    assert!(refused(mq::unlink(&name.0), OpenErrorKind::NotFound));

    let _made = name.create(Driver::Pool, 1, 8);
    let error = OpenOptions::new()
        .create_new(true)
        .open(&name.0)
        .unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::AlreadyExists);
    let error = std::io::Error::from(error);
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn names_are_checked_by_every_entry() {
    let long = format!("/{}", "x".repeat(300));
    for name in ["", "jobs", "/", "//jobs", "/a/b", "/.", "/..", &long] {
        let invalid = |it: &OpenErrorKind| *it == OpenErrorKind::InvalidName;
        let created = OpenOptions::new().create(true).open(name);
        assert!(created.is_err_and(|it| invalid(it.kind())), "{name:?}");
        let opened = OpenOptions::new().open(name);
        assert!(opened.is_err_and(|it| invalid(it.kind())), "{name:?}");
        let unlinked = mq::unlink(name);
        assert!(unlinked.is_err_and(|it| invalid(it.kind())), "{name:?}");
        let info = mq::info(name);
        assert!(info.is_err_and(|it| invalid(it.kind())), "{name:?}");
    }
    let longest = format!("/{:x<255}", QueueName::new().0.trim_start_matches('/'));
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(1)
        .max_message(1)
        .unlink_on_drop(true);
    options.open(&longest).unwrap();
}

/// Linux takes any byte but a slash in a name; this library makes only plain ones.
#[tokio::test]
async fn queues_of_other_programs_open_under_any_name() {
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_close, mq_open};

    for odd in [":b", "@1", " queue", "50%", "?create=x", "\ttab", "\u{e9}"] {
        let name = QueueName(format!("{}{odd}", QueueName::new().0));
        let made = MqAttr::new(0, 2, 8, 0);
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDONLY;
        let theirs = mq_open(name.0.as_str(), flags, Mode::S_IRWXU, Some(&made)).unwrap();
        let queue = OpenOptions::new().open(&name.0).unwrap();
        assert_eq!(queue.name(), name.0);
        OpenOptions::new().create(true).open(&name.0).unwrap();
        assert_eq!(mq::info(&name.0).unwrap().name, name.0);

        // Every byte escaped; it is printed with as few escapes as needed.
        let escaped: String = name.0.bytes().map(|it| format!("%{it:02x}")).collect();
        let address: Endpoint = format!("mq:{escaped}").parse().unwrap();
        assert_eq!(address.to_string().parse::<Endpoint>().unwrap(), address);
        let mut receiver = address.open_receiver().await.unwrap();
        queue.try_send(0, b"x").unwrap();
        let got = receiver.next().await.unwrap().unwrap();
        assert_eq!(got.body(), "x", "{address}");

        mq_close(theirs).unwrap();
        mq::unlink(&name.0).unwrap();
        let created = OpenOptions::new().create(true).open(&name.0);
        assert!(refused(created, OpenErrorKind::InvalidName), "{odd:?}");
        assert!(refused(mq::info(&name.0), OpenErrorKind::NotFound));
        let error = OpenOptions::new().open(&name.0).unwrap_err().to_string();
        assert!(!error.contains('\t'), "escaped for a terminal: {error:?}");
    }
}

/// All users outside a user namespace are one number in it, of which no advice can be given.
#[test]
fn an_owner_outside_the_user_namespace_is_named_so() {
    const ROLE: &str = "mq_open::an_owner_outside_the_user_namespace_is_named_so";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    if !geteuid().is_root() {
        println!("SKIPPED: {ROLE} needs root");
        return;
    }
    let name = QueueName::new();
    seteuid(Uid::from_raw(54_321)).unwrap();
    let mut options = OpenOptions::new();
    options.create_new(true).capacity(1).max_message(8);
    options.mode(0o666).open(&name.0).unwrap();
    seteuid(Uid::from_raw(0)).unwrap();
    for mapped in [&["--map-root-user"][..], &[]] {
        let role = peer_command("mq_open::role_in_a_user_namespace");
        let mut command = Command::new("unshare");
        command.arg("--user").args(mapped).arg("--");
        command.arg(role.get_program()).args(role.get_args());
        for (variable, value) in role.get_envs() {
            command.env(variable, value.unwrap_or_default());
        }
        let output = command.env("AQUEDUCT_TEST_QUEUE", &name.0).output();
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                println!("SKIPPED: {ROLE} has no unshare(1): {error}");
                return;
            }
        };
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("unshare failed") {
            println!("SKIPPED: {ROLE} may not make a user namespace: {text}");
            return;
        }
        assert!(output.status.success(), "{mapped:?}: {text}");
    }
}

#[test]
fn role_in_a_user_namespace() {
    if !is_peer("mq_open::role_in_a_user_namespace") {
        return;
    }
    let name = std::env::var("AQUEDUCT_TEST_QUEUE").unwrap();
    let mut options = OpenOptions::new();
    let error = options.mode(0o666).open(&name).unwrap_err();
    let owner = 65_534;
    assert_eq!(error.kind(), &OpenErrorKind::ForeignOwner { owner });
    let text = error.to_string();
    let cause = "it belongs to a user outside this user namespace;";
    assert!(text.contains(cause), "{text}");
    options.allow_foreign_owner(true).open(&name).unwrap();
}

/// Close-on-exec always; and the descriptor is the non-blocking one of this library.
#[test]
fn descriptors_are_close_on_exec_and_non_blocking() {
    let name = QueueName::new();
    let queue = name.create(Driver::Pool, 1, 8);
    let flags = fcntl(queue.as_fd(), FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC));
    let flags = fcntl(queue.as_fd(), FcntlArg::F_GETFL).unwrap();
    assert!(OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
}

fn mode_of(queue: &mq::Queue) -> u32 {
    fstat(queue.as_fd()).unwrap().st_mode & 0o7777
}

/// The mode is what was asked for, whatever the umask.
#[test]
fn mode_is_exact_whatever_the_umask() {
    if !is_peer("mq_open::mode_is_exact_whatever_the_umask") {
        // The umask is the process's, so this is done in one of its own.
        return run_alone("mq_open::mode_is_exact_whatever_the_umask");
    }
    for mask in [0o000, 0o022, 0o077, 0o777] {
        umask(Mode::from_bits_truncate(mask));
        let name = QueueName::new();
        assert_eq!(
            mode_of(&name.create(Driver::Pool, 1, 8)),
            MARK | 0o600,
            "umask {mask:04o}"
        );
        for mode in [0o600, 0o640, 0o666, 0o000] {
            let name = QueueName::new();
            let mut options = OpenOptions::new();
            options
                .create_new(true)
                .capacity(1)
                .max_message(8)
                .mode(mode);
            let queue = options.open(&name.0).unwrap();
            assert_eq!(mode_of(&queue), MARK | mode, "umask {mask:04o}");
        }
    }
}

/// Other programs make 0644 queues: that works, unless strict.
#[test]
fn wider_mode_is_taken_unless_strict() {
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(1)
        .max_message(8)
        .mode(0o644);
    options.open(&name.0).unwrap();
    let queue = OpenOptions::new().open(&name.0).unwrap();
    assert_eq!(mode_of(&queue), MARK | 0o644);
    let mut strict = OpenOptions::new();
    let error = strict.strict(true).open(&name.0).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::Mismatch);
    let text = error.to_string();
    assert!(text.contains("0644, wider than 0600"), "{text}");
    strict.mode(0o644).open(&name.0).unwrap();
}

/// Another user may have made the queue first, to read what is sent to it.
#[test]
fn queue_of_another_user_is_refused_unless_allowed() {
    const ROLE: &str = "mq_open::queue_of_another_user_is_refused_unless_allowed";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    if !geteuid().is_root() {
        println!("SKIPPED: {ROLE} needs root");
        return;
    }
    let nobody = Uid::from_raw(65_534);
    let (open, closed) = (QueueName::new(), QueueName::new());
    seteuid(nobody).unwrap();
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(1)
        .max_message(8)
        .mode(0o666)
        .open(&open.0)
        .unwrap();
    seteuid(Uid::from_raw(0)).unwrap();
    closed.create(Driver::Pool, 1, 8);

    // Root got it silently by mq_open with O_CREAT.
    let mut options = OpenOptions::new();
    let error = options.create(true).open(&open.0).unwrap_err();
    let owner = 65_534;
    assert_eq!(error.kind(), &OpenErrorKind::ForeignOwner { owner });
    let text = error.to_string();
    assert!(text.contains("user 65534, and this process"), "{text}");
    options.allow_foreign_owner(true).open(&open.0).unwrap();
    assert!(refused(
        options.strict(true).open(&open.0),
        OpenErrorKind::Mismatch
    ));

    // And the other way round: EACCES, also for unlinking.
    let shared = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(1)
        .max_message(8)
        .mode(0o622)
        .open(&shared.0)
        .unwrap();
    seteuid(nobody).unwrap();
    // Root's is no risk: root could read it whoever made it.
    let mut options = OpenOptions::new();
    options.write(true).open(&shared.0).unwrap();
    let error = OpenOptions::new().open(&closed.0).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::PermissionDenied);
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    let error = mq::unlink(&closed.0).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::PermissionDenied);
    seteuid(Uid::from_raw(0)).unwrap();
}

/// Removes only what this very call made.
#[test]
fn unlink_on_drop_removes_only_what_it_made() {
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .create(true)
        .capacity(1)
        .max_message(8)
        .unlink_on_drop(true);
    let made = options.open(&name.0).unwrap();
    let found = options.open(&name.0).unwrap();
    drop(found);
    assert!(
        OpenOptions::new().open(&name.0).is_ok(),
        "it was there before"
    );
    drop(made);
    assert!(refused(
        OpenOptions::new().open(&name.0),
        OpenErrorKind::NotFound
    ));

    let made = options.open(&name.0).unwrap();
    mq::unlink(&name.0).unwrap();
    let another = name.create(Driver::Pool, 1, 8);
    drop(made);
    assert_eq!(replaced(&another), None, "another one's");
}

/// `EMFILE` for want of a descriptor says so, and not that the queues are too large.
#[test]
fn too_many_descriptors_are_told_from_too_many_bytes() {
    const ROLE: &str = "mq_open::too_many_descriptors_are_told_from_too_many_bytes";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (name, other) = (QueueName::new(), QueueName::new());
    let queue = name.create(Driver::Pool, 1, 8);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut all = Vec::new();
    while let Ok(fd) = queue.as_fd().try_clone_to_owned() {
        assert!(fd.as_raw_fd() < 64);
        all.push(fd);
    }
    for error in [
        OpenOptions::new()
            .create(true)
            .capacity(1)
            .max_message(8)
            .open(&other.0)
            .unwrap_err(),
        OpenOptions::new().open(&name.0).unwrap_err(),
    ] {
        assert_eq!(error.kind(), &OpenErrorKind::LimitReached);
        assert!(error.to_string().contains("all 64 file"), "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
    }
    // The drivers need descriptors as well: an error of the wait, not a hang or a panic.
    let runtime = tokio::runtime::Handle::try_current();
    assert!(runtime.is_err());
    drop(all.pop());
}
