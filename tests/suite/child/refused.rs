//! Children that cannot be started as asked: each noticed, and told by its own error.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use aqueduct::child::{Command, Error};

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
