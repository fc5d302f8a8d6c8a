//! The command `aqueduct`: messages on FIFOs, queues and sockets by hand. Thin over the library.

mod call;
mod cli;
mod completions;
mod config;
mod exit;
mod input;
mod link;
mod log;
mod man;
mod mq;
mod output;
mod progress;
mod quantity;
mod recv;
mod report;
mod send;
mod serve;
mod signals;
mod stdout;
mod table;
mod tour;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::Exit;
use crate::report::Report;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error).into(),
    };
    log::start(&cli.globals);
    let report = Report::new(&cli.globals);
    match run(cli, &report) {
        Ok(exit) => exit.into(),
        Err(error) => {
            report.error(&error);
            Exit::of(&error).into()
        }
    }
}

fn run(cli: Cli, report: &Report) -> anyhow::Result<Exit> {
    // Needs no runtime.
    let command = match cli.command {
        Command::Mq(args) => return mq::run(args, report),
        Command::Completions(args) => return completions::run(&args),
        Command::Man(args) => return man::run(&args, report),
        command => command,
    };
    // One thread: what is moved here is bytes, and the system is what does the work.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Send(args) => send::run(args.resolve()?, report).await,
            Command::Recv(args) => recv::run(args.resolve()?, report).await,
            Command::Call(args) => call::run(args.resolve()?, report).await,
            Command::Serve(args) => serve::run(args.resolve()?, report).await,
            Command::Tour(_) => tour::run().await,
            Command::TourPeer(args) => tour::peer::run(args).await,
            Command::Mq(_) | Command::Completions(_) | Command::Man(_) => Ok(Exit::Done),
        }
    })
}
