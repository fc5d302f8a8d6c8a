//! The options of an address: `?name=value&name=value`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use super::nearest::nearest;
use super::{AddressProblem, escape};

/// Permission bits for what is created: octal.
const MODE: &str = "octal permission bits from 0 to 777, as in mode=600";
const GROUP: &str = "the name or number of a group, as in group=wheel";
const BOOL: &str = "true or false";

/// The options as they were written. Each is known to the scheme, and none is repeated.
pub(crate) struct Query {
    values: Vec<(&'static str, String)>,
}

impl Query {
    /// Splits the text after the question mark, if any, into options that are all among `allowed`.
    pub(crate) fn parse(
        scheme: &'static str,
        allowed: &'static [&'static str],
        text: Option<&[u8]>,
    ) -> Result<Self, AddressProblem> {
        let mut values = Vec::new();
        let Some(text) = text else {
            return Ok(Self { values });
        };
        for pair in text.split(|b| *b == b'&') {
            if pair.is_empty() {
                return Err(AddressProblem::MissingOption);
            }
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], Some(&pair[at + 1..])),
                None => (pair, None),
            };
            let name = String::from_utf8_lossy(name);
            let Some(&option) = allowed.iter().find(|it| **it == name) else {
                return Err(AddressProblem::UnknownOption {
                    scheme,
                    nearest: nearest(&name, allowed.iter().copied()),
                    option: name.into_owned(),
                    allowed,
                });
            };
            if values.iter().any(|(seen, _)| *seen == option) {
                return Err(AddressProblem::RepeatedOption { option });
            }
            let value = escape::decode(value.unwrap_or_default())?;
            values.push((option, String::from_utf8_lossy(&value).into_owned()));
        }
        Ok(Self { values })
    }

    pub(crate) fn boolean(&self, option: &'static str) -> Result<Option<bool>, AddressProblem> {
        self.get(option, |value| match value {
            "true" => Ok(true),
            "false" => Ok(false),
            "1" | "yes" | "on" | "" => Err((BOOL, Some("true"))),
            "0" | "no" | "off" => Err((BOOL, Some("false"))),
            other => Err((BOOL, nearest(other, ["true", "false"]))),
        })
    }

    pub(crate) fn mode(&self) -> Result<Option<u32>, AddressProblem> {
        self.get("mode", |value| {
            let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let mode = u32::from_str_radix(value, 8).ok().filter(|_| digits);
            mode.filter(|mode| *mode <= 0o777).ok_or((MODE, None))
        })
    }

    /// The group of what is created: a name or a number.
    pub(crate) fn group(&self) -> Result<Option<String>, AddressProblem> {
        self.get("group", |value| {
            let fits = !value.is_empty() && !value.chars().any(char::is_control);
            fits.then(|| value.to_owned()).ok_or((GROUP, None))
        })
    }

    /// A decimal number, which may have a unit (`64KiB`) if `units` says so.
    pub(crate) fn number<N: TryFrom<u64>>(
        &self,
        option: &'static str,
        range: RangeInclusive<u64>,
        units: bool,
        expected: &'static str,
    ) -> Result<Option<N>, AddressProblem> {
        self.get(option, |value| {
            number(value, units)
                .filter(|number| range.contains(number))
                .and_then(|number| N::try_from(number).ok())
                .ok_or((expected, None))
        })
    }

    /// A text that `fits`.
    #[cfg(feature = "nats")]
    pub(crate) fn text(
        &self,
        option: &'static str,
        expected: &'static str,
        fits: impl FnOnce(&str) -> bool,
    ) -> Result<Option<String>, AddressProblem> {
        self.get(option, |value| {
            fits(value)
                .then(|| value.to_owned())
                .ok_or((expected, None))
        })
    }

    pub(crate) fn choice<T: Copy>(
        &self,
        option: &'static str,
        choices: &[(&'static str, T)],
        expected: &'static str,
    ) -> Result<Option<T>, AddressProblem> {
        self.get(option, |value| {
            let found = choices.iter().find(|it| it.0 == value);
            let near = || nearest(value, choices.iter().map(|it| it.0));
            found.map(|it| it.1).ok_or_else(|| (expected, near()))
        })
    }

    /// The value of `option`, if given, parsed by its type.
    pub(crate) fn parsed<T: FromStr<Err = AddressProblem>>(
        &self,
        option: &'static str,
    ) -> Result<Option<T>, AddressProblem> {
        let value = self.values.iter().find(|it| it.0 == option);
        value.map(|(_, value)| value.parse()).transpose()
    }

    /// The value of `option`, if given, parsed by `parse`. A value that does not parse is an error
    /// with the accepted values and the nearest one.
    fn get<T>(
        &self,
        option: &'static str,
        parse: impl FnOnce(&str) -> Result<T, (&'static str, Option<&'static str>)>,
    ) -> Result<Option<T>, AddressProblem> {
        let Some((_, value)) = self.values.iter().find(|it| it.0 == option) else {
            return Ok(None);
        };
        let value = value.as_str();
        let invalid = |(expected, nearest)| AddressProblem::InvalidValue {
            option,
            value: value.to_owned(),
            expected,
            nearest,
        };
        parse(value).map(Some).map_err(invalid)
    }
}

fn number(text: &str, units: bool) -> Option<u64> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let shift = match unit {
        "" => 0,
        "KiB" if units => 10,
        "MiB" if units => 20,
        "GiB" if units => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_digits_with_a_binary_unit_where_allowed() {
        assert_eq!(number("64KiB", true), Some(65_536));
        assert_eq!(number("2MiB", true), Some(2 << 20));
        assert_eq!(number("10", false), Some(10));
        for text in [
            "",
            "KiB",
            "+1",
            "-1",
            "1.5KiB",
            "64kb",
            "9999999999999999999GiB",
        ] {
            assert_eq!(number(text, true), None, "{text}");
        }
        assert_eq!(number("64KiB", false), None);
    }
}
