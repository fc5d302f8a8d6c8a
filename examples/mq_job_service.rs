//! A job queue: N workers on one POSIX message queue, and a shutdown that loses no job.
//!
//! ```text
//! terminal 1:  cargo run --example mq_job_service -- serve /jobs 4
//! terminal 2:  cargo run --example mq_job_service -- add /jobs "resize cat.png"
//!              cargo run --example mq_job_service -- add /jobs "page the operator" 9
//! ```
//!
//! Ctrl-C or SIGTERM ends the service: each worker finishes the job in its hands, and the jobs not
//! yet begun stay in the queue for the next start. `serve /jobs 4 --unlink` removes the queue
//! instead.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use aqueduct::mq::{Message, OpenOptions, Queue};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", name, workers] => serve(name, workers.parse()?, false).await,
        ["serve", name, workers, "--unlink"] => serve(name, workers.parse()?, true).await,
        ["add", name, job] => add(name, job, 0).await,
        ["add", name, job, priority] => add(name, job, priority.parse()?).await,
        _ => {
            bail!("usage: mq_job_service serve /NAME WORKERS [--unlink] | add /NAME JOB [PRIORITY]")
        }
    }
}

fn open(name: &str) -> anyhow::Result<Queue> {
    let mut options = OpenOptions::new();
    Ok(options
        .create(true)
        .capacity(10)
        .max_message(512)
        .open(name)?)
}

async fn add(name: &str, job: &str, priority: u32) -> anyhow::Result<()> {
    // The queue may be full for as long as the workers are busy.
    let sent = open(name)?
        .send_timeout(priority, job.as_bytes(), Duration::from_secs(5))
        .await;
    sent.context("the job was not added")
}

async fn serve(name: &str, workers: usize, unlink: bool) -> anyhow::Result<()> {
    let queue = Arc::new(open(name)?);
    println!(
        "{workers} workers; {} jobs waiting",
        queue.attributes()?.messages
    );
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for id in 0..workers {
        tasks.spawn(work(id, Arc::clone(&queue), stop.clone()));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
        // None of them ends by itself but for an error.
        Some(ended) = tasks.join_next() => ended??,
    }
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    println!(
        "stopped; {} jobs left in {name}",
        queue.attributes()?.messages
    );
    if unlink {
        queue.unlink()?;
    }
    Ok(())
}

async fn work(id: usize, queue: Arc<Queue>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        let job = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            // Dropped when the other branch is first: it has taken no job then.
            job = queue.recv() => job?,
        };
        run(id, &job).await;
    }
}

async fn run(id: usize, job: &Message) {
    let text = String::from_utf8_lossy(&job.body);
    println!("worker {id}: {text} (priority {})", job.priority);
    tokio::time::sleep(Duration::from_millis(500)).await;
}
