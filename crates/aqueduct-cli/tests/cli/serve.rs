//! `aqueduct serve`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::{
    DEADLINE, Dir, Running, aqueduct, compile_c, expect, expect_text, read_with_deadline, run,
    start, start_with_input, until,
};

/// Connects to the port in its first argument, writes its second without any framing, and prints
/// what one read brings. It does not close before that.
const CLIENT: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    char buf[4096];
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at))
        return 1;
    for (int i = 2; i < argc; i++) {
        if (write(fd, argv[i], strlen(argv[i])) != (ssize_t)strlen(argv[i]))
            return 1;
        ssize_t n = read(fd, buf, sizeof buf);
        printf("%.*s|", (int)n, buf);
    }
    return close(fd);
}
"#;

/// Starts a service, and gives its address as it tells it.
fn serving(args: &[&str]) -> (Running, String) {
    let serve = start(aqueduct(&["serve"]).args(args).stdin(Stdio::null()));
    serve.told("serving ");
    let address = serve.told(args[0].split_once(":").unwrap().0);
    (serve, address)
}

fn unix(dir: &Dir) -> String {
    format!("unix:{}", dir.path("x").display())
}

fn call(address: &str, message: &str) -> String {
    expect_text(run(&mut aqueduct(&["call", address, message])), 0)
}

/// Ends a service, which has to have nothing to complain of but `complaint`.
fn end(serve: Running, signal: Signal, complaint: &str) {
    serve.signal(signal);
    let (_, stderr) = expect(serve.finish(), 0);
    let (first, rest) = stderr.split_once('\n').unwrap();
    assert!(first.starts_with("aqueduct: serving "), "{stderr}");
    assert_eq!(rest, complaint);
}

/// A script that says in file `begun` that it has begun, and waits until there is file `go`.
fn held(dir: &Dir) -> String {
    let (begun, go) = (dir.path("begun"), dir.path("go"));
    format!(
        "cat; echo x >> {}; until [ -e {} ]; do sleep 0.01; done",
        begun.display(),
        go.display()
    )
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn a_c_client_without_framing_is_answered_raw() {
    let dir = Dir::new();
    let program = compile_c(&dir, "client", CLIENT);
    let (serve, address) = serving(&[
        "tcp://127.0.0.1:0",
        "--frame",
        "raw",
        "--",
        "tr",
        "a-z",
        "A-Z",
    ]);
    let port = address.rsplit(':').next().unwrap();
    let mut client = Command::new(&program);
    let answers = expect_text(run(client.args([port, "hello", "two\nlines"])), 0);
    assert_eq!(answers, "HELLO|TWO\nLINES|");
    // And both ends of our own.
    let call = ["call", &address, "--frame", "raw", "hi"];
    assert_eq!(expect_text(run(&mut aqueduct(&call)), 0), "HI");
    end(serve, Signal::SIGTERM, "");
}

/// Without a program the service echoes.
#[test]
fn a_program_answers_over_every_socket_and_none_is_an_echo() {
    let dir = Dir::new();
    let path = dir.path("x");
    for address in [
        format!("unix:{}", path.display()),
        format!("unixpacket:{}", path.display()),
        "tcp://127.0.0.1:0".to_owned(),
    ] {
        for (command, expected) in [(&["--", "rev"][..], "cba\n"), (&[], "abc\n")] {
            let args = [&[address.as_str()], command].concat();
            let (serve, address) = serving(&args);
            for _ in 0..2 {
                assert_eq!(call(&address, "abc"), expected, "{address}");
            }
            end(serve, Signal::SIGINT, "");
            assert!(!path.exists(), "the socket is unlinked");
        }
    }
}

#[test]
fn one_client_gets_its_answers_in_order() {
    let dir = Dir::new();
    let (serve, _) = serving(&[&unix(&dir), "--", "rev"]);
    let mut socket = std::os::unix::net::UnixStream::connect(dir.path("x")).unwrap();
    socket.write_all(b"abc\n\nxyz\n").unwrap();
    assert_eq!(
        read_with_deadline(socket.try_clone().unwrap(), 9),
        b"cba\n\nzyx\n"
    );
    drop(socket);
    end(serve, Signal::SIGTERM, "");
}

#[test]
fn a_program_that_fails_is_told_of_and_the_service_goes_on() {
    let dir = Dir::new();
    let script = "read x; echo got $x; [ $x != bad ]";
    let (serve, address) = serving(&[&unix(&dir), "--", "sh", "-c", script]);
    assert_eq!(call(&address, "bad"), "got bad\n");
    assert_eq!(call(&address, "good"), "got good\n");
    end(serve, Signal::SIGTERM, "aqueduct: sh: exit status: 1\n");
}

#[test]
fn a_missing_program_is_reported_and_raw_clients_do_not_wait() {
    let dir = Dir::new();
    let program = dir.path("program");
    std::os::unix::fs::symlink("/bin/true", &program).unwrap();
    let program = program.to_str().unwrap();
    let (serve, address) = serving(&["tcp://127.0.0.1:0", "--frame", "raw", "--", program]);
    fs::remove_file(program).unwrap();
    let mut client = TcpStream::connect(address.strip_prefix("tcp://").unwrap()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"hi").unwrap();
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 0, "the end");
    serve.told(program);
    serve.signal(Signal::SIGTERM);
    expect(serve.finish(), 0);
}

#[test]
fn a_reply_the_framing_cannot_carry_ends_its_connection_only() {
    let dir = Dir::new();
    let script = "read x; echo $x | tr , '\\n'";
    let (serve, address) = serving(&[&unix(&dir), "--", "sh", "-c", script]);
    let output = run(&mut aqueduct(&["call", &address, "a,b"]));
    assert!(expect(output, 1).1.contains("closed without a reply"));
    assert_eq!(call(&address, "ab"), "ab\n");
    serve.told("--frame");
    serve.signal(Signal::SIGTERM);
    let (_, stderr) = expect(serve.finish(), 0);
    assert!(stderr.contains("has a newline in it"), "{stderr}");
}

#[test]
fn a_program_that_prints_without_an_end_is_cut_off() {
    let dir = Dir::new();
    let args = [
        &unix(&dir),
        "--frame",
        "length",
        "--max-frame",
        "10",
        "--",
        "yes",
    ];
    let (serve, address) = serving(&args);
    let call = [
        "call", &address, "--frame", "length", "--output", "raw", "hi",
    ];
    assert_eq!(expect_text(run(&mut aqueduct(&call)), 0), "y\ny\ny\ny\ny\n");
    end(
        serve,
        Signal::SIGTERM,
        "aqueduct: yes: it printed more than 10 bytes, and is cut off: see --max-frame\n",
    );
}

#[test]
fn no_more_programs_run_at_a_time_than_allowed() {
    let dir = Dir::new();
    let script = held(&dir);
    let (serve, address) = serving(&[&unix(&dir), "--jobs", "2", "--", "sh", "-c", &script]);
    let mut calls: Vec<_> = (0..4)
        .map(|_| start(&mut aqueduct(&["call", &address, "hi"])))
        .collect();
    let begun = dir.path("begun");
    until("two run", || lines(&begun) == 2);
    // The others wait, for as long as they may.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(lines(&begun), 2);
    fs::write(dir.path("go"), "").unwrap();
    for call in calls.drain(..) {
        assert_eq!(expect_text(call.finish(), 0), "hi\n");
    }
    assert_eq!(lines(&begun), 4);
    end(serve, Signal::SIGTERM, "");
}

#[test]
fn what_was_accepted_is_answered_after_a_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let dir = Dir::new();
        let script = held(&dir);
        let (serve, address) = serving(&[&unix(&dir), "--", "sh", "-c", &script]);
        let call = start(&mut aqueduct(&["call", &address, "hi"]));
        until("it is at work", || lines(&dir.path("begun")) == 1);
        serve.signal(signal);
        until("it listens no more", || !dir.path("x").exists());
        fs::write(dir.path("go"), "").unwrap();
        assert_eq!(expect_text(call.finish(), 0), "hi\n");
        assert!(
            expect(serve.finish(), 0)
                .1
                .starts_with("aqueduct: serving ")
        );
    }
}

#[test]
fn ctrl_c_at_a_terminal_does_not_kill_the_programs_at_work() {
    let dir = Dir::new();
    let script = held(&dir);
    let mut serve = aqueduct(&["serve", &unix(&dir), "--", "sh", "-c", &script]);
    let serve = start(serve.stdin(Stdio::null()).process_group(0));
    serve.told("serving ");
    let call = start(&mut aqueduct(&["call", &unix(&dir), "hi"]));
    until("it is at work", || lines(&dir.path("begun")) == 1);
    // A terminal sends it to the whole group of processes.
    killpg(Pid::from_raw(serve.pid() as i32), Signal::SIGINT).unwrap();
    until("it listens no more", || !dir.path("x").exists());
    fs::write(dir.path("go"), "").unwrap();
    assert_eq!(expect_text(call.finish(), 0), "hi\n");
    let (_, stderr) = expect(serve.finish(), 0);
    assert_eq!(stderr.lines().count(), 1, "it did not fail: {stderr}");
}

#[test]
fn a_second_signal_does_not_wait() {
    let dir = Dir::new();
    let script = held(&dir);
    let (serve, address) = serving(&[&unix(&dir), "--", "sh", "-c", &script]);
    let call = start(&mut aqueduct(&["call", &address, "hi"]));
    until("it is at work", || lines(&dir.path("begun")) == 1);
    serve.signal(Signal::SIGTERM);
    until("it listens no more", || !dir.path("x").exists());
    serve.signal(Signal::SIGTERM);
    let (_, stderr) = expect(serve.finish(), 1);
    assert!(stderr.contains("stopped before"), "{stderr}");
    expect(call.finish(), 1);
    fs::write(dir.path("go"), "").unwrap();
}

#[test]
fn output_for_one_way_messages_is_printed_in_their_order() {
    let dir = Dir::new();
    // The first one takes longest.
    let (begun, go) = (dir.path("begun"), dir.path("go"));
    let script = format!(
        "read x; echo $x >> {}; until [ $x != 1 -o -e {} ]; do sleep 0.01; done; \
         echo got $x; [ $x != 2 ]",
        begun.display(),
        go.display()
    );
    let fifo = dir.fifo("x");
    let (serve, _) = serving(&[&fifo, "--jobs", "4", "--", "sh", "-c", &script]);
    // It outlives its senders.
    expect_text(run(&mut aqueduct(&["send", &fifo, "1", "2"])), 0);
    expect_text(run(&mut aqueduct(&["send", &fifo, "3"])), 0);
    until("all three run", || lines(&begun) == 3);
    serve.told("exit status:");
    fs::write(go, "").unwrap();
    serve.signal(Signal::SIGTERM);
    let (stdout, stderr) = expect(serve.finish(), 0);
    let stdout = String::from_utf8(stdout).unwrap();
    assert_eq!(stdout, "got 1\ngot 2\ngot 3\n");
    assert!(
        stderr.ends_with("aqueduct: sh: exit status: 1\n"),
        "{stderr}"
    );
}

#[test]
fn one_way_messages_are_printed_without_a_program() {
    let dir = Dir::new();
    let address = format!("{}?persist=false", dir.fifo("x"));
    let (serve, _) = serving(&[&address]);
    let send = start_with_input(&mut aqueduct(&["send", &dir.fifo("x")]), "a\nb\n");
    expect_text(send.finish(), 0);
    // As its address says, it ends with its last sender.
    assert_eq!(expect(serve.finish(), 0).0, b"a\nb\n");
}

#[test]
fn a_service_that_nobody_uses_gives_up_with_3_if_told_to() {
    let dir = Dir::new();
    for address in [unix(&dir), dir.fifo("fifo")] {
        let output = run(&mut aqueduct(&["serve", &address, "--timeout", "50ms"]));
        let (_, stderr) = expect(output, 3);
        assert!(
            stderr.contains("nothing arrived") && stderr.contains("50ms"),
            "{stderr}"
        );
    }
}

#[test]
fn standard_input_and_output_are_one_client() {
    let serve = start_with_input(
        &mut aqueduct(&["serve", "-q", "stdio:", "--", "rev"]),
        "abc\n",
    );
    assert_eq!(expect_text(serve.finish(), 0), "cba\n");
}

/// There is no other to go on with.
#[test]
fn a_service_of_one_connection_fails_with_it() {
    for (args, said) in [
        (&["exec:false", "--", "cat"][..], "exit status: 1"),
        (
            &["exec:echo abc", "--frame", "length", "--", "cat"],
            "over the limit",
        ),
        (
            &["exec:echo abc", "--per", "connection", "--", "false"],
            "exit status: 1",
        ),
    ] {
        let (_, stderr) = expect(run(&mut aqueduct(&[&["serve"], args].concat())), 1);
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn a_flag_turns_both_sides_round() {
    let dir = Dir::new();
    let address = unix(&dir);
    let call = start(&mut aqueduct(&["call", &address, "--bind", "abc"]));
    let serve = run(&mut aqueduct(&[
        "serve",
        &address,
        "--connect",
        "--",
        "rev",
    ]));
    assert_eq!(expect(call.finish(), 0).0, b"cba\n");
    expect(serve, 0);
}
