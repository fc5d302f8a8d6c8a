//! `aqueduct proxy`: a connection onward for each client, both ways.

mod silence;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::connect::{Connection, Listener, Message};
use aqueduct::record::Recorder;
use aqueduct::service::{self, CancellationToken};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::timeout;

use crate::config::{ClientsConfig, EndConfig, ProxyConfig, Side};
use crate::exit::{Exit, Failure};
use crate::link;
use crate::progress::Progress;
use crate::pump::{self, Way};
use crate::quantity::Wait;
use crate::report::{Report, count};
use crate::shortage;
use crate::signals::Signals;

use self::silence::Silence;

/// How many descriptors a client takes with its other side.
const WITH_A_SOCKET: usize = 2;
const WITH_A_PROGRAM: usize = 4;

pub(crate) async fn run(config: ProxyConfig, report: &Report) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let ProxyConfig { from, to, tee } = config;
    if !from.endpoint.capabilities().private && !to.endpoint.capabilities().private {
        shortage::raise_descriptors();
    }
    let recorder = match &tee {
        Some(file) => Some(Recorder::open(file).with_context(|| file.display().to_string())?),
        None => None,
    };
    let onward = match to.side {
        Side::Connect => Onward::Connects(to),
        Side::Bind => {
            let opening = link::bind(&to.endpoint, &to.link, report);
            let (endpoint, link) = (&to.endpoint, &to.link);
            let opened = link::opened(opening, endpoint, link, Side::Connect, &mut signals, report);
            let Some(listener) = opened.await? else {
                return Ok(Exit::Done);
            };
            Onward::Accepts(to, Box::new(tokio::sync::Mutex::new(listener)))
        }
    };
    let opening = clients(&from, onward.endpoint(), report);
    let (endpoint, link) = (&from.endpoint, &from.link);
    let opened = link::opened(opening, endpoint, link, Side::Connect, &mut signals, report);
    let Some(incoming) = opened.await? else {
        return Ok(Exit::Done);
    };
    signals
        .ready(format_args!("proxying {}", from.endpoint))
        .await;
    let shutdown = CancellationToken::new();
    // More would take each other's descriptors: none could be connected onward.
    let room = shortage::room(match onward.endpoint().capabilities().private {
        true => WITH_A_PROGRAM,
        false => WITH_A_SOCKET,
    });
    let proxy = Arc::new(Proxy {
        onward,
        room,
        connected: AtomicUsize::new(0),
        seen: Mutex::new(Seen {
            recorder,
            failed: None,
            broken: None,
            progress: Progress::new(report, false),
        }),
        shutdown: shutdown.clone(),
        report: report.clone(),
        clients: from.link.clients,
        silence: Silence::new(None, from.link.timeout),
    });
    let mut options = service::Options::new();
    options.max_connections(from.link.clients.connections.unwrap_or(room));
    let at_work = Arc::clone(&proxy);
    let serving = options.serve(incoming, shutdown.clone(), move |client, _| {
        let proxy = Arc::clone(&at_work);
        async move {
            proxy.enter();
            let served = proxy.connect(client).await;
            proxy.connected.fetch_sub(1, Ordering::Relaxed);
            served
        }
    });
    let mut serving = Box::pin(serving);
    let stats = loop {
        tokio::select! {
            biased;
            served = &mut serving => break served.map(Some)?,
            _ = proxy.silence.too_long() => break None,
            () = signals.recv() => {
                if shutdown.is_cancelled() {
                    anyhow::bail!("stopped before all connections had ended");
                }
                shutdown.cancel();
            }
        }
    };
    // Clients that are still connected have moved nothing.
    drop(serving);
    let mut seen = proxy.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let synced = seen.recorder.as_mut().map_or(Ok(()), Recorder::sync);
    if let (Some(error), Some(file)) = (seen.failed.take().or(synced.err()), tee) {
        return Err(error).with_context(|| format!("cannot record to {}", file.display()));
    }
    match stats.map(|it| it.aborted) {
        // Nobody stopped it: FROM is one connection.
        Some(0) if !shutdown.is_cancelled() => Ok(seen.broken.unwrap_or(Exit::Done)),
        Some(0) => Ok(Exit::Done),
        Some(n) => anyhow::bail!(
            "{} cut off: not ended within 10 seconds",
            count(n, "connection")
        ),
        None => {
            let limit = from.link.timeout.unwrap_or_default();
            let (from, to) = (&from.endpoint, proxy.onward.endpoint());
            let sentence = format!("nothing passed between {from} and {to} for {limit:?}");
            Err(Failure::timed_out(sentence))
        }
    }
}

/// The clients of FROM.
async fn clients(
    from: &EndConfig,
    to: &Endpoint,
    report: &Report,
) -> anyhow::Result<BoxStream<'static, io::Result<Connection>>> {
    if from.side == Side::Bind {
        let listener = from
            .link
            .options()
            .persist(true)
            .bind(&from.endpoint)
            .await?;
        let local = listener.local_endpoint();
        report.note(format_args!("proxying {local}"));
        warn(local, to, report);
        return Ok(listener.boxed());
    }
    let connection = link::open(&from.endpoint, &from.link, from.side, report).await?;
    report.note(format_args!("connected to {}", from.endpoint));
    Ok(stream::iter([Ok(connection)]).boxed())
}

/// Warns if FROM gives access to what TO protects.
fn warn(from: &Endpoint, to: &Endpoint, report: &Report) {
    let guarded =
        |it: &Endpoint| it.capabilities().private || it.scheme().options.contains(&"mode");
    if !guarded(from) && guarded(to) {
        report.note(format_args!(
            "every user who can connect to {from} can use {to} through it"
        ));
    }
}

/// The state that all clients share.
struct Proxy {
    onward: Onward,
    /// How many clients there are descriptors for.
    room: usize,
    connected: AtomicUsize,
    seen: Mutex<Seen>,
    shutdown: CancellationToken,
    report: Report,
    /// Limits on the silence of one client.
    clients: ClientsConfig,
    /// That of all clients together.
    silence: Silence,
}

/// Counts of what has passed.
struct Seen {
    recorder: Option<Recorder>,
    /// Why nothing more can be recorded.
    failed: Option<io::Error>,
    /// The exit code for the first connection that broke, if there is but one.
    broken: Option<Exit>,
    progress: Progress,
}

/// Where a client's other side comes from.
enum Onward {
    Connects(EndConfig),
    Accepts(EndConfig, Box<tokio::sync::Mutex<Listener>>),
}

impl Onward {
    fn endpoint(&self) -> &Endpoint {
        let (Self::Connects(to) | Self::Accepts(to, _)) = self;
        &to.endpoint
    }

    /// The other side of the next client.
    async fn open(&self) -> anyhow::Result<Connection> {
        match self {
            Self::Connects(to) => Ok(to.link.options().connect(&to.endpoint).await?),
            Self::Accepts(to, listener) => {
                let next = async { listener.lock().await.accept().await };
                let next = match to.link.wait {
                    Some(limit) => timeout(limit, next).await.with_context(|| {
                        format!("{}: no client connected within {limit:?}", to.endpoint)
                    })?,
                    None => next.await,
                };
                next.with_context(|| format!("{}: no more clients can connect", to.endpoint))?
                    .context("cannot accept")
            }
        }
    }
}

impl Proxy {
    /// Counts a client, and tells if it is the last that there is room for.
    fn enter(&self) {
        let connected = self.connected.fetch_add(1, Ordering::Relaxed) + 1;
        if connected == self.room {
            self.report.frequent_failure(format_args!(
                "{} connected, as many as there are descriptors for; others wait: raise the limit on \
                 open files (ulimit -n)",
                count(connected as u64, "client")
            ));
        }
    }

    /// Connects one client onward until both sides have ended.
    async fn connect(&self, client: Connection) -> io::Result<()> {
        let peer = client.peer().clone();
        let opened = tokio::select! {
            opened = self.onward.open() => opened,
            () = self.shutdown.cancelled() => Err(anyhow::anyhow!("stopped")),
        };
        let mut onward = match opened {
            Ok(onward) => onward,
            Err(error) => {
                if let Ok(client) = client.into_bytes() {
                    client.reset();
                }
                if !self.shutdown.is_cancelled() {
                    self.report
                        .frequent_failure(format_args!("{peer}: connection reset: {error:#}"));
                    self.broken(Exit::of(&error));
                }
                return Ok(());
            }
        };
        let (Onward::Connects(to) | Onward::Accepts(to, _)) = &self.onward;
        let ClientsConfig { first, idle, .. } = self.clients;
        let silence = Silence::new(first.and_then(Wait::limit), idle.and_then(Wait::limit));
        let seen = |way, bytes: &[u8]| {
            silence.broken(way);
            self.seen(way, bytes)
        };
        let over = silence.too_long();
        let program = onward.take_child();
        let passed = pump::pass(client, onward, &to.link.framing, seen, over).await;
        if let Err(error) = passed {
            self.report.frequent_failure(format_args!(
                "{peer}: connection to {} broke: {error}",
                to.endpoint
            ));
            self.broken(Exit::Failed);
        }
        if let Some(status) = link::last_words(program).await {
            let program = &to.endpoint;
            self.report
                .frequent_failure(format_args!("{peer}: {program} ended with {status}"));
            self.broken(Exit::Failed);
        }
        Ok(())
    }

    fn broken(&self, exit: Exit) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.broken.get_or_insert(exit);
    }

    /// Counts and records what passes.
    fn seen(&self, way: Way, bytes: &[u8]) -> io::Result<()> {
        self.silence.broken(way);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.progress.add(1, bytes.len());
        let Some(recorder) = &mut seen.recorder else {
            return Ok(());
        };
        let message = Message::new(bytes.to_vec()).with_priority(match way {
            Way::There => 0,
            Way::Back => 1,
        });
        if let Err(error) = recorder.record(&message) {
            let again = io::Error::other(format!("it cannot be recorded: {error}"));
            seen.failed.get_or_insert(error);
            self.shutdown.cancel();
            return Err(again);
        }
        Ok(())
    }
}
