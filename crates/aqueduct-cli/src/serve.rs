//! `aqueduct serve`: answer each message with the output of a program.

mod connections;
mod facts;
mod group;
mod jobs;
mod load;
mod on_fail;
mod one_way;
mod prints;
mod reaper;
mod start;
mod two_way;

use std::time::Duration;

use aqueduct::endpoint::Direction;
use aqueduct::service::{self, CancellationToken, Stats};
use aqueduct::{Endpoint, OpenError, OpenErrorKind};
use futures_util::future::BoxFuture;
use tokio::time::timeout;

use self::jobs::Jobs;
use crate::cli::Per;
use crate::config::{ServeConfig, Side};
use crate::exit::{Exit, Failure};
use crate::report::{Report, count};
use crate::signals::Signals;

/// How long the clients of a stopped service may take to know of it.
const CLOSING: Duration = Duration::from_secs(10);

pub(crate) async fn run(config: ServeConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let jobs = Jobs::new(&config, report.clone()).await?;
    let served = tokio::select! {
        biased;
        served = serve(&config, &jobs, &mut signals, report) => served,
        () = reaper::reap() => Ok(Exit::Done),
    };
    match (served, jobs.finish().await) {
        (Err(error), Err(lost)) => anyhow::bail!("{error:#}; {lost}"),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Ok(exit), Ok(())) => Ok(exit),
    }
}

async fn serve(
    config: &ServeConfig,
    jobs: &Jobs,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    if config.per == Per::Connection {
        return connections::run(config, signals, report).await;
    }
    match config.endpoint.capabilities().direction {
        Direction::OneWay => one_way::run(config, jobs, signals, report).await,
        Direction::TwoWay => two_way::run(config, jobs, signals, report).await,
        _ => match two_way::run(config, jobs, signals, report).await {
            // Nothing has happened, and it was not taken over.
            Err(error) if is_one_way(&error) => one_way::run(config, jobs, signals, report).await,
            result => result,
        },
    }
}

fn is_one_way(error: &anyhow::Error) -> bool {
    let opening = error.downcast_ref().map(OpenError::kind);
    opening == Some(&OpenErrorKind::Unsupported)
}

/// Reports that the service listens, with its address if that differs from the requested one.
fn begun(report: &Report, config: &ServeConfig, local: &Endpoint) {
    match config.side {
        Side::Bind => report.note(format_args!("serving {local}")),
        Side::Connect => report.note(format_args!("connected to {local}")),
    }
}

/// A service for clients, until it is stopped.
struct Serving<Idle, Stop> {
    shutdown: CancellationToken,
    /// Waits until the clients of the dropped listener know that it is gone.
    closed: BoxFuture<'static, ()>,
    /// Waits until nothing has arrived for so long.
    idle: Idle,
    /// What a first signal also does.
    stop: Stop,
    /// What a second signal does not wait for.
    unfinished: &'static str,
    /// What was cut off at the end of the grace period, and how that is said.
    aborted: (&'static str, &'static str),
}

impl<Idle: AsyncFn(), Stop: Fn()> Serving<Idle, Stop> {
    async fn run(
        self,
        served: impl Future<Output = Result<Stats, service::Error>>,
        signals: &mut Signals,
        config: &ServeConfig,
    ) -> anyhow::Result<Exit> {
        let shutdown = self.shutdown;
        let served = async {
            let stats = served.await;
            // A server that does not answer must not hold it up.
            let _ = timeout(CLOSING, self.closed).await;
            stats
        };
        tokio::pin!(served);
        let mut idle_too_long = false;
        let stats = loop {
            tokio::select! {
                biased;
                stats = &mut served => break stats?,
                () = signals.recv() => {
                    if shutdown.is_cancelled() {
                        anyhow::bail!("stopped before {}", self.unfinished);
                    }
                    (self.stop)();
                    shutdown.cancel();
                }
                () = (self.idle)(), if !shutdown.is_cancelled() => {
                    idle_too_long = true;
                    shutdown.cancel();
                }
            }
        };
        let (what, how) = self.aborted;
        match stats.aborted {
            0 if idle_too_long => Err(idle(config)),
            0 if !shutdown.is_cancelled() => Ok(ended_by_itself(stats)),
            0 => Ok(Exit::Done),
            n => anyhow::bail!("{} {how} within 10 seconds", count(n, what)),
        }
    }
}

/// How a service ends that nobody stopped: it had one connection, and what went wrong with that was told.
fn ended_by_itself(stats: Stats) -> Exit {
    match stats.failed + stats.timed_out + stats.panicked {
        0 => Exit::Done,
        _ => Exit::Failed,
    }
}

fn idle(config: &ServeConfig) -> anyhow::Error {
    let limit = config.link.timeout.unwrap_or_default();
    let address = &config.endpoint;
    Failure::timed_out(format!("nothing arrived from {address} for {limit:?}"))
}
