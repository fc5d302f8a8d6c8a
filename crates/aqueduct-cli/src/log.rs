//! Logs of the library, on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use tracing::Metadata;
use tracing::callsite::Identifier;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::cli::Globals;
use crate::limiter::Limiter;
use crate::printable::Printable;
use crate::report::colors_wanted;

/// Starts logging: `RUST_LOG` where it is set, else as `-q` and `-v` say.
pub(crate) fn start(globals: &Globals) -> Log {
    let level = match (globals.quiet, globals.verbose) {
        (true, _) => LevelFilter::ERROR,
        (_, 0) => LevelFilter::WARN,
        (_, 1) => LevelFilter::DEBUG,
        (_, _) => LevelFilter::TRACE,
    };
    let usual = Targets::new().with_target("aqueduct", level);
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if !wanted.is_empty() => wanted.parse().unwrap_or_else(|error| {
            let line = format!("aqueduct: RUST_LOG: {}\n", Printable(error));
            let _ = io::stderr().write_all(line.as_bytes());
            usual
        }),
        // What was not sent and who was cut off the commands say themselves, in their own words.
        _ if globals.verbose == 0 => usual
            .with_target("aqueduct::unsent", LevelFilter::OFF)
            .with_target("aqueduct::service", LevelFilter::ERROR),
        _ => usual,
    };
    let limiter = (globals.verbose == 0).then(Arc::default);
    let log = Log(limiter);
    // Paths and peers' names may hold anything.
    let fields = debug_fn(|out, field, value| {
        if field.name() != "message" {
            write!(out, "{}=", field.name())?;
        }
        write!(out, "{}", Printable(format_args!("{value:?}")))
    })
    .delimited(" ");
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .fmt_fields(fields)
        // It would panic where standard error is closed or full.
        .log_internal_errors(false)
        .with_writer(log.clone())
        .with_ansi(io::stderr().is_terminal() && colors_wanted());
    if globals.verbose == 0 {
        let subscriber = subscriber.without_time().with_target(false);
        subscriber.finish().with(filter).init();
    } else {
        subscriber.finish().with(filter).init();
    }
    log
}

/// Standard error for logs. Warnings are limited unless details were asked for.
#[derive(Clone)]
pub(crate) struct Log(Option<Arc<Limiter<Identifier>>>);

impl Log {
    /// Says how many lines were not shown.
    pub(crate) fn finish(&self) {
        for line in self.0.iter().flat_map(|it| it.finish()) {
            // A standard error that is closed is no reason to fail.
            let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        let limit = None;
        Line { limit }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        let kind = meta.callsite();
        let limit = self.0.as_deref().map(|it| (it, kind));
        Line { limit }
    }
}

/// One line of the log, given in one write.
pub(crate) struct Line<'a> {
    limit: Option<(&'a Limiter<Identifier>, Identifier)>,
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some((limiter, kind)) = &self.limit else {
            return io::stderr().write(line);
        };
        let text = String::from_utf8_lossy(line);
        for text in limiter.admit(kind.clone(), text.trim_end(), Instant::now()) {
            io::stderr().write_all(format!("{text}\n").as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
