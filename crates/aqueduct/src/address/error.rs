//! [`AddressError`]: what is wrong with an address, and what would be right.

use std::fmt::{self, Display, Formatter};

/// An error of parsing an address.
///
/// [`problem`](Self::problem) carries the facts. Printing gives one sentence with the address, the
/// invalid part, what is allowed there, and the nearest allowed word, if there is one.
///
/// # Examples
///
/// ```
/// use aqueduct::{AddressProblem, Endpoint};
///
/// let error = "fifo:/run/jobs?mod=600".parse::<Endpoint>().unwrap_err();
/// assert_eq!(error.address(), "fifo:/run/jobs?mod=600");
/// assert!(matches!(
///     error.problem(),
///     AddressProblem::UnknownOption { nearest: Some("mode"), .. }
/// ));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    address: String,
    problem: AddressProblem,
}

impl AddressError {
    pub(crate) fn new(address: &[u8], problem: AddressProblem) -> Self {
        Self {
            address: String::from_utf8_lossy(address).into_owned(),
            problem,
        }
    }

    /// Returns the address as it was written; bytes that are not UTF-8 are replaced.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns what is wrong with it.
    pub fn problem(&self) -> &AddressProblem {
        &self.problem
    }
}

impl Display for AddressError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // `Debug` of a string escapes control characters, so the text stays on one line.
        write!(f, "address {:?}: {}", self.address, self.problem)
    }
}

impl std::error::Error for AddressError {}

/// The problem of an [`AddressError`].
///
/// # Examples
///
/// ```
/// use aqueduct::{AddressProblem, Endpoint};
///
/// let error = "fifo:/run/jobs?mode=rw".parse::<Endpoint>().unwrap_err();
/// match error.problem() {
///     AddressProblem::InvalidValue { option, expected, .. } => println!("{option} takes {expected}"),
///     problem => println!("{problem}"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressProblem {
    /// There is no `scheme:` at the start.
    NoScheme {
        /// All schemes.
        allowed: &'static [&'static str],
        /// The whole address that was most likely meant.
        nearest: Option<String>,
    },
    /// The scheme is unknown.
    UnknownScheme {
        /// The scheme as it was written.
        scheme: String,
        /// All schemes.
        allowed: &'static [&'static str],
        /// The scheme, or the whole address, that was most likely meant.
        nearest: Option<String>,
    },
    /// The scheme has no such option.
    UnknownOption {
        /// The scheme of the address.
        scheme: &'static str,
        /// The option as it was written.
        option: String,
        /// The options of this scheme.
        allowed: &'static [&'static str],
        /// The option that was most likely meant.
        nearest: Option<&'static str>,
    },
    /// No option follows a `?` or `&`.
    MissingOption,
    /// An option is given twice.
    RepeatedOption {
        /// Its name.
        option: &'static str,
    },
    /// An option has a value that it does not accept, or none.
    InvalidValue {
        /// The option's name.
        option: &'static str,
        /// The value as it was written.
        value: String,
        /// What the option accepts.
        expected: &'static str,
        /// The value that was most likely meant.
        nearest: Option<&'static str>,
    },
    /// The part after the scheme (a path, a name, a host, a port, …) is not valid.
    InvalidPart {
        /// Which part.
        part: &'static str,
        /// The part as it was written.
        value: String,
        /// What the part must be.
        expected: &'static str,
    },
    /// A `%` is not followed by two hexadecimal digits.
    InvalidEscape {
        /// The sign and what follows it.
        escape: String,
    },
}

impl Display for AddressProblem {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme { allowed, nearest } => {
                write!(f, "the scheme is missing")?;
                did_you_mean(f, nearest.as_deref())?;
                write!(f, "; the schemes are {}", List(allowed))
            }
            Self::UnknownScheme {
                scheme,
                allowed,
                nearest,
            } => {
                write!(f, "unknown scheme {scheme:?}")?;
                did_you_mean(f, nearest.as_deref())?;
                write!(f, "; the schemes are {}", List(allowed))
            }
            Self::UnknownOption {
                scheme,
                option,
                allowed,
                nearest,
            } => {
                write!(f, "unknown option {option:?}")?;
                did_you_mean(f, *nearest)?;
                match allowed {
                    [] => write!(f, "; {scheme} takes none")?,
                    _ => write!(f, "; {scheme} takes {}", List(allowed))?,
                }
                // With so few options, literal text is the likelier meaning.
                match allowed {
                    [] | [_] => f.write_str(" (write a literal question mark as %3F)"),
                    _ => Ok(()),
                }
            }
            Self::MissingOption => f.write_str(
                "no option follows a question mark or ampersand (write a literal question mark as %3F)",
            ),
            Self::RepeatedOption { option } => write!(f, "option {option:?} is given twice"),
            Self::InvalidValue {
                option,
                value,
                expected,
                nearest,
            } => {
                write!(f, "option {option:?} cannot be {value:?}")?;
                did_you_mean(f, *nearest)?;
                write!(f, "; it takes {expected}")
            }
            Self::InvalidPart {
                part,
                value,
                expected,
            } if value.is_empty() => write!(f, "the {part} is missing; it must be {expected}"),
            Self::InvalidPart {
                part,
                value,
                expected,
            } => write!(f, "the {part} cannot be {value:?}; it must be {expected}"),
            Self::InvalidEscape { escape } => write!(
                f,
                "{escape:?} is not a percent escape (% and two hexadecimal digits); write a \
                 literal percent sign as %25"
            ),
        }
    }
}

impl std::error::Error for AddressProblem {}

fn did_you_mean(f: &mut Formatter<'_>, nearest: Option<&str>) -> fmt::Result {
    match nearest {
        Some(nearest) => write!(f, " (did you mean {nearest:?}?)"),
        None => Ok(()),
    }
}

/// Prints `a, b and c`.
struct List<'a>(&'a [&'a str]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            match i {
                0 => {}
                _ if i + 1 == self.0.len() => f.write_str(" and ")?,
                _ => f.write_str(", ")?,
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
