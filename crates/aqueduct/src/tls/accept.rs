//! [`Accepting`]: handshakes with clients, many at a time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_rustls::rustls::ServerConfig;

use super::config::{Loaded, Settings};
use super::error::{Role, TlsError};
use super::halves::{connection, stream_of};
use super::wire::{Which, Wire};
use crate::connect::{Accept, Bound, Connection, Peer, Warnings};
use crate::frame::Framing;

/// How many handshakes may be under way. Further clients replace silent ones, or wait to be accepted.
const MOST: usize = 512;

/// How long a handshake may take, and how long while half of the places are taken: clients that
/// say nothing keep no more than half of them for long.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_IN_A_CROWD: Duration = Duration::from_secs(1);

pub(super) struct Accepting {
    sockets: Bound,
    certificates: (Settings, Arc<Loaded<ServerConfig>>),
    framing: Framing,
    greetings: FuturesUnordered<Greeting>,
    /// Handshakes that were under way when newcomers were refused.
    late: Vec<Greeting>,
    ended: bool,
    warnings: Warnings,
}

/// A client before the end of its handshake.
struct Greeting {
    wire: Arc<Wire>,
    peer: Peer,
    since: Instant,
}

impl Future for Greeting {
    type Output = (Arc<Wire>, Peer, io::Result<()>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(self.wire.poll_open(Which::Read, cx));
        Poll::Ready((Arc::clone(&self.wire), self.peer.clone(), done))
    }
}

impl Accepting {
    pub(super) fn new(
        sockets: Bound,
        certificates: (Settings, Arc<Loaded<ServerConfig>>),
        framing: Framing,
    ) -> Self {
        Self {
            sockets,
            certificates,
            framing,
            greetings: FuturesUnordered::new(),
            late: Vec::new(),
            ended: false,
            warnings: Warnings::default(),
        }
    }

    fn greet(&self, socket: Connection) -> io::Result<Greeting> {
        let (stream, peer) = stream_of(socket)?;
        let (settings, loaded) = &self.certificates;
        let config = loaded.get(settings);
        // Files that could be read once stay in use.
        let config = config.map_err(|fault| io::Error::other(fault.cause))?;
        let patience = match self.greetings.len() < MOST / 2 {
            true => PATIENCE,
            false => PATIENCE_IN_A_CROWD,
        };
        let wire = Wire::server(stream, config, patience);
        let since = Instant::now();
        Ok(Greeting { wire, peer, since })
    }

    /// Disconnects the client that has been silent longest, if there is one.
    fn replace_silent(&mut self) {
        let mut unread: Vec<_> = self.greetings.iter().collect();
        unread.retain(|it| it.wire.is_unread());
        unread.sort_by_key(|it| it.since);
        if let Some(silent) = unread.iter().find(|it| it.wire.is_silent()) {
            let error = TlsError::replaced(silent.since.elapsed(), MOST, Role::Client);
            silent.wire.give_up(error);
        }
    }

    fn connection(&self, wire: Arc<Wire>, peer: Peer) -> Connection {
        connection(wire, peer, self.framing.clone())
    }

    fn warn(&mut self, peer: &Peer, error: &io::Error) {
        let address = self.sockets.address();
        match self.warnings.next() {
            Some(left_out) => tracing::warn!(
                target: "aqueduct::tls", %address, %peer, left_out,
                "a client was disconnected: {error}"
            ),
            None => tracing::debug!(
                target: "aqueduct::tls", %address, %peer,
                "a client was disconnected: {error}"
            ),
        }
    }
}

impl Accept for Accepting {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Connection>>> {
        loop {
            // The last one replaces another, or waits for one that ends.
            while !self.ended && self.greetings.len() <= MOST {
                match self.sockets.poll_accept(cx) {
                    Poll::Pending => break,
                    Poll::Ready(None) => self.ended = true,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(socket))) => {
                        let peer = socket.peer().clone();
                        match self.greet(socket) {
                            Ok(greeting) => {
                                self.greetings.push(greeting);
                                if self.greetings.len() > MOST {
                                    self.replace_silent();
                                }
                            }
                            Err(error) => self.warn(&peer, &error),
                        }
                    }
                }
            }
            let next = Pin::new(&mut self.greetings).poll_next(cx);
            match next {
                Poll::Ready(Some((wire, peer, Ok(())))) => {
                    return Poll::Ready(Some(Ok(self.connection(wire, peer))));
                }
                Poll::Ready(Some((_, peer, Err(error)))) => self.warn(&peer, &error),
                Poll::Ready(None) if self.ended => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn refuse(&self) -> bool {
        self.sockets.refuse() || !self.greetings.is_empty()
    }

    /// A client that has begun its handshake may have sent something behind it. Its connection goes
    /// on with the handshake. One that is silent is not waited for.
    fn accept_now(&mut self) -> io::Result<Option<Connection>> {
        self.late.extend(std::mem::take(&mut self.greetings));
        loop {
            let greeting = match self.late.pop() {
                Some(greeting) => greeting,
                None if self.ended || !self.sockets.refuse() => return Ok(None),
                None => {
                    let Some(socket) = self.sockets.accept_now()? else {
                        return Ok(None);
                    };
                    let peer = socket.peer().clone();
                    match self.greet(socket) {
                        Ok(greeting) => greeting,
                        Err(error) => {
                            self.warn(&peer, &error);
                            continue;
                        }
                    }
                }
            };
            if greeting.wire.is_silent() {
                let peer = &greeting.peer;
                tracing::debug!(target: "aqueduct::tls", %peer, "disconnected a silent client");
                continue;
            }
            greeting.wire.hurry(PATIENCE_IN_A_CROWD);
            return Ok(Some(self.connection(greeting.wire, greeting.peer)));
        }
    }
}
