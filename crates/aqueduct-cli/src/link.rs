//! Opening two-way addresses from either side, and what follows from that.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::child::Child;
use aqueduct::connect::{Connection, Listener};
use tokio::time::{sleep, timeout};

use crate::config::LinkConfig;
use crate::exit::Failure;
use crate::report::Report;
use crate::signals::Signals;

const SIGPIPE: i32 = 13;

/// Which side of a two-way address to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Connect,
    Bind,
}

/// Binds, and says where others connect to if the address alone does not tell, as with port 0.
pub(crate) async fn bind(
    endpoint: &Endpoint,
    link: &LinkConfig,
    report: &Report,
) -> anyhow::Result<Listener> {
    let listener = link.options().bind(endpoint).await?;
    let local = listener.local_endpoint();
    if local != endpoint {
        report.note(format_args!("listening on {local}"));
    }
    Ok(listener)
}

/// Connects, or binds and takes the first one who connects.
pub(crate) async fn open(
    endpoint: &Endpoint,
    link: &LinkConfig,
    side: Side,
    report: &Report,
) -> anyhow::Result<Connection> {
    if side == Side::Connect {
        return Ok(link.options().connect(endpoint).await?);
    }
    let mut listener = bind(endpoint, link, report).await?;
    let accepted = match link.wait {
        None => listener.accept().await,
        Some(limit) => match timeout(limit, listener.accept()).await {
            Ok(accepted) => accepted,
            Err(_) => {
                let sentence = format!("{endpoint}: no client came within {limit:?}");
                return Err(Failure::timed_out(sentence));
            }
        },
    };
    match accepted {
        Some(connection) => Ok(connection?),
        None => anyhow::bail!("{endpoint}: no client can come any more"),
    }
}

/// Who is waited for.
pub(crate) fn awaited(endpoint: &Endpoint, side: Side) -> &'static str {
    match (endpoint, side) {
        (_, Side::Bind) => "a client of",
        (Endpoint::Fifo(_) | Endpoint::Mq(_), _) => "a reader of",
        _ => "a server at",
    }
}

/// Waits until a program of `exec:` has ended, or a signal comes; fails if the program did.
pub(crate) async fn ended_well(
    endpoint: &Endpoint,
    child: Option<Child>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let Some(mut child) = child else {
        return Ok(());
    };
    let status = tokio::select! {
        biased;
        status = child.wait() => status?,
        () = signals.recv() => return Ok(()),
    };
    // Of SIGPIPE it ends when no more of it is wanted.
    let well = status.success() || status.signal() == Some(SIGPIPE);
    anyhow::ensure!(well, "{endpoint} ended with {status}");
    Ok(())
}

/// Waits for as long as nothing may happen.
pub(crate) async fn expiry(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}
