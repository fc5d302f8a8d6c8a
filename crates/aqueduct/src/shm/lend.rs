//! [`Sender`], [`Receiver`]: messages that are written and read where they lie in shared memory.

use std::fmt::{self, Debug, Formatter};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::halves::{Frame, ReadHalf, WriteHalf};
use crate::connect::Connection;
use crate::frame::{FrameError, Framing};
use crate::unix::descriptors::check;

/// Splits a `shm:` connection into ends that lend its memory.
///
/// The peer needs no such ends: frames are those of
/// [`Framing::length`], and each side decides for itself. The limit on a message is that of the
/// connection's framing.
///
/// # Errors
///
/// Returns the connection itself if it is not one of `shm:`, if its framing is not
/// [`Framing::length`], or if something was already read from it, as after a
/// [handshake](crate::handshake).
///
/// # Examples
///
/// ```
/// use aqueduct::{Endpoint, shm};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let address: Endpoint = format!("shm:{}/frames", dir.path().display()).parse()?;
/// # let _ = r#"
/// let address: Endpoint = "shm:/run/app/frames".parse()?;
/// # "#;
/// let mut listener = address.bind().await?;
/// let client = address.connect().await?;
/// let server = listener.accept().await.ok_or("no client")??;
/// let (mut sender, _) = shm::into_split(client).map_err(|_| "not lendable")?;
/// let (_, mut receiver) = shm::into_split(server).map_err(|_| "not lendable")?;
///
/// let mut room = sender.reserve(1000).await?;
/// let (first, rest) = room.as_mut_slices();
/// first.fill(1);
/// rest.fill(1);
/// room.publish(1000)?;
///
/// let frame = receiver.lend().await.ok_or("no frame")??;
/// let mut head = [0; 2];
/// frame.copy_to(0, &mut head);
/// assert_eq!((frame.len(), frame.get(999), head), (1000, Some(1), [1, 1]));
/// # Ok(()) }
/// ```
#[expect(
    clippy::result_large_err,
    reason = "the connection is given back, not described"
)]
pub fn into_split(connection: Connection) -> Result<(Sender, Receiver), Connection> {
    if !connection.framing().cuts_like(&Framing::length()) {
        return Err(connection);
    }
    let max = connection.framing().get_max_frame();
    let (mut reader, writer) = connection.into_halves::<ReadHalf, WriteHalf>()?;
    reader.keep_descriptors();
    let receiver = Receiver {
        half: reader,
        frame: Frame::default(),
        number: 0,
        max,
    };
    let sender = Sender {
        half: writer,
        number: 0,
        max,
    };
    Ok((sender, receiver))
}

/// The sending end of a connection, whose messages are written in place.
///
/// Dropping it ends this direction: the peer receives what was published, then the end of the stream.
#[derive(Debug)]
#[must_use = "dropping it ends the stream"]
pub struct Sender {
    half: WriteHalf,
    /// How many messages were published.
    number: u64,
    max: usize,
}

impl Sender {
    /// Waits for room for a message of up to `len` bytes.
    ///
    /// A message and its length of 4 bytes must fit the largest ring, which is the smaller `capacity` of
    /// both sides. The ring grows for it once the peer has read everything.
    ///
    /// # Errors
    ///
    /// - [`FrameError::TooLarge`] if `len` is above the limit of the framing or does not fit the ring.
    ///   The sender goes on.
    /// - `EPIPE` if the peer has gone.
    /// - [`PeerError`](super::PeerError) if it breaks the protocol.
    /// - `Unsupported` if the connection [went on over its socket](crate::shm#options-of-the-address).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is sent before [`publish`](Reserved::publish).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let address: aqueduct::Endpoint = format!("shm:{}/frames", dir.path().display()).parse()?;
    /// # let mut listener = address.bind().await?;
    /// # let client = address.connect().await?;
    /// # let server = listener.accept().await.ok_or("no client")??;
    /// # let (mut sender, _a) = aqueduct::shm::into_split(client).map_err(|_| "not lendable")?;
    /// # let (_b, mut receiver) = aqueduct::shm::into_split(server).map_err(|_| "not lendable")?;
    /// let room = sender.reserve(10).await?;
    /// drop(room); // Nothing is sent.
    /// sender.reserve(0).await?.publish(0)?;
    /// assert!(receiver.lend().await.ok_or("no frame")??.is_empty());
    /// # Ok(()) }
    /// ```
    pub async fn reserve(&mut self, len: usize) -> io::Result<Reserved<'_>> {
        if len > self.max {
            return Err(FrameError::TooLarge { len, max: self.max }.into());
        }
        poll_fn(|cx| self.half.poll_reserve(len, cx)).await?;
        Ok(Reserved {
            half: &mut self.half,
            number: &mut self.number,
            len,
            written: 0,
        })
    }
}

/// Room for one message, in memory that only this process writes.
///
/// [`io::Write`] fills it from the front, for serialisers; it takes no more than was reserved. Dropping
/// it sends nothing.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let address: aqueduct::Endpoint = format!("shm:{}/frames", dir.path().display()).parse()?;
/// # let mut listener = address.bind().await?;
/// # let client = address.connect().await?;
/// # let server = listener.accept().await.ok_or("no client")??;
/// # let (mut sender, _a) = aqueduct::shm::into_split(client).map_err(|_| "not lendable")?;
/// # let (_b, mut receiver) = aqueduct::shm::into_split(server).map_err(|_| "not lendable")?;
/// use std::io::Write;
///
/// let mut room = sender.reserve(100).await?;
/// write!(room, "{} + {}", 1, 2)?;
/// let len = room.written();
/// room.publish(len)?;
/// assert_eq!(receiver.lend().await.ok_or("no frame")??.len(), 5);
/// # Ok(()) }
/// ```
#[must_use = "nothing is sent before `publish`"]
pub struct Reserved<'a> {
    half: &'a mut WriteHalf,
    number: &'a mut u64,
    len: usize,
    written: usize,
}

impl Reserved<'_> {
    /// The reserved bytes, which continue in the second slice if they cross the edge of the ring.
    ///
    /// They hold what this process wrote there for earlier messages, or zeros.
    pub fn as_mut_slices(&mut self) -> (&mut [u8], &mut [u8]) {
        self.half.reserved(self.len)
    }

    /// How many bytes were written through [`io::Write`].
    pub fn written(&self) -> usize {
        self.written
    }

    /// Sends the first `len` bytes as one message. It takes no time of its own, and wakes a peer that
    /// sleeps.
    ///
    /// # Errors
    ///
    /// - `InvalidInput` if `len` is above what was reserved; nothing is sent.
    /// - `EPIPE` if the peer was to be woken and has gone.
    pub fn publish(self, len: usize) -> io::Result<()> {
        self.check(len)?;
        self.half.publish(len)?;
        *self.number += 1;
        Ok(())
    }

    /// Sends the first `len` bytes as one message, and with it duplicates of open file descriptors.
    ///
    /// They go over the socket of the connection (unix(7): `SCM_RIGHTS`), before the message. The peer
    /// [takes](Lent::take_fds) them with the message or closes them, as a peer with ordinary ends does
    /// with all. Waits for the peer's hello, and for room while the socket is full: the kernel holds some
    /// hundred messages with descriptors that the peer has not looked at (`wmem_default`, socket(7)).
    ///
    /// # Errors
    ///
    /// Nothing is sent, and the sender goes on, unless it is `EPIPE` or of the peer's hello.
    ///
    /// - [`FrameError::TooManyDescriptors`] above 253.
    /// - `InvalidInput` if `len` is above what was reserved.
    /// - [`PeerError::NoDescriptors`](super::PeerError::NoDescriptors) if the peer does not take descriptors.
    /// - `ETOOMANYREFS` if too many of the user's descriptors are in flight (the limit is
    ///   `RLIMIT_NOFILE`).
    /// - `EPIPE` if the peer has gone.
    /// - As for [`reserve`](Sender::reserve) otherwise.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: either nothing was sent or the future was ready.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let address: aqueduct::Endpoint = format!("shm:{}/frames", dir.path().display()).parse()?;
    /// # let mut listener = address.bind().await?;
    /// # let client = address.connect().await?;
    /// # let server = listener.accept().await.ok_or("no client")??;
    /// # let (_a, mut receiver) = aqueduct::shm::into_split(client).map_err(|_| "not lendable")?;
    /// # let (mut sender, _b) = aqueduct::shm::into_split(server).map_err(|_| "not lendable")?;
    /// let file = std::fs::File::open("/dev/null")?;
    /// sender.reserve(4).await?.publish_with_fds(4, &[file]).await?;
    ///
    /// let mut message = receiver.lend().await.ok_or("no message")??;
    /// assert_eq!((message.len(), message.take_fds(1)?.len()), (4, 1));
    /// # Ok(()) }
    /// ```
    pub async fn publish_with_fds<F: AsFd>(self, len: usize, fds: &[F]) -> io::Result<()> {
        self.check(len)?;
        let number = *self.number;
        // Its bytes are its number, of which there are some.
        let raw = check(&number.to_le_bytes(), fds)?;
        if !raw.is_empty() {
            poll_fn(|cx| self.half.poll_pass(number, &raw, cx)).await?;
        }
        self.publish(len)
    }

    fn check(&self, len: usize) -> io::Result<()> {
        if len > self.len {
            let text = format!("cannot publish {len} bytes: {} are reserved", self.len);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }
}

impl io::Write for Reserved<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (mut skip, mut done) = (self.written, 0);
        let (first, second) = self.half.reserved(self.len);
        for part in [first, second] {
            let skipped = skip.min(part.len());
            let room = &mut part[skipped..];
            let n = room.len().min(bytes.len() - done);
            room[..n].copy_from_slice(&bytes[done..done + n]);
            skip -= skipped;
            done += n;
        }
        self.written += done;
        Ok(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Debug for Reserved<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserved")
            .field("len", &self.len)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

/// The receiving end of a connection, whose messages are read in place.
#[derive(Debug)]
#[must_use = "dropping it loses what the peer sends"]
pub struct Receiver {
    half: ReadHalf,
    frame: Frame,
    /// How many messages were taken.
    number: u64,
    max: usize,
}

impl Receiver {
    /// Waits for the next message; `None` is the end of the stream.
    ///
    /// The message keeps its room until it is dropped, so a peer that needs the room waits. A
    /// message larger than the ring, which a peer that does not lend can send, is copied as it arrives.
    ///
    /// # Errors
    ///
    /// Each is the last item.
    ///
    /// - [`FrameError::TooLarge`] if the message is above the limit of the framing.
    /// - [`FrameError::Truncated`] if the peer has gone in the middle of one.
    /// - [`PeerError`](super::PeerError) if it breaks the protocol.
    /// - `Unsupported` if the connection [went on over its socket](crate::shm#options-of-the-address).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message that was not returned is returned by the next call.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let address: aqueduct::Endpoint = format!("shm:{}/frames", dir.path().display()).parse()?;
    /// # let mut listener = address.bind().await?;
    /// # let client = address.connect().await?;
    /// # let server = listener.accept().await.ok_or("no client")??;
    /// # let (mut sender, _a) = aqueduct::shm::into_split(client).map_err(|_| "not lendable")?;
    /// # let (_b, mut receiver) = aqueduct::shm::into_split(server).map_err(|_| "not lendable")?;
    /// sender.reserve(3).await?.publish(3)?;
    /// drop(sender);
    /// while let Some(message) = receiver.lend().await {
    ///     assert_eq!(message?.len(), 3);
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn lend(&mut self) -> Option<io::Result<Lent<'_>>> {
        let frame = poll_fn(|cx| self.half.poll_frame(&mut self.frame, self.max, cx)).await?;
        Some(frame.map(|()| Lent { receiver: self }))
    }
}

/// One message, in memory that the peer may change at any moment.
///
/// So there is no safe reference to its bytes: they are copied out, or loaded one by one. A byte that
/// is looked at twice may differ; parse what was copied. A peer that changes a message it has sent harms
/// that message only.
///
/// Dropping it returns its room to the peer. Leaking it ([`std::mem::forget`]) keeps the room; the next
/// call returns the same message again.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let address: aqueduct::Endpoint = format!("shm:{}/frames", dir.path().display()).parse()?;
/// # let mut listener = address.bind().await?;
/// # let client = address.connect().await?;
/// # let server = listener.accept().await.ok_or("no client")??;
/// # let (mut sender, _a) = aqueduct::shm::into_split(client).map_err(|_| "not lendable")?;
/// # let (_b, mut receiver) = aqueduct::shm::into_split(server).map_err(|_| "not lendable")?;
/// use std::io::Write;
///
/// let mut room = sender.reserve(8).await?;
/// room.write_all(b"to: here")?;
/// room.publish(8)?;
///
/// let message = receiver.lend().await.ok_or("no message")??;
/// let mut key = [0; 3];
/// message.copy_to(0, &mut key);
/// assert_eq!((&key, message.get(4)), (b"to:", Some(b'h')));
/// # Ok(()) }
/// ```
#[must_use = "dropping it loses the message"]
pub struct Lent<'a> {
    receiver: &'a mut Receiver,
}

impl Lent<'_> {
    /// How many bytes it has. This process holds the number: the peer cannot change it.
    pub fn len(&self) -> usize {
        match &self.receiver.frame {
            Frame::Body(len) | Frame::Copying(len, _) => *len,
            Frame::Header | Frame::Over => 0,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies its bytes from the offset `from` on into all of `to`, each loaded once.
    ///
    /// # Panics
    ///
    /// Panics if the message is shorter than that.
    pub fn copy_to(&self, from: usize, to: &mut [u8]) {
        let len = self.len();
        assert!(
            from <= len && to.len() <= len - from,
            "range {from}..+{} out of range for a message of {len} bytes",
            to.len()
        );
        match &self.receiver.frame {
            Frame::Copying(_, copy) => to.copy_from_slice(&copy[from..from + to.len()]),
            _ => self.receiver.half.copy(from, to),
        }
    }

    /// Loads one byte, if the message has it.
    pub fn get(&self, at: usize) -> Option<u8> {
        match &self.receiver.frame {
            Frame::Copying(_, copy) => copy.get(at).copied(),
            _ if at >= self.len() => None,
            _ => {
                let (memory, [(first, len), (second, _)]) = self.receiver.half.frame(self.len())?;
                Some(memory.byte(if at < len {
                    first + at
                } else {
                    second + at - len
                }))
            }
        }
    }

    /// Takes the descriptors that came [with the message](Reserved::publish_with_fds), close-on-exec;
    /// none if it came without any, or they were taken before. Those that are not taken are closed with
    /// the message.
    ///
    /// # Errors
    ///
    /// - [`FrameError::DescriptorsTruncated`] if there are more than `max_fds`, or more than this process
    ///   can open. All were closed; the message is whole, and the receiver goes on.
    /// - `InvalidInput` for a `max_fds` above 253.
    /// - [`PeerError::Passing`](super::PeerError::Passing) if the peer breaks the protocol. The connection
    ///   is closed.
    ///
    /// # Examples
    ///
    /// See [`publish_with_fds`](Reserved::publish_with_fds).
    pub fn take_fds(&mut self, max_fds: usize) -> io::Result<Vec<OwnedFd>> {
        let Receiver { half, number, .. } = &mut *self.receiver;
        half.take_fds(*number, max_fds)
    }

    /// The message itself, without a copy. It continues in the second slice if it crosses the edge of
    /// the ring.
    ///
    /// # Safety
    ///
    /// The peer must not write to the message while the slices live. What is trusted is the peer's whole
    /// process: that it is a build of this library or one that keeps its protocol, and that none of its
    /// code, nor anybody who can write its memory (ptrace(2)), changes the ring where this message lies.
    /// A peer that does makes this process's behaviour undefined. The credentials of the
    /// [`Connection::peer`] tell which user it is.
    #[allow(unsafe_code)] // The promise is the caller's, so it is made here.
    pub unsafe fn as_slices(&self) -> (&[u8], &[u8]) {
        if let Frame::Copying(_, copy) = &self.receiver.frame {
            return (copy, &[]);
        }
        let Some((memory, [(first, len), (second, rest)])) = self.receiver.half.frame(self.len())
        else {
            return (&[], &[]);
        };
        // SAFETY: the caller promises it for the bytes of this message.
        unsafe { (memory.slice(first, len), memory.slice(second, rest)) }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Receiver {
            half,
            frame,
            number,
            ..
        } = &mut *self.receiver;
        half.take_frame(frame, *number);
        *number += 1;
    }
}

impl Debug for Lent<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
