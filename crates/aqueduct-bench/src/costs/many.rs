//! Many connections at once, many writers at once, and the price of latency mode.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Context;
use aqueduct::frame::{BoxFrameSink, BoxFrameStream};
use aqueduct_measure::stats::Spread;
use aqueduct_measure::{Case, Placement, Ring, Runner, Work, implementations, runner};
use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use runner::Order;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{
    BELLS, CALLS, Figure, PRICE, SHARE, TIMES_AS_MUCH, Table, WITHOUT, bind, directory, pair,
};

const CONNECTIONS: &str = "Connections that all send messages of 64 B at once, in one process on one \
                           thread: all together";
const WRITERS: &str = "Processes that all send messages of 64 B at once: what one receiver gets";
const WORKERS: &str =
    "Processes that all receive from one queue: what one sender of messages of 64 B sends";
const RATE: &str = "thousand messages/s";

/// How many of each.
const COUNTS: [usize; 4] = [1, 10, 100, 1000];
const PROCESSES: [u64; 4] = [1, 2, 10, 100];

/// Blocking calls first.
const QUEUES: &[&str] = &["raw/mq", "aqueduct/mq/pool", "aqueduct/mq/asyncfd"];
const FIFOS: &[&str] = &["raw/fifo/shared", "aqueduct/fifo/shared"];

/// Cases with and without latency mode.
const PRICED: [(&str, &str); 5] = [
    ("pipe", "aqueduct/pipe/feed"),
    ("unix", "aqueduct/unix/feed"),
    ("tcp", "aqueduct/tcp/feed"),
    ("shm", "aqueduct/shm/feed"),
    ("mq", "aqueduct/mq/asyncfd"),
];
const PACE: Duration = Duration::from_millis(2);

/// Pairs that are busy, and the size of their messages.
const BUSY: [(&str, &str, usize); 2] = [
    ("shm, 64 B", "aqueduct/shm/send", 64),
    ("shm, 1 KiB", "aqueduct/shm/send", 1024),
];

pub(super) async fn measure(table: &mut Table, runner: &mut Runner, quick: bool) {
    let repetitions = if quick { 1 } else { 5 };
    let time = Duration::from_millis(if quick { 100 } else { 700 });
    for mechanism in ["unix", "tcp"] {
        if !table.wants(mechanism) {
            continue;
        }
        let (mut tokio, mut ours) = (Vec::new(), Vec::new());
        for count in COUNTS {
            let (mut theirs, mut rates) = (Vec::new(), Vec::new());
            for _ in 0..repetitions {
                let framed = framed(mechanism, count).await;
                theirs.push(all_at_once(framed, time).await);
                rates.push(all_at_once(connected(mechanism, count).await, time).await);
            }
            tokio.push(rate(count, theirs));
            ours.push(rate(count, rates));
        }
        let name = format!("{mechanism}, tokio-util");
        table.add(CONNECTIONS, &name, tokio.into_iter().collect());
        table.add(CONNECTIONS, mechanism, ours.into_iter().collect());
    }
    for names in [FIFOS, QUEUES] {
        if !names.iter().any(|it| table.wants(it)) {
            continue;
        }
        beside(table, runner, (WRITERS, names), repetitions, |count| {
            let mut order = Order::new(Work::OneWay, 64, Placement::Free);
            (order.senders, order.run) = (count, time);
            order
        })
        .await;
    }
    if QUEUES.iter().any(|it| table.wants(it)) {
        beside(table, runner, (WORKERS, QUEUES), repetitions, |count| {
            let mut order = Order::new(Work::OneWay, 64, Placement::Free);
            (order.receivers, order.run) = (count, time);
            order
        })
        .await;
    }
    for (row, case, size) in BUSY {
        if table.wants(row) {
            let mut order = Order::new(Work::OneWay, size, Placement::OneCpu);
            order.run = time;
            let calls = calls(runner, case, repetitions, &order).await;
            table.add(BELLS, row, calls);
        }
    }
    for (mechanism, name) in PRICED {
        if !table.wants(mechanism) {
            continue;
        }
        let (repetitions, time) = if quick { (2, 200) } else { (5, 1000) };
        let time = Duration::from_millis(time);
        let figures = price(runner, name, repetitions, time).await;
        table.add(PRICE, mechanism, figures);
    }
}

/// Each case for each number of processes, in turn with blocking calls, and how many times as many
/// messages as by those.
async fn beside(
    table: &mut Table,
    runner: &mut Runner,
    (title, names): (&str, &[&str]),
    repetitions: usize,
    order: impl Fn(u64) -> Order,
) {
    let mut rows: Vec<Vec<anyhow::Result<Figure>>> = names.iter().map(|_| Vec::new()).collect();
    let mut shares: Vec<Vec<anyhow::Result<Figure>>> = names.iter().map(|_| Vec::new()).collect();
    for count in PROCESSES {
        let mut rates: Vec<Vec<anyhow::Result<f64>>> = names.iter().map(|_| Vec::new()).collect();
        for _ in 0..repetitions {
            for (name, rates) in names.iter().zip(&mut rates) {
                let sample = sample(runner, name, &order(count)).await;
                rates.push(sample.map(|it| it.rate));
            }
        }
        let of_raw = |ours: &[anyhow::Result<f64>]| {
            let pairs = ours.iter().zip(&rates[0]);
            let ratios =
                pairs.filter_map(|(ours, raw)| Some(ours.as_ref().ok()? / raw.as_ref().ok()?));
            Spread::of(ratios).context("nothing was measured")
        };
        for (row, ours) in shares.iter_mut().zip(&rates) {
            row.push(of_raw(ours).map(|it| (count.to_string(), "", it)));
        }
        for (row, rates) in rows.iter_mut().zip(rates) {
            row.push(rate(count as usize, rates));
        }
    }
    for (name, row) in names.iter().zip(rows) {
        table.add(title, name, row.into_iter().collect());
    }
    for (name, row) in names.iter().zip(shares).skip(1) {
        table.add(&format!("{title}{SHARE}"), name, row.into_iter().collect());
    }
}

fn rate(count: usize, rates: Vec<anyhow::Result<f64>>) -> anyhow::Result<Figure> {
    let rates = rates.into_iter().collect::<anyhow::Result<Vec<f64>>>();
    let rates = rates.with_context(|| format!("{count} of them"))?;
    let spread = Spread::of(rates.into_iter().map(|it| it / 1e3));
    Ok((
        count.to_string(),
        RATE,
        spread.context("nothing was measured")?,
    ))
}

async fn sample(
    runner: &mut Runner,
    name: &str,
    order: &Order,
) -> anyhow::Result<aqueduct_measure::Sample> {
    let cases: Vec<Case> = implementations::all();
    let case = cases.iter().find(|it| it.name == name);
    runner.sample(case.context("no such case")?, order).await
}

/// Calls of write(2) in a thousand messages.
async fn calls(
    runner: &mut Runner,
    case: &str,
    repetitions: usize,
    order: &Order,
) -> anyhow::Result<Vec<Figure>> {
    let mut calls = Vec::new();
    for _ in 0..repetitions {
        calls.push(sample(runner, case, order).await?.writes * 1e3);
    }
    let calls = Spread::of(calls).context("nothing was measured")?;
    Ok(vec![(CALLS.to_owned(), "", calls)])
}

/// The receiver's processor time for a message, without latency mode and in it, in turn.
async fn price(
    runner: &mut Runner,
    name: &str,
    repetitions: usize,
    time: Duration,
) -> anyhow::Result<Vec<Figure>> {
    // Left to the scheduler, samples differ twofold, since waking a process on another processor costs more.
    let mut order = Order::new(Work::OneWay, 64, Placement::Apart);
    // A warm-up in which latency mode finds out how long waits are.
    (order.warm_up, order.run, order.pace) = (time / 2, time, PACE);
    let latency = format!("{name}/latency");
    let (mut plain, mut polled) = (Vec::new(), Vec::new());
    for _ in 0..repetitions {
        plain.push(sample(runner, name, &order).await?.cpu_second_us);
        polled.push(sample(runner, &latency, &order).await?.cpu_second_us);
    }
    let ratio = polled
        .iter()
        .zip(&plain)
        .map(|(polled, plain)| polled / plain);
    let of = |values: Vec<f64>| Spread::of(values).context("nothing was measured");
    Ok(vec![
        (TIMES_AS_MUCH.to_owned(), "", of(ratio.collect())?),
        (WITHOUT.to_owned(), "us/message", of(plain)?),
        ("in latency mode".to_owned(), "us/message", of(polled)?),
    ])
}

/// The sending end of a connection, and the receiving one.
type Pair = (BoxFrameSink, BoxFrameStream);

async fn connected(mechanism: &str, count: usize) -> anyhow::Result<Vec<Pair>> {
    let dir = directory()?;
    let mut listener = bind(mechanism, &dir).await?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let (a, b) = pair(&mut listener).await?;
        let ((tx, _), (_, rx)) = (a.into_frames(), b.into_frames());
        pairs.push((tx, rx));
    }
    Ok(pairs)
}

/// The same with Tokio's sockets and tokio-util's `Framed`.
async fn framed(mechanism: &str, count: usize) -> anyhow::Result<Vec<Pair>> {
    fn of(a: impl Io, b: impl Io) -> Pair {
        let (a, b) = (
            Framed::new(a, LengthDelimitedCodec::new()),
            Framed::new(b, LengthDelimitedCodec::new()),
        );
        (Box::pin(a), Box::pin(b.map_ok(BytesMut::freeze)))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(match mechanism {
            "tcp" => {
                let connecting = TcpStream::connect(listener.local_addr()?);
                let (a, b) = tokio::try_join!(connecting, listener.accept())?;
                a.set_nodelay(true)?;
                of(a, b.0)
            }
            _ => {
                let (a, b) = UnixStream::pair()?;
                of(a, b)
            }
        });
    }
    Ok(pairs)
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Messages a second over all of these connections.
async fn all_at_once(pairs: anyhow::Result<Vec<Pair>>, time: Duration) -> anyhow::Result<f64> {
    let pairs = pairs?;
    let body = Ring::new(64).get(0).bytes.clone();
    let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
    let start = Instant::now();
    for (mut tx, mut rx) in pairs {
        let body = body.clone();
        senders.spawn(async move {
            while start.elapsed() < time {
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
