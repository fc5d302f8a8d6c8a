//! Descriptors that cannot be waited for: a separate thread reads or writes them.
//!
//! `epoll` refuses regular files and some devices (`EPERM`, `epoll_ctl(2)`), and a terminal or a
//! socket that other processes share must not become non-blocking for them. So a thread waits and
//! works, one step at a time and only when asked. It is a plain thread, not one of the runtime's: a
//! thread of the blocking pool would hold up the runtime's shutdown while it waits.
//!
//! Later bytes belong to the next reader of the same open file, so a reader takes no more than it
//! was asked for.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, ready};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::coop::poll_proceed;

use crate::io::sys;

/// How many bytes one step moves at most.
const CHUNK: usize = 64 * 1024;

/// The thread as seen from the runtime: a step is requested with a buffer, and answered with it. At
/// most one step is in progress.
struct Worker {
    file: Arc<File>,
    asks: Sender<Vec<u8>>,
    answers: UnboundedReceiver<io::Result<Vec<u8>>>,
    under_way: bool,
    /// How many bytes a read may take at most. Checked when there is something to read, so that a
    /// smaller read shrinks the one in progress.
    at_most: Arc<AtomicUsize>,
    /// Closed with this, which ends the thread's waiting.
    _alive: PipeWriter,
}

/// The thread's side.
struct Job {
    file: Arc<File>,
    asks: Receiver<Vec<u8>>,
    answers: UnboundedSender<io::Result<Vec<u8>>>,
    at_most: Arc<AtomicUsize>,
    abandoned: PipeReader,
}

impl Worker {
    fn start(
        name: &str,
        fd: OwnedFd,
        step: fn(&Job, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (abandoned, alive) = io::pipe()?;
        let (asks, asked) = channel();
        let (answers, answered) = unbounded_channel();
        let file = Arc::new(File::from(fd));
        let at_most = Arc::new(AtomicUsize::new(CHUNK));
        let job = Job {
            file: Arc::clone(&file),
            asks: asked,
            answers,
            at_most: Arc::clone(&at_most),
            abandoned,
        };
        let run = move || {
            while let Ok(mut buf) = job.asks.recv() {
                let result = step(&job, &mut buf).map(|()| buf);
                if job.answers.send(result).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self {
            file,
            asks,
            answers: answered,
            under_way: false,
            at_most,
            _alive: alive,
        })
    }

    fn ask(&mut self, buf: Vec<u8>) -> io::Result<()> {
        self.under_way = true;
        self.asks.send(buf).map_err(|_| gone())
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Vec<u8>>> {
        let answer = ready!(self.answers.poll_recv(cx));
        self.under_way = false;
        Poll::Ready(answer.unwrap_or_else(|| Err(gone())))
    }
}

impl Job {
    /// Waits until the file is ready, or the other side has lost interest, which is an error.
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::new(self.file.as_fd(), events),
                PollFd::new(self.abandoned.as_fd(), PollFlags::empty()),
            ];
            match nix::poll::poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            if fds[1].any() == Some(true) {
                return Err(gone());
            }
            if fds[0].any() == Some(true) {
                return Ok(());
            }
        }
    }

    fn read(&self, buf: &mut Vec<u8>) -> io::Result<()> {
        let n = self.retry(PollFlags::POLLIN, |mut file| {
            buf.resize(self.at_most.load(Ordering::Relaxed), 0);
            file.read(buf)
        })?;
        buf.truncate(n);
        Ok(())
    }

    fn write(&self, buf: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = &buf[..];
        while !rest.is_empty() {
            match self.retry(PollFlags::POLLOUT, |mut file| file.write(rest))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => rest = &rest[n..],
            }
        }
        buf.clear();
        Ok(())
    }

    /// Tries until it works: another process may have made the descriptor non-blocking.
    fn retry(
        &self,
        events: PollFlags,
        mut op: impl FnMut(&File) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            self.wait(events)?;
            match op(&self.file) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Reads on a separate thread.
///
/// Dropping it ends the thread's wait. Bytes that the thread has read at that moment and nobody has
/// taken are lost, but it reads only when a reader waits, and no more than that one has room for.
pub(crate) struct BlockingReader {
    worker: Worker,
    buf: Vec<u8>,
    taken: usize,
}

impl BlockingReader {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            worker: Worker::start("aqueduct-reader", fd, Job::read)?,
            buf: Vec::new(),
            taken: 0,
        })
    }
}

impl AsyncRead for BlockingReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.taken == this.buf.len() {
            let proceed = ready!(poll_proceed(cx));
            // Without the thread if nothing has to be waited for, and the file can tell: the last
            // reads before a limit are of one byte each.
            if !this.worker.under_way && sys::read_now(&*this.worker.file, buf).is_ok() {
                proceed.made_progress();
                return Poll::Ready(Ok(()));
            }
            drop(proceed);
            let at_most = buf.remaining().min(CHUNK);
            this.worker.at_most.store(at_most, Ordering::Relaxed);
            if !this.worker.under_way {
                this.taken = 0;
                this.worker.ask(std::mem::take(&mut this.buf))?;
            }
            this.buf = ready!(this.worker.poll_answer(cx))?;
        }
        let rest = &this.buf[this.taken..];
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        this.taken += n;
        Poll::Ready(Ok(()))
    }
}

/// Writes on a separate thread.
///
/// An error belongs to an earlier write; a flush reports whether everything was written. Dropping
/// it without a flush discards unwritten bytes; a `write(2)` that blocks continues there.
pub(crate) struct BlockingWriter {
    worker: Worker,
    spare: Vec<u8>,
}

impl BlockingWriter {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            worker: Worker::start("aqueduct-writer", fd, Job::write)?,
            spare: Vec::new(),
        })
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.worker.under_way {
            self.spare = ready!(self.worker.poll_answer(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BlockingWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_idle(cx))?;
        let n = buf.len().min(CHUNK);
        let mut chunk = std::mem::take(&mut this.spare);
        chunk.extend_from_slice(&buf[..n]);
        this.worker.ask(chunk)?;
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_idle(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_idle(cx)
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the thread for this descriptor is gone",
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_test::{assert_pending, assert_ready};

    use super::*;

    async fn deadline<F: Future>(future: F) -> F::Output {
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, future).await.unwrap()
    }

    #[tokio::test]
    async fn a_regular_file_is_read_to_its_end_and_written() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = BlockingWriter::new(file.try_clone().unwrap().into()).unwrap();
        let text = vec![b'x'; 3 * CHUNK + 1];
        deadline(writer.write_all(&text)).await.unwrap();
        deadline(writer.flush()).await.unwrap();
        assert_eq!(file.metadata().unwrap().len(), text.len() as u64);
        io::Seek::rewind(&mut file).unwrap();
        let mut reader = BlockingReader::new(file.into()).unwrap();
        let mut read = Vec::new();
        deadline(reader.read_to_end(&mut read)).await.unwrap();
        assert!(read == text);
    }

    #[tokio::test]
    async fn an_error_of_a_write_comes_with_the_flush() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = BlockingWriter::new(full.into()).unwrap();
        writer.write_all(b"x").await.unwrap();
        let error = deadline(writer.flush()).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }

    /// Sockets on which a blocking read does not wait for ever.
    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let limit = Some(Duration::from_secs(5));
        ours.set_read_timeout(limit).unwrap();
        (ours, theirs)
    }

    #[tokio::test]
    async fn a_dropped_read_takes_nothing_from_the_next_reader() {
        let (ours, mut theirs) = pair();
        let mut reader = BlockingReader::new(ours.try_clone().unwrap().into()).unwrap();
        let mut byte = [0; 1];
        assert_pending!(tokio_test::task::spawn(reader.read(&mut byte)).poll());
        // The same read continues: bytes that arrive for it are not lost.
        theirs.write_all(b"abc").unwrap();
        for expected in [b"a", b"b"] {
            assert_eq!(deadline(reader.read(&mut byte)).await.unwrap(), 1);
            assert_eq!(&byte, expected);
        }
        // Nobody asks, so nothing is read: another reader gets it.
        drop(reader);
        assert_eq!((&ours).read(&mut byte).unwrap(), 1);
        assert_eq!(&byte, b"c");
    }

    #[tokio::test]
    async fn a_read_takes_no_more_than_its_buffer_has_room_for() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 2 * CHUNK]).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut reader = BlockingReader::new(file.try_clone().unwrap().into()).unwrap();
        let mut position = 0;
        for room in [1, 0, 7, 4096, 1] {
            let mut buf = vec![0; room];
            position += deadline(reader.read(&mut buf)).await.unwrap() as u64;
            assert_eq!(io::Seek::stream_position(&mut file).unwrap(), position);
        }
        assert_eq!(position, 4105);
    }

    #[tokio::test]
    async fn a_read_without_room_does_not_wait() {
        let (ours, theirs) = pair();
        let mut reader = BlockingReader::new(ours.try_clone().unwrap().into()).unwrap();
        assert_ready!(tokio_test::task::spawn(reader.read(&mut [])).poll()).unwrap();
        drop(reader);
        (&theirs).write_all(b"a").unwrap();
        assert_eq!((&ours).read(&mut [0; 8]).unwrap(), 1, "it is still there");
    }

    /// A wait that began for many bytes, and continued for few.
    #[tokio::test]
    async fn a_smaller_read_shrinks_the_one_under_way() {
        let (ours, mut theirs) = pair();
        let mut reader = BlockingReader::new(ours.try_clone().unwrap().into()).unwrap();
        let mut much = [0; 100];
        assert_pending!(tokio_test::task::spawn(reader.read(&mut much)).poll());
        let mut byte = [0; 1];
        let mut little = tokio_test::task::spawn(reader.read(&mut byte));
        assert_pending!(little.poll());
        theirs.write_all(b"abc").unwrap();
        assert_eq!(deadline(little).await.unwrap(), 1);
        drop(reader);
        assert_eq!((&ours).read(&mut much).unwrap(), 2);
    }

    #[tokio::test]
    async fn dropping_a_waiting_reader_ends_its_thread() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut reader = BlockingReader::new(ours.into()).unwrap();
        let mut byte = [0; 1];
        assert_pending!(tokio_test::task::spawn(reader.read(&mut byte)).poll());
        drop(reader);
        // The thread owned the only descriptor of that side: it is closed when the thread ends.
        theirs
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let start = Instant::now();
        assert_eq!(
            (&theirs).read(&mut byte).unwrap(),
            0,
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test]
    async fn a_descriptor_that_is_non_blocking_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut reader = BlockingReader::new(ours.into()).unwrap();
        let mut byte = [0; 1];
        assert_pending!(tokio_test::task::spawn(reader.read(&mut byte)).poll());
        theirs.write_all(b"a").unwrap();
        assert_eq!(deadline(reader.read(&mut byte)).await.unwrap(), 1);
    }
}
