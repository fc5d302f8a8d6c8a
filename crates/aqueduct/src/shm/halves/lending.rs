//! What [`lend`](crate::shm) needs of the halves: frames that are whole in a ring.

use std::io;
use std::mem;
use std::os::fd::{OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::ReadBuf;
use tokio_util::io::poll_read_buf;

use super::{Patience, ReadHalf, Reading, WriteHalf, Writing};
use crate::frame::FrameError;
use crate::io::sys::memory::{Room, Theirs};
use crate::shm::ring::{Link, Span, Tx};

/// The length before each frame, big-endian.
const HEADER: usize = 4;

/// At most this much is allocated for a frame before more of it has come.
const AHEAD: usize = 64 * 1024;

/// How far a frame has come.
#[derive(Debug, Default)]
pub(in crate::shm) enum Frame {
    /// Its length has not come.
    #[default]
    Header,
    /// Its length is known.
    Body(usize),
    /// It does not fit the ring: so much of it was copied.
    Copying(usize, Vec<u8>),
    /// There was an error, or the end.
    Over,
}

impl ReadHalf {
    /// Waits until a frame is whole; `None` at the end of the stream. It remains
    /// [`Body`](Frame::Body) in the ring or [`Copying`](Frame::Copying) until it is
    /// [taken](Self::take_frame).
    pub(in crate::shm) fn poll_frame(
        &mut self,
        frame: &mut Frame,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<()>>> {
        if let Some(lie) = self.passed.lie() {
            *frame = Frame::Over;
            return Poll::Ready(Some(self.wire.checked(Err(lie.into()))));
        }
        let whole = ready!(self.poll_whole(frame, max, cx));
        match whole {
            // One read of several waits: incoming frames are not a stream yet.
            Ok(true) => self.patience.paid(),
            _ => *frame = Frame::Over,
        }
        Poll::Ready(whole.map(|it| it.then_some(())).transpose())
    }

    fn poll_whole(
        &mut self,
        frame: &mut Frame,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let truncated = |got: usize, missing: usize| {
            let missing = Some(missing);
            Poll::Ready(Err(FrameError::Truncated { got, missing }.into()))
        };
        loop {
            match frame {
                Frame::Header => {
                    let there = ready!(self.poll_there(cx, HEADER))?;
                    if there == 0 {
                        return Poll::Ready(Ok(false));
                    }
                    if there < HEADER {
                        return truncated(there, HEADER - there);
                    }
                    let mut header = [0; HEADER];
                    self.copy(0, &mut header);
                    self.skip(HEADER);
                    let len = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
                    if len > max {
                        return Poll::Ready(Err(FrameError::TooLarge { len, max }.received()));
                    }
                    *frame = Frame::Body(len);
                }
                // Most frames are whole once their length has come.
                Frame::Body(len) if self.has(*len) => return Poll::Ready(Ok(true)),
                Frame::Body(len) => {
                    // The ring may have grown before it.
                    if ready!(self.poll_there(cx, 1))? == 0 {
                        return truncated(HEADER, *len);
                    }
                    if !self.ring_holds(*len) {
                        *frame = Frame::Copying(*len, Vec::new());
                        continue;
                    }
                    let there = ready!(self.poll_there(cx, *len))?;
                    if there < *len {
                        return truncated(HEADER + there, *len - there);
                    }
                    return Poll::Ready(Ok(true));
                }
                Frame::Copying(len, copy) => {
                    let missing = *len - copy.len();
                    if missing == 0 {
                        return Poll::Ready(Ok(true));
                    }
                    // A length is not trusted before its bytes have come.
                    let before = copy.len();
                    if copy.capacity() == before {
                        copy.reserve(missing.min(before.max(AHEAD)));
                    }
                    let mut rest = copy.limit(missing);
                    if ready!(poll_read_buf(Pin::new(&mut *self), cx, &mut rest))? == 0 {
                        return truncated(HEADER + before, missing);
                    }
                }
                Frame::Over => return Poll::Ready(Ok(false)),
            }
        }
    }

    /// Waits until `len` bytes are in the ring, or fewer and the end.
    fn poll_there(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        loop {
            match &mut self.state {
                Reading::Greeting => ready!(self.poll_greeted(cx))?,
                Reading::Memory(rx) => {
                    ready!(self.budget.poll(cx));
                    let there = rx.poll_there(&*self.wire, cx, len as u64, &mut self.patience);
                    // No more than a ring, which is mapped.
                    let there = ready!(there).map(|it| it as usize);
                    return Poll::Ready(self.wire.checked(there));
                }
                Reading::Socket(_) => return Poll::Ready(Err(fell_back())),
                Reading::Ended => return Poll::Ready(Ok(0)),
            }
        }
    }

    /// Whether `len` bytes are known to be in the ring.
    fn has(&self, len: usize) -> bool {
        matches!(&self.state, Reading::Memory(rx) if len as u64 <= rx.there())
    }

    fn ring_holds(&self, len: usize) -> bool {
        matches!(&self.state, Reading::Memory(rx) if len as u64 <= rx.size())
    }

    /// Where the bytes of a frame lie, and the memory in which they do.
    pub(in crate::shm) fn frame(&self, len: usize) -> Option<(&Theirs, [Span; 2])> {
        match &self.state {
            Reading::Memory(rx) => Some((self.wire.theirs()?, rx.spans(len))),
            _ => None,
        }
    }

    /// Copies bytes that are there.
    pub(in crate::shm) fn copy(&self, from: usize, to: &mut [u8]) {
        let Some((_, spans)) = self.frame(from + to.len()) else {
            return;
        };
        let (mut skip, mut buf) = (from, ReadBuf::new(to));
        for (at, len) in spans {
            let skipped = skip.min(len);
            self.wire.copy_out(at + skipped, len - skipped, &mut buf);
            skip -= skipped;
        }
    }

    /// Gives the room of bytes back.
    pub(in crate::shm) fn skip(&mut self, len: usize) {
        if let Reading::Memory(rx) = &mut self.state {
            rx.skip(&*self.wire, len);
        }
        self.budget.count(len);
    }

    /// Gives the frame of that number back, which [`poll_frame`](Self::poll_frame) has returned.
    pub(in crate::shm) fn take_frame(&mut self, frame: &mut Frame, number: u64) {
        self.passed.close(&self.wire, number);
        if let Frame::Body(len) = mem::take(frame) {
            self.skip(len);
        }
    }

    /// Descriptors are those of frames.
    pub(in crate::shm) fn keep_descriptors(&mut self) {
        self.passed.keeps = true;
    }

    /// The descriptors that came with the frame of that number.
    pub(in crate::shm) fn take_fds(&mut self, number: u64, max: usize) -> io::Result<Vec<OwnedFd>> {
        let taken = self.passed.take(&self.wire, number, max);
        self.wire.checked(taken)
    }
}

impl WriteHalf {
    /// Waits for room for a frame of up to `len` bytes.
    pub(in crate::shm) fn poll_reserve(
        &mut self,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let room = (HEADER + len) as u64;
        loop {
            let wire = &*self.wire;
            if wire.is_gone() {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            match &mut self.state {
                // What was written early might have to go over the socket.
                Writing::Early(tx) if tx.room() >= room && !wire.falls_back() => {
                    return Poll::Ready(Ok(()));
                }
                Writing::Early(_) | Writing::Greeting => ready!(self.poll_settled(Some(cx)))?,
                Writing::Memory(tx) if room > tx.most() => {
                    let max = tx.most() as usize - HEADER;
                    return Poll::Ready(Err(FrameError::TooLarge { len, max }.into()));
                }
                Writing::Memory(tx) => {
                    ready!(self.budget.poll(cx));
                    let waited = ready!(tx.poll_room(wire, cx, room));
                    return Poll::Ready(wire.checked(waited));
                }
                Writing::Socket(..) => return Poll::Ready(Err(fell_back())),
                Writing::Finished => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    /// Passes the descriptors of a frame that was reserved and is published next.
    pub(in crate::shm) fn poll_pass(
        &mut self,
        number: u64,
        fds: &[RawFd],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &self.state {
                Writing::Early(_) | Writing::Greeting => ready!(self.poll_settled(Some(cx)))?,
                Writing::Memory(_) => return self.passes.poll_pass(&self.wire, cx, number, fds),
                Writing::Socket(_) => return Poll::Ready(Err(fell_back())),
                Writing::Finished => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn tx(&mut self) -> Option<&mut Tx<Room>> {
        match &mut self.state {
            Writing::Early(tx) | Writing::Memory(tx) => Some(tx),
            _ => None,
        }
    }

    /// The room for the body of a frame of `len` bytes, which was [reserved](Self::poll_reserve).
    pub(in crate::shm) fn reserved(&mut self, len: usize) -> (&mut [u8], &mut [u8]) {
        let Some(tx) = self.tx() else {
            return (&mut [], &mut []);
        };
        let (data, spans) = tx.spare(HEADER as u64, len);
        data.parts(spans)
    }

    /// Sends the first `len` bytes of what was reserved as a frame.
    pub(in crate::shm) fn publish(&mut self, len: usize) -> io::Result<()> {
        let header = u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let wire = &*self.wire;
        let (tx, early) = match &mut self.state {
            Writing::Early(tx) => (tx, true),
            Writing::Memory(tx) => (tx, false),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let (data, [(at, first), _]) = tx.spare(0, HEADER);
        let header = header.to_be_bytes();
        let (before, behind) = header.split_at(first);
        data.write(at, before);
        data.write(0, behind);
        tx.show(wire, HEADER + len);
        if early {
            wire.set_written();
            // The peer may have said hello, and gone to sleep, just before this was written.
            if let Poll::Ready(settled) = self.poll_settled(None) {
                settled?;
            }
        } else {
            tx.publish(wire)?;
        }
        self.budget.count(HEADER + len);
        Ok(())
    }
}

fn fell_back() -> io::Error {
    let text = "nothing can be lent: the connection goes on over its socket, without shared memory";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
