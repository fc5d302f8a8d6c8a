//! A service that replies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aqueduct::bytes::{Bytes, BytesMut};
use aqueduct::codec::{BoxError, Decode, Encode, Format};
use aqueduct::connect::{Connection, Message};
use aqueduct::frame::FrameError;
use aqueduct::service::{self, CancellationToken, Context};
use aqueduct::{Channel, Error};
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::facts::Facts;
use super::jobs::{Ended, Job};
use super::{Jobs, Serving, begun};
use crate::config::{LinkConfig, ServeConfig, Side};
use crate::exit::Exit;
use crate::link;
use crate::report::Report;
use crate::signals::Signals;
use crate::terminal;

/// How many pieces may wait for the client.
const AHEAD: usize = 4;
/// People at a terminal type slowly.
const FIRST: Duration = Duration::from_secs(300);

pub(super) async fn run(
    config: &ServeConfig,
    jobs: &Jobs,
    signals: &mut Signals,
    report: &Report,
) -> anyhow::Result<Exit> {
    let Some(opened) = Opened::new(config, signals, report).await? else {
        return Ok(Exit::Done);
    };
    let Opened {
        clients,
        facts,
        closed,
    } = opened;
    let mut options = service::Options::new();
    options.first_timeout(FIRST);
    let limits = config.link.clients;
    if let Some(connections) = limits.connections {
        options.max_connections(connections);
    }
    if let Some(first) = limits.first {
        options.first_timeout(first.limit());
    }
    if let Some(idle) = limits.idle {
        options.idle_timeout(idle.limit());
    }
    let shutdown = CancellationToken::new();
    let report = report.clone();
    let at_work = jobs.clone();
    let link = Arc::new(config.link.clone());
    let served = options.serve(clients, shutdown.clone(), move |connection, cx| {
        let facts = facts.clone().with_peer(connection.peer().clone());
        let client = (connection, Arc::clone(&link));
        handle(client, cx, at_work.clone(), facts, report.clone())
    });
    let serving = Serving {
        shutdown,
        closed,
        idle: || jobs.load().idle(config.link.timeout),
        stop: || jobs.stop(),
        unfinished: "all accepted messages were answered",
        aborted: ("client", "cut off: not answered"),
    };
    serving.run(served, signals, config).await
}

/// An opened endpoint.
pub(super) struct Opened {
    pub(super) clients: BoxStream<'static, io::Result<Connection>>,
    pub(super) facts: Facts,
    /// Waits until the clients of a dropped listener know that it is gone.
    pub(super) closed: BoxFuture<'static, ()>,
}

impl Opened {
    /// Opens the endpoint. `None`: a signal arrived first.
    pub(super) async fn new(
        config: &ServeConfig,
        signals: &mut Signals,
        report: &Report,
    ) -> anyhow::Result<Option<Self>> {
        let (endpoint, link) = (&config.endpoint, &config.link);
        let opening = Self::open(config, report);
        let opened = link::opened(opening, endpoint, link, Side::Connect, signals, report).await?;
        if opened.is_some() {
            signals.ready(format_args!("serving {endpoint}")).await;
        }
        Ok(opened)
    }

    async fn open(config: &ServeConfig, report: &Report) -> anyhow::Result<Self> {
        let (endpoint, link) = (&config.endpoint, &config.link);
        if config.side == Side::Connect {
            let connection = link::open(endpoint, link, config.side, report).await?;
            begun(report, config, endpoint);
            return Ok(Self {
                clients: stream::iter([Ok(connection)]).boxed(),
                facts: Facts::new(endpoint),
                closed: ready(()).boxed(),
            });
        }
        // A socket path that is removed or replaced is bound again.
        let listener = link.options().persist(true).bind(endpoint).await?;
        begun(report, config, listener.local_endpoint());
        let facts = Facts::new(listener.local_endpoint());
        let closed = listener.closed().boxed();
        // What programs print is theirs; an echo must not steer the terminal.
        let clients = if config.command.is_empty() {
            let (endpoint, link) = (endpoint.clone(), link.clone());
            let shown = move |connection| terminal::shown(connection, &endpoint, &link);
            let shown =
                listener.map(move |it| it.and_then(|it| shown(it).map_err(io::Error::other)));
            shown.boxed()
        } else {
            listener.boxed()
        };
        Ok(Self {
            clients,
            facts,
            closed,
        })
    }
}

/// Answers one client. What goes wrong with it is told and ends its connection alone.
async fn handle(
    (mut connection, link): (Connection, Arc<LinkConfig>),
    cx: Context,
    jobs: Jobs,
    facts: Facts,
    report: Report,
) -> Result<(), Error> {
    let peer = connection.peer().clone();
    let child = connection.take_child();
    let channel: Channel<Body, Body> = cx.channel(connection, Bodies);
    let take = |message: Body| jobs.take(Message::new(message.unwrap_or_default()), &facts);
    let result = if jobs.pours() {
        pour(channel, &cx, take).await
    } else {
        service::respond(channel, &cx, |message| take(message).answer()).await
    };
    let result = match result {
        Ok(()) => match link::last_words(child).await {
            Some(status) => Err(io::Error::other(format!("it ended with {status}")).into()),
            None => Ok(()),
        },
        failed => failed,
    };
    match &result {
        // It was told of before.
        Err(Error::Encode { .. }) | Ok(()) => {}
        Err(error) => report.frequent_failure(format_args!("{peer}: {}", Reason(error, &link))),
    }
    result
}

/// Answers with bytes, as they are printed. A program that failed and printed nothing cannot be told
/// otherwise: it closes the connection.
async fn pour(
    channel: Channel<Body, Body>,
    cx: &Context,
    take: impl Fn(Body) -> Job,
) -> Result<(), Error> {
    let (mut outgoing, receiver) = channel.into_split();
    let mut requests = cx.until_shutdown(receiver);
    while let Some(request) = requests.next().await {
        let (pieces, mut printed) = mpsc::channel(AHEAD);
        let mut silent = true;
        let (sender, silence) = (&mut outgoing, &mut silent);
        // Where this fails the program sees that its output is closed, and is waited for.
        let sending = async move {
            while let Some(piece) = printed.recv().await {
                *silence = false;
                sender.send(Some(piece)).await?;
            }
            Ok::<_, Error>(())
        };
        let (ended, sent) = tokio::join!(take(request?).pour(pieces), sending);
        sent?;
        if ended != Ended::Well && silent {
            return outgoing.send(None).await;
        }
    }
    cx.close(Channel::new(outgoing, requests.into_inner()))
        .await
}

/// Why a connection was closed, with the flag that helps.
struct Reason<'a>(&'a Error, &'a LinkConfig);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Error::Io(error) = self.0
            && let Some(FrameError::ContainsDelimiter { .. } | FrameError::TooLarge { .. }) =
                FrameError::of(error)
        {
            return f.write_str(&self.1.refused("a message or reply", error));
        }
        if let Error::Io(error) = self.0
            && let Some(FrameError::Empty) = FrameError::of(error)
        {
            return f.write_str(
                "a reply was empty, which its reader would take for the end of the stream: the \
                 connection was closed instead; CMD has to print something",
            );
        }
        let mut error: &dyn std::error::Error = self.0;
        write!(f, "{error}")?;
        while let Some(cause) = error.source() {
            write!(f, ": {cause}")?;
            error = cause;
        }
        Ok(())
    }
}

/// The bytes of a message or reply. A reply that is `None` closes the connection.
type Body = Option<Bytes>;

/// Bodies as they are.
#[derive(Clone, Copy)]
struct Bodies;

impl Format for Bodies {
    fn name(&self) -> &'static str {
        "raw"
    }
}

impl Encode<Body> for Bodies {
    fn encode(&self, body: &Body, dst: &mut BytesMut) -> Result<(), BoxError> {
        let body = body.as_ref().ok_or("there is no reply")?;
        dst.extend_from_slice(body);
        Ok(())
    }

    fn encode_owned(&self, body: Body, _: &mut BytesMut) -> Result<Bytes, BoxError> {
        Ok(body.ok_or("there is no reply")?)
    }
}

impl Decode<Body> for Bodies {
    fn decode(&self, body: Bytes) -> Result<Body, BoxError> {
        Ok(Some(body))
    }
}
