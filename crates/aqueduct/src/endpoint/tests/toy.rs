//! A toy mechanism: a new scheme takes this file and one line in the table.
//!
//! `toy:greeting` is a conversation with itself: each message comes back after the greeting.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::*;
use crate::address::Printer;
use crate::codec::Text;
use crate::connect::{Asked, ByteStream, Connection, Mechanism, Opening, Options, Peer, Scheme};
use crate::frame::{Framing, Pace};

pub(in crate::endpoint) static SCHEME: Scheme = Scheme {
    name: "toy",
    form: "toy:greeting",
    summary: "a conversation with itself",
    options: &["loud"],
    synonyms: &["echo"],
    parse: |rest, query| {
        let greeting = String::from_utf8_lossy(&escape::decode(rest)?).into_owned();
        let loud = query.boolean("loud")?;
        Ok(Arc::new(Toy { greeting, loud }))
    },
};

#[derive(Debug)]
struct Toy {
    greeting: String,
    loud: Option<bool>,
}

impl Mechanism for Toy {
    fn print(&self, printer: &mut Printer) {
        printer.rest(self.greeting.as_ref(), b"");
        printer.option("loud", self.loud);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::BYTE_STREAM
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let greeting = match self.loud {
                Some(true) => self.greeting.to_uppercase(),
                _ => self.greeting.clone(),
            };
            let (here, there) = tokio::io::duplex(1024);
            let (reader, _) = tokio::io::split(there);
            let (_, writer) = tokio::io::split(here);
            let reader = Greeting(Some(format!("{greeting}\n").into()), reader);
            let bytes = ByteStream::join(reader, writer);
            let framing = asked.options.framing.clone();
            Ok(Connection::bytes(
                bytes,
                framing,
                Pace::default(),
                Peer::Unknown,
            ))
        })
    }
}

struct Greeting<R>(Option<Bytes>, R);

impl<R: AsyncRead + Unpin> AsyncRead for Greeting<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(greeting) = self.0.take() {
            buf.put_slice(&greeting);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.1).poll_read(cx, buf)
    }
}

#[tokio::test]
async fn a_new_scheme_parses_prints_and_opens_everywhere() {
    let toy: Endpoint = "toy:hello?loud=true".parse().unwrap();
    assert_eq!(toy.to_string(), "toy:hello?loud=true");
    assert_eq!(nearest_scheme("echo"), Some("toy"));
    let conversation = async {
        let mut options = Options::new();
        options.framing(Framing::lines());
        let mut channel = options
            .connect(&toy)
            .await
            .unwrap()
            .channel::<String, String>(Text);
        channel.send("one".into()).await.unwrap();
        assert_eq!(channel.recv().await.unwrap().unwrap(), "HELLO");
        assert_eq!(channel.recv().await.unwrap().unwrap(), "one");
        // Verbs that it does not have use a connection.
        let mut receiver = options
            .open_receiver(&toy)
            .await
            .unwrap()
            .typed::<String>(Text);
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "HELLO");
        let mut sender = options.open_sender(&toy).await.unwrap().typed(Text);
        sender.send("two".to_owned()).await.unwrap();
    };
    let done = tokio::time::timeout(Duration::from_secs(30), conversation).await;
    done.unwrap();
}
