//! Blocking system calls: one for each message, and many messages in one.

mod batched;
mod plain;
mod queue;

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};

use socket2::{Domain, SockAddr, Socket, Type};

use self::batched::Batched;
use self::plain::{Packets, Plain};
use super::place;
use super::{play, play_halves};
use crate::case::{Case, Mechanism, ONE_WAY, Run, Runtime, case};
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::Session;

pub(super) const CASES: &[Case] = &[
    blocking("raw/pipe", Mechanism::Pipe, |it| files(it, Mechanism::Pipe)),
    blocking("raw/fifo", Mechanism::Fifo, |it| files(it, Mechanism::Fifo)),
    blocking("raw/unix", Mechanism::Unix, |it| plain(it, unix(it)?)),
    blocking("raw/tcp", Mechanism::Tcp, |it| plain(it, tcp(it)?)),
    blocking("raw/unixpacket", Mechanism::UnixPacket, |it| {
        play(it, Packets::new(packets(it)?, it))
    }),
    blocking("raw/mq", Mechanism::Mq, queue::run),
    batch("raw/pipe/batched", Mechanism::Pipe, |it| {
        batched_files(it, Mechanism::Pipe)
    }),
    batch("raw/fifo/batched", Mechanism::Fifo, |it| {
        batched_files(it, Mechanism::Fifo)
    }),
    // What several writers of a FIFO do: whole messages within what one write takes.
    Case {
        sizes: &[64],
        ..batch("raw/fifo/shared", Mechanism::Fifo, shared_fifo)
    },
    batch("raw/unix/batched", Mechanism::Unix, |it| {
        play(it, Batched::new(unix(it)?, it, SOCKET_CHUNK))
    }),
    batch("raw/tcp/batched", Mechanism::Tcp, |it| {
        play(it, Batched::new(tcp(it)?, it, SOCKET_CHUNK))
    }),
];

/// How much one system call of a batched loop moves at most: what was best by measurement.
const SOCKET_CHUNK: usize = 64 << 10;
const PIPE_CHUNK: usize = 8 << 10;
/// What one write puts into a pipe whole: pipe(7).
const PIPE_BUF: usize = 4096;

/// A case without a runtime.
const fn blocking(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        runtime: Runtime::Blocking,
        ..case(name, mechanism, run)
    }
}

const fn batch(name: &'static str, mechanism: Mechanism, run: Run) -> Case {
    Case {
        works: ONE_WAY,
        ..blocking(name, mechanism, run)
    }
}

fn plain<T: std::io::Read + std::io::Write + Send + 'static>(
    session: &Session,
    io: T,
) -> anyhow::Result<SideReport> {
    play(session, Plain::new(io, session))
}

fn files(session: &Session, mechanism: Mechanism) -> anyhow::Result<SideReport> {
    ready("")?;
    let (tx, rx) = place::files(session, mechanism)?;
    let end = |it| Plain::new(it, session);
    play_halves(session, (tx.map(end), rx.map(end)))
}

fn batched_files(session: &Session, mechanism: Mechanism) -> anyhow::Result<SideReport> {
    ready("")?;
    let (tx, rx) = place::files(session, mechanism)?;
    let end = |it| Batched::new(it, session, PIPE_CHUNK);
    play_halves(session, (tx.map(end), rx.map(end)))
}

fn shared_fifo(session: &Session) -> anyhow::Result<SideReport> {
    ready("")?;
    let (tx, rx) = place::files(session, Mechanism::Fifo)?;
    let tx = tx.map(|it| Batched::new(it, session, PIPE_BUF).with_whole_frames());
    let rx = rx.map(|it| Batched::new(it, session, PIPE_CHUNK));
    play_halves(session, (tx, rx))
}

fn unix(session: &Session) -> anyhow::Result<UnixStream> {
    let path = session.spec().path("socket");
    if session.is_first() {
        return Ok(UnixStream::connect(path)?);
    }
    let listener = UnixListener::bind(path)?;
    ready("")?;
    Ok(listener.accept()?.0)
}

fn tcp(session: &Session) -> anyhow::Result<TcpStream> {
    let stream = if session.is_first() {
        TcpStream::connect(&session.spec().address)?
    } else {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        ready(&listener.local_addr()?.to_string())?;
        listener.accept()?.0
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn packets(session: &Session) -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    let address = SockAddr::unix(session.spec().path("socket"))?;
    let socket = if session.is_first() {
        socket.connect(&address)?;
        socket
    } else {
        socket.bind(&address)?;
        socket.listen(1)?;
        ready("")?;
        socket.accept()?.0
    };
    // A packet has to fit; this is what Aqueduct asks for, too.
    let room = session.spec().size * 2 + 4096;
    if socket.send_buffer_size()? < room {
        socket.set_send_buffer_size(room)?;
    }
    Ok(socket)
}
