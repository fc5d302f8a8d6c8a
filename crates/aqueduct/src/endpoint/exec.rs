//! `exec:program arg …`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{AddressError, AddressProblem, Printer, escape};

const COMMAND: &str = "a program and its arguments, split at spaces; '…' and \"…\" keep spaces";

/// A child process, over its standard input and output: `exec:program arg …`.
///
/// The command line is split into words at spaces, much as a shell does it: `'…'` takes all that
/// is in it as it stands; in `"…"` and outside of quotes a backslash takes the next character as
/// it stands. There are no variables, no patterns and no comments. Percent escapes are read after
/// the splitting, so an escaped space or quote never splits and never quotes; `?` and `%`
/// themselves are always written `%3F` and `%25`.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::Exec;
///
/// let sort = Exec::new("sort", ["-t", " "])?;
/// assert_eq!(Endpoint::from(sort.clone()).to_string(), "exec:sort -t ' '");
/// assert_eq!("exec:sort  -t \"%20\"".parse::<Endpoint>()?, sort.into());
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exec {
    program: OsString,
    args: Vec<OsString>,
}

impl Exec {
    /// The command `program` with `args`. A program without a slash is looked for in `PATH`.
    ///
    /// # Errors
    ///
    /// The program is empty, or it or an argument has a NUL byte in it.
    pub fn new<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, AddressError> {
        let program = program.into();
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        check(program, args).map_err(|problem| AddressError::new(b"exec:", problem))
    }

    /// The program.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// The program's arguments.
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    pub(super) fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
        let mut words = Vec::new();
        for word in split(rest)? {
            words.push(OsString::from_vec(escape::decode(&word)?));
        }
        let mut words = words.into_iter();
        check(words.next().unwrap_or_default(), words.collect())
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        word(&self.program, printer);
        for arg in &self.args {
            printer.literal(" ");
            word(arg, printer);
        }
    }
}

fn check(program: OsString, args: Vec<OsString>) -> Result<Exec, AddressProblem> {
    let mut words = std::iter::once(&program).chain(&args);
    let nul = words.find(|it| it.as_bytes().contains(&0));
    if program.is_empty() || nul.is_some() {
        let value = nul.unwrap_or(&program).to_string_lossy().into_owned();
        return Err(invalid(value));
    }
    Ok(Exec { program, args })
}

/// Splits a command line into its words, quotes and backslashes taken out.
fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, AddressProblem> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (None, b' ' | b'\t' | b'\n') => words.extend(word.take()),
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                // Even if nothing is in the quotes, they make a word.
                word.get_or_insert_default();
            }
            (Some(open), _) if byte == open => quote = None,
            (None | Some(b'"'), b'\\') => {
                let Some(next) = bytes.next() else {
                    return Err(invalid(String::from_utf8_lossy(line).into_owned()));
                };
                word.get_or_insert_default().push(next);
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        return Err(invalid(String::from_utf8_lossy(line).into_owned()));
    }
    words.extend(word);
    Ok(words)
}

/// Prints one word, in quotes where it has something in it that splits or quotes.
fn word(word: &OsStr, printer: &mut Printer) {
    let bytes = word.as_bytes();
    let special = |b: &u8| b" \"\\".contains(b);
    if !bytes.is_empty() && !bytes.iter().any(special) {
        return printer.rest(word, b"'");
    }
    printer.literal("'");
    // Spaces stay readable in quotes; the rest of white space is escaped.
    for (i, piece) in bytes.split(|b| *b == b' ').enumerate() {
        printer.literal(if i == 0 { "" } else { " " });
        printer.rest(OsStr::from_bytes(piece), b"'");
    }
    printer.literal("'");
}

fn invalid(value: String) -> AddressProblem {
    AddressProblem::InvalidPart {
        part: "command",
        value,
        expected: COMMAND,
    }
}
