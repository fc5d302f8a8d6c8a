use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What can be wrong with a recording.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not begin as a recording does.
    #[error("this is no recording of Aqueduct's: it does not begin as one")]
    NotARecording,
    /// It is of another version of the format.
    #[error(
        "the recording is of version {version} of the format, and this program knows version 1"
    )]
    Version {
        /// The version it says.
        version: u8,
    },
    /// It ends inside a record: its recorder was killed, or the disk was full. All before that is
    /// whole.
    #[error(
        "the recording is cut short: {whole} messages are whole, and of what follows, at byte {at}, \
         {got} of {} bytes are there",
        .wanted.map_or("an unknown number of".to_owned(), |it| it.to_string())
    )]
    CutShort {
        /// How many messages are whole.
        whole: u64,
        /// Where the first begins that is not.
        at: u64,
        /// How many bytes of that are there.
        got: u64,
        /// How many it had, if that is known.
        wanted: Option<u64>,
    },
    /// A record is not what was written: its check is wrong. All before it is whole; nothing behind
    /// it can be trusted.
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
    /// A message is over the limit of the reader, or its length is damaged. All before it is whole.
    #[error(
        "a message of {len} bytes, at byte {at} of the recording and behind {whole} whole ones, is \
         over the limit of {max}: raise the limit, unless the recording is damaged there"
    )]
    TooLarge {
        /// How many messages are whole.
        whole: u64,
        /// Where the record begins.
        at: u64,
        /// How large its message is.
        len: u64,
        /// The limit.
        max: usize,
    },
    /// Another process has written to the file, or cut it off, since it was opened.
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
    /// The path is a symbolic link of another user's, who may have planted it.
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
    #[error("{path} is being recorded to by another process; take another file")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is no regular file and no device.
    #[error("{path} is no file to record to")]
    NoFile {
        /// What was to be the file.
        path: PathBuf,
    },
    /// The system said so.
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
