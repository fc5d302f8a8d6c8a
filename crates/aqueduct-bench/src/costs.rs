//! What ends and connections cost besides messages: memory, opening and closing, doing nothing, and
//! being many.

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context;
use aqueduct::connect::{Connection, Listener};
use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
use aqueduct::{Endpoint, fifo, mq, pipe};
use aqueduct_measure::Ring;
use aqueduct_measure::stats::Spread;
use aqueduct_measure::usage::Usage;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;

use crate::number;

/// Connections whose memory is measured.
const MANY: usize = 1000;
/// How often an end is opened and closed.
const TIMES: usize = 200;
/// How long connections do nothing, and how long they send.
const WHILE: Duration = Duration::from_millis(500);

/// Tables of all that, as Markdown.
///
/// # Errors
///
/// The system refuses what is measured: a thousand connections take some 2,100 descriptors.
pub(crate) async fn markdown() -> anyhow::Result<String> {
    let dir = tempfile::Builder::new()
        .prefix("aqueduct-costs-")
        .tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mut text = String::from(
        "Opening and closing both ends, in one process: microseconds, the median of 200.\n\n\
         | mechanism | us |\n|---|---|\n",
    );
    for (name, spread) in [
        ("pipe", pipes()?),
        ("fifo", fifos(&path("fifo")).await?),
        ("mq", queues()?),
        ("unix", connections(&format!("unix:{}", path("a"))).await?),
        (
            "unixpacket",
            connections(&format!("unixpacket:{}", path("b"))).await?,
        ),
        ("tcp", connections("tcp://127.0.0.1:0").await?),
    ] {
        let _ = writeln!(text, "| {name} | {} |", number::spread(&spread));
    }
    // Of one mechanism: memory that is free again stays with this process, and the next has it for
    // nothing.
    let (kib, idle) = idle(&format!("unix:{}", path("c"))).await?;
    let _ = writeln!(
        text,
        "\nA thousand Unix connections over which one message went each way, in one process with \
         both ends: {} KiB of resident memory for the two ends of one; {} microseconds of processor \
         time in a second for them all while nothing happens.",
        number::short(kib),
        number::short(idle),
    );
    text.push_str(
        "\nConnections that all send messages of 64 B at once, in one process on one thread: \
         thousand messages a second of all together.\n\n| mechanism | 1 | 10 | 100 | 1000 |\n\
         |---|---|---|---|---|\n",
    );
    for address in [
        format!("unix:{}", path("d")),
        "tcp://127.0.0.1:0".to_owned(),
    ] {
        let _ = write!(text, "| {} ", address.split(':').next().unwrap_or_default());
        for count in [1, 10, 100, MANY] {
            let rate = scaling(&address, count).await?;
            let _ = write!(text, "| {} ", number::short(rate / 1e3));
        }
        text.push_str("|\n");
    }
    Ok(text)
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

async fn fifos(path: &str) -> anyhow::Result<Spread> {
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

async fn connections(address: &str) -> anyhow::Result<Spread> {
    let mut listener = address.parse::<Endpoint>()?.bind().await?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = Instant::now();
        drop(pair(&mut listener).await?);
        times.push(micros(start));
    }
    timed(times)
}

/// Both ends of a new connection.
async fn pair(listener: &mut Listener) -> anyhow::Result<(Connection, Connection)> {
    let endpoint = listener.local_endpoint().clone();
    let (connected, accepted) = tokio::join!(endpoint.connect(), listener.accept());
    Ok((connected?, accepted.context("nobody came")??))
}

/// KiB of memory of a connection, and processor microseconds a second of them all at rest.
async fn idle(address: &str) -> anyhow::Result<(f64, f64)> {
    let mut listener = address.parse::<Endpoint>()?.bind().await?;
    let before = resident()?;
    let mut kept = Vec::new();
    for _ in 0..MANY {
        let (a, b) = pair(&mut listener).await?;
        let (mut a, mut b) = (a.into_frames(), b.into_frames());
        pass(&mut a.0, &mut b.1).await?;
        pass(&mut b.0, &mut a.1).await?;
        kept.push((a, b));
    }
    let kib = (resident()? - before) / MANY as f64;
    let usage = Usage::now()?;
    tokio::time::sleep(WHILE).await;
    let cpu = (Usage::now()? - usage).cpu_us;
    drop(kept);
    Ok((kib, cpu / WHILE.as_secs_f64()))
}

async fn pass(tx: &mut BoxFrameSink, rx: &mut BoxFrameStream) -> anyhow::Result<()> {
    tx.send(Bytes::from_static(&[1; 64])).await?;
    rx.next().await.context("it has ended")??;
    Ok(())
}

/// KiB of resident memory of this process.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"));
    let kib = line.and_then(|it| it.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse()?)
}

/// Messages a second over so many connections, all at once.
async fn scaling(address: &str, count: usize) -> anyhow::Result<f64> {
    let mut listener = address.parse::<Endpoint>()?.bind().await?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(pair(&mut listener).await?);
    }
    let body = Ring::new(64).get(0).bytes.clone();
    let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
    let start = Instant::now();
    for (a, b) in pairs {
        let ((mut tx, _), (_, mut rx)) = (a.into_frames(), b.into_frames());
        let body = body.clone();
        senders.spawn(async move {
            while start.elapsed() < WHILE {
                for _ in 0..64 {
                    tx.feed(body.clone()).await?;
                }
                // So that each has its turn: what is fed is sent with the next 64.
                tokio::task::yield_now().await;
            }
            tx.close().await
        });
        receivers.spawn(async move {
            let mut received = 0_u64;
            while let Some(frame) = rx.next().await {
                frame?;
                received += 1;
            }
            io::Result::Ok(received)
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    let mut messages = 0;
    while let Some(received) = receivers.join_next().await {
        messages += received??;
    }
    Ok(messages as f64 / start.elapsed().as_secs_f64())
}
