//! A chat over Unix sockets and TCP at once: everybody reads what one member writes.
//!
//! ```text
//! terminal 1:  cargo run --example chat -- serve unix:/tmp/chat.sock tcp://127.0.0.1:7000
//! terminal 2:  cargo run --example chat -- join unix:/tmp/chat.sock ann
//! terminal 3:  cargo run --example chat -- join tcp://127.0.0.1:7000 ben
//! ```
//!
//! Type in terminals 2 and 3; Ctrl-D leaves. Ctrl-C or SIGTERM in terminal 1 ends the service. All
//! members are notified, after they have received every earlier message.
//!
//! Messages are JSON, one per line, so `nc 127.0.0.1 7000` is a client too: type `{"Enter":"cem"}`
//! first, then `{"Say":"hello"}`.

use std::time::Duration;

use anyhow::{Result, bail};
use aqueduct::codec::Json;
use aqueduct::connect::{Connection, Options};
use aqueduct::frame::{FramedRead, Framing};
use aqueduct::service;
use aqueduct::{Channel, Endpoint, stdio};
use futures_util::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many messages a client may be behind. Beyond that the oldest are not kept for it, so that
/// one that does not read costs the others nothing.
const BEHIND: usize = 256;

#[derive(Serialize, Deserialize, Debug)]
enum Request {
    /// The first message: a name.
    Enter(String),
    Say(String),
}

#[derive(Serialize, Deserialize, Clone, Debug)]
enum Event {
    Entered(String),
    Said {
        who: String,
        text: String,
    },
    Left(String),
    /// This many messages came faster than they were read.
    Missed(u64),
    Closing,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", ref addresses @ ..] if !addresses.is_empty() => serve_at(addresses).await,
        ["join", address, name] => join(address, name).await,
        _ => bail!("usage: chat serve ADDRESS... | chat join ADDRESS NAME"),
    }
}

fn json_lines() -> Options {
    let mut options = Options::new();
    options.framing(Framing::lines().max_frame(4096));
    options
}

async fn serve_at(addresses: &[&str]) -> Result<()> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = json_lines().bind(&address.parse()?).await?;
        println!("listening on {}", listener.local_endpoint());
        listeners.push(listener);
    }
    let stop = service::shutdown_on_signal()?;

    let (room, _) = broadcast::channel(BEHIND);
    let stats = service::Options::new()
        // Who only listens is welcome.
        .idle_timeout(None)
        .grace(Duration::from_secs(5))
        .serve(
            stream::select_all(listeners),
            stop,
            move |connection, cx| attend(connection, cx, room.clone()),
        )
        .await?;
    println!("closed after {} clients", stats.accepted);
    Ok(())
}

/// One client, from its name to its end.
async fn attend(
    connection: Connection,
    cx: service::Context,
    room: broadcast::Sender<Event>,
) -> Result<()> {
    let peer = connection.peer().clone();
    let client: Channel<Event, Request> = cx.channel(connection, Json);
    let (mut sender, receiver) = client.into_split();
    let mut requests = cx.until_shutdown(receiver);

    let who = match requests.next().await.transpose()? {
        Some(Request::Enter(name)) => name,
        Some(Request::Say(_)) => bail!("{peer} speaks without a name"),
        None => return Ok(()),
    };
    let mut news = room.subscribe();
    // Nobody may be there to hear it: no error here or below.
    room.send(Event::Entered(who.clone())).ok();

    let result = loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(Ok(Request::Say(text))) => {
                    room.send(Event::Said { who: who.clone(), text }).ok();
                }
                Some(Ok(Request::Enter(_))) => {}
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            },
            event = news.recv() => {
                let event = match event {
                    Ok(event) => event,
                    Err(RecvError::Lagged(count)) => Event::Missed(count),
                    Err(RecvError::Closed) => break Ok(()),
                };
                if let Err(error) = sender.send(event).await {
                    break Err(error);
                }
            }
        }
    };
    room.send(Event::Left(who)).ok();
    result?;
    if cx.shutdown().now_or_never().is_some() {
        // What was said before, then the end.
        while let Ok(event) = news.try_recv() {
            sender.feed(event).await?;
        }
        sender.feed(Event::Closing).await?;
    }
    cx.close(Channel::new(sender, requests.into_inner()))
        .await?;
    Ok(())
}

async fn join(address: &str, name: &str) -> Result<()> {
    let address: Endpoint = address.parse()?;
    let server: Channel<Request, Event> = json_lines().connect(&address).await?.channel(Json);
    let (mut sender, mut events) = server.into_split();
    sender.send(Request::Enter(name.to_owned())).await?;

    let mut typed = FramedRead::new(stdio::stdin()?, Framing::lines());
    let mut leaving = false;
    loop {
        tokio::select! {
            line = typed.next(), if !leaving => match line.transpose()? {
                Some(line) => {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    sender.send(Request::Say(text)).await?;
                }
                None => {
                    // The server then ends its direction too.
                    sender.close().await?;
                    leaving = true;
                }
            },
            event = events.recv() => match event.transpose()? {
                Some(Event::Entered(who)) => println!("* {who} is here"),
                Some(Event::Said { who, text }) => println!("{who}: {text}"),
                Some(Event::Left(who)) => println!("* {who} has left"),
                Some(Event::Missed(count)) => println!("* {count} messages missed"),
                Some(Event::Closing) => println!("* the chat closes"),
                None => return Ok(()),
            },
        }
    }
}
