//! Programs that know nothing of this one, as stand-ins that speak their protocols, called and talked to as
//! the guide has it. `tests/peers` has those that Debian packages.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::readme::{Place, row_of};
use crate::support::{
    DEADLINE, Running, aqueduct, compile_c, expect, expect_text, run, start, start_with_input,
};

const PAGE: &str = include_str!("../../../../docs/src/other-programs.md");

/// A program's row in the guide: how it is asked, and talked to.
fn commands(program: &str) -> (String, String) {
    let (ask, talk) = row_of(PAGE, program);
    (
        ask.replace("/run/", "/tmp/"),
        talk.replace("/run/", "/tmp/"),
    )
}

/// A stand-in with a socket in the place, for as many clients as it takes.
fn unix(place: &Place, name: &str, with: impl Fn(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(place.dir().path(name)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            with(stream);
        }
    });
}

fn said(place: &Place, command: &str, input: &str) -> Output {
    start_with_input(&mut place.shell(command), input).finish()
}

/// mpv answers each command with a line, and sends events when it likes.
fn mpv(stream: UnixStream) {
    let mut lines = BufReader::new(&stream).lines();
    while let Some(Ok(line)) = lines.next() {
        assert!(line.starts_with("{\"command\":["), "{line}");
        let answer =
            "{\"event\":\"file-loaded\"}\n{\"data\":50.0,\"request_id\":0,\"error\":\"success\"}\n";
        (&stream).write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn mpv_is_asked_and_talked_to() {
    let place = Place::new(&[]);
    unix(&place, "mpv", mpv);
    let (ask, talk) = commands("mpv (`--input-ipc-server`)");
    let answer =
        "{\"event\":\"file-loaded\"}\n{\"data\":50.0,\"request_id\":0,\"error\":\"success\"}\n";
    assert_eq!(expect_text(run(&mut place.shell(&ask)), 0), answer);
    let output = said(&place, &talk, "{\"command\":[\"stop\"]}\n");
    assert_eq!(expect_text(output, 0), answer);
}

/// varlink has JSON between NUL bytes; a call with `more` has several replies.
fn varlink(stream: UnixStream) {
    let mut calls = BufReader::new(&stream).split(0);
    while let Some(Ok(call)) = calls.next() {
        let call = String::from_utf8(call).unwrap();
        assert!(call.starts_with("{\"method\":"), "{call}");
        if call.contains("\"more\":true") {
            (&stream)
                .write_all(b"{\"continues\":true,\"parameters\":{\"n\":1}}\0")
                .unwrap();
        }
        (&stream)
            .write_all(b"{\"parameters\":{\"n\":2}}\0")
            .unwrap();
    }
}

#[test]
fn varlink_is_asked_talked_to_and_served() {
    let place = Place::new(&[]);
    unix(&place, "varlink", varlink);
    let (ask, talk) = commands("varlink");
    let text = expect_text(run(&mut place.shell(&ask)), 0);
    assert_eq!(text, "{\"parameters\":{\"n\":2}}\n");
    let more = "{\"method\":\"org.example.Monitor\",\"more\":true}\n";
    let text = expect_text(said(&place, &talk, more), 0);
    assert_eq!(
        text,
        "{\"continues\":true,\"parameters\":{\"n\":1}}\n{\"parameters\":{\"n\":2}}\n"
    );

    let answer = "grep -q GetInfo && printf '{\"parameters\":{}}'";
    let address = format!("unix:{}", place.dir().path("served").display());
    let service = start(&mut aqueduct(&[
        "serve", &address, "--frame", "nul", "--", "sh", "-c", answer,
    ]));
    service.told("unix:");
    let mut client = UnixStream::connect(place.dir().path("served")).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0")
        .unwrap();
    let mut reply = [0; 18];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"{\"parameters\":{}}\0");
    drop(client);
    service.signal(Signal::SIGTERM);
    expect(service.finish(), 0);
}

/// sway has a header of its own: a magic string, a length and a type.
fn sway(mut stream: UnixStream) {
    let mut header = [0; 14];
    while stream.read_exact(&mut header).is_ok() {
        assert_eq!(&header[..6], b"i3-ipc");
        assert_eq!(header[6..10], 0_u32.to_ne_bytes());
        let body = b"{\"human_readable\":\"1.9\"}";
        stream.write_all(b"i3-ipc").unwrap();
        stream
            .write_all(&(body.len() as u32).to_ne_bytes())
            .unwrap();
        stream.write_all(&header[10..]).unwrap();
        stream.write_all(body).unwrap();
    }
}

#[test]
fn sway_is_asked_and_talked_to_byte_for_byte() {
    let place = Place::new(&[]);
    unix(&place, "sway", sway);
    let (ask, talk) = commands("i3, sway");
    let shell = |command: &str| {
        let mut shell = place.shell(command);
        shell.env("SWAYSOCK", place.dir().path("sway"));
        shell
    };
    let body = expect_text(run(&mut shell(&format!("{ask} | tail -c +15"))), 0);
    assert_eq!(body, "{\"human_readable\":\"1.9\"}");
    let request = b"i3-ipc\0\0\0\0\x07\0\0\0";
    let (answer, _) = expect(start_with_input(&mut shell(&talk), request).finish(), 0);
    assert_eq!(&answer[..6], b"i3-ipc");
    assert_eq!(&answer[14..], body.as_bytes());
}

/// HTTP/1.0 of a server that cancels a request whose client ends its direction.
fn docker(mut stream: UnixStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            return;
        }
        head.extend(byte);
    }
    assert!(head.starts_with(b"GET /version HTTP/1."), "{head:?}");
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        ended => panic!("the client does not wait: {ended:?}"),
    }
    let answer = "HTTP/1.0 200 OK\r\nContent-Length: 20\r\n\r\n{\"Version\":\"20.10\"}\n";
    stream.write_all(answer.as_bytes()).unwrap();
}

#[test]
fn docker_is_asked_and_proxied() {
    let place = Place::new(&[("127.0.0.1:2375", "127.0.0.1:0")]);
    unix(&place, "docker.sock", docker);
    let (ask, proxy) = commands("Docker, or HTTP on any socket");
    let answer = "HTTP/1.0 200 OK\r\nContent-Length: 20\r\n\r\n{\"Version\":\"20.10\"}\n";
    assert_eq!(expect_text(run(&mut place.shell(&ask)), 0), answer);

    let proxy = place.serve(&format!("exec {proxy}"));
    let port = proxy.0.told("tcp://127.0.0.1:").replace("tcp://", "");
    let mut client = TcpStream::connect(port).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
        .write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut got = String::new();
    client.read_to_string(&mut got).unwrap();
    assert_eq!(got, answer);
}

/// A mail server that refuses clients who speak before it does.
fn smtp(clients: usize) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = move || {
        for stream in listener.incoming().take(clients) {
            let stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let early = stream.peek(&mut [0]).map_err(|it| it.kind());
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            // `talk` gives it all that a script has to say.
            if early.is_err() {
                (&stream).write_all(b"220 mail.example ESMTP\r\n").unwrap();
            } else {
                (&stream).write_all(b"554 too early\r\n").unwrap();
                continue;
            }
            for line in BufReader::new(&stream).lines() {
                let answer: &[u8] = match line.unwrap().trim_end() {
                    "EHLO me" => b"250-mail.example\r\n250 SIZE 1000\r\n",
                    "NOOP" => b"250 fine\r\n",
                    _ => b"221 bye\r\n",
                };
                (&stream).write_all(answer).unwrap();
                if answer.starts_with(b"221") {
                    break;
                }
            }
        }
    };
    (address, thread::spawn(serve))
}

#[test]
fn a_mail_server_that_speaks_first_is_asked_and_talked_to() {
    let (address, server) = smtp(3);
    let place = Place::new(&[("127.0.0.1:25", &address)]);
    let (ask, talk) = commands("SMTP");
    assert_eq!(expect_text(run(&mut place.shell(&ask)), 0), "250 fine\n");
    // A whole session.
    let session = ask.replace("NOOP", "--all");
    let text = expect_text(said(&place, &session, "EHLO me\nNOOP\nQUIT\n"), 0);
    assert_eq!(text, "250-mail.example\n250 SIZE 1000\n250 fine\n221 bye\n");
    // Somebody who waits for the greeting.
    let mut talking = place.shell(&talk);
    let mut talking: Running = start(talking.stdin(std::process::Stdio::piped()));
    let mut stdin = talking.stdin();
    talking.printed("220 mail.example ESMTP\r\n".len());
    stdin.write_all(b"EHLO me\nQUIT\n").unwrap();
    drop(stdin);
    let text = expect_text(talking.finish(), 0);
    assert_eq!(
        text,
        "220 mail.example ESMTP\r\n250-mail.example\r\n250 SIZE 1000\r\n221 bye\r\n"
    );
    server.join().unwrap();
}

/// A language server: it answers requests, says something unasked, and fails if it is not told to exit.
const LANGUAGE_SERVER: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(const char *body) {
    printf("Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    fflush(stdout);
}

int main(void) {
    size_t length;
    while (scanf(" Content-Length: %zu", &length) == 1) {
        if (scanf("%*[\r\n]") < 0 || length >= 10000)
            return 2;
        char body[10000] = "", answer[100];
        if (fread(body, 1, length, stdin) != length)
            return 3;
        char *id = strstr(body, "\"id\":");
        if (strstr(body, "\"exit\""))
            return 0;
        if (strstr(body, "\"initialize\""))
            say("{\"jsonrpc\":\"2.0\",\"method\":\"window/logMessage\"}");
        if (id) {
            snprintf(answer, sizeof answer, "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":null}", atoi(id + 5));
            say(answer);
        }
    }
    return 1;
}
"#;

const SESSION: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}
{"jsonrpc":"2.0","method":"initialized"}
{"jsonrpc":"2.0","id":2,"method":"shutdown"}
{"jsonrpc":"2.0","method":"exit"}
"#;

#[test]
fn a_language_server_is_asked_talked_to_and_served() {
    let place = Place::new(&[("exec:gopls", "exec:./gopls")]);
    compile_c(place.dir(), "gopls", LANGUAGE_SERVER);
    std::fs::write(place.dir().path("session.jsonl"), SESSION).unwrap();
    let (ask, talk) = commands("a language server");
    let all = r#"{"jsonrpc":"2.0","method":"window/logMessage"}
{"jsonrpc":"2.0","id":1,"result":null}
{"jsonrpc":"2.0","id":2,"result":null}
"#;
    let mut ask = place.shell(&ask);
    assert_eq!(
        expect_text(run(ask.current_dir(place.dir().path(""))), 0),
        all
    );
    let mut talk = place.shell(&talk);
    let talk = start_with_input(talk.current_dir(place.dir().path("")), SESSION);
    assert_eq!(expect_text(talk.finish(), 0), all);

    // As an editor starts it.
    let serve = [
        "serve",
        "stdio:?frame=headers",
        "--",
        "sh",
        "-c",
        "cat >/dev/null; printf '{}'",
    ];
    let served = start_with_input(&mut aqueduct(&serve), "Content-Length: 2\r\n\r\n{}");
    let (answer, _) = expect(served.finish(), 0);
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "Content-Length: 2\r\n\r\n{}"
    );
}
