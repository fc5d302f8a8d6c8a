//! [`SoleReader`]: one `aqueduct` at a time reads a FIFO.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::time::Duration;

use aqueduct::endpoint::Sharing;
use aqueduct::{Endpoint, OpenError};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use tokio::time::sleep;

use crate::look::Processes;

/// Which byte of the FIFO is locked. The library's writers lock the first.
const BYTE: libc::off_t = 1;
/// How often it is tried where another reader has just left, or came at the same moment.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);

/// A sign to other readers that a FIFO has one. Of two each would get parts of messages, and none
/// would notice.
///
/// It is a record lock for reading (fcntl(2), `F_OFD_SETLK`) on a descriptor of its own, which goes
/// when the process does. Such locks do not shut each other out, and one for writing cannot be had
/// on what is open for reading; so after putting up its own each reader asks for another's.
pub(crate) struct SoleReader(#[expect(dead_code, reason = "it is there to be held")] File);

impl SoleReader {
    /// Opens a receiving end, with the sign up before that if the FIFO is there already: opening
    /// and closing it once more may look like a sender that came and left.
    pub(crate) async fn before<T>(
        endpoint: &Endpoint,
        opening: impl Future<Output = Result<T, OpenError>>,
    ) -> anyhow::Result<(Option<Self>, T)> {
        let sign = Self::of(endpoint).await?;
        let opened = opening.await?;
        Ok(match sign {
            Some(sign) => (Some(sign), opened),
            None => (Self::of(endpoint).await?, opened),
        })
    }

    /// Puts up the sign; `None` if there is no such FIFO.
    async fn of(endpoint: &Endpoint) -> anyhow::Result<Option<Self>> {
        let Some(path) = endpoint.path() else {
            return Ok(None);
        };
        if endpoint.capabilities().readers != Sharing::One {
            return Ok(None);
        }
        // The library reports what else it may be.
        if !std::fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo()) {
            return Ok(None);
        }
        let mut options = File::options();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        for attempt in 1..=ATTEMPTS {
            let Ok(file) = options.open(path) else {
                // It was removed meanwhile, or may not be read: so will the library find.
                return Ok(None);
            };
            if sign(&file)? {
                return Ok(Some(Self(file)));
            }
            drop(file);
            // Not all at the same pace.
            sleep(PAUSE * attempt + PAUSE * (std::process::id() % 8) / 8).await;
        }
        let other = other(path).unwrap_or_default();
        anyhow::bail!(
            "{endpoint} is read by another aqueduct{other}, and each would get parts of the \
             messages: stop that one, or use a queue, which many may read"
        )
    }
}

/// Whether the sign is up, and no other.
fn sign(file: &File) -> io::Result<bool> {
    let lock = |kind: libc::c_int| libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock(libc::F_RDLCK)))?;
    let mut others = lock(libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut others))?;
    Ok(i32::from(others.l_type) == libc::F_UNLCK)
}

/// The other one, if it can be seen.
fn other(path: &std::path::Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let holders = Processes::look().of((metadata.dev(), metadata.ino()));
    let mut others = holders.iter().filter(|it| it.pid != std::process::id());
    let other = others.find(|it| it.reads && it.command == "aqueduct")?;
    Some(format!(" (process {})", other.pid))
}
