//! `aqueduct completions`: completion scripts for shells.

use clap::{Command, CommandFactory};

use crate::cli::{Cli, CompletionsArgs};
use crate::exit::Exit;
use crate::stdout;

pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut typed(), "aqueduct", &mut script);
    stdout::write(script)
}

/// The command line without what only the command itself types: the scripts would offer it.
fn typed() -> Command {
    let all = Cli::command();
    let shown = all.get_subcommands().filter(|it| !it.is_hide_set());
    Command::new("aqueduct")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments())
        .subcommands(shown.cloned())
}
