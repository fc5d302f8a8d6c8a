use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use bytes::BytesMut;

use super::{Error, FACTS, MAGIC, PREFIX, check_magic, encode, prefix};
use crate::connect::Message;
use crate::io::sys;

/// Appends messages to a recording.
///
/// Each message is one write(2), so that what was recorded is in the system's hands when
/// [`record`](Self::record) returns, and outlives the process. Whether it outlives the machine is
/// up to [`sync`](Self::sync). It blocks for as long as the file system does.
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
/// assert_eq!(record.message().body(), "sort the attic");
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Recorder {
    file: Held,
    /// Where the last whole record of a file ends; a device has no such place.
    end: Option<u64>,
    buf: BytesMut,
}

impl Recorder {
    /// Opens a recording to append to it. A file that is missing is made, for its owner alone.
    ///
    /// What is there is read through and checked. If it ends inside a record, that part is cut off,
    /// and a `tracing` warning says so. For as long as it is open no other `Recorder` can open it
    /// (flock(2)).
    ///
    /// # Errors
    ///
    /// - [`Error::NotARecording`], [`Error::Version`], [`Error::Damaged`]: the file is left as it is.
    /// - [`Error::InUse`]: another process records to it.
    /// - [`Error::NoFile`]: it is a FIFO or socket; those are what a relay is for.
    /// - [`Error::Io`]: what the system says, such as `ENOSPC`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.mode(0o600).open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_char_device() {
            file.write_all(&MAGIC)?;
            let (file, end, buf) = (Held(file), None, BytesMut::new());
            return Ok(Self { file, end, buf });
        }
        let path = || path.to_owned();
        if !kind.is_file() {
            return Err(Error::NoFile { path: path() });
        }
        if !sys::try_lock(&file)? {
            return Err(Error::InUse { path: path() });
        }
        let mut file = Held(file);
        let (end, cut) = scan(&file.0)?;
        if cut > 0 {
            tracing::warn!(
                target: "aqueduct::record", path = ?path(), bytes = cut,
                "the recording ended inside a record, whose first part is cut off"
            );
            file.0.set_len(end)?;
        }
        file.0.seek(SeekFrom::Start(end))?;
        let mut recorder = Self {
            file,
            end: Some(end),
            buf: BytesMut::new(),
        };
        if end == 0 {
            recorder.buf.extend_from_slice(&MAGIC);
            recorder.write()?;
        }
        Ok(recorder)
    }

    /// Records a message, with the time it is now.
    ///
    /// # Errors
    ///
    /// What write(2) says, such as `ENOSPC` and `EIO`; `InvalidInput`: the message is too large for
    /// the format. Nothing of it is in the file then, as far as the system lets it be cut off again.
    pub fn record(&mut self, message: &Message) -> io::Result<()> {
        self.record_at(SystemTime::now(), message)
    }

    /// Records a message with a time of its own, such as that of another recording.
    ///
    /// # Errors
    ///
    /// Those of [`record`](Self::record).
    pub fn record_at(&mut self, time: SystemTime, message: &Message) -> io::Result<()> {
        self.buf.clear();
        encode(time, message, &mut self.buf).ok_or_else(|| {
            let problem = "a message of 4 GiB cannot be recorded";
            io::Error::new(io::ErrorKind::InvalidInput, problem)
        })?;
        self.write()
    }

    /// Waits until all that was recorded is on the disk (fdatasync(2)).
    ///
    /// # Errors
    ///
    /// What fdatasync(2) says: of a device that keeps nothing, nothing.
    pub fn sync(&mut self) -> io::Result<()> {
        match self.end {
            Some(_) => self.file.0.sync_data(),
            None => Ok(()),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let written = self.file.0.write_all(&self.buf);
        if let Some(end) = &mut self.end {
            match &written {
                Ok(()) => *end += self.buf.len() as u64,
                Err(_) => {
                    // A part may be there. Where it cannot be cut off readers find it cut short.
                    let _ = self.file.0.set_len(*end);
                    let _ = self.file.0.seek(SeekFrom::Start(*end));
                }
            }
        }
        // A large message does not keep its memory.
        if self.buf.capacity() > KEPT {
            self.buf = BytesMut::new();
        }
        written
    }
}

/// A file that is locked until this is dropped.
#[derive(Debug)]
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing would not do while a process that is just being started has a duplicate.
        let _ = sys::unlock(&self.0);
    }
}

/// How much of the buffer is kept from one message to the next.
const KEPT: usize = 64 * 1024;

/// Where the last whole record ends, and how many bytes are behind it that are a part of one.
fn scan(file: &File) -> Result<(u64, u64), Error> {
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
        let mut head = Vec::new();
        let got = reader.by_ref().take(PREFIX as u64).read_to_end(&mut head)? as u64;
        let Some((crc, length)) = prefix(&head) else {
            return Ok((at, got));
        };
        if (length as usize) < FACTS {
            return Err(Error::Damaged { whole, at });
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[4..]);
        let mut rest = reader.by_ref().take(length.into());
        let mut part = [0; 8192];
        loop {
            match rest.read(&mut part) {
                Ok(0) => break,
                Ok(n) => hasher.update(&part[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        if rest.limit() > 0 {
            return Ok((at, got + u64::from(length) - rest.limit()));
        }
        if hasher.finalize() != crc {
            return Err(Error::Damaged { whole, at });
        }
        at += PREFIX as u64 + u64::from(length);
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_in_a_process_that_is_being_started_keeps_no_lock() {
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
