//! Where a reply of `aqueduct call` ends, against servers of many habits.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::SockRef;

use crate::support::{DEADLINE, aqueduct, expect, expect_text, run, start, start_with_input};

/// One connection to a port of its own, and what becomes of it.
fn server(with: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        with(stream);
    });
    (address, thread)
}

/// Reads a line and takes nothing of what follows; an empty one at the end.
fn line(stream: &mut TcpStream) -> String {
    let mut line = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

/// Whether anything, or the end, can be read now.
fn has_input(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    peeked.is_ok()
}

fn call(address: &str, args: &[&str]) -> Command {
    let mut call = aqueduct(&["call", address]);
    call.args(args).stdin(Stdio::null());
    call
}

/// A server that reads a request and answers with many lines, as HAProxy does, and then does
/// something else.
fn many(end: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>, String) {
    let reply: String = (0..40).map(|i| format!("Name{i}: value\n")).collect();
    let text = reply.clone();
    let (address, thread) = server(move |mut stream| {
        assert_eq!(line(&mut stream), "show info");
        stream.write_all(text.as_bytes()).unwrap();
        end(stream);
    });
    (address, thread, reply)
}

#[test]
fn one_line_of_many_is_exit_1_and_says_how_much_is_left() {
    let (address, server, reply) = many(drop);
    let (out, said) = expect(run(&mut call(&address, &["show info"])), 1);
    assert_eq!(out, b"Name0: value\n");
    let left = reply.len() - out.len();
    assert!(
        said.contains(&format!(": {left} unexpected bytes ")),
        "{said}"
    );
    assert!(said.contains("--all"), "{said}");
    server.join().unwrap();
}

#[test]
fn all_is_every_line_until_the_peer_closes() {
    for args in [&["--all"][..], &["--frame", "raw"]] {
        let (address, server, reply) = many(drop);
        let mut call = call(&address, args);
        let call = start_with_input(&mut call, "show info\n");
        assert_eq!(expect_text(call.finish(), 0), reply);
        server.join().unwrap();
    }
}

#[test]
fn replies_are_counted_and_a_missing_one_is_an_error() {
    let (address, server, reply) = many(|mut stream| assert_eq!(line(&mut stream), ""));
    let output = run(&mut call(&address, &["--replies", "40", "show info"]));
    assert_eq!(expect_text(output, 0), reply);
    server.join().unwrap();
    let (address, server, reply) = many(drop);
    let output = run(&mut call(&address, &["--replies", "41", "show info"]));
    let (out, said) = expect(output, 1);
    assert_eq!(out, reply.as_bytes());
    assert!(said.contains("closed after 40 of 41 messages"), "{said}");
    server.join().unwrap();
}

#[test]
fn until_ends_with_its_line_with_or_without_a_carriage_return() {
    for (end, text) in [
        ("END\n", "END"),
        ("END\r\n", "END"),
        ("\n", ""),
        (".\r\n", "."),
    ] {
        let (address, server) = server(move |mut stream| {
            assert_eq!(line(&mut stream), "stats");
            write!(stream, "STAT a END\nENDING\nEND \n{end}").unwrap();
            assert_eq!(line(&mut stream), "");
        });
        let output = run(&mut call(&address, &["--until", text, "stats"]));
        let expected = format!("STAT a END\nENDING\nEND \n{end}");
        assert_eq!(expect_text(output, 0), expected, "{text:?}");
        server.join().unwrap();
    }
    let (address, server, reply) = many(drop);
    let output = run(&mut call(&address, &["--until", "END", "show info"]));
    let (out, said) = expect(output, 1);
    assert_eq!(out, reply.as_bytes());
    assert!(said.contains("closed before it sent \"END\""), "{said}");
    server.join().unwrap();
}

#[test]
fn any_text_can_be_waited_for_and_little_of_it_is_told() {
    for end in ["-", "--", "-e", "--all", "\u{1b}[2J", "é"] {
        let mut call = call("exec:cat", &["--until", end, "--frame", "lines"]);
        let output = start_with_input(&mut call, format!("one\n{end}\n"));
        assert_eq!(expect_text(output.finish(), 0), format!("one\n{end}\n"));
    }
    let long = "x".repeat(100_000);
    let (_, said) = expect(run(&mut call("exec:cat", &["--until", &long, "hi"])), 1);
    assert!(said.contains("before it sent \"xxx"), "{said}");
    assert!(said.len() < 200, "{} bytes", said.len());
}

#[test]
fn idle_ends_with_a_pause_behind_the_first_message() {
    let (go, gone) = channel();
    let (address, server, reply) = many(move |mut stream| {
        // It stays, and says nothing.
        gone.recv().unwrap();
        assert_eq!(line(&mut stream), "");
    });
    let output = run(&mut call(&address, &["--idle", "100ms", "show info"]));
    assert_eq!(expect_text(output, 0), reply);
    go.send(()).unwrap();
    server.join().unwrap();
    // A peer that is slow to begin is waited for.
    let (address, server) = self::server(|mut stream| {
        line(&mut stream);
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"late\n").unwrap();
        line(&mut stream);
    });
    let output = run(&mut call(&address, &["--idle", "20ms", "hi"]));
    assert_eq!(expect_text(output, 0), "late\n");
    server.join().unwrap();
}

#[test]
fn each_line_of_input_is_answered_before_the_next_is_sent() {
    let (address, server) = server(|mut stream| {
        for i in 1..=3 {
            let request = line(&mut stream);
            assert!(!has_input(&stream), "the next one is sent already");
            writeln!(stream, "{request} is {i}").unwrap();
        }
        assert_eq!(line(&mut stream), "");
    });
    let call = start_with_input(&mut call(&address, &[]), "a\nb\nc\n");
    assert_eq!(expect_text(call.finish(), 0), "a is 1\nb is 2\nc is 3\n");
    server.join().unwrap();
}

#[test]
fn input_of_one_request_is_sent_without_waiting() {
    for (args, end) in [
        (&["--replies", "2"][..], false),
        (&["--until", "two"], false),
        (&["--idle", "50ms"], false),
        (&["--all"], true),
    ] {
        let (address, server) = server(move |mut stream| {
            for expected in ["a", "b", "c"] {
                assert_eq!(line(&mut stream), expected);
            }
            if end {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the end of the request");
            }
            stream.write_all(b"one\ntwo\n").unwrap();
            if !end {
                assert_eq!(line(&mut stream), "");
            }
        });
        let call = start_with_input(&mut call(&address, args), "a\nb\nc\n");
        assert_eq!(expect_text(call.finish(), 0), "one\ntwo\n", "{args:?}");
        server.join().unwrap();
    }
}

/// A server that speaks first, as SMTP's do.
fn greeter() -> (String, JoinHandle<()>) {
    server(|mut stream| {
        assert!(!has_input(&stream), "it is asked before it has spoken");
        stream.write_all(b"220 welcome\r\n").unwrap();
        let request = line(&mut stream);
        write!(stream, "250 {request}\r\n").unwrap();
        assert_eq!(line(&mut stream), "");
    })
}

#[test]
fn a_greeting_is_not_the_reply() {
    let (address, server) = greeter();
    let output = run(&mut call(&address, &["--greeting", "EHLO me"]));
    assert_eq!(expect_text(output, 0), "250 EHLO me\r\n");
    server.join().unwrap();
    let (address, server) = self::server(drop);
    let (_, said) = expect(run(&mut call(&address, &["--greeting", "hi"])), 1);
    assert!(said.contains("closed before its greeting"), "{said}");
    server.join().unwrap();
}

#[test]
fn a_peer_that_answers_before_it_is_asked_is_exit_1() {
    let (address, server) = server(|mut stream| {
        stream.write_all(b"welcome\n").unwrap();
        line(&mut stream);
        stream.write_all(b"the reply\n").unwrap();
        line(&mut stream);
    });
    let (out, said) = expect(run(&mut call(&address, &["hi"])), 1);
    assert_eq!(out, b"welcome\n");
    assert!(
        said.contains(": 10 unexpected bytes ") && said.contains("--greeting"),
        "{said}"
    );
    server.join().unwrap();
}

#[test]
fn what_comes_between_requests_is_not_the_next_reply() {
    let (address, server) = server(|mut stream| {
        line(&mut stream);
        stream.write_all(b"one\nevent\n").unwrap();
        assert_eq!(line(&mut stream), "b");
        stream.write_all(b"two\n").unwrap();
        line(&mut stream);
    });
    let mut call = start(call(&address, &[]).stdin(Stdio::piped()));
    let mut stdin = call.stdin();
    stdin.write_all(b"a\n").unwrap();
    call.printed(4);
    stdin.write_all(b"b\n").unwrap();
    drop(stdin);
    let (out, said) = expect(call.finish(), 1);
    assert_eq!(out, b"one\ntwo\n");
    assert!(said.contains(": 6 unexpected bytes "), "{said}");
    server.join().unwrap();
}

#[test]
fn keep_open_sends_no_end_before_the_reply_is_complete() {
    for keep_open in [false, true] {
        let (go, gone) = channel();
        let (address, server) = server(move |mut stream| {
            assert_eq!(line(&mut stream), "hi");
            if !keep_open {
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            }
            stream.write_all(b"some\n").unwrap();
            gone.recv().unwrap();
            assert_eq!(has_input(&stream), !keep_open);
        });
        let mut command = call(&address, &["--all", "hi"]);
        if keep_open {
            command.arg("--keep-open");
        }
        let call = start(&mut command);
        call.printed(5);
        go.send(()).unwrap();
        assert_eq!(expect_text(call.finish(), 0), "some\n");
        server.join().unwrap();
    }
}

#[test]
fn a_peer_that_answers_without_end_is_bounded() {
    let flood = |mut stream: TcpStream| {
        line(&mut stream);
        while stream.write_all(b"more and more\n").is_ok() {}
    };
    let (address, server) = server(flood);
    let (out, said) = expect(run(&mut call(&address, &["hi"])), 1);
    assert_eq!(out, b"more and more\n");
    assert!(said.contains("unexpected bytes after the reply"), "{said}");
    server.join().unwrap();
    // As long as it is wanted, and no longer.
    let (address, server) = self::server(flood);
    let program = env!("CARGO_BIN_EXE_aqueduct");
    let script = format!("{program} call {address} --all hi | head -n 100000 | wc -l");
    let counted = expect_text(run(Command::new("sh").args(["-c", &script])), 0);
    assert_eq!(counted.trim(), "100000");
    server.join().unwrap();
    let (address, server) = self::server(flood);
    let call = start(&mut call(&address, &["--until", "never", "hi"]));
    call.printed(1000);
    call.signal(Signal::SIGTERM);
    call.signal(Signal::SIGINT);
    expect(call.finish(), 1);
    server.join().unwrap();
}

#[test]
fn a_peer_that_half_closes_first_still_gets_the_request() {
    let (tell, told) = channel();
    let (address, server) = server(move |mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        tell.send(line(&mut stream)).unwrap();
    });
    let (_, said) = expect(run(&mut call(&address, &["hi"])), 1);
    assert!(said.contains("closed without a reply"), "{said}");
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "hi");
    server.join().unwrap();
}

#[test]
fn a_reset_without_a_reply_says_what_may_be_missing() {
    let (address, server) = server(|mut stream| {
        line(&mut stream);
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let (_, said) = expect(run(&mut call(&address, &["hi"])), 1);
    assert!(said.contains("reset") && said.contains("--frame"), "{said}");
    server.join().unwrap();
}

#[test]
fn a_close_without_a_reply_says_what_may_be_missing() {
    for (frame, part) in [
        ("lines", "another framing"),
        ("nul", "rather than a NUL byte"),
        ("length", "no length before a message"),
        ("raw", "may expect a newline"),
    ] {
        let (address, server) = server(|mut stream| drop(stream.read(&mut [0; 100])));
        let output = run(&mut call(&address, &["--frame", frame, "hi"]));
        let (_, said) = expect(output, 1);
        assert!(said.contains("closed without a reply; it may"), "{said}");
        assert!(said.contains(part), "{frame}: {said}");
        server.join().unwrap();
    }
}

#[test]
fn a_peer_that_never_answers_is_given_up_with_3() {
    for args in [
        &["--replies", "2"][..],
        &["--until", "END"],
        &["--idle", "1s"],
        &["--all"],
        &["--greeting"],
        &["--frame", "raw"],
        &["--frame", "length"],
    ] {
        let (address, server) = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
        // It reads to the end, and closes only when the caller has gone.
        let keep = ["--timeout", "50ms", "--keep-open", "hi"];
        let output = run(call(&address, args).args(keep));
        let (out, said) = expect(output, 3);
        assert!(out.is_empty());
        assert!(said.contains(" for 50ms"), "{args:?}: {said}");
        server.join().unwrap();
    }
}

#[test]
fn a_large_request_that_moves_is_not_given_up() {
    // Each step is shorter than the limit, and all of them together are longer.
    let (address, server) = server(|mut stream| {
        let mut part = vec![0; 400_000];
        for _ in 0..40 {
            stream.read_exact(&mut part).unwrap();
            thread::sleep(Duration::from_millis(100));
        }
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        stream.write_all(b"thanks").unwrap();
    });
    let mut call = call(&address, &["--frame", "raw", "--timeout", "3s"]);
    let call = start_with_input(&mut call, vec![b'x'; 20_000_000]);
    assert_eq!(expect_text(call.finish(), 0), "thanks");
    server.join().unwrap();
}

#[test]
fn a_program_answers_several_requests() {
    let call = start_with_input(&mut call("exec:cat", &[]), "a\nb\nc\n");
    assert_eq!(expect_text(call.finish(), 0), "a\nb\nc\n");
    // One that answers only at the end of its input.
    let call = start_with_input(&mut self::call("exec:sort", &["--all"]), "b\na\n");
    assert_eq!(expect_text(call.finish(), 0), "a\nb\n");
    let output = run(&mut self::call(
        "exec:sh -c 'read x; echo a; echo b'",
        &["hi"],
    ));
    assert!(expect(output, 1).1.contains(": 2 unexpected bytes "));
}

#[test]
fn impossible_ways_to_end_a_reply_are_wrong_use() {
    for (args, part) in [
        (&["--until", "a\nb"][..], "has a newline in it"),
        (
            &["--until", "too long", "--max-frame", "3"],
            "over the limit of 3",
        ),
        (
            &["--until", "END", "--frame", "raw"],
            "--until looks for messages",
        ),
        (
            &["--replies", "2", "--frame", "raw"],
            "--replies looks for messages",
        ),
        (
            &["--greeting", "--frame", "raw"],
            "--greeting looks for messages",
        ),
        (&["--replies", "0"], "from 1 on"),
        (&["--idle", "soon"], "a number and a unit"),
        (&["--all", "--until", "END"], "cannot be used with"),
        (&["--idle", "1s", "--replies", "3"], "cannot be used with"),
    ] {
        let (_, said) = expect(run(&mut call("tcp://127.0.0.1:1", args)), 2);
        assert!(said.contains(part), "{args:?}: {said}");
    }
}
