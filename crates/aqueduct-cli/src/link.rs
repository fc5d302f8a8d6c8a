//! Opens addresses from either side, and reports failures.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use aqueduct::child::Child;
use aqueduct::connect::{Connection, Listener, MessageReceiver, MessageSender, Reconnect};
use aqueduct::endpoint::{Awaited, Direction};
use aqueduct::{Endpoint, OpenError, OpenErrorKind};
use tokio::time::{sleep, timeout};

use crate::config::{Lasting, LinkConfig, Side};
use crate::exit::Failure;
use crate::look::Processes;
use crate::report::{Report, about};
use crate::signals::Signals;
use crate::terminal;

const SIGPIPE: i32 = 13;
/// How long a program that has ended its output has to say how it ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A wait longer than this is reported.
const PATIENCE: Duration = Duration::from_millis(200);

/// Binds, and reports the address to connect to if the given one does not tell it, as with port 0.
pub(crate) async fn bind(
    endpoint: &Endpoint,
    link: &LinkConfig,
    report: &Report,
) -> anyhow::Result<Listener> {
    // A socket path that is removed or replaced is bound again.
    let listener = link.options().persist(true).bind(endpoint).await?;
    let local = listener.local_endpoint();
    if local != endpoint {
        report.note(format_args!("listening on {local}"));
    }
    Ok(listener)
}

/// Connects, or binds and takes the first client.
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
                let sentence = format!("{}: no client connected within {limit:?}", about(endpoint));
                return Err(Failure::timed_out(sentence));
            }
        },
    };
    match accepted {
        Some(connection) => Ok(connection?),
        None => anyhow::bail!("{}: no more clients can connect", about(endpoint)),
    }
}

/// Opens the sending end.
pub(crate) async fn sender(
    endpoint: &Endpoint,
    link: &LinkConfig,
    side: Side,
    lasting: Lasting,
    report: &Report,
) -> anyhow::Result<MessageSender> {
    Ok(match (side, lasting) {
        (Side::Connect, _) => match terminal::sender(endpoint, link)? {
            Some(terminal) => terminal,
            None => {
                let mut options = link.options();
                let options = options.reconnect((lasting == Lasting::Yes).then(Reconnect::new));
                options.open_sender(endpoint).await?
            }
        },
        (Side::Bind, Lasting::Yes) => bind(endpoint, link, report).await?.into_sender(link.wait),
        (Side::Bind, Lasting::No) => open(endpoint, link, side, report).await?.into_sender(),
    })
}

/// Opens the receiving end: bound, that of all clients at the same time.
pub(crate) async fn receiver(
    endpoint: &Endpoint,
    link: &LinkConfig,
    side: Side,
    lasting: Lasting,
    report: &Report,
) -> anyhow::Result<MessageReceiver> {
    Ok(match (side, endpoint.capabilities().listens) {
        (Side::Connect, _) => {
            let mut options = link.options();
            let options = options.reconnect((lasting == Lasting::Yes).then(Reconnect::new));
            options.connect(endpoint).await?.into_receiver()
        }
        (Side::Bind, Some(true)) => bind(endpoint, link, report).await?.into_receiver(),
        (Side::Bind, _) => {
            let opened = link.options().open_receiver(endpoint).await;
            opened.map_err(|error| unopened(error, endpoint))?
        }
    })
}

/// Why there is no receiving end, with the process that reads the FIFO if that is why.
pub(crate) fn unopened(error: OpenError, endpoint: &Endpoint) -> anyhow::Error {
    read_by_another(&error, endpoint).unwrap_or_else(|| error.into())
}

/// What to say if another `aqueduct` is why a FIFO cannot be read.
pub(crate) fn read_by_another(error: &OpenError, endpoint: &Endpoint) -> Option<anyhow::Error> {
    let path = endpoint.path()?;
    let is_fifo = endpoint.capabilities().direction == Direction::OneWay;
    if error.kind() != &OpenErrorKind::InUse || !is_fifo {
        return None;
    }
    let metadata = std::fs::metadata(path).ok()?;
    let holders = Processes::look().of((metadata.dev(), metadata.ino()));
    let mut others = holders.iter().filter(|it| it.pid != std::process::id());
    let other = others.find(|it| it.reads && it.command == "aqueduct")?;
    Some(anyhow::anyhow!(
        "{endpoint} is read by another aqueduct (process {}), and each would get parts of the \
         messages: stop that one, or use a queue, which many may read",
        other.pid
    ))
}

/// Waits until an end is open, for as long as `--timeout` says, and says so once if that takes long.
/// `None`: a signal has come.
pub(crate) async fn opened<T>(
    opening: impl Future<Output = anyhow::Result<T>>,
    endpoint: &Endpoint,
    link: &LinkConfig,
    side: Side,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Option<T>> {
    tokio::pin!(opening);
    let patience = sleep(PATIENCE);
    tokio::pin!(patience);
    let expired = expiry(link.timeout);
    tokio::pin!(expired);
    let who = awaited(endpoint, side);
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            opened = &mut opening => return opened.map(Some),
            () = signals.recv() => return Ok(None),
            () = &mut patience, if !told => {
                told = true;
                report.note(format_args!("waiting for {who} {endpoint}"));
            }
            () = &mut expired => {
                let limit = link.timeout.unwrap_or_default();
                let sentence = format!("no data moved for {limit:?}: still waiting for {who} {endpoint}");
                return Err(Failure::timed_out(sentence));
            }
        }
    }
}

/// The awaited peer.
fn awaited(endpoint: &Endpoint, side: Side) -> &'static str {
    match (side, endpoint.capabilities().awaits) {
        (Side::Bind, _) => "a client of",
        (Side::Connect, Awaited::Server) => "a server at",
        (Side::Connect, _) => "a reader of",
    }
}

/// Waits until a program of `exec:` has ended, for as long as `limit` says, or a signal comes; fails
/// if the program did.
pub(crate) async fn ended_well(
    endpoint: &Endpoint,
    child: Option<Child>,
    limit: Option<Duration>,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let Some(mut child) = child else {
        return Ok(());
    };
    let status = tokio::select! {
        biased;
        status = child.wait() => status?,
        () = signals.recv() => return Ok(()),
        () = expiry(limit) => {
            let limit = limit.unwrap_or_default();
            let sentence = format!("{endpoint} did not end within {limit:?}");
            return Err(Failure::timed_out(sentence));
        }
    };
    anyhow::ensure!(is_well(status), "{endpoint} ended with {status}");
    Ok(())
}

/// How a program of `exec:` that has ended its output has failed, if it has. One that goes on is left
/// alone.
pub(crate) async fn last_words(child: Option<Child>) -> Option<ExitStatus> {
    let status = timeout(LAST_WORDS, child?.wait()).await.ok()?;
    status.ok().filter(|it| !is_well(*it))
}

/// Whether a program did not fail. SIGPIPE ends it when no more of its output is wanted.
pub(crate) fn is_well(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(SIGPIPE)
}

/// Waits for the time limit on inactivity.
pub(crate) async fn expiry(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}
