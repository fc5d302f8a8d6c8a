//! `--frame raw`: what goes in comes out, byte for byte, and is held in memory nowhere.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::mq::Queue;
use crate::support::{Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input};

/// Bytes of every value, with newlines and NUL bytes among them and at the end, in no order.
pub(crate) fn random(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len - 2 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push((state >> 32) as u8);
    }
    bytes.extend(b"\n\0");
    bytes
}

const LEN: usize = 3_000_000;

/// A file of random bytes.
pub(crate) struct Data {
    dir: Dir,
    pub(crate) bytes: Vec<u8>,
}

impl Data {
    pub(crate) fn new() -> Self {
        let (dir, bytes) = (Dir::new(), random(LEN));
        std::fs::write(dir.path("in"), &bytes).unwrap();
        Self { dir, bytes }
    }

    fn path(&self) -> PathBuf {
        self.dir.path("in")
    }

    pub(crate) fn file(&self) -> File {
        File::open(self.path()).unwrap()
    }

    pub(crate) fn check(&self, out: &[u8], what: &str) {
        assert!(out == self.bytes, "{what}: {} of {LEN} bytes", out.len());
    }
}

/// A command with `--frame raw`, and a limit that would cut all of it to pieces.
fn raw(args: &[&str]) -> Command {
    let mut command = aqueduct(&args[..2]);
    command.args(["--frame", "raw", "--max-frame", "10"]);
    command.args(&args[2..]);
    command
}

/// Starts what binds an address, and gives the address as it tells it.
fn bound(args: &[&str], tells: &str) -> (Running, String) {
    let running = start(raw(args).stdin(Stdio::null()));
    let address = running.told(tells);
    (running, address)
}

#[test]
fn raw_bytes_sent_are_received_byte_for_byte() {
    let data = Data::new();
    let fifo = data.dir.fifo("fifo");
    let unix = format!("unix:{}", data.dir.path("unix").display());
    for address in [fifo.as_str(), &unix, "tcp://127.0.0.1:0"] {
        let (recv, address) = match address.starts_with("tcp") {
            true => bound(&["recv", address], "tcp://127.0.0.1:"),
            false => (start(&mut raw(&["recv", address])), address.to_owned()),
        };
        let send = start(raw(&["send", &address]).stdin(data.file()));
        expect_text(send.finish(), 0);
        if !address.starts_with("fifo") {
            recv.printed(LEN);
            recv.signal(Signal::SIGTERM);
        }
        data.check(&expect(recv.finish(), 0).0, &address);
    }
}

#[test]
fn raw_bytes_go_to_programs_and_come_from_them() {
    let data = Data::new();
    let out = data.dir.path("out");
    let to = format!("exec:dd of={} status=none", out.display());
    let send = start(raw(&["send", &to]).stdin(data.file()));
    expect_text(send.finish(), 0);
    data.check(&std::fs::read(&out).unwrap(), "send exec:");
    let from = format!("exec:cat {}", data.path().display());
    data.check(&expect(run(&mut raw(&["recv", &from])), 0).0, "recv exec:");
    for args in [
        &["send", "stdio:"][..],
        &["recv", "stdio:"],
        &["serve", "stdio:"],
        &["serve", "stdio:", "--", "cat"],
        &["relay", "stdio:", "stdio:"],
        &["call", "exec:cat"],
    ] {
        let process = start(raw(args).stdin(data.file()));
        let (out, _) = expect(process.finish(), 0);
        data.check(&out, &args.join(" "));
    }
}

#[test]
fn raw_bytes_are_served_and_called_byte_for_byte() {
    let data = Data::new();
    let unix = format!("unix:{}", data.dir.path("unix").display());
    for (address, cmd) in [
        (unix.as_str(), &[][..]),
        (&unix, &["--", "cat"]),
        ("tcp://127.0.0.1:0", &[]),
        ("tcp://127.0.0.1:0", &["--", "cat"]),
    ] {
        let args = [&["serve", address], cmd].concat();
        let (serve, address) = bound(&args, address.split_once(':').unwrap().0);
        let call = start(raw(&["call", &address]).stdin(data.file()));
        data.check(&expect(call.finish(), 0).0, &address);
        serve.signal(Signal::SIGTERM);
        expect(serve.finish(), 0);
    }
    let fifo = data.dir.fifo("fifo");
    for cmd in [&[][..], &["--", "cat"]] {
        let serve = start(&mut raw(&[&["serve", &fifo], cmd].concat()));
        let send = start(raw(&["send", &fifo]).stdin(data.file()));
        expect_text(send.finish(), 0);
        serve.printed(LEN);
        serve.signal(Signal::SIGTERM);
        data.check(&expect(serve.finish(), 0).0, &fifo);
    }
}

#[test]
fn a_raw_reply_has_no_limit_unless_the_program_may_run_again() {
    let data = Data::new();
    let unix = format!("unix:{}", data.dir.path("unix").display());
    let path = data.path().display().to_string();
    for retry in ["0", "1"] {
        let args = ["serve", &unix, "--retry", retry, "--", "cat", &path];
        let (serve, address) = bound(&args, "unix:");
        let call = run(&mut raw(&["call", &address, "hi"]));
        data.check(&expect(call, 0).0, retry);
        serve.signal(Signal::SIGTERM);
        expect(serve.finish(), 0);
    }
    let args = [
        "serve",
        &unix,
        "--retry",
        "1",
        "--",
        "head",
        "-c",
        "20000000",
        "/dev/zero",
    ];
    let (serve, address) = bound(&args, "unix:");
    let (out, _) = expect(run(&mut raw(&["call", &address, "hi"])), 0);
    assert_eq!(out.len(), 16 << 20);
    serve.signal(Signal::SIGTERM);
    let (_, said) = expect(serve.finish(), 0);
    assert!(
        said.contains("more than 16777216 bytes") && !said.contains("max-frame"),
        "{said}"
    );
}

#[test]
fn raw_bytes_are_printed_a_piece_a_line_in_json_and_hex() {
    let data = Data::new();
    for output in ["json", "hex"] {
        let from = format!("exec:cat {}", data.path().display());
        for args in [["recv", &from], ["call", "exec:cat"]] {
            let process = start(raw(&args).args(["--output", output]).stdin(data.file()));
            let text = String::from_utf8(expect(process.finish(), 0).0).unwrap();
            let mut bytes = Vec::new();
            for line in text.lines() {
                let before = bytes.len();
                match output {
                    "hex" => bytes.extend(from_hex(line)),
                    _ => bytes.extend(from_json(line)),
                }
                let piece = bytes.len() - before;
                assert!((1..=64 * 1024).contains(&piece), "{piece} bytes at once");
            }
            data.check(&bytes, output);
        }
    }
}

fn from_hex(line: &str) -> Vec<u8> {
    let digits = line.as_bytes().chunks(2);
    let byte = |it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn from_json(line: &str) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    match (value["text"].as_str(), value["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(text)) => from_base64(text),
        (None, None) => panic!("{line}"),
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |c| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for four in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four
            .iter()
            .fold(0_u32, |all, c| all << 6 | u32::from(value(*c)));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

/// Each process may have 20 MB of memory for 30 MB of data.
#[test]
fn nothing_gathers_a_raw_stream_in_memory() {
    let dir = Dir::new();
    let unix = format!("unix:{}", dir.path("unix").display());
    let program = env!("CARGO_BIN_EXE_aqueduct");
    let (serve, _) = bound(&["serve", &unix], "unix:");
    let script = format!(
        "ulimit -d 20000; head -c 30000000 /dev/zero | {program} call {unix} --frame raw | wc -c"
    );
    let counted = expect_text(run(Command::new("sh").args(["-c", &script])), 0);
    assert_eq!(counted.trim(), "30000000");
    let status = std::fs::read_to_string(format!("/proc/{}/status", serve.pid())).unwrap();
    let peak = status
        .lines()
        .find_map(|it| it.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 50_000, "{peak} kB");
    serve.signal(Signal::SIGTERM);
    expect(serve.finish(), 0);
    let script = format!(
        "ulimit -d 20000; head -c 30000000 /dev/zero | {program} send stdio: --frame raw | \
         {program} recv stdio: --frame raw --output hex | tr -d '\\n' | wc -c"
    );
    let counted = expect_text(run(Command::new("sh").args(["-c", &script])), 0);
    assert_eq!(counted.trim(), "60000000");
}

#[test]
fn cutting_standard_input_of_a_raw_stream_is_wrong_use() {
    for command in ["send", "call"] {
        for input in ["lines", "nul"] {
            let mut process = raw(&[command, "exec:cat", "--input", input]);
            let (_, said) = expect(run(&mut process), 2);
            assert!(said.contains("leave --input out"), "{said}");
        }
    }
}

/// Each line is a message there, and its newline is not sent: not without a word.
#[test]
fn raw_without_an_effect_is_told() {
    for (flags, told) in [
        (&["--frame", "raw"][..], true),
        (&["--frame", "raw", "--input", "whole"], false),
        (&["--frame", "length"], false),
        (&[], false),
    ] {
        let queue = Queue::new();
        let address = queue.address();
        let args = [&["send", &address], flags].concat();
        let sent = start_with_input(&mut aqueduct(&args), "a\nb\n").finish();
        let (_, stderr) = expect(sent, 0);
        let note = "--frame raw has no effect: each line";
        assert_eq!(stderr.contains(note), told, "{flags:?}: {stderr}");
    }
}
