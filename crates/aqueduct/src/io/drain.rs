//! [`close`]: closes a byte stream so that the peer receives everything that was written.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::timer::timeout;

const BUFFER: usize = 8 * 1024;

/// Closes a two-way byte stream without losing data that is in flight.
///
/// A socket that is closed with unread input resets the connection. Over TCP the peer may then lose
/// the end of the reply, and on every socket it gets `ECONNRESET` instead of the end of stream (RFC
/// 1122, 4.2.2.13; `unix_release_sock` in `net/unix/af_unix.c`). So this function ends its own
/// direction, reads and discards until the peer has ended the other one, and closes. `patience`
/// limits the wait for a peer that sends for ever.
///
/// Returns how many bytes were discarded.
///
/// # Errors
///
/// `TimedOut` if the peer did not end its direction in time, or an error of writing or reading. The
/// stream is closed in either case, with the risk described above.
///
/// # Cancel safety
///
/// Dropping the future closes the stream at once.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let listener = aqueduct::tcp::bind("127.0.0.1:0").await?;
/// let client = tokio::spawn(aqueduct::tcp::connect(listener.local_addr()?));
/// let (mut stream, _) = listener.accept().await?;
/// # drop(client.await);
/// stream.write_all(b"go away\n").await?;
/// aqueduct::tcp::close(stream, Duration::from_secs(1)).await?;
/// # Ok(())
/// # }
/// ```
pub async fn close<S>(mut stream: S, patience: Duration) -> io::Result<u64>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let draining = async {
        stream.shutdown().await?;
        let mut buffer = vec![0; BUFFER];
        let mut discarded = 0;
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(discarded),
                n => discarded += n as u64,
            }
        }
    };
    match timeout(patience, draining).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the peer did not end its direction of the stream within {patience:?}"),
        )),
    }
}
