//! `aqueduct serve`: answer each message with the output of a program.

mod connections;
mod facts;
mod group;
mod jobs;
mod on_fail;
mod one_way;
mod prints;
mod reaper;
mod start;
mod two_way;

use aqueduct::endpoint::Direction;
use aqueduct::service::Stats;
use aqueduct::{Endpoint, OpenError, OpenErrorKind};

use self::jobs::Jobs;
use crate::cli::Per;
use crate::config::{ServeConfig, Side};
use crate::exit::{Exit, Failure};
use crate::report::Report;
use crate::signals::Signals;

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
