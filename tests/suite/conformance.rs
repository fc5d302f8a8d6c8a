//! One suite over every transport.
//!
//! The cases are those of `aqueduct-conformance`, which a transport from outside can run too. Here
//! they run over Aqueduct's own: [`links`] are opened by their addresses alone, so what a case
//! expects where transports differ is what `Capabilities` says, and these are tested too; [`pairs`]
//! are pipes within this process and streams that are delivered byte by byte; [`outside`] is what
//! Aqueduct does not know.

pub(crate) mod links;
mod outside;
mod pairs;

use aqueduct_conformance::{between_processes, conformance, in_one_process, lossy};

use self::links::{
    Coalesced, Datagrams, Descriptors, Exec, Fifos, Mixed, Queues, Sockets, StdioOver,
};
use self::outside::{InMemory, PlainSockets};
use self::pairs::{ByteByByte, PacketPipes, Pipes};

conformance! {
    unix_path => Sockets::new("unix");
    unix_abstract => Sockets::new("unix:@");
    unixpacket_path => Sockets::new("unixpacket");
    unixpacket_abstract => Sockets::new("unixpacket:@");
    shm_path => Sockets::new("shm");
    shm_abstract => Sockets::new("shm:@");
    tcp => Sockets::new("tcp");
    tls => Sockets::new("tls");
    unixgram_path => Datagrams::new("unixgram");
    unixgram_abstract => Datagrams::new("unixgram:@");
    fifos => Fifos::new();
    queues_pool => Queues::new("pool");
    queues_asyncfd => Queues::new("asyncfd");
    tokio_sockets => PlainSockets;
    unix_coalesced => Coalesced(Sockets::new("unix"));
    unixpacket_coalesced => Coalesced(Sockets::new("unixpacket"));
    shm_coalesced => Coalesced(Sockets::new("shm"));
    fifos_coalesced => Coalesced(Fifos::new());
    queues_coalesced => Coalesced(Queues::new("pool"));
    unix_polled => Sockets::new("unix").in_latency_mode();
    shm_polled => Sockets::new("shm").in_latency_mode();
    fifos_polled => Fifos::in_latency_mode();
    queues_polled => Queues::new("pool").in_latency_mode();
}

// Loss, order and floods: the network promises nothing of them.
lossy! {
    udp => Datagrams::new("udp");
}

between_processes! {
    exec => Exec;
    fd_stream_sockets => Descriptors::StreamSockets;
    fd_packet_sockets => Descriptors::PacketSockets;
    fd_pipes => Descriptors::Pipes;
    stdio_over_pipes => StdioOver::Pipes;
    stdio_over_a_socket => StdioOver::Socket;
}

in_one_process! {
    pipes => Pipes::new();
    pipes_of_one_page => Pipes::of_one_page();
    packet_pipes => PacketPipes;
    bytes_by_pipe => ByteByByte::Pipes;
    bytes_by_socket => ByteByByte::Sockets;
    tokio_duplex => InMemory(4096);
    fifo_and_queue => Mixed;
}
