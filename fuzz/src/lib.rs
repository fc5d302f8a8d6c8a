//! What the fuzz targets share: a meter of memory, and a stream that comes in pieces.

mod memory;
mod pieces;

pub use memory::{Meter, most};
pub use pieces::{Pieces, drive};
