//! Standard input and output, without side effects on processes that share them.
//!
//! A shell, its other children and this process often share one open file behind standard input or
//! output, and its non-blocking mode with it (`open(2)`, "open file description"). So this module
//! never changes that mode:
//!
//! | standard input or output is | how it is read or written |
//! |---|---|
//! | a pipe or a FIFO | through a separate open file description of the same pipe (`/proc/self/fd`, `proc(5)`), non-blocking |
//! | a terminal, a file, a socket, a device | unchanged, on a separate thread |
//!
//! A read or write that waits does not keep the process or the runtime from ending.
//!
//! A standard descriptor that was closed when the process began is `/dev/null`: Rust's runtime
//! opens it instead, so input ends at once and output is discarded.
//!
//! Creating and using them needs a Tokio runtime.
//!
//! # Examples
//!
//! ```
//! use aqueduct::frame::{FramedRead, Framing};
//! use futures_util::StreamExt;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let mut lines = FramedRead::new(aqueduct::stdio::stdin()?, Framing::lines());
//! # let mut lines = FramedRead::new(tokio::io::empty(), Framing::lines());
//! while let Some(line) = lines.next().await {
//!     println!("{} bytes", line?.len());
//! }
//! # Ok(()) }
//! ```

mod scheme;

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::io::blocking::{BlockingReader, BlockingWriter};
use crate::io::fd::Kind;
use crate::pipe;

pub(crate) use self::scheme::SCHEME;

/// Standard input; see the [module](self).
///
/// # Cancel safety
///
/// Cancel safe while the `Stdin` is kept. If it is dropped while a read waits, the thread behind it
/// may take one more chunk of input, which is lost.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut input = aqueduct::stdio::stdin()?;
/// # let mut input = tokio::io::empty();
/// let mut text = String::new();
/// input.read_to_string(&mut text).await?;
/// # Ok(()) }
/// ```
pub struct Stdin(Input);

enum Input {
    Pipe(pipe::Receiver),
    Thread(BlockingReader),
}

/// Standard output; see the [module](self).
///
/// Flush before the process ends, or the last bytes may not be written. An error of a write may be
/// returned by the next write, or by the flush. Shutting down flushes; the standard descriptor
/// itself stays open.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut stdout = aqueduct::stdio::stdout()?;
/// stdout.write_all(b"hello\n").await?;
/// stdout.flush().await?;
/// # Ok(()) }
/// ```
pub struct Stdout(Output);

enum Output {
    Pipe(pipe::Sender),
    Thread(BlockingWriter),
}

/// Opens standard input.
///
/// # Errors
///
/// - `EMFILE`: the process is out of file descriptors.
/// - `EAGAIN`: no thread is available.
/// - There is no Tokio runtime.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut input = aqueduct::stdio::stdin()?;
/// # let mut input = tokio::io::empty();
/// let mut text = String::new();
/// input.read_to_string(&mut text).await?;
/// # Ok(()) }
/// ```
pub fn stdin() -> io::Result<Stdin> {
    input(io::stdin().as_fd()).map(Stdin)
}

/// Opens standard output.
///
/// # Errors
///
/// As for [`stdin`].
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let mut output = aqueduct::stdio::stdout()?;
/// output.write_all(b"hello\n").await?;
/// output.flush().await?;
/// # Ok(()) }
/// ```
pub fn stdout() -> io::Result<Stdout> {
    output(io::stdout().as_fd()).map(Stdout)
}

impl Stdout {
    /// Waits until the last reader of the pipe has closed it.
    ///
    /// If standard output is not a pipe or a FIFO, it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        if let Output::Pipe(pipe) = &self.0
            && pipe.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn input(fd: BorrowedFd<'_>) -> io::Result<Input> {
    // It fails for a pipe that another user created, and without /proc.
    if Kind::of(fd)? == Kind::Pipe
        && let Ok(pipe) = pipe::Receiver::from_shared_fd(fd)
    {
        return Ok(Input::Pipe(pipe));
    }
    BlockingReader::new(fd.try_clone_to_owned()?).map(Input::Thread)
}

fn output(fd: BorrowedFd<'_>) -> io::Result<Output> {
    // As above; and for a FIFO that has no reader any more (`ENXIO`, fifo(7)).
    if Kind::of(fd)? == Kind::Pipe
        && let Ok(pipe) = pipe::Sender::from_shared_fd(fd)
    {
        return Ok(Output::Pipe(pipe));
    }
    BlockingWriter::new(fd.try_clone_to_owned()?).map(Output::Thread)
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Input::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Input::Thread(thread) => Pin::new(thread).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Output::Pipe(pipe) => Pin::new(pipe).poll_write(cx, buf),
            Output::Thread(thread) => Pin::new(thread).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Output::Pipe(pipe) => Pin::new(pipe).poll_flush(cx),
            Output::Thread(thread) => Pin::new(thread).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Debug for Stdin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

impl Debug for Stdout {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdout").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read_all(input: Input) -> Vec<u8> {
        let mut all = Vec::new();
        let mut stdin = Stdin(input);
        let read = stdin.read_to_end(&mut all);
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, read).await.unwrap().unwrap();
        all
    }

    #[tokio::test]
    async fn an_anonymous_pipe_is_read_through_an_open_file_of_its_own() {
        let (reader, mut writer) = io::pipe().unwrap();
        let theirs = input(reader.as_fd()).unwrap();
        assert!(matches!(theirs, Input::Pipe(_)));
        assert!(
            !crate::io::fd::is_nonblocking(&reader).unwrap(),
            "the shared one stays blocking"
        );
        writer.write_all(b"hi").unwrap();
        drop(writer);
        assert_eq!(read_all(theirs).await, b"hi");
    }

    #[tokio::test]
    async fn a_pipe_whose_writer_has_gone_before_ends() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"hi").unwrap();
        drop(writer);
        assert_eq!(read_all(input(reader.as_fd()).unwrap()).await, b"hi");
    }

    #[tokio::test]
    async fn a_fifo_whose_writer_has_gone_before_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let reader = options.open(&path).unwrap();
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(b"hi").unwrap();
        drop(writer);
        let input = input(reader.as_fd()).unwrap();
        assert!(matches!(input, Input::Pipe(_)), "no thread is needed");
        assert_eq!(read_all(input).await, b"hi");
    }

    #[tokio::test]
    async fn a_fifo_whose_reader_has_gone_before_reports_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let reader = options.open(&path).unwrap();
        let writer = File::options().write(true).open(&path).unwrap();
        drop(reader);
        let mut stdout = Stdout(output(writer.as_fd()).unwrap());
        let written = async {
            tokio::io::AsyncWriteExt::write_all(&mut stdout, b"x").await?;
            tokio::io::AsyncWriteExt::flush(&mut stdout).await
        };
        let limit = Duration::from_secs(30);
        let error = tokio::time::timeout(limit, written).await.unwrap();
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }

    #[tokio::test]
    async fn the_reader_of_standard_output_can_be_seen_to_leave() {
        let (reader, writer) = io::pipe().unwrap();
        let stdout = Stdout(output(writer.as_fd()).unwrap());
        let mut closed = tokio_test::task::spawn(stdout.closed());
        tokio_test::assert_pending!(closed.poll());
        // Writable, and still not closed.
        tokio::task::yield_now().await;
        tokio_test::assert_pending!(closed.poll());
        drop(reader);
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, closed).await.unwrap();
    }

    #[tokio::test]
    async fn devices_that_epoll_refuses_are_read_and_written() {
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        assert_eq!(read_all(input(null.as_fd()).unwrap()).await, b"");
        let mut stdout = Stdout(output(null.as_fd()).unwrap());
        tokio::io::AsyncWriteExt::write_all(&mut stdout, b"x")
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::flush(&mut stdout).await.unwrap();
    }
}
