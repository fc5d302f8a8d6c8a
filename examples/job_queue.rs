//! A job queue: a service with N workers takes shell commands from a message queue and runs them.
//!
//! ```text
//! cargo run --example job_queue -- serve /jobs --workers 2
//! cargo run --example job_queue -- submit /jobs 0 'sleep 5; echo slept'     # other terminals
//! cargo run --example job_queue -- submit /jobs 9 'echo urgent'
//! ```
//!
//! Either side may start first, and jobs wait in the system while no service runs. Ctrl-C or
//! SIGTERM stops the service in order: it finishes the jobs in hand, and all others stay in the
//! queue for the next start. A second signal ends it at once. The queue stays as well, unless
//! `--unlink` is given, which discards the jobs left in it.
//!
//! Two facts to know before building on this. A job that a worker has taken is no longer in the
//! queue: if the service is killed (SIGKILL, power), at most one job for each worker is lost. And
//! every process that may write to the queue can run commands as this user. So the queue is created
//! for its owner only (mode 0600), and a queue of another user or with a wider mode is refused.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use aqueduct::codec::{Decode, Encode, Json};
use aqueduct::mq::{OpenOptions, Queue};
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One message of the queue, as JSON.
#[derive(Serialize, Deserialize, Debug)]
struct Job {
    command: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match &args[..] {
        ["submit", name, priority, command] => {
            let priority = priority.parse().context("the priority is a number")?;
            let command = (*command).to_owned();
            submit(name, priority, &Job { command }).await
        }
        ["serve", name, flags @ ..] => {
            let (mut workers, mut unlink) = (2, false);
            let mut flags = flags.iter();
            while let Some(flag) = flags.next() {
                match *flag {
                    "--unlink" => unlink = true,
                    "--workers" => {
                        let number = flags.next().and_then(|it| it.parse().ok());
                        workers = number.context("--workers takes a number")?;
                    }
                    other => bail!("unknown flag {other}"),
                }
            }
            serve(name, workers, unlink).await
        }
        _ => bail!("usage: serve NAME [--workers N] [--unlink], or submit NAME PRIORITY COMMAND"),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .create(true)
        .strict(true)
        .capacity(10)
        .max_message(1024);
    options
}

async fn submit(name: &str, priority: u32, job: &Job) -> Result<()> {
    let queue = options().write(true).open(name)?;
    let mut body = BytesMut::new();
    Json.encode(job, &mut body)
        .map_err(anyhow::Error::from_boxed)?;
    // Waits while the queue is full. Ctrl-C then ends this with nothing sent.
    queue.send(priority, &body).await?;
    Ok(())
}

async fn serve(name: &str, workers: usize, unlink: bool) -> Result<()> {
    let queue = Arc::new(options().open(name)?);
    // Before there is any job that a signal could cut short.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    for worker in 1..=workers {
        running.spawn(work(worker, Arc::clone(&queue), stop.clone()));
    }
    println!("{workers} workers wait for jobs in {name}");

    let (mut done, mut failure) = (0, None);
    loop {
        tokio::select! {
            ended = running.join_next() => {
                match ended {
                    None => break,
                    Some(Ok(Ok(jobs))) => done += jobs,
                    // The others finish what they have.
                    Some(Ok(Err(error))) => failure = Some(error),
                    Some(Err(panic)) => failure = Some(panic.into()),
                }
                stop.cancel();
                continue;
            }
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if stop.is_cancelled() {
            bail!("stopped at once: the jobs in hand were killed");
        }
        println!("stopping: the jobs in hand are finished first");
        stop.cancel();
    }

    let left = queue.attributes()?.messages;
    println!("stopped: {done} jobs done, {left} left in {name}");
    if unlink {
        queue.unlink()?;
        println!("{name} is removed, and what was left in it");
    }
    failure.map_or(Ok(()), Err)
}

/// Takes jobs and runs them, one at a time, until it is told to stop between two of them. Returns
/// how many it has done.
async fn work(worker: usize, queue: Arc<Queue>, stop: CancellationToken) -> Result<u64> {
    let mut done = 0;
    loop {
        // Only waiting is ever cut short, and a wait that is dropped has taken no message.
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(done),
            message = queue.recv() => message?,
        };
        let job: Job = match Json.decode(message.into_body()) {
            Ok(job) => job,
            Err(error) => {
                eprintln!("worker {worker}: thrown away, it is no job: {error}");
                continue;
            }
        };
        println!("worker {worker}: begins {}", job.command);
        let status = Command::new("sh")
            .args(["-c", &job.command])
            .stdin(Stdio::null())
            // Ctrl-C in the terminal is for the service, which then lets the job finish.
            .process_group(0)
            .kill_on_drop(true)
            .status()
            .await;
        match status {
            Ok(status) => println!("worker {worker}: {status}, {}", job.command),
            Err(error) => eprintln!("worker {worker}: cannot run {}: {error}", job.command),
        }
        done += 1;
    }
}
