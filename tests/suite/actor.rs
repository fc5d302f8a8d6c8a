//! A second process that is told what to do line by line, and answers.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{Peer, deadline, peer_command};

/// What marks a line as an answer among what the test harness prints.
const MARK: &str = "@";

/// A function of this test binary, running as a process of its own.
pub(crate) struct Actor {
    pub(crate) peer: Peer,
    stdin: Option<ChildStdin>,
    answers: UnboundedReceiver<String>,
}

impl Actor {
    pub(crate) fn spawn(role: &str) -> Self {
        Self::spawn_with(role, |_| {})
    }

    pub(crate) fn spawn_with(role: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = peer_command(role);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        configure(&mut command);
        let mut peer = Peer::spawn(&mut command);
        let stdout = peer.0.stdout.take().expect("it is piped");
        let (sender, answers) = unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(answer) = line.strip_prefix(MARK)
                    && sender.send(answer.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        let stdin = peer.0.stdin.take();
        Self {
            peer,
            stdin,
            answers,
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it still listens");
        writeln!(stdin, "{line}").expect("the actor lives");
    }

    /// The next answer.
    pub(crate) async fn hear(&mut self) -> String {
        let answer = deadline(self.answers.recv()).await;
        answer.expect("the actor answers before it ends")
    }

    /// Ends its input and waits for its exit.
    pub(crate) async fn finish(&mut self) -> ExitStatus {
        self.stdin = None;
        self.peer.exit().await.expect("it can be waited for")
    }

    /// Kills it. Its pipes are closed here when this returns.
    pub(crate) async fn kill(&mut self) {
        self.peer.kill();
        self.stdin = None;
        // The thread that reads answers closes its pipe before it ends.
        while deadline(self.answers.recv()).await.is_some() {}
    }

    /// Waits for the exit of a role that only checks something, and fails if that failed.
    pub(crate) async fn succeed(&mut self) {
        let status = self.finish().await;
        assert!(status.success(), "the actor failed: {status}");
    }
}

/// In the actor: answers. Begins a line of its own, since the harness prints without ending its.
pub(crate) fn say(answer: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "\n{MARK}{answer}\n").expect("the test listens");
    stdout.flush().expect("the test listens");
}

/// In the actor: the next line it is told; `None` at the end.
pub(crate) fn told() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end().to_owned()),
    }
}

/// In the actor: a runtime with one worker, so that it serves while it waits to be told.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

/// In the actor: how many descriptors are open, without the one that looks.
pub(crate) fn open_descriptors() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    entries.count() - 1
}

/// In the actor: leaves no descriptor free.
pub(crate) fn take_all_descriptors() -> Vec<std::fs::File> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("it has a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).expect("it can be lowered");
    let open = || std::fs::File::open("/dev/null");
    let held: Vec<_> = std::iter::from_fn(|| open().ok()).collect();
    let error = open().expect_err("none is free");
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    held
}

/// In the actor: when told to, measures this process's CPU time over half a second; when told
/// again, frees the descriptors.
pub(crate) fn measure_then_free(held: Vec<std::fs::File>) {
    use nix::sys::resource::{UsageWho, getrusage};
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("it can be asked");
        let (user, system) = (usage.user_time(), usage.system_time());
        (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec()
    };
    assert_eq!(told().as_deref(), Some("measure"));
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(500));
    say(used() - before);
    assert_eq!(told().as_deref(), Some("free"));
    drop(held);
}

/// In the actor: gives up root's rights for good.
pub(crate) fn become_nobody() {
    use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
    if !Uid::effective().is_root() {
        return;
    }
    setgroups(&[]).expect("root may");
    setgid(Gid::from_raw(65534)).expect("root may");
    setuid(Uid::from_raw(65534)).expect("root may");
}
