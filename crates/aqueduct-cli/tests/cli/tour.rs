//! `aqueduct tour`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{DEADLINE, Dir, aqueduct, expect, expect_text, run, start, until};

#[test]
fn every_step_is_shown_verified_and_cleaned_up() {
    let dir = Dir::new();
    fs::create_dir(dir.path("tmp")).unwrap();
    let mut tour = aqueduct(&["tour"]);
    let tour = start(tour.env("TMPDIR", dir.path("tmp")).stdin(Stdio::null()));
    let queue = format!("/aqueduct-tour-{}", tour.pid());
    let text = expect_text(tour.finish(), 0);
    for (i, title) in [
        "Pipes",
        "A FIFO",
        "Several writers",
        "A message queue",
        "Unix sockets",
        "Shared memory",
        "TCP",
    ]
    .iter()
    .enumerate()
    {
        assert!(text.contains(&format!("\n{}. {title}", i + 1)), "{text}");
    }
    let steps = text
        .split("\n\n")
        .filter(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    for step in steps {
        for fact in ["sent", "received", "verified", "speed"] {
            assert!(
                step.contains(&format!("\n     {fact}")),
                "{fact} is missing: {step}"
            );
        }
    }
    assert!(
        text.ends_with("All 7 steps verified; nothing is left behind.\n"),
        "{text}"
    );
    let killed = text
        .lines()
        .find_map(|it| it.strip_suffix(" of them by the one that was killed"))
        .expect("it is told");
    assert!(!killed.ends_with(" 0"), "{killed}");
    assert_eq!(
        text.matches("at the other end is process ").count(),
        3,
        "{text}"
    );
    for line in text.lines() {
        assert!(
            line.chars().count() < 80 || line.contains("fifo:"),
            "{line}"
        );
    }
    assert!(
        !text.contains('\x1b'),
        "no colours where there is no terminal"
    );
    assert_eq!(fs::read_dir(dir.path("tmp")).unwrap().count(), 0);
    let queue = std::ffi::CString::new(queue).unwrap();
    assert_eq!(
        nix::mqueue::mq_unlink(queue.as_c_str()),
        Err(nix::errno::Errno::ENOENT)
    );
}

#[test]
fn a_tour_that_is_stopped_fails_and_leaves_nothing_behind() {
    let dir = Dir::new();
    let mut tour = aqueduct(&["tour"]);
    let tour = start(tour.env("TMPDIR", dir.path("")).stdin(Stdio::null()));
    let entries = || fs::read_dir(dir.path("")).unwrap().count();
    until("it has begun", || entries() == 1);
    let children = format!("/proc/{0}/task/{0}/children", tour.pid());
    let children = || fs::read_to_string(&children).unwrap_or_default();
    until("a process is started", || !children().is_empty());
    let child = children().split(' ').next().unwrap().to_owned();
    tour.signal(Signal::SIGTERM);
    let (_, stderr) = expect(tour.finish(), 1);
    // A warning of what was on its way may come before it.
    assert!(
        stderr.ends_with("aqueduct: the tour was stopped before its end\n"),
        "{stderr}"
    );
    assert_eq!(entries(), 0);
    // Gone, or dead and not reaped yet by whoever inherited it: then it has no arguments.
    until("its process is gone", || {
        fs::read(format!("/proc/{child}/cmdline")).map_or(true, |it| it.is_empty())
    });
}

/// A tour and all that it has started, killed and reaped, and its queue removed, however the test ends.
struct Group {
    leader: Child,
    reaped: bool,
}

impl Group {
    /// Kills the tour alone.
    fn kill(&mut self) {
        self.leader.kill().unwrap();
        self.leader.wait().unwrap();
        self.reaped = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.leader.id();
        // After that the number may be another's.
        if !self.reaped {
            let _ = kill(Pid::from_raw(-(pid as i32)), Signal::SIGKILL);
            let _ = self.leader.wait();
        }
        let _ = nix::mqueue::mq_unlink(format!("/aqueduct-tour-{pid}").as_str());
    }
}

/// It is killed after as many lines as go into 80 so many times: 5, or the number in AQUEDUCT_TEST_KILLS.
#[test]
fn a_tour_that_is_killed_leaves_no_process_but_files_to_clean() {
    let kills = std::env::var("AQUEDUCT_TEST_KILLS").map_or(5, |it| it.parse().unwrap());
    for moment in 1..=kills {
        let lines = 80 * moment / kills;
        let dir = Dir::new();
        let (out, stdout) = io::pipe().unwrap();
        // Its processes inherit this one, so that the end of it is the end of all of them.
        let (err, stderr) = io::pipe().unwrap();
        let mut tour = aqueduct(&["tour"]);
        tour.env("TMPDIR", dir.path("")).stdin(Stdio::null());
        tour.stdout(stdout).stderr(stderr).process_group(0);
        let mut group = Group {
            leader: tour.spawn().unwrap(),
            reaped: false,
        };
        drop(tour);
        let (tx, rx) = channel();
        thread::spawn(move || {
            let mut out = BufReader::new(out).lines();
            let count = out.by_ref().take(lines).map_while(Result::ok).count();
            // Open until the tour is killed.
            let _ = tx.send((count, out));
        });
        let (count, _out) = rx.recv_timeout(8 * DEADLINE).expect("it goes on");
        group.kill();
        assert_eq!(count, lines, "it was killed before its end");

        let (tx, rx) = channel();
        thread::spawn(move || tx.send(io::read_to_string(err)));
        let gone = rx.recv_timeout(DEADLINE);
        assert!(
            gone.is_ok(),
            "a process is left of a tour killed after {lines} lines"
        );
        until("its files are removed", || {
            run(&mut aqueduct(&[
                "clean",
                "--yes",
                dir.path("").to_str().unwrap(),
            ]));
            let mut left = fs::read_dir(dir.path("")).unwrap().flatten();
            left.all(|it| fs::read_dir(it.path()).is_ok_and(|it| it.count() == 0))
        });
    }
}

#[test]
fn a_tour_with_a_closed_stdout_still_verifies_to_its_end() {
    let dir = Dir::new();
    for broken in [false, true] {
        let (reader, out) = io::pipe().unwrap();
        let mut tour = aqueduct(&["tour"]);
        tour.stdout(out).stderr(Stdio::piped());
        if broken {
            // Its working directory cannot be made.
            tour.env("TMPDIR", dir.path("nowhere"));
        }
        let tour = tour.spawn().unwrap();
        let mut reader = BufReader::new(reader);
        if broken {
            drop(reader);
        } else {
            reader.read_line(&mut String::new()).unwrap();
            drop(reader);
        }
        let output = tour.wait_with_output().unwrap();
        let (_, stderr) = expect(output, i32::from(broken));
        assert_eq!(stderr.contains("temporary directory"), broken, "{stderr}");
        assert_eq!(stderr.is_empty(), !broken, "{stderr}");
    }
}

#[test]
fn there_are_colours_on_a_terminal_unless_they_are_not_wanted() {
    for (no_color, colors) in [("", true), ("1", false)] {
        let pty = nix::pty::openpty(None, None).unwrap();
        // It is killed, and then what it has made stays: in a directory of ours.
        let dir = Dir::new();
        let mut tour = aqueduct(&["tour"]);
        tour.env("NO_COLOR", no_color)
            .env("TMPDIR", dir.path(""))
            .stdout(pty.slave)
            .stderr(Stdio::null());
        let mut child = tour.spawn().unwrap();
        drop(tour);
        let mut lines = BufReader::new(File::from(pty.master))
            .lines()
            .map_while(Result::ok);
        lines.find(|it| it.contains("1. Pipes")).unwrap();
        let fact = lines.find(|it| it.contains("sent")).unwrap();
        assert_eq!(fact.contains('\x1b'), colors, "{fact:?}");
        let _ = child.kill();
        child.wait().unwrap();
    }
}

#[test]
fn a_part_that_nobody_knows_is_an_error() {
    let (_, stderr) = expect(run(&mut aqueduct(&["tour-peer", "clown"])), 1);
    assert!(stderr.contains("clown"), "{stderr}");
}
