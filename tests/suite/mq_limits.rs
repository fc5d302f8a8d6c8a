//! The limits on queues, the listing, and namespaces; each in a process of its own.

use std::fs;

use aqueduct::mq::{self, Driver, OpenOptions, RoomEnd};
use aqueduct::{OpenError, OpenErrorKind};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, geteuid, setresuid};

use crate::mq::{QueueName, refused, replaced};
use crate::mq_open::run_alone;
use crate::support::is_peer;

/// Moves this process into an IPC namespace of its own, where no other test's queues are, with
/// nothing mounted on `/dev/mqueue`. Says so and returns `false` where it may not.
pub(crate) fn own_namespace(role: &str) -> bool {
    const NONE: Option<&str> = None;
    let flags = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNS;
    let done = unshare(flags).and_then(|()| {
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        // Over all of /dev, or the machine would keep the directory that is made below.
        mount(Some("tmpfs"), "/dev", Some("tmpfs"), MsFlags::empty(), NONE)
    });
    if let Err(errno) = &done {
        println!("SKIPPED: {role} has no namespace of its own: {errno}");
    }
    done.is_ok()
}

fn mount_queues() {
    fs::create_dir("/dev/mqueue").unwrap();
    let mounted = mount(
        Some("mqueue"),
        "/dev/mqueue",
        Some("mqueue"),
        MsFlags::empty(),
        None::<&str>,
    );
    mounted.unwrap();
}

/// Becomes a user that nobody else is, who has no queues: the limit on bytes is the user's, in all
/// namespaces together.
fn own_user() {
    let uid = Uid::from_raw(100_000 + std::process::id());
    setresuid(uid, uid, uid).unwrap();
    // Its own /proc/self/fd is root's without this.
    nix::sys::prctl::set_dumpable(true).unwrap();
}

/// Makes queues of the default size until one fails.
fn fill() -> (Vec<QueueName>, Vec<mq::Queue>, OpenError) {
    let (mut names, mut queues) = (Vec::new(), Vec::new());
    loop {
        let name = QueueName::new();
        match OpenOptions::new().create_new(true).open(&name.0) {
            Ok(queue) => queues.push(queue),
            Err(error) => return (names, queues, error),
        }
        names.push(name);
    }
}

/// The prediction is exact, and the next queue is the typed error.
fn predicted_is_met(looked: bool) -> usize {
    let room = mq::measure_room(None).unwrap();
    let limits = mq::limits();
    if looked {
        assert_eq!(limits.room_for(limits.default_cost), room, "{limits:?}");
    }
    let (names, queues, error) = fill();
    assert_eq!(queues.len() as u64, room.queues);
    match error.kind() {
        OpenErrorKind::OverQuota { needed, limit } => {
            assert_eq!(room.ends_with, Some(RoomEnd::Bytes));
            assert_eq!((*needed, *limit), (limits.default_cost, limits.bytes_soft));
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
            assert!(error.to_string().contains("RLIMIT_MSGQUEUE"), "{error}");
        }
        OpenErrorKind::LimitReached => {
            assert_eq!(room.ends_with, Some(RoomEnd::Queues));
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
            let text = error.to_string();
            let allowed = format!("the system allows ({})", limits.queues_max);
            assert!(text.contains(&allowed), "{text}");
            assert!(text.contains("fs.mqueue.queues_max"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(mq::measure_room(None).unwrap().queues, 0);
    if looked {
        let limits = mq::limits();
        let room = limits.room_for(limits.default_cost);
        assert_eq!(room.queues, 0, "{limits:?}");
    }
    // Closed but not unlinked still counts; unlinked but not closed does, too.
    let count = queues.len();
    drop(queues);
    assert_eq!(mq::measure_room(None).unwrap().queues, 0);
    drop(names);
    assert_eq!(mq::measure_room(None).unwrap().queues, room.queues);
    count
}

#[test]
fn room_for_queues_is_predicted_exactly_and_met() {
    const ROLE: &str = "mq_limits::room_for_queues_is_predicted_exactly_and_met";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    // Open, and of another namespace from here on: it does not count.
    let elsewhere = QueueName::new().create(Driver::Pool, 1, 8);
    if !geteuid().is_root() || !own_namespace(ROLE) {
        println!("SKIPPED: {ROLE} needs root");
        return;
    }
    mount_queues();
    own_user();
    let limits = mq::limits();
    assert!(limits.usage.listed);
    assert_eq!((limits.usage.queues, limits.usage.own_bytes), (0, 0));
    let default = limits.bytes_soft.unwrap() / limits.default_cost;
    drop(elsewhere);
    assert_eq!(
        predicted_is_met(true) as u64,
        default,
        "9 on a machine nobody has changed"
    );

    // With queues there already: one linked and closed, one unlinked and open, one of both.
    let (closed, open, both) = (QueueName::new(), QueueName::new(), QueueName::new());
    drop(closed.create(Driver::Pool, 10, 1000));
    let open = {
        let queue = open.create(Driver::Pool, 10, 8192);
        queue.unlink().unwrap();
        queue
    };
    let _both = both.create(Driver::Pool, 3, 77);
    let usage = mq::limits().usage;
    let expected = mq::cost(10, 1000) + mq::cost(10, 8192) + mq::cost(3, 77);
    assert_eq!(
        (usage.queues, usage.own_queues, usage.own_bytes),
        (3, 3, expected)
    );
    assert!((predicted_is_met(true) as u64) < default);
    drop(open);
    assert_eq!(mq::limits().usage.queues, 2);

    // The cost is the kernel's to the byte: a queue that fits exactly, and one byte more.
    let usage = mq::limits();
    let left = usize::try_from(usage.bytes_soft.unwrap() - usage.usage.own_bytes).unwrap();
    let (names, queues, _) = fill();
    let left = left - queues.len() * usize::try_from(usage.default_cost).unwrap();
    let size = left / 10 - 96;
    assert_eq!(mq::measure_room(Some((10, size + 1))).unwrap().queues, 0);
    assert_eq!(mq::measure_room(Some((10, size))).unwrap().queues, 1);
    drop((names, queues));

    // Small ones end at the number of queues instead (ENOSPC), this process's own among them.
    let room = mq::measure_room(Some((1, 1))).unwrap();
    assert_eq!(room.ends_with, Some(RoomEnd::Queues));
    assert_eq!(room.queues, usage.queues_max - 2);
}

/// The same for a user who has other things in use, which come and go: with a limit that is this
/// process's own, and room for a handful, so that the others have theirs.
#[test]
fn room_is_predicted_beside_other_processes_of_the_user() {
    const ROLE: &str = "mq_limits::room_is_predicted_beside_other_processes_of_the_user";
    const TRIES: usize = 50;
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_MSGQUEUE).unwrap();
    for attempt in 1..=TRIES {
        let limits = mq::limits();
        let cost = limits.default_cost;
        // Half a queue to spare: what others do meanwhile is small.
        let soft = limits.usage.own_bytes + cost * 5 / 2;
        if soft > hard {
            println!("SKIPPED: {ROLE}: this user has too many queues already");
            return;
        }
        setrlimit(Resource::RLIMIT_MSGQUEUE, soft, hard).unwrap();
        let predicted = mq::limits().room_for(cost);
        let measured = mq::measure_room(None).unwrap();
        let (names, queues, error) = fill();
        let met = queues.len() as u64;
        drop((names, queues));
        // What nobody has open is seen only where there is a listing.
        let exact = match limits.usage.listed {
            true => predicted.queues == met,
            false => predicted.queues >= met,
        };
        if exact && measured.queues == met && predicted.queues == 2 {
            for room in [predicted, measured] {
                assert_eq!(room.ends_with, Some(RoomEnd::Bytes));
            }
            let OpenErrorKind::OverQuota { limit, .. } = error.kind() else {
                panic!("{error:?}");
            };
            assert_eq!(*limit, Some(soft));
            return;
        }
        assert!(attempt < TRIES, "{predicted:?}, {measured:?}, {met} met");
    }
}

/// Queues work where the queue file system is not mounted; only listing them does not.
#[test]
fn everything_but_listing_works_without_the_mount() {
    const ROLE: &str = "mq_limits::everything_but_listing_works_without_the_mount";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    if !own_namespace(ROLE) {
        return;
    }
    let error = mq::list().unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("mount -t mqueue none /dev/mqueue"),
        "{error}"
    );
    own_user();
    let usage = mq::limits().usage;
    assert!(!usage.listed);

    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(2)
        .max_message(8)
        .unlink_on_drop(true);
    let queue = options.open(&name.0).unwrap();
    queue.try_send(1, b"x").unwrap();
    let info = mq::info(&name.0).unwrap();
    assert_eq!((info.bytes, info.mode), (Some(1), 0o600));
    assert_eq!(info.owner, geteuid().as_raw());
    assert_eq!(info.attributes, Some(queue.attributes().unwrap()));
    assert_eq!(queue.try_recv().unwrap().into_body(), "x");
    assert_eq!(replaced(&queue), None);
    // What somebody has open is seen all the same.
    let usage = mq::limits().usage;
    assert_eq!((usage.own_queues, usage.own_bytes), (1, mq::cost(2, 8)));
    mq::unlink(&name.0).unwrap();
    assert_eq!(replaced(&queue), Some(false));
    let another = name.create(Driver::Pool, 1, 8);
    assert_eq!(replaced(&queue), Some(true));
    drop(queue);
    assert_eq!(replaced(&another), None, "not unlinked on drop");
    drop((another, name));
    // A queue nobody has open is not seen here, but its room is not there either.
    let room = mq::measure_room(None).unwrap().queues;
    let hidden = QueueName::new();
    drop(OpenOptions::new().create_new(true).open(&hidden.0).unwrap());
    assert_eq!(mq::limits().usage.own_queues, 0);
    assert_eq!(mq::measure_room(None).unwrap().queues, room - 1);
    predicted_is_met(false);
}

/// The listing has depth in messages from the attributes and bytes from the status file.
#[test]
fn listing_tells_what_there_is() {
    const ROLE: &str = "mq_limits::listing_tells_what_there_is";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    if !own_namespace(ROLE) {
        return;
    }
    mount_queues();
    assert_eq!(mq::list().unwrap(), []);
    let (a, b) = (QueueName::new(), QueueName::new());
    let queue = a.create(Driver::Pool, 3, 100);
    queue.try_send(0, b"12345").unwrap();
    queue.try_send(0, b"").unwrap();
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(1)
        .max_message(8)
        .mode(0o642)
        .open(&b.0)
        .unwrap();
    // Made by a program that takes any name.
    fs::File::create("/dev/mqueue/odd name").unwrap();
    let all = mq::list().unwrap();
    let names: Vec<_> = all.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, [a.0.as_str(), b.0.as_str(), "/odd name"]);
    let entry = &all[0];
    let attributes = entry.attributes.unwrap();
    assert_eq!(
        (
            attributes.capacity,
            attributes.max_message,
            attributes.messages
        ),
        (3, 100, 2)
    );
    assert_eq!(
        (entry.bytes, entry.mode, entry.owner),
        (Some(5), 0o600, geteuid().as_raw())
    );
    assert_eq!((entry.cost, entry.notified), (Some(mq::cost(3, 100)), None));
    assert_eq!(all[1].mode, 0o642);
    assert_eq!(mq::info(&a.0).unwrap(), all[0]);
    assert_eq!(mq::info(&b.0).unwrap(), all[1]);
    let missing = QueueName::new();
    assert!(refused(mq::info(&missing.0), OpenErrorKind::NotFound));

    // An entry is a queue, and can be opened as one.
    let entry = fs::File::open(format!("/dev/mqueue{}", a.0)).unwrap();
    let opened = OpenOptions::new().open_fd(&entry).unwrap();
    opened.try_send(0, b"").expect_err("open for reading only");
    assert_eq!(opened.name(), a.0);
    assert_eq!(opened.try_recv().unwrap().into_body(), "12345");
    queue.try_send(0, b"12345").unwrap();

    // Another user sees the names, but not what the mode keeps from it.
    own_user();
    let all = mq::list().unwrap();
    assert_eq!((all[0].attributes, all[0].bytes), (None, None));
    assert!(
        all[1].attributes.is_some(),
        "may be written, so it can be asked"
    );
    assert_eq!(mq::info(&a.0).unwrap(), all[0]);
    assert_eq!(mq::info(&b.0).unwrap(), all[1]);
    assert_eq!(mq::limits().usage.own_queues, 0);
}

/// In a new IPC namespace the name is not there, but an inherited queue works across.
#[test]
fn an_open_queue_crosses_namespaces_and_its_name_does_not() {
    const ROLE: &str = "mq_limits::an_open_queue_crosses_namespaces_and_its_name_does_not";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    let name = QueueName::new();
    let mut options = OpenOptions::new();
    options
        .create_new(true)
        .capacity(2)
        .max_message(8)
        .unlink_on_drop(true);
    let queue = options.open(&name.0).unwrap();
    let inside = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // A thread's own, so that this process can look from both sides.
            if !own_namespace(ROLE) {
                return false;
            }
            assert!(refused(
                OpenOptions::new().open(&name.0),
                OpenErrorKind::NotFound
            ));
            assert_eq!(replaced(&queue), Some(false));
            queue.try_send(0, b"across").unwrap();
            // One of that name here is another one, and stays.
            let _here = name.create(Driver::Pool, 1, 8);
            assert_eq!(replaced(&queue), Some(true));
            queue.unlink().expect_err("the name is another one's");
            mq::unlink(&name.0).unwrap();
            true
        });
        inside.join().unwrap()
    });
    if inside {
        assert_eq!(queue.try_recv().unwrap().into_body(), "across");
    }
    drop(queue);
    assert!(refused(
        OpenOptions::new().open(&name.0),
        OpenErrorKind::NotFound
    ));
}

/// What is left of a process without descriptors: the measure names that limit, and the list is an error.
#[test]
fn want_of_descriptors_is_told_by_the_measure_and_by_the_list() {
    const ROLE: &str = "mq_limits::want_of_descriptors_is_told_by_the_measure_and_by_the_list";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let limit = |limit| setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
    limit(10);
    let room = mq::measure_room(Some((1, 1))).unwrap();
    assert_eq!(room.ends_with, Some(RoomEnd::Descriptors));
    assert!(room.queues < 10, "{room:?}");
    limit(soft);
    if !geteuid().is_root() || !own_namespace(ROLE) {
        println!("SKIPPED in part: {ROLE} needs root");
        return;
    }
    mount_queues();
    assert!(mq::list().unwrap().is_empty());
    limit(0);
    let error = mq::list().unwrap_err();
    limit(soft);
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    let text = error.to_string();
    assert!(
        text.starts_with("cannot list queues in /dev/mqueue: "),
        "{text}"
    );
}
