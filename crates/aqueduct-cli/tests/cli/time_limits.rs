//! `--timeout` before the peer is there.

use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};

use crate::support::{Dir, aqueduct, expect, start};

/// Each command gives up on `address`, whose server does not go on with new clients.
fn give_up_on(address: &str) {
    let commands: [&[&str]; 6] = [
        &["call", address, "x"],
        &["talk", address],
        &["send", address, "x"],
        &["recv", "--connect", address],
        &["relay", "exec:echo", address],
        &["serve", "--connect", address, "--", "cat"],
    ];
    let running = commands.map(|command| {
        let mut arguments = command.to_vec();
        arguments.splice(1..1, ["--timeout", "200ms", "--wait", "1h"]);
        start(&mut aqueduct(&arguments))
    });
    for running in running {
        let (_, stderr) = expect(running.finish(), 3);
        assert!(stderr.contains("no data moved for 200ms"), "{stderr}");
    }
}

#[test]
fn a_time_limit_holds_while_a_backlog_is_full() {
    let dir = Dir::new();
    let path = dir.path("socket");
    let flags = SockFlag::SOCK_CLOEXEC;
    let server = socket(AddressFamily::Unix, SockType::Stream, flags, None).expect("a socket");
    let address = UnixAddr::new(&path).expect("a path");
    bind(std::os::fd::AsRawFd::as_raw_fd(&server), &address).expect("it is bound");
    listen(&server, Backlog::new(0).expect("a length")).expect("it listens");
    let _only = UnixStream::connect(&path).expect("there is room for one");
    give_up_on(&format!("unix:{}", path.display()));
}

#[cfg(feature = "tls")]
#[test]
fn a_time_limit_holds_during_a_tls_handshake() {
    // Clients are accepted by the kernel, and nobody speaks to them.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("it is bound");
    give_up_on(&format!("tls://{at}"));
}
