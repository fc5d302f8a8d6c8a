//! Makes the n-th system call of each kind fail, for n = 1, 2, 3 …, under a small program for each
//! mechanism, and looks what became of it: success or an error, never a panic, a hang, a leaked
//! descriptor or name, or a lost message.
//!
//! ```sh
//! cargo run --release -p aqueduct-soak --bin aqueduct-faults            # all; needs strace
//! cargo run --release -p aqueduct-soak --bin aqueduct-faults -- --quick # the first two of each
//! ```
//!
//! `strace` attaches when the program has begun and lets go before it looks at itself, so that only
//! the library's calls fail. Ends with a table, and with exit status 1 if anything was wrong.
//!
//! `EAGAIN` is injected only where the kernel gives it while it has something to give: an
//! edge-triggered wait for what is there already never ends, and rightly so.

mod driver;
mod judge;
mod scenario;

use std::process::ExitCode;

use clap::Parser;

/// Every system call fails once.
#[derive(Debug, Parser)]
struct Args {
    /// Only the first two calls of each kind, with one error each.
    #[arg(long)]
    quick: bool,
    /// Only these mechanisms.
    #[arg(long)]
    only: Vec<String>,
    /// What the program under strace does: its scenario and its control file.
    #[arg(long, hide = true, num_args = 2)]
    scenario: Option<Vec<String>>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some([name, control]) = args.scenario.as_deref() {
        scenario::run(name, control.as_ref())?;
        return Ok(ExitCode::SUCCESS);
    }
    driver::run(args.quick, &args.only)
}
