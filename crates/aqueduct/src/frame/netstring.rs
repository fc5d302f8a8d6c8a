//! Netstrings: `5:hello,` (<https://cr.yp.to/proto/netstrings.txt>).

use std::io;

use super::error::FrameError;
use super::front::Find;

/// The most digits of a 64-bit size.
const MAX_DIGITS: usize = 20;

/// The fewest bytes that a netstring adds to its body: one digit, a colon and a comma.
pub(super) const LEAST: usize = 3;

/// The most bytes that it adds.
pub(super) const MOST: usize = MAX_DIGITS + 2;

/// The digits at the front of a netstring.
struct Length {
    digits: usize,
    len: usize,
    /// The colon has arrived.
    ended: bool,
}

impl Length {
    fn read(src: &[u8]) -> Result<Self, FrameError> {
        let digits = src.iter().take_while(|it| it.is_ascii_digit()).count();
        let leads = digits > 1 && src[0] == b'0';
        let other = src.get(digits);
        let is_wrong = other.is_some_and(|it| *it != b':') || digits == 0 && other.is_some();
        if is_wrong || leads || digits > MAX_DIGITS {
            let end = src.len().min(MAX_DIGITS.min(digits + 8));
            let begin = src[..end].escape_ascii();
            let hint = match other {
                _ if leads => "a length must not have leading zeros",
                Some(b' '..=b'~' | b'\r' | b'\n') if is_wrong => "does the peer send lines?",
                _ => "does the peer use another framing?",
            };
            return Err(malformed(format!(
                "\"{begin}\" stands where digits and a colon belong: {hint}"
            )));
        }
        let number = src[..digits].iter().try_fold(0_usize, |number, digit| {
            number
                .checked_mul(10)?
                .checked_add(usize::from(digit - b'0'))
        });
        Ok(Self {
            digits,
            len: number.unwrap_or(usize::MAX),
            ended: other.is_some(),
        })
    }
}

fn malformed(cause: String) -> FrameError {
    FrameError::Malformed {
        framing: "netstring",
        cause,
    }
}

pub(super) fn find(src: &[u8], max: usize) -> io::Result<Find> {
    let Length { digits, len, ended } = Length::read(src)?;
    if !ended {
        return Ok(Find::More);
    }
    if len > max {
        return Err(FrameError::TooLarge { len, max }.received());
    }
    let before = digits + 1;
    match src.get(before + len) {
        None => Ok(Find::More),
        Some(b',') => Ok(Find::Frame {
            before,
            len,
            after: 1,
        }),
        Some(byte) => {
            let byte = byte.escape_ascii();
            let cause = format!("\"{byte}\" stands where a comma ends a message of {len} bytes");
            Err(malformed(cause).into())
        }
    }
}

/// Returns the least number of bytes that complete the frame that has begun; `None` until its
/// length is known.
pub(super) fn missing(begun: &[u8]) -> Option<usize> {
    let length = Length::read(begun).ok().filter(|it| it.ended)?;
    let whole = length.len.saturating_add(length.digits + 2);
    Some(whole.saturating_sub(begun.len()).max(1))
}

/// The header of a body.
pub(super) fn header(len: usize) -> String {
    format!("{len}:")
}
