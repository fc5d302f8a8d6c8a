use std::time::Duration;

use super::descriptor::{self, Found};
use super::half::{BoxHalf, Half, Shared};
use super::lasting::{Connector, Lasting};
use super::queue::{self, Given, Taken};
use super::{Asked, Error, Incoming, Outgoing};
use crate::blocking::{BlockingReader, BlockingWriter};
use crate::child::Command;
use crate::endpoint::{self, Endpoint};
use crate::fifo::{self, ReaderGone, SharedSender};
use crate::frame::{FramedWrite, Framing, Pace};
use crate::latency::Polled;
use crate::mq::{self, Priority, Queue};
use crate::{pipe, stdio};

/// How to open the ends of an endpoint. What the address itself says goes before.
///
/// # Examples
///
/// See the [module](super).
#[derive(Clone, Debug)]
#[must_use = "options do nothing until something is opened with them"]
pub struct Options {
    pub(super) framing: Framing,
    pub(super) create: bool,
    pub(super) wait: Option<Duration>,
    pub(super) reconnect: bool,
    pub(super) poll_for: Duration,
    pub(super) check_name_every: Option<Duration>,
    pub(super) allow_foreign_owner: bool,
    /// Whether what is opened is one direction of a [pair](super::pair).
    pub(super) paired: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Length framing with frames of at most [`DEFAULT_MAX_FRAME`](crate::frame::DEFAULT_MAX_FRAME);
    /// what is missing is created; a peer is waited for without a limit.
    pub fn new() -> Self {
        Self {
            framing: Framing::length(),
            create: true,
            wait: None,
            reconnect: false,
            poll_for: Duration::ZERO,
            check_name_every: None,
            allow_foreign_owner: false,
            paired: false,
        }
    }

    /// Sets how a byte stream is cut into messages, and the largest message.
    ///
    /// Mechanisms that keep boundaries themselves ignore the cut. The largest message holds for
    /// `unixpacket:` too; that of a queue is the queue's own.
    pub fn framing(&mut self, framing: Framing) -> &mut Self {
        self.framing = framing;
        self
    }

    /// Sets whether a FIFO or queue that is missing is created. The address option `create` goes
    /// before.
    pub fn create(&mut self, create: bool) -> &mut Self {
        self.create = create;
        self
    }

    /// Sets how long a peer that has to be there is waited for: the reader of a FIFO, the server
    /// of a socket. `None`: for ever; zero: it is tried once.
    pub fn wait(&mut self, limit: Option<Duration>) -> &mut Self {
        self.wait = limit;
        self
    }

    /// Sets whether a sending end ([`open_sender`](Self::open_sender),
    /// [`Listener::into_outgoing`](super::Listener::into_outgoing)) outlives its peer. Off by
    /// default.
    ///
    /// - The sender of a **FIFO** waits for another reader when the last one has gone
    ///   ([`ReaderGone::Wait`](fifo::ReaderGone::Wait)).
    /// - The sender on a **socket** connects again when the connection breaks, and when the peer
    ///   ends its own direction: a receiver that stops says so in that way. What was given to the
    ///   connection is sent first, and the next message goes to the next connection.
    /// - A **queue** has no peer; of a program or an inherited descriptor there is but one.
    ///
    /// Each time it waits for as long as [`wait`](Self::wait) says, and fails with
    /// [`TimedOut`](std::io::ErrorKind::TimedOut) then.
    ///
    /// # What is promised
    ///
    /// Messages arrive in order, whole, and **at most once**; each is given to one connection
    /// only, unless the system says that it has not taken all of it.
    ///
    /// - **Unix sockets**: a message that the system has taken can be read by the peer, and one that
    ///   it has not taken goes to the next connection, whole. So nothing is lost as long as the
    ///   peer stops in order, which is to read what is there after it takes no more
    ///   ([`Incoming::stop`]). If it is killed, what it had not read is lost: at most what the
    ///   socket's buffer holds (`SO_SNDBUF`, 208 KiB by default).
    /// - **TCP**: nothing is lost if the peer ends its direction, goes on reading until this one has
    ///   ended, and then closes, as [`Incoming::stop`] does. If the connection breaks in any other way
    ///   what was on its way is lost, and nobody can tell how much that was.
    /// - **FIFO**: what was written and not read is there for the next reader, from where the last one
    ///   has stopped.
    ///
    /// Where messages may be lost a `tracing` warning says so, and
    /// [`Outgoing::broken_connections`] counts.
    ///
    /// Closing such an end waits until the peer has read all, which it shows by ending its own
    /// direction, for [`DEFAULT_FAREWELL`](super::DEFAULT_FAREWELL) at most.
    pub fn reconnect(&mut self, reconnect: bool) -> &mut Self {
        self.reconnect = reconnect;
        self
    }

    /// Latency mode: before each wait for a message, looks again for this long. Zero, the default, is
    /// not at all (a handful of tries, for queues). See [`latency`](crate::latency) for when to take
    /// it and what it costs.
    ///
    /// It is for pipes, FIFOs, stream sockets and queues; `unixpacket:` sleeps at once.
    pub fn poll_for(&mut self, limit: Duration) -> &mut Self {
        self.poll_for = limit;
        self
    }

    /// Looks this often whether the name of a queue still stands for the queue that is open, and
    /// fails with [`mq::Error::Replaced`] if not: a queue that was removed, or made anew by that
    /// name, would be waited for in vain. `None`, the default, never looks. See
    /// [`mq::OpenOptions::check_name_every`].
    pub fn check_name_every(&mut self, interval: Option<Duration>) -> &mut Self {
        self.check_name_every = interval;
        self
    }

    /// Takes a FIFO or queue that exists whoever it belongs to. By default that has to be this user
    /// or root: another one may have put it there to listen in.
    pub fn allow_foreign_owner(&mut self, allow: bool) -> &mut Self {
        self.allow_foreign_owner = allow;
        self
    }

    /// Opens the receiving end.
    ///
    /// A two-way endpoint is bound, and messages come from all who connect at the same time
    /// ([`Listener::into_incoming`](super::Listener::into_incoming)). A program in `exec:` is
    /// started with our own standard input, and messages come from its output, as `popen(3)` does.
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
                Ok(self.incoming(receiver, Pace::pipe()))
            }
            Endpoint::Mq(mq) => {
                let options = queue::options(mq, self);
                let receiver = options.open_receiver(mq.name()).map_err(Error::Mq)?;
                Ok(Incoming::new(Taken::new(receiver, self.paired)))
            }
            Endpoint::Stdio => {
                let stdin = stdio::stdin().map_err(|e| failed(endpoint, e))?;
                Ok(self.incoming(Shared(stdin), Pace::default()))
            }
            Endpoint::Exec(exec) => {
                let mut command = command(exec);
                command.pipe_from_child(1);
                let mut child = command.spawn().map_err(Error::Exec)?;
                let output = child.take_receiver(1).map_err(Error::Exec)?;
                let incoming = self.incoming(Shared(output), Pace::pipe());
                Ok(incoming.with_child(child))
            }
            Endpoint::Fd(fd) => self.receive_from_fd(endpoint, fd),
            Endpoint::Unix(_) | Endpoint::UnixPacket(_) | Endpoint::Tcp(_) => {
                Ok(self.bind(endpoint).await?.into_incoming())
            }
        }
    }

    /// Opens the sending end, as soon as there is somebody to send to.
    ///
    /// A FIFO has to have a reader; a queue keeps messages for whoever comes. A two-way endpoint is
    /// connected, and what the peer says is thrown away
    /// ([`Connection::into_outgoing`](super::Connection::into_outgoing)). A program in `exec:` is
    /// started with our own standard output, and gets the messages on its input, as `popen(3)`
    /// does.
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
                if self.reconnect {
                    options.on_reader_gone(ReaderGone::Wait);
                }
                let sender = options.wait_timeout(self.wait).open_sender(fifo.path());
                let sender = sender.await.map_err(|error| match error {
                    fifo::Error::TimedOut { waited, .. } => Error::TimedOut {
                        endpoint: endpoint.clone(),
                        peer: "reader",
                        // To the nanosecond is of no use to anybody.
                        waited: self.wait.unwrap_or(waited),
                        source: None,
                    },
                    error => Error::Fifo(error),
                })?;
                let frames = SharedSender::with_large_frames(sender, self.framing.clone());
                Ok(Outgoing::frames(frames))
            }
            Endpoint::Mq(mq) => {
                let mut options = queue::options(mq, self);
                let queue = options.write(true).open(mq.name()).map_err(Error::Mq)?;
                let priority = mq.priority().unwrap_or_default();
                Ok(self.send_to_queue(queue, priority))
            }
            Endpoint::Stdio => {
                let stdout = stdio::stdout().map_err(|e| failed(endpoint, e))?;
                let frames = FramedWrite::new(stdout, self.framing.clone());
                Ok(Outgoing::frames(frames))
            }
            Endpoint::Exec(exec) => {
                let mut command = command(exec);
                command.pipe_to_child(0);
                let mut child = command.spawn().map_err(Error::Exec)?;
                let input = child.take_sender(0).map_err(Error::Exec)?;
                let outgoing = Outgoing::frames(input.framed(self.framing.clone()));
                Ok(outgoing.with_child(child))
            }
            Endpoint::Fd(fd) => self.send_to_fd(endpoint, fd),
            Endpoint::Unix(_) | Endpoint::UnixPacket(_) | Endpoint::Tcp(_) => {
                let first = self.connect(endpoint).await?;
                if !self.reconnect {
                    return Ok(first.into_outgoing());
                }
                let (options, at) = (self.clone(), endpoint.clone());
                let again: Connector = Box::new(move || {
                    let (options, at) = (options.clone(), at.clone());
                    Box::pin(async move { Ok(options.connect(&at).await?) })
                });
                let first = first.into_link().map_err(|e| failed(endpoint, e))?;
                let lasting = Lasting::new(endpoint.clone(), again, Some(first));
                Ok(Outgoing::lasting(lasting))
            }
        }
    }

    fn incoming(&self, half: impl Half + Send + Unpin + 'static, pace: Pace) -> Incoming {
        let framing = self.framing.clone();
        if self.poll_for.is_zero() {
            Incoming::bytes(half, framing, pace)
        } else {
            Incoming::bytes(Polled::new(half, self.poll_for), framing, pace)
        }
    }

    fn receive_from_fd(&self, endpoint: &Endpoint, fd: &endpoint::Fd) -> Result<Incoming, Error> {
        let (fd, found) = descriptor::take(endpoint, fd, Asked::Receive)?;
        let failed = |e| failed(endpoint, e);
        Ok(match found {
            Found::Pipe(_) => {
                // A pipe that cannot be opened once more is one that another user made.
                let reader: BoxHalf = match pipe::Receiver::from_shared_fd(&fd) {
                    Ok(pipe) => Box::new(Shared(pipe)),
                    Err(_) => Box::new(Shared(BlockingReader::new(fd).map_err(failed)?)),
                };
                self.incoming(reader, Pace::pipe())
            }
            Found::Queue(_) => {
                let queue = queue::inherited(self).open_fd(&fd).map_err(Error::Mq)?;
                let receiver = mq::Receiver::new(queue).map_err(Error::Mq)?;
                Incoming::new(Taken::new(receiver, self.paired))
            }
            Found::Device(_) | Found::File(_) => {
                let reader = BlockingReader::new(fd).map_err(failed)?;
                self.incoming(Shared(reader), Pace::default())
            }
            Found::Stream(_)
            | Found::Packets
            | Found::TcpListener
            | Found::UnixListener
            | Found::PacketListener => self.serve_fd(endpoint, fd, found)?.into_incoming(),
        })
    }

    fn send_to_fd(&self, endpoint: &Endpoint, fd: &endpoint::Fd) -> Result<Outgoing, Error> {
        let (fd, found) = descriptor::take(endpoint, fd, Asked::Send)?;
        let failed = |e| failed(endpoint, e);
        let framing = self.framing.clone();
        Ok(match found {
            Found::Pipe(_) => match pipe::Sender::from_shared_fd(&fd) {
                Ok(pipe) => Outgoing::frames(pipe.framed(framing)),
                // As for the receiver; and where the last reader of a FIFO has gone.
                Err(_) => {
                    let writer = BlockingWriter::new(fd).map_err(failed)?;
                    Outgoing::frames(FramedWrite::new(writer, framing).with_pace(Pace::pipe()))
                }
            },
            Found::Queue(_) => {
                let queue = queue::inherited(self).open_fd(&fd).map_err(Error::Mq)?;
                self.send_to_queue(queue, 0)
            }
            Found::Device(_) | Found::File(_) => {
                let writer = BlockingWriter::new(fd).map_err(failed)?;
                Outgoing::frames(FramedWrite::new(writer, framing))
            }
            // A listener was refused before.
            _ => self.connect_fd(endpoint, fd, found)?.into_outgoing(),
        })
    }

    fn send_to_queue(&self, queue: Queue, priority: Priority) -> Outgoing {
        let largest = queue.max_message();
        Outgoing::new(Given::new(queue, priority, self.paired)).with_max_message(largest)
    }

    fn fifo(&self, fifo: &endpoint::Fifo) -> fifo::OpenOptions {
        let mut options = fifo::OpenOptions::new();
        options
            .create(fifo.create().unwrap_or(self.create))
            .allow_foreign_owner(self.allow_foreign_owner);
        if let Some(mode) = fifo.mode() {
            options.mode(mode);
        }
        options
    }
}

/// What an address says of a program.
pub(super) fn command(exec: &endpoint::Exec) -> Command {
    let mut command = Command::new(exec.program());
    command.args(exec.args());
    command
}

pub(super) fn failed(endpoint: &Endpoint, source: std::io::Error) -> Error {
    Error::Io {
        endpoint: endpoint.clone(),
        source,
    }
}
