//! The mode of the socket's file: exact, there from the first, and what it is for.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::MARK;
use aqueduct::OpenErrorKind as Kind;
use aqueduct::unix::{self, BindOptions};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;

use super::{lock_of, names, place};
use crate::actor::{self, Actor, runtime, say, told};
use crate::support::{alone, is_peer};

#[tokio::test]
async fn the_mode_is_exact_whatever_the_umask_which_stays_as_it_was() {
    Actor::spawn("unix::mode::role_umask").succeed().await;
}

/// The file was there by then, and nobody knew that it was ours.
#[test]
fn without_descriptors_no_socket_file_stays() {
    const NAME: &str = "unix::mode::without_descriptors_no_socket_file_stays";
    alone(NAME, || {
        let runtime = runtime();
        let _guard = runtime.enter();
        let (dir, path) = place();
        umask(Mode::from_bits_truncate(0o777));
        setrlimit(Resource::RLIMIT_NOFILE, 64, 64).expect("it is lowered");
        // For the socket and its lock, and no more.
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - 2);
        let error = unix::bind(&path).expect_err("no descriptor is free");
        drop(taken);
        assert_eq!(error.kind(), &Kind::LimitReached, "{error:?}");
        assert_eq!(names(&dir), [""; 0]);
    });
}

#[test]
fn role_umask() {
    if !is_peer("unix::mode::role_umask") {
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

// There is no moment at which others could connect.
#[tokio::test]
async fn the_socket_never_appears_with_a_wider_mode() {
    Actor::spawn("unix::mode::role_watched").succeed().await;
}

#[test]
fn role_watched() {
    if !is_peer("unix::mode::role_watched") {
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
        let mut actor = Actor::spawn("unix::mode::role_foreigner");
        actor.tell(path.to_str().expect("it is text"));
        assert_eq!(actor.hear().await, answer);
        actor.succeed().await;
        drop(listener);
    }
}

#[test]
fn role_foreigner() {
    if !is_peer("unix::mode::role_foreigner") {
        return;
    }
    actor::become_nobody();
    let path = told().expect("a path");
    match runtime().block_on(unix::connect(path.as_str())) {
        Ok(_) => say("connected"),
        Err(error) if error.kind() == &Kind::PermissionDenied => {
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
            assert!(error.to_string().contains(&path), "{error}");
            say("denied");
        }
        Err(other) => panic!("{other:?}"),
    }
}
