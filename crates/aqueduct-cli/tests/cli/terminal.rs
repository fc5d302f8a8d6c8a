//! What peers, names and programs say must not steer the terminal that shows it.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::support::{Dir, aqueduct, expect, expect_text, run, start, start_with_input};

/// An escape sequence, a C1 control as UTF-8, a direction mark, a carriage return.
const NASTY: &str = "a\u{1b}[31mb\u{9b}31mc\u{202e}d\re";
const SHOWN: &str = "a\\u{1b}[31mb\\u{9b}31mc\\u{202e}d\\re";

/// Everything in a text that steers a terminal, but for line breaks.
fn steering(text: &str) -> Vec<char> {
    let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'];
    let is_bidi = |c: char| {
        bidi.contains(&c)
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    };
    let steers = |c: &char| (c.is_control() && *c != '\n') || is_bidi(*c);
    text.chars().filter(steers).collect()
}

/// What a command prints on a terminal as its standard output, with line breaks as it wrote them.
fn shown(command: &mut Command) -> Vec<u8> {
    let pty = nix::pty::openpty(None, None).unwrap();
    let child = command.stdout(pty.slave).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    // The last copy of the other side in this process.
    *command = Command::new("true");
    let mut text = Vec::new();
    // The end of a terminal is an error, EIO.
    let _ = File::from(pty.master).read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&text)
        .replace("\r\n", "\n")
        .into_bytes()
}

#[test]
fn recv_escapes_text_on_a_terminal_only() {
    let dir = Dir::new();
    let input = dir.path("input");
    std::fs::write(&input, [NASTY.as_bytes(), b"\n\xff\tz\n"].concat()).unwrap();
    let recv = |frame| {
        let mut recv = aqueduct(&["recv", "stdio:", "--frame", frame]);
        recv.stdin(File::open(&input).unwrap());
        recv
    };
    let expected = format!("{SHOWN}\n\\xff\tz\n").into_bytes();
    assert_eq!(shown(&mut recv("lines")), expected);
    assert_eq!(shown(&mut recv("raw")), expected);
    let exact = std::fs::read(&input).unwrap();
    let mut piped = aqueduct(&["recv", "stdio:"]);
    assert_eq!(
        expect(start_with_input(&mut piped, &exact).finish(), 0).0,
        exact
    );
}

#[test]
fn call_and_an_echo_service_escape_text_on_a_terminal() {
    let mut call = aqueduct(&["call", "exec:cat", NASTY]);
    let expected = format!("{SHOWN}\n").into_bytes();
    assert_eq!(shown(call.stdin(Stdio::null())), expected);
    let mut call = aqueduct(&["call", "exec:cat", NASTY, "--frame", "raw"]);
    assert_eq!(shown(call.stdin(Stdio::null())), SHOWN.as_bytes());

    let dir = Dir::new();
    let fifo = format!("{}?persist=false", dir.fifo("x"));
    let send = start(&mut aqueduct(&["send", &fifo, NASTY]));
    assert_eq!(shown(&mut aqueduct(&["serve", &fifo])), expected);
    expect(send.finish(), 0);
}

/// Whatever brings messages to standard output as an address.
#[test]
fn messages_to_stdio_are_escaped_on_a_terminal_only() {
    let dir = Dir::new();
    let input = dir.path("input");
    // A character cut off by the end.
    std::fs::write(&input, [NASTY.as_bytes(), b"\nz\n\xe2\x82"].concat()).unwrap();
    let recording = dir.path("recording").display().to_string();
    let from = |args: &[&str]| {
        let mut command = aqueduct(args);
        command.stdin(File::open(&input).unwrap());
        command
    };
    let whole = format!("{SHOWN}\nz\n\\xe2\\x82\n");
    let raw = format!("{SHOWN}\nz\n\\xe2\\x82");
    let relay = start(&mut from(&[
        "relay",
        "stdio:",
        "exec:cat",
        "--partial",
        "keep",
        "--tee",
        &recording,
    ]));
    expect(relay.finish(), 0);
    for (args, expected) in [
        (&["send", "stdio:"][..], &whole),
        (
            &["send", "stdio:", "--frame", "nul", "--input", "lines"],
            &whole,
        ),
        (&["send", "stdio:", "--frame", "raw"], &raw),
        (&["send", "stdio:", "--replay", &recording], &whole),
        (
            &["relay", "exec:cat", "stdio:", "--partial", "keep"],
            &whole,
        ),
        (&["relay", "exec:cat", "stdio:", "--frame", "raw"], &raw),
        (&["serve", "stdio:", "--partial", "keep"], &whole),
    ] {
        let text = String::from_utf8(shown(&mut from(args))).unwrap();
        assert_eq!(&text, expected, "{args:?}");
    }
    let fifo = format!("{}?persist=false", dir.fifo("x"));
    let send = start(&mut from(&["send", &fifo, "--wait", "30s"]));
    // One job at a time keeps the order.
    let mut serve = aqueduct(&["serve", &fifo, "--jobs", "1", "--on-fail", "stdio:"]);
    serve.args(["--", "false"]);
    assert_eq!(shown(&mut serve), whole.as_bytes());
    expect(send.finish(), 0);
    let exact = std::fs::read(&input).unwrap();
    for args in [
        &["send", "stdio:", "--frame", "raw"][..],
        &["relay", "exec:cat", "stdio:", "--frame", "raw"],
        &["serve", "stdio:", "--frame", "raw"],
    ] {
        assert_eq!(
            expect(start(&mut from(args)).finish(), 0).0,
            exact,
            "{args:?}"
        );
    }
}

#[test]
fn errors_and_logs_show_names_escaped() {
    let dir = Dir::new();
    let nasty = dir.path(NASTY);
    std::fs::create_dir(&nasty).unwrap();
    let path = nasty.join("x").display().to_string();
    let unix = format!("unix:{path}");
    for args in [
        &["send", &unix, "hi", "--wait", "0s"][..],
        &["send", &format!("fifo:{path}/y"), "hi"],
        &[
            "call",
            &format!("unixpacket:{path}"),
            "hi",
            "--wait",
            "10ms",
        ],
        &["serve", "stdio:", "--", NASTY],
        &["serve", "stdio:", "--", &path],
        &[
            "relay",
            "stdio:",
            "exec:cat",
            "--tee",
            &path.replace("/x", "/y/z"),
        ],
        &["list", &path],
        &["mq", "info", &format!("/{NASTY}")],
        &["recv", "stdio:", "--count", NASTY],
        &["recv", NASTY],
        &["call", "exec:cat", "hi", "--timeout", NASTY],
        &["man", NASTY],
    ] {
        let output = run(&mut aqueduct(args));
        assert_ne!(output.status.code(), Some(0), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(steering(&said), [] as [char; 0], "{args:?}: {said:?}");
        assert!(!said.is_empty(), "{args:?}");
    }
    // A failing CMD, and the log of the library.
    let program = dir.path("prog\u{202e}\u{1b}[31m");
    std::fs::copy("/bin/false", &program).unwrap();
    let mut serve = aqueduct(&["-vv", "serve", "stdio:", "--frame", "lines", "--"]);
    let serve = start_with_input(serve.arg(&program), "hi\n");
    let (_, said) = expect(serve.finish(), 0);
    assert!(said.contains("prog\\u{202e}"), "{said:?}");
    assert_eq!(steering(&said), [] as [char; 0], "{said:?}");
    let recv = start(aqueduct(&["-vv", "recv", &unix, "-n", "1"]).stdin(Stdio::null()));
    expect(run(&mut aqueduct(&["-vv", "send", &unix, "hi"])), 0);
    let (_, said) = expect(recv.finish(), 0);
    assert_eq!(steering(&said), [] as [char; 0], "{said:?}");
}

#[test]
fn list_escapes_names_so_that_the_address_still_leads_there() {
    let dir = Dir::new();
    let fifo = dir.path(NASTY);
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let socket = dir.path("socket\u{2066}");
    let _socket = UnixListener::bind(&socket).unwrap();
    let here = dir.path("").display().to_string();
    let table = expect_text(run(&mut aqueduct(&["list", &here])), 0);
    assert_eq!(
        steering(&table.replace('\t', " ")),
        [] as [char; 0],
        "{table:?}"
    );
    let json = expect_text(run(&mut aqueduct(&["list", &here, "--json"])), 0);
    assert_eq!(steering(&json), [] as [char; 0], "{json:?}");
    let things = json
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap());
    let addresses: Vec<String> = things
        .map(|it| it["address"].as_str().unwrap().to_owned())
        .collect();
    let paths: Vec<_> = addresses
        .iter()
        .map(|it| it.parse::<aqueduct::Endpoint>().unwrap())
        .collect();
    let paths: Vec<_> = paths.iter().filter_map(aqueduct::Endpoint::path).collect();
    assert!(
        paths.contains(&&*fifo) && paths.contains(&&*socket),
        "{addresses:?}"
    );
    // A process by such a name.
    let program = dir.path("p\u{202e}\u{9b}x");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut sleep = Command::new(&program);
    let held = File::options().read(true).write(true).open(&fifo).unwrap();
    let _sleep = start(sleep.arg("1000").stdin(held));
    for args in [&["list", &here][..], &["list", &here, "--json"]] {
        let text = expect_text(run(&mut aqueduct(args)), 0);
        assert_eq!(
            steering(&text.replace('\t', " ")),
            [] as [char; 0],
            "{text:?}"
        );
    }
}

#[test]
fn json_escapes_controls_and_direction_marks() {
    let mut recv = aqueduct(&["recv", "stdio:", "--output", "json"]);
    let body = format!("{NASTY}\u{7f}\u{0}\u{2069}\u{61c} é");
    let recv = start_with_input(&mut recv, format!("{body}\n"));
    let line = expect_text(recv.finish(), 0);
    assert_eq!(steering(&line), [] as [char; 0], "{line:?}");
    assert!(
        line.contains(r"\u009b31mc\u202ed\re\u007f\u0000\u2069\u061c é"),
        "{line}"
    );
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["text"], body.as_str());
}
