//! The grammar's tools: options, escapes, paths, printing, the nearest match.
//!
//! The syntax of each scheme is defined with its mechanism; [`Endpoint`](crate::connect::Endpoint)
//! combines them.

mod capabilities;
mod error;
pub(crate) mod escape;
mod host;
pub(crate) mod nearest;
pub(crate) mod path;
mod printer;
mod query;

pub(crate) use self::capabilities::PIPE_BUF;
pub use self::capabilities::{
    Awaited, Capabilities, Direction, EndOfStream, LargestMessage, Ordering, Sharing,
};
pub use self::error::{AddressError, AddressProblem};
pub(crate) use self::host::HostPort;
pub(crate) use self::printer::Printer;
pub(crate) use self::query::Query;
