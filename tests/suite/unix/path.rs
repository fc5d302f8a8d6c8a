//! Whose path it is: what is replaced, what is left alone, and what is removed.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;

use aqueduct::OpenErrorKind as Kind;
use aqueduct::fifo;
use aqueduct::unix::{self};
use nix::sys::stat::Mode;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{leave_stale, lock_of, names, place, until_dead};
use crate::actor::{self, Actor, runtime, say, told};
use crate::support::{Log, is_peer};

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
            matches!(error.kind(), Kind::WrongType { found } if *found == kind),
            "{error}"
        );
        let error = unix::BindOptions::new()
            .bind_seqpacket(&path)
            .expect_err(kind);
        assert!(error.to_string().contains(kind), "{error}");
        let after = std::fs::symlink_metadata(&path).expect("it is there").ino();
        assert_eq!(before, after);
        assert!(!lock_of(&path).exists());
        if kind != "symbolic link" {
            let error = unix::connect(&path).await.expect_err(kind);
            assert!(
                matches!(error.kind(), Kind::WrongType { found } if *found == kind),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_dead_servers_socket_is_replaced() {
    let (dir, path) = place();
    leave_stale(&path);
    let error = unix::connect(&path).await.expect_err("nobody listens");
    assert_eq!(error.kind(), &Kind::Refused, "{error}");
    let listener = unix::bind(&path).expect("bound");
    unix::connect(&path).await.expect("connected");
    drop(listener);

    // Of whatever type it was.
    drop(UnixDatagram::bind(&path).expect("bound"));
    until_dead(&path);
    drop(
        unix::BindOptions::new()
            .bind_seqpacket(&path)
            .expect("bound"),
    );
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn only_a_dead_servers_socket_is_removed_on_demand() {
    let (dir, path) = place();
    let error = unix::is_served(&path).expect_err("nothing is there");
    assert_eq!(error.kind(), &Kind::NotFound, "{error}");
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
    assert_eq!(error.kind(), &Kind::InUse, "{error}");
    drop(listener);
    // Without a lock file, and not listening.
    let bound = UnixDatagram::bind(&path).expect("bound");
    assert!(unix::is_served(&path).expect("asked"));
    let error = unix::remove_stale(&path).expect_err("it lives");
    assert_eq!(error.kind(), &Kind::InUse, "{error}");
    drop(bound);
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "precious").expect("written");
    for error in [
        unix::is_served(&path).expect_err("it is no socket"),
        unix::remove_stale(&path).expect_err("it is no socket"),
    ] {
        assert!(matches!(error.kind(), Kind::WrongType { .. }), "{error}");
    }
    assert_eq!(names(&dir), ["socket"]);
}

#[tokio::test]
async fn a_living_servers_socket_is_never_replaced() {
    let (_dir, path) = place();
    let address = SockAddr::unix(&path).expect("it fits");
    let refused = |what: &str| {
        let before = std::fs::metadata(&path).expect("it is there").ino();
        for error in [
            unix::bind(&path).map(|_| ()).expect_err(what),
            unix::BindOptions::new()
                .bind_seqpacket(&path)
                .map(|_| ())
                .expect_err(what),
        ] {
            assert_eq!(error.kind(), &Kind::InUse, "{what}: {error}");
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
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
async fn an_unusable_lock_file_is_an_error_of_its_own() {
    let (_dir, path) = place();
    symlink("/nonexistent", lock_of(&path)).expect("made");
    let error = unix::bind(&path).expect_err("a symbolic link");
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
    assert!(error.object().ends_with(".lock"), "{error}");
    assert!(!Path::new("/nonexistent").exists());
    std::fs::remove_file(lock_of(&path)).expect("it is ours");
    std::fs::create_dir(lock_of(&path)).expect("made");
    let error = unix::bind(&path).expect_err("a directory");
    assert_eq!(error.raw_os_error(), Some(libc::EISDIR), "{error}");
    std::fs::remove_dir(lock_of(&path)).expect("it is ours");
    // It is there and can be opened, and a lock on it says nothing.
    nix::unistd::mkfifo(&lock_of(&path), Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
    let error = unix::bind(&path).expect_err("a FIFO");
    assert!(error.to_string().contains("regular file"), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_directory_where_others_can_replace_it_is_warned_of() {
    let (dir, path) = place();
    // The private group of this user may have nobody else in it.
    for (mode, warned) in [
        (0o777, true),
        (0o772, true),
        (0o770, false),
        (0o700, false),
        (0o755, false),
        (0o1777, false),
    ] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(dir.path(), permissions).expect("it is ours");
        let (bound, log) = Log::record(|| unix::bind(&path));
        drop(bound.expect("it is a warning"));
        let warning = log.iter().find(|it| it.contains("WARN"));
        assert_eq!(warning.is_some(), warned, "{mode:#o}: {log:?}");
        for part in [
            "others could replace",
            &format!("mode={mode:04o}"),
            "owner=",
        ] {
            assert!(warning.is_none_or(|it| it.contains(part)), "{warning:?}");
        }
    }
    assert_eq!(names(&dir), [""; 0]);
}

#[tokio::test]
async fn a_missing_or_forbidden_directory_is_named() {
    let (dir, _) = place();
    let path = dir.path().join("missing/socket");
    let error = unix::bind(&path).expect_err("no directory");
    assert_eq!(error.kind(), &Kind::NotFound, "{error}");
    assert!(error.to_string().contains("missing/socket"), "{error}");
    std::fs::write(dir.path().join("missing"), "").expect("written");
    let error = unix::bind(&path).expect_err("no directory");
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error}");

    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).expect("ours");
    let mut actor = Actor::spawn("unix::path::role_no_entry");
    actor.tell(dir.path().join("socket").to_str().expect("it is text"));
    actor.succeed().await;
}

#[test]
fn role_no_entry() {
    if !is_peer("unix::path::role_no_entry") {
        return;
    }
    let runtime = runtime();
    actor::become_nobody();
    let _guard = runtime.enter();
    let error = unix::bind(told().expect("a path")).expect_err("not writable");
    assert_eq!(error.kind(), &Kind::PermissionDenied, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
    assert!(error.object().ends_with(".lock"), "{error}");
}

/// What has a name and cannot be removed any more is told of, and does no harm.
#[tokio::test]
async fn what_cannot_be_removed_is_told_of() {
    let (dir, _) = place();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("ours");
    let mut actor = Actor::spawn("unix::path::role_cannot_remove");
    actor.tell(dir.path().to_str().expect("it is text"));
    assert_eq!(actor.hear().await, "made");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).expect("ours");
    actor.tell("drop");
    assert_eq!(actor.hear().await, "dropped");
    let mut left = names(&dir);
    left.sort();
    assert_eq!(left, ["fifo", "socket", "socket.lock"]);
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("ours");
    actor.succeed().await;
}

#[test]
fn role_cannot_remove() {
    if !is_peer("unix::path::role_cannot_remove") {
        return;
    }
    let runtime = runtime();
    actor::become_nobody();
    let _guard = runtime.enter();
    let dir = std::path::PathBuf::from(told().expect("a directory"));
    let listener = unix::bind(dir.join("socket")).expect("it is writable");
    let mut options = fifo::OpenOptions::new();
    options.create(true).unlink_on_drop(true);
    let fifo = options
        .open_receiver(dir.join("fifo"))
        .expect("it is writable");
    say("made");
    assert_eq!(told().as_deref(), Some("drop"));
    let ((), log) = Log::record(|| drop((listener, fifo)));
    for what in ["/socket", "/socket.lock", "/fifo"] {
        let told = log
            .iter()
            .any(|it| it.contains("WARN") && it.contains(what));
        assert!(told, "{what}: {log:?}");
    }
    assert_eq!(
        log.iter().filter(|it| it.contains("WARN")).count(),
        3,
        "{log:?}"
    );
    say("dropped");
}
