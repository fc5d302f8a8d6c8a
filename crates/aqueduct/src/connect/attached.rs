//! Facts that a mechanism attaches to its ends, such as the process behind them.

use std::any::Any;
use std::fmt;

/// A value that a mechanism attaches to an end, and that only the mechanism knows.
#[derive(Default)]
pub(crate) struct Attached(Option<Box<dyn Any + Send + Sync>>);

impl Attached {
    pub(crate) fn put(&mut self, thing: impl Any + Send + Sync) {
        self.0 = Some(Box::new(thing));
    }

    /// Takes the attached value, if it is a `T`.
    pub(crate) fn take<T: Any>(&mut self) -> Option<T> {
        match self.0.take()?.downcast() {
            Ok(thing) => Some(*thing),
            Err(other) => {
                self.0 = Some(other);
                None
            }
        }
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(_)" } else { "None" })
    }
}
