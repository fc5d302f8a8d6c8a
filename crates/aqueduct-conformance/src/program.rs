//! The program that runs over every transport, and the process that runs it at the other end.

use std::path::PathBuf;

use aqueduct::Channel;
use aqueduct::codec::Postcard;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::end::Kept;
use crate::link::{Far, Link, Process};
use crate::place::Place;
use crate::{deadline, rerun, run};

const DIR: &str = "AQUEDUCT_CONFORMANCE_DIR";
const MAX_FRAME: &str = "AQUEDUCT_CONFORMANCE_MAX_FRAME";
/// The test that is the process at the other end.
const FAR_END: &str = "far_end";

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
async fn serve(mut channel: Channel<Reply, Ask>) -> Result<(), aqueduct::Error> {
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

/// A link with the program at its other end.
pub(crate) struct Talk {
    pub(crate) channel: Client,
    pub(crate) peer: Process,
    pub(crate) kept: (Kept, Place),
}

impl Talk {
    /// Opens it with these largest frames on the two sides.
    pub(crate) async fn open(link: &impl Link, module: &str, here: usize, there: usize) -> Self {
        let place = Place::new();
        let mut command = rerun::command(&rerun::listed(module, FAR_END));
        command
            .env(DIR, place.dir())
            .env(MAX_FRAME, there.to_string())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        let place = place.with_max_frame(here);
        let (end, peer) = deadline(link.start(&place, Far::new(command)))
            .await
            .expect("it can be opened");
        let (channel, kept) = end.channel(Postcard);
        Self {
            channel,
            peer,
            kept: (kept, place),
        }
    }
}

/// Runs the process at the other end; the macros call it from the test `far_end`.
///
/// It does nothing unless it was started as such.
pub fn far_end(link: &impl Link, module: &str) {
    if !rerun::is(&rerun::listed(module, FAR_END)) {
        return;
    }
    let variable = |name| std::env::var(name).expect("the other side sets it");
    let max_frame = variable(MAX_FRAME).parse().expect("a number");
    let place = Place::at(PathBuf::from(variable(DIR))).with_max_frame(max_frame);
    let served = run(async {
        let end = link.far(&place).await.expect("it can be opened");
        let (channel, _kept) = end.channel(Postcard);
        serve(channel).await
    });
    // The asking side may just be gone.
    if let Err(error) = served {
        eprintln!("the other end: {error:?}");
    }
}
