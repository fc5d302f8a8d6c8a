//! Inherited descriptors, `fd:N`: what they are, and taking them over once.

mod scheme;
mod take;

pub(crate) use self::scheme::SCHEME;
pub use self::take::offer;
