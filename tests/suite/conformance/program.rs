//! The program that runs over every transport, and the process that runs it at the other end.

use std::os::fd::OwnedFd;

use aqueduct::codec::Postcard;
use aqueduct::connect::Options;
use aqueduct::frame::Framing;
use aqueduct::{Channel, Endpoint};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::runtime::Builder;

use crate::support::{deadline, is_peer, peer_command};

/// What one side asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Send this back.
    Echo { number: u64, body: Body },
    /// Count this, without an answer.
    Count { number: u64, body: Body },
    /// Send numbered messages with bodies of this size.
    Flood { count: u64, size: usize },
    /// Tell what was counted, and go on.
    Report,
    /// Tell what was counted, and end.
    Finish,
}

/// What the other side answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply {
    Echo {
        number: u64,
        body: Body,
    },
    Number {
        number: u64,
        body: Body,
    },
    /// How many were counted, and whether they came numbered from 0 with the right bodies.
    Report {
        counted: u64,
        ordered: bool,
    },
    /// Receiving failed like this.
    Broken(String),
}

/// The side that asks.
pub(crate) type Client = Channel<Ask, Reply>;

/// Bytes that are encoded in one piece: thousands of tests' messages are made of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Ok(Self(bytes.to_vec()))
    }
}

/// A body that tells a piece of one from another.
pub(crate) fn body(number: u64, size: usize) -> Body {
    // A prime, so that no piece of a usual size is like the next one.
    const PERIOD: usize = 251;
    let begin = number as usize * 31 % PERIOD;
    let pattern: Vec<u8> = (0..2 * PERIOD).map(|i| (i % PERIOD) as u8).collect();
    let pattern = &pattern[begin..begin + PERIOD];
    let mut bytes = Vec::with_capacity(size + PERIOD);
    while bytes.len() < size {
        bytes.extend_from_slice(pattern);
    }
    bytes.truncate(size);
    Body(bytes)
}

/// The side that answers.
pub(crate) async fn serve(mut channel: Channel<Reply, Ask>) -> Result<(), aqueduct::Error> {
    let (mut counted, mut ordered) = (0, true);
    loop {
        match channel.recv().await {
            Some(Ok(Ask::Echo { number, body })) => {
                channel.send(Reply::Echo { number, body }).await?;
            }
            Some(Ok(Ask::Count { number, body: came })) => {
                ordered &= number == counted && came == body(number, came.len());
                counted += 1;
            }
            Some(Ok(Ask::Flood { count, size })) => {
                for number in 0..count {
                    let body = body(number, size);
                    channel.feed(Reply::Number { number, body }).await?;
                }
                channel.flush().await?;
            }
            Some(Ok(Ask::Report)) => channel.send(Reply::Report { counted, ordered }).await?,
            Some(Ok(Ask::Finish)) | None => {
                channel.send(Reply::Report { counted, ordered }).await?;
                return channel.close().await;
            }
            Some(Err(error)) => {
                channel.send(Reply::Broken(format!("{error:?}"))).await?;
                return channel.close().await;
            }
        }
    }
}

/// How one side opens its channel. Written as a line of text, to be handed to a process.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    Connect(Endpoint),
    Bind(Endpoint),
    /// Two one-way endpoints.
    Pair {
        send: Endpoint,
        receive: Endpoint,
    },
}

impl Side {
    pub(crate) async fn open<Out, In>(&self, options: &Options) -> Channel<Out, In>
    where
        Postcard: aqueduct::codec::Codec<Out> + aqueduct::codec::Codec<In>,
    {
        match self {
            Self::Connect(endpoint) => {
                let connection = options.connect(endpoint).await;
                connection.expect("it can be connected").channel(Postcard)
            }
            Self::Bind(endpoint) => {
                let mut listener = options.bind(endpoint).await.expect("it can be bound");
                let accepted = listener.accept().await.expect("somebody comes");
                accepted.expect("it is accepted").channel(Postcard)
            }
            Self::Pair { send, receive } => {
                // A receiver waits for nobody, so both sides get this far.
                let receiver = options.open_receiver(receive).await;
                let sender = options.open_sender(send).await;
                Channel::new(
                    sender.expect("it can be sent to").typed(Postcard),
                    receiver.expect("it can be received from").typed(Postcard),
                )
            }
        }
    }

    fn to_line(&self) -> String {
        match self {
            Self::Connect(endpoint) => format!("connect {endpoint}"),
            Self::Bind(endpoint) => format!("bind {endpoint}"),
            Self::Pair { send, receive } => format!("pair {send} {receive}"),
        }
    }

    fn from_line(line: &str) -> Self {
        let mut words = line.split(' ');
        let call = words.next().expect("a line has a call");
        let mut endpoint = || {
            let word = words.next().expect("an address follows");
            word.parse().expect("it is an address")
        };
        match call {
            "connect" => Self::Connect(endpoint()),
            "bind" => Self::Bind(endpoint()),
            "pair" => Self::Pair {
                send: endpoint(),
                receive: endpoint(),
            },
            other => panic!("{other:?} is no call"),
        }
    }
}

/// The options of both sides.
pub(crate) fn options(max_frame: usize) -> Options {
    let mut options = Options::new();
    options.framing(Framing::length().max_frame(max_frame));
    options
}

const ROLE: &str = "conformance::program::other_end";
const SIDE: &str = "AQUEDUCT_TEST_SIDE";
const MAX_FRAME: &str = "AQUEDUCT_TEST_MAX_FRAME";
const STDIO: &str = "AQUEDUCT_TEST_STDIO";

/// The command that runs the program at the other end.
///
/// With `stdio` its descriptors 3 and 4 become its standard input and output once the test runner
/// in it has printed what it prints.
pub(crate) fn command(side: &Side, max_frame: usize, stdio: bool) -> std::process::Command {
    let mut command = peer_command(ROLE);
    command
        .env(SIDE, side.to_line())
        .env(MAX_FRAME, max_frame.to_string())
        .env(STDIO, if stdio { "yes" } else { "no" })
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    command
}

#[test]
fn other_end() {
    if !is_peer(ROLE) {
        return;
    }
    let variable = |name| std::env::var(name).expect("the test sets it");
    let stdio = variable(STDIO) == "yes";
    if stdio {
        let inherited = |number| -> OwnedFd { aqueduct::child::inherited(number).expect("it is") };
        nix::unistd::dup2_stdin(inherited(3)).expect("there is room");
        nix::unistd::dup2_stdout(inherited(4)).expect("there is room");
    }
    let side = Side::from_line(&variable(SIDE));
    let options = options(variable(MAX_FRAME).parse().expect("a number"));
    let runtime = Builder::new_current_thread().enable_all().build();
    let served = runtime
        .expect("a runtime can be had")
        .block_on(deadline(async {
            let channel = side.open(&options).await;
            serve(channel).await
        }));
    if stdio {
        // Nothing else may be written there.
        nix::unistd::dup2_stdout(std::io::stderr()).expect("there is room");
    }
    // The asking side may just be gone.
    if let Err(error) = served {
        println!("the other end: {error:?}");
    }
}
