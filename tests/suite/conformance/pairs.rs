//! Pipes within this process, and byte streams that are delivered in the smallest pieces.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use aqueduct::frame::{FramedRead, FramedWrite, Framing};
use aqueduct::pipe;
use aqueduct_conformance::{End, Place, Promises, Side, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Where one side leaves the other side's end, by the place of both.
pub(super) struct Meeting<T>(Mutex<BTreeMap<PathBuf, T>>);

impl<T> Meeting<T> {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    /// Gives one of the ends that `make` made, to each side its own.
    pub(super) async fn end(
        &self,
        place: &Place,
        side: Side,
        make: impl FnOnce() -> io::Result<(T, T)>,
    ) -> io::Result<T> {
        let path = place.dir().to_owned();
        match side {
            Side::Here => {
                let (here, there) = make()?;
                self.0.lock().expect("nobody panics").insert(path, there);
                Ok(here)
            }
            Side::There => {
                let take = async || {
                    let end = self.0.lock().expect("nobody panics").remove(&path);
                    end.ok_or(io::ErrorKind::NotFound.into())
                };
                place.retry(take).await
            }
        }
    }
}

pub(super) fn framed(
    place: &Place,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    reader: impl AsyncRead + Send + Unpin + 'static,
) -> End {
    let framing = Framing::length().max_frame(place.max_frame());
    End::new(
        FramedWrite::new(writer, framing.clone()),
        FramedRead::new(reader, framing),
    )
}

/// An anonymous pipe each way.
pub(crate) struct Pipes {
    capacity: Option<usize>,
}

impl Pipes {
    /// Of the system's usual capacity.
    pub(crate) fn new() -> Self {
        Self { capacity: None }
    }

    pub(crate) fn of_one_page() -> Self {
        Self {
            capacity: Some(4096),
        }
    }

    fn pipe(&self) -> io::Result<(pipe::Sender, pipe::Receiver)> {
        let (sender, receiver) = pipe::pipe()?;
        if let Some(bytes) = self.capacity {
            assert_eq!(sender.set_capacity(bytes)?, bytes);
        }
        Ok((sender, receiver))
    }
}

impl Transport for Pipes {
    fn promises(&self) -> Promises {
        Promises::new().with_halves_told_apart()
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        static MEETING: Meeting<(pipe::Sender, pipe::Receiver)> = Meeting::new();
        let make = || {
            let ((to, their_from), (their_to, from)) = (self.pipe()?, self.pipe()?);
            Ok(((to, from), (their_to, their_from)))
        };
        let (sender, receiver) = MEETING.end(place, side, make).await?;
        Ok(framed(place, sender, receiver))
    }
}

/// A pipe in packet mode each way.
pub(crate) struct PacketPipes;

impl Transport for PacketPipes {
    fn promises(&self) -> Promises {
        Promises::new()
            .with_halves_told_apart()
            .without_empty_messages()
            .with_largest(4096)
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        use pipe::packet::{Receiver, Sender, pipe};

        static MEETING: Meeting<(Sender, Receiver)> = Meeting::new();
        let make = || {
            let ((to, their_from), (their_to, from)) = (pipe()?, pipe()?);
            Ok(((to, from), (their_to, their_from)))
        };
        let (sender, receiver) = MEETING.end(place, side, make).await?;
        Ok(End::new(sender, receiver))
    }
}

/// A byte stream of which each call moves one byte.
pub(crate) enum ByteByByte {
    Pipes,
    Sockets,
}

impl Transport for ByteByByte {
    fn promises(&self) -> Promises {
        // As small as shows every cut: each byte is two system calls, and one more point to be
        // dropped at for each 128 of them.
        let promises = Promises::new().with_largest(700);
        match self {
            Self::Pipes => promises.with_halves_told_apart(),
            Self::Sockets => promises,
        }
    }

    async fn open(&self, place: &Place, side: Side) -> io::Result<End> {
        match self {
            Self::Pipes => {
                static MEETING: Meeting<(pipe::Sender, pipe::Receiver)> = Meeting::new();
                let make = || {
                    let pipes = Pipes::of_one_page();
                    let ((to, their_from), (their_to, from)) = (pipes.pipe()?, pipes.pipe()?);
                    Ok(((to, from), (their_to, their_from)))
                };
                let (sender, receiver) = MEETING.end(place, side, make).await?;
                Ok(one_by_one(place, sender, receiver))
            }
            Self::Sockets => {
                static MEETING: Meeting<UnixStream> = Meeting::new();
                let stream = MEETING.end(place, side, UnixStream::pair).await?;
                let (reader, writer) = stream.into_split();
                Ok(one_by_one(place, writer, reader))
            }
        }
    }
}

fn one_by_one(
    place: &Place,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    reader: impl AsyncRead + Send + Unpin + 'static,
) -> End {
    let framing = Framing::length().max_frame(place.max_frame());
    // With no more held back than a few messages.
    let writer = FramedWrite::new(OneByte(writer), framing.clone()).with_chunk(1000);
    End::new(writer, FramedRead::new(OneByte(reader), framing))
}

/// Reads and writes one byte at a time.
struct OneByte<T>(T);

impl<T: AsyncRead + Unpin> AsyncRead for OneByte<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut one = [0];
        let room = buf.remaining().min(1);
        let mut byte = ReadBuf::new(&mut one[..room]);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut byte))?;
        buf.put_slice(byte.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for OneByte<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
