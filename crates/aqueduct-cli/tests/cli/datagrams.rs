//! Datagram sockets: `unixgram:` and `udp:`.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::{
    DEADLINE, Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input, until,
    until_bound,
};

fn address(dir: &Dir) -> String {
    format!("unixgram:{}", dir.path("x").display())
}

/// Starts a command that binds an address, and gives the one that it bound.
fn bound(args: &[&str], dir: &Dir) -> (Running, String) {
    let running = start(aqueduct(args).stdin(Stdio::null()));
    if args.iter().any(|it| it.starts_with("udp:")) {
        let address = running.told("udp://127.0.0.1:");
        return (running, address);
    }
    until_bound(&dir.path("x"));
    (running, address(dir))
}

#[test]
fn each_message_is_a_datagram() {
    let dir = Dir::new();
    for at in [&address(&dir), "udp://127.0.0.1:0"] {
        let (recv, to) = bound(&["recv", at, "-n", "4", "--output", "json"], &dir);
        expect_text(run(&mut aqueduct(&["send", &to, "a\nb", ""])), 0);
        let send = start_with_input(&mut aqueduct(&["send", &to]), "c\nd\n");
        expect_text(send.finish(), 0);
        let (stdout, _) = expect(recv.finish(), 0);
        let text = String::from_utf8(stdout).unwrap();
        let sizes: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["size"].clone())
            .collect();
        assert_eq!(sizes, [3, 0, 1, 1], "{text}");
        assert!(!dir.path("x").exists(), "the socket is unlinked");
    }
}

#[test]
fn a_sender_that_is_first_waits_for_its_receiver() {
    let dir = Dir::new();
    let at = address(&dir);
    let send = start(&mut aqueduct(&["send", &at, "a"]));
    send.told("waiting for a server at");
    let recv = run(&mut aqueduct(&["recv", &at, "-n", "1"]));
    assert_eq!(expect_text(recv, 0), "a\n");
    expect(send.finish(), 0);
}

#[test]
fn a_service_answers_each_sender() {
    let dir = Dir::new();
    for at in [&address(&dir), "udp://127.0.0.1:0"] {
        let (serve, to) = bound(&["serve", at, "--", "tr", "a-z", "A-Z"], &dir);
        for word in ["one", "two"] {
            let call = run(&mut aqueduct(&["call", &to, word]));
            assert_eq!(expect_text(call, 0), format!("{}\n", word.to_uppercase()));
        }
        // A sender without a name gets no answer, which is reported; others do.
        if let Some(path) = to.strip_prefix("unixgram:") {
            let nameless = UnixDatagram::unbound().unwrap();
            nameless.send_to(b"three", path).unwrap();
            serve.told("no name");
            let call = run(&mut aqueduct(&["call", &to, "four"]));
            assert_eq!(expect_text(call, 0), "FOUR\n");
        }
        serve.signal(Signal::SIGTERM);
        expect(serve.finish(), 0);
    }
}

#[test]
fn talk_sends_lines_and_shows_replies() {
    let dir = Dir::new();
    let (serve, to) = bound(&["serve", &address(&dir), "--", "tr", "a-z", "A-Z"], &dir);
    // There is no end: it goes on for a second after that of standard input.
    let talk = start_with_input(&mut aqueduct(&["talk", &to]), "one\ntwo\n");
    let mut lines: Vec<_> = expect_text(talk.finish(), 0)
        .lines()
        .map(str::to_owned)
        .collect();
    // Programs for two messages run at the same time.
    lines.sort();
    assert_eq!(lines, ["ONE", "TWO"]);
    serve.signal(Signal::SIGTERM);
    expect(serve.finish(), 0);
}

/// `proxy` cannot be advised.
#[test]
fn a_relay_of_datagrams_does_not_speak_of_replies() {
    let dir = Dir::new();
    let _receiver = UnixDatagram::bind(dir.path("y")).unwrap();
    let to = format!("unixgram:{}", dir.path("y").display());
    let (relay, _) = bound(&["relay", &address(&dir), &to], &dir);
    relay.signal(Signal::SIGTERM);
    let (_, stderr) = expect(relay.finish(), 0);
    assert!(!stderr.contains("proxy"), "{stderr}");
}

#[test]
fn a_relay_moves_datagrams_to_a_stream_and_back() {
    let dir = Dir::new();
    let (from, stream) = (address(&dir), format!("unix:{}", dir.path("s").display()));
    let to = format!("unixgram:{}", dir.path("y").display());
    let recv = start(&mut aqueduct(&["recv", &to, "-n", "3"]));
    let back = start(&mut aqueduct(&["relay", "-q", &stream, &to]));
    let (relay, from) = bound(&["relay", "-q", &from, &stream], &dir);
    let send = start_with_input(&mut aqueduct(&["send", &from]), "a\nb\nc\n");
    expect_text(send.finish(), 0);
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\nc\n");
    for relay in [relay, back] {
        relay.signal(Signal::SIGTERM);
        expect(relay.finish(), 0);
    }
}

#[test]
fn a_datagram_over_the_limit_is_reported_and_skipped() {
    let dir = Dir::new();
    for at in [&address(&dir), "udp://127.0.0.1:0"] {
        let (recv, to) = bound(&["recv", at, "-n", "1", "--max-frame", "5"], &dir);
        expect_text(run(&mut aqueduct(&["send", &to, "too large", "fine"])), 0);
        let (stdout, stderr) = expect(recv.finish(), 0);
        assert_eq!(stdout, b"fine\n");
        let expected = "skipped a datagram of 9 bytes, over the limit of 5";
        assert!(stderr.contains(expected), "{stderr}");
        let fail = ["--too-long", "fail"];
        let (recv, to) = bound(
            &[&["recv", at, "-n", "1", "--max-frame", "5"], &fail[..]].concat(),
            &dir,
        );
        expect_text(run(&mut aqueduct(&["send", &to, "too large"])), 0);
        let (_, stderr) = expect(recv.finish(), 1);
        assert!(stderr.contains("has 9 bytes"), "{stderr}");
    }
    let send = ["send", "udp://127.0.0.1:9", &"x".repeat(65_508)];
    let (_, stderr) = expect(run(&mut aqueduct(&send)), 1);
    let expected = "message 1 has 65508 bytes, and the address takes at most 65507";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn a_socket_of_the_other_kind_is_named_with_its_scheme() {
    let dir = Dir::new();
    let path = dir.path("x");
    let _datagrams = UnixDatagram::bind(&path).unwrap();
    for scheme in ["unix", "unixpacket"] {
        let to = format!("{scheme}:{}", path.display());
        let (_, stderr) = expect(run(&mut aqueduct(&["send", &to, "hi"])), 1);
        assert!(stderr.contains("unixgram:"), "{stderr}");
    }
    let stream = dir.path("s");
    let _stream = std::os::unix::net::UnixListener::bind(&stream).unwrap();
    let to = format!("unixgram:{}", stream.display());
    let (_, stderr) = expect(run(&mut aqueduct(&["send", &to, "hi"])), 1);
    assert!(stderr.contains("unix:"), "{stderr}");
}

#[test]
fn a_receiver_that_has_gone_is_an_error() {
    let dir = Dir::new();
    let (recv, to) = bound(&["recv", &address(&dir), "-n", "1"], &dir);
    let mut send = start(aqueduct(&["send", &to]).stdin(Stdio::piped()));
    let mut stdin = send.stdin();
    std::io::Write::write_all(&mut stdin, b"a\n").unwrap();
    assert_eq!(expect_text(recv.finish(), 0), "a\n");
    std::io::Write::write_all(&mut stdin, b"b\n").unwrap();
    drop(stdin);
    let (_, stderr) = expect(send.finish(), 1);
    assert!(stderr.contains("the reader has gone"), "{stderr}");
}

/// `NOTIFY_SOCKET` has a path, or `@` and an abstract name.
#[test]
fn a_script_notifies_its_service_manager() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;

    let dir = Dir::new();
    let path = dir.path("notify");
    let name = format!("aqueduct-test-notify-{}", std::process::id());
    for (manager, named) in [
        (UnixDatagram::bind(&path), path.display().to_string()),
        (
            SocketAddr::from_abstract_name(&name).and_then(|it| UnixDatagram::bind_addr(&it)),
            format!("@{name}"),
        ),
    ] {
        let manager = manager.unwrap();
        manager.set_read_timeout(Some(DEADLINE)).unwrap();
        let script = "\"$0\" send \"unixgram:$NOTIFY_SOCKET\" READY=1";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_aqueduct")]);
        expect_text(run(shell.env("NOTIFY_SOCKET", named)), 0);
        let mut state = [0; 20];
        let len = manager.recv(&mut state).unwrap();
        assert_eq!(&state[..len], b"READY=1");
    }
}

/// As far as the network reports it. No end of the stream follows that could be waited for.
#[test]
fn an_unused_port_ends_a_conversation_with_an_error() {
    let unused = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("udp://{}", unused.local_addr().unwrap());
    drop(unused);
    let (_, stderr) = expect(run(&mut aqueduct(&["send", &to, "hi"])), 1);
    assert!(stderr.contains("the reader has gone"), "{stderr}");
    let (_, stderr) = expect(run(&mut aqueduct(&["call", &to, "hi"])), 1);
    assert!(stderr.contains("no process receives at"), "{stderr}");
    let talk = start_with_input(&mut aqueduct(&["talk", &to]), "hi\n");
    let (_, stderr) = expect(talk.finish(), 1);
    assert!(stderr.contains("no process receives at"), "{stderr}");
}

#[test]
fn commands_that_need_connections_refuse_datagrams() {
    for (args, word) in [
        (&["proxy", "udp://127.0.0.1:0", "unix:/tmp/x"][..], "relay"),
        (&["call", "--all", "udp://127.0.0.1:9", "hi"], "no end"),
        (&["call", "--bind", "udp://127.0.0.1:0", "hi"], "accept"),
        (&["talk", "--bind", "unixgram:/tmp/x"], "accept"),
        (&["send", "--bind", "unixgram:/tmp/x", "hi"], "accept"),
        (&["recv", "--connect", "udp://127.0.0.1:9"], "accept"),
        (&["bench", "unixgram:/tmp/x"], "the end of the stream"),
        (
            &[
                "serve",
                "udp://127.0.0.1:0",
                "--per",
                "connection",
                "--",
                "cat",
            ],
            "bytes",
        ),
        (&["recv", "udp://127.0.0.1:0?frame=lines"], "option"),
    ] {
        let (_, stderr) = expect(run(&mut aqueduct(args)), 2);
        assert!(stderr.contains(word), "{args:?}: {stderr}");
    }
}

#[test]
fn sockets_are_listed_and_orphans_cleaned() {
    let dir = Dir::new();
    let (recv, to) = bound(&["recv", &address(&dir)], &dir);
    let list = || {
        let dir = dir.path("");
        let dir = dir.to_str().unwrap();
        String::from_utf8(expect(run(&mut aqueduct(&["list", dir])), 0).0).unwrap()
    };
    assert!(list().contains(&to), "{}", list());
    // Names that the kernel gives to clients are not listed.
    let _send = start(aqueduct(&["send", &to]).stdin(Stdio::piped()));
    let client = || {
        let names = std::fs::read_to_string("/proc/net/unix").unwrap();
        let mut names = names
            .lines()
            .filter_map(|it| it.split_once(" @"))
            .map(|it| it.1);
        let is_automatic = |it: &&str| it.len() == 5 && it.bytes().all(|it| it.is_ascii_hexdigit());
        names.find(is_automatic).map(str::to_owned)
    };
    until("a client has a name", || client().is_some());
    let (all, _) = expect(run(&mut aqueduct(&["list", "--all"])), 0);
    let name = format!("unixgram:@{}\t", client().unwrap_or_default());
    assert!(!String::from_utf8_lossy(&all).contains(&name), "{name}");
    recv.signal(Signal::SIGKILL);
    drop(recv);
    let inside = dir.path("");
    let clean = ["clean", inside.to_str().unwrap(), "--yes"];
    expect(run(&mut aqueduct(&clean)), 0);
    assert!(!dir.path("x").exists());
}
