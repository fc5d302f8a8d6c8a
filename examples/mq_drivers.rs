//! What waiting for a POSIX message queue costs: blocking calls beside the two drivers.
//!
//! ```text
//! cargo run --release --example mq_drivers
//! ```
//!
//! Two processes, a queue of 10 messages of 64 bytes, current-thread runtimes; the three ways take
//! turns, and the medians of 7 rounds are printed, with the lowest and the highest. *Wake-up*: from
//! the send to a receiver that sleeps, one message a millisecond. *Processor time* is that of both
//! processes for each message, the sender's sleep included.

use std::hint::black_box;
use std::io;
use std::process::Command;
use std::time::Duration;

use aqueduct::mq::{Driver, OpenOptions, Queue};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 7;
const SIZE: usize = 64;
const WAKES: usize = 500;
const BACK_TO_BACK: usize = 100_000;
const WAYS: [&str; 3] = ["blocking calls", "AsyncFd", "Pool"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, way, count, name] = &arguments[..] {
        assert_eq!(role, "send");
        let count = count.parse()?;
        return Ok(send(way, name, count)?);
    }
    println!(
        "|  | wake-up, us | processor time, us | back to back, messages/s | processor time, us |"
    );
    println!("|---|---|---|---|---|");
    let mut rounds: Vec<Vec<[f64; 4]>> = vec![Vec::new(); WAYS.len()];
    for _ in 0..ROUNDS {
        for (way, rounds) in WAYS.iter().zip(&mut rounds) {
            let (wakes, _, wake_cpu) = measure(way, WAKES)?;
            let (_, seconds, cpu) = measure(way, BACK_TO_BACK)?;
            let rate = BACK_TO_BACK as f64 / seconds;
            rounds.push([median(wakes), wake_cpu, rate, cpu]);
        }
    }
    for (way, rounds) in WAYS.iter().zip(&rounds) {
        let cells: Vec<String> = (0..4)
            .map(|i| {
                let mut all: Vec<f64> = rounds.iter().map(|round| round[i]).collect();
                all.sort_by(f64::total_cmp);
                let (low, high) = (all[0], all[all.len() - 1]);
                let digits = usize::from(i != 2);
                let middle = median(all);
                format!("{middle:.digits$} [{low:.digits$}-{high:.digits$}]")
            })
            .collect();
        println!("| {way} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// Has a second process send `count` messages and receives them.
///
/// Gives the delay of each message and the processor time for each, in microseconds, and the
/// seconds that all took.
fn measure(way: &str, count: usize) -> Result<(Vec<f64>, f64, f64), Box<dyn std::error::Error>> {
    let name = format!("/aqueduct-drivers-{}", std::process::id());
    let mut options = options(way);
    options
        .create_new(true)
        .capacity(10)
        .max_message(SIZE)
        .unlink_on_drop(true);
    let queue = options.open(&name)?;
    let before = processor_time()?;
    let mut sender = Command::new(std::env::current_exe()?)
        .args(["send", way, &count.to_string(), &name])
        .spawn()?;
    let (delays, seconds) = receive(way, &name, &queue, count)?;
    if !sender.wait()?.success() {
        return Err("the sender failed".into());
    }
    let processor = processor_time()? - before;
    Ok((delays, seconds, processor * 1e6 / count as f64))
}

fn options(way: &str) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.driver(if way == "AsyncFd" {
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

fn receive(way: &str, name: &str, queue: &Queue, count: usize) -> io::Result<(Vec<f64>, f64)> {
    let mut delays = Vec::with_capacity(count);
    let mut started = 0.0;
    let mut take = |body: &[u8]| -> io::Result<()> {
        let sent = body.first_chunk().map_or(0, |it| u64::from_ne_bytes(*it));
        let now = now()?;
        if delays.is_empty() {
            started = now as f64;
        }
        delays.push((now - sent) as f64 / 1e3);
        Ok(())
    };
    if way == WAYS[0] {
        let queue = posixmq::OpenOptions::readonly().open(name)?;
        let mut body = [0; SIZE];
        for _ in 0..count {
            let (_, len) = queue.recv(&mut body)?;
            take(&body[..len])?;
        }
    } else {
        runtime()?.block_on(async {
            for _ in 0..count {
                take(&queue.recv().await?.body)?;
            }
            io::Result::Ok(())
        })?;
    }
    Ok((delays, (now()? as f64 - started) / 1e9))
}

fn send(way: &str, name: &str, count: usize) -> io::Result<()> {
    let pause = (count == WAKES).then_some(Duration::from_millis(1));
    let mut body = [0; SIZE];
    if way == WAYS[0] {
        let queue = posixmq::OpenOptions::writeonly().open(name)?;
        for _ in 0..count {
            pause.into_iter().for_each(std::thread::sleep);
            body[..8].copy_from_slice(&now()?.to_ne_bytes());
            queue.send(0, &body)?;
        }
        return Ok(());
    }
    let queue = options(way).open(name)?;
    runtime()?.block_on(async {
        for _ in 0..count {
            pause.into_iter().for_each(std::thread::sleep);
            body[..8].copy_from_slice(&now()?.to_ne_bytes());
            queue.send(0, black_box(&body)).await?;
        }
        Ok(())
    })
}

fn median(mut all: Vec<f64>) -> f64 {
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
