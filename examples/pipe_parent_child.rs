//! A parent hands jobs to a child process and gets answers, as typed messages over two pipes.
//!
//! One terminal is enough: the example starts itself a second time as the child.
//!
//! ```text
//! cargo run --example pipe_parent_child
//! ```
//!
//! The child reads jobs on descriptor 3 and writes answers on descriptor 4, so that both keep their
//! standard streams. Ctrl-C ends it early: the parent stops sending, the child answers the jobs
//! that it has, and both exit.

use anyhow::{Context, Result, bail};
use aqueduct::child::{Command, StreamEnd};
use aqueduct::codec::Json;
use aqueduct::frame::Framing;
use aqueduct::{Channel, inherited};
use serde::{Deserialize, Serialize};

const JOBS: i32 = 3;
const ANSWERS: i32 = 4;

#[derive(Serialize, Deserialize, Debug)]
enum Job {
    Sum(Vec<i64>),
    Shout(String),
    Divide { what: i64, by: i64 },
}

#[derive(Serialize, Deserialize, Debug)]
enum Answer {
    Number(i64),
    Text(String),
    Refused { why: String },
}

#[tokio::main(flavor = "current_thread")]
#[allow(unsafe_code)]
async fn main() -> Result<()> {
    // SAFETY: nothing in this program has opened a descriptor that a child could inherit.
    unsafe { inherited::claim() };
    match std::env::args().nth(1).as_deref() {
        None => parent().await,
        Some("child") => child().await,
        Some(other) => bail!("unknown argument {other:?}: run it without any"),
    }
}

async fn parent() -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("child")
        .pipe_to_child(JOBS)
        .pipe_from_child(ANSWERS)
        .kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut worker: Channel<Job, Answer> = child.channel(JOBS, ANSWERS, Framing::length(), Json)?;

    let jobs = [
        Job::Sum((1..=10).collect()),
        Job::Shout(String::from("pipes\nkeep messages apart")),
        Job::Divide { what: 1, by: 0 },
    ];
    let talk = async {
        for job in jobs {
            println!("parent: {job:?}");
            worker.send(job).await?;
            let answer = worker.recv().await.context("the child has gone")??;
            println!("parent: the answer is {answer:?}");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        result = talk => result?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            println!("parent: interrupted, closing");
        }
    }

    // The child sees the end of its jobs; what it still says is read to the end.
    worker.close().await?;
    while let Some(answer) = worker.recv().await {
        println!("parent: a late answer, {:?}", answer?);
    }
    let status = child.wait().await?;
    let end = child.stream_end(ANSWERS);
    println!("parent: the child ended with {status}, its stream with {end:?}");
    if !status.success() || end != Some(StreamEnd::Eof) {
        bail!("the child did not finish in order");
    }
    Ok(())
}

async fn child() -> Result<()> {
    // Ctrl-C in a terminal reaches both processes. The parent decides when to stop: it closes the pipe.
    tokio::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });

    let mut parent: Channel<Answer, Job> =
        inherited::channel(ANSWERS, JOBS, Framing::length(), Json)?;
    while let Some(job) = parent.recv().await {
        let answer = match job? {
            Job::Sum(numbers) => Answer::Number(numbers.iter().sum()),
            Job::Shout(text) => Answer::Text(text.to_uppercase()),
            Job::Divide { what, by } => match what.checked_div(by) {
                Some(number) => Answer::Number(number),
                None => Answer::Refused {
                    why: format!("{what} cannot be divided by {by}"),
                },
            },
        };
        parent.send(answer).await?;
    }
    parent.close().await?;
    Ok(())
}
