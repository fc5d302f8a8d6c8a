//! What `recv` prints.

use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::mq::Queue;
use crate::support::{Dir, aqueduct, expect, expect_text, run, start, start_with_input};

const BYTES: &[u8] = b"plain\0caf\xc3\xa9 \"\n\"\0\xff\xfe\0\0";

fn received(output: &str) -> Vec<u8> {
    let mut recv = aqueduct(&["recv", "stdio:", "--frame", "nul", "--output", output]);
    let (stdout, stderr) = expect(start_with_input(&mut recv, BYTES).finish(), 0);
    assert_eq!(stderr, "");
    stdout
}

#[test]
fn text_is_each_message_byte_for_byte_and_a_newline() {
    assert_eq!(received("text"), b"plain\ncaf\xc3\xa9 \"\n\"\n\xff\xfe\n\n");
}

#[test]
fn raw_is_the_bytes_alone() {
    assert_eq!(received("raw"), b"plaincaf\xc3\xa9 \"\n\"\xff\xfe");
}

#[test]
fn text_without_framing_is_the_bytes_alone() {
    let mut recv = aqueduct(&["recv", "stdio:", "--frame", "raw"]);
    let (stdout, _) = expect(start_with_input(&mut recv, BYTES).finish(), 0);
    assert_eq!(stdout, BYTES);
}

#[test]
fn hex_is_a_line_each() {
    assert_eq!(received("hex"), b"706c61696e\n636166c3a920220a22\nfffe\n\n");
}

#[test]
fn json_is_an_object_a_line_with_base64_where_it_is_not_utf_8() {
    let text = String::from_utf8(received("json")).unwrap();
    let mut bodies = Vec::new();
    for line in text.lines() {
        let mut object: serde_json::Map<_, _> = serde_json::from_str(line).unwrap();
        let time = object.remove("time").unwrap();
        // RFC 3339, in UTC.
        let time = time.as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == "2026-01-01T00:00:00.000000Z".len());
        assert_eq!(object.remove("address").unwrap(), "stdio:");
        bodies.push(serde_json::Value::from(object).to_string());
    }
    assert_eq!(
        bodies,
        [
            r#"{"size":5,"text":"plain"}"#,
            r#"{"size":9,"text":"café \"\n\""}"#,
            r#"{"base64":"//4=","size":2}"#,
            r#"{"size":0,"text":""}"#,
        ]
    );
}

#[test]
fn input_can_be_cut_at_lines_at_nul_bytes_or_not_at_all() {
    for (input, expected) in [
        ("lines", "[a]\n[b\0c]\n"),
        ("nul", "[a\nb]\n[c\n]\n"),
        ("whole", "[a\nb\0c\n]\n"),
    ] {
        let mut send = aqueduct(&["send", "stdio:", "--frame", "length", "--input", input]);
        let (wire, _) = expect(start_with_input(&mut send, "a\nb\0c\n").finish(), 0);
        let mut recv = aqueduct(&["recv", "stdio:", "--frame", "length", "--output", "json"]);
        let text = expect_text(start_with_input(&mut recv, wire).finish(), 0);
        let bodies: String = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|object| format!("[{}]\n", object["text"].as_str().unwrap()))
            .collect();
        assert_eq!(bodies, expected, "{input}");
    }
}

/// Somebody who sends a file that happens to be empty has sent an empty message, not none.
#[test]
fn empty_input_sent_whole_is_one_empty_message() {
    for (frame, expected) in [
        ("lines", &b"\n"[..]),
        ("nul", b"\0"),
        ("length", b"\0\0\0\0"),
        // Without boundaries there is no such message.
        ("raw", b""),
    ] {
        let mut send = aqueduct(&["send", "stdio:", "--frame", frame, "--input", "whole"]);
        let (wire, _) = expect(start_with_input(&mut send, "").finish(), 0);
        assert_eq!(wire, expected, "{frame}");
    }
    let queue = Queue::new();
    let mut send = aqueduct(&["send", &queue.address(), "--input", "whole"]);
    expect_text(start_with_input(&mut send, "").finish(), 0);
    let recv = aqueduct(&["recv", &queue.address(), "-n", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let output = recv.unwrap().wait_with_output().unwrap();
    assert_eq!(output.stdout, b"\n");
}

#[test]
fn an_empty_packet_is_refused_rather_than_left_out() {
    let dir = Dir::new();
    let address = format!("unixpacket:{}", dir.path("x").display());
    let recv = start(&mut aqueduct(&["recv", &address]));
    let mut send = aqueduct(&["send", &address, "--input", "whole"]);
    let (_, stderr) = expect(start_with_input(&mut send, "").finish(), 1);
    assert!(stderr.contains("message 1"), "{stderr}");
    drop(recv);
}

/// An empty packet would read as the end, so the connection is closed and the reason is told.
#[test]
fn an_empty_reply_closes_a_packet_connection_and_is_told() {
    let dir = Dir::new();
    let address = format!("unixpacket:{}", dir.path("x").display());
    let mut serve = aqueduct(&[
        "serve",
        &address,
        "--",
        "sh",
        "-c",
        "test \"$(cat)\" = nothing || printf ok",
    ]);
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving");
    let call = |message| run(&mut aqueduct(&["call", &address, message]));
    let (_, stderr) = expect(call("nothing"), 1);
    assert!(stderr.contains("closed without a reply"), "{stderr}");
    // It is the end of that connection alone.
    assert_eq!(expect_text(call("something"), 0), "ok\n");
    serve.signal(Signal::SIGTERM);
    let (_, stderr) = expect(serve.finish(), 0);
    assert!(stderr.contains("a reply was empty"), "{stderr}");
    assert!(stderr.contains("CMD has to print something"), "{stderr}");
}
