//! What a queue may be called.

use thiserror::Error as ThisError;

use crate::mq::Error;

/// The longest name in bytes, not counting the slash: `NAME_MAX`
/// ([`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html)).
pub const MAX_NAME: usize = 255;

/// What is wrong with a queue's name.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum NameProblem {
    /// It does not start with a slash.
    #[error("it must start with a slash, as in \"/jobs\"")]
    NoSlash,
    /// There is nothing after the slash.
    #[error("nothing follows the slash")]
    Empty,
    /// There is a second slash.
    #[error("it may have one slash only, the first character: queues have no directories")]
    Slashes,
    /// It is `/.` or `/..`.
    #[error("\".\" and \"..\" are directories")]
    Dots,
    /// It is longer than [`MAX_NAME`] after the slash.
    #[error("it has {len} bytes after the slash; at most {MAX_NAME} are allowed")]
    TooLong {
        /// The number of bytes after the slash.
        len: usize,
    },
    /// It has a character outside `A-Z a-z 0-9 . _ -`.
    #[error("{found:?} is not allowed in it; use letters, digits, '.', '_' and '-'")]
    Character {
        /// The first such character.
        found: char,
    },
}

/// Checks a queue's name: a slash, then 1 to [`MAX_NAME`] letters, digits, dots, underscores and
/// hyphens, which are not all there is to `.` and `..`.
///
/// Linux itself takes any byte but a slash, newlines included; such names would break addresses,
/// tables and logs.
///
/// # Errors
///
/// [`Error::Name`] with what is wrong.
///
/// # Examples
///
/// ```
/// use aqueduct::mq::{check_name, Error, NameProblem};
///
/// check_name("/jobs")?;
/// assert!(matches!(
///     check_name("jobs"),
///     Err(Error::Name { problem: NameProblem::NoSlash, .. })
/// ));
/// # Ok::<_, Error>(())
/// ```
pub fn check_name(name: &str) -> Result<(), Error> {
    match problem(name) {
        None => Ok(()),
        Some(problem) => Err(Error::Name {
            name: name.to_owned(),
            problem,
        }),
    }
}

fn problem(name: &str) -> Option<NameProblem> {
    let Some(rest) = name.strip_prefix('/') else {
        return Some(NameProblem::NoSlash);
    };
    if rest.is_empty() {
        return Some(NameProblem::Empty);
    }
    if rest.contains('/') {
        return Some(NameProblem::Slashes);
    }
    if rest == "." || rest == ".." {
        return Some(NameProblem::Dots);
    }
    if rest.len() > MAX_NAME {
        return Some(NameProblem::TooLong { len: rest.len() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let found = rest.chars().find(|c| !allowed(*c))?;
    Some(NameProblem::Character { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_before_the_kernel_sees_them() {
        let long = format!("/{}", "x".repeat(MAX_NAME));
        let too_long = format!("{long}x");
        let three_hundred = format!("/{}", "y".repeat(300));
        for good in ["/a", "/jobs", "/a.b-c_D9", "/...", "/.hidden", &long] {
            assert_eq!(problem(good), None, "{good:?}");
        }
        let character = |found| NameProblem::Character { found };
        for (bad, expected) in [
            ("", NameProblem::NoSlash),
            ("jobs", NameProblem::NoSlash),
            ("/", NameProblem::Empty),
            ("//", NameProblem::Slashes),
            ("//jobs", NameProblem::Slashes),
            ("/a/b", NameProblem::Slashes),
            ("/.", NameProblem::Dots),
            ("/..", NameProblem::Dots),
            (&too_long, NameProblem::TooLong { len: 256 }),
            (&three_hundred, NameProblem::TooLong { len: 300 }),
            ("/a\nb", character('\n')),
            ("/a b", character(' ')),
            ("/a\0b", character('\0')),
            ("/café", character('é')),
        ] {
            assert_eq!(problem(bad), Some(expected), "{bad:?}");
        }
    }
}
