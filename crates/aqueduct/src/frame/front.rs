//! [`Find`]: the content at the front of a buffer.

/// The content at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    /// A whole frame: the number of bytes before, in and after its body.
    Frame {
        before: usize,
        len: usize,
        after: usize,
    },
    /// A whole frame in the first `len` bytes, which are stuffed, and a zero byte behind them.
    Stuffed { len: usize },
    /// The beginning of a frame that will have a body of `len` bytes behind its header.
    Begun { header: usize, len: usize },
    /// This many bytes, at least one, are not part of a frame: look again behind them.
    Drop(usize),
    /// Too few bytes to decide.
    More,
}
