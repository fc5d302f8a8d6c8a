//! The command `aqueduct`: messages on FIFOs, queues and sockets by hand. Thin over the library.

mod bench;
mod call;
mod clean;
mod cli;
mod completions;
mod config;
mod doctor;
mod exit;
mod forward;
mod input;
mod limiter;
mod link;
mod list;
mod log;
mod look;
mod man;
mod mq;
mod output;
mod printable;
mod progress;
mod proxy;
mod pump;
mod quantity;
mod recv;
mod relay;
mod report;
mod send;
mod serve;
mod shortage;
mod signals;
mod stdout;
mod table;
mod talk;
mod terminal;
mod tour;

use std::process::ExitCode;

use aqueduct::service::Supervisor;
use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::report::Report;

#[allow(unsafe_code)]
fn main() -> ExitCode {
    // SAFETY: nothing in this program has opened a descriptor yet.
    unsafe { aqueduct::inherited::claim() };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error).into(),
    };
    let log = log::start(&cli.globals);
    let report = Report::new(&cli.globals);
    let result = run(cli, &report);
    log.finish();
    report.finish();
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            report.error(&error);
            Exit::of(&error).into()
        }
    }
}

fn run(cli: Cli, report: &Report) -> anyhow::Result<Exit> {
    match cli.command {
        Command::Send(args) => wait(send::run(args.resolve()?, report)),
        Command::Recv(args) => wait(recv::run(args.resolve()?, report)),
        Command::Call(args) => wait(call::run(args.resolve()?, report)),
        Command::Talk(args) => wait(talk::run(args.resolve()?, report)),
        Command::Serve(args) => wait(serve::run(args.resolve()?, report)),
        Command::Relay(args) => wait(relay::run(args.resolve()?, report)),
        Command::Proxy(args) => wait(proxy::run(args.resolve()?, report)),
        Command::List(args) => list::run(args, report),
        Command::Clean(args) => clean::run(args, report),
        Command::Doctor(args) => wait(doctor::run(&args, report)),
        Command::Mq(args) => mq::run(args, report),
        Command::Bench(args) => wait(bench::run(args, report)),
        Command::BenchPeer(args) => bench::peer(&args),
        Command::Tour(_) => wait(tour::run()),
        Command::TourPeer(args) => wait(tour::peer::run(args)),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, report),
    }
}

/// Runs on one thread: what is moved here is bytes, and the system is what does the work.
fn wait(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    shortage::check()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let supervisor = Supervisor::from_env();
    let watched = async {
        tokio::select! {
            biased;
            result = command => result,
            () = supervisor.watchdog() => Ok(Exit::Done),
        }
    };
    runtime.enable_all().build()?.block_on(watched)
}
