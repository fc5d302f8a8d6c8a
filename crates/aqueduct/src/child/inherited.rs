use std::os::fd::{OwnedFd, RawFd};

use crate::child::Error;
use crate::sys;

/// Takes over descriptor `number` that this process inherited from its parent: the child's side of
/// what a [`Command`](crate::child::Command) maps.
///
/// It is closed on `exec` from then on, and closed when it is dropped, so that the parent sees the end
/// of the stream. Each can be taken once.
///
/// A descriptor counts as inherited if it is open and lacks `FD_CLOEXEC`: what std, Tokio and this
/// crate open has that flag. So call this early, before other code opens descriptors without it:
/// one that is taken although a part of this program owns it gets closed twice, and its number may
/// be another file's by then.
///
/// The standard streams, 0 to 2, belong to [`std::io`] and cannot be taken: use
/// [`io::stdin`](std::io::stdin) and its like.
///
/// # Errors
///
/// [`Error::NotInherited`]: it is not open, was taken before, or is a standard stream.
///
/// # Examples
///
/// A worker whose parent talks to it on descriptors 3 and 4:
///
/// ```no_run
/// use aqueduct::codec::Text;
/// use aqueduct::frame::Framing;
/// use aqueduct::{Channel, Receiver, Sender, child, pipe};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let jobs = pipe::Receiver::from_owned_fd(child::inherited(3)?)?;
/// let answers = pipe::Sender::from_owned_fd(child::inherited(4)?)?;
/// let mut parent = Channel::<String, String>::new(
///     Sender::new(answers.framed(Framing::length()), Text),
///     Receiver::new(jobs.framed(Framing::length()), Text),
/// );
/// while let Some(job) = parent.recv().await {
///     parent.send(job?.to_uppercase()).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn inherited(number: RawFd) -> Result<OwnedFd, Error> {
    let taken = match number {
        ..=2 => None,
        // A number that is not open is one that was not inherited.
        _ => sys::take_inherited(number).ok().flatten(),
    };
    taken.ok_or(Error::NotInherited { number })
}
