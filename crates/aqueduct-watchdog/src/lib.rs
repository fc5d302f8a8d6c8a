//! Ends a test program in which a test hangs, with the name of the test.
//!
//! `use aqueduct_watchdog as _;` in a test program is all: a thread then watches every test of it, from
//! before `main`. A test has [`LIMIT`], or as many seconds as the variable [`VARIABLE`] says.
//!
//! The harness runs each test on a thread with the test's name, of which the system keeps 15 bytes.
//! Where these begin the names of several tests, all of them are given; after a minute the harness itself
//! has said which one it is.
//!
//! A program that a test has started to be its other side ends as well, some time after the tests have gone
//! without ending it, as when they were killed. It is known by the variables in [`PEERS`].
//!
//! `SIGHUP` gets its default action back: tests send it, and programs started under `nohup(1)` ignore it.
#![allow(unsafe_code)] // For `START` and what it calls.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, signal};

/// How long a test may run: 8 minutes, and up to a quarter more, since it is looked at as often.
/// Generous, since it only ends a hang.
pub const LIMIT: Duration = Duration::from_secs(480);

/// Another limit, in seconds.
pub const VARIABLE: &str = "AQUEDUCT_TEST_LIMIT";

/// One of them is set for a test program that another one has started.
pub const PEERS: [&str; 3] = [
    "AQUEDUCT_TEST_PEER",
    "AQUEDUCT_TEST_ALONE",
    "AQUEDUCT_CONFORMANCE",
];

/// The name of the thread that watches.
pub const THREAD: &str = "watchdog";

/// How much of a thread's name the system keeps, in bytes; `PR_SET_NAME` of prctl(2).
const KEPT: usize = 15;

// SAFETY: the section holds functions of this type, which the loader calls once, before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let peer = PEERS.iter().any(|it| std::env::var_os(it).is_some());
    if !peer {
        // SAFETY: before `main` there is one thread, and no handler that others count on.
        let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) };
    }
    let parent = peer.then(parent_id);
    // Without a thread there is no watchdog, and the tests can say more of what is wrong.
    let watch = move || watch(parent);
    let _ = thread::Builder::new().name(THREAD.into()).spawn(watch);
}

fn watch(parent: Option<u32>) {
    let limit = std::env::var(VARIABLE).ok().and_then(|it| it.parse().ok());
    let limit = limit.map_or(LIMIT, Duration::from_secs);
    // Since when each thread is there. A number may come again, for another test.
    let mut known = BTreeMap::<(String, String), Instant>::new();
    loop {
        // Seldom: some tests count what the process has open, and to look is to open something.
        thread::sleep(limit / 4);
        if parent.is_some_and(|it| it != parent_id()) {
            let _ = writeln!(
                io::stderr(),
                "watchdog: the tests of this process have gone"
            );
            std::process::exit(1);
        }
        let threads = threads();
        known.retain(|it, _| threads.contains(it));
        for it in threads {
            let since = *known.entry(it.clone()).or_insert_with(Instant::now);
            if since.elapsed() > limit {
                let tests = tests(&it.1);
                if !tests.is_empty() {
                    end(limit, &tests);
                }
            }
        }
    }
}

/// The number and the name of each thread of this process.
fn threads() -> Vec<(String, String)> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten();
    let threads = entries.flatten().filter_map(|entry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let number = entry.file_name().to_string_lossy().into_owned();
        Some((number, name.trim_end_matches('\n').to_owned()))
    });
    threads.collect()
}

/// The tests that a thread of this name may run.
fn tests(thread: &str) -> Vec<String> {
    let program = std::env::current_exe().map(Command::new);
    let listed = program.and_then(|mut it| it.args(["--list", "--format", "terse"]).output());
    let listed = listed.map(|it| it.stdout).unwrap_or_default();
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let names = listed.lines().filter_map(|it| it.strip_suffix(": test"));
    let names = names.filter(|it| it.as_bytes()[..it.len().min(KEPT)] == *thread.as_bytes());
    names.map(ToOwned::to_owned).collect()
}

fn end(limit: Duration, tests: &[String]) -> ! {
    let limit = limit.as_secs();
    let tests = tests.join(" or ");
    let _ = writeln!(
        io::stderr(),
        "\nwatchdog: a test still runs after {limit} s, so the tests end here: {tests}"
    );
    std::process::abort();
}
