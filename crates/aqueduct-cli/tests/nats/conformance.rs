//! The suite of every transport, over two streams of a server: one for each direction.

use std::io;

use aqueduct_conformance::{End, Place, Promises, Side, Transport, in_one_process};

use crate::endpoint;
use crate::server::Server;

in_one_process! {
    jetstream => JetStreams::new();
}

/// What a message may have: the limit of the server, without room for headers.
const LARGEST: usize = (1 << 20) - 64 - 320 - 44;

struct JetStreams(Server);

impl JetStreams {
    fn new() -> Self {
        Self(Server::new())
    }

    fn address(&self, way: &str) -> String {
        let stream = format!("{way}?stream={way}&consumer=only&create=true");
        // One at a time: a message that is refused because the stream is full is not overtaken.
        let limits = "retention=workqueue&max-messages=16&window=1";
        self.0.at(&format!("{stream}&{limits}"))
    }
}

impl Transport for JetStreams {
    fn promises(&self) -> Promises {
        Promises::new().without_end().with_largest(LARGEST)
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let (to, from) = match side {
            Side::Here => ("ONE", "TWO"),
            Side::There => ("TWO", "ONE"),
        };
        // As long for each place: the limit depends on it.
        let name = |way| format!("{:->40}-{way}", place.name().replace('.', "-"));
        let (to, from) = (
            endpoint(&self.address(&name(to))),
            endpoint(&self.address(&name(from))),
        );
        let receiver = from.open_receiver().await?;
        let sender = to.open_sender().await?;
        Ok(End::new(sender.into_frames(), receiver.into_frames()))
    }
}
