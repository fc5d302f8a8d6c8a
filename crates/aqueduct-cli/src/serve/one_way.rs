//! A service that only takes: what its programs print is printed.

use std::io;
use std::time::Duration;

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::stdio::{self, Stdout};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep_until};

use super::{Jobs, begun, idle};
use crate::config::ServeConfig;
use crate::exit::Exit;
use crate::recv;
use crate::report::Report;
use crate::signals::Signals;

/// How long after a signal the rest of a message that was begun is waited for.
const GRACE: Duration = Duration::from_millis(500);

pub(super) async fn run(
    config: &ServeConfig,
    jobs: Jobs,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    let endpoint = lasting(&config.endpoint);
    let mut incoming = config.link.options().open_receiver(&endpoint).await?;
    begun(report, config, &config.endpoint);
    let mut stdout = stdio::stdout()?;
    // What they print comes in the order of the messages.
    let mut running = FuturesOrdered::new();
    let mut failure = None;
    let mut open = true;
    let mut stopped: Option<Instant> = None;
    while open || !running.is_empty() {
        let unfinished = async {
            match stopped {
                Some(since) => sleep_until(since + GRACE).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = signals.recv() => {
                anyhow::ensure!(stopped.is_none(), "stopped before all that came was done");
                stopped = Some(Instant::now());
                incoming.stop();
            }
            Some(output) = running.next(), if !running.is_empty() => {
                match write(&mut stdout, output).await {
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
                    result => result.context("cannot write to standard output")?,
                }
            }
            item = incoming.next(), if open && running.len() < config.jobs => match item {
                None => open = false,
                Some(Err(error)) => {
                    failure = Some(recv::broken(error, &config.endpoint));
                    open = false;
                }
                Some(Ok(message)) => {
                    let (jobs, body) = (jobs.clone(), message.into_body());
                    running.push_back(async move {
                        if jobs.runs() {
                            return jobs.output(body).await.0;
                        }
                        let line = jobs.answer(body).await.unwrap_or_default();
                        [&line[..], b"\n"].concat()
                    });
                }
            },
            () = stdout.closed() => return Ok(Exit::Done),
            () = unfinished, if open => {
                let n = incoming.unfinished();
                failure = (n > 0).then(|| anyhow::anyhow!(
                    "{n} bytes of an unfinished message were dropped when it was told to stop"
                ));
                open = false;
            }
            () = jobs.idle(config.link.timeout), if open && stopped.is_none() => {
                return Err(idle(config));
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Exit::Done),
    }
}

/// A service does not end with its first client, unless its address says so.
fn lasting(endpoint: &Endpoint) -> Endpoint {
    match endpoint {
        Endpoint::Fifo(fifo) if fifo.persist().is_none() => fifo.clone().with_persist(true).into(),
        _ => endpoint.clone(),
    }
}

async fn write(stdout: &mut Stdout, output: Vec<u8>) -> io::Result<()> {
    stdout.write_all(&output).await?;
    stdout.flush().await
}
