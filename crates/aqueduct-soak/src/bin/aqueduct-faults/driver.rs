//! Runs each scenario under strace, once for each call that is to fail.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::judge::Tally;
use crate::scenario::{NAMES, Outcome};

/// System calls, and the errors that each may really give (`man 2`).
const FAULTS: &[(&str, &[&str])] = &[
    ("openat", &["EMFILE", "ENOMEM", "EINTR"]),
    ("read", &["EINTR", "EIO"]),
    ("write", &["EINTR", "EPIPE", "ENOSPC"]),
    ("writev", &["EINTR", "EPIPE"]),
    ("recvfrom", &["EINTR", "ECONNRESET", "ENOMEM"]),
    ("sendto", &["EINTR", "EPIPE", "ENOBUFS"]),
    ("recvmsg", &["EINTR", "ECONNRESET", "ENOMEM"]),
    ("sendmsg", &["EINTR", "EPIPE", "ENOBUFS"]),
    ("memfd_create", &["EMFILE", "ENOMEM", "EPERM"]),
    ("ftruncate", &["ENOMEM", "EINTR"]),
    ("prlimit64", &["EPERM"]),
    ("preadv2", &["EINTR", "EOPNOTSUPP"]),
    ("shutdown", &["ENOTCONN"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait", &["EINTR"]),
    ("eventfd2", &["EMFILE", "ENOMEM"]),
    ("mq_open", &["EMFILE", "ENOSPC", "ENOMEM"]),
    ("mq_timedsend", &["EINTR", "ENOMEM"]),
    ("mq_timedreceive", &["EINTR", "EBADF"]),
    ("mq_getsetattr", &["EBADF"]),
    ("mq_unlink", &["EACCES"]),
    ("fcntl", &["EMFILE", "EPERM"]),
    ("ioctl", &["ENOMEM"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("socket", &["EMFILE", "ENOBUFS"]),
    ("bind", &["EADDRINUSE", "EACCES"]),
    ("listen", &["EADDRINUSE"]),
    ("connect", &["ECONNREFUSED", "EINTR", "EAGAIN"]),
    ("accept4", &["ECONNABORTED", "EMFILE", "EINTR"]),
    ("getsockopt", &["ENOBUFS"]),
    ("setsockopt", &["ENOMEM"]),
    ("getsockname", &["ENOBUFS"]),
    ("getpeername", &["ENOBUFS"]),
    ("fstat", &["EIO"]),
    ("newfstatat", &["EIO", "ENOMEM"]),
    ("statx", &["EIO"]),
    ("fstatfs", &["EIO"]),
    ("mknodat", &["ENOSPC", "EACCES"]),
    ("fchmod", &["EPERM"]),
    ("fchmodat", &["EPERM"]),
    ("unlink", &["EIO"]),
    ("unlinkat", &["EIO"]),
    ("inotify_init1", &["EMFILE"]),
    ("inotify_add_watch", &["ENOSPC"]),
    ("flock", &["EINTR", "ENOLCK"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("clone3", &["EAGAIN", "ENOMEM"]),
    ("pidfd_open", &["EMFILE", "ENOSYS"]),
    ("waitid", &["EINTR"]),
    ("close", &["EIO"]),
];

/// With an `n` of more than this something is called without end.
const MOST: u32 = 200;
/// More than a scenario takes that hangs at each of its steps.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(quick: bool, only: &[String]) -> anyhow::Result<ExitCode> {
    let strace = Command::new("strace").arg("--version").output();
    anyhow::ensure!(
        strace.is_ok_and(|it| it.status.success()),
        "strace is not installed"
    );
    let chosen = |name: &&str| only.is_empty() || only.iter().any(|it| it == name);
    // They mostly wait, and have nothing in common.
    let tallies: Vec<anyhow::Result<Tally>> = thread::scope(|scope| {
        let start = |name| scope.spawn(move || fail_each(name, quick));
        let threads: Vec<_> = NAMES.into_iter().filter(chosen).map(start).collect();
        let ended = |it: thread::ScopedJoinHandle<'_, _>| it.join().expect("it does not panic");
        threads.into_iter().map(ended).collect()
    });
    let mut all = Tally::default();
    for tally in tallies {
        all.add(tally?);
    }
    all.print();
    anyhow::ensure!(all.row().injected > 0, "nothing was injected");
    Ok(if all.wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Each call of one mechanism.
fn fail_each(name: &str, quick: bool) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let directory = tempfile::tempdir()?;
    let called = calls(name, directory.path())?;
    for (call, errors) in FAULTS.iter().filter(|(call, _)| called.contains(call)) {
        for error in errors.iter().take(if quick { 1 } else { errors.len() }) {
            for n in 1..=if quick { 2 } else { MOST } {
                let inject = format!("inject={call}:error={error}:when={n}");
                let ran = one(name, call, &inject, directory.path())?;
                if !ran.injected {
                    break;
                }
                tally.take(&ran, name, (call, error, n));
            }
        }
    }
    Ok(tally)
}

/// What became of one run.
pub(crate) struct Ran {
    injected: bool,
    pub(crate) timed_out: bool,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) stderr: String,
    trace: String,
}

/// Which calls a scenario makes.
fn calls(name: &str, directory: &Path) -> anyhow::Result<Vec<&'static str>> {
    let ran = one(name, "all", "trace=all", directory)?;
    let outcome = ran.outcome.context("a scenario ends")?;
    anyhow::ensure!(
        outcome.errors.is_empty()
            && outcome.lost.is_empty()
            && outcome.leaked.is_empty()
            && outcome.names.is_empty()
            && outcome.hung.is_none(),
        "{name} fails without any fault: {outcome:?}"
    );
    let made = |call: &&str| {
        let begin = format!("{call}(");
        ran.trace
            .lines()
            .any(|it| it.split_whitespace().any(|word| word.starts_with(&begin)))
    };
    Ok(FAULTS.iter().map(|(call, _)| *call).filter(made).collect())
}

fn one(name: &str, call: &str, inject: &str, directory: &Path) -> anyhow::Result<Ran> {
    let place = tempfile::tempdir_in(directory)?;
    let control = place.path().join("control");
    let file = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&control)?;
    let mut program = Command::new(std::env::current_exe()?)
        .args(["--scenario", name])
        .arg(&control)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let ready = said(&file, b'R', &mut program)?;
    anyhow::ensure!(ready, "the program does not begin");
    let log = place.path().join("strace");
    let mut strace = Command::new("strace")
        .arg("-fo")
        .arg(&log)
        // What a program that is started does is its own affair.
        .args(["-b", "execve"])
        .args(["-e", &format!("trace={call}"), "-e", inject])
        .args(["-p", &program.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()?;
    let mut attached = String::new();
    let mut messages = BufReader::new(strace.stderr.take().context("it is piped")?);
    messages.read_line(&mut attached)?;
    anyhow::ensure!(attached.contains("attached"), "strace says {attached}");
    file.write_all_at(b"G", 1)?;
    let done = said(&file, b'D', &mut program)?;
    kill(Pid::from_raw(strace.id().try_into()?), Signal::SIGTERM)?;
    let mut rest = String::new();
    messages.read_to_string(&mut rest)?;
    strace.wait()?;
    let timed_out = !done && program.try_wait()?.is_none();
    if timed_out {
        program.kill()?;
    }
    file.write_all_at(b"C", 1)?;
    let output = program.wait_with_output()?;
    let trace = std::fs::read_to_string(&log)?;
    Ok(Ran {
        injected: trace.contains("(INJECTED)"),
        timed_out,
        outcome: serde_json::from_slice(&output.stdout).ok(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        trace,
    })
}

/// Waits until the program says this, or has ended; whether it did.
fn said(control: &File, what: u8, program: &mut Child) -> anyhow::Result<bool> {
    let until = Instant::now() + PATIENCE;
    let mut byte = [0];
    while Instant::now() < until {
        if control.read_at(&mut byte, 0)? == 1 && byte[0] == what {
            return Ok(true);
        }
        if program.try_wait()?.is_some() {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}
