//! `aqueduct relay`, resolved.

use std::path::PathBuf;

use aqueduct::Endpoint;

use super::link::{Lasting, LinkConfig, Side, side};
use crate::cli::RelayArgs;
use crate::exit::Failure;

pub(crate) struct RelayConfig {
    /// Whether FROM outlives its server.
    pub(crate) lasting: Lasting,
    pub(crate) from: EndConfig,
    pub(crate) to: EndConfig,
    /// Where each message is recorded.
    pub(crate) tee: Option<PathBuf>,
    /// Where each message is kept until it is delivered.
    pub(crate) spool: Option<PathBuf>,
}

/// One end of a relay.
pub(crate) struct EndConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    pub(crate) link: LinkConfig,
}

impl RelayArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<RelayConfig> {
        let from = Endpoint::try_from(self.from)?;
        let to = Endpoint::try_from(self.to)?;
        let from_side = side(&from, self.connect.then_some(Side::Connect), Side::Bind)?;
        let to_side = side(&to, self.bind.then_some(Side::Bind), Side::Connect)?;
        // Two clients of one server are not one place.
        let clients = self.connect && !self.bind;
        if !clients && to.leads_to(&from) {
            return Err(Failure::wrong_use(format!(
                "{from} and {to} are the same: each message would come back for ever; use two addresses"
            )));
        }
        Ok(RelayConfig {
            lasting: Lasting::from(self.reconnect),
            tee: self.tee,
            spool: self.spool,
            from: EndConfig {
                side: from_side,
                link: LinkConfig {
                    clients: self.clients.resolve(),
                    ..self.unfit.apply_to_work(self.link.resolve(&from)?, &from)
                },
                endpoint: from,
            },
            to: EndConfig {
                side: to_side,
                link: self.link.resolve(&to)?,
                endpoint: to,
            },
        })
    }
}
