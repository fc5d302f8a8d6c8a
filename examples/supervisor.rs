//! A supervisor: workers in separate processes, each with a typed channel, restarted when they die.
//!
//! ```text
//! terminal 1:  cargo run --example supervisor -- 3
//! terminal 2:  kill -9 PID        # one of those that terminal 1 shows
//! ```
//!
//! Each line typed in terminal 1 is a job for the next idle worker, which turns it upside down.
//! The line `crash` is a job that kills its worker. A job whose worker has died goes to the worker
//! that replaces it, [`ATTEMPTS`] times at most, so that a job cannot kill workers for ever. So a
//! job may run more than once.
//!
//! At the end of the input (Ctrl-D) all jobs are finished. Ctrl-C and SIGTERM finish the jobs in
//! hand and leave the rest. In both cases the workers see the end of their jobs and exit; one that
//! does not is killed. If the supervisor itself is killed, its workers see the same end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aqueduct::child::{Child, Command};
use aqueduct::codec::Postcard;
use aqueduct::frame::{FramedRead, Framing};
use aqueduct::service::{CancellationToken, shutdown_on_signal};
use aqueduct::{Channel, inherited, stdio};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The worker's descriptors, so that it keeps its standard streams.
const JOBS: i32 = 3;
const ANSWERS: i32 = 4;

/// How many workers a job may cost.
const ATTEMPTS: u32 = 3;
/// How long a worker may take for one job before it counts as dead.
const JOB_LIMIT: Duration = Duration::from_secs(30);
/// How long a worker may take to exit when there are no more jobs.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// The pause before a dead worker is replaced. It doubles each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A worker that has lived this long did not die of its start: the pauses begin anew.
const STEADY: Duration = Duration::from_secs(5);

#[derive(Serialize, Deserialize, Clone, Debug)]
struct Job {
    id: u64,
    text: String,
}

#[derive(Serialize, Deserialize, Debug)]
struct Answer {
    id: u64,
    text: String,
}

#[tokio::main(flavor = "current_thread")]
#[allow(unsafe_code)]
async fn main() -> Result<()> {
    // SAFETY: nothing in this program has opened a descriptor that a child could inherit.
    unsafe { inherited::claim() };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        None => supervise(3).await,
        Some("worker") => work().await,
        Some(workers) => supervise(workers.parse().context("how many workers?")?).await,
    }
}

async fn supervise(workers: usize) -> Result<()> {
    let (jobs, queue) = mpsc::channel(workers.max(1));
    let team = Team {
        queue: Arc::new(Mutex::new(queue)),
        stop: shutdown_on_signal()?,
    };
    let mut places = JoinSet::new();
    for number in 1..=workers {
        places.spawn(team.clone().keep(number));
    }

    let mut lines = FramedRead::new(stdio::stdin()?, Framing::lines());
    let read_jobs = async move {
        let mut id = 0;
        while let Some(line) = lines.next().await {
            id += 1;
            let text = String::from_utf8_lossy(&line?).into_owned();
            jobs.send(Job { id, text }).await.ok();
        }
        anyhow::Ok(())
    };
    tokio::select! {
        end = read_jobs => end?,
        () = team.stop.cancelled() => {}
    }
    // The queue has no sender any more, so it ends when it is empty.
    while let Some(ended) = places.join_next().await {
        ended?;
    }
    eprintln!("supervisor: all workers have ended");
    Ok(())
}

/// What all places share.
#[derive(Clone)]
struct Team {
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    stop: CancellationToken,
}

/// A job and how many workers have begun it.
struct InHand {
    job: Job,
    attempts: u32,
}

impl Team {
    /// Keeps one place filled with a living worker until there are no more jobs.
    async fn keep(self, number: usize) {
        let mut in_hand: Option<InHand> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let Err(why) = self.employ(number, &mut in_hand).await else {
                return;
            };
            eprintln!("worker {number}: {why:#}");
            if let Some(InHand { job, attempts }) = &in_hand
                && *attempts >= ATTEMPTS
            {
                eprintln!("job {}: gave up, it has cost {attempts} workers", job.id);
                in_hand = None;
            }
            if started.elapsed() >= STEADY {
                pause = FIRST_PAUSE;
            }
            eprintln!("worker {number}: starting another in {pause:?}");
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => {
                    if let Some(InHand { job, .. }) = in_hand {
                        eprintln!("job {}: not done", job.id);
                    }
                    return;
                }
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// One worker from its start to its end. It is an error if that comes before the jobs' end.
    async fn employ(&self, number: usize, in_hand: &mut Option<InHand>) -> Result<()> {
        let mut child = start()?;
        let pid = child.id().unwrap_or_default();
        eprintln!("worker {number}: started, process {pid}");
        let mut worker = child.channel(JOBS, ANSWERS, Framing::length(), Postcard)?;
        if let Err(why) = self.hand_out(&mut worker, in_hand).await {
            // It may have closed its pipe, or answered nonsense, and still be alive.
            let status = child.kill().await?;
            bail!("{why:#}; process {pid} ended with {status}");
        }
        worker.close().await?;
        match timeout(EXIT_LIMIT, child.wait()).await {
            Ok(status) => eprintln!("worker {number}: ended with {}", status?),
            Err(_) => eprintln!("worker {number}: killed, {}", child.kill().await?),
        }
        Ok(())
    }

    async fn hand_out(
        &self,
        worker: &mut Channel<Job, Answer>,
        in_hand: &mut Option<InHand>,
    ) -> Result<()> {
        loop {
            let InHand { job, attempts } = match in_hand {
                Some(left_over) => left_over,
                None => {
                    let job = tokio::select! {
                        biased;
                        () = self.stop.cancelled() => return Ok(()),
                        // An idle worker says nothing, so this is its end.
                        _ = worker.recv() => bail!("it has gone while idle"),
                        job = self.next_job() => job,
                    };
                    let Some(job) = job else { return Ok(()) };
                    in_hand.insert(InHand { job, attempts: 0 })
                }
            };
            *attempts += 1;
            worker.send(job.clone()).await?;
            let answer = timeout(JOB_LIMIT, worker.recv());
            let answer = answer.await.context("it takes too long")?;
            let answer = answer.context("it has gone with a job in hand")??;
            ensure!(answer.id == job.id, "it has answered another job");
            println!("{}", answer.text);
            *in_hand = None;
        }
    }

    async fn next_job(&self) -> Option<Job> {
        self.queue.lock().await.recv().await
    }
}

fn start() -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("worker")
        .pipe_to_child(JOBS)
        .pipe_from_child(ANSWERS)
        .kill_on_drop(true);
    // What is typed is for the supervisor.
    command.as_tokio_mut().stdin(std::process::Stdio::null());
    Ok(command.spawn()?)
}

async fn work() -> Result<()> {
    // Ctrl-C in a terminal reaches all processes. The supervisor decides when to stop.
    tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });

    let mut supervisor: Channel<Answer, Job> =
        inherited::channel(ANSWERS, JOBS, Framing::length(), Postcard)?;
    while let Some(job) = supervisor.recv().await {
        let Job { id, text } = job?;
        if text == "crash" {
            std::process::exit(70);
        }
        let text = text.chars().rev().collect();
        supervisor.send(Answer { id, text }).await?;
    }
    Ok(supervisor.close().await?)
}
