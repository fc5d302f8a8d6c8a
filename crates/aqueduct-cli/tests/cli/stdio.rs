//! Standard input and output that are no pipes.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::support::{
    Dir, aqueduct, expect, expect_text, read_with_deadline, run, start, until_open,
};

#[test]
fn files_and_devices_are_read_and_written() {
    let dir = Dir::new();
    std::fs::write(dir.path("in"), "a\nb").unwrap();
    let mut recv = aqueduct(&["recv", "stdio:"]);
    let recv = start(recv.stdin(File::open(dir.path("in")).unwrap()));
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\n");
    assert_eq!(expect_text(run(&mut aqueduct(&["recv", "stdio:"])), 0), "");

    let mut send = aqueduct(&["send", "stdio:", "a", "b"]);
    let out = File::create(dir.path("out")).unwrap();
    assert!(send.stdout(out).status().unwrap().success());
    assert_eq!(std::fs::read(dir.path("out")).unwrap(), b"a\nb\n");
    assert!(send.stdout(Stdio::null()).status().unwrap().success());
}

/// A file and a socket on standard input, which a shell shares between the programs that it starts.
#[test]
fn what_follows_the_count_belongs_to_the_next_program() {
    let text: String = (1..=20_000).map(|i| format!("{i}\n")).collect();
    let dir = Dir::new();
    std::fs::write(dir.path("in"), &text).unwrap();
    let (socket, mut peer) = UnixStream::pair().unwrap();
    let writer = std::thread::spawn(move || peer.write_all(text.as_bytes()));
    let inputs = [
        OwnedFd::from(File::open(dir.path("in")).unwrap()),
        socket.into(),
    ];
    for input in inputs {
        let twice = format!(
            "{0} recv stdio: -n 2; {0} recv stdio: -n 1",
            env!("CARGO_BIN_EXE_aqueduct")
        );
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("{twice}; head -n 1; cat >/dev/null")]);
        assert_eq!(
            expect_text(start(shell.stdin(input)).finish(), 0),
            "1\n2\n3\n4\n"
        );
    }
    writer.join().unwrap().unwrap();
}

#[test]
fn a_device_that_is_full_is_an_error() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut recv = aqueduct(&["recv", "stdio:"]);
    let child = recv
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("cannot write to standard output: No space left"),
        "{stderr}"
    );
}

/// The colon of the address is the one behind it.
#[test]
fn an_error_says_that_it_is_about_stdio() {
    let dir = Dir::new();
    let length = ["recv", "stdio:", "--frame", "length", "--max-frame", "4"];
    for (command, input, said) in [
        (
            &length[..],
            "\0\0\0\x04abc",
            "stream ended inside a frame: ",
        ),
        (
            &length,
            "\0\0\0\x05abcde",
            "a message has 5 bytes or more, ",
        ),
        (
            &["recv", "stdio:", "--max-frame", "4"],
            "abcdefgh",
            "a message has no end within the limit of 4 bytes: raise --max-frame",
        ),
        (&["send", "stdio:"], "a\n", "No space left"),
        (
            &["relay", "stdio:", "stdio:"],
            "a\n",
            "what was taken and not sent is lost: No space left",
        ),
    ] {
        std::fs::write(dir.path("in"), input).unwrap();
        let mut process = aqueduct(command);
        process.stdin(File::open(dir.path("in")).unwrap());
        process.stdout(File::options().write(true).open("/dev/full").unwrap());
        let (_, stderr) = expect(process.output().unwrap(), 1);
        let said = format!("aqueduct: stdio: {said}");
        assert!(stderr.starts_with(&said), "{command:?}: {stderr}");
    }
}

/// What the library makes of a length that is none is more help than its size.
#[test]
fn an_error_names_the_framing_that_the_peer_seems_to_use() {
    let dir = Dir::new();
    for (input, hint) in [
        (
            &b"hello\n"[..],
            "the first bytes are text (\"hell\"): does the peer send lines?",
        ),
        (
            b"\x12\0\0\0",
            "in the other byte order this would be 18 bytes",
        ),
    ] {
        std::fs::write(dir.path("in"), input).unwrap();
        let cat = format!("exec:cat {}", dir.path("in").display());
        for args in [
            &["recv", "stdio:"][..],
            &["relay", "stdio:", "exec:cat"],
            &["serve", "stdio:"],
            &["serve", &format!("{}?persist=false", dir.fifo("x"))],
            &["call", &cat, "hi"],
        ] {
            let mut process = aqueduct(args);
            process.args(["--frame", "length"]);
            let process = start(process.stdin(File::open(dir.path("in")).unwrap()));
            if args[1].starts_with("fifo") {
                until_open(process.pid(), &dir.path("x"));
                std::fs::write(dir.path("x"), input).unwrap();
            }
            let output = process.finish();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(stderr.contains(hint), "{args:?}: {stderr}");
            assert!(
                stderr.contains("use the same --frame"),
                "{args:?}: {stderr}"
            );
        }
    }
}

#[test]
fn a_lone_line_typed_at_a_terminal_goes_out_at_once() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut keyboard = File::from(pty.master);
    let mut send = aqueduct(&["send", "stdio:"]);
    let mut child = send
        .stdin(pty.slave)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = child.stdout.take().unwrap();
    keyboard.write_all(b"hello\n").unwrap();
    // While the terminal stays open.
    let out: OwnedFd = out.into();
    let read = File::from(out.try_clone().unwrap());
    assert_eq!(read_with_deadline(read, 6), b"hello\n");
    // End of file, as typed with Ctrl-D.
    keyboard.write_all(b"\x04").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_other_processes_share_is_not_made_non_blocking() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let (out_reader, out) = std::io::pipe().unwrap();
    let mut recv = aqueduct(&["recv", "stdio:"]);
    let recv = recv.stdin(reader.try_clone().unwrap());
    let mut child = recv.stdout(out.try_clone().unwrap()).spawn().unwrap();
    writer.write_all(b"hello\n").unwrap();
    assert_eq!(read_with_deadline(out_reader, 6), b"hello\n");
    // It is at work on both now.
    for flags in [
        fcntl(&reader, FcntlArg::F_GETFL),
        fcntl(&out, FcntlArg::F_GETFL),
    ] {
        assert!(!OFlag::from_bits_retain(flags.unwrap()).contains(OFlag::O_NONBLOCK));
    }
    drop(writer);
    assert!(child.wait().unwrap().success());
}
