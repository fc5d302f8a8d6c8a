//! `mq create`, `info` and `unlink`, and how `mq` prints.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use nix::pty::{Winsize, openpty};

use crate::mq::Queue;
use crate::support::{aqueduct, expect, expect_text, run};

#[test]
fn a_queue_is_made_as_told_looked_at_and_removed() {
    let queue = Queue::new();
    let name = &queue.name;
    let mut create = aqueduct(&["mq", "create", name]);
    create.args(["--capacity", "4", "--max-message", "1KiB", "--mode", "660"]);
    let (stdout, stderr) = expect(run(&mut create), 0);
    assert!(stdout.is_empty());
    let made = format!("made queue {name}: it holds 4 messages of up to 1024 bytes, mode 0660");
    assert!(stderr.contains(&made), "{stderr}");
    assert!(stderr.contains("it costs 4480 of the "), "{stderr}");
    assert!(stderr.contains("(RLIMIT_MSGQUEUE)"), "{stderr}");

    let address = format!("mq:{name}?mode=0660");
    expect_text(run(&mut aqueduct(&["send", &address, "abc", "de"])), 0);
    let info = expect_text(run(&mut aqueduct(&["mq", "info", &address])), 0);
    let owner = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap();
    let owner = owner.map_or_else(|| nix::unistd::geteuid().to_string(), |it| it.name);
    let expected = format!(
        "fact\tvalue\nname\t{name}\nmessages\t2\ncapacity\t4\nbytes\t5\nmax_message\t1024\n\
         mode\t0660\nowner\t{owner}\ncost\t4480\nnotified\t-\n"
    );
    assert_eq!(info, expected);

    let (_, stderr) = expect(run(&mut create), 1);
    assert!(
        stderr.contains("already") && stderr.contains("mq unlink"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1);
    let (stdout, stderr) = expect(run(&mut aqueduct(&["mq", "unlink", name])), 0);
    assert!(stdout.is_empty());
    assert!(stderr.contains("and the 2 messages in it"), "{stderr}");
    for command in ["unlink", "info"] {
        let (_, stderr) = expect(run(&mut aqueduct(&["mq", command, name])), 1);
        assert!(
            stderr.contains(name) && stderr.contains("it does not exist; check the name"),
            "{stderr}"
        );
    }
}

#[test]
fn an_address_says_what_to_make_and_flags_say_it_louder() {
    let queue = Queue::new();
    let address = format!("mq:{}?capacity=2&max-message=16&mode=0640", queue.name);
    let mut create = aqueduct(&["mq", "create", &address, "--capacity", "3", "--json"]);
    let made = expect_text(run(&mut create), 0);
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["name"], queue.name);
    assert_eq!(
        (&made["capacity"], &made["max_message"]),
        (&3.into(), &16.into())
    );
    assert_eq!(
        (&made["mode"], &made["cost"]),
        (&"0640".into(), &(3 * (16 + 96)).into())
    );
    let removed = expect_text(run(&mut aqueduct(&["mq", "unlink", &address, "--json"])), 0);
    assert_eq!(
        removed,
        format!("{{\"name\":\"{}\",\"messages\":0}}\n", queue.name)
    );
}

#[test]
fn what_cannot_be_made_says_which_limit_and_how_to_raise_it() {
    let queue = Queue::new();
    for (flag, sysctl) in [
        // More than even root may have.
        (["--capacity", "65537"], "fs.mqueue.msg_max"),
        (["--max-message", "17MiB"], "fs.mqueue.msgsize_max"),
    ] {
        let mut create = aqueduct(&["mq", "create", &queue.name]);
        let (_, stderr) = expect(run(create.args(flag)), 1);
        assert!(
            stderr.contains(sysctl) && stderr.contains("allowed are 1 to"),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1);
    }
    expect(run(&mut aqueduct(&["mq", "info", &queue.name])), 1);
}

#[test]
fn wrong_use_is_told_and_does_nothing() {
    for (args, part) in [
        (&["mq", "info", "jobs"][..], "as in \"/jobs\""),
        (&["mq", "create", "/a/b"], "one slash only"),
        (&["mq", "unlink", "fifo:/tmp/x"], "write /name or mq:/name"),
        (&["mq", "info", "mq:/x?capasity=3"], "\"capacity\""),
        (&["mq", "create", "/x", "--capacity", "0"], "from 1 on"),
        (
            &["mq", "create", "/x", "--max-message", "0"],
            "at least one byte",
        ),
        (&["mq", "create", "/x", "--max-message", "1KB"], "64KiB"),
        (&["mq", "create", "/x", "--mode", "u+rw"], "octal"),
        (&["mq", "lst"], "'list'"),
        (&["mq"], "Usage"),
    ] {
        let (stdout, stderr) = expect(run(&mut aqueduct(args)), 2);
        assert!(stdout.is_empty());
        assert!(stderr.contains(part), "{args:?}: {stderr}");
    }
}

#[test]
fn help_of_each_command_has_examples() {
    for command in ["list", "info", "create", "unlink", "limits"] {
        let help = expect_text(run(&mut aqueduct(&["mq", command, "--help"])), 0);
        let example = format!("\n  aqueduct mq {command}");
        assert!(help.contains(&example) && help.contains("--json"), "{help}");
        assert!(help.lines().all(|it| it.chars().count() <= 100), "{help}");
    }
    let help = expect_text(run(&mut aqueduct(&["mq", "--help"])), 0);
    assert!(help.contains("its fields between tabs"), "{help}");
}

#[test]
fn a_terminal_gets_a_table_of_its_width() {
    let queue = Queue::new();
    let create = ["--capacity", "1", "--max-message", "8"];
    expect(
        run(aqueduct(&["-q", "mq", "create", &queue.name]).args(create)),
        0,
    );
    for args in [&["mq", "info", &queue.name][..], &["-q", "mq", "limits"]] {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let mut command = aqueduct(args);
        command
            .stdin(Stdio::null())
            .stdout(pty.slave)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Its copy of the terminal would keep the reader waiting.
        drop(command);
        let mut text = Vec::new();
        // The end of a terminal that nobody has open is an error.
        let _ = File::from(pty.master).read_to_end(&mut text);
        assert!(child.wait().unwrap().success());
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("──"), "{text}");
        assert!(!text.contains('\t') && !text.contains('\x1b'), "{text}");
        assert!(text.lines().count() > 5, "{text}");
        assert!(text.lines().all(|it| it.chars().count() <= 80), "{text}");
        // Each row fits its line: none begins with a part of the one above.
        assert!(!text.contains("\n  "), "{text}");
    }
}

#[test]
fn a_closed_output_ends_quietly_and_a_full_one_does_not() {
    let (read, write) = nix::unistd::pipe().unwrap();
    drop(read);
    let mut command = aqueduct(&["-q", "mq", "limits"]);
    let status = command
        .stdout(write)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = aqueduct(&["-q", "mq", "limits"])
        .stdout(full)
        .output()
        .unwrap();
    let (_, stderr) = expect(output, 1);
    assert!(
        stderr.contains("cannot write to standard output"),
        "{stderr}"
    );
}

/// Other programs may call their queues what they like.
#[test]
fn queues_with_odd_names_are_looked_at_and_removed() {
    use nix::mqueue::{MQ_OFlag, MqAttr, mq_close, mq_open};

    for odd in [":b", "@1", " queue"] {
        let mut queue = Queue::new();
        queue.name += odd;
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDONLY;
        let attributes = MqAttr::new(0, 2, 8, 0);
        let mode = nix::sys::stat::Mode::S_IRWXU;
        mq_close(mq_open(queue.name.as_str(), flags, mode, Some(&attributes)).unwrap()).unwrap();
        let info = expect_text(run(&mut aqueduct(&["mq", "info", &queue.name])), 0);
        assert!(info.contains(&queue.name), "{info}");
        expect(run(&mut aqueduct(&["mq", "unlink", &queue.name])), 0);
        let output = run(&mut aqueduct(&["mq", "info", &queue.name]));
        let (_, complaint) = expect(output, 1);
        assert!(complaint.contains("it does not exist"), "{complaint}");
        // Not made by us.
        let create = ["mq", "create", &queue.name, "--capacity", "2"];
        let (_, complaint) = expect(run(&mut aqueduct(&create)), 2);
        assert!(
            complaint.contains("a new name cannot contain"),
            "{complaint}"
        );
    }
}
