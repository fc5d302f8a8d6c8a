//! `aqueduct talk` into pipes, against peers of many habits.

use std::io::{ErrorKind, PipeReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use socket2::SockRef;

use crate::raw::{Data, random};
use crate::support::{
    DEADLINE, Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input,
};

/// One connection to a port of its own, and what becomes of it.
fn tcp(with: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        with(stream);
    });
    (address, thread)
}

/// One connection to a socket in `dir`, and what becomes of it.
pub(crate) fn unix(
    dir: &Dir,
    with: impl FnOnce(UnixStream) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let path = dir.path("socket");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        with(stream);
    });
    (format!("unix:{}", path.display()), thread)
}

fn talk(address: &str, args: &[&str]) -> Command {
    let mut talk = aqueduct(&["talk", address]);
    talk.args(args).stdin(Stdio::null());
    talk
}

#[test]
fn bytes_go_both_ways_at_once_unchanged() {
    let data = Data::new();
    let (dir, expected) = (Dir::new(), data.bytes.clone());
    let echo = |mut from: UnixStream, mut to: UnixStream| {
        std::io::copy(&mut from, &mut to).unwrap();
        to.shutdown(Shutdown::Write).unwrap();
    };
    let (address, server) = unix(&dir, move |stream| {
        echo(stream.try_clone().unwrap(), stream);
    });
    let out = start(talk(&address, &[]).stdin(data.file())).finish();
    data.check(&expect(out, 0).0, &address);
    server.join().unwrap();
    // What it says does not depend on what it hears.
    let (address, server) = tcp(move |stream| {
        let mut reading = stream.try_clone().unwrap();
        let heard = thread::spawn(move || {
            let mut heard = Vec::new();
            reading.read_to_end(&mut heard).unwrap();
            heard
        });
        (&stream).write_all(&expected).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(heard.join().unwrap() == expected);
    });
    let out = start(talk(&address, &[]).stdin(data.file())).finish();
    data.check(&expect(out, 0).0, &address);
    server.join().unwrap();
    let out = start(talk("exec:cat", &[]).stdin(data.file())).finish();
    data.check(&expect(out, 0).0, "exec:cat");
}

#[test]
fn the_end_of_input_is_passed_on_and_the_rest_is_shown() {
    let (address, server) = tcp(|mut stream| {
        let mut request = String::new();
        stream.read_to_string(&mut request).unwrap();
        write!(stream, "{} bytes", request.len()).unwrap();
    });
    let out = start_with_input(&mut talk(&address, &[]), "hello\n").finish();
    assert_eq!(expect_text(out, 0), "6 bytes");
    server.join().unwrap();
}

#[test]
fn a_peer_that_ends_first_still_hears_all_of_the_input() {
    let dir = Dir::new();
    let (tell, told) = channel();
    let (address, server) = unix(&dir, move |mut stream| {
        stream.write_all(b"that is all\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        tell.send(heard).unwrap();
    });
    let mut talk = start(talk(&address, &[]).stdin(Stdio::piped()));
    let mut stdin = talk.stdin();
    talk.printed(12);
    stdin.write_all(b"and ").unwrap();
    stdin.write_all(b"more\n").unwrap();
    drop(stdin);
    assert_eq!(expect_text(talk.finish(), 0), "that is all\n");
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "and more\n");
    server.join().unwrap();
}

#[test]
fn a_peer_that_closes_ends_it_though_input_stays_open() {
    let dir = Dir::new();
    let (address, server) = unix(&dir, |mut stream| stream.write_all(b"bye").unwrap());
    let mut talk = start(talk(&address, &[]).stdin(Stdio::piped()));
    let _stdin = talk.stdin();
    assert_eq!(expect_text(talk.finish(), 0), "bye");
    server.join().unwrap();
    // A program closes when it exits.
    let mut talk = start(self::talk("exec:echo hi", &[]).stdin(Stdio::piped()));
    let _stdin = talk.stdin();
    assert_eq!(expect_text(talk.finish(), 0), "hi\n");
    // Packets too.
    let address = format!("unixpacket:{}", dir.path("packets").display());
    let serve = start(aqueduct(&["send", &address, "--bind", "a", "b"]).stdin(Stdio::null()));
    let mut talk = start(self::talk(&address, &[]).stdin(Stdio::piped()));
    let _stdin = talk.stdin();
    assert_eq!(expect_text(talk.finish(), 0), "a\nb\n");
    expect(serve.finish(), 0);
}

#[test]
fn keep_open_does_not_tell_the_peer_of_the_end_of_input() {
    let (address, server) = tcp(|mut stream| {
        let mut request = [0; 6];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(b"one ").unwrap();
        // It would have been told by now.
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        assert!(stream.read(&mut request).is_err(), "it was told");
        stream.write_all(b"two").unwrap();
    });
    let out = start_with_input(&mut talk(&address, &["--keep-open"]), "hello\n").finish();
    assert_eq!(expect_text(out, 0), "one two");
    server.join().unwrap();
}

#[test]
fn linger_ends_it_some_time_after_the_end_of_input() {
    for keep_open in [&[][..], &["--keep-open"]] {
        let (address, server) = tcp(|mut stream| {
            stream.write_all(b"hello").unwrap();
            // It never ends by itself.
            drop(stream.read_to_end(&mut Vec::new()));
            let mut peek = [0];
            while matches!(stream.write(&peek), Ok(1)) {
                peek[0] = b'.';
                thread::sleep(Duration::from_millis(5));
            }
        });
        let args = [&["--linger", "300ms"], keep_open].concat();
        let (out, _) = expect(run(&mut talk(&address, &args)), 0);
        assert!(out.starts_with(b"hello"));
        server.join().unwrap();
    }
}

#[test]
fn crlf_ends_each_line_that_is_sent() {
    let (address, server) = tcp(|mut stream| {
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "a\r\nb\r\n\r\nc");
        stream.write_all(b"x\r\ny\n").unwrap();
    });
    let out = start_with_input(&mut talk(&address, &["--crlf"]), "a\nb\r\n\nc").finish();
    // Received text is printed unchanged.
    assert_eq!(expect_text(out, 0), "x\r\ny\n");
    server.join().unwrap();
}

#[test]
fn one_who_connects_is_talked_to() {
    let mut talk = aqueduct(&["talk", "tcp://127.0.0.1:0", "--bind"]);
    let talk = start_with_input(&mut talk, "hello\n");
    let address = talk.told("tcp://127.0.0.1:");
    let mut stream = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"good day\n").unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "hello\n");
    drop(stream);
    assert_eq!(expect(talk.finish(), 0).0, b"good day\n");
}

#[test]
fn json_has_both_directions_with_time_and_size() {
    let args = ["--output", "json", "--frame", "lines"];
    let mut talk = start(talk("exec:sed -u s/^/re:/", &args).stdin(Stdio::piped()));
    let mut stdin = talk.stdin();
    stdin.write_all(b"one\ntwo\n").unwrap();
    drop(stdin);
    let text = expect_text(talk.finish(), 0);
    let objects = text
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap());
    let objects: Vec<_> = objects.collect();
    let of = |direction: &str| {
        let of = objects.iter().filter(|it| it["direction"] == direction);
        of.map(|it| it["text"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("sent"), ["one", "two"]);
    assert_eq!(of("received"), ["re:one", "re:two"]);
    for object in &objects {
        assert!(object["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(object["size"], object["text"].as_str().unwrap().len());
    }
}

#[test]
fn messages_are_framed_and_cut_where_that_is_asked_for() {
    let dir = Dir::new();
    let (address, server) = unix(&dir, |mut stream| {
        let mut heard = [0; 12];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"\0\0\0\x02ab\0\0\0\x02cd");
        stream.write_all(b"\0\0\0\x03x\ny\0\0\0\0").unwrap();
    });
    let out = start_with_input(&mut talk(&address, &["--frame", "length"]), "ab\ncd").finish();
    assert_eq!(expect_text(out, 0), "x\ny\n\n");
    server.join().unwrap();
    let args = ["--frame", "length", "--input", "nul", "--output", "hex"];
    let out = start_with_input(&mut talk("exec:cat", &args), "a\nb\0c\0").finish();
    assert_eq!(expect_text(out, 0), "610a62\n63\n");
    let args = ["--frame", "lines", "--max-frame", "3"];
    let out = start_with_input(&mut talk("exec:cat", &args), "ab\nfour\n").finish();
    let (out, said) = expect(out, 1);
    assert_eq!(out, b"");
    assert!(
        said.contains("message 2") && said.contains("--max-frame"),
        "{said}"
    );
}

#[test]
fn a_conversation_in_which_nothing_moves_is_given_up_with_3() {
    let (address, server) = tcp(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let args = ["--timeout", "100ms", "--keep-open"];
    let out = start_with_input(&mut talk(&address, &args), "hello\n").finish();
    let (_, said) = expect(out, 3);
    assert!(said.contains("for 100ms"), "{said}");
    server.join().unwrap();
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let flood = |mut stream: TcpStream| while stream.write_all(b"more and more\n").is_ok() {};
    let (address, server) = tcp(flood);
    let program = env!("CARGO_BIN_EXE_aqueduct");
    let script = format!(
        "set -o pipefail; sleep 1000 | {{ {program} talk {address}; echo $? >&2; kill 0; }} \
         | head -n 3"
    );
    let mut shell = Command::new("bash");
    // In a group of its own, for the sleep to be ended.
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    let out = run(shell.args(["-c", &script]));
    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 3);
    assert_eq!(String::from_utf8_lossy(&out.stderr), "0\n");
    server.join().unwrap();
    // Where nothing is said any more, too.
    let (address, server) = tcp(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let (reader, out) = std::io::pipe().unwrap();
    let mut talk = talk(&address, &[]);
    let mut child = talk.stdin(Stdio::piped()).stdout(out).spawn().unwrap();
    drop((talk, reader));
    assert!(child.wait().unwrap().success());
    server.join().unwrap();
}

#[test]
fn a_reset_or_a_peer_that_takes_no_more_is_exit_1() {
    let (address, server) = tcp(|mut stream| {
        stream.read_exact(&mut [0; 6]).unwrap();
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let (_, said) = expect(
        start_with_input(&mut talk(&address, &["--keep-open"]), "hello\n").finish(),
        1,
    );
    assert!(said.contains("reset"), "{said}");
    server.join().unwrap();
    let dir = Dir::new();
    let (address, server) = unix(&dir, |stream| {
        // All that is sent, and never read.
        stream.shutdown(Shutdown::Read).unwrap();
        (&stream).write_all(b"no more").unwrap();
    });
    let data = Data::new();
    let (_, said) = expect(start(talk(&address, &[]).stdin(data.file())).finish(), 1);
    // It may have been reset, with what it had not read.
    let told = said.contains("before everything was sent") || said.contains("reset");
    assert!(told, "{said}");
    server.join().unwrap();
}

/// A talk to a peer that does not read, which has taken as much of its input as it can hold.
struct Stuck {
    talk: Running,
    /// What it has left of its input.
    rest: JoinHandle<Vec<u8>>,
    /// Ends the writing of more.
    reader: PipeReader,
}

fn stuck(address: &str) -> Stuck {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut talk = aqueduct(&["talk", address]);
    let talk = start(talk.stdin(reader.try_clone().unwrap()));
    let (tell, told) = channel();
    let rest = thread::spawn(move || {
        let bytes = random(3_000_000);
        for (i, part) in bytes.chunks(1000).enumerate() {
            if i == 200 {
                tell.send(()).unwrap();
            }
            // It fails once nobody reads.
            if let Err(error) = writer.write_all(part) {
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                break;
            }
        }
        bytes
    });
    told.recv_timeout(DEADLINE).unwrap();
    Stuck { talk, rest, reader }
}

#[test]
fn after_a_signal_all_that_was_read_is_sent() {
    let dir = Dir::new();
    let (go, gone) = channel::<()>();
    let (tell, told) = channel();
    let (address, server) = unix(&dir, move |mut stream| {
        gone.recv().unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        tell.send(heard).unwrap();
    });
    let mut stuck = stuck(&address);
    stuck.talk.signal(Signal::SIGTERM);
    go.send(()).unwrap();
    expect_text(stuck.talk.finish(), 0);
    let heard = told.recv_timeout(DEADLINE).unwrap();
    // The next byte is still there for the next reader.
    let mut next = [0; 1000];
    stuck.reader.read_exact(&mut next).unwrap();
    drop(stuck.reader);
    let all = stuck.rest.join().unwrap();
    assert!(heard.len() >= 100_000, "{} bytes", heard.len());
    assert!(heard == all[..heard.len()]);
    assert!(next == all[heard.len()..][..1000]);
    server.join().unwrap();
}

#[test]
fn what_a_stuck_peer_does_not_take_is_told_after_two_signals() {
    let dir = Dir::new();
    let (go, gone) = channel::<()>();
    let (address, server) = unix(&dir, move |stream| {
        let _ = gone.recv();
        drop(stream);
    });
    let stuck = stuck(&address);
    stuck.talk.signal(Signal::SIGTERM);
    stuck.talk.signal(Signal::SIGINT);
    let (_, said) = expect(stuck.talk.finish(), 1);
    assert!(
        said.contains("stopped before everything was sent"),
        "{said}"
    );
    drop((stuck.reader, go));
    stuck.rest.join().unwrap();
    server.join().unwrap();
}

#[test]
fn a_message_that_is_cut_off_by_a_signal_is_told_of() {
    let dir = Dir::new();
    let (tell, told) = channel();
    let (address, server) = unix(&dir, move |mut stream| {
        let mut heard = [0; 8];
        stream.read_exact(&mut heard).unwrap();
        tell.send(heard).unwrap();
        assert_eq!(stream.read(&mut heard).unwrap(), 0);
    });
    let mut talk = start(talk(&address, &["--frame", "lines"]).stdin(Stdio::piped()));
    let mut stdin = talk.stdin();
    stdin.write_all(b"one\ntwo\nhalf").unwrap();
    assert_eq!(&told.recv_timeout(DEADLINE).unwrap(), b"one\ntwo\n");
    talk.signal(Signal::SIGTERM);
    let (_, said) = expect(talk.finish(), 0);
    assert!(said.contains("its first 4 bytes were not sent"), "{said}");
    server.join().unwrap();
}

#[test]
fn a_program_that_fails_is_exit_1() {
    let (_, said) = expect(run(&mut talk("exec:false", &[])), 1);
    assert!(said.contains("exit status: 1"), "{said}");
}

#[test]
fn what_cannot_be_talked_to_is_wrong_use() {
    let dir = Dir::new();
    for (address, args, part) in [
        ("stdio:", &[][..], "talk already uses"),
        (&dir.fifo("x"), &[], "one-way"),
        ("mq:/aqueduct-none", &[], "one-way"),
        (
            "exec:cat",
            &["--crlf", "--frame", "lines"],
            "--crlf needs --frame raw",
        ),
        ("exec:cat", &["--bind"], "--bind is for sockets"),
        ("exec:cat", &["--input", "lines"], "leave --input out"),
        ("exec:cat", &["--linger", "soon"], "a number and a unit"),
    ] {
        let (_, said) = expect(run(&mut talk(address, args)), 2);
        assert!(said.contains(part), "{address} {args:?}: {said}");
    }
    assert!(!dir.path("x").exists(), "nothing is made");
}
