//! `aqueduct doctor`: limits and settings, and what to do about them.

use std::fs::{Permissions, create_dir, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::namespace::{self, alone};
use crate::support::{Dir, aqueduct, expect, run};

/// Its checks, and what it says besides.
fn checks(command: &mut Command, code: i32) -> (Vec<Value>, String) {
    let (stdout, said) = expect(run(command), code);
    let stdout = String::from_utf8(stdout).unwrap();
    let lines = stdout.lines().map(serde_json::from_str);
    (
        lines.collect::<Result<_, _>>().expect("lines of JSON"),
        said,
    )
}

fn check<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    let found = checks.iter().find(|it| it["check"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing: {checks:?}"))
}

#[test]
fn every_limit_is_told_with_what_to_do_about_it() {
    let dir = Dir::new();
    let runtime = dir.path("runtime");
    create_dir(&runtime).unwrap();
    // Its own limit on descriptors.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 100; exec \"$0\" doctor --json"]);
    shell.arg(env!("CARGO_BIN_EXE_aqueduct"));
    let mut told = |mode| {
        set_permissions(&runtime, Permissions::from_mode(mode)).unwrap();
        let output = run(shell.env("XDG_RUNTIME_DIR", &runtime));
        // What else runs here is not in the hand of this test: it may find queues used up.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text
            .lines()
            .map(|it| serde_json::from_str::<Value>(it).unwrap());
        lines.collect::<Vec<_>>()
    };
    let checks = told(0o755);
    for (name, advice) in [
        ("schemes", "aqueduct --help"),
        ("queue_bytes", "RLIMIT_MSGQUEUE"),
        ("queues", "fs.mqueue.queues_max"),
        ("queue_room", "default size"),
        ("queue_size", "fs.mqueue.msg_max"),
        ("pipe_size", "fs.pipe-user-pages-soft"),
        ("pipe_max", "fs.pipe-max-size"),
        ("shared_memory", "aqueduct list shm:"),
        ("descriptors", "ulimit -n"),
        ("open_files", "fs.file-max"),
        ("backlog", "net.core.somaxconn"),
        ("inotify", "fs.inotify.max_user_instances"),
        ("runtime_dir", "chmod 0700"),
    ] {
        let check = check(&checks, name);
        assert!(
            check["advice"].as_str().unwrap().contains(advice),
            "{check}"
        );
        assert!(
            ["ok", "low", "bad"].contains(&check["state"].as_str().unwrap()),
            "{check}"
        );
    }
    check(&checks, "queue_mount");
    let descriptors = check(&checks, "descriptors");
    assert_eq!(
        (&descriptors["value"], &descriptors["state"]),
        (&"100".into(), &"low".into())
    );
    assert_eq!(check(&checks, "runtime_dir")["state"], "low");
    assert_eq!(check(&told(0o700), "runtime_dir")["state"], "ok");
    std::fs::remove_dir(&runtime).unwrap();
    let mut gone = aqueduct(&["doctor"]);
    let output = run(gone.env("XDG_RUNTIME_DIR", &runtime));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.starts_with("check\tstate\tvalue\twhat to know or do\n"),
        "{table}"
    );
    assert!(
        table.contains("XDG_RUNTIME_DIR cannot be used: No such file"),
        "{table}"
    );
}

/// The advice is the command that mounts it.
#[test]
fn an_unmounted_queue_file_system_is_told_with_its_command() {
    let test = "an_unmounted_queue_file_system_is_told_with_its_command";
    if !alone(&format!("doctor::{test}"), false) {
        return;
    }
    let (checks, said) = checks(&mut namespace::aqueduct(&["doctor", "--json"]), 0);
    let mount = check(&checks, "queue_mount");
    assert_eq!(mount["state"], "low");
    assert!(
        mount["advice"]
            .as_str()
            .unwrap()
            .contains("mount -t mqueue none /dev/mqueue")
    );
    assert!(said.contains("are low"), "{said}");
}

#[test]
fn queues_that_are_used_up_are_bad_and_the_exit_code_says_so() {
    if !alone(
        "doctor::queues_that_are_used_up_are_bad_and_the_exit_code_says_so",
        true,
    ) {
        return;
    }
    let doctor = || namespace::aqueduct(&["doctor", "--json"]);
    let (before, _) = checks(&mut doctor(), 0);
    assert_eq!(check(&before, "queue_mount")["state"], "ok");
    assert_eq!(check(&before, "queue_bytes")["used"], 0);
    let room = check(&before, "queue_room")["value"]
        .as_str()
        .unwrap()
        .to_owned();
    let room: usize = room.strip_suffix(" more").unwrap().parse().unwrap();
    for i in 0..room {
        expect(
            run(&mut namespace::aqueduct(&[
                "mq",
                "create",
                &format!("/q{i}"),
                "-q",
            ])),
            0,
        );
    }
    let (after, said) = checks(&mut doctor(), 1);
    assert_eq!(check(&after, "queue_room")["state"], "bad");
    assert_eq!(check(&after, "queues")["used"], room);
    let bytes = check(&after, "queue_bytes");
    assert!(
        bytes["used"].as_u64() > Some(0) && bytes["state"] == "low",
        "{bytes}"
    );
    let bad = format!("1 of {} checks are bad", after.len());
    assert!(said.contains(&bad), "{said}");
}
