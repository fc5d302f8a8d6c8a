//! `send` and `recv` over a message queue.

use std::ffi::CString;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::mqueue::{MQ_OFlag, mq_close, mq_getattr, mq_open, mq_unlink};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use crate::support::{
    aqueduct, expect, expect_text, run, start, start_with_input, until, until_open,
};

/// A queue name of this test's own, unlinked however the test ends.
pub(crate) struct Queue {
    pub(crate) name: String,
}

impl Queue {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("/aqueduct-cli-{}-{n}", std::process::id());
        Self { name }
    }

    /// Small, so that many tests at a time fit the user's limit.
    pub(crate) fn address(&self) -> String {
        format!("mq:{}?capacity=4&max-message=64", self.name)
    }

    fn exists(&self) -> bool {
        let name = CString::new(self.name.as_str()).unwrap();
        mq_open(name.as_c_str(), MQ_OFlag::O_RDONLY, Mode::empty(), None).is_ok_and(|it| {
            mq_close(it).unwrap();
            true
        })
    }

    /// How many messages are in it; none if it is not there.
    pub(crate) fn depth(&self) -> i64 {
        let name = CString::new(self.name.as_str()).unwrap();
        let Ok(queue) = mq_open(name.as_c_str(), MQ_OFlag::O_RDONLY, Mode::empty(), None) else {
            return 0;
        };
        let depth = mq_getattr(&queue).unwrap().curmsgs();
        mq_close(queue).unwrap();
        depth
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let name = CString::new(self.name.as_str()).unwrap();
        let _ = mq_unlink(name.as_c_str());
    }
}

#[test]
fn lines_arrive_whichever_side_is_first() {
    let queue = Queue::new();
    let address = queue.address();
    let send = start_with_input(&mut aqueduct(&["send", &address]), "a\nb\n");
    expect_text(send.finish(), 0);
    assert_eq!(
        expect_text(run(&mut aqueduct(&["recv", &address, "-n", "2"])), 0),
        "a\nb\n"
    );

    let recv = start(&mut aqueduct(&["recv", &address, "-n", "6"]));
    // More than it holds.
    let send = start_with_input(&mut aqueduct(&["send", &address]), "1\n2\n3\n4\n5\n6\n");
    assert_eq!(expect_text(recv.finish(), 0), "1\n2\n3\n4\n5\n6\n");
    expect_text(send.finish(), 0);
}

#[test]
fn the_highest_priority_comes_first_and_is_told_in_json() {
    let queue = Queue::new();
    let address = queue.address();
    expect_text(run(&mut aqueduct(&["send", &address, "plain"])), 0);
    expect_text(
        run(&mut aqueduct(&[
            "send",
            &address,
            "--priority",
            "9",
            "two\nlines",
            "",
        ])),
        0,
    );
    let by_address = format!("{address}&priority=3");
    expect_text(run(&mut aqueduct(&["send", &by_address, "by address"])), 0);
    let mut recv = aqueduct(&["recv", &address, "-n", "4", "--output", "json"]);
    let text = expect_text(run(&mut recv), 0);
    let messages: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|it| {
            (
                it["priority"].as_u64().unwrap(),
                it["text"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [(9, "two\nlines"), (9, ""), (3, "by address"), (0, "plain")];
    assert_eq!(
        messages,
        expected.map(|(priority, text)| (priority, text.to_owned()))
    );
}

#[test]
fn a_count_takes_no_message_more() {
    let queue = Queue::new();
    let address = queue.address();
    expect_text(run(&mut aqueduct(&["send", &address, "1", "2"])), 0);
    assert_eq!(
        expect_text(run(&mut aqueduct(&["recv", &address, "-n", "1"])), 0),
        "1\n"
    );
    assert_eq!(
        expect_text(run(&mut aqueduct(&["recv", &address, "-n", "1"])), 0),
        "2\n"
    );
}

/// A queue has no end of stream.
#[test]
fn a_queue_receiver_ends_only_by_signal_or_timeout() {
    let queue = Queue::new();
    let address = queue.address();
    expect_text(run(&mut aqueduct(&["send", &address, "1"])), 0);
    let (stdout, _) = expect(
        run(&mut aqueduct(&["recv", &address, "--timeout", "300ms"])),
        3,
    );
    assert_eq!(stdout, b"1\n");

    let recv = start(&mut aqueduct(&["recv", &address]));
    expect_text(run(&mut aqueduct(&["send", &address, "2"])), 0);
    expect_text(run(&mut aqueduct(&["send", &address, "3"])), 0);
    until("all is taken", || queue.depth() == 0);
    recv.signal(Signal::SIGTERM);
    assert_eq!(expect_text(recv.finish(), 0), "2\n3\n");
}

#[test]
fn a_full_queue_times_out_and_what_did_not_go_is_told() {
    let queue = Queue::new();
    let mut send = aqueduct(&["send", &queue.address(), "--timeout", "50ms"]);
    let (_, stderr) = expect(start_with_input(&mut send, "1\n2\n3\n4\n5\n").finish(), 3);
    assert!(stderr.contains("nothing was sent to"), "{stderr}");
    let recv = run(&mut aqueduct(&["recv", &queue.address(), "-n", "4"]));
    assert_eq!(expect_text(recv, 0), "1\n2\n3\n4\n");
}

#[test]
fn each_message_for_a_full_queue_has_the_whole_time_limit() {
    let queue = Queue::new();
    let address = queue.address();
    // Four of them fit.
    let messages = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let mut send = aqueduct(&["send", &address, "--timeout", "6s"]);
    let send = start(send.args(messages).stdin(Stdio::null()));
    until("it is full", || queue.exists() && queue.depth() == 4);
    let mut all = String::new();
    for i in 0..messages.len() {
        if i < 5 {
            // All five that wait together take longer than the limit, and none of them does.
            std::thread::sleep(std::time::Duration::from_millis(1500));
        }
        all += &expect_text(run(&mut aqueduct(&["recv", &address, "-n", "1"])), 0);
    }
    expect_text(send.finish(), 0);
    assert_eq!(all, "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

#[test]
fn who_waits_for_a_queue_that_was_removed_is_told() {
    let queue = Queue::new();
    let address = queue.address();
    for (args, sends) in [
        (vec!["recv", &address], false),
        (vec!["-q", "serve", &address], false),
        (vec!["send", &address, "1", "2", "3", "4", "5"], true),
    ] {
        let waiting = start(&mut aqueduct(&args));
        until_open(waiting.pid(), Path::new(&queue.name));
        until("all that it sends at once is sent", || {
            !sends || queue.depth() == 4
        });
        // Removed, and made anew by the same name.
        expect_text(run(&mut aqueduct(&["-q", "mq", "unlink", &queue.name])), 0);
        expect_text(run(&mut aqueduct(&["send", &address, "new"])), 0);
        let (stdout, stderr) = expect(waiting.finish(), 1);
        assert_eq!(stdout, b"", "{args:?}");
        assert!(
            stderr.contains("was unlinked and created again"),
            "{args:?}: {stderr}"
        );
        let recv = run(&mut aqueduct(&["recv", &address, "-n", "1"]));
        assert_eq!(expect_text(recv, 0), "new\n");
    }
}

#[test]
fn a_queue_of_another_user_is_used_only_if_told_to() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: giving a queue away needs root");
        return;
    }
    let queue = Queue::new();
    let address = queue.address();
    expect_text(run(&mut aqueduct(&["send", &address, "1"])), 0);
    let open = aqueduct::mq::OpenOptions::new().open(&queue.name).unwrap();
    nix::unistd::fchown(open, Some(65_534.into()), None).unwrap();
    for command in ["send", "recv"] {
        let (stdout, stderr) = expect(run(&mut aqueduct(&[command, &address])), 1);
        assert!(stdout.is_empty());
        assert!(
            stderr.contains("belongs to user 65534") && stderr.contains("--allow-foreign-owner"),
            "{stderr}"
        );
    }
    let allowed = "--allow-foreign-owner";
    expect_text(run(&mut aqueduct(&["send", &address, "2", allowed])), 0);
    let recv = run(&mut aqueduct(&["recv", &address, "-n", "2", allowed]));
    assert_eq!(expect_text(recv, 0), "1\n2\n");
}

#[test]
fn what_a_queue_cannot_take_is_an_error_that_names_the_limit() {
    let queue = Queue::new();
    let address = queue.address();
    let long = "x".repeat(65);
    let (_, stderr) = expect(run(&mut aqueduct(&["send", &address, "fine", &long])), 1);
    assert!(
        stderr.contains("65 bytes") && stderr.contains("64"),
        "{stderr}"
    );
    assert_eq!(
        expect_text(run(&mut aqueduct(&["recv", &address, "-n", "1"])), 0),
        "fine\n"
    );

    let missing = format!("mq:{}-missing?create=false", queue.name);
    let (_, stderr) = expect(run(&mut aqueduct(&["recv", &missing])), 1);
    assert!(stderr.contains("it does not exist"), "{stderr}");

    let (_, stderr) = expect(
        run(&mut aqueduct(&["send", &address, "--priority", "32768"])),
        2,
    );
    assert!(stderr.contains("32767"), "{stderr}");
    let (_, stderr) = expect(
        run(&mut aqueduct(&["send", "fifo:/x", "--priority", "1"])),
        2,
    );
    assert!(stderr.contains("--priority is for queues"), "{stderr}");
}

/// What is taken and not printed is lost with a process that is killed.
#[test]
fn recv_takes_a_handful_from_a_queue_at_a_time() {
    use std::process::Stdio;

    let queue = Queue::new();
    let address = format!("mq:{}?capacity=10&max-message=64", queue.name);
    let messages: Vec<String> = (0..10).map(|it| it.to_string()).collect();
    let mut send = aqueduct(&["send", &address]);
    expect_text(run(send.args(&messages)), 0);
    // Full, so that nothing can be printed.
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let filled = nix::unistd::write(&writer, &[b'.'; 4096]).unwrap();
    assert_eq!(filled, 4096);
    let mut recv = aqueduct(&["recv", &address]);
    let mut recv = recv.stdout(Stdio::from(writer)).spawn().unwrap();
    until("it has taken what it takes", || queue.depth() <= 2);
    recv.kill().unwrap();
    recv.wait().unwrap();
    assert_eq!(queue.depth(), 2, "more than 8 are lost");
}

/// What it has taken and not yet printed is lost with it. That is a handful.
#[test]
fn a_killed_recv_from_a_queue_loses_at_most_8_messages() {
    const MESSAGES: usize = 10_000;
    let queue = Queue::new();
    let address = queue.address();
    // Of which nobody reads until it is killed.
    let (mut printed, output) = std::io::pipe().unwrap();
    let mut recv = aqueduct(&["recv", &address]);
    recv.stdin(Stdio::null()).stdout(output);
    let mut child = recv.spawn().unwrap();
    drop(recv);
    let input: String = (0..MESSAGES).map(|it| format!("{it:060}\n")).collect();
    let send = start_with_input(&mut aqueduct(&["send", &address]), input);
    let mut full = 0;
    until("the pipe and the queue are full", || {
        full = if queue.depth() == 4 { full + 1 } else { 0 };
        full > 50
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let mut text = String::new();
    printed.read_to_string(&mut text).unwrap();
    let rest = start(&mut aqueduct(&["recv", &address, "--timeout", "3s"]));
    expect(send.finish(), 0);
    let (rest, _) = expect(rest.finish(), 3);
    let seen = text.matches('\n').count();
    assert!((100..MESSAGES).contains(&seen), "{seen}");
    // Its last line may be torn.
    let seen = seen + String::from_utf8(rest).unwrap().lines().count();
    assert!(MESSAGES - seen <= 8, "{} are lost", MESSAGES - seen);
}
