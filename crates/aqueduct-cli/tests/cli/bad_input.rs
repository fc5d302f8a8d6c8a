//! What can be wrong with the world around the command: closed streams, bytes that are no text, a
//! signal at any moment, no colours wanted.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::mq::Queue;
use crate::support::{Dir, aqueduct, expect, expect_text, run, start, start_with_input};

/// Runs it by a shell that redirects as told.
fn redirected(how: &str, args: &[&str]) -> Output {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {how}")]);
    shell.arg(env!("CARGO_BIN_EXE_aqueduct")).args(args);
    run(&mut shell)
}

#[test]
fn a_closed_stdout_is_no_failure_whatever_is_printed() {
    let dir = Dir::new();
    let here = dir.path("").display().to_string();
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "serve"],
        &["man"],
        &["completions", "fish"],
        &["mq", "limits", "-q"],
        &["mq", "limits", "--json"],
        &["list", "-q", &here],
        &["list", "-q", "--json", &here],
        &["clean", "-q", &here],
        &["call", "exec:cat", "hi"],
        &["recv", "exec:echo hi"],
    ] {
        let (reader, out) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = aqueduct(args);
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        drop(command);
        expect_text(child.wait_with_output().unwrap(), 0);
    }
    // As is one that was closed before it began.
    expect_text(redirected(">&-", &["recv", "exec:echo hi"]), 0);
    expect_text(redirected(">&-", &["man"]), 0);
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    for args in [
        &["--help"][..],
        &["--version"],
        &["help", "serve"],
        &["man"],
        &["completions", "fish"],
        &["doctor", "-q"],
        &["call", "exec:cat", "hi"],
    ] {
        let (_, stderr) = expect(redirected("> /dev/full", args), 1);
        let why = "aqueduct: cannot write to standard output: No space left on device";
        assert_eq!(stderr, format!("{why} (os error 28)\n"), "{args:?}");
    }
}

#[test]
fn without_a_command_it_prints_the_help_as_wrong_use() {
    let (_, stderr) = expect(run(&mut aqueduct(&[])), 2);
    assert!(stderr.starts_with("Send and receive"), "{stderr}");
}

#[test]
fn a_standard_input_that_is_closed_is_an_empty_one() {
    let queue = Queue::new();
    let address = queue.address();
    expect_text(redirected("<&-", &["send", &address]), 0);
    expect_text(redirected("<&-", &["send", &address, "hi"]), 0);
    assert_eq!(
        expect_text(redirected("<&-", &["recv", &address, "-n", "1"]), 0),
        "hi\n"
    );
    assert_eq!(
        expect_text(redirected("<&-", &["call", "exec:cat", "hi"]), 0),
        "hi\n"
    );
    // An empty message is one.
    assert_eq!(
        expect_text(redirected("<&-", &["call", "exec:cat"]), 0),
        "\n"
    );
}

#[test]
fn a_standard_error_that_is_closed_costs_nothing() {
    let dir = Dir::new();
    let unix = format!("unix:{}", dir.path("x").display());
    let output = redirected("2>&-", &["send", &unix, "--wait", "300ms", "hi"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(3), 0));
}

/// The library logs a warning.
#[test]
fn a_log_that_cannot_be_written_costs_no_message() {
    let script = "printf 'a\\nb' | exec \"$0\" recv stdio: --partial drop 2> /dev/full";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_aqueduct")]);
    assert_eq!(expect_text(run(&mut shell), 0), "a\n");
}

#[test]
fn bytes_that_are_no_text_go_through_as_they_are() {
    let dir = Dir::new();
    // In a path, a message, and what is printed.
    let path = [dir.path("").as_os_str().as_bytes(), b"\xff\xfe"].concat();
    let address = [b"fifo:", &path[..]].concat();
    let address = OsStr::from_bytes(&address);
    let recv = start(aqueduct(&["recv"]).arg(address));
    let message = OsStr::from_bytes(b"\x80\xff");
    expect(run(aqueduct(&["send"]).arg(address).arg(message)), 0);
    assert_eq!(expect(recv.finish(), 0).0, b"\x80\xff\n");
    assert!(std::fs::symlink_metadata(OsStr::from_bytes(&path)).is_ok());
    let input = start_with_input(
        &mut aqueduct(&["recv", "stdio:", "--output", "json"]),
        b"\xff\n",
    );
    assert!(expect_text(input.finish(), 0).contains("\"base64\":\"/w==\""));
    let mut info = aqueduct(&["mq", "info"]);
    expect(run(info.arg(OsStr::from_bytes(b"/\xff"))), 2);
}

#[test]
fn sizes_and_durations_are_written_as_people_write_them() {
    for (args, part) in [
        (
            &["recv", "fifo:/x", "--timeout", "5"][..],
            "500ms, 5s or 2m",
        ),
        (&["send", "fifo:/x", "--wait", "soon"], "or forever"),
        (&["recv", "fifo:/x", "--max-frame", "64KB"], "64KiB"),
        (&["recv", "mq:/x?max-message=64KB"], "64KiB"),
        (
            &["mq", "create", "/x", "--max-message", "0"],
            "at least one byte",
        ),
        (&["mq", "create", "/x", "--mode", "rw"], "0600"),
    ] {
        let (_, stderr) = expect(run(&mut aqueduct(args)), 2);
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

/// What a command prints on a terminal of its own.
fn on_a_terminal(args: &[&str], no_color: &str) -> String {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = aqueduct(args);
    command.env("NO_COLOR", no_color).env("TERM", "xterm");
    let error = pty.slave.try_clone().unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(pty.slave)
        .stderr(error)
        .spawn()
        .unwrap();
    drop(command);
    let mut text = Vec::new();
    // The end of a terminal is an error, EIO.
    let _ = File::from(pty.master).read_to_end(&mut text);
    child.wait().unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn colours_appear_only_on_a_terminal_and_can_be_turned_off() {
    let dir = Dir::new();
    let (here, fifo) = (dir.path("").display().to_string(), dir.fifo("x"));
    for args in [
        &["--help"][..],
        &["recv", "--nonsense"],
        &["list", &here],
        &["mq", "limits"],
        &["recv", &fifo, "--timeout", "1ms", "-v"],
    ] {
        let plain = on_a_terminal(args, "1");
        assert!(
            !plain.contains('\x1b') && !plain.is_empty(),
            "{args:?}: {plain:?}"
        );
    }
    // Where there are some.
    for args in [&["--help"][..], &["recv", &fifo, "--timeout", "1ms", "-v"]] {
        assert!(on_a_terminal(args, "").contains('\x1b'), "{args:?}");
    }
}

#[test]
fn ctrl_c_at_any_moment_tears_and_doubles_nothing() {
    let queue = Queue::new();
    let address = queue.address();
    let messages: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    let take = |n: &str| {
        let recv = ["recv", &address, "-n", n, "--timeout", "10ms"];
        String::from_utf8(run(&mut aqueduct(&recv)).stdout).unwrap()
    };
    for i in 0..40 {
        // From before it begins to when it has long waited for room in the queue.
        let pause = Duration::from_micros(250 * i);
        let mut send = aqueduct(&["send", &address]);
        let send = start(send.args(&messages).stdin(Stdio::null()));
        sleep(pause);
        send.signal(Signal::SIGINT);
        // It may not have got as far as to catch it.
        let fine = |output: &Output| {
            let text = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => true,
                // Its last messages are waiting for room: it says so.
                Some(1) => text.contains("messages are lost"),
                _ => output.status.signal() == Some(Signal::SIGINT as i32),
            }
        };
        let mut got = String::new();
        // Those that it has in hand go out, as there is room.
        let drain = start(&mut aqueduct(&["recv", &address, "--timeout", "1s", "-q"]));
        let output = send.finish();
        assert!(fine(&output), "after {pause:?}: {output:?}");
        drain.signal(Signal::SIGINT);
        let drained = drain.finish();
        assert!(fine(&drained), "after {pause:?}: {drained:?}");
        got += &String::from_utf8(drained.stdout).unwrap();
        got += &take("200");
        let expected: Vec<_> = messages.iter().take(got.lines().count()).collect();
        assert_eq!(got.lines().collect::<Vec<_>>(), expected, "after {pause:?}");
    }
}
