//! Many messages in one system call, each behind its length: the loop that a C programmer writes.

use std::io::{Read, Write};

use crate::check::Check;
use crate::message::Message;
use crate::session::{Receives, Sends, Session};

const HEADER: usize = 4;

/// Frames by way of one buffer, which is written when it is full and read into as far as it is
/// empty.
pub(super) struct Batched<T> {
    io: T,
    chunk: usize,
    whole: bool,
    buf: Vec<u8>,
    /// What of the buffer is filled: of a sender from 0 on.
    begin: usize,
    end: usize,
}

impl<T> Batched<T> {
    pub(super) fn new(io: T, session: &Session, chunk: usize) -> Self {
        Self {
            io,
            chunk,
            whole: false,
            // A frame that has not come whole, and what comes by one call.
            buf: vec![0; session.spec().size + HEADER + chunk],
            begin: 0,
            end: 0,
        }
    }
}

impl<T: Write> Batched<T> {
    /// Divides no frame among two calls.
    pub(super) fn with_whole_frames(mut self) -> Self {
        self.whole = true;
        self
    }

    fn put(&mut self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let room = self.chunk - self.end;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buf[self.end..self.end + now.len()].copy_from_slice(now);
            self.end += now.len();
            bytes = later;
            if self.end == self.chunk {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.io.write_all(&self.buf[..self.end])?;
        self.end = 0;
        Ok(())
    }
}

impl<T: Write + Send + 'static> Sends for Batched<T> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        if self.whole && self.end + HEADER + message.bytes.len() > self.chunk {
            self.write()?;
        }
        self.put(&(message.bytes.len() as u32).to_be_bytes())?;
        Ok(self.put(&message.bytes)?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.write()?)
    }
}

impl<T: Read + Send + 'static> Receives for Batched<T> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        if self.buf.len() - self.end < self.chunk {
            self.buf.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        let read = self
            .io
            .read(&mut self.buf[self.end..self.end + self.chunk])?;
        anyhow::ensure!(read > 0, "the stream has ended");
        self.end += read;
        while let Some((header, rest)) = self.buf[self.begin..self.end].split_first_chunk() {
            let len = u32::from_be_bytes(*header) as usize;
            anyhow::ensure!(
                len + HEADER + self.chunk <= self.buf.len(),
                "a frame is too large"
            );
            let Some(body) = rest.get(..len) else { break };
            check.frame(body)?;
            self.begin += HEADER + len;
        }
        Ok(())
    }
}
