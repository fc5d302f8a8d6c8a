//! `exec:program arg …`: the address of a program, and how it is started.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use super::{Child, Command};
use crate::address::{
    AddressError, AddressProblem, Awaited, Capabilities, Printer, Sharing, escape,
};
use crate::connect::{
    Asked, ByteStream, Connection, Endpoint, Mechanism, MessageReceiver, MessageSender, Opening,
    Peer, Scheme, Shared,
};
use crate::frame::Pace;

const COMMAND: &str = "a program and its arguments, split at spaces; '…' and \"…\" keep spaces";

pub(crate) static SCHEME: Scheme = Scheme {
    name: "exec",
    form: "exec:program arg...",
    summary: "child process, over its standard input and output",
    options: &["frame"],
    synonyms: &["cmd", "process"],
    parse: |rest, _| Ok(Arc::new(Exec::parse(rest)?)),
};

/// A program and its arguments, split at spaces.
#[derive(Clone, Debug)]
struct Exec {
    program: OsString,
    args: Vec<OsString>,
}

impl Exec {
    fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
        let mut words = Vec::new();
        for word in split(rest)? {
            words.push(OsString::from_vec(escape::decode(&word)?));
        }
        let mut words = words.into_iter();
        check(words.next().unwrap_or_default(), words.collect())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command
    }
}

impl Mechanism for Exec {
    fn print(&self, printer: &mut Printer) {
        word(&self.program, printer);
        for arg in &self.args {
            printer.literal(" ");
            word(arg, printer);
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            readers: Sharing::One,
            writers: Sharing::One,
            awaits: Awaited::Nobody,
            listens: Some(false),
            private: true,
            ..Capabilities::BYTE_STREAM
        }
    }

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let mut command = self.command();
            command.pipe_to_child(0).pipe_from_child(1);
            let mut child = command.spawn()?;
            let (input, output) = (child.take_sender(0)?, child.take_receiver(1)?);
            let peer = Peer::Child { pid: child.id() };
            let bytes = ByteStream::join(output, input);
            let framing = asked.options.framing.clone();
            let mut connection = Connection::bytes(bytes, framing, Pace::pipe(), peer);
            connection.attached().put(child);
            Ok(connection.polled(asked.options.poll_for))
        })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let mut command = self.command();
            command.pipe_to_child(0);
            let mut child = command.spawn()?;
            let input = child.take_sender(0)?;
            let mut sender = MessageSender::bytes(input.framed(asked.options.framing.clone()));
            sender.attached().put(child);
            Ok(sender)
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let mut command = self.command();
            command.pipe_from_child(1);
            let mut child = command.spawn()?;
            let output = child.take_receiver(1)?;
            let mut receiver = asked.options.receive(Shared(output), Pace::pipe());
            receiver.attached().put(child);
            Ok(receiver)
        })
    }
}

impl Endpoint {
    /// Creates the endpoint of a program with these arguments.
    ///
    /// The arguments may hold any characters.
    ///
    /// # Errors
    ///
    /// The program's name is empty, or one of the words contains a NUL byte.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// let shell = Endpoint::exec("sh", ["-c", "echo 'hi there'"])?;
    /// assert_eq!(shell.to_string(), "exec:sh -c 'echo %27hi there%27'");
    /// # Ok::<(), aqueduct::AddressError>(())
    /// ```
    pub fn exec<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, AddressError> {
        let exec = check(program.into(), args.into_iter().map(Into::into).collect());
        let exec = exec.map_err(|problem| AddressError::new(b"exec:", problem))?;
        Ok(Self::from_parts(&SCHEME, Arc::new(exec)))
    }
}

impl Connection {
    /// Takes the process that an `exec:` address has started.
    ///
    /// Use it to wait for the exit status or to kill it. A process that is not taken is reaped by
    /// Tokio when it exits; nothing kills it. It can be taken once.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::Endpoint;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let program: Endpoint = "exec:true".parse()?;
    /// let mut connection = program.connect().await?;
    /// let mut child = connection.take_child().ok_or("not a child process")?;
    /// drop(connection);
    /// assert!(child.wait().await?.success());
    /// # Ok(()) }
    /// ```
    pub fn take_child(&mut self) -> Option<Child> {
        self.attached().take()
    }
}

impl MessageSender {
    /// Takes the process that an `exec:` address has started; see [`Connection::take_child`].
    pub fn take_child(&mut self) -> Option<Child> {
        self.attached().take()
    }
}

impl MessageReceiver {
    /// Takes the process that an `exec:` address has started; see [`Connection::take_child`].
    pub fn take_child(&mut self) -> Option<Child> {
        self.attached().take()
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

/// Splits a command line into its words, without quotes and backslashes.
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
                // Even empty quotes make a word.
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

/// Prints one word, in quotes if it contains separators or quotes.
fn word(word: &OsStr, printer: &mut Printer) {
    let bytes = word.as_bytes();
    let special = |b: &u8| b" \"\\".contains(b);
    if !bytes.is_empty() && !bytes.iter().any(special) {
        return printer.rest(word, b"'");
    }
    printer.literal("'");
    // Spaces stay readable in quotes; other white space is escaped.
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
