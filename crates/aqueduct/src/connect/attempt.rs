//! [`Attempt`]: an action on an address, and its errors.

use std::borrow::Cow;
use std::io;

use tokio::runtime::Handle;

use super::{OpenError, OpenErrorKind};

/// An action on an address.
#[derive(Debug)]
pub(crate) struct Attempt<A> {
    pub(crate) action: &'static str,
    /// The address as users write it.
    pub(crate) object: String,
    pub(crate) address: A,
}

/// The meaning of an error of the system: its kind, the cause and the cure.
pub(crate) type Meaning = (OpenErrorKind, Cow<'static, str>, &'static str);

impl<A> Attempt<A> {
    pub(crate) fn error(
        &self,
        kind: OpenErrorKind,
        cause: impl Into<Cow<'static, str>>,
    ) -> OpenError {
        OpenError::new(self.action, &self.object, kind, cause)
    }

    /// Makes an error of one of the system, and of its meaning if that is known.
    pub(crate) fn explained(&self, source: io::Error, meaning: Option<Meaning>) -> OpenError {
        match meaning {
            Some((kind, cause, cure)) => {
                self.error(kind, cause).with_cure(cure).with_source(source)
            }
            None => OpenError::system(self.action, &self.object, source),
        }
    }

    /// Returns an error where Tokio would panic.
    pub(crate) fn in_runtime(&self) -> Result<(), OpenError> {
        match Handle::try_current() {
            Ok(_) => Ok(()),
            Err(e) => Err(self.error(OpenErrorKind::NoRuntime, e.to_string())),
        }
    }
}
