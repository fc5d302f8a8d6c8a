//! tarpc over any address, with a channel of this library as its transport.
//!
//! ```text
//! terminal 1:  cargo run --example tarpc_calls -- serve unix:/tmp/calls.sock
//! terminal 2:  cargo run --example tarpc_calls -- call unix:/tmp/calls.sock
//! ```
//!
//! Other two-way addresses work as well: `tcp://127.0.0.1:7000`, `unixpacket:/tmp/calls.sock`, and
//! a server as a child, `call "exec:target/debug/examples/tarpc_calls serve stdio:"`. Two one-way
//! addresses also form a channel, for one client at a time, such as a pair of message queues:
//!
//! ```text
//! terminal 1:  cargo run --example tarpc_calls -- serve mq:/calls mq:/answers
//! terminal 2:  cargo run --example tarpc_calls -- call mq:/calls mq:/answers
//! ```
//!
//! Deadlines, cancellation and concurrent calls are tarpc's. Ctrl-C or SIGTERM ends the server,
//! after it has answered the calls that it received.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aqueduct::codec::Json;
use aqueduct::connect::{Connection, Options};
use aqueduct::service::{self, serve};
use aqueduct::{Channel, Endpoint};
use futures_util::future::try_join_all;
use futures_util::{Sink, Stream, StreamExt};
use tarpc::client::{self, RpcError};
use tarpc::server::{BaseChannel, Channel as _};
use tarpc::{ClientMessage, Response, context};

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
    let options = Options::new();
    match (what.as_deref(), &addresses[..]) {
        (Some("serve"), [both_ways]) => {
            let listener = options.bind(both_ways).await?;
            // Standard output may be the connection.
            eprintln!("listening on {}", listener.local_endpoint());
            serve_all(listener).await
        }
        (Some("serve"), [calls, answers]) => {
            eprintln!("listening on {calls}");
            serve_all(options.accept_pairs(calls.clone(), answers.clone())).await
        }
        (Some("call"), [both_ways]) => call(options.connect(both_ways).await?).await,
        (Some("call"), [calls, answers]) => call(options.connect_pair(calls, answers).await?).await,
        _ => bail!("usage: tarpc_calls serve|call ADDRESS | tarpc_calls serve|call CALLS ANSWERS"),
    }
}

/// Serves all clients, over any mechanism.
async fn serve_all(clients: impl Stream<Item = io::Result<Connection>> + 'static) -> Result<()> {
    let handler = |connection: Connection, cx: service::Context| async move {
        let client: Channel<Answers, Calls> = cx.channel(connection, Json);
        let mut client = cx.until_shutdown(client);
        answer(&mut client).await;
        cx.close(client.into_inner()).await
    };
    serve(clients, service::shutdown_on_signal()?, handler).await?;
    Ok(())
}

/// Answers the calls of one client, over any mechanism, until it ends.
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

async fn call(server: Connection) -> Result<()> {
    let mut server: Channel<Calls, Answers> = server.channel(Json);
    let new = CalculatorClient::new(client::Config::default(), &mut server);
    // The connection ends, and has closed the channel, when the last client is dropped.
    let (called, connection) = tokio::join!(calculate(new.client), new.dispatch);
    called?;
    connection?;
    // The server ends its direction too: of two one-way addresses the next client may come now.
    while let Some(late) = server.recv().await {
        late?;
    }
    Ok(())
}

async fn calculate(calculator: CalculatorClient) -> Result<()> {
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
    Ok(())
}
