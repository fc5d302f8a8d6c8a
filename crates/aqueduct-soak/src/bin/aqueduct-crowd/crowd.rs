//! [`Crowd`]: starts, harms and watches the processes, and compares what they sent and received.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context;
use aqueduct::fifo;
use aqueduct::frame::Framing;
use aqueduct::mq::{self, Queue};
use clap::ValueEnum;
use futures_util::StreamExt;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

use crate::{Args, PATIENCE, Phase, Role, message, parse, queue_name};

/// For how long a process may sleep beside room or messages.
const LIMIT: Duration = Duration::from_millis(100);
/// How often one is to be woken in each pause of the traffic.
const PROBES: usize = 8;
const CAPACITY: usize = 10;

/// All processes, and what they work on.
pub(crate) struct Crowd {
    directory: PathBuf,
    queue: Queue,
    members: Vec<(Role, u32, Child)>,
    /// Numbers of all that ever were.
    all: Vec<(Role, u32)>,
    phase: File,
    /// The FIFO, to see whether it is full.
    look: File,
    kills: HashMap<u32, Role>,
    stops: u64,
    /// What the supervisor has received itself.
    queue_got: Vec<u8>,
    fifo_got: Vec<(u32, u64)>,
    slowest: Duration,
    probes: u64,
    wrong: Vec<String>,
}

impl Crowd {
    pub(crate) fn new(args: &Args, directory: &Path) -> anyhow::Result<Self> {
        fs::write(directory.join("phase"), [0])?;
        let path = directory.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
        let queue = mq::OpenOptions::new()
            .create_new(true)
            .capacity(CAPACITY)
            .max_message(16)
            .unlink_on_drop(true)
            .open(queue_name(directory))?;
        let mut crowd = Self {
            queue,
            phase: File::options().write(true).open(directory.join("phase"))?,
            // Open for both: for writing alone it would need a reader first.
            look: File::options()
                .read(true)
                .write(true)
                .custom_flags(OFlag::O_NONBLOCK.bits())
                .open(&path)?,
            directory: directory.to_owned(),
            members: Vec::new(),
            all: Vec::new(),
            kills: HashMap::new(),
            stops: 0,
            queue_got: Vec::new(),
            fifo_got: Vec::new(),
            slowest: Duration::ZERO,
            probes: 0,
            wrong: Vec::new(),
        };
        for (role, count) in [
            (Role::QueueReader, args.readers),
            (Role::QueueWriter, args.writers),
            (Role::FifoWriter, args.writers),
        ] {
            for _ in 0..count {
                crowd.start(role)?;
            }
        }
        Ok(crowd)
    }

    fn start(&mut self, role: Role) -> anyhow::Result<()> {
        let number = u32::try_from(self.all.len())?;
        let mut command = Command::new(std::env::current_exe()?);
        let value = role.to_possible_value().context("no such role")?;
        command.args(["--role", value.get_name(), "--number", &number.to_string()]);
        command.arg("--directory").arg(&self.directory);
        self.members.push((role, number, command.spawn()?));
        self.all.push((role, number));
        Ok(())
    }

    fn set(&self, phase: Phase) -> anyhow::Result<()> {
        Ok(self.phase.write_all_at(&[phase as u8], 0)?)
    }

    pub(crate) async fn run(&mut self, args: &Args) -> anyhow::Result<Vec<String>> {
        let receiver = fifo::OpenOptions::new().open_receiver(self.directory.join("fifo"))?;
        let mut fifo = receiver.framed(Framing::length());
        let until = Instant::now() + Duration::from_secs(args.seconds);
        while Instant::now() < until {
            self.set(Phase::Run)?;
            let pause = Instant::now() + Duration::from_millis(fastrand::u64(200..1000));
            while Instant::now() < pause {
                self.read_fifo(&mut fifo, 200).await?;
                if fastrand::u8(..32) == 0 {
                    self.harm(None).await?;
                }
            }
            self.set(Phase::Full)?;
            for _ in 0..PROBES {
                self.probe(Role::QueueWriter, |it| {
                    it.queue_got.extend(it.queue.try_recv()?.body());
                    Ok(())
                })
                .await?;
            }
            for _ in 0..PROBES {
                self.wait_for(Role::FifoWriter).await?;
                self.read_fifo(&mut fifo, 800).await?;
                self.used(Role::FifoWriter).await?;
            }
            self.set(Phase::Empty)?;
            // Readers have the queue; the FIFO is read here.
            for _ in 0..PROBES {
                let number = u32::MAX;
                let probe = self.probes;
                self.probe(Role::QueueReader, |it| {
                    Ok(it.queue.try_send(0, &message(number, probe))?)
                })
                .await?;
            }
        }
        self.end(&mut fifo).await?;
        Ok(std::mem::take(&mut self.wrong))
    }

    async fn read_fifo<R: tokio::io::AsyncRead + Unpin>(
        &mut self,
        fifo: &mut aqueduct::frame::FramedRead<R>,
        frames: usize,
    ) -> anyhow::Result<()> {
        for _ in 0..frames {
            let next = timeout(Duration::from_millis(5), fifo.next()).await;
            let Ok(Some(frame)) = next else { break };
            self.fifo_got.push(parse(&frame?)?);
        }
        Ok(())
    }

    /// Kills or stops one process, one of this role if it is given.
    async fn harm(&mut self, role: Option<Role>) -> anyhow::Result<()> {
        let candidates = |it: &&mut (Role, u32, Child)| role.is_none_or(|role| role == it.0);
        let members: Vec<_> = self.members.iter_mut().filter(candidates).collect();
        let count = members.len();
        let Some((role, number, child)) = members.into_iter().nth(fastrand::usize(..count.max(1)))
        else {
            return Ok(());
        };
        let pid = Pid::from_raw(child.id().try_into()?);
        if fastrand::bool() {
            self.stops += 1;
            kill(pid, Signal::SIGSTOP)?;
            // Longer than anybody may sleep for its sake.
            tokio::spawn(async move {
                sleep(3 * LIMIT).await;
                let _ = kill(pid, Signal::SIGCONT);
            });
            return Ok(());
        }
        let (role, number) = (*role, *number);
        child.kill()?;
        child.wait()?;
        self.kills.insert(number, role);
        self.members.retain(|it| it.1 != number);
        self.start(role)
    }

    /// Whether nothing is left of what those of this role wait for.
    fn is_used(&self, role: Role) -> anyhow::Result<bool> {
        if role == Role::FifoWriter {
            let mut polled = [PollFd::new(self.look.as_fd(), PollFlags::POLLOUT)];
            return Ok(nix::poll::poll(&mut polled, PollTimeout::ZERO)? == 0);
        }
        let messages = self.queue.attributes()?.messages;
        Ok(messages
            == if role == Role::QueueWriter {
                CAPACITY
            } else {
                0
            })
    }

    /// Waits until those of this role sleep, all of them.
    async fn wait_for(&mut self, role: Role) -> anyhow::Result<()> {
        let limit = Instant::now() + PATIENCE;
        let mut still = 0;
        while still < 3 {
            let quiet = self.is_used(role)? && self.sleep(role);
            still = if quiet { still + 1 } else { 0 };
            anyhow::ensure!(Instant::now() < limit, "{role:?}s never come to rest");
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Gives those of this role something to do when they sleep, harms one, and waits for the rest.
    async fn probe(
        &mut self,
        role: Role,
        give: impl Fn(&mut Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.wait_for(role).await?;
        for _ in 0..fastrand::usize(1..=CAPACITY) {
            // They may have been faster than this.
            let _ = give(self);
        }
        self.used(role).await
    }

    async fn used(&mut self, role: Role) -> anyhow::Result<()> {
        self.probes += 1;
        let begun = Instant::now();
        if fastrand::bool() {
            self.harm(Some(role)).await?;
        }
        // Those that only wait for a processor are not asleep, and stopped ones cannot go on.
        let mut asleep = Instant::now();
        while !self.is_used(role)? {
            if !self.sleep(role) {
                asleep = Instant::now();
            }
            if asleep.elapsed() > LIMIT {
                self.wrong.push(format!(
                    "all {role:?}s slept for {LIMIT:?} though one could go on"
                ));
                return Ok(());
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{role:?}s do not go on");
            sleep(Duration::from_millis(1)).await;
        }
        self.slowest = self.slowest.max(begun.elapsed());
        Ok(())
    }

    /// Whether those of this role sleep: none runs or could, and not all of them are stopped.
    fn sleep(&self, role: Role) -> bool {
        let mut some_could = false;
        for (_, _, child) in self.members.iter().filter(|it| it.0 == role) {
            let states = states(child.id());
            if states.iter().any(|it| matches!(it, 'R' | 'D')) {
                return false;
            }
            some_could |= !states.contains(&'T');
        }
        some_could
    }

    /// Ends all, and compares what was sent with what was received.
    async fn end<R: tokio::io::AsyncRead + Unpin>(
        &mut self,
        fifo: &mut aqueduct::frame::FramedRead<R>,
    ) -> anyhow::Result<()> {
        self.set(Phase::End)?;
        let limit = Instant::now() + PATIENCE;
        while !self.members.is_empty() {
            self.read_fifo(fifo, 500).await?;
            let mut failed = Vec::new();
            self.members
                .retain_mut(|(role, number, child)| match child.try_wait() {
                    Ok(None) => true,
                    Ok(Some(status)) if status.success() => false,
                    other => {
                        failed.push(format!("{role:?} {number} ended with {other:?}"));
                        false
                    }
                });
            self.wrong.append(&mut failed);
            anyhow::ensure!(Instant::now() < limit, "{:?} do not end", self.members);
        }
        self.read_fifo(fifo, usize::MAX).await?;
        while let Ok(left) = self.queue.try_recv() {
            self.queue_got.extend(left.body());
        }
        let mut got: HashMap<u32, Vec<u64>> = HashMap::new();
        for (writer, number) in &self.fifo_got {
            got.entry(*writer).or_default().push(*number);
        }
        let mut queue = self.queue_got.clone();
        for (_, number) in self.all.iter().filter(|it| it.0 == Role::QueueReader) {
            // Killed before it began, it has none.
            let notes = fs::read(self.directory.join(number.to_string()));
            queue.extend(notes.unwrap_or_default());
        }
        for body in queue.chunks_exact(16) {
            let (writer, number) = parse(body)?;
            got.entry(writer).or_default().push(number);
        }
        let messages: usize = got.values().map(Vec::len).sum();
        let mut lost = 0;
        for (role, writer) in self.all.clone() {
            if role == Role::QueueReader {
                continue;
            }
            let numbers = got.remove(&writer).unwrap_or_default();
            let notes = fs::read(self.directory.join(writer.to_string())).unwrap_or_default();
            let at = |i: usize| notes.get(i..i + 8).and_then(|it| it.try_into().ok());
            let [begun, sent] = [0, 8].map(|i| at(i).map_or(0, u64::from_le_bytes));
            if role == Role::FifoWriter && !numbers.iter().copied().eq(0..numbers.len() as u64) {
                self.wrong
                    .push(format!("those of {writer} came out of order"));
            }
            let count = numbers.len();
            let numbers: HashSet<u64> = numbers.into_iter().collect();
            if count != numbers.len() || numbers.iter().any(|it| *it >= begun) {
                self.wrong
                    .push(format!("some of {writer} came twice, or were never sent"));
            }
            let missing = (0..sent).filter(|it| !numbers.contains(it)).count();
            if role == Role::FifoWriter && missing > 0 {
                self.wrong.push(format!("{missing} of {writer} were lost"));
            } else {
                lost += missing;
            }
        }
        let readers = self.kills.values().filter(|it| **it == Role::QueueReader);
        let readers = readers.count();
        if lost > readers {
            let what = format!("{lost} messages of the queue were lost with {readers} readers");
            self.wrong.push(what);
        }
        println!(
            "{messages} messages; {} killed, {} stopped, {lost} lost with {readers} killed readers; \
             {} times woken, the slowest after {:.0} ms",
            self.kills.len(),
            self.stops,
            self.probes,
            self.slowest.as_secs_f64() * 1e3,
        );
        Ok(())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for (_, _, child) in &mut self.members {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The states of a process's threads, as in proc_pid_stat(5).
fn states(pid: u32) -> Vec<char> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let state = tasks.map(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit(") ").next()?.chars().next()
    });
    state.flatten().collect()
}
