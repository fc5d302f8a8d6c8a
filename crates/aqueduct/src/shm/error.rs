//! [`PeerError`]: a peer that breaks the protocol of shared memory.

use std::io;
use std::time::Duration;

/// A violation of the `shm:` protocol by the peer.
///
/// The connection is closed. [`PeerError::of`] finds it inside the [`io::Error`] of a read or write.
///
/// # Examples
///
/// A program that does not speak `shm:`:
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::shm::PeerError;
/// use futures_util::StreamExt;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("app.sock");
/// # let address: Endpoint = format!("shm:{}", path.display()).parse()?;
/// # let _ = r#"
/// let path = "/run/app.sock";
/// let address: Endpoint = "shm:/run/app.sock".parse()?;
/// # "#;
/// let mut listener = address.bind().await?;
/// let mut other = aqueduct::unix::connect(&path).await?;
/// other.write_all(b"hello\n").await?;
///
/// let client = listener.accept().await.ok_or("no client")??;
/// let error = client.into_receiver().next().await.ok_or("no item")?.unwrap_err();
/// assert_eq!(PeerError::of(&error), Some(&PeerError::Magic));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Its first bytes are not those of a hello.
    #[error("the peer does not speak shm:; use unix: on this side, or shm: on the other")]
    Magic,
    /// It speaks another version.
    #[error("the peer speaks version {theirs} of shm:, and this side {ours}; update the older one")]
    Version {
        /// The peer's version.
        theirs: u16,
        /// The version of this side.
        ours: u16,
    },
    /// Its hello states an impossible size.
    #[error("the peer's hello is damaged: {0}")]
    Hello(&'static str),
    /// Its hello did not bring exactly one memory and one bell.
    #[error("the peer's hello came with {0} descriptors instead of 2")]
    Descriptors(usize),
    /// Its memory may not be used.
    #[error("the peer's shared memory is refused: {0}")]
    Memory(&'static str),
    /// Its bell is not a pipe that can be read.
    #[error("the peer's bell is not the reading end of a pipe")]
    Bell,
    /// Its hello did not arrive in time.
    #[error("the peer sent no hello of shm: within {0:?}")]
    Silent(Duration),
    /// One side cannot make shared memory, and `fallback=true` is not set on both.
    #[error(
        "{0} cannot make shared memory; allow memfd_create, or set fallback=true on both sides"
    )]
    NoMemory(&'static str),
    /// Too many descriptors wait in sockets for their receivers (`ETOOMANYREFS`, unix(7)).
    ///
    /// Each peer that has not received this side's hello counts as 2, and `RLIMIT_NOFILE` is the limit
    /// for all processes of a user together. A client that only sends receives it with a later write.
    #[error(
        "too many descriptors of this user wait to be received by their peers, so no shared memory can \
         be passed; raise RLIMIT_NOFILE, or set fallback=true on both sides"
    )]
    InFlight,
    /// It has passed descriptors that go with no message.
    #[error("the peer passes descriptors against the protocol: {0}")]
    Passing(&'static str),
    /// It takes no descriptors. Nothing was sent, and the connection goes on.
    #[error("the peer takes no descriptors over shm:; update it, or pass them over unix:")]
    NoDescriptors,
    /// A word in its memory has an impossible value.
    #[error("the peer's shared memory has an index out of range")]
    Index,
}

impl PeerError {
    /// Finds it inside an error of a read or write.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<PeerError> for io::Error {
    fn from(error: PeerError) -> Self {
        let kind = match error {
            PeerError::Silent(_) => io::ErrorKind::TimedOut,
            PeerError::NoMemory(_) | PeerError::NoDescriptors => io::ErrorKind::Unsupported,
            PeerError::InFlight => io::ErrorKind::QuotaExceeded,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
