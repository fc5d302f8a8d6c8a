//! Writes an address.

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;

use super::escape;

/// Collects the part after the scheme: the rest, then the options.
#[derive(Default)]
pub(crate) struct Printer {
    rest: String,
    query: String,
}

impl Printer {
    /// Appends to the rest, unescaped.
    pub(crate) fn literal(&mut self, text: &str) {
        self.rest.push_str(text);
    }

    /// Appends to the rest, escaped; the bytes in `also` are escaped too.
    pub(crate) fn rest(&mut self, text: &OsStr, also: &[u8]) {
        escape::encode(text.as_bytes(), also, &mut self.rest);
    }

    /// Appends an option if it has a value. Values are numbers and words that need no escape.
    pub(crate) fn option(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            let separator = if self.query.is_empty() { '?' } else { '&' };
            self.query.push_str(&format!("{separator}{name}={value}"));
        }
    }

    /// Appends the option `group` if it has a value, escaped.
    pub(crate) fn group(&mut self, group: Option<&str>) {
        self.option(
            "group",
            group.map(|group| {
                let mut escaped = String::new();
                escape::encode(group.as_bytes(), b"&", &mut escaped);
                escaped
            }),
        );
    }

    /// Appends the option `mode` if it has a value.
    pub(crate) fn mode(&mut self, mode: Option<u32>) {
        self.option("mode", mode.map(|mode| format!("{mode:04o}")));
    }

    /// Returns the whole address. `slashes`: whether `scheme://` is the customary spelling.
    pub(crate) fn finish(self, scheme: &str, slashes: bool) -> String {
        let Self { rest, query } = self;
        // A rest that begins with two slashes needs two more before it, or they would be parsed as
        // the `//` of the scheme.
        let slashes = if slashes || rest.starts_with("//") {
            "//"
        } else {
            ""
        };
        format!("{scheme}:{slashes}{rest}{query}")
    }
}
