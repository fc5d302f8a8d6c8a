//! `fd:N`: the address of an inherited descriptor, and how each kind is opened.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use socket2::{SockRef, Type};

use super::found::{Found, Use, take};
use crate::address::{
    AddressProblem, Awaited, Capabilities, Direction, EndOfStream, LargestMessage, Ordering,
    Printer, Sharing,
};
use crate::connect::{
    Asked, Bound, BoxHalf, ByteStream, Connection, End, Endpoint, Mechanism, MessageReceiver,
    MessageSender, OpenError, Opening, Peer, Place, Scheme, Served, Shared,
};
use crate::frame::{FramedWrite, Pace};
use crate::io::blocking::{BlockingReader, BlockingWriter};
use crate::unix::{halves, peer_credentials, seqpacket};
use crate::{mq, pipe, tcp, unix};

pub(crate) static SCHEME: Scheme = Scheme {
    name: "fd",
    form: "fd:N",
    summary: "inherited descriptor",
    options: &["frame"],
    synonyms: &[],
    parse: |rest, _| Ok(Arc::new(Fd::parse(rest)?)),
};

/// The address of descriptor `number`.
pub(super) fn endpoint(number: i32) -> Endpoint {
    Endpoint::from_parts(&SCHEME, Arc::new(Fd { number }))
}

#[derive(Clone, Debug)]
struct Fd {
    number: i32,
}

impl Fd {
    fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
        let rest = String::from_utf8_lossy(rest);
        let valid = rest.bytes().all(|b| b.is_ascii_digit());
        match rest.parse().ok().filter(|_| valid) {
            Some(number) => Ok(Self { number }),
            None => Err(AddressProblem::InvalidPart {
                part: "descriptor",
                value: rest.into_owned(),
                expected: "a number such as 3",
            }),
        }
    }

    fn take(&self, asked: Asked<'_>, use_: Use) -> Result<(OwnedFd, Found), OpenError> {
        take(self.number, asked.address, use_, asked.options.is_addressed)
    }
}

impl Mechanism for Fd {
    fn print(&self, printer: &mut Printer) {
        printer.literal(&self.number.to_string());
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            direction: Direction::AsOpened,
            keeps_boundaries: None,
            ordering: Ordering::AsOpened,
            end_of_stream: EndOfStream::AsOpened,
            largest_message: LargestMessage::AsOpened,
            readers: Sharing::AsOpened,
            writers: Sharing::AsOpened,
            awaits: Awaited::Nobody,
            listens: None,
            outlives_processes: false,
            private: true,
            stdio: false,
        }
    }

    fn place(&self, _: End) -> Option<Place> {
        // A descriptor of anything else can be used only once, for both directions together.
        let one = || Place::Name("fd", self.number.to_string().into_bytes());
        Some(Place::descriptor(self.number).unwrap_or_else(one))
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let (fd, found) = self.take(asked, Use::Connect)?;
            connection(fd, found, asked)
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let (fd, found) = self.take(asked, Use::Bind)?;
            serve(fd, found, asked)
        })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let (fd, found) = self.take(asked, Use::Send)?;
            let failed = |e| asked.failed(e);
            let framing = asked.options.framing.clone();
            Ok(match found {
                Found::Pipe(_) => match pipe::Sender::from_shared_fd(&fd) {
                    Ok(pipe) => MessageSender::bytes(pipe.framed(framing)),
                    // As for the receiver; and if the last reader of a FIFO has closed it.
                    Err(_) => {
                        let writer = BlockingWriter::new(fd).map_err(failed)?;
                        let frames = FramedWrite::new(writer, framing).with_pace(Pace::pipe());
                        MessageSender::bytes(frames)
                    }
                },
                Found::Queue(_) => mq::send_to(fd.as_fd(), asked.options)?,
                Found::Device(_) | Found::File(_) => {
                    let writer = BlockingWriter::new(fd).map_err(failed)?;
                    MessageSender::bytes(FramedWrite::new(writer, framing))
                }
                // A listener was refused before.
                _ => connection(fd, found, asked)?.into_sender(),
            })
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let (fd, found) = self.take(asked, Use::Receive)?;
            let failed = |e| asked.failed(e);
            Ok(match found {
                Found::Pipe(_) => {
                    // A pipe that cannot be opened again is one that another user created.
                    let reader: BoxHalf = match pipe::Receiver::from_shared_fd(&fd) {
                        Ok(pipe) => Box::new(Shared(pipe)),
                        Err(_) => Box::new(Shared(BlockingReader::new(fd).map_err(failed)?)),
                    };
                    asked.options.receive(reader, Pace::pipe())
                }
                Found::Queue(_) => mq::receive_from(fd.as_fd(), asked.options)?,
                Found::Device(_) | Found::File(_) => {
                    let reader = BlockingReader::new(fd).map_err(failed)?;
                    asked.options.receive(Shared(reader), Pace::default())
                }
                _ => serve(fd, found, asked)?
                    .bound
                    .limited(asked.options)
                    .into_receiver(),
            })
        })
    }
}

/// A connection over a descriptor that was taken over.
fn connection(fd: OwnedFd, found: Found, asked: Asked<'_>) -> Result<Connection, OpenError> {
    let failed = |e| asked.failed(e);
    let framing = asked.options.framing.clone();
    Ok(match found {
        Found::Packets => {
            let max_message = framing.max_message();
            let socket = seqpacket::Socket::from_shared(fd, max_message).map_err(failed)?;
            seqpacket::connection(socket, framing, true)
        }
        Found::Device(_) => {
            let other = fd.try_clone().map_err(failed)?;
            let reader = BlockingReader::new(fd).map_err(failed)?;
            let writer = BlockingWriter::new(other).map_err(failed)?;
            let bytes = ByteStream::join(reader, writer);
            Connection::bytes(bytes, framing, Pace::default(), Peer::Unknown)
                .never_discarding()
                .polled(asked.options.poll_for)
        }
        // Kinds that cannot be connected were refused before.
        _ => {
            let peer = peer(&fd);
            let (reader, writer) = halves::split(fd).map_err(failed)?;
            let bytes = ByteStream::join(reader, writer);
            Connection::bytes(bytes, framing, Pace::default(), peer).polled(asked.options.poll_for)
        }
    })
}

/// A listener over a descriptor that was taken over.
fn serve(fd: OwnedFd, found: Found, asked: Asked<'_>) -> Result<Served, OpenError> {
    match found {
        Found::TcpListener => tcp::serve(fd, asked),
        Found::UnixListener => unix::serve(fd, Type::STREAM, asked),
        Found::PacketListener => unix::serve(fd, Type::SEQPACKET, asked),
        _ => Ok(Bound::once(connection(fd, found, asked)?, asked.address).into()),
    }
}

fn peer(fd: &OwnedFd) -> Peer {
    let address = SockRef::from(fd).peer_addr().ok();
    match address.and_then(|it| it.as_socket()) {
        Some(address) => Peer::Address(address),
        None => peer_credentials(fd).map_or(Peer::Unknown, Peer::Process),
    }
}
