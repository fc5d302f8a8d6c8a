//! The cost of a POSIX message queue: blocking calls, the two drivers, and polling.
//!
//! ```text
//! cargo run --release --example mq_drivers               # all; two minutes
//! cargo run --release --example mq_drivers -- one-way    # what has this in its name
//! ```
//!
//! Messages of 64 KiB need a higher limit than the default of Linux. To set one for this program
//! only, as root: `unshare -i sh -c 'echo 65536 > /proc/sys/fs/mqueue/msgsize_max; cargo run ...'`.
//!
//! Two processes, a queue of 10 messages (two for a round trip), current-thread runtimes. The
//! variants take turns. It prints the medians of the rounds, with the lowest and the highest, and
//! the processor time of both processes for each message or round trip.
//!
//! - *one way*: both sides as fast as they can, in messages a second.
//! - *round trip*: a message there, its answer back, in microseconds; on one processor (the cost in
//!   software) and free (where most of it is waking an idle processor).
//! - *wake-up*: from the send to a receiver that sleeps, one message a millisecond.

use std::hint::black_box;
use std::io;
use std::process::{Child, Command};
use std::time::Duration;

use aqueduct::mq::{Driver, OpenOptions, Queue};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

const ROUNDS: usize = 7;
const WAYS: [&str; 3] = ["blocking calls", "AsyncFd", "Pool"];

/// What is done, with messages of what size, and how often.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    OneWay,
    Apart,
    OneCpu,
    RoundTrip,
    WakeUp,
}

const WORKS: [(&str, Work, usize, usize); 8] = [
    ("one-way 64 B", Work::OneWay, 64, 200_000),
    ("one-way 1 KiB", Work::OneWay, 1024, 100_000),
    ("one-way 8 KiB", Work::OneWay, 8192, 50_000),
    ("one-way 64 KiB", Work::OneWay, 65_536, 20_000),
    ("one-way 64 B, a processor each", Work::Apart, 64, 100_000),
    ("round-trip 64 B, one processor", Work::OneCpu, 64, 10_000),
    ("round-trip 64 B", Work::RoundTrip, 64, 10_000),
    ("wake-up 64 B", Work::WakeUp, 64, 500),
];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, way, work, name] = &arguments[..] {
        assert_eq!(role, "peer");
        return Ok(peer(way, work.parse()?, name)?);
    }
    let wanted = |name: &str| arguments.iter().all(|it| name.contains(it.as_str()));
    println!("| work | way | | processor time, us |");
    println!("|---|---|---|---|");
    for (i, (name, work, size, count)) in WORKS.into_iter().enumerate() {
        if !wanted(name) {
            continue;
        }
        let mut rounds: Vec<Vec<[f64; 2]>> = vec![Vec::new(); WAYS.len()];
        'rounds: for _ in 0..ROUNDS {
            for (way, rounds) in WAYS.iter().zip(&mut rounds) {
                match measure(way, i) {
                    Err(error) if size > 8192 => {
                        println!("| {name} | not measured: {error} |");
                        break 'rounds;
                    }
                    measured => rounds.push(measured?),
                }
            }
        }
        let (unit, digits) = match work {
            Work::OneWay | Work::Apart => ("messages/s", 0),
            _ => ("us", 1),
        };
        for (way, rounds) in WAYS.iter().zip(&rounds).filter(|it| !it.1.is_empty()) {
            let cell = |i: usize, digits: usize| {
                let mut all: Vec<f64> = rounds.iter().map(|round| round[i]).collect();
                let middle = median(&mut all);
                let (low, high) = (all[0], all[all.len() - 1]);
                format!("{middle:.digits$} [{low:.digits$}-{high:.digits$}]")
            };
            let (result, processor) = (cell(0, digits), cell(1, 1));
            println!("| {name}, {count} | {way} | {result} {unit} | {processor} |");
        }
    }
    Ok(())
}

/// Does one work with a second process; gives its result and the processor time for each message.
fn measure(way: &str, index: usize) -> Result<[f64; 2]> {
    let (_, work, size, count) = WORKS[index];
    let name = format!("/aqueduct-drivers-{}", std::process::id());
    let mut options = options(way);
    let capacity = match work {
        Work::OneCpu | Work::RoundTrip => 2,
        _ => 10,
    };
    options
        .create_new(true)
        .capacity(capacity)
        .max_message(size)
        .unlink_on_drop(true);
    let queue = options.open(&name)?;
    if !matches!(work, Work::OneCpu | Work::RoundTrip) {
        // Not used: no more than it must be of what the user's queues may cost.
        options.capacity(1).max_message(1);
    }
    let back = options.open(format!("{name}-back"))?;
    let before = processor_time()?;
    if matches!(work, Work::OneCpu | Work::Apart) {
        pin(0)?;
    }
    let peer = Command::new(std::env::current_exe()?)
        .args(["peer", way, &index.to_string(), &name])
        .spawn()?;
    let mut peer = Peer(peer);
    let result = match work {
        Work::OneWay | Work::Apart => {
            count as f64 / take(way, &name, &queue, count, size, |_| Ok(()))?
        }
        Work::WakeUp => {
            let mut delays = Vec::new();
            take(way, &name, &queue, count, size, |body| {
                let sent = body.first_chunk().map_or(0, |it| u64::from_ne_bytes(*it));
                delays.push((now()? - sent) as f64 / 1e3);
                Ok(())
            })?;
            median(&mut delays)
        }
        Work::OneCpu | Work::RoundTrip => {
            let mut trips = ask(way, &name, &queue, &back, count, size)?;
            median(&mut trips)
        }
    };
    if !peer.0.wait()?.success() {
        return Err("the peer failed".into());
    }
    if matches!(work, Work::OneCpu | Work::Apart) {
        let mut all = CpuSet::new();
        (0..CpuSet::count()).try_for_each(|cpu| all.set(cpu))?;
        sched_setaffinity(Pid::from_raw(0), &all)?;
    }
    let processor = processor_time()? - before;
    Ok([result, processor * 1e6 / count as f64])
}

fn options(way: &str) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.driver(if way.starts_with("AsyncFd") {
        Driver::AsyncFd
    } else {
        Driver::Pool
    });
    options
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Receives `count` messages and gives the seconds from the first to the last.
fn take(
    way: &str,
    name: &str,
    queue: &Queue,
    count: usize,
    size: usize,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<f64> {
    let mut started = 0;
    let mut each = |i: usize, body: &[u8]| {
        if i == 0 {
            started = now()?;
        }
        each(black_box(body))
    };
    if way == WAYS[0] {
        let queue = posixmq::OpenOptions::readonly().open(name)?;
        let mut body = vec![0; size];
        for i in 0..count {
            let (_, len) = queue.recv(&mut body)?;
            each(i, &body[..len])?;
        }
    } else {
        runtime()?.block_on(async {
            for i in 0..count {
                each(i, queue.recv().await?.body())?;
            }
            io::Result::Ok(())
        })?;
    }
    Ok((now()? - started) as f64 / 1e9)
}

/// Sends and waits for the answer, `count` times; gives the time of each, in microseconds.
fn ask(
    way: &str,
    name: &str,
    queue: &Queue,
    back: &Queue,
    count: usize,
    size: usize,
) -> io::Result<Vec<f64>> {
    let mut trips = Vec::with_capacity(count);
    let mut body = vec![0; size];
    if way == WAYS[0] {
        let queue = posixmq::OpenOptions::writeonly().open(name)?;
        let back = posixmq::OpenOptions::readonly().open(&format!("{name}-back"))?;
        for _ in 0..count {
            let started = now()?;
            queue.send(0, &body)?;
            back.recv(&mut body)?;
            trips.push((now()? - started) as f64 / 1e3);
        }
    } else {
        runtime()?.block_on(async {
            for _ in 0..count {
                let started = now()?;
                queue.send(0, &body).await?;
                back.recv().await?;
                trips.push((now()? - started) as f64 / 1e3);
            }
            io::Result::Ok(())
        })?;
    }
    Ok(trips)
}

/// The other process: sends, or answers.
fn peer(way: &str, index: usize, name: &str) -> io::Result<()> {
    let (_, work, size, count) = WORKS[index];
    let back = format!("{name}-back");
    let mut body = vec![0; size];
    if work == Work::Apart {
        pin(1)?;
    }
    let answers = work == Work::OneCpu || work == Work::RoundTrip;
    let pause = (work == Work::WakeUp).then_some(Duration::from_millis(1));
    if way == WAYS[0] {
        if answers {
            let queue = posixmq::OpenOptions::readonly().open(name)?;
            let back = posixmq::OpenOptions::writeonly().open(&back)?;
            for _ in 0..count {
                queue.recv(&mut body)?;
                back.send(0, &body)?;
            }
            return Ok(());
        }
        let queue = posixmq::OpenOptions::writeonly().open(name)?;
        for _ in 0..count {
            pause.into_iter().for_each(std::thread::sleep);
            body[..8].copy_from_slice(&now()?.to_ne_bytes());
            queue.send(0, &body)?;
        }
        return Ok(());
    }
    let queue = options(way).open(name)?;
    let back = options(way).open(back)?;
    runtime()?.block_on(async {
        for _ in 0..count {
            if answers {
                let message = queue.recv().await?;
                back.send(0, message.body()).await?;
            } else {
                pause.into_iter().for_each(std::thread::sleep);
                body[..8].copy_from_slice(&now()?.to_ne_bytes());
                queue.send(0, &body).await?;
            }
        }
        Ok(())
    })
}

fn pin(cpu: usize) -> nix::Result<()> {
    let mut one = CpuSet::new();
    one.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &one)
}

/// Killed and reaped when it is dropped.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Nanoseconds on the clock that all processes share.
fn now() -> io::Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// Seconds of processor time of this process and of its children that have ended.
fn processor_time() -> io::Result<f64> {
    let mut sum = 0.0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            sum += time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        }
    }
    Ok(sum)
}
