//! What ends and connections cost besides messages: memory, opening and closing, doing nothing, and
//! being many.

mod many;
pub(crate) mod requests;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use aqueduct::connect::{Connection, Listener};
use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
use aqueduct::{Endpoint, fifo, mq, pipe};
use aqueduct_measure::results::Missing;
use aqueduct_measure::stats::Spread;
use aqueduct_measure::usage::{Usage, allow_descriptors};
use aqueduct_measure::{Cost, Runner};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};

/// Connections whose memory is measured, if a process may have twice as many descriptors.
const MANY: usize = 10_000;
/// How often an end is opened and closed.
const TIMES: usize = 200;
/// How long connections do nothing.
const REST: Duration = Duration::from_millis(500);

pub(crate) const OPENING: &str = "Opening and closing both ends, in one process";
pub(crate) const IDLE: &str = "Up to ten thousand idle connections over which one message went each way, both ends in \
                    one process";
/// What the processor time of latency mode is told in, and held to a goal by.
pub(crate) const PRICE: &str = "The receiver's processor time where one message of 64 B comes every 2 \
                                ms";
/// System calls where one is to be saved.
pub(crate) const BELLS: &str = "Calls of write(2) in a thousand messages that are sent one by one, by \
                                both ends on one processor";
pub(crate) const CALLS: &str = "calls";
/// The end of the title of a table of ratios to blocking calls.
pub(crate) const SHARE: &str = ", of what blocking calls move";
/// A column of idle connections.
pub(crate) const MEMORY: &str = "memory of both ends of one";
/// A column of the processor time.
pub(crate) const WITHOUT: &str = "without";
pub(crate) const TIMES_AS_MUCH: &str = "times as much in latency mode";

/// Measures all that; what fails is missing, and the rest is there.
///
/// With `only`, those rows alone whose name contains one of these.
pub(crate) async fn measure(
    runner: &mut Runner,
    quick: bool,
    only: Vec<String>,
) -> (Vec<Cost>, Vec<Missing>) {
    let mut table = Table {
        only,
        ..Table::default()
    };
    // Otherwise many connections fail where a process may have 1,024 descriptors.
    if let Err(error) = allow_descriptors() {
        table.miss(OPENING, "more descriptors", &error.into());
    }
    if let Err(error) = opening(&mut table).await {
        table.miss(OPENING, "all", &error);
    }
    for mechanism in ["unix", "unixpacket", "tcp", "shm"] {
        if table.wants(mechanism) {
            table.add(IDLE, mechanism, idle_apart(mechanism));
        }
    }
    requests::measure(&mut table, quick);
    many::measure(&mut table, runner, quick).await;
    (table.costs, table.missing)
}

/// What was measured so far.
#[derive(Default)]
struct Table {
    /// Parts of the names of rows that are measured; empty: all.
    only: Vec<String>,
    costs: Vec<Cost>,
    missing: Vec<Missing>,
}

/// A column, its unit, and the figure.
type Figure = (String, &'static str, Spread);

impl Table {
    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|it| row.contains(it))
    }

    fn add(&mut self, table: &str, row: &str, figures: anyhow::Result<Vec<Figure>>) {
        match figures {
            Ok(figures) => self.costs.extend(figures.into_iter().map(|it| Cost {
                table: table.to_owned(),
                row: row.to_owned(),
                column: it.0,
                unit: it.1.to_owned(),
                value: it.2,
            })),
            Err(error) => self.miss(table, row, &error),
        }
    }

    fn miss(&mut self, table: &str, row: &str, error: &anyhow::Error) {
        self.missing.push(Missing {
            case: format!("{table}: {row}"),
            reason: format!("{error:#}"),
        });
    }
}

async fn opening(table: &mut Table) -> anyhow::Result<()> {
    let dir = directory()?;
    for name in [
        "pipe",
        "socketpair",
        "fifo",
        "mq",
        "unix",
        "unixpacket",
        "tcp",
        "unix, with a message each way",
        "shm, with a message each way",
    ] {
        if !table.wants(name) {
            continue;
        }
        let spread = match name.split_once(", ") {
            Some((mechanism, _)) => exchanges(mechanism, &dir).await,
            None => match name {
                "pipe" => pipes(),
                "socketpair" => socket_pairs(),
                "fifo" => fifos(&dir.path().join("fifo")).await,
                "mq" => queues(),
                mechanism => connections(mechanism, &dir).await,
            },
        };
        let figures = spread.map(|it| vec![("time".to_owned(), "us", it)]);
        table.add(OPENING, name, figures);
    }
    Ok(())
}

fn directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("aqueduct-costs-").tempdir()
}

fn timed(times: Vec<f64>) -> anyhow::Result<Spread> {
    Spread::of(times).context("nothing was measured")
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}

fn pipes() -> anyhow::Result<Spread> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        drop(pipe::pipe()?);
        times.push(micros(start));
    }
    timed(times)
}

fn socket_pairs() -> anyhow::Result<Spread> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        drop(std::os::unix::net::UnixStream::pair()?);
        times.push(micros(start));
    }
    timed(times)
}

async fn fifos(path: &Path) -> anyhow::Result<Spread> {
    let mut options = fifo::OpenOptions::new();
    options.create(true);
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        let receiver = options.open_receiver(path)?;
        let sender = options.open_sender(path).await?;
        drop((receiver, sender));
        times.push(micros(start));
    }
    timed(times)
}

fn queues() -> anyhow::Result<Spread> {
    let name = format!("/aqueduct-costs-{}", std::process::id());
    let mut options = mq::OpenOptions::new();
    options.read(true).write(true).create(true);
    let kept = options.open(&name)?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        drop((options.open(&name)?, options.open(&name)?));
        times.push(micros(start));
    }
    kept.unlink()?;
    timed(times)
}

async fn connections(mechanism: &str, dir: &tempfile::TempDir) -> anyhow::Result<Spread> {
    let mut listener = bind(mechanism, dir).await?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        drop(pair(&mut listener).await?);
        times.push(micros(start));
    }
    timed(times)
}

/// With shared memory an end is complete once it has received the other's hello.
async fn exchanges(mechanism: &str, dir: &tempfile::TempDir) -> anyhow::Result<Spread> {
    let dir = tempfile::tempdir_in(dir)?;
    let mut listener = bind(mechanism, &dir).await?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        let (a, b) = pair(&mut listener).await?;
        let (mut a, mut b) = (a.into_frames(), b.into_frames());
        pass(&mut a.0, &mut b.1).await?;
        pass(&mut b.0, &mut a.1).await?;
        drop((a, b));
        times.push(micros(start));
    }
    timed(times)
}

async fn bind(mechanism: &str, dir: &tempfile::TempDir) -> anyhow::Result<Listener> {
    let address = match mechanism {
        "tcp" => "tcp://127.0.0.1:0".to_owned(),
        unix => format!("{unix}:{}", dir.path().join(unix).display()),
    };
    Ok(address.parse::<Endpoint>()?.bind().await?)
}

/// Both ends of a new connection.
async fn pair(listener: &mut Listener) -> anyhow::Result<(Connection, Connection)> {
    let endpoint = listener.local_endpoint().clone();
    let (connected, accepted) = tokio::join!(endpoint.connect(), listener.accept());
    Ok((connected?, accepted.context("nobody came")??))
}

/// In a process of its own: memory that is free again stays with a process, and the next has it for
/// nothing.
fn idle_apart(mechanism: &str) -> anyhow::Result<Vec<Figure>> {
    let mut process = std::process::Command::new(std::env::current_exe()?);
    let output = process.args(["idle", mechanism]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{}",
        said.lines().last().unwrap_or_default()
    );
    let idle: Idle = serde_json::from_slice(&output.stdout)?;
    let one = |value| Spread {
        median: value,
        min: value,
        max: value,
    };
    let figure = |column: &str, unit, value| (column.to_owned(), unit, value);
    Ok(vec![
        figure("connections", "", one(idle.connections)),
        figure(MEMORY, "KiB", one(idle.kib)),
        figure("descriptors of both ends of one", "", one(idle.descriptors)),
        figure("processor time of all in a second", "us", one(idle.cpu_us)),
        figure("the first message after that", "us", idle.first),
    ])
}

/// What the process prints that [`idle_apart`] starts.
#[derive(Serialize, Deserialize)]
pub(crate) struct Idle {
    connections: f64,
    /// Memory of both ends of a connection.
    kib: f64,
    descriptors: f64,
    /// Processor time of all connections in a second.
    cpu_us: f64,
    /// How long the first message takes to the other end.
    first: Spread,
}

pub(crate) async fn idle(mechanism: &str) -> anyhow::Result<Idle> {
    let allowed = allow_descriptors()?;
    let dir = directory()?;
    let mut listener = bind(mechanism, &dir).await?;
    // Some descriptors are for the rest.
    let each = if mechanism == "shm" { 8 } else { 2 };
    let many = MANY.min(usize::try_from(allowed)?.saturating_sub(100) / each);
    let (before, descriptors) = (resident()?, descriptors()?);
    let mut kept = Vec::new();
    for _ in 0..many {
        let (a, b) = pair(&mut listener).await?;
        let (mut a, mut b) = (a.into_frames(), b.into_frames());
        pass(&mut a.0, &mut b.1).await?;
        pass(&mut b.0, &mut a.1).await?;
        kept.push((a, b));
    }
    let kib = (resident()? - before) / many as f64;
    let descriptors = (self::descriptors()? - descriptors) / many as f64;
    let usage = Usage::now()?;
    tokio::time::sleep(REST).await;
    let cpu = (Usage::now()? - usage).cpu_us;
    let mut times = Vec::new();
    for (a, b) in &mut kept {
        let start = Instant::now();
        pass(&mut a.0, &mut b.1).await?;
        times.push(micros(start));
    }
    Ok(Idle {
        connections: many as f64,
        kib,
        descriptors,
        cpu_us: cpu / REST.as_secs_f64(),
        first: timed(times)?,
    })
}

async fn pass(tx: &mut BoxFrameSink, rx: &mut BoxFrameStream) -> anyhow::Result<()> {
    tx.send(Bytes::from_static(&[1; 64])).await?;
    rx.next().await.context("it has ended")??;
    Ok(())
}

/// How many descriptors this process has open.
fn descriptors() -> anyhow::Result<f64> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count() as f64)
}

/// KiB of resident memory of this process; a page that it maps twice counts once.
fn resident() -> anyhow::Result<f64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = rollup.lines().find_map(|it| it.strip_prefix("Pss:"));
    let kib = line.and_then(|it| it.split_whitespace().next());
    Ok(kib.context("no Pss")?.parse()?)
}
