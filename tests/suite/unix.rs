//! Unix stream sockets: facts 65, 66 and 69-72, whose path it is, and who may connect.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct::mark::MARK;
use aqueduct::unix::{self, Address, BindOptions, ConnectOptions, Error, seqpacket};
use futures_util::StreamExt;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_test::{assert_pending, assert_ready};

use crate::actor::{self, Actor, runtime, say, told};
use crate::support::{DEADLINE, deadline, is_peer};

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    (dir, path)
}

/// Waits until nobody has a socket of that address open. Closing one's own may not do: a process
/// that another test is just starting has a duplicate until it runs its program.
fn until_dead(address: impl AsRef<Path>) {
    let address = SockAddr::unix(address).expect("it fits");
    let end = std::time::Instant::now() + DEADLINE;
    loop {
        let probe = Socket::new(Domain::UNIX, Type::DGRAM, None).expect("a socket");
        match probe.connect(&address).map_err(|e| e.raw_os_error()) {
            Err(Some(libc::ECONNREFUSED)) => break,
            other => assert!(std::time::Instant::now() < end, "{other:?}"),
        }
        std::thread::yield_now();
    }
}

/// Leaves the socket of a server that is gone.
fn leave_stale(path: &Path) {
    drop(StdListener::bind(path).expect("the path is free"));
    until_dead(path);
}

fn lock_of(path: &Path) -> PathBuf {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    lock.into()
}

fn names(dir: &TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(dir.path()).expect("it can be read");
    let name = |entry: io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries
        .map(|it| name(it).to_string_lossy().into_owned())
        .collect()
}

#[tokio::test]
async fn bytes_go_both_ways_and_nothing_stays_behind() {
    let (dir, path) = place();
    let mut listener = unix::bind(&path).expect("bound");
    assert!(listener.owns_path());
    let mut client = unix::connect(&path).await.expect("connected");
    let mut server = deadline(listener.next())
        .await
        .expect("one more")
        .expect("accepted");
    client.write_all(b"ping").await.expect("written");
    server.write_all(b"pong").await.expect("written");
    let mut bytes = [0; 4];
    deadline(server.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(&bytes, b"ping");
    deadline(client.read_exact(&mut bytes)).await.expect("read");
    assert_eq!(&bytes, b"pong");
    drop(listener);
    assert_eq!(names(&dir), [""; 0]);
}

// Fact 71, and what happens under other umasks.
#[tokio::test]
async fn the_mode_is_exact_whatever_the_umask_which_stays_as_it_was() {
    Actor::spawn("unix::role_umask").succeed().await;
}

#[test]
fn role_umask() {
    if !is_peer("unix::role_umask") {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    let (dir, path) = place();
    for mask in [0, 0o022, 0o077, 0o777] {
        let mask = Mode::from_bits_truncate(mask);
        for mode in [
            None,
            Some(0o600),
            Some(0o660),
            Some(0o666),
            Some(0o777),
            Some(0),
        ] {
            umask(mask);
            let mut options = BindOptions::new();
            if let Some(mode) = mode {
                options.mode(mode);
            }
            let stream = options.bind(&path).expect("bound");
            let found = std::fs::metadata(&path).expect("it is there").mode() & 0o7777;
            assert_eq!(found, MARK | mode.unwrap_or(0o600), "umask {mask:?}");
            let lock = std::fs::metadata(lock_of(&path)).expect("it is there");
            assert_eq!(lock.mode() & 0o7777, 0o600, "umask {mask:?}");
            drop(stream);
            let packets = options.bind_seqpacket(&path).expect("bound");
            let found = std::fs::metadata(&path).expect("it is there").mode() & 0o7777;
            assert_eq!(found, MARK | mode.unwrap_or(0o600), "umask {mask:?}");
            drop(packets);
            assert_eq!(umask(Mode::empty()), mask);
        }
    }
    drop(dir);
}

// Fact 71: there is no moment at which others could connect.
#[tokio::test]
async fn the_socket_never_appears_with_a_wider_mode() {
    Actor::spawn("unix::role_watched").succeed().await;
}

#[test]
fn role_watched() {
    if !is_peer("unix::role_watched") {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    umask(Mode::empty());
    let (_dir, path) = place();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut seen = 0_u32;
            while !done.load(Ordering::Relaxed) {
                if let Ok(found) = std::fs::metadata(&path) {
                    assert_eq!(found.mode() & 0o7777, MARK | 0o600);
                    seen += 1;
                }
            }
            seen
        });
        for _ in 0..500 {
            drop(unix::bind(&path).expect("bound"));
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("it saw no other mode")
    });
    eprintln!("seen {seen} times");
}

// Fact 71: what the mode is for.
#[tokio::test]
async fn another_user_is_kept_out_by_the_mode() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (dir, path) = place();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("it is ours");
    for (mode, answer) in [(0o600, "denied"), (0o666, "connected")] {
        let listener = BindOptions::new().mode(mode).bind(&path).expect("bound");
        let mut actor = Actor::spawn("unix::role_foreigner");
        actor.tell(path.to_str().expect("it is text"));
        assert_eq!(actor.hear().await, answer);
        actor.succeed().await;
        drop(listener);
    }
}

#[test]
fn role_foreigner() {
    if !is_peer("unix::role_foreigner") {
        return;
    }
    actor::become_nobody();
    let path = told().expect("a path");
    match runtime().block_on(unix::connect(path.as_str())) {
        Ok(_) => say("connected"),
        Err(error @ Error::PermissionDenied { .. }) => {
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
            assert!(error.to_string().contains(&path), "{error}");
            say("denied");
        }
        Err(other) => panic!("{other:?}"),
    }
}

// Fact 70.
#[tokio::test]
async fn a_path_of_107_bytes_is_the_longest() {
    let dir = tempfile::tempdir().expect("a directory");
    let name = |total: usize| {
        let name = "s".repeat(total - dir.path().as_os_str().len() - 1);
        dir.path().join(name)
    };
    let listener = unix::bind(name(107)).expect("it fits");
    unix::connect(name(107)).await.expect("it fits");
    drop(listener);
    for error in [
        unix::bind(name(108)).expect_err("too long"),
        unix::connect(name(108)).await.expect_err("too long"),
    ] {
        assert!(matches!(error, Error::TooLong { len: 108, .. }), "{error}");
        assert!(error.to_string().contains("XDG_RUNTIME_DIR"), "{error}");
    }
    assert_eq!(names(&dir), [""; 0]);
}

// Fact 69.
#[tokio::test]
async fn what_is_no_socket_is_refused_by_name_and_left_alone() {
    type Make = fn(&Path);
    let kinds: [(&str, Make); 5] = [
        ("regular file", |path| {
            std::fs::write(path, "precious").expect("written");
        }),
        ("directory", |path| std::fs::create_dir(path).expect("made")),
        ("symbolic link", |path| {
            let target = path.with_extension("target");
            leave_stale(&target);
            symlink(target, path).expect("made");
        }),
        ("symbolic link", |path| {
            symlink("/nonexistent", path).expect("made");
        }),
        ("FIFO", |path| {
            nix::unistd::mkfifo(path, Mode::S_IRWXU).expect("made");
        }),
    ];
    for (kind, make) in kinds {
        let (_dir, path) = place();
        make(&path);
        let before = std::fs::symlink_metadata(&path).expect("it is there").ino();
        let error = unix::bind(&path).expect_err(kind);
        assert!(
            matches!(error, Error::NotASocket { kind: it, .. } if it == kind),
            "{error}"
        );
        let error = seqpacket::bind(&path).expect_err(kind);
        assert!(error.to_string().contains(kind), "{error}");
        let after = std::fs::symlink_metadata(&path).expect("it is there").ino();
        assert_eq!(before, after);
        assert!(!lock_of(&path).exists());
        if kind != "symbolic link" {
            let error = unix::connect(&path).await.expect_err(kind);
            assert!(
                matches!(error, Error::NotASocket { kind: it, .. } if it == kind),
                "{error}"
            );
        }
    }
}

// Fact 69.
#[tokio::test]
async fn a_dead_servers_socket_is_replaced_unless_that_is_forbidden() {
    let (dir, path) = place();
    leave_stale(&path);
    let error = BindOptions::new().replace_stale(false).bind(&path);
    assert!(matches!(error, Err(Error::Stale { .. })), "{error:?}");
    let error = unix::connect(&path).await.expect_err("nobody listens");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let listener = unix::bind(&path).expect("bound");
    unix::connect(&path).await.expect("connected");
    drop(listener);

    // Of whatever type it was.
    drop(UnixDatagram::bind(&path).expect("bound"));
    until_dead(&path);
    drop(seqpacket::bind(&path).expect("bound"));
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn a_dead_servers_socket_is_removed_on_demand_and_a_living_ones_is_not() {
    let (dir, path) = place();
    assert!(matches!(unix::is_served(&path), Err(Error::Io { .. })));
    assert!(!unix::remove_stale(&path).expect("nothing is there"));
    leave_stale(&path);
    // What a server that was killed leaves, too.
    std::fs::write(lock_of(&path), "").expect("written");
    assert!(!unix::is_served(&path).expect("asked"));
    assert!(unix::remove_stale(&path).expect("removed"));
    assert_eq!(names(&dir), [""; 0]);

    let listener = unix::bind(&path).expect("bound");
    assert!(unix::is_served(&path).expect("asked"));
    let error = unix::remove_stale(&path).expect_err("it lives");
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop(listener);
    // Without a lock file, and not listening.
    let bound = UnixDatagram::bind(&path).expect("bound");
    assert!(unix::is_served(&path).expect("asked"));
    let error = unix::remove_stale(&path).expect_err("it lives");
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    drop(bound);
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "precious").expect("written");
    for error in [
        unix::is_served(&path).expect_err("it is no socket"),
        unix::remove_stale(&path).expect_err("it is no socket"),
    ] {
        assert!(matches!(error, Error::NotASocket { .. }), "{error}");
    }
    assert_eq!(names(&dir), ["socket"]);
}

#[tokio::test]
async fn a_living_servers_socket_is_never_replaced_whatever_it_does_at_the_moment() {
    let (_dir, path) = place();
    let address = SockAddr::unix(&path).expect("it fits");
    let refused = |what: &str| {
        let before = std::fs::metadata(&path).expect("it is there").ino();
        for error in [
            unix::bind(&path).map(|_| ()).expect_err(what),
            seqpacket::bind(&path).map(|_| ()).expect_err(what),
        ] {
            assert!(matches!(error, Error::InUse { .. }), "{what}: {error}");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        assert_eq!(
            before,
            std::fs::metadata(&path).expect("it is there").ino(),
            "{what}"
        );
    };
    for kind in [Type::STREAM, Type::SEQPACKET] {
        let foreign = Socket::new(Domain::UNIX, kind, None).expect("a socket");
        foreign.bind(&address).expect("the path is free");
        refused("bound, and does not listen yet");
        foreign.listen(0).expect("it can listen");
        refused("listens");
        let one = Socket::new(Domain::UNIX, kind, None).expect("a socket");
        one.connect(&address).expect("there is room for one");
        refused("does not accept");
        // Asking has left nothing in its backlog.
        foreign.set_nonblocking(true).expect("an option");
        foreign.accept().expect("the one");
        assert!(foreign.accept().is_err(), "a probe was left in the backlog");
        std::fs::remove_file(&path).expect("it is ours");
    }
    let datagrams = UnixDatagram::bind(&path).expect("the path is free");
    refused("takes datagrams");
    drop(datagrams);
    std::fs::remove_file(&path).expect("it is ours");

    let listener = unix::bind(&path).expect("bound");
    refused("is one of ours");
    unix::connect(&path).await.expect("it still serves");
    drop(listener);
}

#[tokio::test]
async fn dropping_removes_the_socket_only_if_it_is_still_ours() {
    let (dir, path) = place();
    let listener = unix::bind(&path).expect("bound");
    std::fs::remove_file(&path).expect("it is ours");
    std::fs::write(&path, "another's").expect("written");
    drop(listener);
    assert_eq!(names(&dir), ["socket"]);
    std::fs::remove_file(&path).expect("it is ours");

    // A foreign server that took the path by force.
    let listener = unix::bind(&path).expect("bound");
    std::fs::remove_file(&path).expect("it is ours");
    let foreign = StdListener::bind(&path).expect("the path is free");
    drop(listener);
    StdStream::connect(&path).expect("it is served");
    drop(foreign);
    std::fs::remove_file(&path).expect("it is ours");

    // Removed and forgotten.
    let listener = unix::bind(&path).expect("bound");
    std::fs::remove_file(&path).expect("it is ours");
    drop(listener);
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn a_killed_servers_files_are_taken_over_and_removed_by_the_next() {
    let (dir, path) = place();
    let mut actor = Actor::spawn("unix::role_contender");
    actor.tell(&format!("bind 0 {}", path.display()));
    assert!(actor.hear().await.starts_with("won"));
    actor.peer.kill();
    assert!(path.exists() && lock_of(&path).exists());
    let listener = unix::bind(&path).expect("the dead do not hold it");
    unix::connect(&path).await.expect("connected");
    drop(listener);
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn an_unusable_lock_file_is_an_error_of_its_own() {
    let (_dir, path) = place();
    symlink("/nonexistent", lock_of(&path)).expect("made");
    let error = unix::bind(&path).expect_err("a symbolic link");
    assert!(matches!(error, Error::Lock { .. }), "{error}");
    assert!(error.to_string().contains(".lock"), "{error}");
    assert!(!Path::new("/nonexistent").exists());
    std::fs::remove_file(lock_of(&path)).expect("it is ours");
    std::fs::create_dir(lock_of(&path)).expect("made");
    assert!(matches!(unix::bind(&path), Err(Error::Lock { .. })));
    assert!(!path.exists());
}

/// `CLOCK_MONOTONIC`, which all processes share.
fn now() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    Duration::from(now.expect("every system has it")).as_nanos()
}

/// Binds when told, at the given moment, answers each connection with its process number, and lets
/// go when told.
#[test]
fn role_contender() {
    if !is_peer("unix::role_contender") {
        return;
    }
    let runtime = runtime();
    let mut server = None;
    while let Some(line) = told() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("bind"), Some(at), Some(path)) => {
                let at: u128 = at.parse().expect("a time");
                while now() < at {
                    std::hint::spin_loop();
                }
                let guard = runtime.enter();
                match unix::bind(path) {
                    Ok(mut listener) => {
                        server = Some(runtime.spawn(async move {
                            while let Some(Ok(mut stream)) = listener.next().await {
                                let _ = stream.write_u32(std::process::id()).await;
                            }
                        }));
                        say(format_args!("won {}", std::process::id()));
                    }
                    Err(Error::InUse { .. }) => say("in use"),
                    Err(other) => say(format_args!("failed: {other:?}")),
                }
                drop(guard);
            }
            // Here, since this process starts no others: one that is just being started would hold
            // a duplicate, and the socket would not be dead yet.
            (Some("stale"), _, Some(path)) => {
                leave_stale(Path::new(path));
                say("left");
            }
            (Some("stop"), ..) => {
                if let Some(server) = server.take() {
                    server.abort();
                    let _ = runtime.block_on(server);
                }
                say("stopped");
            }
            _ => panic!("{line:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_started_at_once_on_a_stale_path_exactly_one_wins_each_of_100_times() {
    let (dir, path) = place();
    let mut actors = [
        Actor::spawn("unix::role_contender"),
        Actor::spawn("unix::role_contender"),
    ];
    for round in 0..100 {
        actors[0].tell(&format!("stale - {}", path.display()));
        assert_eq!(actors[0].hear().await, "left");
        if round % 2 == 0 {
            // As a killed server leaves it.
            std::fs::write(lock_of(&path), "").expect("written");
        }
        let at = now() + 3_000_000;
        for actor in &mut actors {
            actor.tell(&format!("bind {at} {}", path.display()));
        }
        // A client that does not wait for the outcome.
        let mut options = ConnectOptions::new();
        options.retry(true);
        let early = {
            let path = path.clone();
            tokio::spawn(async move {
                let mut stream = options.connect(path).await.expect("somebody wins");
                stream.read_u32().await.expect("it is served")
            })
        };
        let answers = [actors[0].hear().await, actors[1].hear().await];
        let winners: Vec<_> = answers
            .iter()
            .filter_map(|it| it.strip_prefix("won "))
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        assert!(
            answers.iter().any(|it| it == "in use"),
            "round {round}: {answers:?}"
        );
        let winner: u32 = winners[0].parse().expect("a process number");
        assert_eq!(
            deadline(early).await.expect("no panic"),
            winner,
            "round {round}"
        );
        for _ in 0..3 {
            let mut stream = unix::connect(&path).await.expect("connected");
            let served_by = deadline(stream.read_u32()).await.expect("served");
            assert_eq!(served_by, winner, "round {round}");
        }
        for actor in &mut actors {
            actor.tell("stop");
            assert_eq!(actor.hear().await, "stopped");
        }
        assert_eq!(names(&dir), [""; 0], "round {round}");
    }
    for actor in &mut actors {
        actor.succeed().await;
    }
}

/// Binds and lets go as often as it can, and checks each time that it is alone.
#[test]
fn role_restless() {
    if !is_peer("unix::role_restless") {
        return;
    }
    let runtime = runtime();
    let path = PathBuf::from(told().expect("a path"));
    let flag = path.with_extension("held");
    let mut won = 0;
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while won < 100 {
        assert!(
            std::time::Instant::now() < end,
            "only {won} times in a minute"
        );
        let guard = runtime.enter();
        let listener = match unix::bind(&path) {
            Ok(listener) => listener,
            Err(Error::InUse { .. }) => continue,
            Err(other) => panic!("{other:?}"),
        };
        drop(guard);
        std::fs::File::create_new(&flag).expect("nobody else holds the path");
        let client = StdStream::connect(&path).expect("it is ours");
        let peer = unix::peer_credentials(&client).expect("connected");
        assert_eq!(peer.pid, Some(std::process::id() as i32));
        drop(client);
        std::fs::remove_file(&flag).expect("it is ours");
        if won % 3 == 2 {
            // As if killed: the socket stays. The lock goes with the process, or here by hand.
            let keep = path.with_extension("kept");
            std::fs::rename(&path, &keep).expect("it is ours");
            drop(listener);
        } else {
            drop(listener);
        }
        won += 1;
    }
}

#[tokio::test]
async fn several_servers_that_come_and_go_never_hold_the_path_together() {
    let (dir, path) = place();
    let mut actors: Vec<_> = (0..4)
        .map(|_| Actor::spawn("unix::role_restless"))
        .collect();
    for actor in &mut actors {
        actor.tell(path.to_str().expect("it is text"));
    }
    for actor in &mut actors {
        let status = tokio::time::timeout(Duration::from_secs(90), actor.peer.exit()).await;
        let status = status.expect("in time").expect("it can be waited for");
        assert!(status.success(), "{status}");
    }
    assert_eq!(names(&dir), ["socket.kept"]);
}

#[tokio::test]
async fn a_directory_in_which_others_can_replace_the_socket_is_refused_when_strict() {
    let (dir, path) = place();
    let allow = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path(), mode).expect("it is ours");
    };
    let mut strict = BindOptions::new();
    strict.strict(true);
    for mode in [0o777, 0o772, 0o770] {
        allow(mode);
        let error = strict.bind(&path).expect_err("others can write");
        assert!(
            matches!(error, Error::UnsafeDirectory { mode: it, .. } if it == mode),
            "{error}"
        );
        assert!(error.to_string().contains("0700"), "{error}");
        drop(unix::bind(&path).expect("it is a warning unless strict"));
    }
    for mode in [0o700, 0o755, 0o1777] {
        allow(mode);
        drop(strict.bind(&path).expect("nobody else can replace it"));
    }
    assert_eq!(names(&dir), [""; 0]);
    if !Uid::effective().is_root() {
        eprintln!("skipped in part: only root can give a directory to another user");
        return;
    }
    allow(0o700);
    chown(dir.path(), Some(Uid::from_raw(65534)), None).expect("root may");
    let error = strict.bind(&path).expect_err("another user's");
    assert!(
        matches!(error, Error::UnsafeDirectory { owner: 65534, .. }),
        "{error}"
    );
    drop(unix::bind(&path).expect("it is a warning unless strict"));
}

#[tokio::test]
async fn a_missing_or_forbidden_directory_is_named() {
    let (dir, _) = place();
    let path = dir.path().join("missing/socket");
    let error = unix::bind(&path).expect_err("no directory");
    assert!(matches!(error, Error::Absent { .. }), "{error}");
    assert!(error.to_string().contains("missing/socket"), "{error}");
    std::fs::write(dir.path().join("missing"), "").expect("written");
    let error = unix::bind(&path).expect_err("no directory");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error}");

    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).expect("ours");
    let mut actor = Actor::spawn("unix::role_no_entry");
    actor.tell(dir.path().join("socket").to_str().expect("it is text"));
    actor.succeed().await;
}

#[test]
fn role_no_entry() {
    if !is_peer("unix::role_no_entry") {
        return;
    }
    let runtime = runtime();
    actor::become_nobody();
    let _guard = runtime.enter();
    let error = unix::bind(told().expect("a path")).expect_err("not writable");
    assert!(matches!(error, Error::Lock { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
}

// Fact 65.
#[tokio::test]
async fn a_full_backlog_is_waited_for() {
    let (_dir, path) = place();
    let listener = BindOptions::new().backlog(0).bind(&path).expect("bound");
    let first = StdStream::connect(&path).expect("there is room for one");
    let raw = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).expect("a socket");
    let address = SockAddr::unix(&path).expect("it fits");
    let errno = raw
        .connect(&address)
        .expect_err("it is full")
        .raw_os_error();
    assert_eq!(errno, Some(libc::EAGAIN));

    let mut options = ConnectOptions::new();
    let short = options
        .timeout(Duration::from_millis(50))
        .connect(&path)
        .await;
    let error = short.expect_err("it stays full");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    assert!(error.to_string().contains("backlog"), "{error}");

    let mut connecting = tokio_test::task::spawn(unix::connect(&path));
    assert_pending!(connecting.poll());
    deadline(listener.accept()).await.expect("the first");
    deadline(connecting).await.expect("the second");
    drop(first);
}

#[tokio::test]
async fn connect_waits_for_a_path_that_appears_if_asked_to() {
    let (_dir, path) = place();
    let error = unix::connect(&path).await.expect_err("nothing there");
    assert!(matches!(error, Error::Absent { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));

    let mut options = ConnectOptions::new();
    options.retry(true).timeout(None);
    let mut connecting = tokio_test::task::spawn(options.connect(&path));
    assert_pending!(connecting.poll());
    leave_stale(&path);
    assert_pending!(connecting.poll());
    let listener = unix::bind(&path).expect("bound");
    deadline(connecting).await.expect("connected in the end");
    drop(listener);

    options.timeout(Duration::from_millis(40));
    let error = options.connect(&path).await.expect_err("nothing there");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}

#[tokio::test]
async fn the_wrong_type_of_socket_is_named() {
    let (_dir, path) = place();
    let stream = unix::bind(&path).expect("bound");
    let error = seqpacket::connect(&path).await.expect_err("a stream");
    assert!(
        matches!(
            error,
            Error::WrongType {
                wanted: "seqpacket",
                ..
            }
        ),
        "{error}"
    );
    drop(stream);
    let _packets = seqpacket::bind(&path).expect("bound");
    let error = unix::connect(&path).await.expect_err("no stream");
    assert!(
        matches!(
            error,
            Error::WrongType {
                wanted: "stream",
                ..
            }
        ),
        "{error}"
    );
}

// Fact 72.
#[tokio::test]
async fn an_abstract_name_needs_no_file_and_has_no_mode() {
    let name = format!(
        "@aqueduct-test-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    );
    let name = Address::from(name);
    let listener = unix::bind(&name).expect("bound");
    assert!(!listener.owns_path());
    unix::connect(&name).await.expect("connected");
    let error = unix::bind(&name).expect_err("taken");
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(error.to_string().contains("@aqueduct-test"), "{error}");
    drop(listener);
    let error = unix::connect(&name)
        .await
        .expect_err("gone with its socket");
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    drop(seqpacket::bind(&name).expect("bound"));

    let error = BindOptions::new()
        .mode(0o600)
        .bind(&name)
        .expect_err("no file");
    assert!(matches!(error, Error::BadMode { .. }), "{error}");
    let (_dir, path) = place();
    let error = BindOptions::new()
        .mode(0o1600)
        .bind(&path)
        .expect_err("no such mode");
    assert!(
        matches!(error, Error::BadMode { mode: 0o1600, .. }),
        "{error}"
    );
    for empty in ["", "@"] {
        let error = unix::bind(empty).expect_err("no name");
        assert!(matches!(error, Error::BadAddress { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_peers_user_group_process_and_pidfd_are_known() {
    let (_dir, path) = place();
    let listener = unix::bind(&path).expect("bound");
    let mut actor = Actor::spawn("unix::role_client");
    actor.tell(path.to_str().expect("it is text"));
    let (server, _) = deadline(listener.accept()).await.expect("accepted");
    let peer = unix::peer_credentials(&server).expect("connected");
    let pid = actor.peer.0.id() as i32;
    assert_eq!(peer.pid, Some(pid));
    assert_eq!(peer.uid, Uid::effective().as_raw());
    assert_eq!(peer.gid, nix::unistd::getegid().as_raw());

    match unix::peer_pidfd(&server).expect("connected") {
        None => eprintln!("skipped in part: this kernel has no SO_PEERPIDFD"),
        Some(pidfd) => {
            let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
            let info = std::fs::read_to_string(info).expect("it is open");
            assert!(info.contains(&format!("Pid:\t{pid}\n")), "{info}");
            let flags = nix::fcntl::fcntl(&pidfd, nix::fcntl::FcntlArg::F_GETFD);
            assert_eq!(flags, Ok(libc::FD_CLOEXEC));
            let ended = || {
                use nix::poll::{PollFd, PollFlags, poll};
                let mut fds = [PollFd::new(
                    std::os::fd::AsFd::as_fd(&pidfd),
                    PollFlags::POLLIN,
                )];
                poll(&mut fds, 0_u8).expect("it can be polled") == 1
            };
            assert!(!ended());
            actor.peer.kill();
            assert!(ended());
        }
    }
    drop(actor);
    let unconnected = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    assert!(unix::peer_credentials(&unconnected).is_err());
    let file = std::fs::File::open("/dev/null").expect("every system has it");
    let error = unix::peer_credentials(&file).expect_err("no socket");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
}

#[test]
fn role_client() {
    if !is_peer("unix::role_client") {
        return;
    }
    let path = told().expect("a path");
    let _stream = StdStream::connect(path).expect("connected");
    told();
}

// Fact 62.
#[tokio::test]
async fn closing_with_unread_input_resets_the_client_and_draining_first_does_not() {
    for drain in [false, true] {
        let (mut client, mut server) = tokio::net::UnixStream::pair().expect("a pair");
        client.write_all(b"unread").await.expect("written");
        server.write_all(b"reply").await.expect("written");
        let mut reply = Vec::new();
        if drain {
            let closing = tokio::spawn(unix::close(server, Duration::from_secs(20)));
            deadline(client.read_to_end(&mut reply))
                .await
                .expect("no reset");
            drop(client);
            let discarded = deadline(closing).await.expect("no panic");
            assert_eq!(discarded.expect("closed"), 6);
        } else {
            drop(server);
            let error = deadline(client.read_to_end(&mut reply))
                .await
                .expect_err("a reset");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        }
        assert_eq!(reply, b"reply");
    }
}

// Fact 66.
#[tokio::test]
async fn without_free_descriptors_the_listeners_take_no_core_and_accept_when_there_are_some() {
    for kind in ["stream", "seqpacket"] {
        let (_dir, path) = place();
        let mut actor = Actor::spawn("unix::role_full");
        actor.tell(&format!("{kind} {}", path.display()));
        assert_eq!(actor.hear().await, "full");
        let kind = if kind == "stream" {
            Type::STREAM
        } else {
            Type::SEQPACKET
        };
        let client = Socket::new(Domain::UNIX, kind, None).expect("a socket");
        let address = SockAddr::unix(&path).expect("it fits");
        client.connect(&address).expect("the backlog takes it");
        actor.tell("measure");
        let used: u64 = actor.hear().await.parse().expect("microseconds");
        assert!(used < 50_000, "{used} us of CPU in half a second");
        actor.tell("free");
        assert_eq!(actor.hear().await, "accepted");
        actor.succeed().await;
    }
}

#[test]
fn role_full() {
    if !is_peer("unix::role_full") {
        return;
    }
    let runtime = runtime();
    let guard = runtime.enter();
    let line = told().expect("what to do");
    let (kind, path) = line.split_once(' ').expect("two words");
    let mut bound = (None, None);
    if kind == "stream" {
        bound.0 = Some(unix::bind(path).expect("bound"));
    } else {
        bound.1 = Some(seqpacket::bind(path).expect("bound"));
    }
    drop(guard);
    let held = actor::take_all_descriptors();
    say("full");
    let (started, waiting) = std::sync::mpsc::channel();
    let accepted = runtime.spawn(async move {
        started.send(()).expect("the role waits");
        match &mut bound {
            (Some(stream), _) => drop(stream.next().await.expect("one more").expect("accepted")),
            (_, Some(packets)) => drop(packets.next().await.expect("one more").expect("accepted")),
            _ => unreachable!("one of them is bound"),
        }
        bound
    });
    waiting.recv().expect("it starts");
    actor::measure_then_free(held);
    let bound = runtime.block_on(accepted).expect("no panic");
    say("accepted");
    told();
    drop(bound);
}

#[test]
fn without_a_runtime_opening_is_an_error_and_no_panic() {
    let (dir, path) = place();
    assert!(matches!(unix::bind(&path), Err(Error::Io { .. })));
    assert!(matches!(seqpacket::bind(&path), Err(Error::Io { .. })));
    let result = assert_ready!(tokio_test::task::spawn(unix::connect(&path)).poll());
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    assert!(seqpacket::pair().is_err());
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn a_dropped_accept_loses_no_connection() {
    let (_dir, path) = place();
    let mut listener = unix::bind(&path).expect("bound");
    for round in 0..20_u8 {
        let mut accepting = tokio_test::task::spawn(listener.accept());
        assert_pending!(accepting.poll());
        let mut client = StdStream::connect(&path).expect("connected");
        io::Write::write_all(&mut client, &[round]).expect("written");
        drop(accepting);
        let (mut server, _) = deadline(listener.accept()).await.expect("accepted");
        assert_eq!(deadline(server.read_u8()).await.expect("read"), round);

        let mut next = tokio_test::task::spawn(listener.next());
        assert_pending!(next.poll());
        let mut client = StdStream::connect(&path).expect("connected");
        io::Write::write_all(&mut client, &[round]).expect("written");
        drop(next);
        let mut server = deadline(listener.next())
            .await
            .expect("one more")
            .expect("accepted");
        assert_eq!(deadline(server.read_u8()).await.expect("read"), round);
    }
}

#[tokio::test]
async fn a_dropped_connect_leaves_nothing_and_the_next_one_works() {
    let (_dir, path) = place();
    for polls in 1..4 {
        let mut options = ConnectOptions::new();
        let mut connecting = tokio_test::task::spawn(options.retry(true).connect(&path));
        for _ in 0..polls {
            assert_pending!(connecting.poll());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut listener = unix::bind(&path).expect("bound");
    let _client = unix::connect(&path).await.expect("connected");
    deadline(listener.next())
        .await
        .expect("one more")
        .expect("accepted");
    assert_pending!(tokio_test::task::spawn(listener.next()).poll());
}

#[tokio::test]
async fn a_listening_descriptor_from_elsewhere_is_taken_over_and_another_kind_refused() {
    let (_dir, path) = place();
    let foreign = StdListener::bind(&path).expect("bound");
    let listener = unix::Listener::try_from(OwnedFd::from(foreign)).expect("it listens");
    assert!(!listener.owns_path());
    unix::connect(&path).await.expect("connected");
    deadline(listener.accept()).await.expect("accepted");
    drop(listener);
    assert!(path.exists(), "the file is not ours");

    let (a, b) = StdStream::pair().expect("a pair");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    for wrong in [a.into(), OwnedFd::from(tcp)] {
        let error = unix::Listener::try_from(wrong).expect_err("no Unix listener");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let error = seqpacket::Socket::try_from(OwnedFd::from(b)).expect_err("a stream");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
