//! Children that cannot be started as asked: each noticed, and told by its own error.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use aqueduct::child::{Command, Error};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;

use super::{role, sh, succeeds};
use crate::actor::runtime;
use crate::support::is_peer;

#[tokio::test]
async fn a_program_that_cannot_start_says_which_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    match Command::new(&missing).spawn().unwrap_err() {
        Error::NotFound { program, source } => {
            assert_eq!(program, missing);
            assert_eq!(source.raw_os_error(), Some(libc::ENOENT));
        }
        other => panic!("{other:?}"),
    }

    let plain = dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let error = Command::new(&plain).spawn().unwrap_err();
    assert!(matches!(error, Error::NotExecutable { .. }), "{error:?}");
    assert!(error.to_string().contains("plain"), "{error}");
    assert_eq!(
        io::Error::from(error).kind(),
        io::ErrorKind::PermissionDenied
    );

    let mut elsewhere = sh("true");
    elsewhere.current_dir(&missing);
    match elsewhere.spawn().unwrap_err() {
        Error::NoDirectory { dir, .. } => assert_eq!(dir, missing),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failed_start_is_noticed_whatever_numbers_are_mapped() {
    // std reports the failure through a pipe of its own: it must not get a number which is then
    // mapped over. Then the start would seem to succeed.
    for number in 3..100 {
        let mut command = Command::new("/nonexistent/program");
        command.pipe_from_child(number);
        match command.spawn() {
            Err(Error::NotFound { .. }) => {}
            other => panic!("with descriptor {number}: {other:?}"),
        }
    }
}

/// As above, where another thread gives the number up in the very moment: std's own pipe may get it.
#[tokio::test]
async fn a_failed_start_is_noticed_while_other_threads_open_and_close() {
    let mut child = role("child::refused::role_starts_in_a_crowd")
        .spawn()
        .unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_starts_in_a_crowd() {
    if !is_peer("child::refused::role_starts_in_a_crowd") {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    let done = AtomicBool::new(false);
    // The lowest number that is free, which is the one that both threads and std get.
    let number = io::pipe().unwrap().0.as_raw_fd();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    drop(io::stderr().as_fd().try_clone_to_owned());
                }
            });
        }
        let outcomes: Vec<_> = (0..300)
            .map(|i| {
                let mut command = Command::new("/nonexistent/program");
                command.pipe_from_child(number + i % 8);
                command.spawn().map(drop)
            })
            .collect();
        done.store(true, Relaxed);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{error:?}");
        }
    });
}

#[tokio::test]
async fn impossible_descriptor_numbers_are_refused_by_name() {
    let mut twice = sh("true");
    twice.pipe_from_child(3).pipe_to_child(3);
    let error = twice.spawn().unwrap_err();
    assert!(matches!(error, Error::Duplicate { number: 3 }), "{error:?}");

    let mut both = sh("true");
    both.stdout(std::process::Stdio::null()).pipe_from_child(1);
    let error = both.spawn().unwrap_err();
    assert!(
        matches!(error, Error::StdioTaken { number: 1 }),
        "{error:?}"
    );

    for impossible in [-1, RawFd::MIN, RawFd::MAX] {
        let mut command = sh("true");
        command.pipe_from_child(impossible);
        match command.spawn().unwrap_err() {
            Error::BadNumber { number } => assert_eq!(number, impossible),
            other => panic!("{other:?}"),
        }
    }

    let mut command = sh("true");
    command.pipe_from_child(3);
    let mut child = command.spawn().unwrap();
    let error = child.take_sender(3).unwrap_err();
    assert!(
        error.to_string().contains("pipe to it on descriptor 3"),
        "{error}"
    );
    child.take_receiver(3).unwrap();
    let error = child.take_receiver(3).unwrap_err();
    assert!(
        matches!(error, Error::NoPipe { number: 3, .. }),
        "{error:?}"
    );
    succeeds(&mut child).await;
}

#[test]
fn without_a_runtime_it_is_an_error_and_no_panic() {
    let error = sh("true").spawn().unwrap_err();
    assert!(matches!(error, Error::NoRuntime), "{error:?}");
}

/// Checks what an error says, and that an [`io::Error`] keeps all of it.
fn says(error: Error, kind: io::ErrorKind, number: Option<i32>, parts: &[&str]) {
    let said = error.to_string();
    for part in parts {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (kind, number),
        "{said}"
    );
    let error = io::Error::from(error);
    assert_eq!(error.kind(), kind, "{said}");
    assert_eq!(Error::of(&error).expect("it is inside").to_string(), said);
}

#[tokio::test]
async fn each_error_says_what_it_is_about_and_what_to_do() {
    use io::ErrorKind as Kind;

    let mut long = sh("true");
    // MAX_ARG_STRLEN, execve(2): 32 pages, which have up to 64 KiB.
    long.arg("x".repeat(64 << 16));
    says(
        long.spawn().unwrap_err(),
        Kind::ArgumentListTooLong,
        Some(libc::E2BIG),
        &["/bin/sh"],
    );
    says(
        Command::new("/no/where").spawn().unwrap_err(),
        Kind::NotFound,
        Some(libc::ENOENT),
        &["/no/where", "check the name"],
    );
    let mut twice = sh("true");
    twice.pipe_to_child(5).pipe_to_child(5);
    let twice = twice.spawn().unwrap_err();
    says(twice, Kind::InvalidInput, None, &["5", "its own number"]);
    let mut both = sh("true");
    both.stdin(std::process::Stdio::null()).pipe_to_child(0);
    let both = both.spawn().unwrap_err();
    says(both, Kind::InvalidInput, None, &["0", "drop one of"]);
    let mut impossible = sh("true");
    impossible.pipe_to_child(-7);
    let impossible = impossible.spawn().unwrap_err();
    says(impossible, Kind::InvalidInput, None, &["-7", "ulimit -n"]);
    let error = aqueduct::child::inherited(-7).unwrap_err();
    says(error, Kind::NotFound, None, &["-7", "parent to map it"]);

    let mut child = sh("read line").spawn().unwrap();
    let error = child.take_receiver(1).unwrap_err();
    says(error, Kind::NotFound, None, &["from it on descriptor 1"]);
    child.start_kill().unwrap();
    child.wait().await.unwrap();
    let error = std::thread::spawn(|| sh("true").spawn().unwrap_err()).join();
    says(error.unwrap(), Kind::Other, None, &["inside one"]);
}

/// With none free, one, two and so on it is an error, which tells what could not be had, until there are
/// enough; and a child whose exit cannot be watched still gives its plain pipe.
#[tokio::test]
async fn without_free_descriptors_each_step_says_what_it_lacks() {
    let mut child = role("child::refused::role_out_of_descriptors")
        .spawn()
        .unwrap();
    succeeds(&mut child).await;
}

#[test]
fn role_out_of_descriptors() {
    if !is_peer("child::refused::role_out_of_descriptors") {
        return;
    }
    let runtime = runtime();
    let _guard = runtime.enter();
    // Tokio's own, which the first child makes it open.
    runtime.block_on(async { succeeds(&mut sh("true").spawn().unwrap()).await });
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    let mut taken = Vec::new();
    while let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() {
        taken.push(fd);
    }
    let (mut pipes, mut others) = (0, 0);
    let mut child = loop {
        let mut command = sh("echo hello; read line");
        command.pipe_to_child(0).pipe_from_child(1);
        match command.spawn() {
            Ok(child) => break child,
            Err(error) => {
                match &error {
                    Error::Pipe { number: 0 | 1, .. } => pipes += 1,
                    Error::Spawn { .. } => others += 1,
                    _ => panic!("{error:?}"),
                }
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error:?}");
            }
        }
        taken.pop().expect("so many are enough");
    };
    assert!(pipes >= 4 && others >= 1, "{pipes} pipes, {others} others");
    while let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() {
        taken.push(fd);
    }
    let error = child.take_receiver(1).unwrap_err();
    assert!(matches!(error, Error::Watch { .. }), "{error:?}");
    let kind = io::Error::from_raw_os_error(libc::EMFILE).kind();
    says(error, kind, Some(libc::EMFILE), &["take the plain pipe"]);
    let mut output = child.take_unbounded_receiver(1).unwrap();
    let mut hello = [0; 6];
    runtime.block_on(async {
        output.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello\n");
        // This closes its input, at the end of which `read` fails.
        assert_eq!(child.wait().await.unwrap().code(), Some(1));
    });
}
