//! The tables of the guide's page on socat, each row played against the same peers: as the page has it for
//! this command, and as a control for socat, where it is installed. By default socat plays every fifth row:
//!
//! ```sh
//! AQUEDUCT_TEST_SOCAT=all cargo test -p aqueduct-cli --test cli socat
//! ```

mod play;

use std::panic::catch_unwind;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::readme::row_of;

use self::play::play;

const PAGE: &str = include_str!("../../../../docs/src/socat.md");
/// One of so many rows is played by socat, too.
const CONTROL: usize = 5;

/// What we say first and hear the answer of, before either side ends.
const TALK: &str = "in one | a hears one | a says two | out two";
/// The command's side ends first, and the answer comes after it.
const HERE_FIRST: &str = "in ends | a hears the end | a says late | out late | a closes | succeeds";
/// The peer ends first, and still hears what is said.
const THERE_FIRST: &str =
    "a ends | in late | a hears late | in ends | a hears the end | a closes | succeeds";
/// Two peers that are connected to each other.
const BOTH: &str = "a says one | b hears one | b says two | a hears two";

/// Each row and what happens, often in more than one way. A play `ends` where the exit codes differ: that of
/// socat is 0 after a time limit or a reset.
const ROWS: &[(&str, &[&str])] = &[
    (
        "talk over a Unix socket",
        &[
            "listen s | run | a accepts s | TALK | HERE_FIRST",
            "listen s | run | a accepts s | TALK | THERE_FIRST",
        ],
    ),
    (
        "talk over TCP",
        &[
            "listen 7000 | run | a accepts 7000 | TALK | HERE_FIRST",
            "listen 7000 | run | a accepts 7000 | TALK | THERE_FIRST",
            "listen 7000 | run | a accepts 7000 | TALK | a resets | in ends | ends",
        ],
    ),
    (
        "talk over an abstract socket",
        &["listen @app-7000 | run | a accepts @app-7000 | TALK | HERE_FIRST"],
    ),
    (
        "talk to the first client of a Unix socket",
        &[
            "run | a connects s | TALK | HERE_FIRST",
            "run | a connects s | TALK | THERE_FIRST",
        ],
    ),
    (
        "talk to the first client of a TCP port",
        &[
            "run | a connects 7000 | TALK | HERE_FIRST",
            "run | a connects 7000 | TALK | THERE_FIRST",
        ],
    ),
    (
        "talk to a program",
        &["run | in hello | in ends | out HELLO | succeeds"],
    ),
    (
        "talk to a shell command",
        &["run | in hello | out got hello | in ends | succeeds"],
    ),
    (
        "do not tell the peer that the input has ended",
        &[
            "listen s | run | a accepts s | TALK | in ends | a hears nothing | a says late | out late \
         | a closes | succeeds",
        ],
    ),
    (
        "leave shortly after the end of the input",
        &["listen s | run | a accepts s | TALK | in ends | succeeds | a hears the end"],
    ),
    (
        "give up when nothing moves",
        &["listen s | run | a accepts s | ends | a hears the end"],
    ),
    (
        "send a file",
        &[
            "listen s | file file | run | a accepts s | a hears the file | a hears the end | succeeds",
        ],
    ),
    (
        "send over a Unix socket, one way",
        &[
            "listen s | run | a accepts s | in one | a hears one | in ends | a hears the end | succeeds",
        ],
    ),
    (
        "send over TCP, one way",
        &[
            "listen 7000 | run | a accepts 7000 | in one | a hears one | in ends | a hears the end | succeeds",
        ],
    ),
    (
        "send lines with CRLF",
        &[
            "listen 7000 | run | a accepts 7000 | in one | a hears one\\r | in ends | a hears the end | succeeds",
        ],
    ),
    (
        "send a packet",
        &["listen s packets | run | a accepts s | in one | in ends | a hears one | succeeds"],
    ),
    (
        "receive from a Unix socket, one way",
        &["listen s | run | a accepts s | a says one | out one | a closes | succeeds"],
    ),
    (
        "receive over TCP, one way",
        &[
            "listen 7000 | run | a accepts 7000 | a says one | out one | a closes | succeeds",
            "listen 7000 | run | a accepts 7000 | a says one | out one | a resets | ends",
        ],
    ),
    (
        "write to a FIFO",
        &["fifo f | run | a reads f | in one | a hears one | in ends | a hears the end | succeeds"],
    ),
    (
        "read a FIFO",
        &["fifo f | run | a writes f | a says one | out one | a closes | succeeds"],
    ),
    ("fail at once without a server", &["run | fails"]),
    ("fail at once without a server, by TCP", &["run | fails"]),
    (
        "wait 5 s for a server",
        &["run | listen s | a accepts s | TALK | HERE_FIRST"],
    ),
    (
        "wait 5 s for a server, by TCP",
        &["run | listen 7000 | a accepts 7000 | TALK | HERE_FIRST"],
    ),
    (
        "wait for a server for ever",
        &["run | listen s | a accepts s | TALK | HERE_FIRST"],
    ),
    (
        "limit the time to connect",
        &["listen 7000 full | run | fails"],
    ),
    ("limit the time to wait for a client", &["run | ends"]),
    ("a program that does not exist", &["run | fails"]),
    ("a program that fails", &["run | fails"]),
    (
        "send a datagram to a Unix socket",
        &["listen s datagrams | run | in one | in ends | s hears one | succeeds"],
    ),
    (
        "send a datagram by UDP",
        &["listen 7000 datagrams | run | in one | in ends | 7000 hears one | succeeds"],
    ),
    (
        "print datagrams of a Unix socket",
        &["run | bound s | a sends s | a says one | out one | a says two | out two | stop"],
    ),
    (
        "print datagrams of a UDP port",
        &["run | bound 7000 | a sends 7000 | a says one | out one | a says two | out two | stop"],
    ),
    (
        "ask by UDP",
        &[
            "listen 7000 datagrams | run | in one | in ends | 7000 hears one | 7000 says two | out two | succeeds",
        ],
    ),
    (
        "answer datagrams",
        &["run | bound 7000 | a sends 7000 | a says one | a hears ONE | stop"],
    ),
    ("a path that a server uses", &["listen s | run | fails"]),
    ("a port that a server uses", &["listen 7000 | run | fails"]),
    (
        "a path that a dead server has left",
        &["stale s | run | a connects s | TALK | HERE_FIRST"],
    ),
    (
        "a socket for the group too",
        &["run | mode s 660 | a connects s | TALK | HERE_FIRST"],
    ),
    (
        "print what all clients of a Unix socket send",
        &[
            "run | a connects s | b connects s | a says one | out one | b says two | out two | a closes | b closes | stop",
        ],
    ),
    (
        "print what all clients of a port send",
        &[
            "run | a connects 7000 | a says one | out one | a closes | b connects 7000 | b says two | out two | b closes | stop",
        ],
    ),
    (
        "an echo server on a Unix socket",
        &[
            "run | a connects s | b connects s | a says one | a hears one | b says two | b hears two \
         | a ends | a hears the end | b resets | c connects s | c says three | c hears three | c closes | stop",
        ],
    ),
    (
        "an echo server by TCP",
        &[
            "run | a connects 7000 | a says one | a hears one | a ends | a hears the end | a closes | stop",
        ],
    ),
    (
        "a filter that answers at the end",
        &[
            "run | a connects s | a says two | a says one | a ends | a hears one | a hears two | a hears the end | stop",
        ],
    ),
    (
        "a shell command",
        &["run | a connects s | a says hello | a hears got hello | a hears the end | stop"],
    ),
    (
        "one client at a time",
        &[
            "run | a connects s | a says one | a hears one | b connects s | b says two | b hears nothing \
         | a closes | b hears two | b closes | stop",
        ],
    ),
    (
        "a program whose failure harms only its client",
        &[
            "run | a connects s | a says bad | a is gone | b connects s | b says ok | b hears ok | b hears the end | stop",
        ],
    ),
    (
        "a program as a client",
        &[
            "listen s | run | a accepts s | a says hello | a ends | a hears HELLO | a hears the end | ends",
        ],
    ),
    (
        "TCP to a Unix socket",
        &[
            "listen s | run | a connects 7000 | b accepts s | BOTH | a ends | b hears the end | b says late \
         | a hears late | b closes | a hears the end | stop",
            "listen s | run | a connects 7000 | b accepts s | BOTH | b ends | a hears the end | a says late \
         | b hears late | a closes | b hears the end | stop",
            "listen s | run | a connects 7000 | b accepts s | BOTH | c connects 7000 | d accepts s | c says 1 \
         | d hears 1 | a resets | b is gone | d says 2 | c hears 2 | c closes | d hears the end | d closes | stop",
        ],
    ),
    (
        "a Unix socket to TCP",
        &[
            "listen 7000 | run | a connects s | b accepts 7000 | BOTH | a ends | b hears the end | b says late \
         | a hears late | b closes | a hears the end | stop",
            "listen 7000 | run | a connects s | b accepts 7000 | BOTH | b ends | a hears the end | a says late \
         | b hears late | a closes | b hears the end | stop",
        ],
    ),
    (
        "one port to another",
        &[
            "listen 7001 | run | a connects 7000 | b accepts 7001 | BOTH | a ends | b hears the end | b says late \
         | a hears late | b closes | a hears the end | stop",
            "listen 7001 | run | a connects 7000 | b accepts 7001 | BOTH | b ends | a hears the end | a says late \
         | b hears late | a closes | b hears the end | stop",
        ],
    ),
    (
        "one Unix socket to another",
        &[
            "listen up | run | a connects s | b accepts up | BOTH | a ends | b hears the end | b says late \
         | a hears late | b closes | a hears the end | stop",
            "listen up | run | a connects s | b accepts up | BOTH | b ends | a hears the end | a says late \
         | b hears late | a closes | b hears the end | stop",
        ],
    ),
    (
        "a port to a program for each client",
        &[
            "run | a connects 7000 | a says two | a says one | a ends | a hears one | a hears two | a hears the end | stop",
        ],
    ),
    (
        "a server that is down for a while",
        &[
            "run | a connects 7000 | a is gone | listen s | a connects 7000 | b accepts s | BOTH | a closes | b hears the end | b closes | stop",
        ],
    ),
    (
        "make the client wait for the server",
        &[
            "run | a connects 7000 | a says early | a hears nothing | listen s | b accepts s | b hears early | BOTH | a closes | b hears the end | b closes | stop",
        ],
    ),
    (
        "a limit on clients",
        &[
            "listen s | run | a connects 7000 | b accepts s | BOTH | c connects 7000 | c says early | c hears nothing \
         | a closes | b hears the end | b closes | b accepts s | b hears early | c closes | b hears the end | killed",
        ],
    ),
    (
        "a limit on silence",
        &[
            "listen s | run | a connects 7000 | b accepts s | a is gone | b is gone | a closes | stop",
        ],
    ),
    (
        "connect two servers",
        &[
            "listen s | listen up | run | a accepts s | b accepts up | BOTH | a ends | b hears the end | b says late \
         | a hears late | b closes | a hears the end | succeeds",
        ],
    ),
    (
        "connect two clients",
        &[
            "run | a connects s | b connects up | BOTH | a ends | b hears the end | b closes | a hears the end | a closes | stop",
        ],
    ),
];

#[test]
fn the_page_has_the_rows_that_are_played() {
    assert!(ROWS.len() >= 40, "{}", ROWS.len());
    let tasks = PAGE.lines().filter(|it| it.ends_with("` |")).count();
    assert_eq!(tasks, ROWS.len(), "rows of the page, and of this table");
    for (task, _) in ROWS {
        row_of(PAGE, task);
    }
}

#[test]
fn what_is_typed_for_socat_and_here_has_the_same_outcome() {
    let asked = std::env::var_os("AQUEDUCT_TEST_SOCAT").is_some_and(|it| it == "all");
    let installed = Command::new("socat").arg("-V").output().is_ok();
    if !installed {
        assert!(!asked, "socat is not installed");
        eprintln!("socat is not installed: its side of the tables is not played");
    }
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((task, plays)) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (theirs, ours) = row_of(PAGE, task);
                    let at = ROWS.iter().position(|it| it.0 == *task).unwrap();
                    let control = installed && (asked || at % CONTROL == 0);
                    let commands = [Some(ours), control.then_some(theirs)];
                    for command in commands.into_iter().flatten() {
                        for steps in *plays {
                            let steps = steps
                                .replace("TALK", TALK)
                                .replace("THERE_FIRST", THERE_FIRST)
                                .replace("HERE_FIRST", HERE_FIRST)
                                .replace("BOTH", BOTH);
                            if catch_unwind(|| play(&command, &steps)).is_err() {
                                wrong
                                    .lock()
                                    .unwrap()
                                    .push(format!("{command}\n    {steps}\n"));
                            }
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
