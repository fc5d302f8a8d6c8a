//! A connection for each request: opened, served once, and closed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream as Client;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use aqueduct::codec::Raw;
use aqueduct::service::{self, CancellationToken, Context};
use aqueduct::{Channel, Endpoint};
use aqueduct_measure::Placement;
use aqueduct_measure::stats::Spread;
use aqueduct_measure::usage::allow_descriptors;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{Figure, Table, descriptors, directory, micros, resident};

const REQUESTS: &str = "A connection for each request of 64 B and its reply of 64 B, over a Unix socket on \
                        one processor, from a client of blocking calls";

/// The column of ratios to Tokio.
pub(crate) const TIMES_TOKIO: &str = "times as long as with Tokio";
pub(crate) const CHANNEL: &str = "a listener and a channel";
pub(crate) const SERVE: &str = "`serve` with `respond`";

/// Tokio first.
const SERVERS: [Server; 3] = [Server::Tokio, Server::Channel, Server::Serve];
/// Requests of a repetition.
const EACH: usize = 5_000;
/// Connections that are open at once before each is served and closed, if a process may have that
/// many descriptors.
const AT_ONCE: usize = 10_000;

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub(crate) enum Server {
    /// Tokio's listener, and tokio-util's `Framed` in a task for each connection.
    Tokio,
    /// A listener, and a channel in a task for each connection.
    Channel,
    /// `serve` with `respond`.
    Serve,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Channel => "channel",
            Self::Serve => "serve",
        }
    }

    fn row(self) -> &'static str {
        match self {
            Self::Tokio => "tokio, `Framed`",
            Self::Channel => CHANNEL,
            Self::Serve => SERVE,
        }
    }
}

/// All servers in turn, each time in a process of its own.
pub(super) fn measure(table: &mut Table, quick: bool) {
    if !SERVERS.iter().any(|it| table.wants(it.row())) {
        return;
    }
    let repetitions = if quick { 1 } else { 5 };
    let mut all: [Vec<anyhow::Result<Served>>; 3] = Default::default();
    for _ in 0..repetitions {
        for (server, served) in SERVERS.iter().zip(&mut all) {
            served.push(apart(*server));
        }
    }
    let of = |figures: &[anyhow::Result<Served>], one: fn(&Served) -> f64| {
        let measured = figures.iter().filter_map(|it| it.as_ref().ok());
        Spread::of(measured.map(one)).context("nothing was measured")
    };
    for (server, ours) in SERVERS.iter().zip(&all) {
        let ratios = ours.iter().zip(&all[0]).filter_map(|(ours, theirs)| {
            Some(ours.as_ref().ok()?.each_us / theirs.as_ref().ok()?.each_us)
        });
        let figure = |column: &str, unit, value: anyhow::Result<Spread>| {
            value.map(|it| -> Figure { (column.to_owned(), unit, it) })
        };
        let figures = [
            figure("one", "us", of(ours, |it| it.each_us)),
            figure(
                TIMES_TOKIO,
                "",
                Spread::of(ratios).context("nothing was measured"),
            ),
            figure("connections at once", "", of(ours, |it| it.at_once)),
            figure(
                "memory that is left by them",
                "KiB",
                of(ours, |it| it.left_kib),
            ),
        ];
        table.add(REQUESTS, server.row(), figures.into_iter().collect());
        if let Some(Err(error)) = ours.iter().find(|it| it.is_err()) {
            table.miss(REQUESTS, server.row(), error);
        }
    }
}

fn apart(server: Server) -> anyhow::Result<Served> {
    let mut process = std::process::Command::new(std::env::current_exe()?);
    let output = process.args(["requests", server.name()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{}",
        said.lines().last().unwrap_or_default()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the process prints that [`apart`] starts.
#[derive(Serialize, Deserialize)]
pub(crate) struct Served {
    /// How long a request takes, with opening and closing its connection.
    each_us: f64,
    at_once: f64,
    /// By how much the process is larger than before those connections.
    left_kib: f64,
}

pub(crate) async fn serve(server: Server, requests: Option<usize>) -> anyhow::Result<Served> {
    Placement::OneCpu.apply(false)?;
    let allowed = allow_descriptors()?;
    // Both ends are in this process; some descriptors are for the rest.
    let at_once = AT_ONCE.min(usize::try_from(allowed)?.saturating_sub(100) / 2);
    let dir = directory()?;
    let path = dir.path().join("server");
    let serving = match server {
        Server::Tokio => tokio(&path)?,
        Server::Channel => channel(&path).await?,
        Server::Serve => responding(&path).await?,
    };
    let client = tokio::task::spawn_blocking(move || ask(&path, requests, at_once));
    let served = client.await??;
    serving.abort();
    Ok(served)
}

fn ask(path: &PathBuf, requests: Option<usize>, at_once: usize) -> anyhow::Result<Served> {
    let open = descriptors()?;
    let several = |times| -> anyhow::Result<f64> {
        let start = Instant::now();
        for _ in 0..times {
            request(Client::connect(path)?)?;
        }
        Ok(micros(start) / times as f64)
    };
    several(1_000)?;
    let each_us = several(requests.unwrap_or(EACH))?;
    let before = resident()?;
    let mut clients = Vec::new();
    for _ in 0..at_once {
        clients.push(Client::connect(path)?);
        // A backlog is shorter than that.
        if clients.len() % 100 == 0 {
            request(Client::connect(path)?)?;
        }
    }
    clients.into_iter().try_for_each(request)?;
    // The server has closed its last connection.
    while descriptors()? > open {
        std::thread::yield_now();
    }
    Ok(Served {
        each_us,
        at_once: at_once as f64,
        left_kib: resident()? - before,
    })
}

/// The body of a request, and of its reply.
const BODY: [u8; 64] = [1; 64];

fn request(mut client: Client) -> anyhow::Result<()> {
    let mut message = [0; 4 + BODY.len()];
    message[3] = BODY.len() as u8;
    message[4..].copy_from_slice(&BODY);
    client.write_all(&message)?;
    let mut reply = [0; 4 + BODY.len()];
    client.read_exact(&mut reply)?;
    anyhow::ensure!(reply == message, "the reply is another");
    Ok(())
}

type Serving = tokio::task::JoinHandle<anyhow::Result<()>>;

fn tokio(path: &Path) -> anyhow::Result<Serving> {
    let listener = UnixListener::bind(path)?;
    Ok(tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut framed = Framed::new(stream, LengthDelimitedCodec::new());
                while let Some(request) = framed.next().await {
                    framed.send(request?.freeze()).await?;
                }
                anyhow::Ok(())
            });
        }
    }))
}

async fn channel(path: &Path) -> anyhow::Result<Serving> {
    let mut listener = endpoint(path)?.bind().await?;
    Ok(tokio::spawn(async move {
        while let Some(connection) = listener.accept().await {
            let mut channel: Channel<Bytes, Bytes> = connection?.channel(Raw);
            tokio::spawn(async move {
                while let Some(request) = channel.recv().await {
                    channel.send(request?).await?;
                }
                channel.close().await?;
                anyhow::Ok(())
            });
        }
        Ok(())
    }))
}

async fn responding(path: &Path) -> anyhow::Result<Serving> {
    let listener = endpoint(path)?.bind().await?;
    let handler = |connection, cx: Context| async move {
        let client = cx.channel::<Bytes, Bytes>(connection, Raw);
        service::respond(client, &cx, |request| async move { request }).await
    };
    Ok(tokio::spawn(async move {
        let mut options = service::Options::new();
        options.max_connections(2 * AT_ONCE);
        let stop = CancellationToken::new();
        options.serve(listener, stop, handler).await?;
        Ok(())
    }))
}

fn endpoint(path: &Path) -> anyhow::Result<Endpoint> {
    Ok(format!("unix:{}", path.display()).parse()?)
}
