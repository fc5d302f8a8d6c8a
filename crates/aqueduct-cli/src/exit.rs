//! How the command ends.

use std::fmt::{self, Display, Formatter};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use aqueduct::connect::GaveUp;
use aqueduct::{AddressError, OpenError, OpenErrorKind};

use crate::printable::Lines;
use crate::stdout;

/// The exit codes; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or stopped by a signal or a closed standard output.
    Done = 0,
    /// Something failed.
    Failed = 1,
    /// Used wrongly; nothing was done.
    WrongUse = 2,
    /// Gave up waiting.
    TimedOut = 3,
}

/// A failure whose exit code is not 1.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    sentence: String,
}

impl Failure {
    pub(crate) fn wrong_use(sentence: impl Into<String>) -> anyhow::Error {
        let exit = Exit::WrongUse;
        let sentence = sentence.into();
        Self { exit, sentence }.into()
    }

    pub(crate) fn timed_out(sentence: impl Into<String>) -> anyhow::Error {
        let exit = Exit::TimedOut;
        let sentence = sentence.into();
        Self { exit, sentence }.into()
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

impl Exit {
    /// The exit code for an error, which may lie anywhere in its chain of causes.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return failure.exit;
            }
            if cause.is::<AddressError>() {
                return Self::WrongUse;
            }
            // A sending end that waits for its next peer reports it as an `io::Error`.
            let io = cause.downcast_ref::<io::Error>();
            let inside = io.and_then(OpenError::of);
            let opening = cause.downcast_ref::<OpenError>().or(inside);
            match opening.map(OpenError::kind) {
                Some(OpenErrorKind::Unsupported) => return Self::WrongUse,
                Some(OpenErrorKind::TimedOut { .. }) => return Self::TimedOut,
                _ => {}
            }
            let gave_up = io.filter(|it| GaveUp::of(it).is_some());
            if gave_up.is_some_and(|it| it.kind() == io::ErrorKind::TimedOut) {
                return Self::TimedOut;
            }
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints what clap has to say: help on standard output, a mistake on standard error.
pub(crate) fn usage(error: &clap::Error) -> Exit {
    let text = error.render();
    if !error.use_stderr() {
        let color = io::stdout().is_terminal() && crate::report::colors_wanted();
        let text = if color {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        return stdout::write(text).unwrap_or_else(|error| {
            let _ = writeln!(io::stderr(), "aqueduct: {error:#}");
            Exit::Failed
        });
    }
    let text = text.to_string();
    let text = match text.strip_prefix("error: ") {
        Some(mistake) => format!("aqueduct: {mistake}"),
        // The help, where nothing was asked for.
        None => text,
    };
    let _ = write!(io::stderr(), "{}", Lines(&text));
    Exit::WrongUse
}
