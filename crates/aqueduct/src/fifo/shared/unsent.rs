//! [`Unsent`]: encoded frames that wait to be written, and which write carries which of them.

use std::collections::VecDeque;

use bytes::{Buf, BytesMut};
use tracing::Span;

use super::PIPE_BUF;

/// Encoded frames, and where the writes that will carry them begin and end.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) buf: BytesMut,
    batches: VecDeque<Batch>,
    /// How many bytes of the first batch are written. They stay in the buffer until all are.
    written: usize,
    /// The last write has failed, and its error has been reported.
    pub(super) failed: bool,
    span: Span,
}

/// The contents of one write: frames of at most [`PIPE_BUF`] bytes together, or one larger frame.
#[derive(Debug)]
struct Batch {
    len: usize,
    frames: usize,
}

impl Unsent {
    pub(super) fn new(span: Span) -> Self {
        Self {
            buf: BytesMut::new(),
            batches: VecDeque::new(),
            written: 0,
            failed: false,
            span,
        }
    }

    /// How many bytes wait.
    pub(super) fn len(&self) -> usize {
        self.buf.len() - self.written
    }

    /// Counts a frame of `len` bytes that was appended to the buffer.
    pub(super) fn extend_by(&mut self, len: usize) {
        let first = self.batches.len() == 1;
        match self.batches.back_mut() {
            _ if len == 0 => {}
            Some(last) if last.len + len <= PIPE_BUF && !(first && self.written > 0) => {
                last.len += len;
                last.frames += 1;
            }
            _ => self.batches.push_back(Batch { len, frames: 1 }),
        }
    }

    /// The contents of the next write: a whole batch, or the rest of one.
    pub(super) fn next(&self) -> Option<&[u8]> {
        let first = self.batches.front()?;
        Some(&self.buf[self.written..first.len])
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.written += n;
        if let Some(batch) = self.batches.front()
            && self.written == batch.len
        {
            self.buf.advance(batch.len);
            self.written = 0;
            self.batches.pop_front();
        }
    }

    /// The next write begins with a whole batch again.
    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    /// A batch within [`PIPE_BUF`] is written whole or not at all; a larger one may be split.
    pub(super) fn is_inside_frame(&self) -> bool {
        self.written > 0
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        if !self.batches.is_empty() && !self.failed {
            tracing::warn!(
                target: "aqueduct::unsent",
                parent: &self.span,
                bytes = self.len(),
                frames = self.batches.iter().map(|it| it.frames).sum::<usize>(),
                torn = self.is_inside_frame(),
                "dropped with unsent data: flush or close before drop"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches_of(frames: &[usize]) -> Vec<usize> {
        let mut unsent = Unsent::new(Span::none());
        for len in frames {
            unsent.extend_by(*len);
        }
        unsent.batches.drain(..).map(|it| it.len).collect()
    }

    #[test]
    fn a_batch_holds_whole_frames_within_the_limit() {
        assert_eq!(batches_of(&[100, 0, 200]), [300]);
        assert_eq!(batches_of(&[4000, 96, 1]), [4096, 1]);
        assert_eq!(batches_of(&[4000, 97]), [4000, 97]);
        assert_eq!(batches_of(&[4096, 4096]), [4096, 4096]);
        assert_eq!(batches_of(&[10, 5000, 10, 10]), [10, 5000, 20]);
    }

    #[test]
    fn a_partly_written_frame_is_never_extended_and_can_restart() {
        let mut unsent = Unsent::new(Span::none());
        unsent.buf.extend_from_slice(&[0; 5000]);
        unsent.extend_by(5000);
        unsent.advance(4900);
        assert!(unsent.is_inside_frame());
        unsent.buf.extend_from_slice(&[0; 10]);
        unsent.extend_by(10);
        assert_eq!(unsent.batches.len(), 2);
        assert_eq!(unsent.next().unwrap().len(), 100);
        unsent.rewind();
        assert_eq!(unsent.next().unwrap().len(), 5000);
        unsent.advance(5000);
        assert!(!unsent.is_inside_frame());
        unsent.advance(10);
        assert!(unsent.batches.is_empty() && unsent.buf.is_empty());
    }
}
