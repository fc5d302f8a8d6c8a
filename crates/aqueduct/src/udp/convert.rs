//! Tokio's UDP sockets as connections and receivers.

use std::io;

use tokio::net::UdpSocket;

use super::LARGEST;
use crate::connect::{Connection, Datagrams, MessageReceiver, Options, Peer};

fn datagrams(socket: UdpSocket, options: &Options) -> io::Result<Datagrams> {
    let fd = socket.into_std()?.into();
    Datagrams::new(fd, &options.framing, LARGEST)
}

/// Makes a connection of a connected socket. Each datagram is a message.
impl TryFrom<UdpSocket> for Connection {
    type Error = io::Error;

    fn try_from(socket: UdpSocket) -> io::Result<Self> {
        let peer = Peer::Address(socket.peer_addr()?);
        let options = Options::new();
        let socket = datagrams(socket, &options)?.reporting();
        Ok(socket.connection(options.framing, peer))
    }
}

/// Receives the datagrams of all senders. Each is a message, with the address of its sender.
impl TryFrom<UdpSocket> for MessageReceiver {
    type Error = io::Error;

    fn try_from(socket: UdpSocket) -> io::Result<Self> {
        Ok(datagrams(socket, &Options::new())?.receiver())
    }
}
