//! A header with a `Content-Length` before each body, as in the language server protocol.
//!
//! The header is that of HTTP: one field per line, and an empty line. `Content-Length` is required;
//! other fields, such as `Content-Type`, are ignored.

use std::io;

use httparse::{EMPTY_HEADER, Status, parse_headers};

use super::error::FrameError;
use super::front::Find;

/// The largest header in bytes.
const MAX_HEADER: usize = 4096;

/// The most fields in a header.
const MAX_FIELDS: usize = 16;

const FIELD: &str = "Content-Length";

/// The least size of a header: its field with one digit, and two line ends.
pub(super) const LEAST: usize = FIELD.len() + 4;

/// The largest header that is put before a body.
pub(super) const MOST: usize = FIELD.len() + 2 + 20 + 4;

/// Returns the size of the header at the front, and that of its body; `None` until the header is
/// whole.
fn read(src: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let begin = &src[..src.len().min(MAX_HEADER)];
    let (header, fields) = match parse_headers(begin, &mut fields) {
        Ok(Status::Complete(whole)) => whole,
        Ok(Status::Partial) if src.len() < MAX_HEADER => return Ok(None),
        Ok(Status::Partial) => {
            return Err(malformed(format!("its header is over {MAX_HEADER} bytes")));
        }
        Err(httparse::Error::TooManyHeaders) => {
            return Err(malformed(format!(
                "its header has over {MAX_FIELDS} fields"
            )));
        }
        Err(_) => {
            let begin = begin[..begin.len().min(16)].escape_ascii();
            return Err(malformed(format!(
                "\"{begin}\" does not begin a header such as {FIELD}: does the peer send lines?"
            )));
        }
    };
    let mut lengths = fields
        .iter()
        .filter(|it| it.name.eq_ignore_ascii_case(FIELD));
    let Some(length) = lengths.next() else {
        return Err(malformed(format!("its header has no {FIELD}")));
    };
    let digits = length.value;
    if lengths.any(|it| it.value != digits) {
        return Err(malformed(format!(
            "its header has two {FIELD}s that differ"
        )));
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        let value = digits.escape_ascii();
        return Err(malformed(format!(
            "its {FIELD} is \"{value}\", which is not a number"
        )));
    }
    let len = std::str::from_utf8(digits)
        .ok()
        .and_then(|it| it.parse().ok());
    Ok(Some((header, len.unwrap_or(usize::MAX))))
}

fn malformed(cause: String) -> FrameError {
    FrameError::Malformed {
        framing: "headers",
        cause,
    }
}

pub(super) fn find(src: &[u8], max: usize) -> io::Result<Find> {
    let Some((header, len)) = read(src)? else {
        return Ok(Find::More);
    };
    if len > max {
        return Err(FrameError::TooLarge { len, max }.received());
    }
    Ok(match src.len() - header < len {
        true => Find::Begun { header, len },
        false => Find::Frame {
            before: header,
            len,
            after: 0,
        },
    })
}

/// Returns the least number of bytes that complete the frame that has begun; `None` until its
/// length is known.
pub(super) fn missing(begun: &[u8]) -> Option<usize> {
    let (header, len) = read(begun).ok()??;
    Some(len.saturating_sub(begun.len() - header).max(1))
}

/// The header of a body.
pub(super) fn header(len: usize) -> String {
    format!("{FIELD}: {len}\r\n\r\n")
}
