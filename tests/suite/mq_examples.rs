//! The examples for message queues, run as their heads say.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct::{OpenErrorKind, mq};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::mq::QueueName;
use crate::support::{self, DEADLINE, Peer};

/// An example without a keyboard.
fn example(name: &str) -> Command {
    let mut command = support::example(name);
    command.stdin(Stdio::null());
    command
}

/// An example that runs, with what it says going to a file.
struct Running {
    peer: Peer,
    said: tempfile::NamedTempFile,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let said = tempfile::NamedTempFile::new().expect("a temporary file can be made");
        // One file description for both, or one would write over the other.
        let file = said.reopen().unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let peer = Peer::spawn(command);
        Self { peer, said }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.said.path()).unwrap()
    }

    fn until_it_says(&self, text: &str) {
        until(text, || self.said().contains(text));
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.peer.0.id()).unwrap();
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    /// Waits for the end; what was said, if all went well.
    fn finish(mut self) -> String {
        let child: &mut Child = &mut self.peer.0;
        let mut status = None;
        until("it has ended", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        let said = self.said();
        assert!(status.unwrap().success(), "{status:?}: {said}");
        said
    }
}

fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < DEADLINE, "still waiting: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn run(name: &str, args: &[&str]) -> String {
    Running::start(example(name).args(args)).finish()
}

fn depth(name: &QueueName) -> usize {
    let info = mq::info(&name.0).expect("the queue is there");
    info.attributes.expect("it may be read").messages
}

#[test]
fn producer_and_consumer_move_messages_most_urgent_first() {
    let queue = QueueName::new();
    let messages = ["0:tidy", "9:fire", "5:lunch", "9:flood"];
    let said = run(
        "mq_producer",
        &[&[queue.0.as_str()], &messages[..]].concat(),
    );
    assert!(
        said.ends_with("4 of at most 10 messages wait in ") || said.contains("4 of at most 10")
    );

    let consumer = Running::start(example("mq_consumer").arg(&queue.0));
    consumer.until_it_says("tidy");
    // It goes on: more may come.
    run("mq_producer", &[&queue.0, "3:later"]);
    consumer.until_it_says("later");
    consumer.signal(Signal::SIGTERM);
    let said = consumer.finish();
    let texts: Vec<&str> = said.lines().map(str::trim).collect();
    let expected = ["9 fire", "9 flood", "5 lunch", "0 tidy", "3 later"];
    assert_eq!(texts[1..6], expected, "{said}");
    assert!(said.contains("0 messages are left"), "{said}");
    assert_eq!(depth(&queue), 0, "it was not told to remove the queue");

    let consumer = Running::start(example("mq_consumer").args([&queue.0, "--unlink"]));
    consumer.until_it_says("waiting");
    consumer.signal(Signal::SIGINT);
    consumer.finish();
    let gone = mq::info(&queue.0).unwrap_err();
    assert_eq!(gone.kind(), &OpenErrorKind::NotFound);
}

/// Where jobs wait in the middle until the test lets them go on.
struct Gates(tempfile::TempDir);

impl Gates {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    /// A job that tells of its begin and its end, and in between waits for a gate of its own.
    fn job(&self, n: u32) -> String {
        let gate = self.gate(n);
        mkfifo(&gate, Mode::S_IRWXU).unwrap();
        let (log, gate) = (self.log(), gate.display());
        let log = log.display();
        format!("echo begin {n} >> {log}; read line < {gate}; echo end {n} >> {log}")
    }

    /// Lets job `n` go on, which has begun.
    fn open(&self, n: u32) {
        until("the job is at its gate", || {
            let mut options = fs::File::options();
            let opened = options.write(true).custom_flags(libc::O_NONBLOCK);
            let opened = opened.open(self.gate(n));
            opened.is_ok_and(|mut it| it.write_all(b"go\n").is_ok())
        });
    }

    /// What the jobs have told, in order.
    fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn gate(&self, n: u32) -> PathBuf {
        self.0.path().join(format!("gate-{n}"))
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }
}

#[test]
fn the_job_queue_finishes_what_is_in_hand_and_leaves_the_rest() {
    let queue = QueueName::new();
    let gates = Gates::new();
    let logged = || gates.told();
    for n in 1..=4 {
        run("job_queue", &["submit", &queue.0, "0", &gates.job(n)]);
    }
    // Not JSON: costs this message and nothing else.
    queue.open(mq::Driver::Pool).try_send(9, b"what?").unwrap();
    run("job_queue", &["submit", &queue.0, "5", &gates.job(0)]);

    let serve = ["serve", &queue.0, "--workers", "1"];
    let service = Running::start(example("job_queue").args(serve));
    // The most urgent job is in hand.
    until("job 0 begins", || logged() == ["begin 0"]);
    service.signal(Signal::SIGTERM);
    service.until_it_says("stopping");
    assert_eq!(logged(), ["begin 0"], "it runs on");
    gates.open(0);
    let said = service.finish();
    assert_eq!(logged(), ["begin 0", "end 0"]);
    assert!(said.contains("thrown away, it is no job"), "{said}");
    assert!(said.contains("stopped: 1 jobs done, 4 left in"), "{said}");
    assert_eq!(depth(&queue), 4, "left, in a queue that is left");

    // The next start goes on, with two workers at a time.
    let service = Running::start(example("job_queue").args(["serve", &queue.0]));
    until("two begin", || logged().len() == 4);
    assert_eq!(depth(&queue), 2);
    service.signal(Signal::SIGINT);
    service.until_it_says("stopping");
    gates.open(1);
    gates.open(2);
    let said = service.finish();
    assert!(said.contains("stopped: 2 jobs done, 2 left in"), "{said}");
    let mut all = logged();
    all.sort();
    let expected = ["begin 0", "begin 1", "begin 2", "end 0", "end 1", "end 2"];
    assert_eq!(all, expected);

    // The last start is told to clear up, and nobody waits for the job in hand: a second signal.
    let serve = ["serve", &queue.0, "--workers", "1", "--unlink"];
    let mut service = Running::start(example("job_queue").args(serve));
    until("job 3 begins", || logged().len() == 7);
    service.signal(Signal::SIGTERM);
    service.until_it_says("stopping");
    service.signal(Signal::SIGTERM);
    until("it ends", || service.peer.0.try_wait().unwrap().is_some());
    assert!(service.said().contains("stopped at once"));
    assert_eq!(depth(&queue), 1, "an end like this removes nothing");
    let service = Running::start(example("job_queue").args(serve));
    until("job 4 begins", || logged().len() == 8);
    service.signal(Signal::SIGTERM);
    gates.open(4);
    assert!(service.finish().contains("is removed"));
    let gone = mq::info(&queue.0).unwrap_err();
    assert_eq!(gone.kind(), &OpenErrorKind::NotFound);
}
