//! `aqueduct serve`, resolved.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::path::Path;

use aqueduct::Endpoint;
use aqueduct::endpoint::Direction;
use nix::unistd::{AccessFlags, access};

use super::link::{LinkConfig, Side, side};
use crate::cli::{Per, ServeArgs};
use crate::exit::Failure;
use crate::quantity::Wait;

pub(crate) struct ServeConfig {
    pub(crate) endpoint: Endpoint,
    pub(crate) side: Side,
    /// The program and its arguments; empty: echo.
    pub(crate) command: Vec<OsString>,
    pub(crate) per: Per,
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
        let endpoint = Endpoint::try_from(std::mem::take(&mut self.address))?;
        if self.per == Per::Connection {
            self.check_connection(&endpoint)?;
        }
        let jobs = self.jobs.map_or_else(
            || std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            |jobs| jobs as usize,
        );
        let mut link = self
            .unfit
            .apply_to_work(self.link.resolve(&endpoint)?, &endpoint);
        link.clients = self.clients.resolve();
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
                         come back for ever; use another address"
                    )));
                }
                self.link.wait = Some(Wait::Forever);
                let link = self.link.resolve(&address)?;
                let endpoint = address;
                Some(OnFailConfig { endpoint, link })
            }
        };
        Ok(ServeConfig {
            side: side(&endpoint, self.connect.then_some(Side::Connect), Side::Bind)?,
            command: self.command,
            retry: self.retry,
            per: self.per,
            jobs,
            on_fail,
            link,
            endpoint,
        })
    }
}

impl ServeArgs {
    /// Fails where a program for each connection makes no sense.
    fn check_connection(&self, endpoint: &Endpoint) -> anyhow::Result<()> {
        let wrong = |sentence: String| Err(Failure::wrong_use(sentence));
        let (capabilities, scheme) = (endpoint.capabilities(), endpoint.scheme().name);
        if capabilities.direction == Direction::OneWay
            || capabilities.keeps_boundaries == Some(true)
        {
            return wrong(format!(
                "--per connection needs a two-way stream of bytes, which {scheme} is not"
            ));
        }
        if self.command.is_empty() {
            return wrong(
                "--per connection needs a CMD: put it behind --, as in -- cat".to_owned(),
            );
        }
        let useless = [
            ("--jobs", self.jobs.is_some()),
            ("--retry", self.retry > 0),
            ("--on-fail", self.on_fail.is_some()),
            ("--frame", self.link.frame.is_some()),
            ("frame= in the address", endpoint.framing().is_some()),
            ("--partial", self.unfit.partial.is_some()),
            ("--too-long", self.unfit.too_long.is_some()),
        ];
        if let Some((flag, _)) = useless.into_iter().find(|it| it.1) {
            return wrong(format!(
                "{flag} is for messages, and with --per connection CMD gets the bytes as they are: \
                 leave it out"
            ));
        }
        let limits = [
            ("--first-timeout", self.clients.first_timeout.is_some()),
            ("--idle-timeout", self.clients.idle_timeout.is_some()),
        ];
        match limits.into_iter().find(|it| it.1) {
            Some((flag, _)) => wrong(format!(
                "{flag} does not work with --per connection, where CMD alone reads from the client: \
                 limit CMD instead, for example with timeout(1)"
            )),
            None => Ok(()),
        }
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
