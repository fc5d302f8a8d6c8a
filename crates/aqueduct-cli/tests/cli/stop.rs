//! Signals and closed outputs: what is in hand is finished, and the exit code is 0.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;

use crate::support::{
    Dir, aqueduct, expect, expect_text, read_with_deadline, run, start, start_at, start_with_input,
    until, until_bound, until_open,
};

const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Waits until the process catches both signals, so that they do not kill it.
pub(crate) fn until_ready(pid: u32) {
    until("the signals are caught", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
        let caught = line.and_then(|it| u64::from_str_radix(it.trim(), 16).ok());
        let both = (1 << (Signal::SIGINT as u64 - 1)) | (1 << (Signal::SIGTERM as u64 - 1));
        caught.is_some_and(|it| it & both == both)
    });
}

/// Waits until nothing is left in a pipe.
pub(crate) fn until_drained(pipe: impl AsFd) {
    until("all is read", || {
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
    });
}

/// Whether a pipe has no room.
fn is_full(pipe: impl AsFd) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
}

#[test]
fn a_waiting_receiver_ends_with_0() {
    let dir = Dir::new();
    for signal in SIGNALS {
        let recv = start(&mut aqueduct(&["recv", &dir.fifo("x")]));
        until_open(recv.pid(), &dir.path("x"));
        until_ready(recv.pid());
        recv.signal(signal);
        assert_eq!(expect_text(recv.finish(), 0), "");
    }
}

#[test]
fn a_waiting_sender_ends_with_0_and_says_that_nothing_was_sent() {
    let dir = Dir::new();
    for signal in SIGNALS {
        let send = start(&mut aqueduct(&["send", &dir.fifo("x"), "hi"]));
        until_open(send.pid(), &dir.path("x"));
        send.signal(signal);
        let (_, stderr) = expect(send.finish(), 0);
        assert!(stderr.contains("nothing was sent"), "{stderr}");
    }
}

#[test]
fn a_receiver_finishes_the_message_it_has_begun() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo, "--frame", "nul"]));
    until_open(recv.pid(), &dir.path("x"));
    until_ready(recv.pid());
    let mut options = File::options();
    options.read(true).write(true);
    let mut writer = options.open(dir.path("x")).unwrap();
    writer.write_all(b"one\0tw").unwrap();
    // Taken out of the FIFO: the first part is in its hands.
    until_drained(&writer);
    recv.signal(Signal::SIGTERM);
    writer.write_all(b"o\0three\0").unwrap();
    let printed = expect_text(recv.finish(), 0);
    // Whether the signal or the bytes came to it first: what it has not printed is all there.
    writer.write_all(b"end").unwrap();
    let mut left = vec![0; 100];
    let n = writer.read(&mut left).unwrap();
    let left = String::from_utf8_lossy(&left[..n]).replace('\0', "\n");
    assert!(printed.starts_with("one\ntwo\n"), "{printed:?}");
    assert_eq!(printed + &left, "one\ntwo\nthree\nend");
}

#[test]
fn a_sender_finishes_what_it_has_taken() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until_open(recv.pid(), &dir.path("x"));
    let (input, mut writer) = std::io::pipe().unwrap();
    let send = start(aqueduct(&["send", &fifo]).stdin(input.try_clone().unwrap()));
    until_open(send.pid(), &dir.path("x"));
    until_ready(send.pid());
    let lines: String = (0..1000).map(|i| format!("{i}\n")).collect();
    writer.write_all(lines.as_bytes()).unwrap();
    until_drained(&input);
    send.signal(Signal::SIGINT);
    expect_text(send.finish(), 0);
    assert_eq!(expect_text(recv.finish(), 0), lines);
}

#[test]
fn a_closed_standard_output_ends_it_quietly() {
    // The reader takes one line and leaves, while input goes on without an end.
    let (reader, out) = std::io::pipe().unwrap();
    let mut recv = aqueduct(&["recv", "stdio:"]);
    recv.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = recv.stdout(out).spawn().unwrap();
    drop(recv);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(read_with_deadline(reader, 4), b"one\n");
    // Now it is closed. Nothing more comes, and still it ends.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    drop(stdin);
}

#[test]
fn a_closed_standard_output_in_full_flow_ends_it_quietly() {
    let (reader, out) = std::io::pipe().unwrap();
    let mut yes = Command::new("sh");
    yes.args(["-c", "exec yes | exec \"$0\" recv stdio:"])
        .arg(env!("CARGO_BIN_EXE_aqueduct"));
    let shell = yes.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    drop(yes);
    assert_eq!(read_with_deadline(reader, 200_000), b"y\n".repeat(100_000));
    // Its exit code is that of the last command.
    let output = shell.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn input_that_never_comes_does_not_keep_a_sender_from_stopping() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until_open(recv.pid(), &dir.path("x"));
    let mut send = start(aqueduct(&["send", &fifo]).stdin(Stdio::piped()));
    let stdin = send.stdin();
    until_ready(send.pid());
    send.signal(Signal::SIGTERM);
    expect_text(send.finish(), 0);
    drop(stdin);
    expect_text(recv.finish(), 0);
}

/// What a closed terminal, a lost ssh or a supervisor sends. It must stop every command in order:
/// nothing that was taken is lost, and no socket or lock file stays.
#[test]
fn sighup_stops_every_command_as_sigterm_does() {
    let dir = Dir::new();
    let at = |name: &str| format!("unix:{}", dir.path(name).display());
    let (served, silent) = (at("served"), at("silent"));
    let _silent = UnixListener::bind(dir.path("silent")).unwrap();
    for (args, bound) in [
        (&["serve", &served][..], true),
        (&["serve", &served, "--", "cat"], true),
        (&["recv", &served], true),
        (&["relay", &served, "exec:cat"], true),
        (&["send", &served, "hi", "--bind"], true),
        (&["send", &silent], false),
        (&["send", &dir.fifo("nobody"), "hi"], false),
    ] {
        let mut command = start(aqueduct(args).stdin(Stdio::piped()));
        let stdin = command.stdin();
        until_ready(command.pid());
        if bound {
            until_bound(&dir.path("served"));
        }
        command.signal(Signal::SIGHUP);
        let output = command.finish();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        let left = std::fs::read_dir(dir.path("")).unwrap().flatten();
        let left = left.map(|it| it.file_name()).collect::<Vec<_>>();
        let unix = left
            .iter()
            .any(|it| it.to_string_lossy().starts_with("served"));
        assert!(!unix, "{args:?} leaves {left:?}");
        drop(stdin);
    }
}

#[test]
fn sighup_lets_a_receiver_print_what_it_has_taken() {
    let dir = Dir::new();
    let address = format!("unix:{}", dir.path("x").display());
    let recv = start(&mut aqueduct(&["recv", &address]));
    until_bound(&dir.path("x"));
    until_ready(recv.pid());
    let lines: String = (0..1000).map(|i| format!("{i}\n")).collect();
    let send = start_with_input(&mut aqueduct(&["send", &address]), &lines);
    expect(send.finish(), 0);
    recv.signal(Signal::SIGHUP);
    assert_eq!(expect_text(recv.finish(), 0), lines);
}

/// The signal arrives while output waits for its reader. All that the client could write is printed.
#[test]
fn a_signal_during_slow_output_loses_nothing() {
    let dir = Dir::new();
    let address = format!("unix:{}", dir.path("x").display());
    let (mut reader, out) = std::io::pipe().unwrap();
    let stdout = out.try_clone().unwrap().into();
    let mut recv = start_at(&mut aqueduct(&["recv", &address]), stdout, Stdio::piped());
    until_bound(&dir.path("x"));
    until_ready(recv.pid());
    let mut client = UnixStream::connect(dir.path("x")).unwrap();
    let client = std::thread::spawn(move || {
        let mut line = [b'x'; 1024];
        line[1023] = b'\n';
        // A write of this size is taken whole or not at all.
        (0..)
            .take_while(|_| client.write_all(&line).is_ok())
            .count()
    });
    until("the pipe is full", || is_full(&out));
    drop(out);
    recv.signal(Signal::SIGTERM);
    let reading = std::thread::spawn(move || {
        let mut printed = Vec::new();
        reader.read_to_end(&mut printed).map(|_| printed)
    });
    assert_eq!(recv.wait().code(), Some(0));
    let printed = reading.join().unwrap().unwrap();
    assert_eq!(printed.len(), client.join().unwrap() * 1024);
}

/// It waits for its output to be read, not for the reply.
#[test]
fn a_call_whose_output_nobody_reads_can_be_stopped() {
    let (_reader, out) = std::io::pipe().unwrap();
    let stdout = out.try_clone().unwrap().into();
    let args = ["call", "exec:yes", "--all", "--input", "whole"];
    let mut call = start_at(aqueduct(&args).stdin(Stdio::null()), stdout, Stdio::piped());
    until("the pipe is full", || is_full(&out));
    until("it has ended", || {
        if call.is_running() {
            call.signal(Signal::SIGTERM);
        }
        !call.is_running()
    });
    let (_, stderr) = expect(call.finish(), 1);
    assert!(
        stderr.contains("nothing reads it; what was not written is lost"),
        "{stderr}"
    );
}

/// Further messages wait in its buffer for longer than it would wait for a sender.
#[test]
fn slow_programs_get_all_messages_taken_before_a_signal() {
    let dir = Dir::new();
    let gone = dir.path("first");
    let script = "cat; echo; [ -e \"$0\" ] || { touch \"$0\"; sleep 0.8; }";
    let serve = [
        "serve",
        &dir.fifo("x"),
        "--jobs",
        "1",
        "--",
        "sh",
        "-c",
        script,
    ];
    let serve = start(aqueduct(&serve).arg(&gone));
    until_open(serve.pid(), &dir.path("x"));
    until_ready(serve.pid());
    let lines = "1\n2\n3\n4\n5\n";
    std::fs::write(dir.path("x"), lines).unwrap();
    until("the first program runs", || gone.exists());
    serve.signal(Signal::SIGTERM);
    assert_eq!(expect(serve.finish(), 0).0, lines.as_bytes());
}

#[test]
fn a_call_stopped_by_sighup_still_waits_for_its_reply() {
    let dir = Dir::new();
    let path = dir.path("x");
    let listener = UnixListener::bind(&path).unwrap();
    let call = start(&mut aqueduct(&[
        "call",
        &format!("unix:{}", path.display()),
        "hi",
    ]));
    let (mut client, _) = listener.accept().unwrap();
    let mut request = [0; 3];
    client.read_exact(&mut request).unwrap();
    call.signal(Signal::SIGHUP);
    client.write_all(b"HI\n").unwrap();
    assert_eq!(expect_text(call.finish(), 0), "HI\n");
}

#[test]
fn sighup_that_was_ignored_at_the_start_stays_ignored() {
    let dir = Dir::new();
    let address = format!("unix:{}", dir.path("x").display());
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" recv \"$1\""]);
    nohup.args([env!("CARGO_BIN_EXE_aqueduct"), &address]);
    let recv = start(&mut nohup);
    until_bound(&dir.path("x"));
    until_ready(recv.pid());
    recv.signal(Signal::SIGHUP);
    expect(run(&mut aqueduct(&["send", &address, "still there"])), 0);
    recv.signal(Signal::SIGTERM);
    assert_eq!(expect_text(recv.finish(), 0), "still there\n");
}

/// In the words of the command, and once: not in those of the library's log.
#[test]
fn what_was_cut_off_at_the_end_is_said_in_one_sentence() {
    let dir = Dir::new();
    let unix = |name: &str| format!("unix:{}", dir.path(name).display());
    let silent = UnixListener::bind(dir.path("silent")).unwrap();
    let (served, per, proxied) = (unix("served"), unix("per"), unix("proxied"));
    let sleep = dir.path("sleeping").display().to_string();
    let script = format!("touch {sleep}-$0; sleep 100");
    let mut ended = Vec::new();
    for (args, name, said) in [
        (
            &["serve", &served, "--", "sh", "-c", &script, "served"][..],
            "served",
            "1 client cut off: not answered within 10 seconds; 1 message in hand not done",
        ),
        (
            &[
                "serve",
                &per,
                "--per",
                "connection",
                "--",
                "sh",
                "-c",
                &script,
                "per",
            ],
            "per",
            "1 program killed: not ended within 10 seconds",
        ),
        (
            &["proxy", &proxied, &unix("silent")],
            "proxied",
            "1 connection cut off: not ended within 10 seconds",
        ),
    ] {
        let running = start(aqueduct(args).stdin(Stdio::null()));
        running.told(if name == "proxied" {
            "proxying "
        } else {
            "serving "
        });
        let mut client = UnixStream::connect(dir.path(name)).unwrap();
        client.write_all(b"hi\n").unwrap();
        let server = (name == "proxied").then(|| silent.accept().unwrap());
        until("the program runs", || {
            server.is_some() || dir.path(&format!("sleeping-{name}")).exists()
        });
        running.signal(Signal::SIGTERM);
        ended.push((running, said, client, server));
    }
    for (running, said, ..) in ended {
        let (_, stderr) = expect(running.finish(), 1);
        let lines: Vec<_> = stderr.lines().skip(1).collect();
        assert!(lines.len() == 1 && lines[0].contains(said), "{stderr}");
    }
}
