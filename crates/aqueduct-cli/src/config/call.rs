//! `aqueduct call`, resolved.

use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::bytes::Bytes;

use super::link::{LinkConfig, Side, expect_two_way, has_end, refused, side};
use crate::cli::{CallArgs, Frame, Input, Output};
use crate::exit::Failure;
use crate::input::Cut;

pub(crate) struct CallConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    /// `None`: messages come from standard input.
    pub(crate) message: Option<Bytes>,
    pub(crate) input: Cut,
    pub(crate) output: Output,
    pub(crate) ending: Ending,
    /// The peer speaks first.
    pub(crate) greeting: bool,
    /// The end of the request is not sent.
    pub(crate) keep_open: bool,
    pub(crate) link: LinkConfig,
}

/// What ends a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its one message.
    Message,
    /// That many messages.
    Messages(usize),
    /// A message that is this.
    Text(Bytes),
    /// A pause.
    Pause(Duration),
    /// The end of the stream.
    Stream,
}

impl CallArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<CallConfig> {
        let endpoint = Endpoint::try_from(self.address)?;
        expect_two_way(&endpoint, "call", "send and recv")?;
        let link = self.link.resolve(&endpoint)?;
        let message = self.message.map(|it| Bytes::from(it.into_vec()));
        if let Some(message) = &message
            && let Err(error) = link.check(message)
        {
            return Err(Failure::wrong_use(refused("the message", &error)));
        }
        let until = self.until.map(|it| Bytes::from(it.into_vec()));
        if link.is_raw() {
            let flags = [
                ("--replies", self.replies.is_some()),
                ("--until", until.is_some()),
                ("--greeting", self.greeting),
            ];
            if let Some((flag, _)) = flags.iter().find(|(_, given)| *given) {
                return Err(Failure::wrong_use(format!(
                    "{flag} looks for messages, and --frame raw has none: choose a framing that \
                     keeps them apart, such as --frame lines"
                )));
            }
        }
        if let Some(text) = &until
            && let Err(error) = link.check(text)
        {
            let sentence = refused(
                "--until: a message that is TEXT could never arrive: it",
                &error,
            );
            return Err(Failure::wrong_use(sentence));
        }
        if self.all && !has_end(&endpoint) {
            let scheme = endpoint.scheme().name;
            return Err(Failure::wrong_use(format!(
                "--all reads until the stream ends, and {scheme} has no end: use --idle or --replies"
            )));
        }
        let ending = match (self.replies, until, self.idle) {
            (Some(n), _, _) => Ending::Messages(n),
            (_, Some(text), _) => Ending::Text(text),
            (_, _, Some(pause)) => Ending::Pause(pause),
            _ if self.all || link.is_raw() => Ending::Stream,
            _ => Ending::Message,
        };
        let usual = match Frame::from(&link.framing).is_lines() {
            true => Input::Lines,
            false => Input::Whole,
        };
        Ok(CallConfig {
            side: side(&endpoint, self.bind.then_some(Side::Bind), Side::Connect)?,
            input: link.cut(self.input, usual)?,
            endpoint,
            message,
            output: self.output,
            ending,
            greeting: self.greeting,
            keep_open: self.keep_open,
            link,
        })
    }
}
