//! Making and opening FIFOs: exact modes, checks, refusals, and what is removed afterwards.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use aqueduct::fd::{Access, Kind};
use aqueduct::fifo::{Error, OpenOptions, Receiver};
use aqueduct::mark::MARK;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, mkfifo, setgid, setgroups, setuid};

use crate::fifo::with_fifo;
use crate::support::{Log, Peer, is_peer, peer_command};

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

fn error_of(path: impl AsRef<Path>) -> Error {
    Receiver::open(path).unwrap_err()
}

fn create(path: impl AsRef<Path>) -> Result<Receiver, Error> {
    OpenOptions::new().create(true).open_receiver(path)
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Runs one of the `peer_` functions below in a process of its own, in `dir`.
async fn run(role: &str, dir: &Path) {
    let role = format!("fifo_open::{role}");
    let mut command = peer_command(&role);
    let mut peer = Peer::spawn(command.env("TEST_DIR", dir));
    let status = peer.exit().await.unwrap();
    assert!(status.success(), "{role}: {status}");
}

fn peer_dir() -> PathBuf {
    std::env::var_os("TEST_DIR").unwrap().into()
}

/// Runs `body` inside a runtime, in a peer.
fn in_runtime<T>(body: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    body()
}

#[tokio::test]
async fn a_missing_fifo_is_made_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    assert!(matches!(error_of(&path), Error::NotFound { path: p } if p == path));
    assert!(!path.exists());

    let first = create(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(mode_of(&path), MARK | 0o600);
    // Taken as it is: that it exists is fine.
    create(&path).unwrap();
    let error = OpenOptions::new()
        .create_new(true)
        .open_receiver(&path)
        .unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    drop(first);
    // It stays unless told otherwise.
    assert!(path.exists());
}

/// Someone else's mkfifo may come first; then theirs is used.
#[tokio::test]
async fn many_may_make_the_same_fifo_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = dir.path().join(format!("fifo{round}"));
        let runtime = tokio::runtime::Handle::current();
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    let _guard = runtime.enter();
                    let mut options = OpenOptions::new();
                    options.create(true).unlink_on_drop(true).mode(0o640);
                    options.open_receiver(&path)
                })
            });
            threads.map(|it| it.join().unwrap().unwrap()).into()
        });
        assert_eq!(mode_of(&path), MARK | 0o640);
        let inodes = opened.iter().map(|it| nix::sys::stat::fstat(it).unwrap());
        let inodes: Vec<_> = inodes.map(|it| it.st_ino).collect();
        assert!(inodes.iter().all(|it| *it == inodes[0]), "{inodes:?}");
        drop(opened);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn the_mode_is_exact_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    run("peer_with_umasks", dir.path()).await;
}

#[test]
fn peer_with_umasks() {
    if !is_peer("fifo_open::peer_with_umasks") {
        return;
    }
    let dir = peer_dir();
    for mask in [0, 0o022, 0o077, 0o777] {
        umask(Mode::from_bits_truncate(mask));
        for mode in [0o600, 0o644, 0o666, 0o622, 0o777] {
            let path = dir.join(format!("{mask:o}-{mode:o}"));
            in_runtime(|| {
                let mut options = OpenOptions::new();
                options.create_new(true).mode(mode).persistent(true);
                options.open_receiver(&path).unwrap();
            });
            assert_eq!(mode_of(&path), MARK | mode, "umask {mask:o}");
        }
        // It is as it was.
        assert_eq!(umask(Mode::empty()).bits(), mask);
    }
}

/// Two processes may start at the same moment. Where the umask made a repair necessary, that must
/// not show the other one an end of stream, or a reader that is none.
#[tokio::test]
async fn repairing_the_mode_does_not_disturb_a_waiting_peer() {
    let dir = tempfile::tempdir().unwrap();
    run("peer_waiting_during_repair", dir.path()).await;
}

#[test]
fn peer_waiting_during_repair() {
    if !is_peer("fifo_open::peer_waiting_during_repair") {
        return;
    }
    umask(Mode::from_bits_truncate(0o777));
    for round in 0..100 {
        let path = peer_dir().join(format!("fifo{round}"));
        std::thread::scope(|scope| {
            // Tries from before the FIFO exists until it finds a reader.
            let other = scope.spawn(|| {
                loop {
                    match File::options().write(true).open(&path) {
                        Ok(mut file) => return io::Write::write_all(&mut file, b"x"),
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
                        Err(e) => return Err(e),
                    }
                }
            });
            let mut receiver = in_runtime(|| {
                let mut options = OpenOptions::new();
                options.create_new(true).open_receiver(&path).unwrap()
            });
            // EPIPE would be the sign of a reader that came and went.
            let result = other.join().unwrap();
            let fd = receiver.get_mut();
            let mut byte = [0; 1];
            nix::unistd::read(fd, &mut byte).unwrap();
            result.unwrap();
            assert_eq!(&byte, b"x");
        });
    }
}

#[tokio::test]
async fn a_mode_with_other_bits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let mut options = OpenOptions::new();
    let error = options.create(true).mode(0o4600).open_receiver(&path);
    assert!(matches!(error, Err(Error::InvalidMode { mode: 0o4600 })));
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_no_fifo_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "content").unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, kind, word) in [
        (file.as_path(), Kind::File, "regular file"),
        (&socket, Kind::Socket, "socket"),
        (dir.path(), Kind::Directory, "directory"),
        (Path::new("/dev/null"), Kind::CharDevice, "device"),
    ] {
        for error in [
            error_of(path),
            create(path).unwrap_err(),
            OpenOptions::new().try_open_sender(path).unwrap_err(),
            OpenOptions::new().open_sender(path).await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(
                text.contains(word) && text.contains(path.to_str().unwrap()),
                "{text}"
            );
            let Error::NotAFifo { path: p, kind: k } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((p.as_path(), *k), (path, kind));
            // It keeps kind and cause as an `io::Error`.
            let error = io::Error::from(error);
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.get_ref().unwrap().is::<Error>());
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[tokio::test]
async fn a_symbolic_link_is_refused_unless_allowed() {
    let (dir, path) = with_fifo();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    for error in [error_of(&link), create(&link).unwrap_err()] {
        assert!(
            matches!(&error, Error::Symlink { path: p, target } if *p == link && *target == path),
            "{error:?}"
        );
    }
    let mut options = OpenOptions::new();
    options.allow_symlink(true);
    let _receiver = options.open_receiver(&link).unwrap();
    options.try_open_sender(&link).unwrap();

    // What it leads to is checked all the same, and nothing is made through it.
    let to_file = dir.path().join("to-file");
    symlink("/dev/null", &to_file).unwrap();
    let error = options.open_receiver(&to_file).unwrap_err();
    assert!(matches!(error, Error::NotAFifo { .. }), "{error:?}");
    let nowhere = dir.path().join("nowhere");
    symlink(dir.path().join("absent"), &nowhere).unwrap();
    let error = options.create(true).open_receiver(&nowhere).unwrap_err();
    assert!(matches!(error, Error::DanglingSymlink { .. }), "{error:?}");
    assert!(!dir.path().join("absent").exists());
    // To itself.
    let circle = dir.path().join("circle");
    symlink(&circle, &circle).unwrap();
    let error = options.open_receiver(&circle).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error:?}");
}

/// A plain `mkfifo` makes 0644: that must just work.
#[tokio::test]
async fn a_wider_mode_is_taken_with_a_warning_and_refused_when_strict() {
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
        text.contains("WARN") && text.contains("aqueduct::fifo") && text.contains("0o644"),
        "{text}"
    );

    let error = options.strict(true).open_receiver(&path).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ModeTooWide {
                mode: 0o644,
                allowed: 0o600,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
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
        assert!(
            matches!(
                error,
                Error::ForeignOwner {
                    owner: NOBODY,
                    euid: 0,
                    ..
                }
            ),
            "{error:?}"
        );
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
    run("peer_not_root", dir.path()).await;
}

#[test]
fn peer_not_root() {
    if !is_peer("fifo_open::peer_not_root") {
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
        assert!(
            matches!(&error, Error::DirectoryNotWritable { directory, .. } if *directory == dir),
            "{error:?}"
        );
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));

        let closed = mine.join("closed");
        let inside = closed.join("deeper").join("fifo");
        fs::create_dir_all(closed.join("deeper")).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o600)).unwrap();
        for error in [error_of(&inside), create(&inside).unwrap_err()] {
            assert!(
                matches!(&error, Error::DirectoryNotSearchable { directory, .. } if *directory == closed),
                "{error:?}"
            );
        }
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();

        // A FIFO of root's is trusted: root needs no trick to read what this process sends.
        if was_root {
            Receiver::open(&fifo_of_root).unwrap();
        }

        let path = mine.join("fifo");
        let mut options = OpenOptions::new();
        options.create_new(true).open_receiver(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        Receiver::open(&path).unwrap();
        for (error, wanted) in [
            (
                OpenOptions::new().try_open_sender(&path).unwrap_err(),
                Access::Write,
            ),
            (
                OpenOptions::new()
                    .persistent(true)
                    .open_receiver(&path)
                    .unwrap_err(),
                Access::ReadWrite,
            ),
        ] {
            assert!(
                matches!(&error, Error::AccessDenied { access, mode: 0o400, .. } if *access == wanted),
                "{error:?}"
            );
        }
    });
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).ok();
}

#[tokio::test]
async fn a_path_that_leads_nowhere_is_explained() {
    let (dir, path) = with_fifo();
    let missing = dir.path().join("a/b/fifo");
    for error in [error_of(&missing), create(&missing).unwrap_err()] {
        assert!(
            matches!(&error, Error::DirectoryMissing { directory, .. } if *directory == dir.path().join("a")),
            "{error:?}"
        );
    }
    // A FIFO where a directory should be, and a slash behind one.
    for below in [path.join("x"), path.join("")] {
        for error in [error_of(&below), create(&below).unwrap_err()] {
            assert!(
                matches!(&error, Error::NotADirectory { component, .. } if *component == path),
                "{error:?}"
            );
            assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
        }
    }
    for bad in ["", "nul\0byte"] {
        let error = error_of(bad);
        assert!(matches!(error, Error::InvalidPath { .. }), "{error:?}");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    let error = create(dir.path().join("new/")).unwrap_err();
    assert!(matches!(error, Error::InvalidPath { .. }), "{error:?}");

    let long_name = dir.path().join("x".repeat(256));
    let long_path = dir.path().join("x/".repeat(2100));
    for (path, limit) in [(long_name, 255), (long_path, 4095)] {
        for error in [error_of(&path), create(&path).unwrap_err()] {
            assert!(
                matches!(error, Error::NameTooLong { max, len, .. } if max == limit && len > max),
                "{error:?}"
            );
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
    run("peer_on_read_only", dir.path()).await;
}

#[test]
fn peer_on_read_only() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};

    if !is_peer("fifo_open::peer_on_read_only") {
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
        assert!(
            matches!(&error, Error::ReadOnlyFilesystem { path } if *path == dir.join("new")),
            "{error:?}"
        );
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        // What goes through a FIFO is not on the file system: one that is there works.
        let _receiver = create(dir.join("there")).unwrap();
        OpenOptions::new()
            .try_open_sender(dir.join("there"))
            .unwrap();
    });
}

#[test]
fn outside_a_runtime_opening_is_an_error_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let mut options = OpenOptions::new();
    options.create(true);
    let mut open_sender = tokio_test::task::spawn(options.open_sender(&path));
    let error = match open_sender.poll() {
        std::task::Poll::Ready(result) => result.unwrap_err(),
        std::task::Poll::Pending => panic!("waits without a runtime"),
    };
    for error in [
        error,
        options.open_receiver(&path).unwrap_err(),
        options.try_open_sender(&path).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Register { .. }), "{error:?}");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn only_what_this_very_call_made_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    let mut options = OpenOptions::new();
    options.create(true).unlink_on_drop(true);

    // Made and removed; also by a sender that finds no reader.
    drop(options.open_receiver(&path).unwrap());
    assert!(!path.exists());
    let error = options.try_open_sender(&path).unwrap_err();
    assert!(matches!(error, Error::NoReader { .. }), "{error:?}");
    assert!(!path.exists());

    // Found: it stays.
    let first = options.open_receiver(&path).unwrap();
    drop(options.open_receiver(&path).unwrap());
    drop(options.try_open_sender(&path).unwrap());
    assert!(path.exists());

    // Replaced by another: that one stays.
    fs::remove_file(&path).unwrap();
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    drop(first);
    assert!(path.exists());
    fs::remove_file(&path).unwrap();

    // Replaced by a file: so does that.
    let second = options.open_receiver(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    drop(second);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();

    // Gone already: nothing to do. Taken out of its wrapper: the caller's from now on.
    let third = options.open_receiver(&path).unwrap();
    fs::remove_file(&path).unwrap();
    drop(third);
    let inner = options.open_receiver(&path).unwrap().into_inner();
    drop(inner);
    assert!(path.exists());
}

/// A FIFO that is made and then cannot be opened would stay: nobody could tell whose it is.
#[tokio::test]
async fn without_a_free_descriptor_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    run("peer_out_of_descriptors", dir.path()).await;
}

#[test]
fn peer_out_of_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    if !is_peer("fifo_open::peer_out_of_descriptors") {
        return;
    }
    let path = peer_dir().join("fifo");
    let mut options = OpenOptions::new();
    options.create_new(true).unlink_on_drop(true);
    in_runtime(|| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let mut taken = Vec::new();
        while let Ok(fd) = File::open("/") {
            taken.push(fd);
        }
        // None free, one, and so on, until there are enough.
        loop {
            match options.open_receiver(&path) {
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error:?}"),
                Ok(receiver) => {
                    assert!(path.exists());
                    drop(receiver);
                    break;
                }
            }
            assert!(!path.exists(), "{} descriptors", taken.len());
            taken.pop().expect("so many are enough");
        }
        assert!(!path.exists());
    });
}

#[tokio::test]
async fn a_relative_path_stays_meant_after_a_change_of_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    run("peer_changing_directory", dir.path()).await;
    assert!(!dir.path().join("fifo").exists());
    assert!(dir.path().join("sub/fifo").exists());
}

#[test]
fn peer_changing_directory() {
    if !is_peer("fifo_open::peer_changing_directory") {
        return;
    }
    std::env::set_current_dir(peer_dir()).unwrap();
    mkfifo("sub/fifo", Mode::from_bits_truncate(0o600)).unwrap();
    in_runtime(|| {
        let mut options = OpenOptions::new();
        options.create(true).unlink_on_drop(true);
        let receiver = options.open_receiver("fifo").unwrap();
        std::env::set_current_dir("sub").unwrap();
        let state = receiver.path_state().unwrap();
        assert_eq!(state, aqueduct::fifo::PathState::Current);
        assert_eq!(receiver.path(), Path::new("fifo"));
    });
}

#[tokio::test]
async fn it_works_where_proc_is_not_mounted() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: only root can change the root directory");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    run("peer_without_proc", dir.path()).await;
}

#[test]
fn peer_without_proc() {
    if !is_peer("fifo_open::peer_without_proc") {
        return;
    }
    nix::unistd::chroot(&peer_dir()).unwrap();
    std::env::set_current_dir("/").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut options = OpenOptions::new();
        options.create(true);
        let receiver = options.open_receiver("/fifo").unwrap();
        options.open_sender("/fifo").await.unwrap();
        drop(receiver);
        let error = options.try_open_sender("/fifo").unwrap_err();
        assert!(matches!(error, Error::NoReader { .. }), "{error:?}");
        symlink("/fifo", "/link").unwrap();
        options.allow_symlink(true).open_receiver("/link").unwrap();

        // The mode cannot be repaired here, and then nothing half-made stays.
        umask(Mode::from_bits_truncate(0o777));
        let error = options.open_receiver("/other").unwrap_err();
        assert!(
            matches!(error, Error::Io { call: "chmod", .. }),
            "{error:?}"
        );
        assert!(!Path::new("/other").exists());
    });
}
