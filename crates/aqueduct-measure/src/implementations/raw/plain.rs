//! One system call for each message, of a size that both sides know.

use std::io::{Read, Write};

use socket2::Socket;

use crate::check::Check;
use crate::message::Message;
use crate::session::{Receives, Sends, Session};

/// Bytes without framing.
pub(super) struct Plain<T> {
    io: T,
    buf: Vec<u8>,
}

impl<T> Plain<T> {
    pub(super) fn new(io: T, session: &Session) -> Self {
        Self {
            io,
            buf: vec![0; session.spec().size],
        }
    }
}

impl<T: Write + Send + 'static> Sends for Plain<T> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.io.write_all(&message.bytes)?)
    }
}

impl<T: Read + Send + 'static> Receives for Plain<T> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        self.io.read_exact(&mut self.buf)?;
        check.frame(&self.buf)
    }
}

/// A socket that keeps message boundaries.
pub(super) struct Packets {
    socket: Socket,
    buf: Vec<u8>,
}

impl Packets {
    pub(super) fn new(socket: Socket, session: &Session) -> Self {
        Self {
            socket,
            buf: vec![0; session.spec().size + 1],
        }
    }
}

impl Sends for Packets {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let sent = self.socket.send(&message.bytes)?;
        anyhow::ensure!(sent == message.bytes.len(), "a packet was cut");
        Ok(())
    }
}

impl Receives for Packets {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let len = self.socket.read(&mut self.buf)?;
        check.frame(&self.buf[..len])
    }
}
