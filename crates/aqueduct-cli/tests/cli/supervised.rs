//! What a service manager is told: `sd_notify(3)`.

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

/// The next state that is no sign of life, and how many of those came before it.
fn next(manager: &UnixDatagram) -> (String, usize) {
    let mut alive = 0;
    loop {
        let mut state = [0; 500];
        let len = manager.recv(&mut state).unwrap();
        let state = String::from_utf8_lossy(&state[..len]).into_owned();
        if state != "WATCHDOG=1" {
            return (state, alive);
        }
        alive += 1;
    }
}

#[test]
fn what_goes_on_until_it_is_stopped_tells_its_manager() {
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
        let (state, _) = next(&manager);
        let status = state.strip_prefix("READY=1\nSTATUS=");
        let status = status.unwrap_or_else(|| panic!("{args:?}: {state}"));
        assert!(status.contains(args[1]), "{args:?}: {status}");
        std::thread::sleep(std::time::Duration::from_millis(100));
        running.signal(Signal::SIGTERM);
        loop {
            let (state, alive) = next(&manager);
            if state == "READY=1" {
                // From the library, which has no status.
                continue;
            }
            assert!(state.starts_with("STOPPING=1"), "{args:?}: {state}");
            assert!(alive >= 2, "{args:?}: {alive}");
            break;
        }
        expect(running.finish(), 0);
    }
}

#[test]
fn the_programs_of_a_service_do_not_speak_for_it() {
    let dir = Dir::new();
    let manager = manager(&dir);
    let address = format!("unix:{}", dir.path("s").display());
    let mut serve = aqueduct(&["serve", &address, "--", "sh", "-c", "echo $NOTIFY_SOCKET."]);
    serve.stdin(Stdio::null());
    let _serve = start(serve.env("NOTIFY_SOCKET", dir.path("notify")));
    assert!(next(&manager).0.starts_with("READY=1"));
    let (stdout, _) = expect(run(&mut aqueduct(&["call", &address, "hi"])), 0);
    assert_eq!(stdout, b".\n");
}

/// It is no reason to fail.
#[test]
fn a_manager_that_is_not_there_is_told_of() {
    let dir = Dir::new();
    let mut recv = aqueduct(&["recv", &dir.fifo("x")]);
    let recv = start(recv.env("NOTIFY_SOCKET", dir.path("nobody")));
    until("it is there", || dir.path("x").exists());
    expect(run(&mut aqueduct(&["send", "-q", &dir.fifo("x"), "hi"])), 0);
    let (stdout, stderr) = expect(recv.finish(), 0);
    assert_eq!(stdout, b"hi\n");
    assert!(stderr.contains("NOTIFY_SOCKET"), "{stderr}");
}
