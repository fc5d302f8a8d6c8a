//! Every public type can be sent, shared, moved and printed.

use std::fmt::Debug;
use std::rc::Rc;

use aqueduct::{
    Channel, Error, Permit, Polled, Receiver, Sender, SenderHandle, call, child, codec, connect,
    endpoint, fifo, frame, handshake, mq, pipe, record, relay, service, shm, stdio, tcp, tls, unix,
};
use bytes::Bytes;

/// The public API, a line an item; `.ci/api` keeps it true.
const API: &str = include_str!("../../crates/aqueduct/API.txt");

fn all<T: Send + Sync + Unpin + Debug>() {}

macro_rules! all {
    ($($type:ty),* $(,)?) => {{ $(all::<$type>();)* }};
}

/// A stand-in for types that have another one inside.
type Io = tokio::net::UnixStream;

#[test]
fn channels_are_send_sync_and_debug_for_any_item() {
    // No item stays inside, so its type does not matter.
    all![
        call::Caller<String, Vec<u8>>,
        Channel<Rc<u8>, Rc<u8>>,
        Sender<Rc<u8>>,
        SenderHandle<Rc<u8>>,
        call::Error,
        call::Responder<Rc<u8>, Rc<u8>>,
        Receiver<Rc<u8>>,
        Permit<'static, Rc<u8>>,
        Error,
        Polled<Io>,
    ];
}

#[test]
fn connections_and_addresses_are_send_sync_and_debug() {
    all![
        connect::ByteStream,
        connect::Connection,
        connect::Credentials,
        connect::Delivery<u8>,
        connect::Endpoint,
        connect::Finding,
        connect::GaveUp,
        connect::Grade,
        connect::Listener,
        connect::Message,
        connect::MessageReceiver,
        connect::MessageSender,
        connect::OpenError,
        connect::OpenErrorKind,
        connect::Options,
        connect::Peer,
        connect::Prioritized<u8>,
        connect::Receipt,
        connect::Reconnect,
        connect::ReconnectEvent,
        connect::Scheme,
        endpoint::AddressError,
        endpoint::AddressProblem,
        endpoint::Awaited,
        endpoint::Capabilities,
        endpoint::Direction,
        endpoint::EndOfStream,
        endpoint::LargestMessage,
        endpoint::Ordering,
        endpoint::Sharing,
    ];
}

#[test]
fn transports_are_send_sync_and_debug() {
    all![
        child::Child,
        child::Command,
        child::Receiver,
        child::StreamEnd,
        fifo::OpenOptions,
        fifo::ReaderGone,
        fifo::Receiver,
        fifo::Sender,
        fifo::SharedSender,
        mq::Attributes,
        mq::Driver,
        mq::Entry,
        mq::Limits,
        mq::OpenOptions,
        mq::Queue,
        mq::Room,
        mq::RoomEnd,
        mq::Usage,
        pipe::OpenOptions,
        pipe::Receiver,
        pipe::Sender,
        pipe::packet::Receiver,
        pipe::packet::Sender,
        stdio::Stdin,
        stdio::Stdout,
        tcp::BindOptions,
        tcp::ConnectOptions,
        tcp::Listener,
        unix::BindOptions,
        unix::ConnectOptions,
        unix::Listener,
        unix::seqpacket::Listener,
        unix::seqpacket::Receiver,
        unix::seqpacket::Sender,
        unix::seqpacket::Socket,
    ];
}

#[test]
fn what_is_built_on_ends_is_send_sync_and_debug() {
    all![
        codec::Json,
        codec::MessagePack,
        codec::Postcard,
        codec::Raw,
        codec::Text,
        frame::FrameError,
        frame::FramedRead<Io>,
        frame::FramedWrite<Io>,
        frame::Framing,
        frame::Partial,
        frame::TooLong,
        frame::UserCodec<tokio_util::codec::BytesCodec>,
        handshake::Error,
        handshake::Handshake,
        handshake::What,
        record::Error,
        record::Record,
        record::RecordDecoder,
        record::Recorder,
        record::Recording,
        relay::Error,
        relay::Relay<'static>,
        relay::Spool,
        service::Context,
        service::Error,
        service::Limit,
        service::Options,
        service::Stats,
        service::Supervisor,
        service::TimedOut,
        service::UntilShutdown<Receiver<Bytes>>,
        shm::Lent<'static>,
        shm::PeerError,
        shm::Receiver,
        shm::Reserved<'static>,
        shm::Sender,
        shm::Snapshot,
        tls::TlsError,
        tls::TlsErrorKind,
    ];
}

/// No type of the library is missing above.
#[test]
fn every_public_type_is_asked() {
    let asked = include_str!("auto_traits.rs");
    let mut count = 0;
    for line in API.lines() {
        let (name, kind) = line.split_once("  ").expect("a name and its kind");
        if ["[struct]", "[enum]"].contains(&kind) {
            count += 1;
            let is_asked = |end| asked.contains(&format!("        {name}{end}"));
            assert!(is_asked(',') || is_asked('<'), "{name}");
        }
    }
    assert!(count > 50, "{count}");
}

#[tokio::test]
async fn a_future_that_borrows_an_end_can_be_spawned() {
    let (channel, _peer) = Channel::<String, String>::pair(codec::Text);
    let task = tokio::spawn(async move {
        let borrowed = &channel;
        tokio::task::yield_now().await;
        format!("{borrowed:?}")
    });
    assert!(task.await.unwrap().contains("Channel"));
}
