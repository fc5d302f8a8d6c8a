use std::convert::Infallible;
use std::os::fd::{OwnedFd, RawFd};

use crate::child::Error;
use crate::io::sys::{self, NotInherited};

/// Takes over descriptor `number` that this process inherited from its parent: the child's side of
/// what a [`Command`](crate::child::Command) maps. Or one that
/// [`connect::offer`](crate::connect::offer) was given.
///
/// It is closed on `exec` from then on, and closed when it is dropped, so that the parent sees the end
/// of the stream. Each can be taken once.
///
/// A descriptor counts as inherited if it was open before `main` without `FD_CLOEXEC`, has a number
/// below 1024, and still lacks that flag. So none that a part of this program has opened since can be
/// taken from it, however it was opened. What this cannot know is a descriptor that `unsafe` code of
/// the program has taken over on its own account: do not name it here too. In a library that is loaded
/// into another program at run time nothing counts as inherited.
///
/// The standard streams, 0 to 2, belong to [`std::io`] and cannot be taken: use
/// [`io::stdin`](std::io::stdin) and its like.
///
/// # Errors
///
/// - [`Error::NotInherited`]: it is not open, was opened by this program, or is a standard stream.
/// - [`Error::Taken`]: it was taken before.
///
/// # Examples
///
/// A worker whose parent talks to it on descriptors 3 and 4:
///
/// ```no_run
/// use aqueduct::codec::Text;
/// use aqueduct::frame::Framing;
/// use aqueduct::{Channel, child, pipe};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// let jobs = pipe::Receiver::from_owned_fd(child::inherited(3)?)?;
/// let answers = pipe::Sender::from_owned_fd(child::inherited(4)?)?;
/// let mut parent = Channel::<String, String>::new(
///     answers.framed(Framing::length()).typed(Text),
///     jobs.framed(Framing::length()).typed(Text),
/// );
/// while let Some(job) = parent.recv().await {
///     parent.send(job?.to_uppercase()).await?;
/// }
/// # Ok(())
/// # }
/// ```
pub fn inherited(number: RawFd) -> Result<OwnedFd, Error> {
    if number <= 2 {
        return Err(Error::NotInherited { number });
    }
    match sys::take_inherited(number, |_| Ok::<_, Infallible>(())) {
        Ok(Ok((fd, ()))) => Ok(fd),
        Ok(Err(never)) => match never {},
        Err(NotInherited::Taken) => Err(Error::Taken { number }),
        Err(_) => Err(Error::NotInherited { number }),
    }
}
