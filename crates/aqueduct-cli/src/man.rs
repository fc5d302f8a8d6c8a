//! `aqueduct man`: manual pages, generated from the same definitions as the help.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::{Cli, ManArgs};
use crate::exit::{Exit, Failure};
use crate::report::Report;
use crate::stdout;

pub(crate) fn run(args: &ManArgs, report: &Report) -> anyhow::Result<Exit> {
    let mut root = Cli::command().disable_help_subcommand(true);
    // Passes on what all commands have, and who each belongs to.
    root.build();
    if let Some(dir) = &args.dir {
        let n = write_all(&root, dir)?;
        report.note(format_args!("wrote {n} pages into {}", dir.display()));
        return Ok(Exit::Done);
    }
    let mut command = &root;
    for name in &args.command {
        let Some(found) = shown(command).find(|it| it.get_name() == name) else {
            let names: Vec<_> = shown(command).map(Command::get_name).collect();
            let of = command.get_bin_name().filter(|it| !it.is_empty());
            let (of, names) = (of.unwrap_or("aqueduct"), names.join(", "));
            return Err(Failure::wrong_use(format!(
                "{of} has no command {name:?}: it has {names}"
            )));
        };
        command = found;
    }
    stdout::write(page(command)?)
}

/// Writes the pages of a command and of those below it; how many there are.
fn write_all(command: &Command, dir: &Path) -> anyhow::Result<usize> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = dir.join(format!("{name}.1"));
    let written = File::create(&path).and_then(|mut it| it.write_all(&page(command)?));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    shown(command).try_fold(1, |n, it| Ok(n + write_all(it, dir)?))
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|it| !it.is_hide_set())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(concat!("aqueduct ", env!("CARGO_PKG_VERSION")))
        .manual("Aqueduct");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis(command).to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(help) = command.get_after_help() {
        more(&help.to_string()).to_writer(&mut text)?;
    }
    let mut end = Roff::new();
    match command.get_display_name() {
        None | Some("aqueduct") => {}
        Some(_) => {
            end.control("SH", ["SEE ALSO"]);
            end.text([bold("aqueduct"), roman("(1)")]);
        }
    }
    end.to_writer(&mut text)?;
    Ok(text)
}

/// As the help has it: with `--` where that is needed, and what may come more than once.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(usage)]);
    roff
}

/// What stands behind the options in the help, with its lines of code as they are: what is
/// indented. A title has a paragraph's first line for itself.
fn more(help: &str) -> Roff {
    let mut roff = Roff::new();
    for paragraph in help.split("\n\n") {
        let mut filled = true;
        for (i, line) in paragraph.lines().enumerate() {
            let code = line.starts_with(' ');
            match line.strip_suffix(':') {
                Some(title) if i == 0 && title.len() < 20 => {
                    roff.control("SH", [title.to_uppercase().as_str()]);
                    continue;
                }
                _ if i == 0 => roff.control("PP", []),
                _ => &mut roff,
            };
            if code == filled {
                roff.control(if code { "nf" } else { "fi" }, []);
                filled = !code;
            }
            roff.text([roman(line)]);
        }
        if !filled {
            roff.control("fi", []);
        }
    }
    roff
}
