//! `aqueduct serve`, resolved.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::Path;

use aqueduct::Endpoint;
use nix::unistd::{AccessFlags, access};

use super::link::{LinkConfig, Side, side};
use crate::cli::ServeArgs;
use crate::exit::Failure;
use crate::quantity::Wait;

pub(crate) struct ServeConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    /// The program and its arguments; empty: echo.
    pub(crate) command: Vec<OsString>,
    pub(crate) jobs: usize,
    /// How often a program that fails is run again.
    pub(crate) retry: u32,
    pub(crate) on_fail: Option<OnFailConfig>,
    pub(crate) link: LinkConfig,
}

/// Where the messages of programs that fail go.
pub(crate) struct OnFailConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) link: LinkConfig,
}

impl ServeArgs {
    pub(crate) fn resolve(mut self) -> anyhow::Result<ServeConfig> {
        let endpoint = Endpoint::try_from(self.address)?;
        let jobs = self.jobs.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            |jobs| jobs as usize,
        );
        let link = self
            .unfit
            .apply_to_work(self.link.resolve(&endpoint), &endpoint);
        if self.command.is_empty() && (self.retry > 0 || self.on_fail.is_some()) {
            return Err(Failure::wrong_use(
                "--retry and --on-fail are for a CMD that may fail, and there is none: put it \
                 behind --, as in -- ./work",
            ));
        }
        if let Some(program) = self.command.first() {
            find(program)?;
        }
        let on_fail = match self.on_fail {
            None => None,
            Some(address) => {
                let address = Endpoint::try_from(address)?;
                if address.leads_to(&endpoint) {
                    return Err(Failure::wrong_use(format!(
                        "--on-fail {address} is what is served: a message that always fails would \
                         come back for ever; take another address"
                    )));
                }
                self.link.wait = Some(Wait::Forever);
                let link = self.link.resolve(&address);
                let endpoint = address;
                Some(OnFailConfig { endpoint, link })
            }
        };
        Ok(ServeConfig {
            side: side(&endpoint, self.connect.then_some(Side::Connect), Side::Bind)?,
            command: self.command,
            retry: self.retry,
            jobs,
            on_fail,
            link,
            endpoint,
        })
    }
}

/// Fails if there is no such program: better now than with the first message.
fn find(program: &OsStr) -> anyhow::Result<()> {
    let runs = |it: &Path| it.is_file() && access(it, AccessFlags::X_OK).is_ok();
    let path = Path::new(program);
    let named = path.display();
    if program.as_encoded_bytes().contains(&b'/') {
        return match (path.exists(), runs(path)) {
            (_, true) => Ok(()),
            (false, _) => Err(Failure::wrong_use(format!(
                "{named}: there is no such program"
            ))),
            (true, _) => Err(Failure::wrong_use(format!(
                "{named} is not a program that can be run: see chmod +x"
            ))),
        };
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&directories).any(|it| runs(&it.join(path))) {
        return Ok(());
    }
    let here = if runs(path) {
        format!(" (there is one here: write ./{named})")
    } else {
        String::new()
    };
    Err(Failure::wrong_use(format!(
        "{named}: no directory in PATH has such a program{here}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_without_a_slash_are_searched_in_the_path() {
        for found in ["sh", "/bin/sh"] {
            assert!(find(OsStr::new(found)).is_ok());
        }
        for (missing, reason) in [
            ("no-such-program", "no directory in PATH"),
            ("/no/such", "there is no such program"),
            ("/etc/passwd", "chmod +x"),
            ("/etc", "chmod +x"),
        ] {
            let error = find(OsStr::new(missing)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
