use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Display, Formatter, Write as _};
use std::io;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::address::escape::Escaping;
use crate::io::owner::said;

/// An error of opening: the action, the object, the cause and the cure.
///
/// Every mechanism reports opening errors this way. Printing gives one sentence, such as "cannot
/// open fifo /run/x for reading: it is a regular file; remove it or choose another path".
/// [`kind`](Self::kind) is for code; [`raw_os_error`](Self::raw_os_error) returns the errno, if the
/// system gave one. Converted into an [`io::Error`] it keeps its kind and is the inner error.
///
/// No message has been sent or received when this error is returned.
///
/// # Examples
///
/// ```
/// use aqueduct::{Endpoint, OpenErrorKind, connect::Options};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let server: Endpoint = format!("unix:{}/none", dir.path().display()).parse()?;
/// # let _ = r#"
/// let server: Endpoint = "unix:/run/app/none".parse()?;
/// # "#;
/// let error = Options::new().wait(Duration::ZERO).connect(&server).await.unwrap_err();
/// assert!(matches!(error.kind(), OpenErrorKind::NotFound | OpenErrorKind::TimedOut { .. }));
/// # Ok(()) }
/// ```
pub struct OpenError(Box<Parts>);

struct Parts {
    /// The action: "open fifo", "connect to".
    action: Cow<'static, str>,
    /// The object: an address, a path, a name.
    object: String,
    kind: OpenErrorKind,
    cause: Cow<'static, str>,
    cure: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of an [`OpenError`], with its facts.
///
/// # Examples
///
/// ```
/// use aqueduct::{Endpoint, OpenErrorKind, connect::Options};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let jobs: Endpoint = format!("fifo:{}/jobs?create=false", dir.path().display()).parse()?;
/// # let _ = r#"
/// let jobs: Endpoint = "fifo:/run/app/jobs?create=false".parse()?;
/// # "#;
/// match jobs.open_receiver().await.map_err(|error| error.kind().clone()) {
///     Ok(receiver) => println!("open: {receiver:?}"),
///     Err(OpenErrorKind::NotFound) => println!("nobody has created it yet"),
///     Err(OpenErrorKind::ForeignOwner { owner }) => println!("it belongs to user {owner}"),
///     Err(kind) => println!("{kind:?}"),
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenErrorKind {
    /// It does not exist (`ENOENT`).
    NotFound,
    /// It already exists and was to be created (`EEXIST`).
    AlreadyExists,
    /// Its mode, or that of a directory on its path, does not allow it (`EACCES`, `EPERM`), or a
    /// certificate was refused.
    PermissionDenied,
    /// It belongs to another user, who may have planted it.
    ForeignOwner {
        /// The user ID of its owner.
        owner: u32,
    },
    /// It has the wrong type, such as a regular file in place of a FIFO.
    WrongType {
        /// The type that was found, in words.
        found: &'static str,
    },
    /// Another process uses it (`EADDRINUSE`).
    InUse,
    /// Closed connections of an exited server hold the port (`TIME_WAIT`, `EADDRINUSE`).
    ///
    /// The port is free again within a minute or two.
    Lingering,
    /// Nothing listens there (`ECONNREFUSED`).
    Refused,
    /// No peer appeared in time.
    TimedOut {
        /// The length of the wait.
        waited: Duration,
    },
    /// The name, path or host is not valid.
    InvalidName,
    /// An option has a value that the mechanism or the system does not accept.
    InvalidOption,
    /// A limit of the system, the user or the process is reached.
    ///
    /// The errno is `EMFILE`, `ENFILE`, `ENOSPC` or similar.
    LimitReached,
    /// It would exceed a quota of the user, such as `RLIMIT_MSGQUEUE` (`EMFILE`).
    OverQuota {
        /// The amount that it needs.
        needed: u64,
        /// The whole quota; `None` is no limit.
        limit: Option<u64>,
    },
    /// The mechanism, or the descriptor's access mode, does not support the call.
    ///
    /// See [capabilities](crate::connect::Endpoint::capabilities).
    Unsupported,
    /// No such descriptor was passed to this process, or it was already taken.
    NotInherited,
    /// It exists with other attributes than the strict options require.
    Mismatch,
    /// It was removed or replaced while it was being opened or used.
    Replaced,
    /// There is no Tokio runtime. (A runtime without its I/O driver panics, as in `tokio::net`.)
    NoRuntime,
    /// Any other error; the errno tells more.
    Other,
}

impl OpenError {
    pub(crate) fn new(
        action: impl Into<Cow<'static, str>>,
        object: impl Display,
        kind: OpenErrorKind,
        cause: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Parts {
            action: action.into(),
            object: object.to_string(),
            kind,
            cause: cause.into(),
            cure: Cow::Borrowed(""),
            source: None,
        }))
    }

    /// Wraps an error of the system. Its kind follows from the errno.
    pub(crate) fn system(
        action: impl Into<Cow<'static, str>>,
        object: impl Display,
        source: io::Error,
    ) -> Self {
        let kind = OpenErrorKind::of(&source);
        let cure = match source.raw_os_error() {
            Some(libc::EMFILE) => "raise the limit on open files (ulimit -n)",
            Some(libc::ENFILE) => "raise the system's limit on open files (sysctl fs.file-max)",
            _ => "",
        };
        let error = Self::new(action, object, kind, source.to_string());
        error.with_cure(cure).with_source(source)
    }

    /// No `peer`, such as "server" or "reader", appeared in time.
    pub(crate) fn timed_out(
        action: impl Into<Cow<'static, str>>,
        object: impl Display,
        peer: &str,
        waited: Duration,
    ) -> Self {
        let cause = match waited {
            Duration::ZERO => format!("no {peer} is there"),
            _ => format!("no {peer} appeared within {waited:?}"),
        };
        let kind = OpenErrorKind::TimedOut { waited };
        Self::new(action, object, kind, cause).with_cure("start it, or wait longer")
    }

    /// It belongs to another user, who may have planted it.
    pub(crate) fn foreign_owner(
        action: impl Into<Cow<'static, str>>,
        object: impl Display,
        owner: u32,
    ) -> Self {
        let cause = format!(
            "{}, so it may have been planted",
            said(owner, geteuid().as_raw())
        );
        let kind = OpenErrorKind::ForeignOwner { owner };
        Self::new(action, object, kind, cause)
            .with_cure("if that user is to be trusted, allow a foreign owner")
    }

    /// Names another object: the address that a mechanism was asked for, instead of one that it uses.
    pub(crate) fn with_object(mut self, object: impl Display) -> Self {
        self.0.object = object.to_string();
        self
    }

    /// Adds what to do about it.
    pub(crate) fn with_cure(mut self, cure: impl Into<Cow<'static, str>>) -> Self {
        self.0.cure = cure.into();
        self
    }

    /// Adds the underlying error.
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> &OpenErrorKind {
        &self.0.kind
    }

    /// Returns what was to be opened: an address, a path or a name.
    pub fn object(&self) -> &str {
        &self.0.object
    }

    /// Returns what to do about it, if anything can be done.
    pub fn cure(&self) -> Option<&str> {
        Some(&*self.0.cure).filter(|it| !it.is_empty())
    }

    /// Returns the errno behind this error, if the system gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        let mut error: &(dyn StdError + 'static) = self.0.source.as_deref()?;
        loop {
            if let Some(errno) = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::raw_os_error)
            {
                return Some(errno);
            }
            error = error.source()?;
        }
    }

    /// Finds a mechanism's own error behind this one.
    #[cfg(feature = "tls")]
    pub(crate) fn source_as<E: StdError + 'static>(&self) -> Option<&E> {
        self.0.source.as_deref()?.downcast_ref()
    }

    /// Finds the opening error inside an [`io::Error`] that was converted from one.
    ///
    /// # Examples
    ///
    /// ```
    /// use aqueduct::{Endpoint, OpenError, OpenErrorKind, connect::Options};
    ///
    /// async fn open() -> std::io::Result<()> {
    ///     let nobody: Endpoint = "unix:@nobody-is-here".parse().map_err(std::io::Error::other)?;
    ///     Options::new().wait(std::time::Duration::ZERO).connect(&nobody).await?;
    ///     Ok(())
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let error = open().await.unwrap_err();
    /// assert!(OpenError::of(&error).is_some_and(|it| it.cure().is_some()));
    /// # }
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl OpenErrorKind {
    /// Maps an errno that means the same for all mechanisms.
    fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match (error.kind(), error.raw_os_error()) {
            (
                _,
                Some(libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::ENOMEM | libc::ENOBUFS),
            ) => Self::LimitReached,
            (Kind::QuotaExceeded, _) => Self::LimitReached,
            (Kind::NotFound, _) => Self::NotFound,
            (Kind::AlreadyExists, _) => Self::AlreadyExists,
            (Kind::PermissionDenied, _) => Self::PermissionDenied,
            (Kind::AddrInUse, _) => Self::InUse,
            (Kind::ConnectionRefused, _) => Self::Refused,
            (Kind::Unsupported, _) => Self::Unsupported,
            _ => Self::Other,
        }
    }

    fn io_kind(&self) -> io::ErrorKind {
        use io::ErrorKind as Kind;
        match self {
            Self::NotFound | Self::NotInherited => Kind::NotFound,
            Self::AlreadyExists => Kind::AlreadyExists,
            Self::PermissionDenied | Self::ForeignOwner { .. } => Kind::PermissionDenied,
            Self::InUse | Self::Lingering => Kind::AddrInUse,
            Self::Refused => Kind::ConnectionRefused,
            Self::TimedOut { .. } => Kind::TimedOut,
            Self::WrongType { .. } | Self::InvalidName | Self::InvalidOption | Self::Mismatch => {
                Kind::InvalidInput
            }
            Self::Unsupported => Kind::Unsupported,
            Self::OverQuota { .. } => Kind::QuotaExceeded,
            Self::LimitReached | Self::Replaced | Self::NoRuntime | Self::Other => Kind::Other,
        }
    }
}

impl Display for OpenError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Parts {
            action,
            object,
            cause,
            cure,
            ..
        } = &*self.0;
        // A path or name may hold any bytes, and a terminal may display this.
        let mut f = Escaping(f);
        // An address without anything behind its scheme, `stdio:`. A path may end with a colon too.
        let scheme = object.strip_suffix(':');
        let scheme = scheme.filter(|it| it.bytes().all(|b| b.is_ascii_lowercase()));
        let object = scheme.unwrap_or(object);
        write!(f, "cannot {action} {object}: {cause}")?;
        match cure.is_empty() {
            true => Ok(()),
            false => write!(f, "; {cure}"),
        }
    }
}

impl fmt::Debug for OpenError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenError")
            .field("message", &self.to_string())
            .field("kind", &self.0.kind)
            .field("source", &self.0.source)
            .finish()
    }
}

/// The text already contains the cause, so there is no source.
impl StdError for OpenError {}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        let given = error
            .raw_os_error()
            .map(|it| Self::from_raw_os_error(it).kind());
        let kind = match error.0.kind {
            OpenErrorKind::Other | OpenErrorKind::LimitReached => {
                given.unwrap_or(error.0.kind.io_kind())
            }
            _ => error.0.kind.io_kind(),
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_on_what_why_and_the_cure_and_keeps_the_errno() {
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        // Miri's text of an errno is not the C library's.
        let text = format!("cannot open fifo /run/x: {denied}; run as root");
        let error = OpenError::system("open fifo", "/run/x", denied).with_cure("run as root");
        assert_eq!(error.to_string(), text);
        assert_eq!(error.kind(), &OpenErrorKind::PermissionDenied);
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        let shown =
            OpenError::new("open", "a\u{1b}[1m\u{202e}\n", OpenErrorKind::Other, "b").to_string();
        assert_eq!(shown, "cannot open a\\u{1b}[1m\\u{202e}\\n: b");
        let shown = OpenError::new("open", "stdio:", OpenErrorKind::Other, "b").to_string();
        assert_eq!(shown, "cannot open stdio: b");
        let shown = OpenError::new("open", "/tmp/a:", OpenErrorKind::Other, "b").to_string();
        assert_eq!(shown, "cannot open /tmp/a:: b");
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let inner = OpenError::of(&error).unwrap();
        assert_eq!(
            (inner.object(), inner.cure()),
            ("/run/x", Some("run as root"))
        );
    }
}
