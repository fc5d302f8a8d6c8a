use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::BytesMut;

use super::tail::{self, Tail};
use super::{Error, FACTS, MAGIC, PREFIX, check_magic, encode, prefix};
use crate::connect::Message;
use crate::frame::DEFAULT_MAX_FRAME;
use crate::io::sys;

/// Appends messages to a recording.
///
/// Each message is one write(2). When [`record`](Self::record) returns, the system has the message
/// and it outlives the process; after [`sync`](Self::sync) it also outlives the machine. Calls
/// block for as long as the file system does.
///
/// # Examples
///
/// ```
/// use aqueduct::record::{Recorder, Recording};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("jobs.rec");
/// let mut recorder = Recorder::open(&path)?;
/// recorder.record(&"sort the attic".into())?;
/// drop(recorder);
///
/// let mut recording = Recording::open(&path)?;
/// let record = recording.next().await.ok_or("it is empty")??;
/// assert_eq!(record.message.body(), "sort the attic");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Recorder {
    file: Held,
    path: PathBuf,
    /// Where the last whole record of a file ends; a device has no such place.
    end: Option<u64>,
    /// How many bytes of a torn record follow it, until something is recorded.
    torn: u64,
    buf: BytesMut,
}

impl Recorder {
    /// Opens a recording to append to it, with messages of at most 1 MiB.
    ///
    /// A missing file is created, for its owner only. The file is read and checked, and only the
    /// first recorded message changes it. If it ends inside a record, as a killed recorder leaves
    /// it, that part is then cut off with a `tracing` warning. While it is open no other `Recorder`
    /// can open it (flock(2)).
    ///
    /// # Errors
    ///
    /// - [`Error::NotARecording`], [`Error::Version`], [`Error::Damaged`]: the file is left
    ///   unchanged. An incomplete last record counts as damage if it might be more than that: its
    ///   length is over the limit, a valid record begins after it, or it would be whole with
    ///   another length.
    /// - [`Error::InUse`]: another process records to it.
    /// - [`Error::ForeignLink`]: the path is a symbolic link of a user who is neither this one nor
    ///   root.
    /// - [`Error::NoFile`]: it is a FIFO or socket; use a [`relay`](crate::relay) for those.
    /// - [`Error::Io`]: an error of the system, such as `ENOSPC`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, DEFAULT_MAX_FRAME)
    }

    /// Opens a recording to append messages of at most `max_message` bytes to it.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, max_message: usize) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = open_own(path)?;
        let kind = file.metadata()?.file_type();
        let path = path.to_owned();
        if !kind.is_file() && !kind.is_char_device() {
            return Err(Error::NoFile { path });
        }
        let is_file = kind.is_file();
        if is_file && !sys::try_lock(&file)? {
            return Err(Error::InUse { path });
        }
        let mut recorder = Self {
            file: Held(file),
            path,
            end: None,
            torn: 0,
            buf: BytesMut::new(),
        };
        if is_file {
            let (end, torn) = scan(&recorder.file.0, max_message)?;
            recorder.end = Some(end);
            recorder.torn = torn;
        }
        // A new file is a recording from now on, even if nothing is recorded.
        if recorder.end.unwrap_or(0) == 0 && recorder.torn == 0 {
            recorder.buf.extend_from_slice(&MAGIC);
            recorder.write()?;
        }
        Ok(recorder)
    }

    /// Records a message with the current time.
    ///
    /// # Errors
    ///
    /// - Any error of write(2), such as `ENOSPC` and `EIO`.
    /// - [`Error::Changed`] inside: another program has written to the file.
    /// - `InvalidInput`: the message is too large for the format.
    ///
    /// Nothing of the message is in the file then, if the system lets it be cut off again.
    pub fn record(&mut self, message: &Message) -> io::Result<()> {
        self.record_at(SystemTime::now(), message)
    }

    /// Records a message with a given time, such as that of another recording.
    ///
    /// # Errors
    ///
    /// As for [`record`](Self::record).
    pub fn record_at(&mut self, time: SystemTime, message: &Message) -> io::Result<()> {
        self.buf.clear();
        if self.end == Some(0) {
            self.buf.extend_from_slice(&MAGIC);
        }
        encode(time, message, &mut self.buf).ok_or_else(|| {
            let problem = "cannot record a message of 4 GiB: the format has no room for it";
            io::Error::new(io::ErrorKind::InvalidInput, problem)
        })?;
        self.write()
    }

    /// Waits until everything that was recorded is on the disk (fdatasync(2)).
    ///
    /// # Errors
    ///
    /// Any error of fdatasync(2). For a device that stores nothing there is none.
    pub fn sync(&mut self) -> io::Result<()> {
        match self.end {
            Some(_) => self.file.0.sync_data(),
            None => Ok(()),
        }
    }

    /// Removes all records.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        if self.end.is_some() {
            let empty = MAGIC.len() as u64;
            self.file.0.set_len(empty)?;
            (self.end, self.torn) = (Some(empty), 0);
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let written = match self.end {
            Some(end) => self.append(end),
            None => self.file.0.write_all(&self.buf),
        };
        // A large message does not keep its memory.
        if self.buf.capacity() > KEPT {
            self.buf = BytesMut::new();
        }
        written
    }

    /// Appends to a file that ends at `end`, and nowhere else.
    fn append(&mut self, end: u64) -> io::Result<()> {
        self.expect_end(end + self.torn)?;
        if self.torn > 0 {
            tracing::warn!(
                target: "aqueduct::record", path = ?self.path, bytes = self.torn,
                "the recording ended inside a record, whose first part is cut off"
            );
            self.file.0.set_len(end)?;
            self.torn = 0;
        }
        if let Err(error) = self.file.0.write_all(&self.buf) {
            // A part may be there. If it cannot be cut off, readers find it cut short.
            let part = self.file.0.metadata()?.len().saturating_sub(end);
            if part <= self.buf.len() as u64 {
                let _ = self.file.0.set_len(end);
            }
            return Err(error);
        }
        let new = end + self.buf.len() as u64;
        self.end = Some(new);
        // Bytes that another program has written in between are not ours, and no record follows
        // them.
        self.expect_end(new)
    }

    fn expect_end(&self, expected: u64) -> io::Result<()> {
        let found = self.file.0.metadata()?.len();
        if found == expected {
            return Ok(());
        }
        let path = self.path.clone();
        Err(Error::Changed {
            path,
            expected,
            found,
        }
        .into())
    }
}

/// Opens a file to append to, but not through a symbolic link of another user.
fn open_own(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => {
            let owner = found.uid();
            if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
                let path = path.to_owned();
                return Err(Error::ForeignLink { path, owner });
            }
        }
        // An object that another user puts there now is not a link.
        _ => {
            options.custom_flags(libc::O_NOFOLLOW);
        }
    }
    Ok(options.open(path)?)
}

/// A file that is locked until this is dropped.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing is not enough while a process that is just being started has a duplicate.
        let _ = sys::unlock(&self.0);
    }
}

/// How much of the buffer is kept from one message to the next.
const KEPT: usize = 64 * 1024;

/// Where the last whole record ends, and how many bytes of an incomplete one follow.
fn scan(mut file: &File, max_message: usize) -> Result<(u64, u64), Error> {
    file.rewind()?;
    let mut reader = BufReader::with_capacity(KEPT, file);
    let mut magic = Vec::new();
    let mut bytes = reader.by_ref().take(MAGIC.len() as u64);
    let got = bytes.read_to_end(&mut magic)? as u64;
    check_magic(&magic)?;
    if got < MAGIC.len() as u64 {
        return Ok((0, got));
    }
    let (mut at, mut whole) = (got, 0);
    loop {
        let damaged = Error::Damaged { whole, at };
        let mut head = Vec::new();
        let got = reader.by_ref().take(PREFIX as u64).read_to_end(&mut head)? as u64;
        let Some((crc, length)) = prefix(&head) else {
            return Ok((at, got));
        };
        let body = (length as usize).checked_sub(FACTS);
        let Some(body) = body.filter(|it| *it <= max_message) else {
            return Err(damaged);
        };
        let mut rest = Vec::with_capacity((FACTS + body).min(KEPT));
        reader.by_ref().take(length.into()).read_to_end(&mut rest)?;
        if rest.len() < length as usize {
            return match tail::judge(crc, &rest) {
                Tail::Torn => Ok((at, got + rest.len() as u64)),
                Tail::Damaged => Err(damaged),
            };
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[4..]);
        hasher.update(&rest);
        if hasher.finalize() != crc {
            return Err(damaged);
        }
        at += PREFIX as u64 + u64::from(length);
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_in_a_starting_process_keeps_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let recorder = Recorder::open(&path).unwrap();
        // As a process has it between fork and exec.
        let duplicate = recorder.file.0.try_clone().unwrap();
        drop(recorder);
        Recorder::open(&path).unwrap();
        drop(duplicate);
    }
}
