//! `aqueduct relay` between every two kinds of address.

mod restarts;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;

use crate::mq::Queue;
use crate::support::{
    Dir, Running, aqueduct, expect, expect_text, read_with_deadline, run, start, start_with_input,
    until, until_bound,
};

/// An address of TCP that no other test has, and that nothing connects from.
pub(super) fn tcp() -> String {
    static COUNT: AtomicU16 = AtomicU16::new(20_000);
    let port = COUNT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let [_, a, b, c] = pid.to_be_bytes();
    // Loopback is all of 127.0.0.0/8, and 127.0.0.1 is what is connected from.
    format!("tcp://127.{}.{b}.{c}:{port}", 100 + a)
}

const KINDS: [&str; 5] = ["fifo", "mq", "unix", "unixpacket", "tcp"];

/// An address of a kind, and what has to be kept for as long as it is used.
struct Place {
    address: String,
    _queue: Option<Queue>,
}

fn place(kind: &str, dir: &Dir, name: &str) -> Place {
    let queue = (kind == "mq").then(Queue::new);
    let address = match &queue {
        Some(queue) => queue.address(),
        None if kind == "tcp" => tcp(),
        None => format!("{kind}:{}", dir.path(name).display()),
    };
    Place {
        address,
        _queue: queue,
    }
}

fn relay(from: &str, to: &str) -> Running {
    start(&mut aqueduct(&["relay", from, to, "--wait", "30s"]))
}

/// Tells a relay to stop; all is well with it.
fn stop(relay: Running) {
    relay.signal(Signal::SIGTERM);
    expect(relay.finish(), 0);
}

#[test]
fn lines_go_from_any_kind_to_any_kind_whoever_starts_first() {
    let dir = Dir::new();
    thread::scope(|scope| {
        for from in KINDS {
            let dir = &dir;
            scope.spawn(move || {
                for to in KINDS {
                    for order in ["reader first", "sender first"] {
                        let (a, b) = (format!("{from}-{to}-a"), format!("{from}-{to}-b"));
                        let (a, b) = (place(from, dir, &a), place(to, dir, &b));
                        let (a, b) = (a.address.as_str(), b.address.as_str());
                        let recv = || start(&mut aqueduct(&["recv", b, "-n", "3"]));
                        let send =
                            || start(&mut aqueduct(&["send", a, "x", "y", "z", "--wait", "30s"]));
                        let (recv, relay, send) = if order == "reader first" {
                            let recv = recv();
                            let relay = relay(a, b);
                            (recv, relay, send())
                        } else {
                            let send = send();
                            let relay = relay(a, b);
                            (recv(), relay, send)
                        };
                        let (out, err) = expect(recv.finish(), 0);
                        assert_eq!(out, b"x\ny\nz\n", "{from} to {to}, {order}: {err}");
                        expect(send.finish(), 0);
                        stop(relay);
                    }
                }
            });
        }
    });
}

/// Clients of a socket may wait for answers that never come back.
#[test]
fn a_relay_between_two_way_addresses_says_that_it_is_one_way() {
    let dir = Dir::new();
    let unix = |name: &str| format!("unix:{}", dir.path(name).display());
    let fifo = dir.fifo("fifo");
    for (from, to, flags, told) in [
        (unix("a"), "exec:cat".to_owned(), &[][..], true),
        (unix("a"), "exec:cat".to_owned(), &["-q"], false),
        (unix("a"), fifo.clone(), &["--wait", "10ms"], false),
        ("exec:true".to_owned(), "exec:cat".to_owned(), &[], false),
        ("stdio:".to_owned(), "exec:cat".to_owned(), &[], false),
    ] {
        let mut relay = aqueduct(&["relay", &from, &to, "--timeout", "50ms"]);
        let output = run(relay.args(flags));
        let said = String::from_utf8(output.stderr).unwrap();
        let says = said.contains("relay is one-way") && said.contains("proxy");
        assert_eq!(says, told, "{from} {to}: {said}");
    }
}

#[test]
fn sockets_can_be_turned_round_on_both_sides() {
    let dir = Dir::new();
    for kind in ["unix", "unixpacket", "tcp"] {
        let (a, b) = (place(kind, &dir, "a"), place(kind, &dir, "b"));
        let (a, b) = (a.address.as_str(), b.address.as_str());
        let send = start(&mut aqueduct(&[
            "send", a, "--bind", "x", "y", "--wait", "30s",
        ]));
        let mut relay = aqueduct(&["relay", a, b, "--connect", "--bind", "--wait", "30s"]);
        let relay = start(&mut relay);
        let recv = run(&mut aqueduct(&["recv", b, "--connect", "--wait", "30s"]));
        assert_eq!(expect(recv, 0).0, b"x\ny\n", "{kind}");
        expect(send.finish(), 0);
        // Its only sender has ended, and so has it.
        expect(relay.finish(), 0);
    }
}

#[test]
fn priorities_and_boundaries_are_kept_from_queue_to_queue() {
    let (a, b) = (Queue::new(), Queue::new());
    let (from, to) = (a.address(), b.address());
    let message = "two\nlines";
    for priority in ["1", "9", "5"] {
        let args = ["send", &from, "--priority", priority, message];
        expect_text(run(&mut aqueduct(&args)), 0);
    }
    let relay = relay(&from, &to);
    let args = ["recv", &to, "-n", "3", "--output", "json"];
    until("all are there", || b.depth() == 3);
    let lines = expect_text(run(&mut aqueduct(&args)), 0);
    let parsed = lines.lines().map(|it| serde_json::from_str(it).unwrap());
    let seen: Vec<_> = parsed
        .map(|it: serde_json::Value| {
            (
                it["priority"].as_u64(),
                it["text"].as_str().map(str::to_owned),
            )
        })
        .collect();
    let wanted = [9, 5, 1].map(|it| (Some(it), Some(message.to_owned())));
    assert_eq!(seen, wanted);
    stop(relay);
}

#[test]
fn the_frame_flag_says_how_byte_streams_are_cut() {
    let dir = Dir::new();
    let queue = Queue::new();
    let (from, to) = (dir.fifo("x"), queue.address());
    let relay = start(&mut aqueduct(&["relay", &from, &to, "--frame", "nul"]));
    let send = run(&mut aqueduct(&[
        "send", &from, "--frame", "nul", "a\nb", "c",
    ]));
    expect(send, 0);
    let recv = run(&mut aqueduct(&["recv", &to, "-n", "2", "--output", "hex"]));
    assert_eq!(expect_text(recv, 0), "610a62\n63\n");
    expect_text(relay.finish(), 0);
}

#[test]
fn a_slow_reader_holds_up_the_sender_and_loses_nothing() {
    let dir = Dir::new();
    let queue = Queue::new();
    let (from, to) = (dir.fifo("x"), queue.address());
    let relay = relay(&from, &to);
    // Many times what the FIFO and the relay hold.
    let lines: String = (0..8000).map(|i| format!("{i:060}\n")).collect();
    let mut send = start_with_input(&mut aqueduct(&["send", &from]), &lines);
    until("the queue is full", || queue.depth() == 4);
    assert!(send.is_running());
    let recv = run(&mut aqueduct(&["recv", &to, "-n", "8000"]));
    assert!(expect_text(recv, 0) == lines);
    expect_text(send.finish(), 0);
    expect_text(relay.finish(), 0);
}

#[test]
fn an_address_and_itself_are_refused_before_anything_is_made() {
    let dir = Dir::new();
    let (fifo, tcp) = (dir.fifo("x"), tcp());
    let unix = format!("unix:{}", dir.path("x").display());
    let packet = format!("unixpacket:{}?mode=600", dir.path("./x").display());
    for (from, to) in [
        (&fifo, &format!("{fifo}?persist=true")),
        (&unix, &packet),
        (&tcp, &tcp),
        (&"mq:/a".to_owned(), &"mq:///a?capacity=3".to_owned()),
    ] {
        let (_, stderr) = expect(run(&mut aqueduct(&["relay", from, to])), 2);
        assert!(stderr.contains("are the same"), "{stderr}");
    }
    // Nor a pipe that it inherits twice.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut relay = aqueduct(&["relay", "stdio:", "stdio:"]);
    let mut child = relay.stdin(reader).stdout(writer).spawn().unwrap();
    drop(relay);
    let mut code = None;
    until("it ends", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    assert_eq!(code.unwrap().code(), Some(2));
    assert_eq!(std::fs::read_dir(dir.path("")).unwrap().count(), 0);
}

#[test]
fn who_does_not_come_in_time_is_told_with_3() {
    let dir = Dir::new();
    let (fifo, tcp) = (dir.fifo("x"), tcp());
    let (_, stderr) = expect(
        run(&mut aqueduct(&["relay", &fifo, &tcp, "--wait", "50ms"])),
        3,
    );
    assert!(
        stderr.contains("no server appeared within 50ms"),
        "{stderr}"
    );
    assert!(!dir.path("x").exists(), "it was not begun with");
    let queue = Queue::new();
    let args = ["relay", &fifo, &queue.address(), "--timeout", "50ms"];
    let (_, stderr) = expect(run(&mut aqueduct(&args)), 3);
    assert!(stderr.contains("nothing arrived from fifo:"), "{stderr}");
}

#[test]
fn a_relay_goes_on_with_the_next_reader_or_gives_up_with_3() {
    let dir = Dir::new();
    let from = format!("unix:{}", dir.path("a").display());
    let to = format!("unix:{}", dir.path("b").display());
    let first = start(&mut aqueduct(&["recv", &to, "-n", "1"]));
    let relay = start(&mut aqueduct(&["relay", &from, &to, "--wait", "2s"]));
    let send = |text| {
        let args = ["send", &from, text, "--wait", "30s"];
        expect(run(&mut aqueduct(&args)), 0);
    };
    send("one");
    assert_eq!(expect_text(first.finish(), 0), "one\n");
    let second = start(&mut aqueduct(&["recv", &to, "-n", "1"]));
    until_bound(&dir.path("b"));
    send("two");
    assert_eq!(expect_text(second.finish(), 0), "two\n");
    send("three");
    let (_, stderr) = expect(relay.finish(), 3);
    assert!(stderr.contains("gave up connecting after "), "{stderr}");
    assert!(
        stderr.contains("what was taken and not sent is lost"),
        "{stderr}"
    );
    // Nothing is said to the developers of the command.
    assert!(!stderr.contains("drop"), "{stderr}");
}

#[test]
fn a_message_the_target_cannot_carry_is_reported_as_lost() {
    let dir = Dir::new();
    let queue = Queue::new();
    let (from, to) = (dir.fifo("x"), queue.address());
    let relay = relay(&from, &to);
    let args = ["send", &from, "fine", &"x".repeat(65), "sent"];
    let _ = run(&mut aqueduct(&args));
    let (_, stderr) = expect(relay.finish(), 1);
    assert!(stderr.contains("lost") && stderr.contains("64"), "{stderr}");
    let recv = run(&mut aqueduct(&["recv", &to, "-n", "2"]));
    assert_eq!(expect_text(recv, 0), "fine\nsent\n");
    // Where an empty message would be an end.
    let packets = format!("unixpacket:{}", dir.path("y").display());
    let recv = start(&mut aqueduct(&["recv", &packets]));
    let relay = start_with_input(&mut aqueduct(&["relay", "stdio:", &packets]), "a\n\nb\n");
    let (_, stderr) = expect(relay.finish(), 1);
    assert!(
        stderr.contains("lost") && stderr.contains("empty"),
        "{stderr}"
    );
    recv.signal(Signal::SIGTERM);
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\n");
}

#[test]
fn a_datagram_with_a_newline_costs_no_other() {
    let dir = Dir::new();
    let path = dir.path("x");
    let from = format!("unixgram:{}", path.display());
    let relay = relay(&from, "stdio:");
    until_bound(&path);
    let sender = UnixDatagram::unbound().unwrap();
    for message in ["one", "a\nb", "two"] {
        sender.send_to(message.as_bytes(), &path).unwrap();
    }
    relay.printed(8);
    relay.signal(Signal::SIGTERM);
    let (stdout, stderr) = expect(relay.finish(), 1);
    assert_eq!(stdout, b"one\ntwo\n");
    let warning = "WARN a message cannot be sent and is lost";
    assert!(stderr.contains(warning), "{stderr}");
    assert!(stderr.contains("has a newline in it (byte 1)"), "{stderr}");
}

#[test]
fn a_second_signal_gives_up_what_the_reader_does_not_take() {
    let queue = Queue::new();
    let to = queue.address();
    for _ in 0..4 {
        expect_text(run(&mut aqueduct(&["send", &to, "full"])), 0);
    }
    let mut relay = start(aqueduct(&["relay", "stdio:", &to]).stdin(Stdio::piped()));
    let mut stdin = relay.stdin();
    stdin.write_all(b"one\ntwo\n").unwrap();
    until_taken(&relay);
    // Two that come together may be one.
    until("it ends", || {
        if relay.is_running() {
            relay.signal(Signal::SIGINT);
        }
        !relay.is_running()
    });
    let (_, stderr) = expect(relay.finish(), 1);
    assert!(stderr.contains("messages are lost"), "{stderr}");
}

/// Waits until nothing is left in the pipe on its standard input.
fn until_taken(relay: &Running) {
    let stdin = File::open(format!("/proc/{}/fd/0", relay.pid())).unwrap();
    crate::stop::until_drained(&stdin);
}

#[test]
fn what_was_taken_is_delivered_on_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let queue = Queue::new();
        let to = queue.address();
        let mut relay = start(aqueduct(&["relay", "stdio:", &to]).stdin(Stdio::piped()));
        let mut stdin = relay.stdin();
        let lines: String = (0..1000).map(|i| format!("{i}\n")).collect();
        stdin.write_all(lines.as_bytes()).unwrap();
        // All is in its hands, and four are in the queue.
        until_taken(&relay);
        until("the queue is full", || queue.depth() == 4);
        relay.signal(signal);
        let recv = run(&mut aqueduct(&["recv", &to, "-n", "1000"]));
        assert!(expect_text(recv, 0) == lines);
        expect_text(relay.finish(), 0);
    }
}

#[test]
fn a_closed_standard_output_ends_it_quietly() {
    let (reader, out) = std::io::pipe().unwrap();
    let mut relay = aqueduct(&["relay", "stdio:", "stdio:"]);
    relay.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = relay.stdout(out).spawn().unwrap();
    drop(relay);
    let mut stdin = child.stdin.take().unwrap();
    let feeding = thread::spawn(move || while stdin.write_all(b"y\n").is_ok() {});
    assert_eq!(read_with_deadline(reader, 10), b"y\n".repeat(5));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    feeding.join().unwrap();
}

#[test]
fn a_closed_stdout_ends_the_relay_before_it_takes_more() {
    let queue = Queue::new();
    let from = queue.address();
    let (reader, out) = std::io::pipe().unwrap();
    let mut relay = aqueduct(&["relay", &from, "stdio:"]);
    let mut child = relay.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    drop(relay);
    expect_text(run(&mut aqueduct(&["send", &from, "one"])), 0);
    assert_eq!(read_with_deadline(reader, 4), b"one\n");
    // Nothing more comes, and still it ends.
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    expect_text(run(&mut aqueduct(&["send", &from, "two"])), 0);
    assert_eq!(queue.depth(), 1);
}

#[test]
fn a_program_can_be_either_end_and_its_failure_is_told() {
    let queue = Queue::new();
    let to = queue.address();
    expect_text(
        run(&mut aqueduct(&["relay", "exec:printf a\\nb\\n", &to])),
        0,
    );
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let relay = relay(&fifo, "exec:tr a-z A-Z");
    expect(run(&mut aqueduct(&["send", &fifo, "hi"])), 0);
    assert_eq!(expect_text(relay.finish(), 0), "HI\n");
    let (_, stderr) = expect(run(&mut aqueduct(&["relay", "exec:false", &to])), 1);
    assert!(stderr.contains("exit status: 1"), "{stderr}");
}

#[test]
fn counts_and_rate_are_shown_on_a_terminal_alone() {
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(&size, None).unwrap();
    let mut relay = aqueduct(&["relay", "stdio:", "stdio:"]);
    relay
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = relay.stderr(pty.slave).spawn().unwrap();
    drop(relay);
    let mut stdin = child.stdin.take().unwrap();
    let feeding = thread::spawn(move || while stdin.write_all(b"y\n").is_ok() {});
    let mut screen = File::from(pty.master);
    let mut shown = String::new();
    let mut part = [0; 1024];
    while !(shown.contains("messages, ") && shown.contains("/s")) {
        let n = screen.read(&mut part).unwrap();
        shown += &String::from_utf8_lossy(&part[..n]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    feeding.join().unwrap();
}
