//! Runs each scenario under strace, once for each call that is to fail.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
const PATIENCE: Duration = Duration::from_secs(40);

/// What became of all runs with one call and error.
#[derive(Debug, Default)]
struct Row {
    injected: u32,
    /// Runs in which all went well all the same.
    succeeded: u32,
    /// Runs that ended with an error.
    failed: u32,
    panicked: u32,
    hung: u32,
    leaked: u32,
    lost: u32,
    /// Runs whose end only the injection explains; `judge` says which.
    excused: u32,
}

pub(crate) fn run(quick: bool, only: &[String]) -> anyhow::Result<ExitCode> {
    let strace = Command::new("strace").arg("--version").output();
    anyhow::ensure!(
        strace.is_ok_and(|it| it.status.success()),
        "strace is not installed"
    );
    let mut rows: BTreeMap<(&str, &str), Row> = BTreeMap::new();
    let mut wrong = Vec::new();
    let directory = tempfile::tempdir()?;
    let chosen = |name: &&&str| only.is_empty() || only.iter().any(|it| it == **name);
    for name in NAMES.iter().filter(chosen) {
        let called = calls(name, directory.path())?;
        for (call, errors) in FAULTS.iter().filter(|(call, _)| called.contains(call)) {
            for error in errors.iter().take(if quick { 1 } else { errors.len() }) {
                let row = rows.entry((*call, *error)).or_default();
                for n in 1..=if quick { 2 } else { MOST } {
                    let inject = format!("inject={call}:error={error}:when={n}");
                    let ran = one(name, call, &inject, directory.path())?;
                    if !ran.injected {
                        break;
                    }
                    row.injected += 1;
                    let told = format!("{name}, {call} number {n}: {error}");
                    judge(ran, call, &told, row, &mut wrong);
                }
            }
        }
    }
    let mut all = Row::default();
    println!(
        "{:<18} {:<13} {:>8} {:>9} {:>7} {:>8} {:>5} {:>7} {:>5} {:>7}",
        "system call",
        "error",
        "injected",
        "succeeded",
        "errors",
        "panicked",
        "hung",
        "leaked",
        "lost",
        "excused"
    );
    for ((call, error), row) in &rows {
        print(call, error, row);
        all.injected += row.injected;
        all.succeeded += row.succeeded;
        all.failed += row.failed;
        all.panicked += row.panicked;
        all.hung += row.hung;
        all.leaked += row.leaked;
        all.lost += row.lost;
        all.excused += row.excused;
    }
    print("all", "", &all);
    for what in &wrong {
        println!("wrong: {what}");
    }
    anyhow::ensure!(all.injected > 0, "nothing was injected");
    Ok(if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(call: &str, error: &str, row: &Row) {
    let Row {
        injected,
        succeeded,
        failed,
        panicked,
        hung,
        leaked,
        lost,
        excused,
    } = row;
    println!(
        "{call:<18} {error:<13} {injected:>8} {succeeded:>9} {failed:>7} {panicked:>8} {hung:>5} {leaked:>7} {lost:>5} {excused:>7}"
    );
}

fn judge(ran: Ran, call: &str, told: &str, row: &mut Row, wrong: &mut Vec<String>) {
    let outcome = match ran.outcome {
        Some(outcome) => outcome,
        // A process that keeps what it has closed keeps its peers waiting, rightly.
        None if ran.timed_out && call == "close" => return row.excused += 1,
        None if ran.timed_out => {
            row.hung += 1;
            wrong.push(format!("{told}: hangs"));
            return;
        }
        // Tokio wakes itself by an eventfd, whose write the kernel never lets fail.
        None if ran.stderr.contains("src/runtime/io/driver.rs") => return row.excused += 1,
        None => {
            row.panicked += 1;
            wrong.push(format!("{told}: panics: {}", ran.stderr.trim()));
            return;
        }
    };
    // strace makes the call fail by leaving it out: what was to be closed or removed stays.
    if call == "close" || call.starts_with("unlink") || call == "mq_unlink" {
        row.excused += 1;
        return;
    }
    if outcome.errors.is_empty() {
        row.succeeded += 1;
    } else {
        row.failed += 1;
    }
    if let Some(where_) = &outcome.hung {
        row.hung += 1;
        wrong.push(format!("{told}: {where_} hangs after {:?}", outcome.errors));
    }
    // What cannot be looked at cannot be known to be one's own, and so is not removed; nor is a lock
    // file without its lock.
    let mut names = outcome.names.clone();
    names.retain(|it| !(call == "newfstatat" || it.ends_with(".lock")));
    row.excused += u32::from(names.len() < outcome.names.len());
    if !(outcome.leaked.is_empty() && names.is_empty()) {
        row.leaked += 1;
        wrong.push(format!(
            "{told}: leaked {:?} {:?} after {:?}",
            outcome.leaked, names, outcome.errors
        ));
    }
    if !outcome.lost.is_empty() {
        row.lost += 1;
        wrong.push(format!(
            "{told}: lost {:?} after {:?}",
            outcome.lost, outcome.errors
        ));
    }
    if !outcome.wrong.is_empty() {
        row.lost += 1;
        wrong.push(format!("{told}: {:?}", outcome.wrong));
    }
}

struct Ran {
    injected: bool,
    timed_out: bool,
    outcome: Option<Outcome>,
    stderr: String,
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
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}
