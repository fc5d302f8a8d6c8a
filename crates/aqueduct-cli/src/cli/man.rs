//! What can be typed behind `aqueduct man`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

const EXAMPLES: &str = "\
Examples:
  aqueduct man | man -l -                           # read it
  aqueduct man serve | man -l -                     # the page of one command
  aqueduct man --dir /usr/local/share/man/man1      # then: man aqueduct-mq-list";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Whose page it is, such as serve or mq list [default: that of aqueduct].
    pub(crate) command: Vec<String>,
    /// Write the pages of all commands into this directory.
    #[arg(long, value_hint = ValueHint::DirPath, conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}
