//! `fd:N`.

use super::{AddressError, AddressProblem, Printer};

/// A descriptor inherited from the parent process: `fd:N`. Its kind is found by `fstat(2)` when
/// it is opened.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::Fd;
///
/// assert_eq!("fd:3".parse::<Endpoint>()?, Fd::new(3)?.into());
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fd {
    number: u32,
}

impl Fd {
    /// The descriptor `number`.
    ///
    /// # Errors
    ///
    /// The number is above 2147483647, which no descriptor can have.
    pub fn new(number: u32) -> Result<Self, AddressError> {
        match i32::try_from(number) {
            Ok(_) => Ok(Self { number }),
            Err(_) => Err(AddressError::new(b"fd:", invalid(number.to_string()))),
        }
    }

    /// The descriptor's number.
    pub fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn parse(rest: &[u8]) -> Result<Self, AddressProblem> {
        let rest = String::from_utf8_lossy(rest);
        let valid = rest.bytes().all(|b| b.is_ascii_digit());
        let number = rest.parse::<u32>().ok().filter(|_| valid);
        match number.filter(|number| i32::try_from(*number).is_ok()) {
            Some(number) => Ok(Self { number }),
            None => Err(invalid(rest.into_owned())),
        }
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        printer.literal(&self.number.to_string());
    }
}

fn invalid(value: String) -> AddressProblem {
    AddressProblem::InvalidPart {
        part: "descriptor",
        value,
        expected: "a number such as 3",
    }
}
