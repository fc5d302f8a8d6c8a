//! `send` and `recv` on sockets, programs and inherited descriptors.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input, until, until_bound,
};

/// Addresses in a directory of this test's own.
fn addresses(dir: &Dir) -> [String; 2] {
    let path = dir.path("x");
    ["unix", "unixpacket"].map(|scheme| format!("{scheme}:{}", path.display()))
}

/// Starts a command that binds TCP port 0 and says which one it got.
fn bound(args: &[&str]) -> (Running, String) {
    let running = start(&mut aqueduct(args));
    let address = running.told("tcp://127.0.0.1:");
    (running, address)
}

#[test]
fn lines_arrive_when_the_receiver_is_first() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        let recv = start(&mut aqueduct(&["recv", &address, "-n", "2"]));
        until_bound(&dir.path("x"));
        let send = start_with_input(&mut aqueduct(&["send", &address]), "a\nb\n");
        expect_text(send.finish(), 0);
        assert_eq!(expect_text(recv.finish(), 0), "a\nb\n", "{address}");
        assert!(!dir.path("x").exists(), "the socket is unlinked");
    }
    let (recv, address) = bound(&["recv", "tcp://127.0.0.1:0", "-n", "2"]);
    expect_text(run(&mut aqueduct(&["send", &address, "a", "b"])), 0);
    assert_eq!(expect(recv.finish(), 0).0, b"a\nb\n");
}

#[test]
fn lines_arrive_when_the_sender_is_first() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        let send = start(&mut aqueduct(&["send", &address, "a", "b"]));
        send.told("waiting for a server at");
        let recv = run(&mut aqueduct(&["recv", &address, "-n", "2"]));
        assert_eq!(expect_text(recv, 0), "a\nb\n", "{address}");
        expect(send.finish(), 0);
    }
}

#[test]
fn all_clients_are_received_from_at_the_same_time() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        let recv = start(&mut aqueduct(&["recv", &address, "-n", "3"]));
        until_bound(&dir.path("x"));
        // Two that stay connected, and a third.
        let mut staying = Vec::new();
        for _ in 0..2 {
            let mut send = start(aqueduct(&["send", &address]).stdin(Stdio::piped()));
            let mut stdin = send.stdin();
            stdin.write_all(b"hi\n").unwrap();
            staying.push((send, stdin));
        }
        expect_text(run(&mut aqueduct(&["send", &address, "hi"])), 0);
        assert_eq!(expect_text(recv.finish(), 0), "hi\nhi\nhi\n", "{address}");
    }
}

#[test]
fn a_client_that_breaks_off_costs_the_others_nothing() {
    let dir = Dir::new();
    let address = &addresses(&dir)[0];
    let frame = ["--frame", "length"];
    let mut recv = aqueduct(&["recv", address, "--max-frame", "5", "-n", "1"]);
    let recv = start(recv.args(frame));
    // Its file is there a moment before it listens.
    let mut bad = None;
    until("it listens", || {
        bad = UnixStream::connect(dir.path("x")).ok();
        bad.is_some()
    });
    let mut bad = bad.unwrap();
    // Where the next message begins after this length is a guess.
    bad.write_all(b"far too long").unwrap();
    // It is disconnected.
    let _ = bad.read(&mut [0; 10]);
    expect_text(run(aqueduct(&["send", address, "fine"]).args(frame)), 0);
    let (stdout, stderr) = expect(recv.finish(), 0);
    assert_eq!(stdout, b"fine\n");
    assert!(stderr.contains("its connection was closed"), "{stderr}");
}

#[test]
fn a_receiver_ends_with_0_on_a_signal_and_unlinks_its_socket() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let recv = start(&mut aqueduct(&["recv", &address]));
            // Signals are caught before anything is bound.
            until_bound(&dir.path("x"));
            recv.signal(signal);
            assert_eq!(expect_text(recv.finish(), 0), "");
            assert!(!dir.path("x").exists());
        }
    }
}

/// The wait is 5 seconds unless told otherwise.
#[test]
fn a_sender_without_a_server_gives_up_with_3_after_its_wait() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        let output = run(&mut aqueduct(&["send", &address, "hi", "--wait", "50ms"]));
        let (_, stderr) = expect(output, 3);
        assert!(
            stderr.contains("no server appeared within 50ms"),
            "{stderr}"
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let begin = Instant::now();
    let (_, stderr) = expect(run(&mut aqueduct(&["send", &address, "hi"])), 3);
    assert!(begin.elapsed() >= Duration::from_secs(5));
    assert!(stderr.contains("5s"), "{stderr}");
}

#[test]
fn a_flag_turns_each_side_round() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        let send = start(&mut aqueduct(&["send", &address, "--bind", "a", "b"]));
        let recv = run(&mut aqueduct(&["recv", &address, "--connect"]));
        // It ends with the one connection.
        assert_eq!(expect_text(recv, 0), "a\nb\n", "{address}");
        expect(send.finish(), 0);
    }
    let (send, address) = bound(&["send", "tcp://127.0.0.1:0", "--bind", "a"]);
    let recv = run(&mut aqueduct(&["recv", &address, "--connect"]));
    assert_eq!(expect_text(recv, 0), "a\n");
    expect(send.finish(), 0);
    let output = run(&mut aqueduct(&[
        "send",
        "tcp://127.0.0.1:0",
        "--bind",
        "--wait",
        "10ms",
        "a",
    ]));
    let (_, stderr) = expect(output, 3);
    assert!(stderr.contains("no client connected"), "{stderr}");
}

#[test]
fn what_cannot_be_turned_round_is_wrong_use() {
    for args in [
        ["send", "fifo:/nowhere/x", "--bind"],
        ["recv", "mq:/nothing", "--connect"],
        ["recv", "exec:true", "--connect"],
    ] {
        let (_, stderr) = expect(run(&mut aqueduct(&args)), 2);
        assert!(stderr.contains("is for sockets"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
    }
}

#[test]
fn a_program_is_sent_to_and_received_from() {
    let send = run(&mut aqueduct(&[
        "send",
        "exec:tr a-z A-Z",
        "hello",
        "there",
    ]));
    // Its output is ours, and it is waited for.
    assert_eq!(expect_text(send, 0), "HELLO\nTHERE\n");
    let recv = run(&mut aqueduct(&["recv", "exec:seq 3"]));
    assert_eq!(expect_text(recv, 0), "1\n2\n3\n");
    let recv = run(&mut aqueduct(&["recv", "exec:yes", "-n", "2"]));
    assert_eq!(expect_text(recv, 0), "y\ny\n");
}

#[test]
fn a_program_that_fails_or_is_missing_is_an_error() {
    let sh = "exec:sh -c 'echo one; exit 3'";
    let (stdout, stderr) = expect(run(&mut aqueduct(&["recv", sh])), 1);
    assert_eq!(stdout, b"one\n");
    assert!(stderr.contains("exit status: 3"), "{stderr}");
    let sh = "exec:sh -c 'cat > /dev/null; exit 3'";
    let (_, stderr) = expect(run(&mut aqueduct(&["send", sh, "hi"])), 1);
    assert!(stderr.contains("exit status: 3"), "{stderr}");
    let (_, stderr) = expect(run(&mut aqueduct(&["recv", "exec:/no/such/program"])), 1);
    assert!(stderr.contains("/no/such/program"), "{stderr}");
}

#[test]
fn inherited_descriptors_are_sent_to_and_received_from() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut recv = aqueduct(&["recv", "fd:0"]);
    let recv = start(recv.stdin(OwnedFd::from(theirs)));
    let mut send = aqueduct(&["send", "fd:1", "a", "b"]);
    let mut send = send.stdout(OwnedFd::from(ours)).spawn().unwrap();
    assert!(send.wait().unwrap().success());
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\n");
}

#[test]
fn a_peer_that_leaves_is_an_error_for_the_sender() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let mut send = start(aqueduct(&["send", &address]).stdin(Stdio::piped()));
    let mut stdin = send.stdin();
    let mut line = [0; 4];
    stdin.write_all(b"one\n").unwrap();
    let (mut peer, _): (TcpStream, _) = listener.accept().unwrap();
    peer.read_exact(&mut line).unwrap();
    drop(peer);
    // The first write after it may still be taken by the kernel.
    while stdin.write_all(b"two\n").is_ok() && send.is_running() {}
    let (_, stderr) = expect(send.finish(), 1);
    assert!(stderr.contains("the reader has gone"), "{stderr}");
}

/// It ended with the first server.
#[test]
fn recv_reconnect_goes_on_with_the_next_server() {
    let dir = Dir::new();
    for address in addresses(&dir) {
        let args = ["recv", &address, "--connect", "--reconnect", "-n", "2"];
        let recv = start(aqueduct(&args).args(["--wait", "30s"]));
        for (line, printed) in [("one", 4), ("two", 8)] {
            expect(run(&mut aqueduct(&["send", &address, "--bind", line])), 0);
            recv.printed(printed);
        }
        assert_eq!(expect(recv.finish(), 0).0, b"one\ntwo\n", "{address}");
    }
}

/// What a client that was killed left behind is no message, unless it is asked for.
#[test]
fn a_torn_line_is_dropped_by_what_works_on_and_kept_when_asked() {
    for (command, flag, torn) in [
        ("recv", None, false),
        ("recv", Some("keep"), true),
        ("serve", None, false),
        ("serve", Some("keep"), true),
    ] {
        let dir = Dir::new();
        let address = &addresses(&dir)[0];
        let mut ours = aqueduct(&[command, address]);
        if let Some(flag) = flag {
            ours.args(["--partial", flag]);
        }
        if command == "serve" {
            let out = dir.path("out").display().to_string();
            ours.args(["--", "sh", "-c", "cat >> $0", &out]);
        }
        let ours = start(&mut ours);
        // Its file is there a moment before it listens.
        let mut client = None;
        until("it listens", || {
            client = UnixStream::connect(dir.path("x")).ok();
            client.is_some()
        });
        let mut client = client.unwrap();
        client.write_all(b"whole\ntorn").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // It is done with once it has closed its side.
        let _ = client.read_to_end(&mut Vec::new());
        ours.signal(Signal::SIGTERM);
        let Output { stdout, stderr, .. } = ours.finish();
        let stderr = String::from_utf8_lossy(&stderr);
        let out = match command {
            "serve" => std::fs::read(dir.path("out")).unwrap(),
            _ => stdout,
        };
        let out = String::from_utf8(out).unwrap();
        assert_eq!(
            out.contains("torn"),
            torn,
            "{command} {flag:?}: {out}{stderr}"
        );
        assert!(out.contains("whole"), "{command}: {out}{stderr}");
    }
}

/// A line over the limit costs a collector that line.
#[test]
fn what_becomes_of_a_line_that_is_too_long_can_be_chosen() {
    for (how, expected) in [
        ("skip", "one\ntwo\n"),
        ("truncate", "one\nfar \ntwo\n"),
        ("fail", "one\n"),
    ] {
        let flags = ["--max-frame", "4", "--too-long", how];
        let mut recv = aqueduct(&["recv", "stdio:"]);
        let recv = start_with_input(recv.args(flags), "one\nfar too long\ntwo\n");
        let (stdout, stderr) = expect(recv.finish(), i32::from(how == "fail"));
        assert_eq!(String::from_utf8(stdout).unwrap(), expected, "{how}");
        assert!(
            stderr.contains("12 bytes") || how == "fail",
            "{how}: {stderr}"
        );
    }
}
