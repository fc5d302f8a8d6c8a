use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Why a child process could not be started, or has not what was asked of it.
///
/// It converts into [`io::Error`] and keeps the kind; the conversion carries this error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no file of the program's name, or its interpreter is missing (`ENOENT`).
    #[error(
        "program {program:?} was not found: check the name and `PATH`, and for a script the \
         interpreter in its first line"
    )]
    NotFound {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },

    /// The file is there but cannot be executed (`EACCES`, `ENOEXEC`, `ETXTBSY`).
    #[error(
        "program {program:?} cannot be executed: is it a program, with `x` permission on it and on \
         every directory above, and is nobody writing it?"
    )]
    NotExecutable {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },

    /// The directory to start the program in is missing.
    #[error("the directory {dir:?} to start {program:?} in does not exist")]
    NoDirectory {
        /// The program as it was named.
        program: OsString,
        /// The working directory that was asked for.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The system refused in another way.
    #[error("cannot start {program:?}")]
    Spawn {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },

    /// A pipe could not be made or registered (`EMFILE`, `ENFILE`).
    #[error("cannot make the pipe for descriptor {number} of the child")]
    Pipe {
        /// The number in the child.
        number: RawFd,
        /// What the system said.
        source: io::Error,
    },

    /// One number was given out twice.
    #[error("descriptor {number} of the child is asked for twice: give each pipe its own number")]
    Duplicate {
        /// The number in the child.
        number: RawFd,
    },

    /// A standard stream was both piped and set by `stdin`, `stdout` or `stderr`.
    #[error(
        "descriptor {number} of the child is both a pipe and set as a standard stream: drop one of \
         the two"
    )]
    StdioTaken {
        /// The number in the child.
        number: RawFd,
    },

    /// The number is negative, or not below the limit on descriptors (`RLIMIT_NOFILE`).
    #[error(
        "the child cannot have a descriptor {number}: take one from 0 up to what `ulimit -n` allows"
    )]
    BadNumber {
        /// The number in the child.
        number: RawFd,
    },

    /// The child has no pipe of that number and direction, or it was taken before.
    #[error(
        "this child has no pipe {direction} it on descriptor {number}: was it asked for before \
         `spawn`, and not taken yet?"
    )]
    NoPipe {
        /// The number in the child.
        number: RawFd,
        /// `to` or `from`.
        direction: &'static str,
    },

    /// The exit of the child cannot be watched; `pidfd_open(2)` needs Linux 5.3.
    #[error(
        "cannot watch for the exit of the child: take the plain pipe, without a bound on its end"
    )]
    Watch {
        /// What the system said.
        source: io::Error,
    },

    /// The descriptor is not open, or was not inherited.
    #[error(
        "descriptor {number} was not inherited from the parent process: is the parent to map it?"
    )]
    NotInherited {
        /// The number in this process.
        number: RawFd,
    },

    /// The inherited descriptor was taken over before.
    #[error("descriptor {number} was taken over before, which can be done once: share what has it")]
    Taken {
        /// The number in this process.
        number: RawFd,
    },

    /// There is no Tokio runtime here.
    #[error("a child process needs a Tokio runtime: call this inside one")]
    NoRuntime,
}

impl Error {
    /// The typed error inside `error`, if it is one of these.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::child::Error;
    ///
    /// let error = std::io::Error::from(Error::NotInherited { number: 3 });
    /// assert!(matches!(Error::of(&error), Some(Error::NotInherited { number: 3 })));
    /// ```
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The OS error code, where the system gave one.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.os_error().and_then(io::Error::raw_os_error)
    }

    /// The [`io::ErrorKind`] that fits best; the one which the conversion into [`io::Error`] has.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match (self, self.os_error()) {
            (_, Some(source)) => source.kind(),
            (Self::NoRuntime, None) => io::ErrorKind::Other,
            (Self::NoPipe { .. } | Self::NotInherited { .. } | Self::Taken { .. }, None) => {
                io::ErrorKind::NotFound
            }
            _ => io::ErrorKind::InvalidInput,
        }
    }

    fn os_error(&self) -> Option<&io::Error> {
        match self {
            Self::NotFound { source, .. }
            | Self::NotExecutable { source, .. }
            | Self::NoDirectory { source, .. }
            | Self::Spawn { source, .. }
            | Self::Pipe { source, .. }
            | Self::Watch { source } => Some(source),
            Self::Duplicate { .. }
            | Self::StdioTaken { .. }
            | Self::BadNumber { .. }
            | Self::NoPipe { .. }
            | Self::NotInherited { .. }
            | Self::Taken { .. }
            | Self::NoRuntime => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Until each says its own kind.
impl From<Error> for crate::connect::OpenError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => crate::connect::OpenErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => crate::connect::OpenErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => crate::connect::OpenErrorKind::PermissionDenied,
            io::ErrorKind::AddrInUse => crate::connect::OpenErrorKind::InUse,
            io::ErrorKind::ConnectionRefused => crate::connect::OpenErrorKind::Refused,
            io::ErrorKind::InvalidInput => crate::connect::OpenErrorKind::InvalidName,
            io::ErrorKind::Unsupported => crate::connect::OpenErrorKind::Unsupported,
            _ => crate::connect::OpenErrorKind::Other,
        };
        Self::adopt(kind, error)
    }
}
