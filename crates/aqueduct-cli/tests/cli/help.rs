//! Help, manual pages and completions: all of one definition.

use std::process::{Command, Stdio};

use aqueduct::Endpoint;

use crate::support::{Dir, aqueduct, expect, expect_text, run, start_with_input};

fn help(command: &[String]) -> String {
    let mut help = aqueduct(&[]);
    expect_text(run(help.args(command).arg("--help")), 0)
}

/// Every command there is, as it is typed; the first is `aqueduct` itself.
fn commands() -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = vec![vec![]];
    let mut next = 0;
    while let Some(command) = all.get(next).cloned() {
        next += 1;
        let text = help(&command);
        let Some((_, list)) = text.split_once("\nCommands:\n") else {
            continue;
        };
        let lines = list.lines().take_while(|it| !it.is_empty());
        // What a line does not hold goes on further right.
        let lines = lines.filter(|it| it.starts_with("  ") && !it.starts_with("   "));
        for name in lines.filter_map(|it| it.split_whitespace().next()) {
            if name != "help" {
                all.push([&command[..], &[name.to_owned()]].concat());
            }
        }
    }
    for wanted in [
        "send",
        "recv",
        "call",
        "serve",
        "tour",
        "completions",
        "man",
    ] {
        assert!(all.contains(&vec![wanted.to_owned()]), "{wanted}: {all:?}");
    }
    assert!(all.contains(&vec!["mq".to_owned(), "list".to_owned()]));
    all
}

/// The long flags that a help text tells of.
fn flags(help: &str) -> Vec<&str> {
    let words = help.split(|c: char| c.is_whitespace() || c == ',');
    let flags = words.filter(|it| it.starts_with("--") && it.len() > 2);
    flags
        .filter(|it| it.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        .collect()
}

#[test]
fn every_command_has_help_with_examples_that_fits_80_columns() {
    for command in commands() {
        let text = help(&command);
        let of = command.join(" ");
        let wide: Vec<_> = text.lines().filter(|it| it.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{of}: {wide:?}");
        assert!(
            text.contains(&format!("\nUsage: aqueduct {of}").trim_end().to_owned()),
            "{of}"
        );
        assert!(
            !text.contains("tour-peer") && !text.contains("bench-peer"),
            "{of}"
        );
        if of.is_empty() {
            assert!(text.contains("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out."));
            continue;
        }
        let examples = text.split_once("\nExamples:\n").expect(&of).1;
        assert!(
            examples.contains(&format!("aqueduct {of}")),
            "{of}: {examples}"
        );
        // In short it is the same on fewer lines, and `help` is another way to ask.
        let short = expect_text(run(aqueduct(&[]).args(&command).arg("-h")), 0);
        assert!(short.contains("\nExamples:\n"), "{of}");
        let asked = expect_text(run(aqueduct(&["help"]).args(&command)), 0);
        assert_eq!(asked, text);
    }
}

#[test]
fn every_command_has_a_manual_page_that_matches_its_help() {
    let dir = Dir::new();
    let commands = commands();
    let all = run(&mut aqueduct(&[
        "man",
        "--dir",
        dir.path("").to_str().unwrap(),
    ]));
    let (_, said) = expect(all, 0);
    assert!(
        said.contains(&format!("wrote {} pages", commands.len())),
        "{said}"
    );
    for command in &commands {
        let page = expect_text(run(aqueduct(&["man"]).args(command)), 0);
        let name = [&["aqueduct".to_owned()], &command[..]].concat().join("-");
        let file = std::fs::read_to_string(dir.path(&format!("{name}.1"))).expect(&name);
        assert_eq!(file, page, "{name}");
        let title = format!("\n.TH {name} 1  \"aqueduct {}\"", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&title), "{page}");
        let text = page.replace("\\-", "-").replace("\\*(Aq", "'");
        let help = help(command);
        for flag in flags(&help) {
            assert!(text.contains(flag), "{name}: {flag}");
        }
        // Examples are told line by line, as they are typed.
        let examples = help.split_once("\nExamples:\n").map_or("", |it| it.1);
        for line in examples.lines().take_while(|it| !it.is_empty()) {
            assert!(
                text.contains(&format!("\n{line}\n")),
                "{name}: {line}\n{text}"
            );
        }
        let below = commands
            .iter()
            .filter(|it| it.len() == command.len() + 1 && it.starts_with(command));
        for command in below {
            let below = format!("aqueduct-{}(1)", command.join("-"));
            assert!(text.contains(&below), "{name}: {below}");
        }
        assert!(
            !text.contains("tour-peer") && !text.contains("bench-peer"),
            "{name}"
        );
    }
}

/// A directory that does not exist is a failure instead.
#[test]
fn manual_of_an_unknown_command_is_wrong_use() {
    let (_, stderr) = expect(run(&mut aqueduct(&["man", "mq", "lst"])), 2);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(
        stderr.contains("aqueduct mq has no command \"lst\""),
        "{stderr}"
    );
    assert!(stderr.contains("list, info"), "{stderr}");
    let (_, stderr) = expect(run(&mut aqueduct(&["man", "lst"])), 2);
    assert!(
        stderr.contains("aqueduct: aqueduct has no command \"lst\""),
        "{stderr}"
    );
    let (_, stderr) = expect(run(&mut aqueduct(&["man", "--dir", "/no/where"])), 1);
    assert!(stderr.contains("/no/where/aqueduct.1"), "{stderr}");
}

#[test]
fn help_page_doctor_and_completions_list_every_scheme() {
    let help = help(&[]);
    let page = expect_text(run(&mut aqueduct(&["man"])), 0);
    let page = page.replace("\\-", "-");
    let output = run(&mut aqueduct(&["doctor", "--json"]));
    let doctor = String::from_utf8(output.stdout).unwrap();
    let line = doctor
        .lines()
        .find(|it| it.contains(r#""check":"schemes""#));
    let doctor = line.expect("doctor lists the schemes");
    let bash = expect_text(run(&mut aqueduct(&["completions", "bash"])), 0);
    for scheme in Endpoint::schemes() {
        let name = scheme.name;
        assert!(help.contains(&format!("\n  {}", scheme.form)), "{help}");
        assert!(page.contains(&format!("\n  {}", scheme.form)), "{page}");
        for option in scheme.options {
            assert!(help.contains(option), "{option}: {help}");
        }
        assert!(doctor.contains(name), "{name}: {doctor}");
        assert!(bash.contains(&format!(" {name}:")), "{name}: {bash}");
    }
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let script = expect_text(run(&mut aqueduct(&["completions", "bash"])), 0);
    let check = start_with_input(Command::new("bash").arg("-n"), &script);
    assert_eq!(expect_text(check.finish(), 0), "");
    // As bash asks when Tab is typed: the words, and which of them it is in.
    let complete = |words: &[&str]| {
        let ask = "\nCOMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
                   _aqueduct aqueduct \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
                   printf '%s\\n' \"${COMPREPLY[@]}\"\n";
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-s", "aqueduct"]).args(words);
        let bash = start_with_input(&mut bash, format!("{script}{ask}"));
        let text = expect_text(bash.finish(), 0);
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["se"]), ["send", "serve"]);
    assert_eq!(complete(&["recv", "--cou"]), ["--count"]);
    assert_eq!(complete(&["recv", "x", "--output", "j"]), ["json"]);
    assert_eq!(complete(&["mq", "un"]), ["unlink"]);
    assert_eq!(complete(&["recv", "fif"]), ["fifo:"]);
}

#[test]
fn completions_of_every_shell_list_every_visible_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = expect_text(run(&mut aqueduct(&["completions", shell])), 0);
        for name in commands().iter().filter_map(|it| it.last()) {
            assert!(script.contains(name.as_str()), "{shell}: {name}");
        }
        assert!(
            !script.contains("tour-peer") && !script.contains("bench-peer"),
            "{shell}"
        );
    }
    let (_, stderr) = expect(run(&mut aqueduct(&["completions", "fsh"])), 2);
    assert!(stderr.contains("'fish'"), "{stderr}");
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    for args in [
        &["--help"][..],
        &["help", "send"],
        &["--version"],
        &["man"],
        &["completions", "bash"],
    ] {
        let (reader, out) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = aqueduct(args);
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn();
        drop(command);
        expect_text(child.unwrap().wait_with_output().unwrap(), 0);
    }
}
