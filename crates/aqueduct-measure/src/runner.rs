//! Starts the two processes of a sample and collects what they say.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use aqueduct::child;
use nix::mqueue::{MQ_OFlag, MqAttr, mq_open, mq_unlink};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::timeout;

use crate::case::{Case, Mechanism, Work};
use crate::peer::{READY, Side, Spec, TOGETHER};
use crate::placement::Placement;
use crate::sample::{Sample, SideReport};

/// The descriptors of pipes in both processes.
pub(crate) const READ_FD: i32 = 3;
pub(crate) const WRITE_FD: i32 = 4;

/// How much longer than its work a sample may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one sample is to be of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// One way or round trip.
    pub work: Work,
    /// Bytes a message.
    pub size: usize,
    /// Where both run.
    pub placement: Placement,
    /// How long to warm up.
    pub warm_up: Duration,
    /// How long to measure.
    pub run: Duration,
    /// Count allocations rather than time.
    pub count_allocations: bool,
    /// How many processes send.
    pub senders: u64,
    /// How many processes receive, one way; several only from one that sends.
    pub receivers: u64,
    /// How long from one message to the next, one way; zero: as short as can be.
    pub pace: Duration,
    /// Messages that a queue holds.
    pub capacity: i64,
}

impl Order {
    /// An order of one sender, timed.
    pub fn new(work: Work, size: usize, placement: Placement) -> Self {
        Self {
            work,
            size,
            placement,
            warm_up: Duration::from_millis(30),
            run: Duration::from_millis(100),
            count_allocations: false,
            senders: 1,
            receivers: 1,
            pace: Duration::ZERO,
            capacity: 10,
        }
    }
}

/// Runs samples, one after another.
#[derive(Debug)]
pub struct Runner {
    program: PathBuf,
    args: Vec<String>,
    dir: tempfile::TempDir,
    samples: u64,
    address: String,
}

impl Runner {
    /// A runner that starts `program` with `args` and one more, for [`peer::run`](crate::peer::run).
    ///
    /// # Errors
    ///
    /// There is no place for temporary files.
    pub fn new(program: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("aqueduct-bench-").tempdir();
        Ok(Self {
            program: program.to_owned(),
            args: args.iter().map(|it| (*it).to_owned()).collect(),
            dir: dir.context("cannot make a temporary directory")?,
            samples: 0,
            address: String::new(),
        })
    }

    /// Sets what the second side binds, in the case that is for an address.
    pub fn set_address(&mut self, address: impl Into<String>) {
        self.address = address.into();
    }

    /// Takes one sample. Everything that it creates is removed when it returns or is dropped.
    ///
    /// # Errors
    ///
    /// The mechanism is not there, or a process fails or hangs.
    pub async fn sample(&mut self, case: &Case, order: &Order) -> anyhow::Result<Sample> {
        let limit = order.warm_up + order.run + PATIENCE;
        let sample = timeout(limit, self.processes(case, order)).await;
        match sample {
            Ok(sample) => sample,
            Err(_) => bail!("it hung for {limit:?}"),
        }
    }

    async fn processes(&mut self, case: &Case, order: &Order) -> anyhow::Result<Sample> {
        self.samples += 1;
        let dir = self.dir.path().join(self.samples.to_string());
        std::fs::create_dir(&dir)?;
        let name = format!("/aqueduct-bench-{}-{}", std::process::id(), self.samples);
        let mut spec = Spec {
            case: case.name.to_owned(),
            side: Side::Second,
            work: order.work,
            size: order.size,
            placement: order.placement,
            warm_up_ms: order.warm_up.as_millis() as u64,
            run_ms: order.run.as_millis() as u64,
            count_allocations: order.count_allocations,
            senders: order.senders,
            receivers: order.receivers,
            pace_us: order.pace.as_micros() as u64,
            dir,
            name,
            address: self.address.clone(),
        };
        let made = Made::new(case.mechanism, &spec, order.capacity)?;
        let (mut second, mut first) = (self.command(), self.command());
        let several = order.senders > 1;
        if several {
            first.as_tokio_mut().stdin(Stdio::piped());
        }
        if case.mechanism == Mechanism::Pipe {
            let ((there_rx, there_tx), (back_rx, back_tx)) = (std::io::pipe()?, std::io::pipe()?);
            second.pass(READ_FD, there_rx).pass(WRITE_FD, back_tx);
            first.pass(READ_FD, back_rx).pass(WRITE_FD, there_tx);
        }
        let mut second = Process::start(second, &spec)?;
        spec.address = second.address().await?;
        let mut seconds = vec![second];
        for _ in 1..order.receivers {
            let mut second = Process::start(self.command(), &spec)?;
            second.address().await?;
            seconds.push(second);
        }
        spec.side = Side::First;
        let mut firsts = vec![Process::start(first, &spec)?];
        for _ in 1..order.senders {
            let mut first = self.command();
            first.as_tokio_mut().stdin(Stdio::piped());
            firsts.push(Process::start(first, &spec)?);
        }
        if several {
            // Else some would have sent all before others begin.
            for first in &mut firsts {
                first.wait_together().await?;
            }
            for first in &mut firsts {
                drop(first.stdin.take());
            }
        }
        let mut reports = Vec::new();
        for first in firsts {
            reports.push(first.report().await);
        }
        // Where one has failed, the other may wait for ever: it is killed when it is dropped.
        let first = reports
            .into_iter()
            .collect::<anyhow::Result<SideReport>>()?;
        let mut reports = Vec::new();
        for second in seconds {
            reports.push(second.report().await?);
        }
        let second = reports.into_iter().collect();
        drop(made);
        std::fs::remove_dir_all(&spec.dir)?;
        Ok(Sample::of(&first, &second))
    }

    fn command(&self) -> child::Command {
        let mut command = child::Command::new(&self.program);
        command.args(&self.args).kill_on_drop(true);
        let inner = command.as_tokio_mut().stdin(Stdio::null());
        inner.stdout(Stdio::piped()).stderr(Stdio::piped());
        // What it says last is to be the reason, where it fails.
        inner.env("RUST_BACKTRACE", "0");
        command
    }
}

/// What a sample needs before its processes start, removed when dropped.
struct Made {
    queues: Vec<String>,
}

impl Made {
    fn new(mechanism: Mechanism, spec: &Spec, capacity: i64) -> anyhow::Result<Self> {
        let mut made = Self { queues: Vec::new() };
        match mechanism {
            Mechanism::Fifo => {
                for name in ["there", "back"] {
                    mkfifo(&spec.path(name), Mode::S_IRUSR | Mode::S_IWUSR)?;
                }
            }
            Mechanism::Mq => {
                // What needs one queue makes one: two large ones are more than a user may have, as a rule.
                let needed = if spec.work == Work::OneWay { 1 } else { 2 };
                for name in queues(spec).into_iter().take(needed) {
                    let attributes = MqAttr::new(0, capacity, spec.size as i64, 0);
                    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
                    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
                    let queue = mq_open(name.as_str(), flags, mode, Some(&attributes));
                    nix::mqueue::mq_close(
                        queue.context("the system allows no such queue: see sysctl fs.mqueue")?,
                    )?;
                    made.queues.push(name);
                }
            }
            _ => {}
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for name in &self.queues {
            // It has gone: so it should.
            let _ = mq_unlink(name.as_str());
        }
    }
}

/// The names of the queues of a sample: there and back.
pub(crate) fn queues(spec: &Spec) -> [String; 2] {
    ["there", "back"].map(|it| format!("{}-{it}", spec.name))
}

/// One process of a sample.
struct Process {
    child: child::Child,
    /// Its end lets senders begin together.
    stdin: Option<tokio::process::ChildStdin>,
    stdout: BufReader<tokio::process::ChildStdout>,
    stderr: tokio::process::ChildStderr,
}

impl Process {
    fn start(mut command: child::Command, spec: &Spec) -> anyhow::Result<Self> {
        command.arg(serde_json::to_string(spec)?);
        let mut child = command.spawn().context("cannot start a process")?;
        let stdout = child.as_tokio_mut().stdout.take();
        let stdout = stdout.context("no standard output")?;
        let stderr = child.as_tokio_mut().stderr.take();
        let stdin = child.as_tokio_mut().stdin.take();
        Ok(Self {
            child,
            stdin,
            stderr: stderr.context("no standard error")?,
            stdout: BufReader::new(stdout),
        })
    }

    /// Waits until it says that it is ready.
    async fn address(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await?;
        match line.strip_prefix(READY) {
            Some(address) => Ok(address.trim_end().to_owned()),
            None => Err(self.failure().await),
        }
    }

    /// Waits until it could begin.
    async fn wait_together(&mut self) -> anyhow::Result<()> {
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).await? == 0 {
                return Err(self.failure().await);
            }
            if line.trim_end() == TOGETHER {
                return Ok(());
            }
        }
    }

    /// What it has said last.
    async fn failure(&mut self) -> anyhow::Error {
        let mut said = String::new();
        // What is no text is not told.
        let _ = self.stderr.read_to_string(&mut said).await;
        let last = said.lines().rfind(|it| !it.is_empty());
        anyhow::anyhow!("{}", last.unwrap_or("a process failed and did not say why"))
    }

    async fn report(mut self) -> anyhow::Result<SideReport> {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).await?;
        let status = self.child.wait().await?;
        if !status.success() {
            return Err(self.failure().await);
        }
        // Some first sides say that they are ready, too; nobody waits for that.
        let report = text.lines().last().unwrap_or_default();
        serde_json::from_str(report).context("a process printed something else")
    }
}
