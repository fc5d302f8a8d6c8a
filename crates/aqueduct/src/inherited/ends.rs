//! Inherited descriptors without an address: taken by number, and pipe ends made of them.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::found::not_inherited;
use super::scheme::endpoint;
use crate::channel::Channel;
use crate::codec::{Decode, Encode};
use crate::connect::{Endpoint, OpenError, OpenErrorKind};
use crate::frame::Framing;
use crate::io::sys;
use crate::pipe;

/// Joins two inherited pipes into a typed channel: sends on `to`, receives from `from`.
///
/// This is the child's side of [`Child::channel`](crate::child::Child::channel), with the two
/// numbers swapped.
///
/// # Errors
///
/// As for [`sender`] and [`receiver`].
///
/// # Examples
///
/// The [module](crate::inherited) has an example with both sides. Here two pipes take the place of the parent:
///
/// ```
/// use aqueduct::codec::Text;
/// use aqueduct::frame::Framing;
/// use aqueduct::{Endpoint, inherited};
///
/// fn number(address: &Endpoint) -> Result<i32, std::num::ParseIntError> {
///     address.to_string().trim_start_matches("fd:").parse()
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (reader, writer) = std::io::pipe()?;
/// let (to, from) = (inherited::offer(writer)?, inherited::offer(reader)?);
/// let (to, from) = (number(&to)?, number(&from)?);
/// let mut echo = inherited::channel::<String, String, _>(to, from, Framing::lines(), Text)?;
/// assert_eq!(echo.call("hello".into()).await?, "hello");
/// # Ok(()) }
/// ```
pub fn channel<Out, In, C>(
    to: RawFd,
    from: RawFd,
    framing: Framing,
    codec: C,
) -> Result<Channel<Out, In>, OpenError>
where
    C: Encode<Out> + Decode<In> + Clone + 'static,
{
    Ok(Channel::new(
        sender(to)?.framed(framing.clone()).typed(codec.clone()),
        receiver(from)?.framed(framing).typed(codec),
    ))
}

/// Takes inherited descriptor `number` as the writing end of a pipe.
///
/// It becomes non-blocking, also for processes that share its open file description. Descriptors
/// from [`child::Command`](crate::child::Command) are not shared. For others, open the address
/// `fd:N`, which leaves the mode unchanged.
///
/// # Errors
///
/// As for [`take`], and for [`pipe::Sender::from_owned_fd`]. A descriptor that is not a pipe is
/// closed.
///
/// # Examples
///
/// ```no_run
/// # // Not run: it needs a parent that passes descriptor 3.
/// use aqueduct::inherited;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # unsafe { inherited::claim() };
/// inherited::sender(3)?.write_all(b"ready\n").await?;
/// # Ok(()) }
/// ```
pub fn sender(number: RawFd) -> Result<pipe::Sender, OpenError> {
    pipe::Sender::from_owned_fd(take(number)?).map_err(|e| failed("send to", number, e))
}

/// Takes inherited descriptor `number` as the reading end of a pipe.
///
/// It becomes non-blocking, as with [`sender`].
///
/// # Errors
///
/// As for [`take`], and for [`pipe::Receiver::from_owned_fd`]. A descriptor that is not a pipe is
/// closed.
///
/// # Examples
///
/// ```
/// use aqueduct::inherited;
/// use std::io::Write;
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (reader, mut writer) = std::io::pipe()?;
/// let number: i32 = inherited::offer(reader)?.to_string().trim_start_matches("fd:").parse()?;
/// writer.write_all(b"hi")?;
///
/// let mut buf = [0; 2];
/// inherited::receiver(number)?.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hi");
/// # Ok(()) }
/// ```
pub fn receiver(number: RawFd) -> Result<pipe::Receiver, OpenError> {
    pipe::Receiver::from_owned_fd(take(number)?).map_err(|e| failed("receive from", number, e))
}

/// Takes over inherited descriptor `number`, of any kind.
///
/// From then on it is closed on `exec`. Dropping it closes it, so that the peer sees the end of
/// stream. Each can be taken once.
///
/// # Errors
///
/// [`NotInherited`](OpenErrorKind::NotInherited): it is not open (`EBADF`), was already taken, was
/// not [claimed](crate::inherited::claim) or offered, or is a standard stream.
///
/// # Examples
///
/// ```
/// use aqueduct::inherited;
/// use std::io::Write;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (reader, mut writer) = std::io::pipe()?;
/// let number: i32 = inherited::offer(reader)?.to_string().trim_start_matches("fd:").parse()?;
/// writer.write_all(b"hi")?;
///
/// let fd = inherited::take(number)?;
/// assert!(inherited::take(number).is_err()); // once only
/// # drop(fd);
/// # Ok(()) }
/// ```
pub fn take(number: RawFd) -> Result<OwnedFd, OpenError> {
    let object = || format!("inherited descriptor {number}");
    if (0..=2).contains(&number) {
        let cause = "it is a standard stream and belongs to std::io";
        let error = OpenError::new("take", object(), OpenErrorKind::NotInherited, cause);
        return Err(error.with_cure("use std::io, aqueduct::stdio or its address"));
    }
    match sys::take_inherited(number, |_| Ok::<_, Infallible>(())) {
        Ok(Ok((fd, ()))) => Ok(fd),
        Ok(Err(never)) => match never {},
        Err(problem) => Err(not_inherited("take", &object(), problem)),
    }
}

/// Gives a descriptor of this program an address, `fd:N`.
///
/// It can be opened once by that address.
///
/// For a descriptor that was not inherited: from a message of a Unix socket
/// ([`unix::seqpacket`](crate::unix::seqpacket)), from a library, in a test. Until it is opened by
/// this address, or [taken](take), it stays open, and other programs inherit it if its
/// close-on-exec flag allows.
///
/// # Errors
///
/// `EMFILE`: its number is one of 0 to 2, which are the standard streams', and no other is free.
///
/// # Examples
///
/// ```
/// use aqueduct::connect::Options;
/// use aqueduct::inherited::offer;
/// use futures_util::StreamExt;
/// use std::io::Write;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (reader, mut writer) = std::io::pipe()?;
/// let address = offer(reader)?;
/// writer.write_all(b"\0\0\0\x02hi")?;
/// let mut incoming = Options::new().open_receiver(&address).await?;
/// assert_eq!(incoming.next().await.transpose()?.unwrap().body(), "hi");
/// # Ok(())
/// # }
/// ```
pub fn offer(fd: impl Into<OwnedFd>) -> io::Result<Endpoint> {
    let mut fd = fd.into();
    if fd.as_raw_fd() <= 2 {
        fd = fd.try_clone()?;
    }
    Ok(endpoint(sys::offer(fd)))
}

/// An error of the pipe with the number that the caller gave.
fn failed(action: &'static str, number: RawFd, error: io::Error) -> OpenError {
    match error.downcast::<OpenError>() {
        Ok(error) => error,
        Err(error) => OpenError::system(action, format!("inherited descriptor {number}"), error),
    }
}
