//! What addresses of servers lead to.

use std::ffi::OsString;

use aqueduct::connect::{Finding, Grade};
use aqueduct::{Endpoint, OpenErrorKind};

use super::{Check, State};

pub(super) async fn checks(addresses: &[OsString]) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for address in addresses {
        let endpoint = Endpoint::try_from(address.clone())?;
        let (state, advice, findings) = match endpoint.examine().await {
            Ok(findings) => (State::Ok, String::new(), findings),
            Err(error) if error.kind() == &OpenErrorKind::Unsupported => return Err(error.into()),
            Err(error) => (State::Bad, error.to_string(), Vec::new()),
        };
        checks.push(Check::new("address", state, endpoint).advice(advice));
        checks.extend(findings.into_iter().map(Check::from));
    }
    Ok(checks)
}

impl From<Finding> for Check {
    fn from(finding: Finding) -> Self {
        let state = match finding.grade {
            Grade::Good => State::Ok,
            Grade::Bad => State::Bad,
            _ => State::Low,
        };
        Self::new(finding.name, state, finding.value).advice(finding.meaning)
    }
}
