//! [`Inbox`]: the bytes that a reader has read and not yet given away.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::framing::{Framing, HEADER};
use super::front::Find;
use super::pool;
use super::slabs::{COPY_BELOW, Slabs};
use super::stuffed;

/// Copies are fast between places at the same offset into their pages. On some processors they are
/// many times slower between others. Data from the kernel begins with a page.
const PAGE: usize = 4096;

/// Copies are slow if the destination is this much or less further into its page than the source.
const SLOW: usize = 15;

/// A larger offset than that, and a cache line.
const LINE: usize = 64;

/// How much is reserved at once for a large frame of which little has arrived. More follows as it
/// arrives.
const FIRST_STEP: usize = 128 * 1024;

/// The largest frame whose memory is kept for the next: 1 MiB, and its header.
const KEPT: usize = (1 << 20) + PAGE;

/// How many buffers for large frames are kept.
const SPARE: usize = 2;

/// Small frames side by side in one buffer, a large one in a separate buffer.
///
/// A large frame is one that does not fit the buffer that one read fills. Its body is read to the
/// beginning of a page of memory that becomes the frame. The memory returns when the frame is
/// dropped.
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub struct Inbox {
    /// Zeroed once, when it is created.
    memory: Vec<u8>,
    /// The first byte of `memory` at the beginning of a page.
    base: usize,
    start: usize,
    end: usize,
    slabs: Slabs,
    /// The current large frame, header included. Nothing is in `memory` then.
    large: Option<Large>,
    /// Each with the number of bytes that its memory has room for.
    spare: Vec<(BytesMut, usize)>,
    /// The last frame was large, and the next may be too: its header is read alone.
    header_first: Option<usize>,
    /// The header of a large frame begins a page, and not its body; see [`Inbox::of_pipe`].
    of_pipe: bool,
}

struct Large {
    buf: BytesMut,
    header: usize,
    /// Header and body.
    whole: usize,
    /// Lent out; gone when the next is asked for.
    lent: bool,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        pool::give_read(std::mem::take(&mut self.memory));
    }
}

/// The place of a frame that was found.
pub(super) enum Found {
    Small(Range<usize>),
    Large,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            memory: Vec::new(),
            base: 0,
            start: 0,
            end: 0,
            slabs: Slabs::default(),
            large: None,
            spare: Vec::new(),
            header_first: None,
            of_pipe: false,
        }
    }

    /// For a pipe: each write begins a page of it, and the body of a frame lies behind its header. At
    /// that offset it is copied out fast, and into the next pipe as well.
    pub(super) fn of_pipe(&mut self) {
        self.of_pipe = true;
    }

    pub(super) fn with(bytes: &[u8]) -> Self {
        let mut inbox = Self::new();
        if !bytes.is_empty() {
            inbox.make_room(bytes.len());
            inbox.memory[inbox.end..inbox.end + bytes.len()].copy_from_slice(bytes);
            inbox.end += bytes.len();
        }
        inbox
    }

    /// The bytes that have arrived and were not yet given away.
    pub(super) fn unread(&self) -> &[u8] {
        match &self.large {
            Some(large) if large.lent => &[],
            Some(large) => &large.buf,
            None => &self.memory[self.start..self.end],
        }
    }

    /// How much memory is held.
    pub(super) fn held(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |large| large.buf.capacity());
        self.memory.len() + large
    }

    /// Takes a frame off the front that lies there whole. If there is none, call
    /// [`next`](Self::next).
    #[inline(always)]
    pub(super) fn next_whole(&mut self, framing: &mut Framing) -> Option<Range<usize>> {
        // With a large frame, nothing is here.
        let unread = self.memory.get(self.start..self.end)?;
        let Some(len) = framing.whole(unread) else {
            return self.next_line(framing);
        };
        let at = self.start + HEADER;
        self.start = at + len;
        Some(at..self.start)
    }

    // Separate, so that the code for frames behind a length stays small.
    #[inline(never)]
    fn next_line(&mut self, framing: &mut Framing) -> Option<Range<usize>> {
        let len = framing.whole_line(&self.memory[self.start..self.end])?;
        let at = self.start;
        self.start = at + len + 1;
        Some(at..at + len)
    }

    /// Finds the next frame and takes it off the front; it stays readable until the next call.
    #[inline(always)]
    pub(super) fn next(&mut self, framing: &mut Framing, ended: bool) -> io::Result<Option<Found>> {
        if let Some(range) = self.next_whole(framing) {
            return Ok(Some(Found::Small(range)));
        }
        self.next_other(framing, ended)
    }

    /// [`next`](Self::next) where that takes more than a look at the front.
    #[inline(never)]
    fn next_other(&mut self, framing: &mut Framing, ended: bool) -> io::Result<Option<Found>> {
        match &self.large {
            Some(large) if large.lent => self.release(),
            Some(large) if large.buf.len() == large.whole => return Ok(Some(Found::Large)),
            Some(large) if ended => return framing.at_end(&large.buf).map(|_| None),
            Some(_) => return Ok(None),
            None if self.start == self.end && !ended => return Ok(None),
            None => {}
        }
        loop {
            let unread = &self.memory[self.start..self.end];
            return match framing.find(unread)? {
                Find::Frame { before, len, after } => {
                    let at = self.start + before;
                    self.start = at + len + after;
                    Ok(Some(Found::Small(at..at + len)))
                }
                Find::Stuffed { len } => {
                    // Copies of what follows the last frame were taken before this changes it.
                    self.slabs.forget();
                    let at = self.start;
                    let size = stuffed::take_out(&mut self.memory[at..at + len])?;
                    self.start = at + len + 1;
                    Ok(Some(Found::Small(at..at + size)))
                }
                Find::Drop(len) => {
                    self.start += len;
                    continue;
                }
                Find::Begun { header, len } if len >= COPY_BELOW && !ended => {
                    self.begin_large(header, len);
                    Ok(None)
                }
                _ if ended => {
                    let last = framing.at_end(unread)?;
                    let at = self.start;
                    self.start = self.end;
                    Ok(last.map(|len| Found::Small(at..at + len)))
                }
                _ => Ok(None),
            };
        }
    }

    /// A small frame, lent.
    #[inline]
    pub(super) fn lend_small(&self, range: Range<usize>) -> &[u8] {
        &self.memory[range]
    }

    /// Lends the frame found last.
    pub(super) fn lend(&mut self, found: Found) -> &[u8] {
        match found {
            Found::Small(range) => self.lend_small(range),
            Found::Large => match &mut self.large {
                Some(large) => {
                    large.lent = true;
                    &large.buf[large.header..]
                }
                None => &[],
            },
        }
    }

    /// A small frame, to keep.
    #[inline]
    pub(super) fn give_small(&mut self, range: Range<usize>) -> Bytes {
        if range.len() < COPY_BELOW {
            return self.slabs.copy(&self.memory[..self.end], range);
        }
        self.give_copied(range)
    }

    fn give_copied(&mut self, range: Range<usize>) -> Bytes {
        let len = range.len();
        let mut buf = self.buffer(0, len, len);
        buf.put_slice(&self.memory[range]);
        let frame = buf.split().freeze();
        self.keep(buf, len);
        frame
    }

    /// Returns the frame found last.
    #[inline]
    pub(super) fn give(&mut self, found: Found) -> Bytes {
        match found {
            Found::Small(range) => {
                let frame = self.give_small(range);
                self.has_given();
                frame
            }
            Found::Large => self.give_large(),
        }
    }

    fn give_large(&mut self) -> Bytes {
        let Some(mut large) = self.large.take() else {
            return Bytes::new();
        };
        let mut frame = large.buf.split().freeze();
        self.keep(large.buf, large.whole);
        frame.advance(large.header);
        frame
    }

    /// Reads once, at most `step` bytes; 0 is the end of the stream.
    pub(super) fn poll_fill<R: AsyncRead>(
        &mut self,
        io: Pin<&mut R>,
        cx: &mut Context<'_>,
        chunk: usize,
        step: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(large) = &mut self.large {
            let missing = large.whole - large.buf.len();
            if large.buf.len() == large.buf.capacity() {
                // As much again as has arrived: the length in the header is not trusted.
                large.buf.reserve(missing.min(large.buf.len()));
            }
            let mut room = (&mut large.buf).limit(missing.min(step));
            return poll_read_buf(io, cx, &mut room);
        }
        let mut room = chunk;
        if self.start == self.end
            && let Some(header) = self.header_first
        {
            room = header.min(chunk);
        }
        if self.memory.is_empty() {
            self.take_memory(chunk);
        }
        self.make_room(room);
        let mut buf = ReadBuf::new(&mut self.memory[self.end..self.end + room]);
        let Poll::Ready(read) = io.poll_read(cx, &mut buf) else {
            if self.start == self.end {
                self.give_all_back();
            }
            return Poll::Pending;
        };
        let n = buf.filled().len();
        read?;
        self.end += n;
        // Not before something arrived: the next frame is still awaited.
        self.header_first = None;
        Poll::Ready(Ok(n))
    }

    /// Takes memory for reads of `chunk` bytes.
    fn take_memory(&mut self, chunk: usize) {
        self.memory = pool::take_read(chunk + PAGE);
        self.base = self.memory.as_ptr().align_offset(PAGE).min(PAGE);
        self.start = self.base;
        self.end = self.base;
    }

    /// Frames that were given are copies: if they were all, the memory that was read into is free.
    #[inline(always)]
    pub(super) fn has_given(&mut self) {
        if self.start == self.end {
            self.give_back();
        }
    }

    /// Gives back the memory that is read into, which has nothing in it.
    #[cold]
    fn give_back(&mut self) {
        pool::give_read(std::mem::take(&mut self.memory));
        (self.base, self.start, self.end) = (0, 0, 0);
    }

    /// Gives back all memory that an end does not need while it waits.
    fn give_all_back(&mut self) {
        self.give_back();
        self.slabs.give_back();
        for (buf, size) in self.spare.drain(..) {
            pool::give(buf, size);
        }
    }

    /// Makes room for `room` bytes behind the unread ones, if possible from the beginning of a
    /// page.
    fn make_room(&mut self, room: usize) {
        self.slabs.forget();
        let unread = self.end - self.start;
        let front = unread.next_multiple_of(PAGE);
        let needed = self.base + front + room;
        if self.memory.len() < needed || self.memory.is_empty() {
            let size = needed.max(self.memory.len().saturating_mul(2).min(needed * 2));
            let memory = vec![0; size + PAGE];
            let base = memory.as_ptr().align_offset(PAGE).min(PAGE);
            let old = std::mem::replace(&mut self.memory, memory);
            let from = self.start..self.end;
            self.base = base;
            self.start = base + front - unread;
            self.end = base + front;
            self.memory[self.start..self.end].copy_from_slice(&old[from]);
        } else if unread < PAGE || self.memory.len() - self.end < room {
            let start = self.base + front - unread;
            if start != self.start {
                self.memory.copy_within(self.start..self.end, start);
                self.start = start;
                self.end = start + unread;
            }
        }
    }

    /// Moves the beginning of a large frame to a separate buffer, its body to the beginning of a
    /// page.
    fn begin_large(&mut self, header: usize, len: usize) {
        let begun = self.end - self.start;
        let mut buf = self.buffer(header, len, begun);
        buf.put_slice(&self.memory[self.start..self.end]);
        self.start = self.end;
        self.header_first = Some(header);
        self.large = Some(Large {
            buf,
            header,
            whole: header + len,
            lent: false,
        });
    }

    /// Returns an empty buffer of which the byte at `header` begins a page, or its second cache
    /// line; of a pipe, the first byte does. Reuses a kept one if it has room for `len` bytes more; otherwise allocates a first
    /// step of them, with room for `begun`.
    fn buffer(&mut self, header: usize, len: usize, begun: usize) -> BytesMut {
        // For the bytes before the page, and those behind it.
        let room = 2 * PAGE + header;
        let mut buf = BytesMut::new();
        for i in 0..self.spare.len() {
            if self.spare[i].0.try_reclaim(len + room) {
                buf = self.spare.swap_remove(i).0;
                break;
            }
        }
        if buf.capacity() == 0 {
            buf = pool::take(len + room).unwrap_or_default();
        }
        if buf.capacity() < len + room {
            buf.reserve(len.min(FIRST_STEP).max(begun) + room);
        }
        let header = if self.of_pipe { 0 } else { header };
        let at = buf.spare_capacity_mut()[header..].as_ptr();
        let mut pad = at.align_offset(PAGE).min(PAGE);
        // The last pages of a message on a Unix socket are full of its last bytes, so each of them
        // would lie as far into a page here as the frame reaches into its last.
        if !self.of_pipe && (1..=SLOW).contains(&(len % PAGE)) {
            pad += LINE;
        }
        buf.put_bytes(0, pad);
        buf.advance(pad);
        buf
    }

    fn release(&mut self) {
        if let Some(mut large) = self.large.take() {
            large.buf.clear();
            self.keep(large.buf, large.whole);
        }
    }

    /// Keeps the memory of a frame of `len` bytes for a later one.
    fn keep(&mut self, buf: BytesMut, len: usize) {
        if len <= KEPT {
            if self.spare.len() == SPARE {
                self.spare.remove(0);
            }
            self.spare.push((buf, len + 2 * PAGE));
        }
    }
}
