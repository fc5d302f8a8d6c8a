use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// An error of a recording.
///
/// # Examples
///
/// ```
/// use aqueduct::record::{Error, Recorder};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("notes.txt");
/// std::fs::write(&path, "these are notes")?;
/// assert!(matches!(Recorder::open(&path), Err(Error::NotARecording)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin like a recording.
    #[error("this is not an Aqueduct recording: its first bytes are different")]
    NotARecording,
    /// It has another version of the format.
    #[error(
        "the recording has version {version} of the format, but this program supports only version 1"
    )]
    Version {
        /// Its version.
        version: u8,
    },
    /// It ends inside a record: its recorder was killed, or the disk was full.
    ///
    /// Earlier records are whole.
    #[error(
        "the recording is cut short: {whole} messages are whole, and of what follows, at byte {at}, \
         {got} of {} bytes are there",
        .wanted.map_or("an unknown number of".to_owned(), |it| it.to_string())
    )]
    CutShort {
        /// How many messages are whole.
        whole: u64,
        /// Where the incomplete one begins.
        at: u64,
        /// How many bytes of it are there.
        got: u64,
        /// How many bytes it had, if that is known.
        wanted: Option<u64>,
    },
    /// The check of a record is wrong: it was changed after recording.
    ///
    /// Earlier records are whole. Nothing after it can be trusted.
    #[error(
        "the recording is damaged: {whole} messages are whole, and what follows, at byte {at}, is \
         not what was recorded"
    )]
    Damaged {
        /// How many messages are whole.
        whole: u64,
        /// Where the damage begins.
        at: u64,
    },
    /// A message exceeds the reader's limit, or its length is damaged.
    ///
    /// Earlier records are whole.
    #[error(
        "a message of {len} bytes, at byte {at} of the recording and behind {whole} whole ones, is \
         over the limit of {max}: raise the limit, unless the recording is damaged there"
    )]
    TooLarge {
        /// How many messages are whole.
        whole: u64,
        /// Where the record begins.
        at: u64,
        /// The size of its message.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// Another process has written to the file, or truncated it, since it was opened.
    #[error(
        "another program has changed the recording {path} meanwhile: its end is at byte {found} and was \
         at {expected}; take another file"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Where it ended.
        expected: u64,
        /// Where it ends now.
        found: u64,
    },
    /// The path is a symbolic link of another user, who may have planted it.
    #[error(
        "{path} is a symbolic link of user {owner}, who could send the recording anywhere; name the \
         file itself"
    )]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The user ID of its owner.
        owner: u32,
    },
    /// Another process records to the file.
    #[error("another process is recording to {path}; use another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is not a regular file or a device.
    #[error("{path} is not a file that can be recorded to")]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// An error of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::Io(error) => return error,
            Error::CutShort { .. } => io::ErrorKind::UnexpectedEof,
            Error::InUse { .. } | Error::Changed { .. } => io::ErrorKind::ResourceBusy,
            Error::ForeignLink { .. } => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}
