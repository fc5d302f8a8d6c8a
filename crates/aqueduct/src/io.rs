//! Plumbing shared by every mechanism: waiting, accepting, draining, descriptors.
//!
//! Nothing here knows a mechanism. Only items that `lib.rs` re-exports are public.

pub(crate) mod accept;
pub(crate) mod backoff;
pub(crate) mod blocking;
pub(crate) mod crowd;
pub(crate) mod drain;
pub(crate) mod fd;
pub(crate) mod hangup;
pub(crate) mod mark;
pub(crate) mod owner;
mod polled;
pub(crate) mod polling;
pub(crate) mod reactor;
pub(crate) mod source;
pub(crate) mod sys;
pub(crate) mod timer;
pub(crate) mod watch;

pub use self::polled::Polled;
