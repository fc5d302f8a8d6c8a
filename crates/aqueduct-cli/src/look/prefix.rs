//! [`Prefix`]: how the addresses that are looked for begin.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use aqueduct::Endpoint;

use super::thing::{Thing, address};

/// How an address begins, in the form in which addresses are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// As it was given, and as it is where its directory has another name.
    texts: Vec<String>,
    /// The directory that its path leads to.
    dir: Option<PathBuf>,
}

impl Prefix {
    /// `None`: it does not begin with a scheme.
    pub(crate) fn parse(text: &OsStr) -> Option<Self> {
        let mut schemes = Endpoint::schemes().iter().map(|it| it.name);
        let (scheme, rest) = schemes.find_map(|scheme| {
            let rest = text.as_bytes().strip_prefix(scheme.as_bytes())?;
            Some((scheme, rest.strip_prefix(b":")?))
        })?;
        // As in an address.
        let rest = OsStr::from_bytes(rest.strip_prefix(b"//").unwrap_or(rest));
        if rest.is_empty() || rest.as_bytes().starts_with(b"@") || scheme == "mq" {
            let texts = vec![format!("{scheme}:{}", rest.to_string_lossy())];
            return Some(Self { texts, dir: None });
        }
        // Addresses are listed with whole paths. A slash at the end is kept.
        let path = std::path::absolute(rest).unwrap_or_else(|_| rest.into());
        let (dir, name) = match path.as_os_str().as_bytes().ends_with(b"/") {
            true => (path.as_path(), OsStr::new("")),
            false => (path.parent()?, path.file_name().unwrap_or_default()),
        };
        let mut texts = vec![address(scheme, path.as_os_str())];
        // Links are followed where things are looked for.
        let dir = fs::canonicalize(dir).ok();
        texts.extend(dir.as_ref().map(|it| address(scheme, it.join(name))));
        texts.dedup();
        Some(Self { texts, dir })
    }

    /// Whether something's address begins so.
    pub(super) fn begins(&self, thing: &Thing) -> bool {
        self.texts.iter().any(|it| thing.address.starts_with(it))
    }

    /// Whether queues may have such addresses.
    pub(super) fn is_of_queues(&self) -> bool {
        self.texts[0].starts_with("mq:")
    }

    /// The directory in which paths begin so, if there is one.
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }
}

impl Display for Prefix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Vec<String>> {
        Prefix::parse(OsStr::new(text)).map(|it| it.texts)
    }

    #[test]
    fn a_prefix_begins_with_a_scheme_and_has_a_whole_path() {
        for none in ["/run/app", "./unix:", "unixes:", "unix"] {
            assert_eq!(parsed(none), None, "{none}");
        }
        for text in [
            "unix:",
            "unix:@a",
            "mq:/jo",
            "unix:/no/such/",
            "fifo:/no/such",
        ] {
            assert_eq!(parsed(text).unwrap(), [text]);
        }
        assert_eq!(parsed("fifo:/no/a b").unwrap(), ["fifo:/no/a%20b"]);
        assert_eq!(parsed("unix:///no/app").unwrap(), ["unix:/no/app"]);
        let here = std::env::current_dir().unwrap().display().to_string();
        assert_eq!(parsed("fifo:jobs").unwrap(), [format!("fifo:{here}/jobs")]);
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/usr/", &link).unwrap();
        let link = format!("unix:{}", link.display());
        let texts = parsed(&format!("{link}/bi")).unwrap();
        assert_eq!(texts, [format!("{link}/bi"), "unix:/usr/bi".to_owned()]);
        let texts = parsed(&format!("{link}/")).unwrap();
        assert_eq!(texts, [format!("{link}/"), "unix:/usr/".to_owned()]);
    }
}
