//! The rows of the README's table that need socat, both ways, and each way with the other.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::readme::{Place, Server, row};
use crate::support::{DEADLINE, aqueduct, expect_text, run, start, until};

/// A port that is free now, and not given out by the system: so it stays free but for bad luck.
pub(crate) fn free_port() -> u16 {
    let first = 20_000 + (std::process::id() % 5000) as u16;
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..30_000)
        .find(free)
        .expect("one of thousands is free")
}

/// Waits until a Unix socket takes connections, and takes none.
fn until_serving(place: &Place, name: &str) {
    let path = place.dir().path(name);
    until("it listens", || {
        let table = std::fs::read_to_string("/proc/net/unix").unwrap();
        let path = path.display().to_string();
        table
            .lines()
            .any(|it| it.ends_with(&path) && it.contains(" 00010000 "))
    });
}

/// Runs a client until it gets what is expected: a server may not be ready for it yet.
fn until_told(place: &Place, client: &str, expected: &str) {
    let start = Instant::now();
    loop {
        let output = run(&mut place.shell(client));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text == expected {
            return;
        }
        assert!(start.elapsed() < DEADLINE, "{client}: {text} {output:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_is_served_on_a_unix_socket_and_asked() {
    let ((socat, ours), (ask, call)) = (
        row("serve a program on a Unix socket"),
        row("send it a request"),
    );
    for server in [&socat, &ours] {
        let place = Place::new(&[]);
        let _server = place.serve(server);
        until_serving(&place, "upper");
        until_told(&place, &ask, "HELLO\n");
        until_told(&place, &call, "HELLO\n");
    }
}

#[test]
fn talk_and_socat_hold_the_same_conversation() {
    let (_, serve) = row("serve a program on a Unix socket");
    let (socat, talk) = row("talk to it, both ways at once");
    let place = Place::new(&[]);
    let _server = place.serve(&serve);
    until_serving(&place, "upper");
    for command in [socat, talk] {
        until_told(&place, &format!("echo hello | {command}"), "HELLO\n");
    }
}

#[test]
fn lines_of_tcp_clients_are_collected_and_written() {
    let ((socat, ours), (write, send)) = (
        row("collect what all clients of a TCP port write"),
        row("write to a TCP port that may not be up yet"),
    );
    for server in [&socat, &ours] {
        for client in [&write, &send] {
            for first in [true, false] {
                let port = free_port().to_string();
                let place = Place::new(&[("7000", &port)]);
                let out = place.dir().path("out");
                let listen = || place.serve(&format!("exec > /tmp/out; {server}"));
                // The client waits for the server, or the server is up before it.
                let (_server, client): (Server, _) = if first {
                    let server = listen();
                    (server, start(&mut place.shell(client)))
                } else {
                    let client = start(&mut place.shell(client));
                    (listen(), client)
                };
                let output = client.finish();
                assert!(output.status.success(), "{output:?}");
                until("it is collected", || {
                    std::fs::read_to_string(&out).is_ok_and(|it| it == "hi\n")
                });
            }
        }
    }
}

#[test]
fn a_packet_stays_whole() {
    let (socat, ours) = row("send a packet that stays whole");
    let place = Place::new(&[]);
    let address = format!("unixpacket:{}", place.dir().path("p").display());
    let recv = start(&mut aqueduct(&["recv", &address, "-n", "2"]));
    until_serving(&place, "p");
    expect_text(run(&mut place.shell(&ours)), 0);
    expect_text(run(&mut place.shell(&socat)), 0);
    // The one's echo has sent a newline, too.
    let text = expect_text(recv.finish(), 0);
    assert!(
        ["hi\nhi\n\n", "hi\n\nhi\n"].contains(&text.as_str()),
        "{text:?}"
    );
}

#[test]
fn socat_writes_to_and_reads_from_a_fifo() {
    let place = Place::new(&[]);
    let fifo = place.dir().fifo("x");
    let path = place.dir().path("x").display().to_string();
    // To us.
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until("it is there", || place.dir().path("x").exists());
    let write = "seq 1 1000 | socat -u - OPEN:/tmp/x,wronly";
    expect_text(run(&mut place.shell(write)), 0);
    let numbers: String = (1..=1000).map(|i| format!("{i}\n")).collect();
    assert_eq!(expect_text(recv.finish(), 0), numbers);
    // From us.
    let mut socat = Command::new("socat");
    socat
        .args(["-u", &format!("OPEN:{path},rdonly"), "-"])
        .stdin(Stdio::null());
    let socat = start(&mut socat);
    expect_text(run(&mut aqueduct(&["send", "-q", &fifo, "a", "b"])), 0);
    assert_eq!(expect_text(socat.finish(), 0), "a\nb\n");
}
