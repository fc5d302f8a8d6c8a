//! What another user of the host tries, with the answer that SECURITY.md promises. Those tests that
//! are not here are with the module that they are about; SECURITY.md names them.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;

use aqueduct::connect::Options;
use aqueduct::{Endpoint, OpenErrorKind, fifo, mq, unix};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, chown};

use crate::actor::{self, Actor, say, told};
use crate::mq::QueueName;
use crate::support::{deadline, is_peer};

const ROLE: &str = "second_user::another_user";

/// Whether there can be a second user; says so if not.
fn second_user() -> Option<Actor> {
    if Uid::effective().is_root() {
        return Some(Actor::spawn(ROLE));
    }
    println!("SKIPPED: only root can become another user");
    None
}

/// Tries what it is told, and says the error number or 0.
#[test]
fn another_user() {
    if !is_peer(ROLE) {
        return;
    }
    actor::become_nobody();
    let runtime = actor::runtime();
    let _inside = runtime.enter();
    let (mut held, mut locked) = (Vec::new(), Vec::new());
    while let Some(line) = told() {
        let (what, name) = line.split_once(' ').expect("a thing and its name");
        let path = Path::new(name);
        let errno = match what {
            "read-fifo" => errno(File::open(path)),
            "write-fifo" => errno(File::options().write(true).open(path)),
            "read-queue" => errno(posixmq::OpenOptions::readonly().nonblocking().open(name)),
            "write-queue" => errno(posixmq::OpenOptions::writeonly().nonblocking().open(name)),
            "unlink-queue" => errno(posixmq::remove_queue(name)),
            "remove" => errno(std::fs::remove_file(path)),
            "symlink" => errno(symlink("/etc/passwd", path)),
            "file" => errno(std::fs::write(path, "")),
            "fifo" => errno(mkfifo(path)),
            "swap" => {
                let path = path.to_owned();
                std::thread::spawn(move || swap(&path));
                0
            }
            "bind-path" => keep(UnixListener::bind(path), &mut held),
            "bind-open" => {
                let bound = keep(UnixListener::bind(path), &mut held);
                let open = std::fs::Permissions::from_mode(0o777);
                errno(std::fs::set_permissions(path, open)).max(bound)
            }
            "bind-gram" => {
                let bound = keep(UnixDatagram::bind(path), &mut held);
                let open = std::fs::Permissions::from_mode(0o777);
                errno(std::fs::set_permissions(path, open)).max(bound)
            }
            "bind-gram-abstract" => {
                let address = SocketAddr::from_abstract_name(name).expect("it is a name");
                keep(UnixDatagram::bind_addr(&address), &mut held)
            }
            "link" => {
                let (target, link) = name.split_once(' ').expect("two paths");
                errno(symlink(target, link))
            }
            "lock" => errno(lock(path).map(|it| locked.push(it))),
            "bind-abstract" => {
                let address = SocketAddr::from_abstract_name(name).expect("it is a name");
                keep(UnixListener::bind_addr(&address), &mut held)
            }
            "connect-shm" => {
                let address: Endpoint = format!("shm:{name}").parse().expect("an address");
                let connected = runtime.block_on(address.connect());
                connected.map_or_else(|it| it.raw_os_error().unwrap_or(-1), |_| 0)
            }
            "connect-abstract" => {
                let name = format!("@{name}");
                let connected = runtime.block_on(unix::connect(name));
                connected.map_or_else(|it| it.raw_os_error().unwrap_or(-1), |_| 0)
            }
            other => panic!("{other:?} cannot be tried"),
        };
        say(errno);
    }
}

/// Locks a file, which it makes if it can.
fn lock(path: &Path) -> std::io::Result<Flock<File>> {
    let file = match File::options()
        .create_new(true)
        .write(true)
        .mode(0o666)
        .open(path)
    {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => File::open(path)?,
        made => made?,
    };
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    lock.map_err(|(_, errno)| errno.into())
}

fn mkfifo(path: &Path) -> std::io::Result<()> {
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    Ok(nix::unistd::mkfifo(path, mode)?)
}

/// Puts one thing after the other at the path, until the process ends.
fn swap(path: &Path) {
    loop {
        let _ = symlink("/etc/passwd", path);
        let _ = std::fs::remove_file(path);
        let _ = std::fs::write(path, "");
        let _ = std::fs::remove_file(path);
        let _ = mkfifo(path);
        let _ = std::fs::remove_file(path);
    }
}

fn errno<T>(tried: std::io::Result<T>) -> i32 {
    tried.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn keep(bound: std::io::Result<impl Into<OwnedFd>>, held: &mut Vec<OwnedFd>) -> i32 {
    errno(bound.map(|it| held.push(it.into())))
}

async fn tries(actor: &mut Actor, what: &str, name: &str) -> i32 {
    actor.tell(&format!("{what} {name}"));
    actor.hear().await.parse().expect("a number")
}

/// A directory in which everybody may make files, and remove only their own: as /tmp.
fn shared_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(directory.path(), mode).unwrap();
    directory
}

#[tokio::test]
async fn nobody_reads_writes_or_removes_a_fifo_of_ours() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let path = directory.path().join("ours");
    let mut options = fifo::OpenOptions::new();
    let _receiver = options.create(true).open_receiver(&path).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(tries(&mut other, "read-fifo", path).await, libc::EACCES);
    assert_eq!(tries(&mut other, "write-fifo", path).await, libc::EACCES);
    assert_eq!(tries(&mut other, "remove", path).await, libc::EPERM);
    other.succeed().await;
}

/// What another user has put where our FIFO is looked for is refused, whatever it is.
#[tokio::test]
async fn nothing_that_another_user_put_there_is_taken_for_our_fifo() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let put = |what| directory.path().join(what);
    for what in ["symlink", "file", "fifo"] {
        let path = put(what);
        let name = path.to_str().unwrap();
        assert_eq!(tries(&mut other, what, name).await, 0);
        let mut options = fifo::OpenOptions::new();
        options.create(true);
        for error in [
            options.open_receiver(&path).unwrap_err(),
            options.try_open_sender(&path).unwrap_err(),
        ] {
            let expected = match what {
                "symlink" => OpenErrorKind::WrongType {
                    found: "a symbolic link",
                },
                "file" => OpenErrorKind::WrongType {
                    found: "a regular file",
                },
                _ => OpenErrorKind::ForeignOwner { owner: 65_534 },
            };
            assert_eq!(error.kind(), &expected, "{what}: {error:?}");
        }
    }
    other.succeed().await;
}

/// Nor while it is exchanged all the time: what was opened is looked at, and not the path.
#[tokio::test]
async fn nothing_that_another_user_swaps_is_taken_for_our_fifo() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let path = directory.path().join("swapped");
    assert_eq!(tries(&mut other, "swap", path.to_str().unwrap()).await, 0);
    let options = fifo::OpenOptions::new();
    let mut seen = std::collections::BTreeSet::new();
    let tried = async {
        // Each thing that it puts there was met, and often.
        for round in 0.. {
            let receiver = options.open_receiver(&path).map(drop);
            let sender = options.try_open_sender(&path).map(drop);
            for result in [receiver, sender] {
                let error = result.expect_err("it is not ours");
                seen.insert(match error.kind() {
                    OpenErrorKind::WrongType { found } if found.contains("link") => "symlink",
                    OpenErrorKind::WrongType { .. } => "file",
                    OpenErrorKind::ForeignOwner { .. } => "fifo",
                    _ => "nothing, or another in between",
                });
            }
            if round >= 1000
                && ["symlink", "file", "fifo"]
                    .iter()
                    .all(|it| seen.contains(it))
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    deadline(tried).await;
    other.succeed().await;
}

#[tokio::test]
async fn nobody_reads_fills_or_removes_a_queue_of_ours() {
    let Some(mut other) = second_user() else {
        return;
    };
    let name = QueueName::new();
    let queue = name.create(mq::Driver::Pool, 1, 8);
    queue.send(0, b"secret").await.unwrap();
    assert_eq!(tries(&mut other, "read-queue", &name.0).await, libc::EACCES);
    assert_eq!(
        tries(&mut other, "write-queue", &name.0).await,
        libc::EACCES
    );
    assert_eq!(
        tries(&mut other, "unlink-queue", &name.0).await,
        libc::EACCES
    );
    assert_eq!(queue.recv().await.unwrap().into_body(), "secret");
    other.succeed().await;
}

/// It can be first, in a directory that is open to it. We notice, and its socket stays: whoever comes
/// to it is not sent to us, nor we to it.
#[tokio::test]
async fn a_socket_path_that_another_user_took_first_is_refused() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let path = directory.path().join("squat");
    assert_eq!(
        tries(&mut other, "bind-path", path.to_str().unwrap()).await,
        0
    );
    let error = unix::bind(&path).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InUse, "{error}");
    other.succeed().await;
}

/// The socket of a living server cannot be removed or bound over.
#[tokio::test]
async fn nobody_steals_a_socket_path_of_ours() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let path = directory.path().join("ours");
    let listener = unix::bind(&path).unwrap();
    let name = path.to_str().unwrap();
    assert_eq!(tries(&mut other, "remove", name).await, libc::EPERM);
    assert_eq!(tries(&mut other, "bind-path", name).await, libc::EADDRINUSE);
    let (accepted, connected) = tokio::join!(listener.accept(), unix::connect(&path));
    accepted.unwrap();
    connected.unwrap();
    other.succeed().await;
}

/// How a client of that user's socket fares: by a path or name, and by an address.
async fn refused_as_foreign(path: &str) {
    let owner = 65_534;
    let error = deadline(unix::connect(path)).await.expect_err(path);
    assert_eq!(
        error.kind(),
        &OpenErrorKind::ForeignOwner { owner },
        "{path}: {error}"
    );
    // A flag of the command is no advice for a program: the command adds it.
    assert!(!error.to_string().contains("--"), "{error}");
    let address: Endpoint = format!("unix:{path}").parse().unwrap();
    let error = deadline(address.open_sender()).await.expect_err(path);
    assert_eq!(
        error.kind(),
        &OpenErrorKind::ForeignOwner { owner },
        "{path}: {error}"
    );
    let mut options = Options::new();
    options.allow_foreign_owner(true);
    let connected = deadline(options.connect(&address)).await;
    drop(connected.expect("allowed"));
}

/// It was connected to, and got what was meant for the server that it stood in for.
#[tokio::test]
async fn a_planted_socket_is_not_connected_to() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let planted = directory.path().join("planted");
    let planted = planted.to_str().unwrap();
    assert_eq!(tries(&mut other, "bind-open", planted).await, 0);
    refused_as_foreign(planted).await;

    // A symbolic link of that user's, to whatever it may be.
    let ours = directory.path().join("ours");
    let _listener = unix::bind(&ours).unwrap();
    let link = directory.path().join("link");
    let asked = format!("{} {}", ours.display(), link.display());
    assert_eq!(tries(&mut other, "link", &asked).await, 0);
    let error = unix::connect(&link).await.unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::ForeignOwner { owner: 65_534 });

    // A directory of that user's in one that is everybody's.
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    chown(&inner, Some(Uid::from_raw(65_534)), None).unwrap();
    let inner = inner.join("socket");
    let inner = inner.to_str().unwrap();
    assert_eq!(tries(&mut other, "bind-open", inner).await, 0);
    refused_as_foreign(inner).await;

    // An abstract name is its process's.
    let name = format!("aqueduct-second-user-planted-{}", std::process::id());
    assert_eq!(tries(&mut other, "bind-abstract", &name).await, 0);
    refused_as_foreign(&format!("@{name}")).await;
    other.succeed().await;
}

/// Memory is shared with our own user only, unless the mode says otherwise, and never with a server
/// that stands in for ours.
#[tokio::test]
async fn nobody_shares_memory_with_us_uninvited() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let at = |what| directory.path().join(what).display().to_string();
    let ours = at("ours");
    let address: Endpoint = format!("shm:{ours}").parse().unwrap();
    let _listener = address.bind().await.unwrap();
    let refused = tries(&mut other, "connect-shm", &ours).await;
    assert_eq!(refused, libc::EACCES);

    let open = at("open");
    let address: Endpoint = format!("shm:{open}?mode=666").parse().unwrap();
    let mut listener = address.bind().await.unwrap();
    assert_eq!(tries(&mut other, "connect-shm", &open).await, 0);
    let client = deadline(listener.accept()).await.unwrap().unwrap();
    let user = client.peer().credentials().map(|it| it.uid);
    assert_eq!(user, Some(65_534));

    let planted = at("planted");
    assert_eq!(tries(&mut other, "bind-open", &planted).await, 0);
    let address: Endpoint = format!("shm:{planted}").parse().unwrap();
    let error = deadline(address.connect()).await.unwrap_err();
    let owner = 65_534;
    assert_eq!(error.kind(), &OpenErrorKind::ForeignOwner { owner });
    assert_eq!(error.object(), address.to_string());
    other.succeed().await;
}

/// Nor a datagram socket, which has nobody's word but the kernel's.
#[tokio::test]
async fn a_planted_datagram_socket_is_not_sent_to() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let planted = directory.path().join("planted");
    let planted = planted.to_str().unwrap();
    assert_eq!(tries(&mut other, "bind-gram", planted).await, 0);
    let name = format!("aqueduct-second-user-gram-{}", std::process::id());
    assert_eq!(tries(&mut other, "bind-gram-abstract", &name).await, 0);
    for at in [planted.to_owned(), format!("@{name}")] {
        let address: Endpoint = format!("unixgram:{at}").parse().unwrap();
        let error = deadline(address.open_sender()).await.expect_err(&at);
        let owner = 65_534;
        let expected = OpenErrorKind::ForeignOwner { owner };
        assert_eq!(error.kind(), &expected, "{at}: {error}");
        let mut options = Options::new();
        options.allow_foreign_owner(true);
        let opened = deadline(options.open_sender(&address)).await;
        drop(opened.expect("allowed"));
    }
    other.succeed().await;
}

/// As `/run/redis` is: only root could have put that directory there.
#[tokio::test]
async fn a_service_in_a_directory_of_its_user_is_connected_to() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = tempfile::tempdir_in("/run").unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let theirs = directory.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(Uid::from_raw(65_534)), None).unwrap();
    let path = theirs.join("socket");
    assert_eq!(
        tries(&mut other, "bind-open", path.to_str().unwrap()).await,
        0
    );
    deadline(unix::connect(&path)).await.unwrap();
    // Links of ours are followed, as `/dev/log` is, relative and absolute ones.
    for target in ["theirs/../theirs/socket", path.to_str().unwrap()] {
        let link = directory.path().join("link");
        symlink(target, &link).unwrap();
        deadline(unix::connect(&link)).await.unwrap();
        std::fs::remove_file(&link).unwrap();
    }
    other.succeed().await;
}

/// A lock of somebody else was taken for a running server.
#[tokio::test]
async fn a_foreign_lock_is_named_and_not_taken_for_a_server() {
    let Some(mut other) = second_user() else {
        return;
    };
    let directory = shared_directory();
    let path = directory.path().join("socket");
    let lock = directory.path().join("socket.lock");
    assert_eq!(tries(&mut other, "lock", lock.to_str().unwrap()).await, 0);
    let error = unix::bind(&path).unwrap_err();
    assert_eq!(
        error.kind(),
        &OpenErrorKind::ForeignOwner { owner: 65_534 },
        "{error}"
    );
    assert!(error.object().ends_with("socket.lock"), "{error}");

    // One of ours that others may open.
    let ours = directory.path().join("ours");
    let lock = directory.path().join("ours.lock");
    std::fs::write(&lock, "").unwrap();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&lock, open).unwrap();
    assert_eq!(tries(&mut other, "lock", lock.to_str().unwrap()).await, 0);
    let error = unix::bind(&ours).unwrap_err();
    assert_eq!(error.kind(), &OpenErrorKind::InUse, "{error}");
    let holder = format!("process {} of user 65534", other.peer.0.id());
    assert!(error.to_string().contains(&holder), "{error}");
    other.succeed().await;
    drop(unix::bind(&ours).unwrap());
}

/// What cannot be prevented: abstract names have no owner and no mode. One that is taken is refused,
/// and who connects can be asked.
#[tokio::test]
async fn an_abstract_name_is_open_to_all_with_credentials() {
    let Some(mut other) = second_user() else {
        return;
    };
    let name = |what: &str| format!("aqueduct-second-user-{what}-{}", std::process::id());
    let taken = name("taken");
    assert_eq!(tries(&mut other, "bind-abstract", &taken).await, 0);
    let error = unix::bind(format!("@{taken}")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{error}");

    let ours = name("ours");
    let listener = unix::bind(format!("@{ours}")).unwrap();
    other.tell(&format!("connect-abstract {ours}"));
    let (stream, _) = deadline(listener.accept()).await.unwrap();
    assert_eq!(other.hear().await, "0");
    assert_eq!(unix::peer_credentials(&stream).unwrap().uid, 65_534);
    other.succeed().await;
}
