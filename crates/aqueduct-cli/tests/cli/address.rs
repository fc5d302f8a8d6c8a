//! Wrong use: exit code 2, one sentence, and nothing is done.

use crate::support::{Dir, aqueduct, expect, run};

fn complaint(args: &[&str]) -> String {
    let (stdout, stderr) = expect(run(&mut aqueduct(args)), 2);
    assert!(stdout.is_empty());
    assert!(stderr.starts_with("aqueduct: "), "{stderr}");
    stderr
}

#[test]
fn a_bad_address_is_one_line_with_the_nearest_right_one() {
    for (address, part) in [
        ("fifi:/x", "did you mean \"fifo\"?"),
        ("/tmp/x", "did you mean \"fifo:/tmp/x\"?"),
        ("fifo:/x?persits=true", "did you mean \"persist\"?"),
        ("fifo:/x?persist=maybe", "true or false"),
        ("fifo:/x?mode=999", "octal"),
        ("tcp://localhost", "the port is missing"),
        ("mq:jobs", "a slash and 1 to 255"),
    ] {
        for command in ["send", "recv"] {
            let stderr = complaint(&[command, address]);
            assert!(stderr.contains(part), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
        }
    }
}

#[test]
fn a_one_way_address_cannot_be_called_and_says_so() {
    for address in ["fifo:/nowhere/x", "mq:/nothing"] {
        let stderr = complaint(&["call", address, "hi"]);
        assert!(stderr.contains("is one-way: use send and recv"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1);
    }
}

#[test]
fn an_unknown_flag_or_command_names_the_nearest_right_one() {
    assert!(complaint(&["recv", "fifo:/x", "--fram", "nul"]).contains("'--frame'"));
    assert!(complaint(&["recieve", "fifo:/x"]).contains("'recv'"));
    assert!(complaint(&["recv", "fifo:/x", "--frame", "nil"]).contains("'nul'"));
    assert!(complaint(&["recv", "fifo:/x", "--timeout", "5"]).contains("500ms, 5s or 2m"));
    assert!(complaint(&["recv", "fifo:/x", "--max-frame", "1KB"]).contains("64KiB"));
}

/// The message is refused before anything is created.
#[test]
fn a_message_the_framing_cannot_carry_is_refused_early() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let stderr = complaint(&["send", &fifo, "fine", "two\nlines"]);
    assert!(
        stderr.contains("message 2 has a newline in it (byte 3)"),
        "{stderr}"
    );
    assert!(stderr.contains("--frame nul or --frame length"), "{stderr}");
    let stderr = complaint(&["send", &fifo, "--max-frame", "3", "four"]);
    assert!(stderr.contains("4 bytes, over the limit of 3"), "{stderr}");
    assert!(stderr.contains("--max-frame"), "{stderr}");
    assert!(!dir.path("x").exists());
}

/// Once "no reader appeared within 0ns".
#[test]
fn without_a_wait_no_duration_is_named() {
    let dir = Dir::new();
    let unread = dir.fifo("unread");
    let send = run(&mut aqueduct(&["send", &unread, "--wait", "0s", "hi"]));
    let (_, stderr) = expect(send, 3);
    assert!(stderr.contains("no reader is there; start it"), "{stderr}");
}
