//! [`Cut`]: the ways to split a byte stream into frames, and their names.

use super::length::{self, Field};

/// How a byte stream is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// A 4-byte big-endian length. Separate from [`Cut::Field`] because most frames take this path.
    Length,
    Delimiter(u8),
    Raw,
    Crlf,
    Field(Field),
    Netstring,
    Headers,
    Cobs,
}

/// Every way by its name, except the lengths of [`Field`].
const NAMED: [(&str, Cut); 8] = [
    ("lines", Cut::Delimiter(b'\n')),
    ("crlf", Cut::Crlf),
    ("nul", Cut::Delimiter(0)),
    ("raw", Cut::Raw),
    ("netstring", Cut::Netstring),
    ("headers", Cut::Headers),
    ("cobs", Cut::Cobs),
    ("length", Cut::Length),
];

pub(super) static NAMES: [&str; NAMED.len() + length::NAMED.len()] = {
    let mut names = [""; NAMED.len() + length::NAMED.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = match i < NAMED.len() {
            true => NAMED[i].0,
            false => length::NAMED[i - NAMED.len()].0,
        };
        i += 1;
    }
    names
};

impl Cut {
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = match name {
            "u32be" => "length",
            "length+header" => "u32be+header",
            name => name,
        };
        let named = NAMED.iter().find(|it| it.0 == name).map(|it| it.1);
        let field = || length::NAMED.iter().find(|it| it.0 == name);
        named.or_else(|| field().map(|it| Self::Field(it.1)))
    }

    pub(super) fn name(self) -> &'static str {
        let named = || NAMED.iter().find(|it| it.1 == self);
        match self {
            Self::Field(field) => field.name(),
            _ => named().map_or("delimited", |it| it.0),
        }
    }

    /// The largest body that can be framed this way.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Field(field) => field.most(),
            _ => usize::MAX,
        }
    }
}
