//! `aqueduct call`, against servers that know nothing of it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use nix::sys::signal::Signal;

use crate::support::{Dir, aqueduct, compile_c, expect, expect_text, run, start, start_with_input};

/// Accepts, reads once, replies without a newline, and closes: all that many a C server does.
/// It listens on a port of the system's choice and prints it.
const SERVER: &str = r#"
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    char buf[4096];
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 5))
        return 1;
    getsockname(listener, (struct sockaddr *)&at, &len);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    int fd = accept(listener, 0, 0);
    ssize_t n = read(fd, buf, sizeof buf);
    for (ssize_t i = 0; i < n; i++)
        buf[i] = toupper(buf[i]);
    if (write(fd, buf, n) != n)
        return 1;
    return close(fd);
}
"#;

/// One connection to a port of its own, and what becomes of it.
fn server(with: impl FnOnce(TcpStream) + Send + 'static) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let thread = thread::spawn(move || with(listener.accept().unwrap().0));
    (address, thread)
}

/// Reads a line, or to the end, and takes nothing of what follows.
fn line(stream: &mut TcpStream) -> String {
    let mut line = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

#[test]
fn raw_call_reads_a_c_server_that_closes_without_a_newline() {
    let dir = Dir::new();
    let program = compile_c(&dir, "server", SERVER);
    for output in ["text", "raw"] {
        let mut server = std::process::Command::new(&program);
        let mut server = server.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let stdout = server.stdout.take().unwrap();
        let mut port = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut port).unwrap();
        let address = format!("tcp://127.0.0.1:{}", port.trim());
        let mut call = aqueduct(&[
            "call", &address, "--frame", "raw", "hello", "--output", output,
        ]);
        assert_eq!(expect_text(run(&mut call), 0), "HELLO");
        assert!(server.wait().unwrap().success());
    }
}

#[test]
fn an_unframed_reply_is_printed_a_piece_a_line_in_json() {
    let (first, second) = (vec![b'a'; 300_000], vec![b'b'; 300_000]);
    let whole = [&first[..], &second[..]].concat();
    for output in ["raw", "json"] {
        let (first, second) = (first.clone(), second.clone());
        let (address, server) = server(move |mut stream| {
            let mut request = Vec::new();
            // The end of the message is the end of the stream.
            stream.read_to_end(&mut request).unwrap();
            assert_eq!(request.len(), 500_000);
            stream.write_all(&first).unwrap();
            stream.write_all(&second).unwrap();
        });
        let mut call = aqueduct(&["call", &address, "--frame", "raw", "--output", output]);
        let call = start_with_input(&mut call, vec![b'x'; 500_000]);
        let (stdout, stderr) = expect(call.finish(), 0);
        assert_eq!(stderr, "");
        if output == "raw" {
            assert!(stdout == whole, "{} bytes", stdout.len());
        } else {
            let text = String::from_utf8(stdout).unwrap();
            let pieces = text.lines().map(|it| serde_json::from_str(it).unwrap());
            let pieces: Vec<serde_json::Value> = pieces.collect();
            let joined: String = pieces
                .iter()
                .map(|it| it["text"].as_str().unwrap())
                .collect();
            assert!(joined.as_bytes() == whole, "{} bytes", joined.len());
            assert!(pieces.len() > 1, "nothing gathers a whole stream");
        }
        server.join().unwrap();
    }
}

#[test]
fn a_framed_reply_keeps_the_connection_open_until_it_arrives() {
    let (address, server) = server(|mut stream| {
        assert_eq!(line(&mut stream), "hello");
        stream.write_all(b"good day\n").unwrap();
        // The end comes with the caller's leave, not before.
        assert_eq!(line(&mut stream), "");
    });
    let call = start_with_input(&mut aqueduct(&["call", &address]), "hello\n");
    assert_eq!(expect_text(call.finish(), 0), "good day\n");
    server.join().unwrap();
}

#[test]
fn the_reply_is_read_while_the_message_is_still_on_its_way() {
    // It echoes as it reads: whoever only wrote would be stuck with it.
    let (address, server) = server(|mut stream| {
        let mut echo = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut echo).unwrap();
        echo.shutdown(Shutdown::Both).unwrap();
    });
    let big = vec![b'x'; 30_000_000];
    let mut call = aqueduct(&["call", &address, "--frame", "raw", "--output", "raw"]);
    let call = start_with_input(&mut call, big.clone());
    let (stdout, stderr) = expect(call.finish(), 0);
    assert!(stdout == big, "{} bytes: {stderr}", stdout.len());
    server.join().unwrap();
}

#[test]
fn a_program_is_called() {
    for (frame, expected) in [("lines", "HELLO\n"), ("raw", "HELLO")] {
        let call = ["call", "exec:tr a-z A-Z", "--frame", frame, "hello"];
        assert_eq!(expect_text(run(&mut aqueduct(&call)), 0), expected);
    }
    let (_, stderr) = expect(run(&mut aqueduct(&["call", "exec:false", "hello"])), 1);
    assert!(
        stderr.contains("without a reply, with exit status: 1"),
        "{stderr}"
    );
}

#[test]
fn a_server_that_closes_without_a_reply_is_an_error() {
    for frame in ["lines", "raw"] {
        let (address, server) = server(|mut stream| drop(stream.read(&mut [0; 100])));
        let output = run(&mut aqueduct(&["call", &address, "--frame", frame, "hi"]));
        let (stdout, stderr) = expect(output, 1);
        assert!(stdout.is_empty());
        assert!(stderr.contains("closed without a reply"), "{stderr}");
        server.join().unwrap();
    }
}

#[test]
fn a_reply_that_does_not_come_is_given_up_with_3() {
    let (address, server) = server(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let output = run(&mut aqueduct(&[
        "call",
        &address,
        "hi",
        "--timeout",
        "50ms",
    ]));
    let (_, stderr) = expect(output, 3);
    assert!(
        stderr.contains("no reply arrived") && stderr.contains("50ms"),
        "{stderr}"
    );
    server.join().unwrap();
    let dir = Dir::new();
    let address = format!("unix:{}", dir.path("x").display());
    let output = run(&mut aqueduct(&["call", &address, "hi", "--wait", "10ms"]));
    assert!(expect(output, 3).1.contains("no server appeared"));
}

#[test]
fn a_reply_that_is_on_its_way_is_waited_for_after_a_signal() {
    let (begun_tx, begun) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel();
    let (address, server) = server(move |mut stream| {
        line(&mut stream);
        begun_tx.send(()).unwrap();
        gone.recv().unwrap();
        stream.write_all(b"late\n").unwrap();
    });
    let call = start(&mut aqueduct(&["call", &address, "hi"]));
    begun.recv().unwrap();
    call.signal(Signal::SIGTERM);
    go.send(()).unwrap();
    assert_eq!(expect_text(call.finish(), 0), "late\n");
    server.join().unwrap();
}

#[test]
fn a_bad_message_is_refused_before_the_peer_is_waited_for() {
    let call = ["call", "tcp://127.0.0.1:1", "--frame", "nul"];
    let output = start_with_input(&mut aqueduct(&call), "a\0b").finish();
    let (_, stderr) = expect(output, 1);
    assert!(stderr.contains("NUL byte"), "{stderr}");
    let call = ["call", "tcp://127.0.0.1:1", "two\nlines"];
    let (_, stderr) = expect(run(&mut aqueduct(&call)), 2);
    assert!(stderr.contains("the message has a newline"), "{stderr}");
}
