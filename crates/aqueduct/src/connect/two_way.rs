//! Connecting and binding two-way endpoints.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{SockRef, Type};

use super::activation::{self, Wanted};
use super::byte_stream::ByteStream;
use super::descriptor::{self, Found};
use super::listener::{Inner, Listener, tcp_connection, unix_connection};
use super::open::{command, failed};
use super::{Asked, Connection, Error, Limit, Options, Peer};
use crate::blocking::{BlockingReader, BlockingWriter};
use crate::endpoint::{self, Endpoint, UnixName};
use crate::frame::Pace;
use crate::unix::{halves, peer_credentials, seqpacket};
use crate::{stdio, tcp, unix};

impl Options {
    /// Connects a two-way endpoint.
    ///
    /// A server that is not there yet is waited for, trying again with growing pauses, for as long
    /// as [`wait`](Self::wait) says. Programs in `exec:` are started; their standard error is ours.
    ///
    /// # Errors
    ///
    /// Those of [`Error`]; for a one-way mechanism [`Unsupported`](Error::Unsupported) with
    /// [`Limit::OneWay`], and nothing has happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the wait and leaves nothing open.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Error> {
        let framing = self.framing.clone();
        match endpoint {
            Endpoint::Tcp(tcp) => {
                let mut options = tcp::ConnectOptions::new();
                if self.wait != Some(Duration::ZERO) {
                    options.retry(true).timeout(self.wait);
                }
                if let Some(nodelay) = tcp.nodelay() {
                    options.nodelay(nodelay);
                }
                let stream = options.connect(tcp_address(tcp)).await;
                let stream = stream.map_err(|error| match error {
                    tcp::Error::TimedOut { after, source, .. } => {
                        self.timed_out(endpoint, after, source)
                    }
                    error => Error::Tcp(error),
                })?;
                Ok(tcp_connection(stream, framing).polled(self.poll_for))
            }
            Endpoint::Unix(unix) => {
                let stream = self.unix_options().connect(unix_address(unix)).await;
                let stream = stream.map_err(|error| self.unix_error(endpoint, error))?;
                let connection =
                    unix_connection(stream, framing).map_err(|e| failed(endpoint, e))?;
                Ok(connection.polled(self.poll_for))
            }
            Endpoint::UnixPacket(unix) => {
                let options = self.unix_options();
                let socket = options.connect_seqpacket(unix_address(unix)).await;
                let socket = socket.map_err(|error| self.unix_error(endpoint, error))?;
                Ok(Connection::packets(socket, framing))
            }
            Endpoint::Exec(exec) => {
                let mut command = command(exec);
                command.pipe_to_child(0).pipe_from_child(1);
                let mut child = command.spawn().map_err(Error::Exec)?;
                let input = child.take_sender(0).map_err(Error::Exec)?;
                let output = child.take_receiver(1).map_err(Error::Exec)?;
                let peer = Peer::Child { pid: child.id() };
                let bytes = ByteStream::join(output, input);
                let connection = Connection::bytes(bytes, framing, Pace::pipe(), peer);
                Ok(connection.with_child(child).polled(self.poll_for))
            }
            Endpoint::Stdio => {
                let stdin = stdio::stdin().map_err(|e| failed(endpoint, e))?;
                let stdout = stdio::stdout().map_err(|e| failed(endpoint, e))?;
                let bytes = ByteStream::join(stdin, stdout);
                let connection = Connection::bytes(bytes, framing, Pace::default(), Peer::Stdio);
                Ok(connection.never_discarding().polled(self.poll_for))
            }
            Endpoint::Fd(fd) => {
                let (fd, found) = descriptor::take(endpoint, fd, Asked::Connect)?;
                self.connect_fd(endpoint, fd, found)
            }
            Endpoint::Fifo(_) | Endpoint::Mq(_) => Err(one_way(endpoint, Asked::Connect)),
        }
    }

    /// Binds a two-way endpoint, and listens.
    ///
    /// A socket that a service manager has bound to that very address and handed down is taken in
    /// place of a new one; see the [module](super#socket-activation).
    ///
    /// # Errors
    ///
    /// Those of [`Error`] but for [`TimedOut`](Error::TimedOut); for a one-way mechanism
    /// [`Unsupported`](Error::Unsupported) with [`Limit::OneWay`], and nothing has happened.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing open.
    pub async fn bind(&self, endpoint: &Endpoint) -> Result<Listener, Error> {
        match endpoint {
            Endpoint::Tcp(tcp) => self.bind_tcp(endpoint, tcp).await,
            Endpoint::Unix(unix) => {
                let address = unix_address(unix);
                if let Some((fd, name)) = activation::take(&wanted(&address, Type::STREAM)) {
                    let listener = self.serve_fd(endpoint, fd, Found::UnixListener)?;
                    return Ok(listener.activated_as(name));
                }
                let options = self.unix_bind_options(unix);
                let listener = options.bind(address).map_err(Error::Unix)?;
                Ok(self.listener(Inner::Unix(listener), endpoint))
            }
            Endpoint::UnixPacket(unix) => {
                let address = unix_address(unix);
                if let Some((fd, name)) = activation::take(&wanted(&address, Type::SEQPACKET)) {
                    let listener = self.serve_fd(endpoint, fd, Found::PacketListener)?;
                    return Ok(listener.activated_as(name));
                }
                let options = self.unix_bind_options(unix);
                let listener = options.bind_seqpacket(address).map_err(Error::Unix)?;
                Ok(self.listener(Inner::Packets(listener), endpoint))
            }
            Endpoint::Fd(fd) => {
                let (fd, found) = descriptor::take(endpoint, fd, Asked::Bind)?;
                self.serve_fd(endpoint, fd, found)
            }
            Endpoint::Exec(_) | Endpoint::Stdio => {
                let connection = self.connect(endpoint).await?;
                let inner = Inner::Once(Some(Box::new(connection)));
                Ok(self.listener(inner, endpoint))
            }
            Endpoint::Fifo(_) | Endpoint::Mq(_) => Err(one_way(endpoint, Asked::Bind)),
        }
    }

    async fn bind_tcp(&self, endpoint: &Endpoint, tcp: &endpoint::Tcp) -> Result<Listener, Error> {
        let mut options = tcp::BindOptions::new();
        if let Some(nodelay) = tcp.nodelay() {
            options.nodelay(nodelay);
        }
        let address = tcp_address(tcp);
        if activation::is_used() {
            let found = tokio::net::lookup_host(&address).await;
            let wanted = Wanted::Tcp(found.map(Iterator::collect).unwrap_or_default());
            if let Some((fd, name)) = activation::take(&wanted) {
                let listener = self.serve_fd(endpoint, fd, Found::TcpListener)?;
                return Ok(listener.activated_as(name));
            }
        }
        let listener = options.bind(address).await.map_err(Error::Tcp)?;
        let at = listener.local_addr().map_err(|e| failed(endpoint, e))?;
        let local = tcp_endpoint(at, tcp.nodelay());
        Ok(self.listener(Inner::Tcp(listener), &local.unwrap_or(endpoint.clone())))
    }

    /// A connection over a descriptor that was taken over.
    pub(super) fn connect_fd(
        &self,
        endpoint: &Endpoint,
        fd: OwnedFd,
        found: Found,
    ) -> Result<Connection, Error> {
        let failed = |e| failed(endpoint, e);
        let framing = self.framing.clone();
        match found {
            Found::Packets => {
                let max_message = framing.get_max_frame();
                let socket = seqpacket::Socket::from_shared(fd, max_message).map_err(failed)?;
                Ok(Connection::packets(socket, framing).shared())
            }
            Found::Device(_) => {
                let other = fd.try_clone().map_err(failed)?;
                let reader = BlockingReader::new(fd).map_err(failed)?;
                let writer = BlockingWriter::new(other).map_err(failed)?;
                let bytes = ByteStream::join(reader, writer);
                let connection = Connection::bytes(bytes, framing, Pace::default(), Peer::Unknown);
                Ok(connection.never_discarding().polled(self.poll_for))
            }
            // Whatever cannot be connected was refused before.
            _ => {
                let peer = socket_peer(&fd);
                let (reader, writer) = halves::split(fd).map_err(failed)?;
                let bytes = ByteStream::join(reader, writer);
                Ok(Connection::bytes(bytes, framing, Pace::default(), peer).polled(self.poll_for))
            }
        }
    }

    /// A listener over a descriptor that was taken over.
    pub(super) fn serve_fd(
        &self,
        endpoint: &Endpoint,
        fd: OwnedFd,
        found: Found,
    ) -> Result<Listener, Error> {
        let failed = |e| failed(endpoint, e);
        let local = activation::local_endpoint(&fd, found).unwrap_or_else(|| endpoint.clone());
        let inner = match found {
            Found::TcpListener => Inner::Tcp(tcp::Listener::try_from(fd).map_err(failed)?),
            Found::UnixListener => Inner::Unix(unix::Listener::try_from(fd).map_err(failed)?),
            Found::PacketListener => {
                let listener = seqpacket::Listener::try_from(fd).map_err(failed)?;
                Inner::Packets(listener.with_max_message(self.framing.get_max_frame()))
            }
            _ => Inner::Once(Some(Box::new(self.connect_fd(endpoint, fd, found)?))),
        };
        Ok(self.listener(inner, &local).shared())
    }

    fn listener(&self, inner: Inner, local: &Endpoint) -> Listener {
        Listener::new(inner, self.framing.clone(), local.clone()).polled(self.poll_for)
    }

    fn unix_options(&self) -> unix::ConnectOptions {
        let mut options = unix::ConnectOptions::new();
        options.max_message(self.framing.get_max_frame());
        if self.wait != Some(Duration::ZERO) {
            options.retry(true).timeout(self.wait);
        }
        options
    }

    fn unix_bind_options(&self, unix: &endpoint::Unix) -> unix::BindOptions {
        let mut options = unix::BindOptions::new();
        options.max_message(self.framing.get_max_frame());
        if let Some(mode) = unix.mode() {
            options.mode(mode);
        }
        options
    }

    fn unix_error(&self, endpoint: &Endpoint, error: unix::Error) -> Error {
        match error {
            unix::Error::TimedOut { after, source, .. } => {
                self.timed_out(endpoint, after, Some(source))
            }
            error => Error::Unix(error),
        }
    }

    fn timed_out(&self, endpoint: &Endpoint, after: Duration, source: Option<io::Error>) -> Error {
        Error::TimedOut {
            endpoint: endpoint.clone(),
            peer: "server",
            waited: self.wait.filter(|it| !it.is_zero()).unwrap_or(after),
            source,
        }
    }
}

fn one_way(endpoint: &Endpoint, asked: Asked) -> Error {
    Error::Unsupported {
        endpoint: endpoint.clone(),
        asked,
        limit: Limit::OneWay,
    }
}

/// `host:port`, an IPv6 address in brackets.
fn tcp_address(tcp: &endpoint::Tcp) -> String {
    let (host, port) = (tcp.host(), tcp.port());
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

pub(super) fn tcp_endpoint(at: std::net::SocketAddr, nodelay: Option<bool>) -> Option<Endpoint> {
    let at = tcp::Address::from(at);
    let tcp = endpoint::Tcp::new(at.host(), at.port()).ok()?;
    Some(match nodelay {
        Some(nodelay) => tcp.with_nodelay(nodelay).into(),
        None => tcp.into(),
    })
}

fn unix_address(unix: &endpoint::Unix) -> unix::Address {
    match unix.name() {
        UnixName::Path(path) => unix::Address::Path(path.clone()),
        UnixName::Abstract(name) => unix::Address::Abstract(name.clone()),
    }
}

fn wanted(address: &unix::Address, kind: Type) -> Wanted {
    use std::os::unix::ffi::OsStrExt;
    let name = match address {
        unix::Address::Path(path) => path.as_os_str().as_bytes().to_vec(),
        unix::Address::Abstract(name) => [b"\0", name.as_slice()].concat(),
    };
    Wanted::Unix { name, kind }
}

fn socket_peer(fd: &OwnedFd) -> Peer {
    let address = SockRef::from(fd).peer_addr().ok();
    match address.and_then(|it| it.as_socket()) {
        Some(address) => Peer::Tcp(address),
        None => peer_credentials(fd).map_or(Peer::Unknown, Peer::Unix),
    }
}
