use std::time::Duration;

use super::queue::{self, Given, Taken};
use super::{Error, Incoming, Outgoing};
use crate::endpoint::{self, Endpoint};
use crate::fifo::{self, SharedSender};
use crate::frame::{FramedWrite, Framing};
use crate::mq::{Framed, WholeMessage};
use crate::stdio;

/// How many bytes one read of standard input moves at most: 64 KiB.
const STDIO_CHUNK: usize = 64 * 1024;
/// How many bytes one read of a FIFO moves at most: two pages, so that both sides work at a time.
const FIFO_CHUNK: usize = 8 * 1024;

const RECEIVE: &[&str] = &["fifo:", "mq:", "stdio:"];
const SEND: &[&str] = &["fifo:", "mq:", "stdio:"];

/// How to open the ends of an endpoint. What the address itself says goes before.
///
/// # Examples
///
/// See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "options do nothing until something is opened with them"]
pub struct Options {
    framing: Framing,
    create: bool,
    wait: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Length framing; what is missing is created; a peer is waited for without a limit.
    pub fn new() -> Self {
        Self {
            framing: Framing::length(),
            create: true,
            wait: None,
        }
    }

    /// Sets how a byte stream is cut into messages, and the largest message. Mechanisms that keep
    /// boundaries themselves ignore the cut.
    pub fn framing(&mut self, framing: Framing) -> &mut Self {
        self.framing = framing;
        self
    }

    /// Sets whether a FIFO or queue that is missing is created. The address option `create` goes before.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets how long a peer that has to be there is waited for; `None`: for ever.
    pub fn wait(&mut self, limit: Option<Duration>) -> &mut Self {
        self.wait = limit;
        self
    }

    /// Opens the receiving end.
    ///
    /// It does not wait for a sender: the messages of one that comes later arrive then.
    ///
    /// # Errors
    ///
    /// Those of [`Error`], but for [`TimedOut`](Error::TimedOut).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing open. What it created stays.
    pub async fn open_receiver(&self, endpoint: &Endpoint) -> Result<Incoming, Error> {
        match endpoint {
            Endpoint::Fifo(fifo) => {
                let receiver = self
                    .fifo(fifo)
                    .persistent(fifo.persist().unwrap_or(false))
                    .open_receiver(fifo.path())
                    .map_err(Error::Fifo)?;
                Ok(Incoming::bytes(receiver, self.framing.clone(), FIFO_CHUNK))
            }
            Endpoint::Mq(mq) => {
                let options = queue::options(mq, self.create);
                let receiver = options.open_receiver(mq.name()).map_err(Error::Mq)?;
                Ok(Incoming::new(Taken::new(receiver)))
            }
            Endpoint::Stdio => {
                let stdin = stdio::stdin().map_err(|e| failed(endpoint, e))?;
                Ok(Incoming::bytes(stdin, self.framing.clone(), STDIO_CHUNK))
            }
            _ => Err(unsupported(endpoint, "received from", RECEIVE)),
        }
    }

    /// Opens the sending end, as soon as there is somebody to send to.
    ///
    /// A FIFO has to have a reader; a queue keeps messages for whoever comes.
    ///
    /// Several processes may send to one FIFO at a time, each through such an end: none of their
    /// messages is torn, whatever its size ([`SharedSender::with_large_frames`]).
    ///
    /// # Errors
    ///
    /// Those of [`Error`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and leaves nothing open. What it created stays.
    pub async fn open_sender(&self, endpoint: &Endpoint) -> Result<Outgoing, Error> {
        match endpoint {
            Endpoint::Fifo(fifo) => {
                let mut options = self.fifo(fifo);
                let sender = options.wait_timeout(self.wait).open_sender(fifo.path());
                let sender = sender.await.map_err(|error| match error {
                    fifo::Error::TimedOut { waited, .. } => Error::TimedOut {
                        endpoint: endpoint.clone(),
                        peer: "reader",
                        // To the nanosecond is of no use to anybody.
                        waited: self.wait.unwrap_or(waited),
                    },
                    error => Error::Fifo(error),
                })?;
                let frames = SharedSender::with_large_frames(sender, self.framing.clone());
                Ok(Outgoing::frames(frames))
            }
            Endpoint::Mq(mq) => {
                let mut options = queue::options(mq, self.create);
                let queue = options.write(true).open(mq.name()).map_err(Error::Mq)?;
                Ok(Outgoing::new(Given {
                    framed: Framed::new(queue, WholeMessage),
                    priority: mq.priority().unwrap_or_default(),
                }))
            }
            Endpoint::Stdio => {
                let stdout = stdio::stdout().map_err(|e| failed(endpoint, e))?;
                Ok(Outgoing::frames(FramedWrite::new(
                    stdout,
                    self.framing.clone(),
                )))
            }
            _ => Err(unsupported(endpoint, "sent to", SEND)),
        }
    }

    fn fifo(&self, fifo: &endpoint::Fifo) -> fifo::OpenOptions {
        let mut options = fifo::OpenOptions::new();
        options.create(fifo.create().unwrap_or(self.create));
        if let Some(mode) = fifo.mode() {
            options.mode(mode);
        }
        options
    }
}

fn unsupported(
    endpoint: &Endpoint,
    purpose: &'static str,
    supported: &'static [&'static str],
) -> Error {
    Error::Unsupported {
        endpoint: endpoint.clone(),
        purpose,
        supported,
    }
}

fn failed(endpoint: &Endpoint, source: std::io::Error) -> Error {
    Error::Io {
        endpoint: endpoint.clone(),
        source,
    }
}
