//! What is said on standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::panic::Location;
use std::sync::Arc;
use std::time::Instant;

use aqueduct::{Endpoint, OpenError, OpenErrorKind};

use crate::cli::Globals;
use crate::limiter::Limiter;
use crate::printable::Printable;
use crate::shortage::cure;

/// Says things on standard error, each in one line behind the command's name.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    quiet: bool,
    limiter: Arc<Limiter<(&'static str, u32)>>,
}

impl Report {
    pub(crate) fn new(globals: &Globals) -> Self {
        Self {
            quiet: globals.quiet,
            limiter: Arc::default(),
        }
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Something to know, unless nothing is wanted to be known.
    pub(crate) fn note(&self, sentence: impl Display) {
        if !self.quiet {
            line(sentence);
        }
    }

    /// What has failed, where the command goes on.
    pub(crate) fn failure(&self, sentence: impl Display) {
        line(sentence);
    }

    /// As [`failure`](Self::failure), where a peer can cause any number of them.
    #[track_caller]
    pub(crate) fn frequent_failure(&self, sentence: impl Display) {
        let place = Location::caller();
        let kind = (place.file(), place.line());
        for sentence in self
            .limiter
            .admit(kind, &sentence.to_string(), Instant::now())
        {
            line(sentence);
        }
    }

    /// Says how many failures were not shown.
    pub(crate) fn finish(&self) {
        for sentence in self.limiter.finish() {
            line(sentence);
        }
    }

    /// Why the command fails.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let mut sentence = format!("{error:#}");
        if is_foreign(error) {
            sentence.push_str("; --allow-foreign-owner uses it anyway");
        }
        if let Some(cure) = cure(error).filter(|_| !sentence.contains("ulimit")) {
            sentence = format!("{sentence}; {cure}");
        }
        line(sentence);
    }
}

fn line(sentence: impl Display) {
    // In one write, and a standard error that is closed is no reason to fail.
    let line = format!("aqueduct: {}\n", Printable(sentence));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// An address as it stands before a colon: `stdio:` has its own already.
pub(crate) fn about(address: &Endpoint) -> String {
    let address = address.to_string();
    address
        .strip_suffix(':')
        .map(str::to_owned)
        .unwrap_or(address)
}

/// A number of things.
pub(crate) fn count(n: u64, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{s}")
}

/// Whether colours may be used where there is a terminal; see no-color.org.
pub(crate) fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

/// Whether a file or queue is refused because it belongs to another user.
fn is_foreign(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().and_then(OpenError::of);
        let opening = cause.downcast_ref::<OpenError>().or(io);
        matches!(
            opening.map(OpenError::kind),
            Some(OpenErrorKind::ForeignOwner { .. })
        )
    })
}
