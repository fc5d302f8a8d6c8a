//! Making and opening FIFOs: exact modes, checks, refusals, and what is removed afterwards.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::MARK;
use aqueduct::fifo::{OpenOptions, ReaderGone, Receiver};
use aqueduct::{OpenError, OpenErrorKind};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, mkfifo};

use self::refused::error_of;
use crate::support::{Peer, is_peer, peer_command};

mod refused;

fn create(path: impl AsRef<Path>) -> Result<Receiver, OpenError> {
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
    let error = error_of(&path);
    assert_eq!(error.kind(), &OpenErrorKind::NotFound, "{error}");
    assert_eq!(error.object(), path.to_str().unwrap());
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    assert!(!path.exists());

    let first = create(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(mode_of(&path), MARK | 0o600);
    // Taken as it is: that it exists is fine.
    create(&path).unwrap();
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
                options.create(true).mode(mode).persist(true);
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
            let receiver = in_runtime(|| {
                let mut options = OpenOptions::new();
                options.create(true).open_receiver(&path).unwrap()
            });
            // EPIPE would be the sign of a reader that came and went.
            let result = other.join().unwrap();
            let mut byte = [0; 1];
            nix::unistd::read(&receiver, &mut byte).unwrap();
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
    let error = error.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InvalidOption);
    assert!(error.to_string().contains("mode 4600"), "{error}");
    assert!(!path.exists());
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
        assert_eq!(error.kind(), &OpenErrorKind::NoRuntime, "{error}");
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
    assert_eq!(error.kind(), &OpenErrorKind::Refused, "{error}");
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

    // Gone already: nothing to do.
    let third = options.open_receiver(&path).unwrap();
    fs::remove_file(&path).unwrap();
    drop(third);

    // So it is with a sender that needs no reader, and so makes it.
    options.on_reader_gone(ReaderGone::Keep);
    let sender = options.try_open_sender(&path).unwrap();
    drop(sender);
    assert!(!path.exists());
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
    options.create(true).unlink_on_drop(true);
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
        // The one that it made is removed, and not its namesake in the new directory.
        let mut options = OpenOptions::new();
        options.create(true).unlink_on_drop(true);
        let receiver = options.open_receiver("fifo").unwrap();
        std::env::set_current_dir("sub").unwrap();
        drop(receiver);
        assert!(!Path::new("../fifo").exists());
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
        assert_eq!(error.kind(), &OpenErrorKind::Refused, "{error}");
        symlink("/fifo", "/link").unwrap();
        let error = options.open_receiver("/link").unwrap_err();
        assert!(error.to_string().contains("symbolic link"), "{error}");

        // The mode cannot be repaired here, and then nothing half-made stays.
        umask(Mode::from_bits_truncate(0o777));
        let error = options.open_receiver("/other").unwrap_err();
        assert!(error.to_string().contains("set the mode"), "{error}");
        assert!(!Path::new("/other").exists());
    });
}
