//! Durations and sizes as people write them: `5s`, `64KiB`.

use std::time::Duration;

use jiff::SignedDuration;

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    Forever,
    For(Duration),
}

impl Wait {
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Self::Forever => None,
            Self::For(limit) => Some(limit),
        }
    }
}

/// Reads a duration for clap.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.trim().parse::<SignedDuration>().ok();
    parsed
        .and_then(|it| Duration::try_from(it).ok())
        .ok_or_else(|| "write a number and a unit, as in 500ms, 5s or 2m".to_owned())
}

/// Reads a duration or `forever` for clap.
pub(crate) fn wait(text: &str) -> Result<Wait, String> {
    match text {
        "forever" => Ok(Wait::Forever),
        _ => match duration(text) {
            Ok(limit) => Ok(Wait::For(limit)),
            Err(error) => Err(format!("{error}, or forever")),
        },
    }
}

/// Reads a size for clap.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(end);
    let shift = match unit {
        "" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        _ => None,
    };
    let number = digits.parse::<usize>().ok();
    number
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| "write a number of bytes, as in 5000, 64KiB or 2MiB".to_owned())
}

/// Reads a size above zero for clap.
pub(crate) fn size_of_something(text: &str) -> Result<usize, String> {
    match size(text)? {
        0 => Err("at least one byte is needed".to_owned()),
        size => Ok(size),
    }
}

/// Reads a number above zero for clap.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    let parsed = text.parse::<usize>().ok().filter(|it| *it > 0);
    parsed.ok_or_else(|| "write a number from 1 on".to_owned())
}

/// Reads permission bits for clap.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|it| it.is_ascii_digit());
    let parsed = u32::from_str_radix(text, 8).ok();
    parsed
        .filter(|mode| digits && *mode <= 0o777)
        .ok_or_else(|| "write permissions in octal, as in 0600 or 660".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_are_not_negative() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in ["", "5", "-5s", "s", "five", "5 lightyears"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(wait("forever"), Ok(Wait::Forever));
        assert!(wait("ever").is_err());
    }

    #[test]
    fn sizes_take_binary_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("2MiB"), Ok(2 << 20));
        for text in ["", "KiB", "1KB", "-1", "1.5MiB", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal_permissions_and_counts_are_not_zero() {
        assert_eq!(mode("0600"), Ok(0o600));
        assert_eq!(mode("77"), Ok(0o77));
        for text in ["", "8", "1777", "u+rw", "+600", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
        assert_eq!(count("7"), Ok(7));
        assert!(count("0").is_err() && count("-1").is_err());
        assert!(size_of_something("0KiB").is_err());
    }
}
