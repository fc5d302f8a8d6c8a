//! What is short is used with care: memory, processes, descriptors, lines on standard error.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::mq::Queue;
use crate::stop::until_ready;
use crate::support::{DEADLINE, Dir, aqueduct, expect, run, start, until, until_bound, until_open};

/// The most memory that a process has had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    let words = line.and_then(|it| it.split_whitespace().next());
    words.and_then(|it| it.parse().ok()).expect("it is there")
}

/// Outputs are printed in the order of the messages, so those behind a slow job wait in memory.
#[test]
fn outputs_that_wait_for_a_slow_job_are_bounded_by_bytes() {
    const BIG: usize = 96;
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let script = "read -r what; case $what in slow) sleep 2;; \
                  *) head -c 1000000 /dev/zero; echo;; esac";
    let mut serve = aqueduct(&["serve", &fifo, "--jobs", "2", "--", "sh", "-c", script]);
    let serve = start(serve.stdin(Stdio::null()));
    until_open(serve.pid(), &dir.path("x"));
    let mut send = aqueduct(&["send", &fifo, "slow"]);
    expect(run(send.args(vec!["big"; BIG])), 0);
    serve.printed(BIG * 1_000_001);
    let peak = peak(serve.pid());
    serve.signal(Signal::SIGTERM);
    let (stdout, _) = expect(serve.finish(), 0);
    assert_eq!(stdout.len(), BIG * 1_000_001);
    assert!(peak < 60_000, "{peak} KiB");
}

/// Sets how many descriptors a process may have open.
fn limit_descriptors(pid: u32, soft: usize) {
    set_limit(pid, "nofile", soft);
}

/// Sets a soft limit of a process, as its user: root may be without `CAP_SYS_RESOURCE`.
fn set_limit(pid: u32, resource: &str, soft: usize) {
    let process = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    let mut prlimit = Command::new("prlimit");
    if geteuid().is_root() {
        prlimit.uid(process.uid()).gid(process.gid());
    }
    prlimit.args([format!("--pid={pid}"), format!("--{resource}={soft}:")]);
    expect(run(&mut prlimit), 0);
}

/// A client of a service that has had its first answer.
fn accepted(path: &Path) -> UnixStream {
    let mut client = UnixStream::connect(path).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"x\n").unwrap();
    let mut reply = [0; 2];
    client.read_exact(&mut reply).unwrap();
    client
}

/// Without descriptors no CMD can be started. That is not the messages' fault: they wait.
#[test]
fn a_service_short_of_descriptors_keeps_its_messages() {
    let dir = Dir::new();
    let (fifo, failed) = (dir.fifo("x"), dir.fifo("failed"));
    let mut serve = aqueduct(&["serve", &fifo, "--jobs", "2", "--on-fail", &failed]);
    serve.args(["--", "cat"]);
    keeps_its_messages(&mut serve, &fifo, ("nofile", 4), "ulimit -n");
}

/// At the user's limit on processes fork(2) fails with `EAGAIN`. Root has no such limit.
#[test]
fn a_service_short_of_processes_keeps_its_messages() {
    if !geteuid().is_root() {
        println!("SKIPPED: a user without other processes needs root");
        return;
    }
    let dir = Dir::new();
    let user = 1_000_000 + std::process::id();
    chown(dir.path(""), Some(user), Some(user)).unwrap();
    // Where that user may look.
    let program = dir.path("aqueduct");
    std::fs::copy(env!("CARGO_BIN_EXE_aqueduct"), &program).unwrap();
    let (fifo, failed) = (dir.fifo("x"), dir.fifo("failed"));
    let mut serve = Command::new(program);
    serve.uid(user).gid(user).env_remove("RUST_LOG");
    serve.args(["serve", &fifo, "--jobs", "2", "--on-fail", &failed]);
    serve.args(["--", "cat"]);
    keeps_its_messages(&mut serve, &fifo, ("nproc", 1), "ulimit -u");
}

/// No message is lost or takes the blame while a limit keeps CMD from being started.
fn keeps_its_messages(serve: &mut Command, fifo: &str, limit: (&str, usize), cure: &str) {
    const MANY: usize = 20;
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving ");
    set_limit(serve.pid(), limit.0, limit.1);
    let messages: Vec<_> = (0..MANY).map(|it| it.to_string()).collect();
    let mut send = aqueduct(&["send", fifo, "--allow-foreign-owner"]);
    expect(run(send.args(&messages)), 0);
    serve.told("cannot start cat");
    set_limit(serve.pid(), limit.0, 1000);
    let expected = messages.join("\n").replace('\n', "");
    serve.printed(expected.len());
    serve.signal(Signal::SIGTERM);
    let (stdout, stderr) = expect(serve.finish(), 0);
    assert_eq!(String::from_utf8(stdout).unwrap(), expected);
    let told = stderr.matches("cannot start cat").count();
    assert_eq!(told, 1, "{stderr}");
    assert!(stderr.contains(cure), "{stderr}");
    assert!(!stderr.contains("its message goes to"), "{stderr}");
}

/// In a PID namespace whose first process has ended, fork(2) fails with `ENOMEM`.
#[test]
fn a_service_short_of_memory_keeps_its_message() {
    if !geteuid().is_root() {
        println!("SKIPPED: a PID namespace needs root");
        return;
    }
    let dir = Dir::new();
    let (fifo, failed) = (dir.fifo("x"), dir.fifo("failed"));
    let mut serve = Command::new("unshare");
    serve.arg("--pid").arg(env!("CARGO_BIN_EXE_aqueduct"));
    serve.args(["serve", &fifo, "--on-fail", &failed, "--", "cat"]);
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving ");
    expect(run(&mut aqueduct(&["send", &fifo, "one"])), 0);
    serve.printed(3);
    expect(run(&mut aqueduct(&["send", &fifo, "two"])), 0);
    serve.told("cannot start cat");
    serve.signal(Signal::SIGTERM);
    serve.signal(Signal::SIGINT);
    let kept = start(aqueduct(&["recv", &failed]).stdin(Stdio::null()));
    let (stdout, stderr) = expect(serve.finish(), 1);
    assert_eq!(stdout, b"one");
    assert!(stderr.contains("free some memory"), "{stderr}");
    assert_eq!(expect(kept.finish(), 0).0, b"two\n");
}

#[test]
fn a_request_waits_for_descriptors_instead_of_an_empty_reply() {
    let dir = Dir::new();
    let path = dir.path("x");
    let address = format!("unix:{}", path.display());
    let mut serve = aqueduct(&["serve", &address, "--", "tr", "a-z", "A-Z"]);
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving ");
    let mut client = accepted(&path);
    limit_descriptors(serve.pid(), 4);
    client.write_all(b"hello\n").unwrap();
    serve.told("cannot start tr");
    limit_descriptors(serve.pid(), 1000);
    let mut reply = String::new();
    BufReader::new(&client).read_line(&mut reply).unwrap();
    assert_eq!(reply, "HELLO\n");
    drop(client);
    serve.signal(Signal::SIGTERM);
    expect(serve.finish(), 0);
}

/// A shortage that lasts ends with the service: its messages are kept, or counted as lost.
#[test]
fn a_service_stopped_while_it_is_short_tells_what_is_lost() {
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let mut serve = aqueduct(&["serve", &fifo, "--jobs", "1", "--", "cat"]);
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving ");
    limit_descriptors(serve.pid(), 4);
    expect(run(&mut aqueduct(&["send", &fifo, "one"])), 0);
    serve.told("cannot start cat");
    serve.signal(Signal::SIGTERM);
    serve.signal(Signal::SIGINT);
    let (stdout, stderr) = expect(serve.finish(), 1);
    assert_eq!(stdout, b"");
    assert!(stderr.contains("1 message in hand not done"), "{stderr}");
}

/// Requests that wait stay with their clients, but for one of each.
#[test]
fn a_shortage_leaves_each_client_one_request_in_hand() {
    const CLIENTS: usize = 3;
    let dir = Dir::new();
    let path = dir.path("x");
    let address = format!("unix:{}", path.display());
    let serve = start(aqueduct(&["serve", &address, "--", "cat"]).stdin(Stdio::null()));
    serve.told("serving ");
    let clients = [(); CLIENTS].map(|()| accepted(&path));
    limit_descriptors(serve.pid(), 4);
    for mut client in &clients {
        client.write_all(b"a\nb\nc\nd\ne\n").unwrap();
    }
    serve.told("cannot start cat");
    until_ready(serve.pid());
    serve.signal(Signal::SIGTERM);
    serve.signal(Signal::SIGINT);
    let (_, stderr) = expect(serve.finish(), 1);
    assert!(stderr.contains("3 messages in hand not done"), "{stderr}");
    for mut client in &clients {
        // Closed with what was not read.
        assert!(!matches!(client.read(&mut [0]), Ok(1..)));
    }
}

/// An empty reply would look as if the request had been done.
#[test]
fn a_request_that_is_given_up_gets_no_reply() {
    let dir = Dir::new();
    let path = dir.path("x");
    let address = format!("unix:{}", path.display());
    let serve = start(aqueduct(&["serve", &address, "--", "cat"]).stdin(Stdio::null()));
    serve.told("serving ");
    let mut client = accepted(&path);
    limit_descriptors(serve.pid(), 4);
    client.write_all(b"a\nb\n").unwrap();
    serve.told("cannot start cat");
    serve.signal(Signal::SIGTERM);
    let (_, stderr) = expect(serve.finish(), 1);
    assert!(stderr.contains("1 message in hand not done"), "{stderr}");
    assert!(!matches!(client.read(&mut [0]), Ok(1..)));
}

/// Every bad client and failing message is reported, but not each on a line of its own for ever.
#[test]
fn lines_about_bad_clients_are_limited_and_counted() {
    const MANY: usize = 300;
    let dir = Dir::new();
    let path = dir.path("x");
    let address = format!("unix:{}", path.display());
    for (command, wanted) in [
        ("serve", "over the limit of 10"),
        ("recv", "over the limit of 10"),
    ] {
        let mut command = aqueduct(&[command, &address, "--max-frame", "10"]);
        command.args(["--frame", "length"]).stdin(Stdio::null());
        let running = start(&mut command);
        until_bound(&path);
        until_ready(running.pid());
        for _ in 0..MANY {
            let mut client = UnixStream::connect(&path).unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client.write_all(b"a length that is too large").unwrap();
            // It is cut off, and told of before that.
            assert!(!matches!(client.read(&mut [0]), Ok(1..)));
        }
        running.signal(Signal::SIGTERM);
        let (_, stderr) = expect(running.finish(), 0);
        limited_and_counted(&stderr, wanted, MANY);
    }
}

#[test]
fn lines_about_failing_messages_are_limited_and_counted() {
    const MANY: usize = 300;
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let mut serve = aqueduct(&["serve", &fifo, "--", "sh", "-c", "echo; exit 7"]);
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving ");
    let mut send = aqueduct(&["send", &fifo]);
    expect(run(send.args(vec!["x"; MANY])), 0);
    serve.printed(MANY);
    serve.signal(Signal::SIGTERM);
    let (_, stderr) = expect(serve.finish(), 0);
    limited_and_counted(&stderr, "exit status: 7", MANY);
}

fn limited_and_counted(stderr: &str, wanted: &str, all: usize) {
    let counts = |it: &&str| it.contains(" more like this") || it.contains(" were left out");
    let (counting, rest): (Vec<_>, Vec<_>) = stderr.lines().partition(counts);
    let shown: Vec<_> = rest.iter().filter(|it| it.contains(wanted)).collect();
    assert!((1..30).contains(&shown.len()), "{stderr}");
    let number = |line: &&str| {
        let words = line.split_whitespace();
        words.filter_map(|it| it.parse::<usize>().ok()).next()
    };
    let hidden: usize = counting.iter().filter_map(number).sum();
    assert_eq!(shown.len() + hidden, all, "{stderr}");
}

/// The processes whose parent is `pid`, zombies among them.
fn children(pid: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter(|it| parent(*it) == Some(pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may hold anything: the state, then the parent.
    let rest = stat.rsplit_once(')')?.1;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// In a container it may be PID 1, and gets the orphans of all others.
#[test]
fn serve_as_pid_1_reaps_what_programs_leave_behind() {
    const MANY: usize = 20;
    if !geteuid().is_root() {
        println!("SKIPPED: a PID namespace needs root");
        return;
    }
    let dir = Dir::new();
    let fifo = dir.fifo("x");
    let mut init = Command::new("unshare");
    init.args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env!("CARGO_BIN_EXE_aqueduct"))
        .args(["serve", &fifo, "--", "sh", "-c", "(sleep 0 &); cat"]);
    let init = start(init.stdin(Stdio::null()));
    init.told("serving ");
    let serve = children(init.pid())[0];
    let mut send = aqueduct(&["send", &fifo]);
    expect(run(send.args(vec!["x"; MANY])), 0);
    init.printed(MANY);
    until("no zombie is left", || children(serve).is_empty());
    kill(Pid::from_raw(serve as i32), Signal::SIGTERM).unwrap();
    let (stdout, stderr) = expect(init.finish(), 0);
    assert_eq!(stdout, vec![b'x'; MANY]);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn too_few_descriptors_are_named_with_the_cure() {
    let dir = Dir::new();
    let address = |scheme: &str| format!("{scheme}:{}", dir.path(scheme).display());
    let (unix, packet) = (address("unix"), address("unixpacket"));
    let datagrams = address("unixgram");
    let queue = Queue::new();
    let _recv = start(aqueduct(&["recv", &unix]).stdin(Stdio::null()));
    until_bound(&dir.path("unix"));
    for limit in 6..=20 {
        for args in [
            &["recv", "stdio:"][..],
            &["send", "stdio:", "hi"],
            &["send", &unix, "hi"],
            &["recv", &packet, "--timeout", "1ms"],
            &["recv", &datagrams, "--timeout", "1ms"],
            &["recv", &queue.address(), "--timeout", "1ms"],
            &["recv", &dir.fifo("fifo"), "--timeout", "1ms"],
            &["recv", "tcp://127.0.0.1:0", "--timeout", "1ms"],
            &["call", "exec:cat", "hi"],
            &["serve", &packet, "--timeout", "1ms"],
            &["relay", "stdio:", "exec:cat"],
            &["list"],
        ] {
            let mut limited = Command::new("sh");
            limited.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
            limited.arg(env!("CARGO_BIN_EXE_aqueduct")).args(args);
            let output = run(&mut limited);
            let said = String::from_utf8_lossy(&output.stderr);
            let well = matches!(output.status.code(), Some(0 | 3));
            assert!(
                well || said.contains("ulimit -n"),
                "{limit} {args:?}: {said:?}"
            );
            assert!(!said.contains("panicked"), "{limit} {args:?}: {said:?}");
            // A lock file is not blamed for it.
            assert!(!said.contains("writable"), "{limit} {args:?}: {said:?}");
            // What was tried comes first.
            assert!(
                !said.contains("aqueduct: Too many"),
                "{limit} {args:?}: {said:?}"
            );
        }
    }
}

/// One that comes and goes is no reason for a line each time.
#[test]
fn lines_about_shortages_are_limited_and_name_the_cure_once() {
    const TIMES: usize = 14;
    let queue = Queue::new();
    let mq = queue.address();
    let serve = start(aqueduct(&["serve", &mq, "--", "cat"]).stdin(Stdio::null()));
    serve.told("serving ");
    let begun = Instant::now();
    for n in 1..=TIMES {
        limit_descriptors(serve.pid(), 4);
        expect(run(&mut aqueduct(&["send", &mq, "x"])), 0);
        until("it is taken", || queue.depth() == 0);
        limit_descriptors(serve.pid(), 1000);
        serve.printed(n);
    }
    serve.signal(Signal::SIGTERM);
    let (_, stderr) = expect(serve.finish(), 0);
    let told = stderr
        .lines()
        .filter(|it| it.starts_with("aqueduct: cannot start cat: "));
    let told: Vec<_> = told.collect();
    // Of those within 10 seconds.
    let fast = begun.elapsed() < Duration::from_secs(10);
    assert!(!fast || told.len() <= 10, "{stderr}");
    assert_eq!(told[0].matches("ulimit -n").count(), 1, "{stderr}");
}
