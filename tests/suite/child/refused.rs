//! Children that cannot be started as asked: each noticed, and told by its own error.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use aqueduct::child::Command;
use aqueduct::{OpenError, OpenErrorKind};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;

use super::{role, sh, succeeds};
use crate::actor::runtime;
use crate::support::is_peer;

/// Asserts what kind of error it is, what it is about, its errno and what it says.
fn says(error: &OpenError, kind: &OpenErrorKind, errno: Option<i32>, parts: &[&str]) {
    let said = error.to_string();
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (kind, errno),
        "{said}"
    );
    for part in parts {
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn a_program_that_cannot_start_says_which_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = Command::new(&missing).spawn().unwrap_err();
    let parts = [
        &format!("cannot start program {}: ", missing.display()),
        "check the name",
    ];
    says(&error, &OpenErrorKind::NotFound, Some(libc::ENOENT), &parts);
    assert_eq!(error.object(), missing.to_str().unwrap());

    let plain = dir.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    let error = Command::new(&plain).spawn().unwrap_err();
    let parts = ["plain", "chmod +x"];
    says(
        &error,
        &OpenErrorKind::PermissionDenied,
        Some(libc::EACCES),
        &parts,
    );
    let kind = io::Error::from(error).kind();
    assert_eq!(kind, io::ErrorKind::PermissionDenied);

    let mut elsewhere = sh("true");
    elsewhere.as_tokio_mut().current_dir(&missing);
    let error = elsewhere.spawn().unwrap_err();
    let parts = [
        "its working directory",
        missing.to_str().unwrap(),
        "create the directory",
    ];
    says(
        &error,
        &OpenErrorKind::InvalidOption,
        Some(libc::ENOENT),
        &parts,
    );
}

#[tokio::test]
async fn a_failed_start_is_noticed_whatever_numbers_are_mapped() {
    // std reports the failure through a pipe of its own: it must not get a number which is then
    // mapped over. Then the start would seem to succeed.
    for number in 3..100 {
        let mut command = Command::new("/nonexistent/program");
        command.pipe_from_child(number);
        match command.spawn() {
            Err(error) if error.kind() == &OpenErrorKind::NotFound => {}
            other => panic!("with descriptor {number}: {other:?}"),
        }
    }
}

/// As above, where another thread gives the number up in the very moment: std's own pipe may get it.
#[tokio::test]
async fn a_failed_start_is_noticed_while_other_threads_open_files() {
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
            assert_eq!(error.kind(), &OpenErrorKind::NotFound, "{error:?}");
        }
    });
}

#[tokio::test]
async fn impossible_descriptor_numbers_are_refused_by_name() {
    let invalid = &OpenErrorKind::InvalidOption;
    let mut twice = sh("true");
    twice.pipe_from_child(3).pipe_to_child(3);
    let parts = [
        "/bin/sh",
        "descriptor 3 is asked for twice",
        "its own number",
    ];
    says(&twice.spawn().unwrap_err(), invalid, None, &parts);

    for impossible in [-1, RawFd::MIN, RawFd::MAX] {
        let mut command = sh("true");
        command.pipe_from_child(impossible);
        let number = impossible.to_string();
        says(
            &command.spawn().unwrap_err(),
            invalid,
            None,
            &[&number, "ulimit -n"],
        );
    }

    let mut command = sh("true");
    command.pipe_from_child(3);
    let mut child = command.spawn().unwrap();
    let not_found = &OpenErrorKind::NotFound;
    let error = child.take_sender(3).unwrap_err();
    says(
        &error,
        not_found,
        None,
        &["the pipe to descriptor 3 of the child"],
    );
    child.take_receiver(3).unwrap();
    let error = child.take_receiver(3).unwrap_err();
    says(
        &error,
        not_found,
        None,
        &["the pipe from descriptor 3", "before the child is spawned"],
    );
    succeeds(&mut child).await;
}

#[test]
fn without_a_runtime_it_is_an_error_and_no_panic() {
    let error = sh("true").spawn().unwrap_err();
    says(
        &error,
        &OpenErrorKind::NoRuntime,
        None,
        &["call this inside one"],
    );
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::Other);
}

#[tokio::test]
async fn an_argument_that_is_too_long_is_told_with_its_errno() {
    let mut long = sh("true");
    // MAX_ARG_STRLEN, execve(2): 32 pages, which have up to 64 KiB.
    long.arg("x".repeat(64 << 16));
    let error = long.spawn().unwrap_err();
    says(
        &error,
        &OpenErrorKind::Other,
        Some(libc::E2BIG),
        &["/bin/sh"],
    );
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::ArgumentListTooLong);
    assert!(OpenError::of(&error).is_some(), "it is inside");
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
                match error.object() {
                    "/bin/sh" => others += 1,
                    pipe if pipe.starts_with("the pipe for descriptor ") => pipes += 1,
                    _ => panic!("{error:?}"),
                }
                says(
                    &error,
                    &OpenErrorKind::LimitReached,
                    Some(libc::EMFILE),
                    &[],
                );
            }
        }
        taken.pop().expect("so many are enough");
    };
    assert!(pipes >= 4 && others >= 1, "{pipes} pipes, {others} others");
    while let Ok(fd) = io::stderr().as_fd().try_clone_to_owned() {
        taken.push(fd);
    }
    let error = child.take_receiver(1).unwrap_err();
    let parts = [
        "watch for the exit of process ",
        "take the pipe without a bound",
    ];
    says(
        &error,
        &OpenErrorKind::LimitReached,
        Some(libc::EMFILE),
        &parts,
    );
    let mut output = child.take_unbounded_receiver(1).unwrap();
    let mut hello = [0; 6];
    runtime.block_on(async {
        output.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello\n");
        // This closes its input, at the end of which `read` fails.
        assert_eq!(child.wait().await.unwrap().code(), Some(1));
    });
}
