//! What to do, plain: the command line resolved.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::bytes::{Bytes, BytesMut};
use aqueduct::connect::Message;
use aqueduct::frame::{FrameError, Framing};
use tokio_util::codec::Encoder;

use crate::cli::{Frame, Input, Link, Output, RecvArgs, SendArgs};
use crate::exit::Failure;
use crate::quantity::Wait;

/// How long a peer is waited for, where it is not waited for without limit.
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

pub(crate) struct SendConfig {
    pub(crate) endpoint: Endpoint,
    /// Empty: they come from standard input.
    pub(crate) messages: Vec<Bytes>,
    pub(crate) input: Input,
    pub(crate) priority: Option<u32>,
    pub(crate) link: LinkConfig,
}

pub(crate) struct RecvConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) output: Output,
    pub(crate) count: Option<u64>,
    pub(crate) link: LinkConfig,
}

pub(crate) struct LinkConfig {
    pub(crate) framing: Framing,
    pub(crate) wait: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

impl SendConfig {
    /// A message as it is to be sent.
    pub(crate) fn message(&self, body: Bytes) -> Message {
        let message = Message::new(body);
        match self.priority {
            Some(priority) => message.with_priority(priority),
            None => message,
        }
    }
}

impl SendArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<SendConfig> {
        let endpoint = Endpoint::try_from(self.address)?;
        let link = self.link.resolve(&endpoint);
        let messages = self.messages.into_iter().map(|it| it.into_vec().into());
        let messages: Vec<Bytes> = messages.collect();
        if self.priority.is_some() && !matches!(endpoint, Endpoint::Mq(_)) {
            let scheme = endpoint.scheme();
            let sentence = format!("--priority is for queues: {scheme} has no priorities");
            return Err(Failure::wrong_use(sentence));
        }
        // Before anybody is waited for. What keeps boundaries itself uses no framing.
        let framed = endpoint.capabilities().keeps_boundaries() == Some(false);
        let checked = if framed { &messages[..] } else { &[] };
        for (i, message) in checked.iter().enumerate() {
            let mut framing = link.framing.clone();
            if let Err(error) = framing.encode(message.clone(), &mut BytesMut::new()) {
                return Err(Failure::wrong_use(refusal(i as u64 + 1, &error)));
            }
        }
        Ok(SendConfig {
            endpoint,
            messages,
            input: self.input,
            priority: self.priority,
            link,
        })
    }
}

impl RecvArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<RecvConfig> {
        let endpoint = Endpoint::try_from(self.address)?;
        Ok(RecvConfig {
            link: self.link.resolve(&endpoint),
            output: self.output,
            count: self.count,
            endpoint,
        })
    }
}

impl Link {
    fn resolve(&self, endpoint: &Endpoint) -> LinkConfig {
        let framing = match self.frame {
            Frame::Lines => Framing::lines(),
            Frame::Nul => Framing::nul(),
            Frame::Length => Framing::length(),
            Frame::Raw => Framing::raw(),
        };
        let default = match endpoint {
            Endpoint::Fifo(_) => Wait::Forever,
            _ => Wait::For(DEFAULT_WAIT),
        };
        LinkConfig {
            framing: framing.max_frame(self.max_frame),
            wait: self.wait.unwrap_or(default).limit(),
            timeout: self.timeout,
        }
    }
}

/// Why message number `n` is not sent, with the flag that helps.
pub(crate) fn refusal(n: u64, error: &std::io::Error) -> String {
    match FrameError::of(error) {
        Some(FrameError::TooLarge { len, max }) => {
            let (unit, raise) = ("bytes", "raise --max-frame on both sides");
            format!("message {n} has {len} {unit}, over the limit of {max}: {raise}")
        }
        Some(FrameError::ContainsDelimiter { delimiter, at }) => {
            let (name, cure) = match delimiter {
                b'\n' => ("a newline", "--frame nul or --frame length"),
                _ => ("a NUL byte", "--frame length"),
            };
            format!("message {n} has {name} in it (byte {at}), which would end it: use {cure}")
        }
        _ => format!("message {n} cannot be sent: {error}"),
    }
}
