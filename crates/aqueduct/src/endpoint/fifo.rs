//! `fifo:/path`.

use std::path::{Path, PathBuf};

use super::query::Query;
use super::{AddressError, AddressProblem, Printer, path};

/// A named FIFO: `fifo:/path`, options `mode`, `create` and `persist`.
///
/// The path may be relative; then it is taken from the current directory of whoever opens it.
///
/// # Examples
///
/// ```
/// use aqueduct::Endpoint;
/// use aqueduct::endpoint::Fifo;
///
/// let fifo = Fifo::new("/run/app/jobs")?.with_persist(true);
/// assert_eq!(Endpoint::from(fifo).to_string(), "fifo:/run/app/jobs?persist=true");
/// # Ok::<(), aqueduct::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fifo {
    path: PathBuf,
    mode: Option<u32>,
    create: Option<bool>,
    persist: Option<bool>,
}

impl Fifo {
    pub(super) const OPTIONS: &'static [&'static str] = &["create", "mode", "persist"];

    /// The FIFO at `path`, all options left to their defaults.
    ///
    /// # Errors
    ///
    /// A path that is empty or has a NUL byte in it is none the system can take.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self, AddressError> {
        let path = path.into();
        path::check(&path).map_err(|problem| AddressError::new(b"fifo:", problem))?;
        Ok(Self {
            path,
            mode: None,
            create: None,
            persist: None,
        })
    }

    /// Sets the permission bits of a FIFO that is made; bits above `0o777` are dropped.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o777);
        self
    }

    /// Sets whether a missing FIFO is made.
    #[must_use]
    pub fn with_create(mut self, create: bool) -> Self {
        self.create = Some(create);
        self
    }

    /// Sets whether a reader goes on after its last writer has left.
    #[must_use]
    pub fn with_persist(mut self, persist: bool) -> Self {
        self.persist = Some(persist);
        self
    }

    /// Where the FIFO is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `mode`: the permission bits of a FIFO that is made.
    pub fn mode(&self) -> Option<u32> {
        self.mode
    }

    /// `create`: whether a missing FIFO is made.
    pub fn create(&self) -> Option<bool> {
        self.create
    }

    /// `persist`: whether a reader goes on after its last writer has left.
    pub fn persist(&self) -> Option<bool> {
        self.persist
    }

    pub(super) fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        Ok(Self {
            path: path::decode(rest)?,
            mode: query.mode()?,
            create: query.boolean("create")?,
            persist: query.boolean("persist")?,
        })
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        printer.rest(self.path.as_os_str(), b"");
        printer.option("create", self.create);
        printer.mode(self.mode);
        printer.option("persist", self.persist);
    }
}
