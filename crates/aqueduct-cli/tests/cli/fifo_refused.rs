//! FIFOs and descriptors that `send` and `recv` cannot use: one line that names it and the cure.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

use crate::support::{Dir, aqueduct, expect, expect_text, run, start, until, until_open};

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

/// Runs it, and gives its one line of complaint.
fn complaint(command: &mut Command) -> String {
    complaint_with(1, command)
}

fn complaint_with(code: i32, command: &mut Command) -> String {
    let (stdout, stderr) = expect(run(command), code);
    assert_eq!(stdout, b"");
    assert!(stderr.starts_with("aqueduct: "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// Asserts that `text` has all of `words`.
fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
}

#[test]
fn what_is_no_fifo_is_named_with_the_cure_on_both_sides() {
    let dir = Dir::new();
    fs::write(dir.path("file"), "precious").unwrap();
    fs::create_dir(dir.path("directory")).unwrap();
    let _listener = UnixListener::bind(dir.path("socket")).unwrap();
    mkfifo(&dir.path("fifo"), Mode::S_IRWXU).unwrap();
    symlink(dir.path("fifo"), dir.path("link")).unwrap();
    symlink(dir.path("absent"), dir.path("nowhere")).unwrap();
    let long = "x".repeat(256);
    for (name, words) in [
        (
            "file",
            &["a regular file, not a FIFO", "use another path"][..],
        ),
        ("directory", &["a directory, not a FIFO"]),
        ("socket", &["a socket, not a FIFO"]),
        ("link", &["a symbolic link to", "use the path it leads to"]),
        (
            "nowhere",
            &["a symbolic link to", "use the path it leads to"],
        ),
        (
            "absent/fifo",
            &["/absent does not exist", "create it first"],
        ),
        (
            "file/fifo",
            &["/file is not a directory", "correct the path"],
        ),
        (
            &long,
            &["256 bytes", "255 are allowed", "use a shorter path"],
        ),
    ] {
        for args in [
            &["recv", &dir.fifo(name)][..],
            &["send", &dir.fifo(name), "hi"],
        ] {
            let said = complaint(&mut aqueduct(args));
            has(&said, words);
            has(&said, &[name]);
        }
    }
    let device = complaint(&mut aqueduct(&["recv", "fifo:/dev/null"]));
    has(&device, &["/dev/null", "a character device, not a FIFO"]);
    assert_eq!(fs::read_to_string(dir.path("file")).unwrap(), "precious");
    assert!(!dir.path("absent").exists());
}

/// The command as one who is not root, whoever runs the tests. The program is copied to where that
/// user may look.
fn not_root(dir: &Dir, args: &[&str]) -> Command {
    let program = dir.path("aqueduct");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_aqueduct"), &program).unwrap();
    }
    let mut command = Command::new(program);
    command.args(args).env_remove("RUST_LOG");
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

#[test]
fn what_permissions_forbid_is_told_with_user_and_mode() {
    let dir = Dir::new();
    fs::set_permissions(dir.path(""), Permissions::from_mode(0o755)).unwrap();
    let user = if geteuid().is_root() {
        NOBODY
    } else {
        geteuid().as_raw()
    };
    let own = |name: &str, mode: u32| {
        chown(dir.path(name), Some(user), None).unwrap();
        fs::set_permissions(dir.path(name), Permissions::from_mode(mode)).unwrap();
    };
    for (name, mode) in [("unwritable", 0o500), ("closed", 0o600)] {
        fs::create_dir(dir.path(name)).unwrap();
        own(name, mode);
    }
    for (name, mode) in [("unreadable", 0o200), ("unwritten", 0o400)] {
        mkfifo(&dir.path(name), Mode::S_IRWXU).unwrap();
        own(name, mode);
    }
    let user = format!("user {user}");
    for (args, words) in [
        (
            &["recv", &dir.fifo("unwritable/x")][..],
            &[
                "may not write to directory",
                "/unwritable",
                "$XDG_RUNTIME_DIR",
            ][..],
        ),
        (
            &["send", &dir.fifo("unwritable/x"), "hi"],
            &[
                "may not write to directory",
                "/unwritable",
                "$XDG_RUNTIME_DIR",
            ],
        ),
        (
            &["recv", &dir.fifo("closed/x")],
            &["may not search directory", "/closed", "x permission"],
        ),
        (
            &["recv", &dir.fifo("unreadable")],
            &["may not open it for reading", &user, "mode 0200", "chmod"],
        ),
        (
            &["send", &dir.fifo("unwritten"), "hi"],
            &["may not open it for writing", &user, "mode 0400", "chmod"],
        ),
    ] {
        has(&complaint(&mut not_root(&dir, args)), words);
    }
    // So that it can be removed.
    fs::set_permissions(dir.path("closed"), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_fifo_of_another_user_is_refused() {
    if !geteuid().is_root() {
        println!("SKIPPED: only root can give a FIFO away");
        return;
    }
    let dir = Dir::new();
    mkfifo(&dir.path("x"), Mode::S_IRWXU).unwrap();
    chown(dir.path("x"), Some(NOBODY), None).unwrap();
    for args in [
        &["recv", &dir.fifo("x")][..],
        &["send", &dir.fifo("x"), "hi"],
    ] {
        let said = complaint(&mut aqueduct(args));
        has(
            &said,
            &[
                "belongs to user 65534",
                "runs as user 0",
                "use another path",
            ],
        );
    }
}

#[test]
fn a_plain_mkfifo_works_with_a_warning_of_its_mode() {
    let dir = Dir::new();
    mkfifo(&dir.path("x"), Mode::S_IRWXU).unwrap();
    fs::set_permissions(dir.path("x"), Permissions::from_mode(0o644)).unwrap();
    let fifo = dir.fifo("x");
    let recv = start(&mut aqueduct(&["recv", &fifo]));
    until_open(recv.pid(), &dir.path("x"));
    expect_text(run(&mut aqueduct(&["send", "-q", &fifo, "hi"])), 0);
    let (stdout, stderr) = expect(recv.finish(), 0);
    assert_eq!(stdout, b"hi\n");
    has(&stderr, &["mode=0644"]);
}

/// The error names the length and the limit.
#[test]
fn an_impossible_length_is_an_error_after_whole_messages() {
    let dir = Dir::new();
    let recv = start(&mut aqueduct(&[
        "recv",
        &dir.fifo("x"),
        "--frame",
        "length",
    ]));
    until("the FIFO is made", || dir.path("x").exists());
    fs::write(dir.path("x"), b"\0\0\0\x05whole\nGET / HTTP/1.1\r\n\r\n").unwrap();
    let (stdout, stderr) = expect(recv.finish(), 1);
    assert_eq!(stdout, b"whole\n");
    // "\nGET" as a number.
    let size = u32::from_be_bytes(*b"\nGET").to_string();
    has(&stderr, &[&size, "limit of", "--max-frame"]);
}

/// A shell starts the command with its descriptor 3 as `redirection` says.
fn with_three(args: &[&str], redirection: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    let script = format!("exec \"$@\" {redirection}");
    shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_aqueduct")]);
    shell.args(args).env_remove("RUST_LOG");
    shell
}

#[test]
fn a_descriptor_of_the_wrong_direction_or_kind_is_refused() {
    for (code, args, redirection, words) in [
        (
            2,
            &["recv", "fd:3"][..],
            "3>/dev/null",
            &["fd:3", "open only for writing"][..],
        ),
        (
            2,
            &["send", "fd:3", "hi"],
            "3</dev/null",
            &["fd:3", "open only for reading"],
        ),
        (2, &["recv", "fd:3"], "3</", &["fd:3", "a directory"]),
        (
            1,
            &["recv", "fd:3"],
            // Also where whoever runs the tests has one of that number.
            "3>&-",
            &["fd:3", "pass it down", "the program that starts this one"],
        ),
        (1, &["recv", "fd:77777"], "", &["fd:77777", "not open"]),
    ] {
        let said = complaint_with(code, &mut with_three(args, redirection));
        has(&said, words);
    }
}

#[test]
fn a_descriptor_opened_by_a_shell_can_be_received_and_sent_to() {
    let dir = Dir::new();
    fs::write(dir.path("in"), "one\ntwo\n").unwrap();
    let redirection = format!("3<{}", dir.path("in").display());
    let recv = run(&mut with_three(&["recv", "fd:3"], &redirection));
    assert_eq!(expect_text(recv, 0), "one\ntwo\n");
    let redirection = format!("3>{}", dir.path("out").display());
    let send = run(&mut with_three(
        &["send", "fd:3", "one", "two"],
        &redirection,
    ));
    expect_text(send, 0);
    assert_eq!(fs::read_to_string(dir.path("out")).unwrap(), "one\ntwo\n");
    // A pipe, with an end.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut recv = with_three(&["recv", "fd:3"], "3<&0");
    let recv = start(recv.stdin(reader));
    std::io::Write::write_all(&mut File::from(std::os::fd::OwnedFd::from(writer)), b"x\n").unwrap();
    assert_eq!(expect_text(recv.finish(), 0), "x\n");
}
