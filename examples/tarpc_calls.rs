//! tarpc over any address: a channel of this library is all the transport that it needs.
//!
//! ```text
//! terminal 1:  cargo run --example tarpc_calls -- serve unix:/tmp/calls.sock
//! terminal 2:  cargo run --example tarpc_calls -- call unix:/tmp/calls.sock
//! ```
//!
//! Other two-way addresses do as well: `tcp://127.0.0.1:7000`, `unixpacket:/tmp/calls.sock`, and
//! a server as a child, `call "exec:target/debug/examples/tarpc_calls serve stdio:"`. Two one-way
//! addresses are a channel too, for one client at a time, such as a pair of message queues:
//!
//! ```text
//! terminal 1:  cargo run --example tarpc_calls -- serve mq:/calls mq:/answers
//! terminal 2:  cargo run --example tarpc_calls -- call mq:/calls mq:/answers
//! ```
//!
//! Deadlines, cancellation and many calls at a time are tarpc's. Ctrl-C or SIGTERM ends the server:
//! calls that were received are answered before.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aqueduct::codec::Json;
use aqueduct::connect::{Connection, Options};
use aqueduct::serve::{self, CancellationToken};
use aqueduct::{Channel, Endpoint};
use futures_util::future::try_join_all;
use futures_util::{Sink, Stream, StreamExt};
use tarpc::client::{self, RpcError};
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::{ClientMessage, Response, context};
use tokio::signal::unix::{SignalKind, signal};

/// How many calls of one client run at a time.
const AT_ONCE: usize = 64;

#[tarpc::service]
trait Calculator {
    async fn add(a: i64, b: i64) -> i64;
    async fn divide(a: i64, by: i64) -> Result<i64, String>;
    async fn think(how_long: Duration);
}

#[derive(Clone)]
struct Server;

impl Calculator for Server {
    async fn add(self, _: context::Context, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    async fn divide(self, _: context::Context, a: i64, by: i64) -> Result<i64, String> {
        let quotient = a.checked_div(by);
        quotient.ok_or_else(|| format!("{a} cannot be divided by {by}"))
    }

    async fn think(self, _: context::Context, how_long: Duration) {
        tokio::time::sleep(how_long).await;
    }
}

type Calls = ClientMessage<CalculatorRequest>;
type Answers = Response<CalculatorResponse>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next();
    let addresses = arguments.map(|address| address.parse());
    let addresses: Vec<Endpoint> = addresses.collect::<Result<_, _>>()?;
    match (what.as_deref(), &addresses[..]) {
        (Some("serve"), [both_ways]) => serve_all(both_ways).await,
        (Some("serve"), [calls, answers]) => serve_one(calls, answers).await,
        (Some("call"), [both_ways]) => call(both_ways.open_channel(Json).await?).await,
        (Some("call"), [calls, answers]) => {
            // The server waits for a reader of its answers, so that end comes first.
            let answers = answers.open_receiver(Json).await?;
            call(Channel::new(calls.open_sender(Json).await?, answers)).await
        }
        _ => bail!("usage: tarpc_calls serve|call ADDRESS | tarpc_calls serve|call CALLS ANSWERS"),
    }
}

/// All clients of a two-way address at the same time.
async fn serve_all(address: &Endpoint) -> Result<()> {
    let listener = Options::new().bind(address).await?;
    // Standard output may be the connection.
    eprintln!("listening on {}", listener.local_endpoint());
    let handler = |connection: Connection, cx: serve::Context| async move {
        let client: Channel<Answers, Calls> = connection.channel_within(&cx, Json);
        answer(cx.until_shutdown(client)).await;
        anyhow::Ok(())
    };
    aqueduct::serve(listener, stop_at_signal()?, handler).await?;
    Ok(())
}

/// The client at the other end of two one-way addresses.
async fn serve_one(calls: &Endpoint, answers: &Endpoint) -> Result<()> {
    let stop = stop_at_signal()?;
    let calls = calls.open_receiver(Json).await?;
    eprintln!("listening");
    let answers = tokio::select! {
        opened = answers.open_sender(Json) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let client: Channel<Answers, Calls> = Channel::new(answers, calls);
    answer(client.take_until(stop.cancelled())).await;
    Ok(())
}

/// Answers the calls of one client until it ends, whatever it is connected by.
async fn answer<T>(client: T)
where
    T: Stream<Item = Result<Calls, aqueduct::Error>>,
    T: Sink<Answers, Error = aqueduct::Error>,
{
    let calls = BaseChannel::with_defaults(client).execute(Server.serve());
    calls
        .for_each_concurrent(AT_ONCE, |answered| answered)
        .await;
}

async fn call(server: Channel<Calls, Answers>) -> Result<()> {
    let new = CalculatorClient::new(client::Config::default(), server);
    // Ends, and has closed the channel, when the last client is dropped.
    let connection = tokio::spawn(new.dispatch);
    let calculator = new.client;

    let sums = (0..100).map(|n| calculator.add(context::current(), n, n));
    let sums = try_join_all(sums).await?;
    ensure!(sums.iter().copied().eq((0..100).map(|n| n + n)));
    println!("100 sums at a time: the last one is {}", sums[99]);

    match calculator.divide(context::current(), 1, 0).await? {
        Ok(number) => bail!("1 / 0 is {number}?"),
        Err(refused) => println!("{refused}"),
    }

    let mut hurried = context::current();
    hurried.deadline = Instant::now() + Duration::from_millis(50);
    match calculator.think(hurried, Duration::from_secs(60)).await {
        Err(RpcError::DeadlineExceeded) => println!("a call with a deadline: given up in time"),
        other => bail!("expected the deadline to pass: {other:?}"),
    }

    drop(calculator);
    Ok(connection.await??)
}

fn stop_at_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let token = stop.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}
