//! `aqueduct talk`, resolved.

use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::frame::Framing;

use super::link::{LinkConfig, Side, expect_two_way, has_end, side};
use crate::cli::{Input, Output, TalkArgs};
use crate::exit::Failure;
use crate::forward::End;
use crate::input::Cut;

/// How long a conversation without an end goes on after that of standard input.
const LINGER: Duration = Duration::from_secs(1);

pub(crate) struct TalkConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    pub(crate) input: Cut,
    pub(crate) output: Output,
    /// Each newline is sent as CRLF.
    pub(crate) crlf: bool,
    /// How long it may go on after the end of standard input.
    pub(crate) linger: Option<Duration>,
    /// What becomes of the end of standard input.
    pub(crate) end: End,
    pub(crate) link: LinkConfig,
}

impl TalkArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<TalkConfig> {
        let endpoint = Endpoint::try_from(self.address)?;
        if endpoint.capabilities().stdio {
            return Err(Failure::wrong_use(format!(
                "talk already uses standard input and output: give an address other than {endpoint}"
            )));
        }
        expect_two_way(&endpoint, "talk", "send and recv")?;
        let link = self.link.resolve_or(&endpoint, Framing::raw())?;
        if self.crlf && !link.is_raw() {
            return Err(Failure::wrong_use(
                "--crlf needs --frame raw: other framings mark the end of a message themselves",
            ));
        }
        let linger = self.linger.or((!has_end(&endpoint)).then_some(LINGER));
        Ok(TalkConfig {
            side: side(&endpoint, self.bind.then_some(Side::Bind), Side::Connect)?,
            input: link.cut(self.input, Input::Lines)?,
            endpoint,
            output: self.output,
            crlf: self.crlf,
            linger,
            end: match self.keep_open {
                true => End::Kept,
                false => End::Passed,
            },
            link,
        })
    }
}
