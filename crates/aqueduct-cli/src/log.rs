//! Logs of the library, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::cli::Globals;
use crate::report::colors_wanted;

/// Starts logging: `RUST_LOG` where it is set, else as `-q` and `-v` say.
pub(crate) fn start(globals: &Globals) {
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "debug",
        (_, _) => "trace",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => EnvFilter::new(wanted),
        _ => EnvFilter::new(format!("aqueduct={level}")),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && colors_wanted());
    if globals.verbose == 0 {
        subscriber.without_time().with_target(false).init();
    } else {
        subscriber.init();
    }
}
