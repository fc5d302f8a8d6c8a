//! The guide's programs are compiled and its commands run, as they are printed. Each must print what the
//! chapter says.
//!
//! - A block of C, Rust or Python begins with a comment that names its file, such as `// reader.c`.
//! - A block ```` ```console ```` has commands after `$ `, and below each its output. All commands of a
//!   chapter run in one shell, in a directory with all programs. The next command starts once the output is
//!   complete. After a command with `&`, lines may come in any order.
//! - `<!-- needs socat -->` above such a block skips it where a program is missing; `<!-- numbers vary -->`
//!   compares everything but the digits.
//! - Blocks of other languages are not run.
//!
//! `AQUEDUCT_GUIDE=write cargo test -p aqueduct-guide` puts what the commands print into the chapters.

mod chapter;
mod place;
mod shell;

use std::fs;

use chapter::{Block, CHAPTERS, Chapter};
use place::Place;
use shell::Shell;

// Ends a test that hangs.
use aqueduct_watchdog as _;

/// A test for each chapter, so that they run at the same time.
macro_rules! chapters {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            run(&stringify!($name).replace('_', "-"));
        })*
    };
}

chapters! {
    introduction pipes fifos message_queues unix_sockets shared_memory tcp child_processes choosing services other_programs
    recipes
}

#[test]
fn every_chapter_with_commands_is_tested() {
    for chapter in Chapter::all() {
        let tested = TESTED.contains(&&*chapter.name.replace('-', "_"));
        assert!(
            tested || chapter.blocks().is_empty(),
            "{} is not tested",
            chapter.name
        );
    }
}

#[test]
fn the_summary_lists_every_chapter() {
    let summary = fs::read_to_string(format!("{CHAPTERS}/SUMMARY.md")).unwrap();
    for chapter in Chapter::all() {
        assert!(
            summary.contains(&format!("({}.md)", chapter.name)),
            "{}",
            chapter.name
        );
    }
}

#[test]
fn links_lead_to_headings_that_exist() {
    let chapters: Vec<_> = Chapter::all().collect();
    for chapter in &chapters {
        for link in chapter.links() {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => Some(chapter),
                _ => chapters.iter().find(|it| format!("{}.md", it.name) == file),
            };
            let found = match target {
                Some(it) => heading.is_empty() || it.headings().any(|it| it == heading),
                None => heading.is_empty() && std::path::Path::new(CHAPTERS).join(file).exists(),
            };
            assert!(found, "{}.md: nothing is at {link}", chapter.name);
        }
    }
}

#[test]
fn every_program_is_run() {
    let chapters: Vec<_> = Chapter::all().collect();
    let commands = chapters
        .iter()
        .flat_map(Chapter::blocks)
        .flat_map(|it| it.commands)
        .map(|it| it.command);
    let commands = commands.collect::<Vec<_>>().join("\n");
    for (name, _) in chapters.iter().flat_map(Chapter::programs) {
        let runs = match name.split_once('.').unwrap() {
            (name, "c") => format!("./{name}"),
            (name, "rs") => format!("target/debug/{name}"),
            _ => name.clone(),
        };
        assert!(commands.contains(&runs), "no command runs {name}");
    }
}

fn run(name: &str) {
    if !place::is_installed("cc") {
        eprintln!("skipped: there is no C compiler `cc`");
        return;
    }
    let write = std::env::var("AQUEDUCT_GUIDE").is_ok_and(|it| it == "write");
    let chapter = Chapter::read(name);
    let place = Place::new();
    let mut shell = Shell::start(&place);
    let mut edits = Vec::new();
    for Block {
        commands,
        needs,
        vary,
    } in chapter.blocks()
    {
        if let Some(missing) = needs.iter().find(|it| !place::is_installed(it)) {
            eprintln!("{name}: commands are skipped that need {missing}");
            continue;
        }
        for command in commands {
            let typed = place.real(&command.command);
            let expected = place.real(&command.output);
            let is_right = |got: &str, any_order| chapter::same(got, &expected, vary, any_order);
            if write {
                let got = shell.record(&typed, is_right);
                if !is_right(&got, true) {
                    let got = place.printed(&got);
                    let start = command.output_line - 1;
                    let old = start..start + command.output.lines().count();
                    edits.push((old, got.lines().map(str::to_owned).collect::<Vec<_>>()));
                }
                continue;
            }
            if let Err(got) = shell.run(&typed, is_right) {
                panic!(
                    "docs/src/{name}.md:{}: $ {}\n--- printed in the chapter\n{}--- printed now\n{}---\nIf that is \
                     right: AQUEDUCT_GUIDE=write cargo test -p aqueduct-guide",
                    command.line,
                    command.command,
                    command.output,
                    place.printed(&got),
                );
            }
        }
    }
    if write {
        let mut lines: Vec<_> = chapter.text.lines().map(str::to_owned).collect();
        for (old, new) in edits.into_iter().rev() {
            lines.splice(old, new);
        }
        fs::write(format!("{CHAPTERS}/{name}.md"), lines.join("\n") + "\n").unwrap();
    }
}
