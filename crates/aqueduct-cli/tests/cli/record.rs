//! `relay --tee` and `send --replay`: recorded, cut short, and sent again.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use aqueduct::bytes::BytesMut;
use aqueduct::record::{Error, RecordDecoder, Recorder};
use nix::sys::signal::Signal;
use tokio_util::codec::Decoder;

use crate::mq::Queue;
use crate::support::{
    Dir, aqueduct, expect, expect_text, read_with_deadline, run, start, start_with_input, until,
};

fn numbered(lines: std::ops::Range<u32>) -> String {
    lines.map(|i| format!("{i}\n")).collect()
}

/// The bodies in a recording, as lines, and how it ends.
fn recorded(path: &Path) -> (String, Result<(), Error>) {
    let mut file = BytesMut::from(&fs::read(path).unwrap()[..]);
    let mut decoder = RecordDecoder::new();
    let mut lines = Vec::new();
    let end = loop {
        match decoder.decode_eof(&mut file) {
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
            Ok(Some(record)) => {
                lines.extend_from_slice(record.message.body());
                lines.push(b'\n');
            }
        }
    };
    (String::from_utf8(lines).unwrap(), end)
}

fn relay(file: &str) -> Command {
    aqueduct(&["relay", "stdio:", "stdio:", "--tee", file])
}

fn replay(file: &str) -> Command {
    aqueduct(&["send", "stdio:", "--replay", file, "--pace", "fast"])
}

#[test]
fn a_hundred_thousand_messages_are_recorded_and_replayed() {
    let dir = Dir::new();
    let path = dir.path("x");
    let file = path.to_str().unwrap();
    let lines = numbered(0..100_000);
    let relay = start_with_input(&mut relay(file), &lines);
    assert!(expect_text(relay.finish(), 0) == lines);
    assert!(expect_text(run(&mut replay(file)), 0) == lines);
}

#[test]
fn a_relay_that_is_started_again_appends_to_its_recording() {
    let dir = Dir::new();
    let path = dir.path("x");
    let file = path.to_str().unwrap();
    for lines in [numbered(0..10), numbered(10..20)] {
        let relay = start_with_input(&mut relay(file), &lines);
        assert_eq!(expect_text(relay.finish(), 0), lines);
    }
    assert_eq!(expect_text(run(&mut replay(file)), 0), numbered(0..20));
}

#[test]
fn what_was_relayed_before_a_sigkill_is_recorded_and_replays() {
    let dir = Dir::new();
    let path = dir.path("x");
    let file = path.to_str().unwrap();
    let mut before = String::new();
    // The second one goes on where the first was killed.
    for _ in 0..2 {
        let (reader, out) = std::io::pipe().unwrap();
        let mut relay = relay(file);
        let mut child = relay.stdin(Stdio::piped()).stdout(out).spawn().unwrap();
        drop(relay);
        let mut stdin = child.stdin.take().unwrap();
        let feeding = thread::spawn(move || {
            let mut i = 0_u32;
            while writeln!(stdin, "{i}").is_ok() {
                i += 1;
            }
        });
        let printed = String::from_utf8(read_with_deadline(reader, 100_000)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        feeding.join().unwrap();
        let (lines, end) = recorded(&path);
        assert!(
            matches!(end, Ok(()) | Err(Error::CutShort { .. })),
            "{end:?}"
        );
        let new = lines.strip_prefix(&before).expect("it is appended to");
        assert!(new.starts_with(&printed), "all that came out is recorded");
        let all = numbered(0..new.lines().count() as u32);
        assert!(new == all, "in order, and whole");
        before = lines;
    }
    let output = run(&mut replay(file));
    assert!(String::from_utf8(output.stdout).unwrap() == before);
}

/// What is missing is reported.
#[test]
fn a_truncated_recording_replays_whole_messages_and_says_so() {
    let dir = Dir::new();
    let path = dir.path("x");
    let file = path.to_str().unwrap();
    expect(
        start_with_input(&mut relay(file), numbered(0..9)).finish(),
        0,
    );
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let (stdout, stderr) = expect(run(&mut replay(file)), 1);
    assert_eq!(stdout, numbered(0..8).into_bytes());
    assert!(
        stderr.contains("cut short: 8 messages are whole"),
        "{stderr}"
    );
    assert!(stderr.contains("18 of 21 bytes"), "{stderr}");
    // The next relay says what it cuts off, and goes on.
    let (_, stderr) = expect(start_with_input(&mut relay(file), "9\n").finish(), 0);
    assert!(stderr.contains("cut off"), "{stderr}");
    let lines = numbered(0..8) + "9\n";
    assert_eq!(expect_text(run(&mut replay(file)), 0), lines);
}

#[test]
fn a_full_disk_ends_the_relay_after_delivering_what_it_took() {
    let (stdout, stderr) = expect(start_with_input(&mut relay("/dev/full"), "a\n").finish(), 1);
    assert!(stdout.is_empty(), "it was not begun with");
    assert!(stderr.contains("/dev/full: No space left"), "{stderr}");
    // A file that may not grow beyond a few blocks.
    let dir = Dir::new();
    let path = dir.path("x");
    let mut shell = Command::new("sh");
    let script = "ulimit -f 8; exec \"$0\" relay stdio: stdio: --tee \"$1\"";
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_aqueduct")])
        .arg(&path);
    let input = numbered(0..100_000);
    let (stdout, stderr) = expect(start_with_input(&mut shell, &input).finish(), 1);
    assert!(stderr.contains("File too large"), "{stderr}");
    assert!(stderr.contains("ulimit -f"), "{stderr}");
    let printed = String::from_utf8(stdout).unwrap();
    let (lines, end) = recorded(&path);
    end.expect("only whole messages are in it");
    assert!(lines.lines().count() > 50, "{}", lines.lines().count());
    assert!(printed.starts_with(&lines) && input.starts_with(&printed));
    assert!(printed.lines().count() > lines.lines().count());
}

#[test]
fn a_spool_that_cannot_be_written_is_named() {
    let dir = Dir::new();
    let (tee, spool) = (dir.path("tee"), dir.path("spool"));
    let mut shell = Command::new("sh");
    let script = "ulimit -f 8; exec \"$0\" relay stdio: stdio: --tee \"$1\" --spool \"$2\"";
    shell
        .args(["-c", script, env!("CARGO_BIN_EXE_aqueduct")])
        .args([&tee, &spool]);
    let large = "x".repeat(10_000) + "\n";
    let (stdout, stderr) = expect(start_with_input(&mut shell, &large).finish(), 1);
    assert_eq!(stdout, large.as_bytes());
    let named = |file: &Path| format!("cannot record to {}: 1 message", file.display());
    assert!(stderr.contains(&named(&spool)), "{stderr}");
    assert!(!stderr.contains(&named(&tee)), "{stderr}");
}

#[test]
fn what_is_no_recording_is_neither_recorded_to_nor_replayed() {
    let dir = Dir::new();
    let path = dir.path("notes");
    let file = path.to_str().unwrap();
    fs::write(&path, "dear diary\n").unwrap();
    for mut command in [relay(file), replay(file)] {
        let (stdout, stderr) = expect(start_with_input(&mut command, "a\n").finish(), 1);
        assert!(stdout.is_empty());
        assert!(
            stderr.contains("notes: this is not an Aqueduct recording"),
            "{stderr}"
        );
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "dear diary\n");
    let missing = dir.path("missing");
    let (_, stderr) = expect(run(&mut replay(missing.to_str().unwrap())), 1);
    assert!(stderr.contains("missing: No such file"), "{stderr}");
    for args in [
        &["send", "stdio:", "--pace", "fast"][..],
        &["send", "stdio:", "--replay", file, "a message"],
        &["send", "stdio:", "--replay", file, "--input", "nul"],
    ] {
        expect(run(&mut aqueduct(args)), 2);
    }
}

#[test]
fn a_recording_is_sent_at_its_own_pace_unless_told_otherwise() {
    let dir = Dir::new();
    let path = dir.path("x");
    let file = path.to_str().unwrap();
    let pause = Duration::from_millis(200);
    let mut recorder = Recorder::open(&path).unwrap();
    let mut time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for body in ["a", "b", "c"] {
        recorder.record_at(time, &body.into()).unwrap();
        time += pause;
    }
    let begin = Instant::now();
    let output = run(&mut aqueduct(&["send", "stdio:", "--replay", file]));
    assert_eq!(expect_text(output, 0), "a\nb\nc\n");
    assert!(begin.elapsed() >= pause * 2);
    // One that is due tomorrow is not waited for with --pace fast, nor by one who is told to stop.
    time += Duration::from_secs(86_400);
    recorder.record_at(time, &"d".into()).unwrap();
    drop(recorder);
    assert_eq!(expect_text(run(&mut replay(file)), 0), "a\nb\nc\nd\n");
    let fifo = dir.fifo("fifo");
    let send = start(&mut aqueduct(&["send", &fifo, "--replay", file]));
    let recv = start(&mut aqueduct(&["recv", &fifo, "-n", "3"]));
    assert_eq!(expect_text(recv.finish(), 0), "a\nb\nc\n");
    send.signal(Signal::SIGTERM);
    let (_, stderr) = expect(send.finish(), 0);
    assert!(
        stderr.contains("3 messages of the recording were sent"),
        "{stderr}"
    );
}

#[test]
fn priorities_are_recorded_and_replayed() {
    let dir = Dir::new();
    let path = dir.path("x");
    let file = path.to_str().unwrap();
    let (from, to, again) = (Queue::new(), Queue::new(), Queue::new());
    for priority in ["3", "7"] {
        let args = ["send", &from.address(), "--priority", priority, priority];
        expect_text(run(&mut aqueduct(&args)), 0);
    }
    let args = ["relay", &from.address(), &to.address(), "--tee", file];
    let relay = start(&mut aqueduct(&args));
    until("both are there", || to.depth() == 2);
    relay.signal(Signal::SIGINT);
    expect_text(relay.finish(), 0);
    let args = ["send", &again.address(), "--replay", file, "--pace", "fast"];
    expect_text(run(&mut aqueduct(&args)), 0);
    let args = ["recv", &again.address(), "-n", "2", "--output", "json"];
    let lines = expect_text(run(&mut aqueduct(&args)), 0);
    let seen = lines.lines().map(|it| serde_json::from_str(it).unwrap());
    let seen: Vec<u64> = seen
        .map(|it: serde_json::Value| it["priority"].as_u64().unwrap())
        .collect();
    assert_eq!(seen, [7, 3]);
}
