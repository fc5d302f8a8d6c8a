//! What to do, plain: the command line resolved.

mod call;
mod link;
mod proxy;
mod relay;
mod serve;
mod talk;

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;
use aqueduct::connect::Message;
use aqueduct::endpoint::Ordering;

use crate::cli::{Input, Output, Pace, RecvArgs, SendArgs};
use crate::exit::Failure;
use crate::input::Cut;

pub(crate) use self::call::{CallConfig, Ending};
use self::link::side;
pub(crate) use self::link::{
    ClientsConfig, Lasting, LinkConfig, Side, has_connections, has_datagrams, has_end, refused,
    wrong_guess,
};
pub(crate) use self::proxy::ProxyConfig;
pub(crate) use self::relay::{EndConfig, RelayConfig};
pub(crate) use self::serve::{OnFailConfig, ServeConfig};
pub(crate) use self::talk::TalkConfig;

pub(crate) struct SendConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    /// Empty: they come from standard input.
    pub(crate) messages: Vec<Bytes>,
    pub(crate) input: Cut,
    pub(crate) priority: Option<u32>,
    pub(crate) lasting: Lasting,
    pub(crate) replay: Option<ReplayConfig>,
    pub(crate) link: LinkConfig,
}

/// A recording that is sent again.
pub(crate) struct ReplayConfig {
    pub(crate) file: PathBuf,
    pub(crate) pace: Pace,
}

pub(crate) struct RecvConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    pub(crate) output: Output,
    pub(crate) count: Option<u64>,
    pub(crate) lasting: Lasting,
    pub(crate) link: LinkConfig,
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
        let link = self.link.resolve(&endpoint)?;
        let messages = self.messages.into_iter().map(|it| it.into_vec().into());
        let messages: Vec<Bytes> = messages.collect();
        if self.priority.is_some() && endpoint.capabilities().ordering != Ordering::Priority {
            let scheme = endpoint.scheme().name;
            let sentence = format!("--priority is for queues: {scheme} has no priorities");
            return Err(Failure::wrong_use(sentence));
        }
        // Before anybody is waited for.
        for (i, message) in messages.iter().enumerate() {
            if let Err(error) = link.check(message) {
                let what = format!("message {}", i + 1);
                return Err(Failure::wrong_use(link.refused(what, &error)));
            }
        }
        Ok(SendConfig {
            input: link.cut(self.input, Input::Lines)?,
            side: side(&endpoint, self.bind.then_some(Side::Bind), Side::Connect)?,
            endpoint,
            messages,
            priority: self.priority,
            replay: self.replay.map(|file| ReplayConfig {
                file,
                pace: self.pace,
            }),
            lasting: Lasting::from(self.reconnect),
            link,
        })
    }
}

impl RecvArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<RecvConfig> {
        let endpoint = Endpoint::try_from(self.address)?;
        Ok(RecvConfig {
            side: side(&endpoint, self.connect.then_some(Side::Connect), Side::Bind)?,
            link: LinkConfig {
                clients: self.clients.resolve(),
                ..self.unfit.apply(self.link.resolve(&endpoint)?, &endpoint)
            },
            output: self.output,
            count: self.count,
            lasting: Lasting::from(self.reconnect),
            endpoint,
        })
    }
}
