use std::any::Any;
use std::fmt::{self, Debug, Formatter};
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use sync_wrapper::SyncWrapper;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::half::{BoxHalf, Half, Rest, Shared};
use crate::io::Polled;

/// The writing half of a [`ByteStream`].
pub(crate) type ByteWriter = Box<dyn Writer>;

/// A writing half whose type can be found again.
pub(crate) trait Writer: AsyncWrite + Any + Send + Unpin {}

impl<W: AsyncWrite + Send + Unpin + 'static> Writer for W {}

/// The reading half of a socket.
pub(crate) trait SocketHalf: Half + Send + Unpin + 'static {
    /// The other half.
    type Writer: AsyncWrite + Send + Unpin + 'static;

    /// The descriptor of both.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Drops a writing half without shutting it down.
    fn keep_open(writer: Self::Writer);
}

/// Joins the halves into the socket, if a descriptor is free for it.
type Whole = fn(Box<dyn Any>, Box<dyn Any>) -> Result<OwnedFd, ByteStream>;

fn whole<R: SocketHalf>(reader: Box<dyn Any>, writer: Box<dyn Any>) -> Result<OwnedFd, ByteStream> {
    let halves = (
        reader.downcast::<R>(),
        writer.downcast::<Closing<R::Writer>>(),
    );
    let (Ok(reader), Ok(mut writer)) = halves else {
        unreachable!("`ByteStream::socket` was given these types");
    };
    let duplicate = reader.descriptor().try_clone_to_owned();
    let duplicate = duplicate.and_then(|fd| {
        SockRef::from(&fd).set_nonblocking(false)?;
        Ok(fd)
    });
    let Ok(fd) = duplicate else {
        return Err(ByteStream {
            whole: Some(whole::<R>),
            ..ByteStream::boxed(reader, writer)
        });
    };
    if let Some(writer) = writer.0.take() {
        R::keep_open(writer);
    }
    Ok(fd)
}

/// Takes the socket out of [`ByteStream::bare`].
fn taken(reader: Box<dyn Any>, _: Box<dyn Any>) -> Result<OwnedFd, ByteStream> {
    match reader.downcast::<Bare>() {
        Ok(bare) => Ok(bare.0),
        Err(_) => unreachable!("`ByteStream::bare` was given this type"),
    }
}

/// A two-way byte stream without framing: `AsyncRead` and `AsyncWrite`.
///
/// For protocols with their own framing. A [`Connection`](super::Connection) turns
/// [into](super::Connection::into_bytes) one, and two pipes [join](Self::join) into one.
///
/// # Cancel safety
///
/// As for the socket or pipe underneath: a `read` or `write` that is dropped has moved nothing.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cat: Endpoint = "exec:cat".parse()?;
/// let bytes = cat.connect().await?.into_bytes().map_err(|_| "not a byte stream")?;
/// let (mut reader, mut writer) = bytes.into_split();
/// writer.write_all(b"meow").await?;
/// writer.shutdown().await?;
/// let mut echo = String::new();
/// reader.read_to_string(&mut echo).await?;
/// assert_eq!(echo, "meow");
/// # Ok(()) }
/// ```
pub struct ByteStream {
    reader: SyncWrapper<BoxHalf>,
    writer: SyncWrapper<ByteWriter>,
    vectored: bool,
    whole: Option<Whole>,
}

impl ByteStream {
    /// Joins two one-way streams, such as the pipes to and from a child.
    ///
    /// Unlike with `tokio::io::join`, shutting down closes the pipe, so that its reader sees the
    /// end of stream.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::child::Command;
    /// use aqueduct::connect::ByteStream;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// let mut sort = Command::new("sort");
    /// sort.pipe_to_child(0).pipe_from_child(1);
    /// let mut child = sort.spawn()?;
    /// let mut sort = ByteStream::join(child.take_receiver(1)?, child.take_sender(0)?);
    /// sort.write_all(b"2\n1\n").await?;
    /// sort.shutdown().await?;
    /// let mut sorted = String::new();
    /// sort.read_to_string(&mut sorted).await?;
    /// assert_eq!(sorted, "1\n2\n");
    /// # Ok(()) }
    /// ```
    pub fn join(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self::of(Shared(reader), writer)
    }

    /// The same as [`join`](Self::join), for a half that knows how to stop.
    pub(crate) fn of(
        reader: impl Half + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self::boxed(Box::new(reader), Box::new(Closing(Some(writer))))
    }

    /// As [`of`](Self::of), of the halves of a socket.
    pub(crate) fn socket<R: SocketHalf>(reader: R, writer: R::Writer) -> Self {
        Self {
            whole: Some(whole::<R>),
            ..Self::of(reader, writer)
        }
    }

    /// Of a socket that is not registered with the runtime: it is only taken [out](Self::into_socket)
    /// again, in the mode that it has.
    pub(crate) fn bare(socket: OwnedFd) -> Self {
        Self {
            whole: Some(taken),
            ..Self::boxed(Box::new(Bare(socket)), Box::new(tokio::io::sink()))
        }
    }

    /// Of both halves.
    pub(crate) fn boxed(reader: BoxHalf, writer: ByteWriter) -> Self {
        Self {
            reader: SyncWrapper::new(reader),
            vectored: writer.is_write_vectored(),
            writer: SyncWrapper::new(writer),
            whole: None,
        }
    }

    /// Duplicates the descriptor of a socket.
    pub(super) fn duplicate(&mut self) -> Option<OwnedFd> {
        self.reader.get_mut().duplicate()
    }

    /// Returns both halves.
    pub(crate) fn halves(self) -> (BoxHalf, ByteWriter) {
        (self.reader.into_inner(), self.writer.into_inner())
    }

    /// Whether its halves are of these types.
    pub(super) fn consists_of<R: Half, W: 'static>(&mut self) -> bool {
        let (reader, writer) = (&**self.reader.get_mut(), &**self.writer.get_mut());
        let (reader, writer): (&dyn Any, &dyn Any) = (reader, writer);
        reader.is::<R>() && writer.is::<Closing<W>>()
    }

    /// Returns both halves, if they are of these types.
    pub(super) fn typed_halves<R: Half, W: 'static>(self) -> Option<(R, W)> {
        let (reader, writer): (Box<dyn Any>, Box<dyn Any>) =
            (self.reader.into_inner(), self.writer.into_inner());
        let writer = writer.downcast::<Closing<W>>().ok()?;
        Some((*reader.downcast().ok()?, writer.0?))
    }

    /// Puts `read` before everything else.
    pub(crate) fn behind(self, read: BytesMut) -> Self {
        if read.is_empty() {
            return self;
        }
        let (reader, writer) = self.halves();
        Self::boxed(Box::new(Behind { read, reader }), writer)
    }

    /// Uses latency mode, if the limit says so.
    pub(crate) fn polled(self, limit: Duration) -> Self {
        if limit.is_zero() {
            return self;
        }
        let (mut reader, writer) = self.halves();
        if reader.polls_for(limit) {
            return Self::boxed(reader, writer);
        }
        Self::boxed(Box::new(Polled::new(reader, limit)), writer)
    }

    /// Splits it into its two directions, for two tasks, without a lock between them.
    ///
    /// Shutting down or dropping the writing half ends that direction: a pipe is closed.
    pub fn into_split(
        self,
    ) -> (
        impl AsyncRead + Send + Unpin + use<>,
        impl AsyncWrite + Send + Unpin + use<>,
    ) {
        self.halves()
    }

    /// Closes it so that the peer cannot take that for the end of the stream, where the mechanism
    /// can say so.
    ///
    /// A proxy does this if the other side broke. TCP resets the connection (`SO_LINGER` in
    /// `socket(7)`): the peer gets `ECONNRESET`, and data on its way is lost. TLS does the same, without
    /// `close_notify`. The peer of a Unix socket or a pipe reads an end.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::ErrorKind;
    ///
    /// use aqueduct::Endpoint;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let address: Endpoint = "tcp://127.0.0.1:0".parse()?;
    /// let mut listener = address.bind().await?;
    /// let client = listener.local_endpoint().connect().await?;
    /// let accepted = listener.accept().await.ok_or("no client")??;
    ///
    /// accepted.into_bytes().map_err(|_| "no bytes")?.reset();
    /// let mut client = client.into_bytes().map_err(|_| "no bytes")?;
    /// let error = client.read_u8().await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    /// # Ok(()) }
    /// ```
    pub fn reset(mut self) {
        self.reader.get_mut().abort();
        if let Ok(socket) = self.into_socket() {
            // A Unix socket takes it too, and ignores it.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// Returns the socket itself, in blocking mode.
    ///
    /// For a child's standard input and output, for example.
    ///
    /// Neither direction is shut down: the connection ends when the descriptor and its duplicates are
    /// closed.
    ///
    /// # Errors
    ///
    /// Returns the stream itself in these cases: it is not a Unix or TCP stream socket; it holds
    /// bytes that were read and not yet taken, as after a handshake; it is in latency mode; no file
    /// descriptor is free for a duplicate (`EMFILE`).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::process::Stdio;
    ///
    /// use aqueduct::Endpoint;
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio::process::Command;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let address: Endpoint = format!("unix:{}/socket", dir.path().display()).parse()?;
    /// let mut listener = address.bind().await?;
    /// let client = address.connect().await?;
    /// let accepted = listener.accept().await.ok_or("no client")??;
    ///
    /// let accepted = accepted.into_bytes().map_err(|_| "no bytes")?;
    /// let socket = accepted.into_socket().map_err(|_| "no socket")?;
    /// let mut sort = Command::new("sort");
    /// sort.stdin(socket.try_clone()?).stdout(Stdio::from(socket));
    /// let mut child = sort.spawn()?;
    /// drop(sort);
    ///
    /// let mut client = client.into_bytes().map_err(|_| "no bytes")?;
    /// client.write_all(b"2\n1\n").await?;
    /// client.shutdown().await?;
    /// let mut sorted = String::new();
    /// client.read_to_string(&mut sorted).await?;
    /// assert_eq!(sorted, "1\n2\n");
    /// child.wait().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_socket(self) -> Result<OwnedFd, Self> {
        match self.whole {
            Some(whole) => whole(self.reader.into_inner(), self.writer.into_inner()),
            None => Err(self),
        }
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.reader.get_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.writer.get_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.writer.get_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.writer.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.writer.get_mut()).poll_shutdown(cx)
    }
}

impl Debug for ByteStream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}

/// A socket that is not registered.
struct Bare(OwnedFd);

impl AsyncRead for Bare {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl Half for Bare {
    fn stop(&mut self) -> Rest {
        Rest::Stays
    }
}

/// Reads what has already been read, and then goes on.
struct Behind {
    read: BytesMut,
    reader: BoxHalf,
}

impl AsyncRead for Behind {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.reader).poll_read(cx, buf);
        }
        let n = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl Half for Behind {
    fn stop(&mut self) -> Rest {
        self.reader.stop()
    }

    fn undelivered(&self) -> io::Result<usize> {
        self.reader.undelivered()
    }

    fn abort(&mut self) {
        self.reader.abort();
    }

    fn duplicate(&self) -> Option<OwnedFd> {
        self.reader.duplicate()
    }
}

/// Closes the stream underneath when it is shut down.
struct Closing<W>(Option<W>);

impl<W: AsyncWrite + Unpin> Closing<W> {
    fn open(&mut self) -> io::Result<Pin<&mut W>> {
        let writer = self.0.as_mut().map(Pin::new);
        writer.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Closing<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.open() {
            Ok(writer) => writer.poll_flush(cx),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Ok(writer) = self.open() {
            ready!(writer.poll_shutdown(cx))?;
            self.0 = None;
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads one direction and keeps the other open until that has ended.
pub(crate) struct Held {
    reader: BoxHalf,
    writer: Option<ByteWriter>,
}

impl Held {
    pub(crate) fn new(reader: BoxHalf, writer: ByteWriter) -> Self {
        let writer = Some(writer);
        Self { reader, writer }
    }
}

impl Half for Held {
    fn stop(&mut self) -> Rest {
        let rest = self.reader.stop();
        if rest == Rest::Comes {
            // The only message that TCP has for a peer.
            self.writer = None;
        }
        rest
    }
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.reader).poll_read(cx, buf));
        if read.is_err() || buf.filled().len() == before && buf.remaining() > 0 {
            self.writer = None;
        }
        Poll::Ready(read)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::pipe;

    /// Protocols such as HTTP shut their side down and go on reading. The peer has to see the end
    /// of stream though the two pipes and this value live on.
    #[tokio::test]
    async fn shutting_down_two_joined_pipes_ends_only_the_written_one() {
        let (there, mut at_peer) = pipe::pipe().unwrap();
        let (mut from_peer, here) = pipe::pipe().unwrap();
        let mut joined = ByteStream::join(here, there);
        let talk = async {
            joined.write_all(b"hello").await.unwrap();
            joined.shutdown().await.unwrap();
            let mut said = String::new();
            at_peer.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "hello");

            // A second shutdown does nothing, and a late write is an error.
            joined.shutdown().await.unwrap();
            joined.flush().await.unwrap();
            let late = joined.write(b"late").await.unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);

            from_peer.write_all(b"bye").await.unwrap();
            let mut buf = [0; 3];
            joined.read_exact(&mut buf).await.unwrap();
            assert_eq!(&buf, b"bye");
        };
        let done = tokio::time::timeout(Duration::from_secs(30), talk).await;
        done.unwrap();
    }
}
