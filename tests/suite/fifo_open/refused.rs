//! Paths that cannot be opened as a FIFO: each refused by an error that names it and the cure.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use aqueduct::fifo::{OpenOptions, Receiver};
use aqueduct::{OpenError, OpenErrorKind};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo, setgid, setgroups, setuid};

use super::{create, in_runtime, peer_dir, run};
use crate::fifo::with_fifo;
use crate::support::{Log, is_peer};

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

pub(super) fn error_of(path: impl AsRef<Path>) -> OpenError {
    Receiver::open(path).unwrap_err()
}

#[tokio::test]
async fn what_is_no_fifo_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, found) in [
        (file.as_path(), "a regular file"),
        (&socket, "a socket"),
        (dir.path(), "a directory"),
        (Path::new("/dev/null"), "a character device"),
    ] {
        for error in [
            error_of(path),
            create(path).unwrap_err(),
            OpenOptions::new().try_open_sender(path).unwrap_err(),
            OpenOptions::new().open_sender(path).await.unwrap_err(),
        ] {
            let shown = path.display();
            assert_eq!(
                error.to_string(),
                format!(
                    "cannot open fifo {shown}: it is {found}, not a FIFO; remove it, or use another path"
                )
            );
            assert_eq!(error.kind(), &OpenErrorKind::WrongType { found });
            // It keeps kind and cause as an `io::Error`.
            let error = io::Error::from(error);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(OpenError::of(&error).is_some());
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[tokio::test]
async fn a_symbolic_link_is_refused_by_its_target() {
    let (dir, path) = with_fifo();
    for target in [&path, &dir.path().join("absent"), Path::new("/dev/null")] {
        let link = dir.path().join("link");
        symlink(target, &link).unwrap();
        for error in [error_of(&link), create(&link).unwrap_err()] {
            let found = "a symbolic link";
            assert_eq!(error.kind(), &OpenErrorKind::WrongType { found });
            let text = error.to_string();
            assert!(text.contains(target.to_str().unwrap()), "{text}");
        }
        fs::remove_file(&link).unwrap();
    }
    assert!(!dir.path().join("absent").exists());
}

/// A plain `mkfifo` makes 0644: that must just work.
#[tokio::test]
async fn a_wider_mode_is_taken_with_a_warning() {
    let (_dir, path) = with_fifo();
    let warnings = |options: &OpenOptions| {
        let (_, lines) = Log::record(|| options.open_receiver(&path).unwrap());
        let warnings = lines.into_iter().filter(|it| it.contains("WARN"));
        warnings.collect::<Vec<_>>().join("\n")
    };
    let mut options = OpenOptions::new();
    assert_eq!(warnings(&options), "");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let text = warnings(&options);
    assert!(
        text.contains("WARN") && text.contains("aqueduct::fifo") && text.contains("mode=0644"),
        "{text}"
    );

    assert_eq!(warnings(options.mode(0o644)), "");
}

#[tokio::test]
async fn a_foreign_owner_is_refused_unless_allowed() {
    let (_dir, path) = with_fifo();
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
    for error in [error_of(&path), create(&path).unwrap_err()] {
        let owner = NOBODY;
        assert_eq!(error.kind(), &OpenErrorKind::ForeignOwner { owner });
        assert!(error.to_string().contains("65534"), "{error}");
    }
    let mut options = OpenOptions::new();
    options.allow_foreign_owner(true);
    options.open_receiver(&path).unwrap();
}

#[tokio::test]
async fn one_who_is_not_root_is_told_what_stands_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    run("refused::peer_not_root", dir.path()).await;
}

#[test]
fn peer_not_root() {
    if !is_peer("fifo_open::refused::peer_not_root") {
        return;
    }
    let dir = peer_dir();
    let was_root = Uid::effective().is_root();
    let fifo_of_root = dir.join("of-root");
    mkfifo(&fifo_of_root, Mode::empty()).unwrap();
    fs::set_permissions(&fifo_of_root, Permissions::from_mode(0o666)).unwrap();
    let mine = dir.join("mine");
    fs::create_dir(&mine).unwrap();
    if was_root {
        std::os::unix::fs::chown(&mine, Some(NOBODY), Some(NOBODY)).unwrap();
        setgroups(&[]).unwrap();
        setgid(NOBODY.into()).unwrap();
        setuid(NOBODY.into()).unwrap();
    } else {
        fs::set_permissions(&dir, Permissions::from_mode(0o555)).unwrap();
    }
    in_runtime(|| {
        let error = create(dir.join("new")).unwrap_err();
        denied(
            &error,
            &["may not write to directory", dir.to_str().unwrap()],
        );

        let closed = mine.join("closed");
        let inside = closed.join("deeper").join("fifo");
        fs::create_dir_all(closed.join("deeper")).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o600)).unwrap();
        for error in [error_of(&inside), create(&inside).unwrap_err()] {
            denied(
                &error,
                &["may not search directory", closed.to_str().unwrap()],
            );
        }
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();

        // A FIFO of root's is trusted: root needs no trick to read what this process sends.
        if was_root {
            Receiver::open(&fifo_of_root).unwrap();
        }

        let path = mine.join("fifo");
        let mut options = OpenOptions::new();
        options.create(true).open_receiver(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        Receiver::open(&path).unwrap();
        for (error, wanted) in [
            (
                OpenOptions::new().try_open_sender(&path).unwrap_err(),
                "for writing",
            ),
            (
                OpenOptions::new()
                    .persist(true)
                    .open_receiver(&path)
                    .unwrap_err(),
                "for reading and writing",
            ),
        ] {
            denied(&error, &[wanted, "mode 0400"]);
        }
    });
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).ok();
}

fn denied(error: &OpenError, said: &[&str]) {
    assert_eq!(error.kind(), &OpenErrorKind::PermissionDenied, "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    let text = error.to_string();
    for part in said {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_explained() {
    let (dir, path) = with_fifo();
    let missing = dir.path().join("a/b/fifo");
    for error in [error_of(&missing), create(&missing).unwrap_err()] {
        assert_eq!(error.kind(), &OpenErrorKind::NotFound);
        let said = format!(
            "directory {} does not exist",
            dir.path().join("a").display()
        );
        assert!(error.to_string().contains(&said), "{error}");
    }
    // A FIFO where a directory should be, and a slash behind one.
    for below in [path.join("x"), path.join("")] {
        for error in [error_of(&below), create(&below).unwrap_err()] {
            assert_eq!(error.kind(), &OpenErrorKind::InvalidName, "{error}");
            let said = format!("{} is not a directory", path.display());
            assert!(error.to_string().contains(&said), "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
        }
    }
    for bad in ["", "nul\0byte"] {
        let error = error_of(bad);
        assert_eq!(error.kind(), &OpenErrorKind::InvalidName, "{error}");
    }
    let error = create(dir.path().join("new/")).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InvalidName, "{error}");

    let long_name = dir.path().join("x".repeat(256));
    let long_path = dir.path().join("x/".repeat(2100));
    for (path, limit) in [(long_name, 255), (long_path, 4095)] {
        for error in [error_of(&path), create(&path).unwrap_err()] {
            assert_eq!(error.kind(), &OpenErrorKind::InvalidName, "{error}");
            let said = format!("{limit} are allowed");
            assert!(error.to_string().contains(&said), "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
        }
    }
    let just_fits = dir.path().join("x".repeat(255));
    create(just_fits).unwrap();
}

/// /proc/sys is a directory where nobody, root included, can make a file.
#[tokio::test]
async fn a_directory_that_takes_no_files_is_an_error_with_its_errno() {
    let error = create("/proc/sys/aqueduct-test").unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error:?}");
    assert!(error.to_string().contains("/proc/sys/aqueduct-test"));
}

#[tokio::test]
async fn a_read_only_file_system_is_named_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    run("refused::peer_on_read_only", dir.path()).await;
}

#[test]
fn peer_on_read_only() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    if !is_peer("fifo_open::refused::peer_on_read_only") {
        return;
    }
    let dir = peer_dir();
    const NONE: Option<&str> = None;
    if let Err(e) = unshare(CloneFlags::CLONE_NEWNS) {
        eprintln!("SKIPPED: a mount of its own is not permitted here ({e})");
        return;
    }
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
    let (tmpfs, read_only) = (Some("tmpfs"), MsFlags::MS_RDONLY);
    mount(tmpfs, &dir, tmpfs, MsFlags::empty(), NONE).unwrap();
    mkfifo(&dir.join("there"), Mode::S_IRWXU).unwrap();
    mount(NONE, &dir, NONE, read_only | MsFlags::MS_REMOUNT, NONE).unwrap();
    in_runtime(|| {
        let error = create(dir.join("new")).unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        // What goes through a FIFO is not on the file system: one that is there works.
        let _receiver = create(dir.join("there")).unwrap();
        OpenOptions::new()
            .try_open_sender(dir.join("there"))
            .unwrap();
    });
}
