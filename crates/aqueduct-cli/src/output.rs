//! Messages, printed.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use aqueduct::Endpoint;
use aqueduct::connect::Message;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Output;
use crate::config::LinkConfig;
use crate::printable::{push_hex, push_lines, to_json};

/// Prints messages into a buffer.
pub(crate) struct Printer {
    output: Output,
    /// What is printed are pieces of a stream without boundaries.
    raw: bool,
    /// Text is for a terminal, which it must not steer.
    escapes: bool,
    /// The beginning of a character at the end of a piece of text.
    cut: Vec<u8>,
    address: String,
    pub(crate) buf: Vec<u8>,
}

/// One line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    address: &'a str,
    /// In a conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<&'static str>,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Body<'a> {
    Text(&'a str),
    Base64(String),
}

impl Printer {
    pub(crate) fn new(output: Output, endpoint: &Endpoint, link: &LinkConfig) -> Self {
        let (raw, escapes) = (link.is_raw(), io::stdout().is_terminal());
        Self::with(output, endpoint, raw, escapes)
    }

    fn with(output: Output, endpoint: &Endpoint, raw: bool, escapes: bool) -> Self {
        Self {
            output,
            raw,
            escapes,
            cut: Vec::new(),
            address: endpoint.to_string(),
            buf: Vec::new(),
        }
    }

    pub(crate) fn print(&mut self, message: &Message) {
        let body = &message.body()[..];
        match self.output {
            Output::Raw => self.buf.extend_from_slice(body),
            Output::Text if self.raw => self.text(body),
            Output::Text => {
                self.text(body);
                self.end_of_text();
                self.buf.push(b'\n');
            }
            Output::Hex => {
                let mut line = String::with_capacity(body.len() * 2 + 1);
                for byte in body {
                    // Writing to a `String` cannot fail.
                    let _ = write!(line, "{byte:02x}");
                }
                line.push('\n');
                self.buf.extend_from_slice(line.as_bytes());
            }
            Output::Json => self.json(message, None, Timestamp::now()),
        }
    }

    /// Prints a message as [`print`](Self::print) does, where messages go both ways.
    pub(crate) fn print_as(&mut self, direction: &'static str, message: &Message) {
        match self.output {
            Output::Json => self.json(message, Some(direction), Timestamp::now()),
            _ => self.print(message),
        }
    }

    /// Prints a piece of text.
    pub(crate) fn text(&mut self, piece: &[u8]) {
        if !self.escapes {
            self.buf.extend_from_slice(piece);
            return;
        }
        self.cut.extend_from_slice(piece);
        let cut = push_lines(&self.cut, &mut self.buf);
        self.cut.drain(..self.cut.len() - cut);
    }

    /// Prints what a text that has ended left incomplete.
    pub(crate) fn end_of_text(&mut self) {
        if self.cut.is_empty() {
            return;
        }
        push_hex(&self.cut, &mut self.buf);
        self.cut.clear();
    }

    fn json(&mut self, message: &Message, direction: Option<&'static str>, time: Timestamp) {
        let body = &message.body()[..];
        let line = Line {
            time: format!("{time:.6}"),
            address: &self.address,
            direction,
            size: body.len(),
            priority: message.priority(),
            body: match std::str::from_utf8(body) {
                Ok(text) => Body::Text(text),
                Err(_) => Body::Base64(BASE64_STANDARD.encode(body)),
            },
        };
        // Strings and numbers into memory: nothing that can fail.
        let _ = to_json(&line, &mut self.buf);
        self.buf.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(output: Output, message: Message) -> Vec<u8> {
        let endpoint = "fifo:/tmp/a%20b".parse().unwrap();
        let mut printer = Printer::with(output, &endpoint, false, false);
        printer.print(&message);
        printer.buf
    }

    #[test]
    fn text_and_raw_are_byte_exact_and_hex_is_lower_case() {
        let body = b"a\r\n\0\xff";
        assert_eq!(
            printed(Output::Text, Message::new(&body[..])),
            b"a\r\n\0\xff\n"
        );
        assert_eq!(printed(Output::Raw, Message::new(&body[..])), body);
        assert_eq!(
            printed(Output::Hex, Message::new(&body[..])),
            b"610d0a00ff\n"
        );
    }

    #[test]
    fn json_has_the_documented_members_in_order() {
        let endpoint = "fifo:/tmp/a%20b".parse().unwrap();
        let mut printer = Printer::with(Output::Json, &endpoint, false, true);
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        printer.json(&Message::new("hé\n").with_priority(7), None, time);
        printer.json(&Message::new(&b"\xff"[..]), Some("sent"), time);
        let lines = String::from_utf8(printer.buf).unwrap();
        let expected = concat!(
            r#"{"time":"2023-11-14T22:13:20.000000Z","address":"fifo:/tmp/a%20b","size":4,"#,
            r#""priority":7,"text":"hé\n"}"#,
            "\n",
            r#"{"time":"2023-11-14T22:13:20.000000Z","address":"fifo:/tmp/a%20b","direction":"sent","size":1,"#,
            r#""base64":"/w=="}"#,
            "\n",
        );
        assert_eq!(lines, expected);
    }
}
