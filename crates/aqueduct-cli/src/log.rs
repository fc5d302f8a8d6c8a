//! Logs of the library, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::debug_fn;

use crate::cli::Globals;
use crate::printable::Printable;
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
    // Paths and peers' names may hold anything.
    let fields = debug_fn(|out, field, value| {
        let value = Printable(format_args!("{value:?}"));
        match field.name() {
            "message" => write!(out, "{value}"),
            name => write!(out, "{name}={value}"),
        }
    })
    .delimited(" ");
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(fields)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && colors_wanted());
    if globals.verbose == 0 {
        subscriber.without_time().with_target(false).init();
    } else {
        subscriber.init();
    }
}
