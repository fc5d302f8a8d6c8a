//! `aqueduct proxy`, resolved.

use std::path::PathBuf;

use aqueduct::Endpoint;

use super::link::{Side, expect_two_way, has_end, side};
use super::relay::EndConfig;
use crate::cli::ProxyArgs;
use crate::exit::Failure;

pub(crate) struct ProxyConfig {
    pub(crate) from: EndConfig,
    pub(crate) to: EndConfig,
    pub(crate) tee: Option<PathBuf>,
}

impl ProxyArgs {
    pub(crate) fn resolve(self) -> anyhow::Result<ProxyConfig> {
        let from = two_way(self.from)?;
        let to = two_way(self.to)?;
        if to.leads_to(&from) {
            return Err(Failure::wrong_use(format!(
                "{from} and {to} are the same: the proxy would connect to itself"
            )));
        }
        let from_side = side(&from, self.connect.then_some(Side::Connect), Side::Bind)?;
        let to_side = side(&to, self.bind.then_some(Side::Bind), Side::Connect)?;
        let mut link = self.link.resolve(&from)?;
        link.clients = self.clients.resolve();
        Ok(ProxyConfig {
            from: EndConfig {
                link,
                side: from_side,
                endpoint: from,
            },
            to: EndConfig {
                link: self.link.resolve(&to)?,
                side: to_side,
                endpoint: to,
            },
            tee: self.tee,
        })
    }
}

/// An address that can be both sent to and received from.
fn two_way(address: std::ffi::OsString) -> anyhow::Result<Endpoint> {
    let endpoint = Endpoint::try_from(address)?;
    expect_two_way(&endpoint, "proxy", "relay")?;
    if !has_end(&endpoint) {
        let scheme = endpoint.scheme().name;
        return Err(Failure::wrong_use(format!(
            "proxy is for connections, and {scheme} has none: use relay"
        )));
    }
    Ok(endpoint)
}
