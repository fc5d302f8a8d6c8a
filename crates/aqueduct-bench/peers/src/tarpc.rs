//! tarpc over a Unix socket by MessagePack: one way as requests of which many are under way and
//! that are answered with nothing, round trips as requests that are answered with their equal.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tarpc::client;
use tarpc::server::{BaseChannel, Channel, InFlightRequest, Requests, serve};
use tarpc::{ClientMessage, RequestName, Response, context, serde_transport};
use tokio::net::{UnixListener, UnixStream};
use tokio_serde::formats::MessagePack;

use aqueduct_measure::case::{BOTH, Mechanism, Runtime, Work};
use aqueduct_measure::implementations::{Asks, Checked, UNDER_WAY};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Item, Message, Receives, Sends, Session};

use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/tarpc",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        // A value of 64 bytes.
        sizes: &[64],
        run: run::<Value>,
    },
    Case {
        name: "peer/tarpc/bytes",
        mechanism: Mechanism::Own,
        runtime: Runtime::CurrentThread,
        works: BOTH,
        sizes: &[],
        run: run::<Data>,
    },
];

/// What a request carries.
trait Body: RequestName + Checked + Serialize + DeserializeOwned + Sync {
    fn of(message: &'static Message) -> Self;
}

#[derive(Serialize, Deserialize)]
struct Value(Item);

impl RequestName for Value {
    fn name(&self) -> &str {
        "value"
    }
}

impl Body for Value {
    fn of(message: &'static Message) -> Self {
        Self(message.item)
    }
}

impl Checked for Value {
    fn check(&self, check: &mut Check) -> anyhow::Result<()> {
        check.item(&self.0)
    }
}

#[derive(Serialize, Deserialize)]
struct Data(Bytes);

impl RequestName for Data {
    fn name(&self) -> &str {
        "data"
    }
}

impl Body for Data {
    fn of(message: &'static Message) -> Self {
        Self(message.bytes.clone())
    }
}

impl Checked for Data {
    fn check(&self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(&self.0)
    }
}

type Transport<Item, SinkItem> =
    serde_transport::Transport<UnixStream, Item, SinkItem, MessagePack<Item, SinkItem>>;
type Served<B> = BaseChannel<B, Option<B>, Transport<ClientMessage<B>, Response<Option<B>>>>;

/// The side that answers.
struct Answers<B: Body> {
    requests: Pin<Box<Requests<Served<B>>>>,
    /// Read while answers were written.
    next: Option<InFlightRequest<B, Option<B>>>,
    /// Received and not yet answered.
    asked: Option<InFlightRequest<B, Option<B>>>,
    work: Work,
}

impl<B: Body> Sends for Answers<B> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let asked = self.asked.take();
        let asked = asked.ok_or_else(|| anyhow::anyhow!("nothing was asked"))?;
        let answer = serve(move |_, _| async move { Ok(Some(B::of(message))) });
        asked.execute(answer).await;
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        // Answers are written as requests are read.
        if self.next.is_none()
            && let Some(request) = futures_util::FutureExt::now_or_never(self.requests.next())
        {
            self.next = request.transpose()?;
        }
        Ok(())
    }
}

impl<B: Body> Receives for Answers<B> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let request = match self.next.take() {
            Some(request) => request,
            None => {
                let request = self.requests.next().await;
                request.ok_or_else(|| anyhow::anyhow!("the connection has ended"))??
            }
        };
        request.get().message.check(check)?;
        match self.work {
            Work::OneWay => request.execute(serve(|_, _| async { Ok(None) })).await,
            Work::RoundTrip => self.asked = Some(request),
        }
        if check.is_over() {
            self.flush().await?;
        }
        Ok(())
    }
}

fn run<B: Body>(session: &Session) -> anyhow::Result<SideReport> {
    let meeting = Meeting::new(session)?;
    let path = session.spec().path("socket");
    let work = session.spec().work;
    if session.is_first() {
        let client = session.exec().run(async move {
            let stream = UnixStream::connect(path).await?;
            let transport = Transport::<Response<Option<B>>, ClientMessage<B>>::from((
                stream,
                MessagePack::default(),
            ));
            Ok(client::new(client::Config::default(), transport).spawn())
        })?;
        let call = move |message: &'static Message| {
            let client: client::Channel<B, Option<B>> = client.clone();
            async move { Ok(client.call(context::current(), B::of(message)).await?) }
        };
        return meeting.play(session, Asks::new(session, UNDER_WAY, call));
    }
    let requests = session.exec().run(async move {
        let listener = UnixListener::bind(path)?;
        ready("")?;
        let stream = listener.accept().await?.0;
        let transport = Transport::from((stream, MessagePack::default()));
        Ok(Box::pin(Served::<B>::with_defaults(transport).requests()))
    })?;
    meeting.play(
        session,
        Answers {
            requests,
            next: None,
            asked: None,
            work,
        },
    )
}
