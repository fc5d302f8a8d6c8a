//! The last test: it waits until all others have ended, and looks what they have left behind.
//!
//! The harness runs tests in the order of their names, so this module's has to be the last one. Files
//! are looked for by `.ci/run`, which gives the tests a directory of their own for them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aqueduct::mq::Driver;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use crate::mq::QueueName;
use crate::support::{is_peer, peer_command};

/// For how long a test may go on when this one has begun.
const PATIENCE: Duration = Duration::from_secs(120);

/// For how long the kernel may take to let go of the last one's things.
const MOMENT: Duration = Duration::from_secs(5);

#[test]
fn no_descriptor_no_thread_no_process_and_no_queue() {
    let until = Instant::now() + PATIENCE;
    while !threads().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let until = Instant::now() + MOMENT;
    while !left().is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = left();
    assert_eq!(left, BTreeSet::new());
    if !fs::exists(QUEUES).unwrap_or_default() {
        let queues = queues_of_this_process(listed_elsewhere());
        assert_eq!(queues, [""; 0]);
    }
    // Where names cannot be had they can only be guessed.
    let queues = QueueName::remove_all_of(std::process::id());
    assert_eq!(queues, 0, "queues were left, and are removed now");
}

const LISTS: &str = "what_is_left::role_lists_queues";

/// The queues where none of the system's directories shows them: by a process that has one of its own.
fn listed_elsewhere() -> Vec<String> {
    let output = peer_command(LISTS).output().expect("it can be run again");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let names = text.lines().filter_map(|it| it.strip_prefix("queue "));
    names.map(ToOwned::to_owned).collect()
}

#[test]
fn role_lists_queues() {
    if !is_peer(LISTS) {
        return;
    }
    const NONE: Option<&str> = None;
    let dir = tempfile::tempdir().expect("a directory");
    // What is mounted from here on nobody else sees.
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))
        .and_then(|()| {
            let (kind, none) = (Some("mqueue"), MsFlags::empty());
            mount(kind, dir.path(), kind, none, NONE)
        });
    if let Err(errno) = mounted {
        return println!("SKIPPED: a mount of its own is not to be had: {errno}");
    }
    for name in names(dir.path()) {
        println!("queue {name}");
    }
    umount(dir.path()).expect("it was mounted");
}

#[tokio::test]
async fn what_is_left_is_seen() {
    use std::process::{Command, Stdio};

    let none = seen("\u{0}");
    assert!(none.is_empty(), "{none:?}");
    let (reader, _writer) = std::io::pipe().expect("a pipe can be made");
    let target = fs::read_link(format!("/proc/self/fd/{}", number(&reader)));
    let target = target.expect("it is open").display().to_string();
    assert_eq!(seen(&target).len(), 2, "both ends of {target}");
    let mut cat = Command::new("cat");
    let child = cat.stdin(Stdio::piped()).spawn().expect("it starts");
    let process = format!("process {}", child.id());
    let mut child = crate::support::Peer(child);
    assert_eq!(seen(&process), std::slice::from_ref(&process));
    child.kill();
    assert!(seen(&process).is_empty());
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let named = std::thread::Builder::new().name("left-behind".into());
    let thread = named.spawn(move || stopped.recv()).expect("it starts");
    let thread_is_seen = || !seen("left-behind").is_empty();
    while !thread_is_seen() {
        std::thread::yield_now();
    }
    drop(stop);
    let _ = thread.join();
    let queue = QueueName::new();
    let made = queue.create(Driver::AsyncFd, 1, 8);
    if fs::exists(QUEUES).unwrap_or_default() {
        assert_eq!(seen(&queue.0), [format!("queue {}", queue.0)]);
    } else if nix::unistd::geteuid().is_root() {
        let listed = queues_of_this_process(listed_elsewhere());
        assert!(listed.contains(&format!("queue {}", queue.0)), "{listed:?}");
    }
    drop(made);
}

fn number(fd: &impl std::os::fd::AsRawFd) -> i32 {
    fd.as_raw_fd()
}

/// What is left of that name, among all that other tests have at work now.
fn seen(name: &str) -> Vec<String> {
    left().into_iter().filter(|it| it.contains(name)).collect()
}

const QUEUES: &str = "/dev/mqueue";

/// What only a test can have made, in words.
fn left() -> BTreeSet<String> {
    let mut left = BTreeSet::new();
    left.extend(descriptors());
    left.extend(threads());
    for task in names("/proc/self/task") {
        let children = fs::read_to_string(format!("/proc/self/task/{task}/children"));
        let children = children.unwrap_or_default();
        left.extend(
            children
                .split_whitespace()
                .map(|it| format!("process {it}")),
        );
    }
    left.extend(queues_of_this_process(names(QUEUES)));
    left
}

fn queues_of_this_process(names: Vec<String>) -> Vec<String> {
    let ours = format!("-{}-", std::process::id());
    let queues = names.into_iter().filter(|it| it.contains(&ours));
    queues.map(|it| format!("queue /{it}")).collect()
}

fn names(directory: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
    names.collect()
}

/// What is open, but for what this process was started with: its parent has that, too.
fn descriptors() -> Vec<String> {
    let open = |process: &str| {
        let directory = format!("/proc/{process}/fd");
        let numbers = names(&directory).into_iter();
        let open = numbers.filter_map(move |number| {
            let target = fs::read_link(format!("{directory}/{number}")).ok()?;
            Some((number, target.display().to_string()))
        });
        open.collect::<Vec<_>>()
    };
    let parent = nix::unistd::getppid().to_string();
    let inherited: BTreeSet<_> = open(&parent).into_iter().map(|(_, it)| it).collect();
    let own = open("self").into_iter().filter(|(number, target)| {
        !inherited.contains(target)
            && !["0", "1", "2"].contains(&number.as_str())
            // The ones that look.
            && !target.starts_with("/proc/")
    });
    let own = own.map(|(number, target)| format!("descriptor {number} -> {target}"));
    let mut own: Vec<_> = own.collect();
    // Tokio keeps a pair of sockets for signals as long as the process lives.
    let inode =
        |it: &str| -> Option<u64> { it.split_once("socket:[")?.1.strip_suffix(']')?.parse().ok() };
    let mut sockets: Vec<_> = own.iter().filter_map(|it| inode(it)).collect();
    sockets.sort_unstable();
    if let Some(pair) = sockets.windows(2).find(|it| it[0] + 1 == it[1]) {
        own.retain(|it| !inode(it).is_some_and(|it| pair.contains(&it)));
    }
    own
}

/// The threads but for the harness's, the watchdog and this one.
fn threads() -> Vec<String> {
    let own = [nix::unistd::getpid(), nix::unistd::gettid()].map(|it| it.to_string());
    let others = names("/proc/self/task").into_iter();
    let others = others.filter(|it| !own.contains(it));
    others
        .filter_map(|task| {
            let name = fs::read_to_string(format!("/proc/self/task/{task}/comm")).ok()?;
            Some(name.trim_end().to_owned())
        })
        .filter(|it| it != aqueduct_watchdog::THREAD)
        .map(|it| format!("thread {it}"))
        .collect()
}
