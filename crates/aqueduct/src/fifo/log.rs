use std::ops::Deref;

use tracing::Span;

use super::TARGET;

/// The span of one end; says when that end is closed.
#[derive(Debug)]
pub(super) struct Log(pub(super) Span);

impl Deref for Log {
    type Target = Span;

    fn deref(&self) -> &Span {
        &self.0
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        tracing::debug!(target: TARGET, parent: &self.0, "closed");
    }
}
