//! Commands notify their service manager: `sd_notify(3)`.

use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Dir, aqueduct, expect, run, start, until};

/// The socket of a service manager.
fn manager(dir: &Dir) -> UnixDatagram {
    let _ = std::fs::remove_file(dir.path("notify"));
    let socket = UnixDatagram::bind(dir.path("notify")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// The next state.
fn next(manager: &UnixDatagram) -> String {
    let mut state = [0; 500];
    let len = manager.recv(&mut state).unwrap();
    String::from_utf8_lossy(&state[..len]).into_owned()
}

/// Skips states up to one with this beginning.
fn skip_to(manager: &UnixDatagram, beginning: &str) {
    while !next(manager).starts_with(beginning) {}
}

#[test]
fn long_running_commands_notify_their_manager() {
    let dir = Dir::new();
    let (unix, fifo) = (format!("unix:{}", dir.path("s").display()), dir.fifo("x"));
    let to = format!("unixgram:{}", dir.path("g").display());
    let _receiver = UnixDatagram::bind(dir.path("g")).unwrap();
    let persistent = format!("{fifo}?persist=true");
    for args in [
        &["serve", &unix, "--", "cat"][..],
        &["serve", &unix, "--per", "connection", "--", "cat"],
        &["serve", &persistent, "--", "cat"],
        &["recv", &unix],
        &["relay", &persistent, &to],
        &["proxy", &unix, "tcp://127.0.0.1:9"],
    ] {
        let manager = manager(&dir);
        let mut command = aqueduct(args);
        command.stdin(Stdio::null());
        command.env("NOTIFY_SOCKET", dir.path("notify"));
        command.env("WATCHDOG_USEC", "20000");
        let running = start(&mut command);
        let mut state = next(&manager);
        while state == "WATCHDOG=1" {
            state = next(&manager);
        }
        let status = state.strip_prefix("READY=1\nSTATUS=");
        let status = status.unwrap_or_else(|| panic!("{args:?}: {state}"));
        assert!(status.contains(args[1]), "{args:?}: {status}");
        skip_to(&manager, "WATCHDOG=1");
        skip_to(&manager, "WATCHDOG=1");
        running.signal(Signal::SIGTERM);
        skip_to(&manager, "STOPPING=1");
        expect(running.finish(), 0);
    }
}

#[test]
fn programs_of_a_service_do_not_inherit_its_manager() {
    let dir = Dir::new();
    let manager = manager(&dir);
    let address = format!("unix:{}", dir.path("s").display());
    let mut serve = aqueduct(&["serve", &address, "--", "sh", "-c", "echo $NOTIFY_SOCKET."]);
    serve.stdin(Stdio::null());
    let _serve = start(serve.env("NOTIFY_SOCKET", dir.path("notify")));
    skip_to(&manager, "READY=1");
    let (stdout, _) = expect(run(&mut aqueduct(&["call", &address, "hi"])), 0);
    assert_eq!(stdout, b".\n");
}

#[test]
fn a_manager_that_is_not_there_is_a_warning() {
    let dir = Dir::new();
    let mut recv = aqueduct(&["recv", &dir.fifo("x")]);
    let recv = start(recv.env("NOTIFY_SOCKET", dir.path("nobody")));
    until("it is there", || dir.path("x").exists());
    expect(run(&mut aqueduct(&["send", "-q", &dir.fifo("x"), "hi"])), 0);
    let (stdout, stderr) = expect(recv.finish(), 0);
    assert_eq!(stdout, b"hi\n");
    assert!(stderr.contains("NOTIFY_SOCKET"), "{stderr}");
}
