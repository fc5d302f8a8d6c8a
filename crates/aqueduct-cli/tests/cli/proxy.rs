//! `proxy`: connections passed on, both ways.

mod limits;

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::support::{DEADLINE, Dir, Running, aqueduct, expect, run, start, until, until_bound};

/// Bytes that repeat at no power of two.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// A proxy from a TCP port of the system's choice, and a client's connection to it.
fn proxy(args: &[&str]) -> (Running, String) {
    let args = [&["proxy", "tcp://127.0.0.1:0"], args].concat();
    let running = start(&mut aqueduct(&args));
    let address = running.told("tcp://127.0.0.1:");
    let port = address.trim_start_matches("tcp://").to_owned();
    (running, port)
}

fn client(port: &str) -> TcpStream {
    let client = TcpStream::connect(port).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// A Unix socket to be proxied to.
fn upstream(dir: &Dir) -> (UnixListener, String) {
    let path = dir.path("up");
    let address = format!("unix:{}", path.display());
    (UnixListener::bind(path).unwrap(), address)
}

fn stopped(running: Running) {
    running.signal(Signal::SIGTERM);
    expect(running.finish(), 0);
}

#[test]
fn bytes_pass_unchanged_both_ways_at_once() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address]);
    let (there, back) = (noise(3_000_000), noise(2_999_999));
    let echo = back.clone();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = stream.try_clone().unwrap();
        let reading = thread::spawn(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            got
        });
        stream.write_all(&echo).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        reading.join().unwrap()
    });
    let mut client = client(&port);
    let mut writer = client.try_clone().unwrap();
    let sent = there.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == back, "{} bytes", got.len());
    let got = server.join().unwrap();
    assert!(got == there, "{} bytes", got.len());
    stopped(running);
}

#[test]
fn either_side_may_close_first_and_still_listen() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address]);

    let mut here = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    here.write_all(b"question").unwrap();
    here.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    there.read_to_string(&mut got).unwrap();
    assert_eq!(got, "question");
    there.write_all(b"answer").unwrap();
    drop(there);
    got.clear();
    here.read_to_string(&mut got).unwrap();
    assert_eq!(got, "answer");

    let mut here = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    there.write_all(b"greeting").unwrap();
    there.shutdown(Shutdown::Write).unwrap();
    got.clear();
    here.read_to_string(&mut got).unwrap();
    assert_eq!(got, "greeting");
    here.write_all(b"late").unwrap();
    drop(here);
    got.clear();
    there.read_to_string(&mut got).unwrap();
    assert_eq!(got, "late");
    stopped(running);
}

#[test]
fn an_answer_to_half_a_request_still_arrives() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address]);
    let mut here = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    here.write_all(&noise(100)).unwrap();
    let mut some = [0; 10];
    there.read_exact(&mut some).unwrap();
    there.write_all(b"too large").unwrap();
    // Not all that was sent to it is read.
    drop(there);
    let mut got = String::new();
    let _ = here.read_to_string(&mut got);
    assert_eq!(got, "too large");
    stopped(running);
}

#[test]
fn a_reset_is_passed_on_as_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (running, port) = proxy(&[&address]);
    for from_client in [true, false] {
        let mut here = client(&port);
        let (mut there, _) = listener.accept().unwrap();
        here.write_all(b"x").unwrap();
        there.read_exact(&mut [0]).unwrap();
        let (reset, mut other) = match from_client {
            true => (here, there),
            false => (there, here),
        };
        SockRef::from(&reset)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(reset);
        let error = other.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    running.told("broke:");
    stopped(running);
}

/// A packet socket has no bytes, so the proxy passes messages.
#[test]
fn a_break_between_kinds_resets_the_tcp_client() {
    let dir = Dir::new();
    let path = dir.path("packets");
    let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(1).unwrap();
    let (running, port) = proxy(&[&format!("unixpacket:{}", path.display())]);
    let mut here = client(&port);
    here.write_all(b"unread\n").unwrap();
    let (there, _) = listener.accept().unwrap();
    there.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(there.peek(&mut [MaybeUninit::uninit(); 10]).unwrap(), 6);
    there.send(b"answer").unwrap();
    let mut answer = [0; 7];
    here.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer\n");
    // With a message unread, closing it breaks the connection.
    drop(there);
    let error = here.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    running.told("broke:");

    // The end of one stays an end.
    let here = client(&port);
    let (there, _) = listener.accept().unwrap();
    there.send(b"last").unwrap();
    drop(there);
    assert_eq!(io::read_to_string(here).unwrap(), "last\n");
    stopped(running);
}

#[test]
fn clients_of_a_missing_server_are_reset() {
    let dir = Dir::new();
    let address = format!("unix:{}", dir.path("up").display());
    let (running, port) = proxy(&[&address, "--wait", "50ms"]);
    let mut lost = client(&port);
    let error = lost.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    running.told("reset:");
    let (listener, _) = upstream(&dir);
    let mut served = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    there.write_all(b"here").unwrap();
    served.read_exact(&mut [0; 4]).unwrap();
    drop((served, there));
    stopped(running);
}

#[test]
fn packets_are_messages_of_a_byte_stream() {
    let dir = Dir::new();
    let to = format!("unixpacket:{}", dir.path("up").display());
    let upper = start(&mut aqueduct(&["serve", &to, "--", "tr", "a-z", "A-Z"]));
    upper.told("unixpacket:");
    let (running, port) = proxy(&[&to, "--frame", "length"]);
    let mut here = client(&port);
    for word in ["one", "two", ""] {
        if word.is_empty() {
            continue;
        }
        here.write_all(&(word.len() as u32).to_be_bytes()).unwrap();
        here.write_all(word.as_bytes()).unwrap();
        let mut got = [0; 7];
        here.read_exact(&mut got).unwrap();
        assert_eq!(got[..4], (word.len() as u32).to_be_bytes());
        assert_eq!(&got[4..], word.to_uppercase().as_bytes());
    }
    drop(here);
    stopped(running);
    stopped(upper);
}

#[test]
fn a_recording_has_both_directions() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let file = dir.path("both.rec");
    let (running, port) = proxy(&[&address, "--tee", file.to_str().unwrap()]);
    let mut here = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    here.write_all(b"ping").unwrap();
    there.read_exact(&mut [0; 4]).unwrap();
    there.write_all(b"pong").unwrap();
    here.read_exact(&mut [0; 4]).unwrap();
    drop((here, there));
    stopped(running);
    let recorded = std::fs::read(&file).unwrap();
    let at = |what: &[u8]| recorded.windows(4).position(|it| it == what).unwrap();
    assert!(at(b"ping") < at(b"pong"));
    let path = dir.path("replayed").display().to_string();
    let queue = format!("fifo:{path}");
    let recv = start(&mut aqueduct(&["recv", &queue]));
    let file = file.to_str().unwrap();
    expect(
        run(&mut aqueduct(&[
            "send", &queue, "--replay", file, "--pace", "fast",
        ])),
        0,
    );
    assert_eq!(expect(recv.finish(), 0).0, b"ping\npong\n");
}

#[test]
fn a_signal_lets_connections_end_and_a_second_does_not() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let (running, port) = proxy(&[&address]);
    let mut here = client(&port);
    let (mut there, _) = listener.accept().unwrap();
    here.write_all(b"x").unwrap();
    there.read_exact(&mut [0]).unwrap();
    running.signal(Signal::SIGTERM);
    until("nobody listens", || TcpListener::bind(&port).is_ok());
    there.write_all(b"y").unwrap();
    here.read_exact(&mut [0]).unwrap();
    drop(here);
    assert_eq!(there.read(&mut [0]).unwrap(), 0);
    drop(there);
    expect(running.finish(), 0);

    let (running, port) = proxy(&[&address]);
    let here = client(&port);
    let (there, _) = listener.accept().unwrap();
    running.signal(Signal::SIGTERM);
    until("nobody listens", || TcpListener::bind(&port).is_ok());
    running.signal(Signal::SIGTERM);
    let (_, said) = expect(running.finish(), 1);
    assert!(said.contains("stopped before"), "{said}");
    drop((here, there));
}

#[test]
fn a_program_that_fails_is_reported_and_others_are_served() {
    let (running, port) = proxy(&["exec:sh -c 'read word; echo $word; test $word = good'"]);
    for word in ["bad", "good"] {
        let mut here = client(&port);
        here.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut got = String::new();
        here.read_to_string(&mut got).unwrap();
        assert_eq!(got, format!("{word}\n"));
    }
    running.told("ended with exit status: 1");
    running.signal(Signal::SIGTERM);
    let (_, said) = expect(running.finish(), 0);
    assert_eq!(said.matches("ended with").count(), 1, "{said}");
}

/// As for `ssh -o ProxyCommand`, which must see that it failed.
#[test]
fn a_proxy_of_one_connection_fails_with_it() {
    let dir = Dir::new();
    let absent = format!("unix:{}", dir.path("absent").display());
    for (to, code, said) in [
        (&[&absent, "--wait", "10ms"][..], 3, "no server appeared"),
        (&["exec:false"], 1, "exit status: 1"),
        (&["exec:cat"], 0, ""),
    ] {
        let output = run(&mut aqueduct(&[&["proxy", "stdio:"], to].concat()));
        let (_, stderr) = expect(output, code);
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn both_sides_can_be_turned_round() {
    let dir = Dir::new();
    let (listener, address) = upstream(&dir);
    let bound = format!("unix:{}", dir.path("bound").display());
    let args = ["proxy", &address, &bound, "--connect", "--bind"];
    let mut running = start(&mut aqueduct(&args));
    let (mut here, _) = listener.accept().unwrap();
    until_bound(&dir.path("bound"));
    let mut there = UnixStream::connect(dir.path("bound")).unwrap();
    here.write_all(b"ping").unwrap();
    there.read_exact(&mut [0; 4]).unwrap();
    drop((here, there));
    assert!(running.wait().success());
}

#[test]
fn what_opens_a_private_socket_is_said() {
    let dir = Dir::new();
    let (_listener, address) = upstream(&dir);
    let (running, _) = proxy(&[&address]);
    running.told("every user who can connect");
    stopped(running);
}

#[test]
fn what_cannot_be_proxied_is_wrong_use() {
    let dir = Dir::new();
    let unix = format!("unix:{}", dir.path("x").display());
    for (args, said) in [
        ([dir.fifo("f").as_str(), unix.as_str()], "use relay"),
        ([unix.as_str(), dir.fifo("f").as_str()], "use relay"),
        ([unix.as_str(), unix.as_str()], "connect to itself"),
    ] {
        let output = run(&mut aqueduct(&[&["proxy"], &args[..]].concat()));
        let (_, error) = expect(output, 2);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_recording_that_cannot_be_written_is_named_as_the_cause() {
    let dir = Dir::new();
    let (listener, to) = upstream(&dir);
    let (from, file) = (dir.path("from"), dir.path("rec"));
    let mut shell = Command::new("sh");
    let script = "ulimit -f 8; exec \"$0\" proxy \"unix:$1\" \"$2\" --tee \"$3\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_aqueduct")]);
    let proxy = start(shell.arg(&from).arg(&to).arg(&file));
    proxy.told("proxying ");
    let mut here = UnixStream::connect(&from).unwrap();
    let (_there, _) = listener.accept().unwrap();
    // It may be reset before all is written.
    let _ = here.write_all(&noise(100_000));
    let (_, stderr) = expect(proxy.finish(), 1);
    let cause = format!("connection to {to} broke: it cannot be recorded: File too large");
    assert!(stderr.contains(&cause), "{stderr}");
    assert!(stderr.contains("cannot record to"), "{stderr}");
}
