//! [`Line`]: one connection to a server; [`Target`]: how to make one, and its errors.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::consumer::{self, AckPolicy, PullConsumer};
use async_nats::jetstream::context::{
    ConsumerInfoError, ConsumerInfoErrorKind, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{self, DiscardPolicy};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, Event, ServerError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::address::{Address, Retention};
use crate::connect::{OpenError, OpenErrorKind};
use crate::io::backoff::{Backoff, Retry};
use crate::io::timer::timeout;

/// How long a connection attempt may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How long one may take at least, also right before a deadline.
const BRIEFLY: Duration = Duration::from_millis(100);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
const TARGET: &str = "aqueduct::nats";
pub(super) const MISSING: &str = "start the server, or wait until it is there";
const HANGS: &str = "check whether the server hangs, or wait longer";
const PERMISSIONS: &str = "check the permissions of its user on the server";
/// Where the client looks for a server once the connection has broken: nowhere. Its own reconnecting
/// would let messages overtake each other.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// How the server begins to refuse what goes on otherwise. Other errors end the connection.
const REFUSALS: [&str; 2] = ["permissions violation", "maximum subscriptions exceeded"];

/// A connection, which ends when it breaks.
pub(super) struct Line {
    pub(super) client: Client,
    /// What the server has refused.
    pub(super) refusals: mpsc::UnboundedReceiver<String>,
    pub(super) stream: Option<stream::Stream>,
    /// That of a receiver of a stream.
    pub(super) consumer: Option<PullConsumer>,
    /// The stream is not that of the connection before: the server has lost its disk.
    pub(super) is_anew: bool,
    pub(super) lost: Lost,
}

/// Counts messages that arrived while their receiver was behind.
#[derive(Clone)]
pub(super) struct Lost {
    address: Arc<str>,
    count: Arc<AtomicU64>,
}

impl Lost {
    fn new(address: &str) -> Self {
        Self {
            address: address.into(),
            count: Arc::default(),
        }
    }

    pub(super) fn add(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        // A flood must not fill the log.
        if count.is_power_of_two() {
            tracing::warn!(
                target: TARGET, address = %self.address,
                "lost a message, which arrived while the receiver was behind ({count} so far)"
            );
        }
    }
}

/// Why the task of an end leaves a connection.
pub(super) enum Left {
    /// It has broken: the next one follows.
    Lost,
    /// The end is over, and everything is told to the server.
    Finished,
    Failed(Failure),
}

/// What an end is connected to, again and again.
pub(super) struct Target {
    pub(super) address: Arc<Address>,
    pub(super) action: &'static str,
    /// The printed address.
    pub(super) object: String,
    /// How long a server may be missing.
    pub(super) limit: Option<Duration>,
    /// Whether messages that are delivered again come before newer ones.
    pub(super) sole_reader: bool,
    /// Whether it receives.
    pub(super) receives: bool,
    /// When the stream of the last connection was created, in nanoseconds; 0 if there was none.
    pub(super) created: AtomicI64,
}

/// Why an end cannot go on.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: io::ErrorKind,
    pub(super) text: String,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        let kind = io::Error::from(error).kind();
        Self { kind, text }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind, failure.text)
    }
}

impl Target {
    pub(super) fn error(&self, kind: OpenErrorKind, cause: impl Into<String>) -> OpenError {
        OpenError::new(self.action, &self.object, kind, cause.into())
    }

    /// The server has refused something, such as a subject.
    pub(super) fn refused(&self, text: &str) -> Failure {
        let Self { action, object, .. } = self;
        Failure {
            kind: io::ErrorKind::PermissionDenied,
            text: format!("cannot {action} {object}: {text}; {PERMISSIONS}"),
        }
    }

    pub(super) fn in_runtime(&self) -> Result<(), OpenError> {
        match Handle::try_current() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(OpenErrorKind::NoRuntime, error.to_string())),
        }
    }

    /// Messages are sent to one subject.
    pub(super) fn check_subject(&self) -> Result<(), OpenError> {
        let subject = &self.address.subject;
        if !subject.split('.').any(|it| it == "*" || it == ">") {
            return Ok(());
        }
        let cause = "a subject with * or > is for receivers only";
        let error = self.error(OpenErrorKind::InvalidName, cause);
        Err(error.with_cure("name one subject"))
    }

    /// Connects, and tries again for as long as a server may be missing.
    pub(super) async fn open(&self) -> Result<Line, OpenError> {
        self.in_runtime()?;
        let opened = self.try_while(|kind| {
            matches!(
                kind,
                OpenErrorKind::Refused | OpenErrorKind::TimedOut { .. }
            )
        });
        opened.await.map_err(|error| match self.limit {
            Some(waited) if error.kind() == &OpenErrorKind::Refused && !waited.is_zero() => {
                OpenError::timed_out(self.action, &self.object, "server", waited).with_source(error)
            }
            _ => error,
        })
    }

    /// Connects, and tries again after errors of kinds that pass.
    async fn try_while(&self, passes: impl Fn(&OpenErrorKind) -> bool) -> Result<Line, OpenError> {
        let mut retry = Retry::new(self.limit, BACKOFF);
        loop {
            let error = match self.attempt(&retry).await {
                Ok(line) => return Ok(line),
                Err(error) => error,
            };
            if !passes(error.kind()) || !retry.pause().await {
                return Err(error);
            }
        }
    }

    /// Connects once. A server that does not answer is given up with the time for all attempts.
    async fn attempt(&self, retry: &Retry) -> Result<Line, OpenError> {
        let left = match self.limit {
            // It tries once.
            None | Some(Duration::ZERO) => return self.connect().await,
            Some(_) => retry.left().unwrap_or(Duration::MAX).max(BRIEFLY),
        };
        match timeout(left, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(self.silent(self.limit.unwrap_or(left))),
        }
    }

    /// The server has not answered.
    pub(super) fn silent(&self, waited: Duration) -> OpenError {
        let kind = OpenErrorKind::TimedOut { waited };
        let cause = format!("the server did not answer within {waited:?}");
        self.error(kind, cause).with_cure(HANGS)
    }

    /// Connects once, and finds the stream, and a receiver's consumer.
    async fn connect(&self) -> Result<Line, OpenError> {
        let mut line = self.connect_to_server().await?;
        if let Some(name) = &self.address.stream {
            let stream = self.stream(&line.client, name);
            let stream = self
                .unless_refused(&mut line.refusals, &line.client, stream)
                .await?;
            let created = stream.cached_info().created.unix_timestamp_nanos() as i64;
            let before = self.created.load(Ordering::Relaxed);
            line.is_anew = before != 0 && before != created;
            if line.is_anew {
                tracing::warn!(
                    target: TARGET, address = %self.object,
                    "the server has a new stream {name}: the messages of the one before are lost"
                );
            }
            line.stream = Some(stream);
            if self.receives {
                line.consumer = Some(self.consumer(&mut line).await?);
            }
            // An attempt that failed leaves it to the next one to notice a new stream.
            self.created.store(created, Ordering::Relaxed);
        }
        Ok(line)
    }

    pub(super) async fn connect_to_server(&self) -> Result<Line, OpenError> {
        let (told, refusals) = mpsc::unbounded_channel();
        let lost = Lost::new(&self.object);
        let behind = lost.clone();
        let options = self.options().await?.event_callback(move |event| {
            let (told, behind) = (told.clone(), behind.clone());
            async move {
                match event {
                    Event::ServerError(ServerError::Other(text)) if is_refusal(&text) => {
                        let _ = told.send(text);
                    }
                    Event::SlowConsumer(_) => behind.add(),
                    event => tracing::debug!(target: TARGET, address = %behind.address, "{event}"),
                }
            }
        });
        let server = format!("nats://{}", self.address.server);
        // The client has the limit for each address of the host.
        let client = match timeout(CONNECT, options.connect(server)).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(self.unconnected(error)),
            Err(_) => return Err(self.silent(CONNECT)),
        };
        let alone = client.set_server_pool(NOWHERE).await;
        alone.map_err(|error| self.error(OpenErrorKind::Refused, error.to_string()))?;
        Ok(Line {
            client,
            refusals,
            stream: None,
            consumer: None,
            is_anew: false,
            lost,
        })
    }

    /// Connects for as long as a server may be missing.
    pub(super) async fn connect_again(&self) -> Result<Line, Failure> {
        tracing::warn!(
            target: TARGET, address = %self.object,
            "lost the connection to the server; connecting again"
        );
        let again = self.try_while(|kind| {
            matches!(
                kind,
                OpenErrorKind::Refused | OpenErrorKind::TimedOut { .. } | OpenErrorKind::Other
            )
        });
        again.await.map_err(Into::into)
    }

    pub(super) async fn stream(
        &self,
        client: &Client,
        name: &str,
    ) -> Result<stream::Stream, OpenError> {
        let context = jetstream::new(client.clone());
        let error = match context.get_stream(name).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let missing = match error.kind() {
            GetStreamErrorKind::JetStream(e) => e.error_code() == ErrorCode::STREAM_NOT_FOUND,
            _ => false,
        };
        if missing && self.address.create == Some(true) {
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![self.address.subject.clone()],
                retention: self.address.retention.unwrap_or(Retention::Limits).into(),
                max_messages: self.address.max_messages.map_or(-1, i64::from),
                max_bytes: self
                    .address
                    .max_bytes
                    .map_or(-1, |it| it.try_into().unwrap_or(-1)),
                discard: DiscardPolicy::New,
                ..stream::Config::default()
            };
            let created = context.get_or_create_stream(config).await;
            return created.map_err(|error| {
                let cause = format!("cannot create stream {name}: {error}");
                self.error(OpenErrorKind::Other, cause).with_source(error)
            });
        }
        if missing {
            let error = self.error(
                OpenErrorKind::NotFound,
                format!("there is no stream {name}"),
            );
            return Err(error.with_cure("create it, or add create=true"));
        }
        if !client.server_info().jetstream {
            let error = self.error(OpenErrorKind::Unsupported, "the server has no JetStream");
            return Err(error.with_cure("start it with JetStream (nats-server -js)"));
        }
        Err(self.unanswered(&format!("stream {name}"), &error))
    }

    /// Waits for an answer of the server, which sends none where the user has no permission to ask.
    async fn unless_refused<T>(
        &self,
        refusals: &mut mpsc::UnboundedReceiver<String>,
        client: &Client,
        answer: impl Future<Output = Result<T, OpenError>>,
    ) -> Result<T, OpenError> {
        tokio::select! {
            answer = answer => match answer {
                Err(error) if client.connection_state() != State::Connected => {
                    let cause = "the connection broke";
                    let lost = self.error(OpenErrorKind::Refused, cause);
                    Err(lost.with_cure(MISSING).with_source(error))
                }
                answer => answer,
            },
            Some(text) = refusals.recv() => {
                let error = self.error(OpenErrorKind::PermissionDenied, text);
                Err(error.with_cure(PERMISSIONS))
            }
        }
    }

    /// Finds the consumer of a receiver.
    pub(super) async fn consumer(&self, line: &mut Line) -> Result<PullConsumer, OpenError> {
        let consumer = self.find_consumer(line.stream.as_ref());
        self.unless_refused(&mut line.refusals, &line.client, consumer)
            .await
    }

    async fn find_consumer(
        &self,
        stream: Option<&stream::Stream>,
    ) -> Result<PullConsumer, OpenError> {
        let (Some(stream), Some(name)) = (stream, &self.address.consumer) else {
            return Err(self.error(
                OpenErrorKind::InvalidOption,
                "no stream or consumer is named",
            ));
        };
        let found = stream.consumer_info(name).await;
        let missing = matches!(&found, Err(error) if is_missing(error));
        let consumer = if missing && self.address.create == Some(true) {
            let config = consumer::pull::Config {
                durable_name: Some(name.clone()),
                filter_subject: self.address.subject.clone(),
                ack_policy: AckPolicy::Explicit,
                ack_wait: self.address.ack_wait(),
                ..consumer::pull::Config::default()
            };
            let created = stream.get_or_create_consumer(name, config).await;
            created.map_err(|error| self.unanswered(&format!("consumer {name}"), &error))?
        } else if missing {
            let error = self.error(
                OpenErrorKind::NotFound,
                format!("there is no consumer {name}"),
            );
            return Err(error.with_cure("create a durable pull consumer, or add create=true"));
        } else {
            if let Err(error) = found {
                return Err(self.unanswered(&format!("consumer {name}"), &error));
            }
            stream.get_consumer(name).await.map_err(|error| {
                let cause = format!("consumer {name} is not a pull consumer: {error}");
                self.error(OpenErrorKind::Mismatch, cause)
                    .with_cure("name a pull consumer")
            })?
        };
        let config = &consumer.cached_info().config;
        let subjects = &stream.cached_info().config.subjects;
        let subject = &self.address.subject;
        let whole = config.filter_subject.is_empty() && *subjects == [subject.as_str()];
        if !whole && config.filter_subject != *subject {
            let cause = format!("consumer {name} receives {:?}", config.filter_subject);
            let error = self.error(OpenErrorKind::Mismatch, cause);
            return Err(error.with_cure("name its subject in the address, or another consumer"));
        }
        if config.ack_policy != AckPolicy::Explicit {
            let cause = format!("consumer {name} does not ask for an explicit acknowledgement");
            let error = self.error(OpenErrorKind::Mismatch, cause);
            return Err(error.with_cure("create it with ack policy explicit"));
        }
        Ok(consumer)
    }

    /// A request for which no answer came; the time-out of a missing permission looks like it.
    fn unanswered(&self, what: &str, error: &(impl std::fmt::Display + ?Sized)) -> OpenError {
        let cause = format!("the server did not answer for {what}: {error}");
        let error = self.error(OpenErrorKind::Other, cause);
        error.with_cure("check the server, and that the user may publish to $JS.API.>")
    }
}

/// Whether the server goes on without what was asked for.
fn is_refusal(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    REFUSALS.iter().any(|it| text.contains(it))
}

fn is_missing(error: &ConsumerInfoError) -> bool {
    use ConsumerInfoErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => true,
        Kind::JetStream(error) => error.error_code() == ErrorCode::CONSUMER_NOT_FOUND,
        _ => false,
    }
}
