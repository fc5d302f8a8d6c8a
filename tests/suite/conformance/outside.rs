//! Transports that Aqueduct knows nothing of: what joins at the waist keeps the same promises.

use std::io;

use aqueduct_conformance::{End, Place, Promises, Side, Transport};
use tokio::io::DuplexStream;
use tokio::net::{UnixListener, UnixStream};

use super::pairs::{Meeting, framed};

/// Tokio's pipe in memory each way, of `.0` bytes.
pub(crate) struct InMemory(pub(crate) usize);

impl Transport for InMemory {
    fn promises(&self) -> Promises {
        Promises::new().with_halves_told_apart()
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        static MEETING: Meeting<(DuplexStream, DuplexStream)> = Meeting::new();
        let make = || {
            let (to, their_from) = tokio::io::duplex(self.0);
            let (their_to, from) = tokio::io::duplex(self.0);
            Ok(((to, from), (their_to, their_from)))
        };
        let (writer, reader) = MEETING.end(place, side, make).await?;
        Ok(framed(place, writer, reader))
    }
}

/// Tokio's own Unix sockets, with no more of Aqueduct than its framing.
pub(crate) struct PlainSockets;

impl Transport for PlainSockets {
    fn promises(&self) -> Promises {
        Promises::new()
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        let path = place.dir().join("socket");
        let stream = match side {
            Side::Here => UnixListener::bind(path)?.accept().await?.0,
            Side::There => {
                place
                    .retry(async || UnixStream::connect(&path).await)
                    .await?
            }
        };
        let (reader, writer) = stream.into_split();
        Ok(framed(place, writer, reader))
    }
}
