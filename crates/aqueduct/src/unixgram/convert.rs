//! Tokio's Unix datagram sockets as connections and receivers.

use std::io;

use socket2::SockRef;
use tokio::net::UnixDatagram;

use crate::connect::{Connection, Datagrams, MessageReceiver, Options, Peer};
use crate::unix::make_room;

fn datagrams(socket: UnixDatagram, options: &Options) -> io::Result<Datagrams> {
    let fd = socket.into_std()?.into();
    let max_send = make_room(&fd, options.framing.max_message())?;
    Datagrams::new(fd, &options.framing, max_send)
}

/// Makes a connection of a connected socket. Each datagram is a message of at most 1 MiB.
impl TryFrom<UnixDatagram> for Connection {
    type Error = io::Error;

    fn try_from(socket: UnixDatagram) -> io::Result<Self> {
        socket.peer_addr()?;
        let options = Options::new();
        let socket = datagrams(socket, &options)?;
        Ok(socket.connection(options.framing, Peer::Unknown))
    }
}

/// Receives the datagrams of all senders. Each is a message of at most 1 MiB, with the credentials of
/// its sender.
impl TryFrom<UnixDatagram> for MessageReceiver {
    type Error = io::Error;

    fn try_from(socket: UnixDatagram) -> io::Result<Self> {
        SockRef::from(&socket).set_passcred(true)?;
        Ok(datagrams(socket, &Options::new())?.receiver())
    }
}
