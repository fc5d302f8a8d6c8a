//! A chain of relays that are stopped and started again while messages go through it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Running, aqueduct, expect, place, run, start, stop, tcp};
use crate::mq::Queue;
use crate::stop::until_ready;
use crate::support::{Dir, start_with_input, until};

/// How long nothing may arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// One after the other, from the first to the last.
struct Chain {
    addresses: Vec<[String; 2]>,
    relays: Vec<Option<Running>>,
}

impl Chain {
    fn start(&mut self, i: usize) {
        let [from, to] = &self.addresses[i];
        let relay = start(&mut aqueduct(&["relay", from, to, "--wait", "30s"]));
        until_ready(relay.pid());
        self.relays[i] = Some(relay);
    }

    fn signal(&self, i: usize) {
        if let Some(relay) = &self.relays[i] {
            relay.signal(Signal::SIGTERM);
        }
    }

    /// Waits for one that was told to stop. Nothing may have gone wrong.
    fn wait(&mut self, i: usize) {
        if let Some(relay) = self.relays[i].take() {
            let (_, stderr) = expect(relay.finish(), 0);
            let usual = ["waiting for", "relay is one-way"];
            let is_usual = |line: &str| usual.iter().any(|it| line.contains(it));
            let bad = stderr.lines().find(|it| !is_usual(it));
            assert_eq!(bad, None, "{stderr}");
        }
    }

    /// Stops one relay and starts it again, or all of them at once, the last one first: each has
    /// to deliver to the next.
    fn restart(&mut self, n: u64) {
        let all = self.relays.len();
        let which = match n as usize % (all + 1) {
            i if i < all => i..i + 1,
            _ => 0..all,
        };
        which.clone().for_each(|i| self.signal(i));
        for i in which.rev() {
            self.wait(i);
            self.start(i);
        }
    }
}

/// Numbered lines through `send | relay | relay | relay | recv`, over FIFO, queue, Unix socket and
/// TCP, with relays stopped and started again meanwhile.
fn numbered_lines_arrive(lines: u64, restarts: u64) {
    let dir = Dir::new();
    let queue = Queue::new();
    let (fifo, tcp) = (dir.fifo("fifo"), tcp());
    let unix = format!("unix:{}", dir.path("unix").display());
    let links = [fifo.clone(), queue.address(), unix, tcp.clone()];
    let mut chain = Chain {
        addresses: links
            .windows(2)
            .map(|it| [it[0].clone(), it[1].clone()])
            .collect(),
        relays: vec![None, None, None],
    };

    let mut recv = aqueduct(&["recv", &tcp, "-n", &lines.to_string()]);
    let mut recv = recv.stdout(Stdio::piped()).spawn().unwrap();
    let printed = recv.stdout.take().unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let reading = {
        let seen = Arc::clone(&seen);
        thread::spawn(move || {
            for (i, line) in BufReader::new(printed).lines().enumerate() {
                // The first that is lost, doubled, torn or out of order ends it.
                assert_eq!(line.unwrap(), (i + 1).to_string());
                seen.store(i as u64 + 1, Ordering::Release);
            }
        })
    };
    for i in 0..chain.relays.len() {
        chain.start(i);
    }
    let mut send = aqueduct(&["send", &fifo, "--reconnect"]);
    let mut send = start(send.stdin(Stdio::piped()));
    let mut stdin = send.stdin();
    let writing = thread::spawn(move || {
        let mut text = String::new();
        for i in 1..=lines {
            text += &format!("{i}\n");
            if i % 1000 == 0 || i == lines {
                stdin.write_all(text.as_bytes()).unwrap();
                text.clear();
            }
        }
    });

    for n in 0..=restarts {
        let enough = lines * (n + 1) / (restarts + 1);
        let mut last = (0, Instant::now());
        while seen.load(Ordering::Acquire) < enough && !reading.is_finished() {
            let now = seen.load(Ordering::Acquire);
            if now != last.0 {
                last = (now, Instant::now());
            }
            assert!(last.1.elapsed() < PATIENCE, "nothing comes after {now}");
            thread::sleep(Duration::from_millis(1));
        }
        if n < restarts && !reading.is_finished() {
            chain.restart(n);
        }
    }
    reading.join().unwrap();
    assert_eq!(seen.load(Ordering::Acquire), lines);
    assert!(recv.wait().unwrap().success());
    writing.join().unwrap();
    expect(send.finish(), 0);
    for i in 0..chain.relays.len() {
        chain.signal(i);
    }
    for i in (0..chain.relays.len()).rev() {
        chain.wait(i);
    }
}

/// What it has taken from a queue and not passed on is lost with it. That is a handful.
#[test]
fn a_killed_relay_from_a_queue_loses_at_most_8_messages() {
    const MESSAGES: usize = 20_000;
    let (dir, queue) = (Dir::new(), Queue::new());
    let (from, path) = (queue.address(), dir.path("to"));
    let listener = UnixListener::bind(&path).unwrap();
    let to = format!("unix:{}", path.display());
    let mut relay = start(&mut aqueduct(&["relay", &from, &to]));
    let mut reader = BufReader::new(listener.accept().unwrap().0);
    let input: String = (0..MESSAGES).map(|it| format!("{it:060}\n")).collect();
    let send = start_with_input(&mut aqueduct(&["send", &from]), input);
    // It is blocked by a reader that does not read when the queue stays full.
    let mut full = 0;
    until("the socket and the queue are full", || {
        full = if queue.depth() == 4 { full + 1 } else { 0 };
        full > 50
    });
    relay.signal(Signal::SIGKILL);
    relay.wait();
    let mut seen = vec![false; MESSAGES];
    let mut line = String::new();
    // Its last line may be torn.
    while reader.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        seen[line.trim_end().parse::<usize>().unwrap()] = true;
        line.clear();
    }
    let passed_on = seen.iter().filter(|it| **it).count();
    assert!((100..MESSAGES).contains(&passed_on), "{passed_on}");
    let rest = start(&mut aqueduct(&["recv", &from, "--timeout", "3s"]));
    expect(send.finish(), 0);
    let (rest, _) = expect(rest.finish(), 3);
    for line in String::from_utf8(rest).unwrap().lines() {
        seen[line.parse::<usize>().unwrap()] = true;
    }
    let lost = seen.iter().filter(|it| !**it).count();
    assert!(lost <= 8, "{lost} are lost");
}

/// A client of a server that restarts.
#[test]
fn relay_reconnect_goes_on_with_the_next_server() {
    let dir = Dir::new();
    for kind in ["unix", "unixpacket", "tcp"] {
        let (from, to) = (place(kind, &dir, "from"), place("fifo", &dir, kind));
        let (from, to) = (from.address.as_str(), to.address.as_str());
        let recv = start(&mut aqueduct(&["recv", to]));
        let args = ["relay", from, to, "--connect", "--reconnect", "--wait"];
        let relay = start(aqueduct(&args).arg("30s"));
        for (line, printed) in [("one", 4), ("two", 8)] {
            expect(run(&mut aqueduct(&["send", from, "--bind", line])), 0);
            recv.printed(printed);
        }
        stop(relay);
        assert_eq!(expect(recv.finish(), 0).0, b"one\ntwo\n", "{kind}");
    }
}

#[test]
fn relays_stopped_and_started_again_lose_and_double_nothing() {
    let lines = std::env::var("AQUEDUCT_TEST_LINES").ok();
    let lines = lines.map_or(20_000, |it| it.parse().expect("it is a number"));
    numbered_lines_arrive(lines, if lines < 1_000_000 { 8 } else { 20 });
}
