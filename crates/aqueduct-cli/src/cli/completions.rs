//! What can be typed behind `aqueduct completions`.

use clap::Args;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  . <(aqueduct completions bash)                    # in this shell, at once
  aqueduct completions bash > /etc/bash_completion.d/aqueduct
  aqueduct completions zsh > ~/.zfunc/_aqueduct     # a directory in your fpath
  aqueduct completions fish > ~/.config/fish/completions/aqueduct.fish";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// The shell they are for.
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
