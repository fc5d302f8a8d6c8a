//! `serve --per connection`: a program gets the connection itself.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use crate::support::{DEADLINE, Dir, Running, aqueduct, expect, run, start, until};

/// A service on a Unix socket that runs a shell's command for each connection.
fn serve(dir: &Dir, flags: &[&str], command: &str) -> Running {
    let address = format!("unix:{}", dir.path("s").display());
    let args = [
        &["serve", &address, "--per", "connection"],
        flags,
        &["--", "sh", "-c", command],
    ];
    let running = start(&mut aqueduct(&args.concat()));
    running.told("unix:");
    running
}

fn client(dir: &Dir) -> UnixStream {
    let client = UnixStream::connect(dir.path("s")).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// What comes after `said` and the end of it.
fn answer(dir: &Dir, said: &[u8]) -> String {
    let mut client = client(dir);
    client.write_all(said).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

fn stopped(running: Running) -> String {
    running.signal(Signal::SIGTERM);
    expect(running.finish(), 0).1
}

#[test]
fn one_hash_for_all_that_a_client_sends() {
    let dir = Dir::new();
    let running = serve(&dir, &[], "sha256sum");
    let all = answer(&dir, &vec![b'x'; 300_000]);
    assert_eq!(all.lines().count(), 1, "{all}");
    assert_eq!(all, answer(&dir, &vec![b'x'; 300_000]));
    assert_ne!(all, answer(&dir, &vec![b'x'; 299_999]));
    stopped(running);
}

#[test]
fn the_program_gets_the_socket_in_blocking_mode() {
    let dir = Dir::new();
    let show = "readlink /proc/self/fd/0 /proc/self/fd/1; grep flags: /proc/self/fdinfo/0";
    let running = serve(&dir, &[], show);
    let shown = answer(&dir, b"");
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[0].starts_with("socket:["), "{shown}");
    assert_eq!(lines[0], lines[1]);
    let flags = lines[2].split_whitespace().last().unwrap();
    let flags = i32::from_str_radix(flags, 8).unwrap();
    assert_eq!(flags & nix::libc::O_NONBLOCK, 0, "{shown}");
    stopped(running);
}

#[test]
fn a_conversation_goes_both_ways() {
    let dir = Dir::new();
    let running = serve(&dir, &[], "while read line; do echo \"<$line>\"; done");
    let mut client = client(&dir);
    for word in ["one", "two"] {
        client.write_all(format!("{word}\n").as_bytes()).unwrap();
        let mut got = [0; 6];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got[..], format!("<{word}>\n").into_bytes());
    }
    drop(client);
    stopped(running);
}

/// As from inetd: the connection ends with the last process that holds it.
#[test]
fn a_daemon_that_the_program_leaves_keeps_the_connection() {
    let dir = Dir::new();
    let go = dir.path("go");
    let daemon = format!(
        "(while [ ! -e {0} ]; do sleep 0.01; done; echo late) & echo first",
        go.display()
    );
    let running = serve(&dir, &[], &daemon);
    let mut client = client(&dir);
    let mut got = [0; 6];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"first\n");
    std::fs::write(go, "").unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "late\n");
    stopped(running);
}

#[test]
fn the_program_knows_who_has_connected() {
    let dir = Dir::new();
    let running = serve(&dir, &[], "echo $AQUEDUCT_PEER_PID $AQUEDUCT_ATTEMPT");
    let me = std::process::id();
    assert_eq!(answer(&dir, b""), format!("{me}\n"));
    stopped(running);
}

#[test]
fn a_program_that_fails_is_reported_and_others_are_served() {
    let dir = Dir::new();
    let running = serve(&dir, &[], "read word; [ \"$word\" = good ] && echo yes");
    assert_eq!(answer(&dir, b"bad\n"), "");
    running.told("exit status: 1");
    assert_eq!(answer(&dir, b"good\n"), "yes\n");
    stopped(running);
}

#[test]
fn a_client_that_leaves_ends_its_program_alone() {
    let dir = Dir::new();
    let running = serve(&dir, &[], "cat >/dev/null; echo too late");
    drop(client(&dir));
    assert_eq!(answer(&dir, b"x"), "too late\n");
    stopped(running);
}

#[test]
fn only_so_many_programs_at_a_time() {
    let dir = Dir::new();
    let running = serve(&dir, &["--max-connections", "1"], "cat");
    let first = client(&dir);
    let mut second = client(&dir);
    second.write_all(b"x").unwrap();
    drop(first);
    second.read_exact(&mut [0]).unwrap();
    drop(second);
    stopped(running);
}

#[test]
fn a_signal_lets_programs_end() {
    let dir = Dir::new();
    let running = serve(&dir, &[], "cat");
    let mut client = client(&dir);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    running.signal(Signal::SIGTERM);
    until("nobody listens", || !dir.path("s").exists());
    client.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
    drop(client);
    expect(running.finish(), 0);
}

/// Where there is no socket to hand over, all passes through two pipes.
#[test]
fn a_program_is_served_through_pipes() {
    let dir = Dir::new();
    let got = dir.path("got");
    let ask = format!("exec:sh -c 'echo hello; exec cat >{}'", got.display());
    let args = [
        "serve",
        &ask,
        "--per",
        "connection",
        "--",
        "tr",
        "a-z",
        "A-Z",
    ];
    expect(run(&mut aqueduct(&args)), 0);
    assert_eq!(std::fs::read_to_string(got).unwrap(), "HELLO\n");
}

#[test]
fn no_client_for_too_long_times_out() {
    let dir = Dir::new();
    let running = serve(&dir, &["--timeout", "50ms"], "cat");
    let (_, said) = expect(running.finish(), 3);
    assert!(said.contains("for 50ms"), "{said}");
}

#[test]
fn what_has_no_meaning_for_connections_is_refused() {
    let dir = Dir::new();
    let (unix, queue) = (format!("unix:{}", dir.path("s").display()), "mq:/x");
    let packets = format!("unixpacket:{}", dir.path("s").display());
    let framed = format!("{unix}?frame=lines");
    for (args, said) in [
        (vec![&unix[..]], "needs a CMD"),
        (vec![&unix, "--jobs", "2", "--", "cat"], "--jobs"),
        (vec![&unix, "--retry", "2", "--", "cat"], "--retry"),
        (vec![&unix, "--on-fail", queue, "--", "cat"], "--on-fail"),
        (vec![&unix, "--frame", "lines", "--", "cat"], "--frame"),
        (vec![&unix, "--frame", "raw", "--", "cat"], "--frame"),
        (vec![&framed, "--", "cat"], "frame="),
        (vec![&unix, "--partial", "keep", "--", "cat"], "--partial"),
        (vec![&unix, "--too-long", "skip", "--", "cat"], "--too-long"),
        (
            vec![&unix, "--idle-timeout", "1s", "--", "cat"],
            "--idle-timeout",
        ),
        (
            vec![&unix, "--first-timeout", "1s", "--", "cat"],
            "--first-timeout",
        ),
        (vec![queue, "--", "cat"], "stream of bytes"),
        (vec![&packets, "--", "cat"], "stream of bytes"),
    ] {
        let args = [&["serve", "--per", "connection"], &args[..]].concat();
        let (_, error) = expect(run(&mut aqueduct(&args)), 2);
        assert!(error.contains(said), "{error}");
    }
}
