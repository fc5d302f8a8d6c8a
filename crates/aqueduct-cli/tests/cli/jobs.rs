//! `aqueduct serve ADDRESS -- CMD` as a pool of workers: facts, retries, failed messages, stopping.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::mq::Queue;
use crate::support::{
    Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input, until, until_within,
};

/// Starts a service on a script.
fn serving(address: &str, flags: &[&str], script: &str) -> Running {
    let mut serve = aqueduct(&["serve", address]);
    serve.args(flags).args(["--", "sh", "-c", script]);
    let serve = start(serve.stdin(Stdio::null()));
    serve.told("serving ");
    serve
}

fn send(address: &str, messages: &[&str]) {
    let mut send = aqueduct(&["send", address]);
    expect_text(run(send.args(messages)), 0);
}

/// Takes `n` messages and gives them as JSON.
fn take(address: &str, n: usize) -> Vec<serde_json::Value> {
    let n = n.to_string();
    let recv = run(&mut aqueduct(&[
        "recv", address, "-n", &n, "--output", "json",
    ]));
    let text = expect_text(recv, 0);
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

/// Stops a service and gives its output and what it complained of.
fn end(serve: Running, code: i32) -> (String, String) {
    serve.signal(Signal::SIGTERM);
    let (stdout, stderr) = expect(serve.finish(), code);
    let (_, complaints) = stderr.split_once('\n').unwrap();
    (String::from_utf8(stdout).unwrap(), complaints.to_owned())
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_program_finds_the_facts_of_its_message_in_its_environment() {
    let facts = "cat > /dev/null; env | grep ^AQUEDUCT_ | sort";
    let queue = Queue::new();
    let address = queue.address();
    // What a service around this one had there is not passed on.
    let mut serve = aqueduct(&["serve", &address, "--", "sh", "-c", facts]);
    serve.env("AQUEDUCT_PEER_UID", "7").stdin(Stdio::null());
    let mut serve = start(&mut serve);
    serve.told("serving ");
    send(&address, &["hi", "--priority", "9"]);
    assert!(serve.is_running());
    until("it is taken", || {
        let info = run(&mut aqueduct(&["mq", "info", &address, "--json"]));
        String::from_utf8_lossy(&info.stdout).contains("\"messages\":0")
    });
    let (stdout, _) = end(serve, 0);
    let expected = format!("AQUEDUCT_ADDRESS={address}\nAQUEDUCT_ATTEMPT=1\nAQUEDUCT_PRIORITY=9\n");
    assert_eq!(stdout, expected);

    let dir = Dir::new();
    let unix = format!("unix:{}", dir.path("x").display());
    let packets = format!("unixpacket:{}", dir.path("y").display());
    let one_line = "cat > /dev/null; env | grep ^AQUEDUCT_ | sort | tr '\\n' ' '";
    for address in [&unix, &packets] {
        let serve = serving(address, &[], one_line);
        let call = start(&mut aqueduct(&["call", address, "hi"]));
        let pid = call.pid();
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        let expected = format!(
            "AQUEDUCT_ADDRESS={address} AQUEDUCT_ATTEMPT=1 AQUEDUCT_PEER_GID={gid} \
             AQUEDUCT_PEER_PID={pid} AQUEDUCT_PEER_UID={uid} \n"
        );
        assert_eq!(expect_text(call.finish(), 0), expected);
        end(serve, 0);
    }
    let serve = serving("tcp://127.0.0.1:0", &[], one_line);
    let address = serve.told("tcp://");
    let reply = expect_text(run(&mut aqueduct(&["call", &address, "hi"])), 0);
    let expected =
        format!("AQUEDUCT_ADDRESS={address} AQUEDUCT_ATTEMPT=1 AQUEDUCT_PEER_ADDRESS=127.0.0.1:");
    assert!(reply.starts_with(&expected), "{reply}");
    end(serve, 0);
}

#[test]
fn a_program_that_fails_is_run_again_as_often_as_told() {
    let queue = Queue::new();
    let script = "echo $(cat) $AQUEDUCT_ATTEMPT; [ $AQUEDUCT_ATTEMPT = 3 ]";
    let serve = serving(&queue.address(), &["--retry", "2"], script);
    send(&queue.address(), &["a"]);
    serve.told("after 200ms");
    let (stdout, complaints) = end(serve, 0);
    // The output is that of the last time.
    assert_eq!(stdout, "a 3\n");
    assert_eq!(
        complaints,
        "aqueduct: sh: exit status: 1, tried again after 100ms\n\
         aqueduct: sh: exit status: 1, tried again after 200ms\n"
    );
    let serve = serving(&queue.address(), &["--retry", "1"], script);
    send(&queue.address(), &["b"]);
    serve.told("after 100ms");
    let (stdout, complaints) = end(serve, 0);
    assert_eq!(stdout, "b 2\n");
    assert!(
        complaints.ends_with("aqueduct: sh: exit status: 1\n"),
        "{complaints}"
    );
}

#[test]
fn a_signal_does_not_wait_for_the_time_of_a_retry() {
    let queue = Queue::new();
    let script = "cat > /dev/null; echo $AQUEDUCT_ATTEMPT; false";
    // One after the other they would take 100 s.
    let serve = serving(&queue.address(), &["--retry", "16"], script);
    send(&queue.address(), &["a"]);
    serve.told("after 400ms");
    assert_eq!(end(serve, 0).0, "17\n");
}

#[test]
fn a_failed_message_goes_to_where_it_is_told_with_its_priority() {
    let (queue, failed) = (Queue::new(), Queue::new());
    let script = "read x; echo $x; [ $x != bad ]";
    let flags = ["--on-fail", &failed.address(), "--jobs", "1"];
    let serve = serving(&queue.address(), &flags, script);
    send(&queue.address(), &["--priority", "7", "bad"]);
    send(&queue.address(), &["good"]);
    let kept = take(&failed.address(), 1);
    assert_eq!(
        (&kept[0]["text"], &kept[0]["priority"]),
        (&"bad".into(), &7.into())
    );
    let (_, complaints) = end(serve, 0);
    let expected = format!(
        "aqueduct: sh: exit status: 1, its message goes to {}\n",
        failed.address()
    );
    assert_eq!(complaints, expected);
}

#[test]
fn a_failed_request_is_kept_and_still_answered() {
    let dir = Dir::new();
    let (address, failed) = (
        format!("unix:{}", dir.path("x").display()),
        dir.fifo("failed"),
    );
    let serve = serving(&address, &["--on-fail", &failed], "echo no; false");
    let recv = start(&mut aqueduct(&["recv", &failed, "-n", "1"]));
    let reply = run(&mut aqueduct(&["call", &address, "hi"]));
    assert_eq!(expect_text(reply, 0), "no\n");
    assert_eq!(expect_text(recv.finish(), 0), "hi\n");
    end(serve, 0);
}

#[test]
fn failed_messages_wait_for_a_reader_and_pause_receiving() {
    let (dir, queue) = (Dir::new(), Queue::new());
    let failed = dir.fifo("failed");
    let flags = ["--on-fail", &failed, "--jobs", "2"];
    let serve = serving(&queue.address(), &flags, "cat >/dev/null; false");
    send(&queue.address(), &["1", "2", "3", "4"]);
    // It says so, and two of them are left where they are.
    serve.told("a failed message waits for");
    let info = expect_text(
        run(&mut aqueduct(&["mq", "info", &queue.address(), "--json"])),
        0,
    );
    assert!(info.contains("\"messages\":2"), "{info}");
    let mut seen: Vec<_> = take(&failed, 4)
        .iter()
        .map(|it| it["text"].to_string())
        .collect();
    seen.sort();
    assert_eq!(seen, ["\"1\"", "\"2\"", "\"3\"", "\"4\""]);
    end(serve, 0);
}

#[test]
fn a_full_queue_for_failed_messages_is_waited_for() {
    let (queue, failed) = (Queue::new(), Queue::new());
    let tight = format!("mq:{}?capacity=1&max-message=8", failed.name);
    let flags = ["--on-fail", &tight, "--jobs", "1"];
    let serve = serving(&queue.address(), &flags, "cat >/dev/null; false");
    send(&queue.address(), &["1", "2", "3"]);
    serve.told("a failed message waits for");
    let seen: Vec<_> = take(&tight, 3)
        .iter()
        .map(|it| it["text"].clone())
        .collect();
    assert_eq!(seen, ["1", "2", "3"]);
    // What it can never take is told, and costs the exit code.
    send(&queue.address(), &["longer than eight"]);
    serve.told("a failed message is lost");
    let (_, complaints) = end(serve, 1);
    assert!(
        complaints.contains("17 bytes") && complaints.contains("1 message lost"),
        "{complaints}"
    );
}

/// The error comes before any message is taken.
#[test]
fn an_unusable_queue_for_failed_messages_is_an_early_error() {
    let (queue, failed) = (Queue::new(), Queue::new());
    send(&queue.address(), &["a"]);
    let missing = format!("mq:{}?create=false", failed.name);
    let mut serve = aqueduct(&["serve", &queue.address(), "--on-fail", &missing]);
    let (_, stderr) = expect(run(serve.args(["--", "true"])), 1);
    assert!(stderr.contains(&failed.name), "{stderr}");
    assert_eq!(take(&queue.address(), 1)[0]["text"], "a");
}

#[test]
fn what_a_second_signal_finds_at_work_is_kept_or_counted() {
    let script = |dir: &Dir| {
        let begun = dir.path("begun");
        // With a child of its own, which must not outlive it.
        format!(
            "cat > /dev/null; echo $$ >> {}; sleep 1000; true",
            begun.display()
        )
    };
    for kept in [true, false] {
        let (dir, queue, failed) = (Dir::new(), Queue::new(), Queue::new());
        let on_fail = failed.address();
        let flags: &[&str] = if kept {
            &["--jobs", "3", "--on-fail", &on_fail]
        } else {
            &["--jobs", "3"]
        };
        let serve = serving(&queue.address(), flags, &script(&dir));
        send(&queue.address(), &["1", "2", "3", "4"]);
        until("three run", || lines(&dir.path("begun")).len() == 3);
        serve.signal(Signal::SIGTERM);
        serve.signal(Signal::SIGINT);
        let (_, stderr) = expect(serve.finish(), 1);
        assert!(
            stderr.contains("stopped before all received messages were processed"),
            "{stderr}"
        );
        let groups: Vec<i32> = lines(&dir.path("begun"))
            .iter()
            .map(|it| it.parse().unwrap())
            .collect();
        for group in groups {
            let group = nix::unistd::Pid::from_raw(group);
            until("all it has started is gone", || {
                nix::sys::signal::killpg(group, None).is_err()
            });
        }
        if kept {
            assert!(
                stderr.contains("3 messages in hand not done, kept in"),
                "{stderr}"
            );
            assert_eq!(take(&on_fail, 3).len(), 3);
        } else {
            assert!(
                stderr.contains("3 messages in hand not done: with --on-fail"),
                "{stderr}"
            );
        }
        // The fourth was not taken.
        assert_eq!(take(&queue.address(), 1).len(), 1);
    }
}

#[test]
fn a_long_job_keeps_nobody_from_working_on_the_next_ones() {
    let (dir, queue) = (Dir::new(), Queue::new());
    let (begun, go) = (dir.path("begun"), dir.path("go"));
    let script = format!(
        "read x; echo $x >> {}; until [ $x != 1 -o -e {} ]; do sleep 0.01; done; echo $x",
        begun.display(),
        go.display()
    );
    let serve = serving(&queue.address(), &["--jobs", "2"], &script);
    send(&queue.address(), &["1", "2", "3", "4", "5"]);
    until("all run while the first does", || lines(&begun).len() == 5);
    fs::write(go, "").unwrap();
    assert_eq!(end(serve, 0).0, "1\n2\n3\n4\n5\n");
}

#[test]
fn a_closed_stdout_ends_the_service_after_messages_in_hand() {
    let (dir, queue) = (Dir::new(), Queue::new());
    let done = dir.path("done");
    let script = format!("read x; sleep 0.1; echo $x; echo $x >> {}", done.display());
    let command = "\"$0\" serve \"$1\" --jobs 1 -- sh -c \"$2\" | head -n 1";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", command, env!("CARGO_BIN_EXE_aqueduct")]);
    let shell = start(shell.args([&queue.address(), &script]).stdin(Stdio::null()));
    shell.told("serving ");
    send(&queue.address(), &["1", "2", "3", "4"]);
    assert_eq!(expect(shell.finish(), 0).0, b"1\n");
    // Each was either done or is still in the queue.
    let done = lines(&done).len();
    let info = expect_text(
        run(&mut aqueduct(&["mq", "info", &queue.address(), "--json"])),
        0,
    );
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(done as u64 + info["messages"].as_u64().unwrap(), 4);
}

#[test]
fn what_cannot_be_served_so_is_wrong_use() {
    for (args, reason) in [
        (
            &[
                "serve",
                "mq:/x",
                "--on-fail",
                "mq:/x?capacity=1",
                "--",
                "true",
            ][..],
            "come back for ever",
        ),
        (&["serve", "mq:/x", "--on-fail", "mq:/y"], "for a CMD"),
        (&["serve", "mq:/x", "--retry", "1"], "for a CMD"),
        (
            &["serve", "mq:/x", "--on-fail", "queue:/y", "--", "true"],
            "mq",
        ),
        (
            &["serve", "mq:/x", "--", "no-such-program"],
            "no directory in PATH",
        ),
    ] {
        let (_, stderr) = expect(run(&mut aqueduct(args)), 2);
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
}

/// How many jobs the next test has; `.ci/run` has 10,000 of them.
const JOBS: &str = "AQUEDUCT_TEST_JOBS";
/// How long a fifth of them may take.
const WORK: Duration = Duration::from_secs(120);

/// The service is stopped and started meanwhile.
#[test]
fn every_job_is_done_or_kept_as_failed_exactly_once() {
    let (dir, queue, failed) = (Dir::new(), Queue::new(), Queue::new());
    let jobs: usize = std::env::var(JOBS).map_or(1000, |it| it.parse().unwrap());
    let done = dir.path("done");
    // One in a hundred fails.
    let script = format!(
        "read x; case $x in *00) exit 1;; esac; echo $x >> {}",
        done.display()
    );
    let on_fail = failed.address();
    let address = queue.address();
    let numbers: String = (1..=jobs).map(|it| format!("{it}\n")).collect();
    let send = start_with_input(&mut aqueduct(&["send", &address]), numbers);
    let count = (jobs / 100).to_string();
    let recv = start(&mut aqueduct(&["recv", &on_fail, "-n", &count]));
    let serve = || serving(&address, &["--jobs", "4", "--on-fail", &on_fail], &script);
    for part in 1..=4 {
        let serve = serve();
        until_within(WORK, "it gets on", || lines(&done).len() >= jobs * part / 5);
        serve.signal(Signal::SIGTERM);
        expect(serve.finish(), 0);
    }
    let serve = serve();
    // All but the last, which is one of those that fail.
    until_within(WORK, "all are done", || {
        lines(&done).len() >= jobs - jobs / 100
    });
    assert_eq!(expect_text(send.finish(), 0), "");
    let kept = expect_text(recv.finish(), 0);
    serve.signal(Signal::SIGTERM);
    expect(serve.finish(), 0);
    let mut all = lines(&done);
    all.extend(kept.lines().map(str::to_owned));
    let mut all: Vec<usize> = all.iter().map(|it| it.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=jobs).collect::<Vec<_>>());
    assert!(kept.lines().all(|it| it.ends_with("00")), "{kept}");
}
