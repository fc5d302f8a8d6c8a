//! Addresses that cannot be bound or reached: one line that says why and what to do.

use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

use crate::mq::Queue;
use crate::support::{Dir, aqueduct, expect, run, start, start_with_input};

/// Runs it, and gives its one line of complaint.
fn complaint(args: &[&str], code: i32) -> String {
    let (stdout, stderr) = expect(run(&mut aqueduct(args)), code);
    assert_eq!(stdout, b"");
    let line = stderr.trim_end();
    let last = line.lines().last().unwrap_or_default();
    assert!(last.starts_with("aqueduct: "), "{stderr}");
    last.to_owned()
}

#[test]
fn what_cannot_be_bound_says_why() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp://{}", taken.local_addr().unwrap());
    let _living = UnixListener::bind(dir.path("living")).unwrap();
    std::fs::write(dir.path("file"), "kept").unwrap();
    let unix = |name: &str| format!("unix:{}", dir.path(name).display());
    for command in ["serve", "recv"] {
        let refused = |address: &str, words: &[&str]| {
            let complaint = complaint(&[command, address], 1);
            for word in words {
                assert!(complaint.contains(word), "{word:?} in {complaint:?}");
            }
        };
        refused(&port, &["any free one"]);
        // Of the block that is kept for documentation.
        refused("tcp://192.0.2.1:80", &["not an address of this machine"]);
        refused(&unix("living"), &["another address"]);
        refused(&unix("file"), &["a regular file, not a socket"]);
        refused(&unix(&"a".repeat(108)), &["at most 107"]);
        refused(&unix("absent/x"), &["does not exist"]);
    }
    assert_eq!(std::fs::read(dir.path("file")).unwrap(), b"kept");
}

#[test]
fn what_cannot_be_reached_says_why() {
    let dir = Dir::new();
    std::fs::write(dir.path("file"), "kept").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp://{}", free.local_addr().unwrap());
    drop(free);
    let unix = |name: &str| format!("unix:{}", dir.path(name).display());
    for command in ["call", "send"] {
        for (address, code, word) in [
            (&port, 1, "nothing listens"),
            (&unix("absent"), 1, "does not exist"),
            (&unix("file"), 1, "a regular file, not a socket"),
            (&unix(&"a".repeat(108)), 1, "at most 107"),
        ] {
            let complaint = complaint(&[command, "--wait", "0s", address, "hi"], code);
            assert!(complaint.contains(word), "{word:?} in {complaint:?}");
        }
        let complaint = complaint(&[command, "--wait", "50ms", &port, "hi"], 3);
        assert!(
            complaint.contains("no server appeared within 50ms"),
            "{complaint}"
        );
    }
}

/// It has closed its output, and waits for something else.
#[test]
fn a_program_that_does_not_end_in_time_is_a_timeout() {
    let dir = Dir::new();
    let fifo = dir.path("x");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let _held = File::options().read(true).write(true).open(&fifo).unwrap();
    let script = "while read x; do echo ok; done; exec >&- 2>&-; read x";
    let program = format!("exec:sh -c '{script} < {}'", fifo.display());
    for args in [
        &["send", &program][..],
        &["call", &program],
        &["relay", "exec:echo hi", &program],
    ] {
        let output = run(&mut aqueduct(&[args, &["--timeout", "100ms"]].concat()));
        let (_, stderr) = expect(output, 3);
        assert!(stderr.contains("did not end within 100ms"), "{stderr}");
    }
}

#[test]
fn a_directory_of_another_user_is_warned_of() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a directory away");
        return;
    }
    let dir = Dir::new();
    let foreign = dir.path("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::set_permissions(&foreign, Permissions::from_mode(0o755)).unwrap();
    chown(&foreign, Some(65534), None).unwrap();
    let address = format!("unix:{}", foreign.join("x").display());
    let serve = start(aqueduct(&["serve", &address]).stdin(Stdio::null()));
    serve.told("serving ");
    serve.told("others could replace a socket in this directory");
}

/// What was not sent is told in words about messages, not in advice to programmers.
#[test]
fn what_is_lost_is_told_to_users_and_not_to_developers() {
    let dir = Dir::new();
    let queue = Queue::new();
    let _silent = UnixListener::bind(dir.path("silent")).unwrap();
    mkfifo(&dir.path("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let mut options = File::options();
    let _fifo = options
        .read(true)
        .write(true)
        .open(dir.path("fifo"))
        .unwrap();
    let input = "x".repeat(60) + "\n";
    for address in [
        format!("unix:{}", dir.path("silent").display()),
        dir.fifo("fifo"),
        queue.address(),
    ] {
        let args = ["send", &address, "--timeout", "100ms"];
        let output = start_with_input(&mut aqueduct(&args), input.repeat(20_000)).finish();
        let (_, stderr) = expect(output, 3);
        assert!(stderr.contains("were not sent"), "{address}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{address}: {stderr}");
    }
}
