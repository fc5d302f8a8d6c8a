//! The cases that need a process of their own, in which the test program runs again.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tokio_test::assert_pending;
use tokio_test::task;

use super::{Pair, drop_end, end, fill, full, order, tasks};
use crate::cpu::uses_no_cpu;
use crate::place::Transport;
use crate::{rerun, run};

/// What interrupts system calls: a library that installs a handler without `SA_RESTART` and sends
/// every thread its signal again and again.
const STORM: &str = include_str!("storm.c");
const COUNT: &str = "AQUEDUCT_CONFORMANCE_SIGNALS";

/// Runs order, full buffer, end and several tasks while signals interrupt each thread.
///
/// The signal's handler does not restart system calls.
pub fn signals(transport: &impl Transport, module: &str, test: &str) {
    let test = rerun::listed(module, test);
    if rerun::is(&test) {
        run(async {
            order(transport).await;
            full(transport).await;
            end(transport).await;
            tasks(transport).await;
        });
        return;
    }
    let dir = tempfile::tempdir().expect("a directory can be made");
    let (library, count) = (dir.path().join("storm.so"), dir.path().join("count"));
    compile(dir.path(), &library);
    rerun::alone(&test, |command| {
        command.env("LD_PRELOAD", &library).env(COUNT, &count);
    });
    let count = std::fs::read_to_string(&count).expect("the storm tells its count");
    let count: u64 = count.trim().parse().expect("a number");
    assert!(count > 50, "only {count} signals came: this tested nothing");
}

fn compile(dir: &Path, library: &Path) {
    let source = dir.join("storm.c");
    std::fs::write(&source, STORM).expect("the directory is writable");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-shared", "-fPIC", "-pthread", "-o"]);
    let status = cc.arg(library).arg(&source).status();
    assert!(status.expect("a C compiler is installed").success());
}

/// Ends that wait for a message or for room use less than 10 ms of CPU time per second.
pub fn idle(transport: &impl Transport, module: &str, test: &str) {
    let test = rerun::listed(module, test);
    if !rerun::is(&test) {
        rerun::alone(&test, |_| {});
        return;
    }
    run(async {
        let mut waiting = Pair::open(transport).await;
        let mut stuck = Pair::open(transport).await;
        fill(&mut stuck.here, transport.promises().limit(4900).min(4900)).await;
        let mut here = task::spawn(waiting.here.recv());
        let mut there = task::spawn(waiting.there.recv());
        let mut flush = task::spawn(stuck.here.flush());
        assert_pending!(here.poll());
        assert_pending!(there.poll());
        assert_pending!(flush.poll());
        let tasks = async { tokio::join!(here, there, flush) };
        uses_no_cpu(&[std::process::id()], tasks).await;
    });
}

/// The cases leave no descriptor, no thread and no child behind.
///
/// They are order, full buffer, end, a dropped end and a dropped runtime.
pub fn nothing_stays(transport: &impl Transport, module: &str, test: &str) {
    let test = rerun::listed(module, test);
    if !rerun::is(&test) {
        rerun::alone(&test, |_| {});
        return;
    }
    let use_it = || {
        run(order(transport));
        run(full(transport));
        run(end(transport));
        run(drop_end(transport));
        run(super::runtime_dropped(transport));
    };
    // What is made once for the whole process is there after the first time.
    use_it();
    let before = open();
    use_it();
    assert_eq!(open(), before);
}

/// Descriptors, threads and children of this process, each in words.
fn open() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let list = |dir: &str| std::fs::read_dir(dir).expect("/proc is mounted").flatten();
    for entry in list("/proc/self/fd") {
        // Without the one that looks, which is gone by now.
        if let Ok(target) = std::fs::read_link(entry.path()) {
            let number = entry.file_name();
            all.insert(format!(
                "descriptor {} -> {}",
                number.display(),
                target.display()
            ));
        }
    }
    for entry in list("/proc/self/task") {
        let children = std::fs::read_to_string(entry.path().join("children"));
        let children = children.unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .map(|it| format!("process {it}")),
        );
    }
    // The library's timer has a thread while somebody waits, and for some seconds after.
    let threads = list("/proc/self/task")
        .filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok())
        .filter(|name| !name.starts_with("aqueduct-timer"))
        .count();
    all.insert(format!("{threads} threads"));
    all.retain(|it| !it.ends_with("/fd"));
    all
}
