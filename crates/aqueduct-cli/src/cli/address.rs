//! Addresses: how they complete, and what the help says of them.

use std::ffi::{OsStr, OsString};

use aqueduct::Endpoint;
use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};

/// The widest line.
const WIDTH: usize = 80;

const SYNTAX: &str = "
Options follow as in a URL: 'fifo:/tmp/x?mode=640&persist=true'. Elsewhere in an
address write a question mark as %3F and a percent sign as %25.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 timed out.";

/// Takes any address; shells complete the schemes.
#[derive(Clone)]
pub(super) struct Address;

impl TypedValueParser for Address {
    type Value = OsString;

    fn parse_ref(
        &self,
        _: &Command,
        _: Option<&Arg>,
        value: &OsStr,
    ) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = Endpoint::schemes().iter().map(|scheme| {
            let colon = scheme.name.len() + 1;
            PossibleValue::new(&scheme.form[..colon]).help(scheme.summary)
        });
        Some(Box::new(values))
    }
}

/// Every scheme with its options, and the syntax around them.
pub(super) fn help() -> String {
    let schemes = Endpoint::schemes();
    let widths = schemes.iter().map(|it| it.form.chars().count());
    let width = widths.max().unwrap_or_default();
    let mut text = "Addresses:\n".to_owned();
    for scheme in schemes {
        let mut about = scheme.summary.to_owned();
        match scheme.options {
            [] => {}
            [option] => about = format!("{about}; option {option}"),
            options => about = format!("{about}; options {}", options.join(", ")),
        }
        let mut form = scheme.form;
        for line in wrapped(&about, WIDTH - width - 4) {
            text.push_str(&format!("  {form:<width$}  {line}\n"));
            form = "";
        }
    }
    text + SYNTAX
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
