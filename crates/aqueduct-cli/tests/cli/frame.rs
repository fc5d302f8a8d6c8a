//! Framings, in the address and as `--frame`.

use crate::support::{aqueduct, expect, expect_text, run, start_with_input};

/// What is on the wire of two messages.
const WIRES: &[(&str, &[u8])] = &[
    ("lines", b"hi\n\n"),
    ("crlf", b"hi\r\n\r\n"),
    ("nul", b"hi\0\0"),
    ("raw", b"hi"),
    ("length", b"\0\0\0\x02hi\0\0\0\0"),
    ("u32be", b"\0\0\0\x02hi\0\0\0\0"),
    ("u8", b"\x02hi\0"),
    ("u16le+header", b"\x04\0hi\x02\0"),
    ("netstring", b"2:hi,0:,"),
    (
        "headers",
        b"Content-Length: 2\r\n\r\nhiContent-Length: 0\r\n\r\n",
    ),
    ("cobs", b"\x03hi\0\x01\0"),
];

#[test]
fn a_framing_is_the_same_in_the_address_and_as_a_flag() {
    for (frame, wire) in WIRES {
        let address = format!("stdio:?frame={frame}");
        for args in [
            &["send", "stdio:", "--frame", frame, "hi", ""][..],
            &["send", &address, "hi", ""],
            &["send", &address, "--frame", frame, "hi", ""],
        ] {
            let (stdout, _) = expect(run(&mut aqueduct(args)), 0);
            assert_eq!(stdout, *wire, "{args:?}");
        }
        if *frame != "raw" {
            let recv = start_with_input(&mut aqueduct(&["recv", &address]), wire);
            assert_eq!(expect_text(recv.finish(), 0), "hi\n\n", "{frame}");
        }
    }
}

#[test]
fn an_address_and_a_flag_that_differ_are_wrong_use() {
    for args in [
        &["send", "stdio:?frame=nul", "--frame", "lines", "hi"][..],
        &["recv", "stdio:?frame=u8", "--frame", "u8+header"],
        &["call", "exec:cat?frame=length", "--frame", "u32le", "hi"],
        &["relay", "stdio:", "fifo:/tmp/x?frame=raw", "--frame", "nul"],
        &["serve", "unix:/tmp/x?frame=crlf", "--frame", "lines"],
    ] {
        let (stdout, stderr) = expect(run(&mut aqueduct(args)), 2);
        assert!(stdout.is_empty());
        assert!(stderr.contains("differs from frame="), "{stderr}");
    }
}

#[test]
fn an_unknown_framing_names_those_there_are() {
    let (_, stderr) = expect(run(&mut aqueduct(&["recv", "stdio:", "--frame", "u16"])), 2);
    for name in [
        "lines",
        "crlf",
        "u16be+header",
        "netstring",
        "headers",
        "cobs",
    ] {
        assert!(stderr.contains(name), "{stderr}");
    }
    let (_, stderr) = expect(run(&mut aqueduct(&["recv", "stdio:?frame=u16"])), 2);
    assert!(stderr.contains("did you mean \"u16be\"?"), "{stderr}");
    for address in ["unixpacket:/tmp/x?frame=lines", "mq:/x?frame=lines"] {
        let (_, stderr) = expect(run(&mut aqueduct(&["recv", address])), 2);
        assert!(stderr.contains("unknown option \"frame\""), "{stderr}");
    }
}

#[test]
fn a_message_that_its_length_cannot_say_is_wrong_use() {
    let long = "x".repeat(256);
    let send = ["send", "stdio:", "--frame", "u8", &long];
    let (stdout, stderr) = expect(run(&mut aqueduct(&send)), 2);
    assert!(stdout.is_empty());
    assert!(
        stderr.contains("the most that a u8 length can express"),
        "{stderr}"
    );
}

#[test]
fn with_crlf_standard_input_is_cut_at_both_ends_of_lines() {
    let send = &mut aqueduct(&["send", "stdio:", "--frame", "crlf"]);
    let send = start_with_input(send, "a\r\nb\nc");
    assert_eq!(expect_text(send.finish(), 0), "a\r\nb\r\nc\r\n");
    let call = &mut aqueduct(&["call", "exec:cat", "--frame", "crlf"]);
    let call = start_with_input(call, "hi\r\n");
    assert_eq!(expect_text(call.finish(), 0), "hi\n");
    // What a program prints for people is a line for its peer.
    let serve = [
        "serve", "-q", "stdio:", "--frame", "crlf", "--", "tr", "a-z", "A-Z",
    ];
    let serve = start_with_input(&mut aqueduct(&serve), "hi\r\nyou\n");
    assert_eq!(expect_text(serve.finish(), 0), "HI\r\nYOU\r\n");
}
