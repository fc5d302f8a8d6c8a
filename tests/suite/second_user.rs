//! What another user of the host tries, with the answer that SECURITY.md promises. Those tests that
//! are not here are with the module that they are about; SECURITY.md names them.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use aqueduct::{fifo, mq, unix};
use nix::unistd::Uid;

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
    let mut held = Vec::new();
    while let Some(line) = told() {
        let (what, name) = line.split_once(' ').expect("a thing and its name");
        let path = Path::new(name);
        let errno = match what {
            "read-fifo" => errno(std::fs::File::open(path)),
            "write-fifo" => errno(std::fs::File::options().write(true).open(path)),
            "read-queue" => errno(posixmq::OpenOptions::readonly().nonblocking().open(name)),
            "write-queue" => errno(posixmq::OpenOptions::writeonly().nonblocking().open(name)),
            "unlink-queue" => errno(posixmq::remove_queue(name)),
            "remove" => errno(std::fs::remove_file(path)),
            "bind-path" => keep(UnixListener::bind(path), &mut held),
            "bind-abstract" => {
                let address = SocketAddr::from_abstract_name(name).expect("it is a name");
                keep(UnixListener::bind_addr(&address), &mut held)
            }
            "connect-abstract" => {
                let name = unix::Address::Abstract(name.into());
                let connected = runtime.block_on(unix::connect(name));
                connected.map_or_else(|it| it.raw_os_error().unwrap_or(-1), |_| 0)
            }
            other => panic!("{other:?} cannot be tried"),
        };
        say(errno);
    }
}

fn errno<T>(tried: std::io::Result<T>) -> i32 {
    tried.map_or_else(|error| error.raw_os_error().unwrap_or(-1), |_| 0)
}

fn keep(bound: std::io::Result<UnixListener>, held: &mut Vec<UnixListener>) -> i32 {
    errno(bound.map(|it| held.push(it)))
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
    assert_eq!(queue.recv().await.unwrap().body, "secret");
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
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
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

/// What cannot be prevented: abstract names have no owner and no mode. One that is taken is refused,
/// and who connects can be asked.
#[tokio::test]
async fn an_abstract_name_is_open_to_all_and_the_kernel_says_who_came() {
    let Some(mut other) = second_user() else {
        return;
    };
    let name = |what: &str| format!("aqueduct-second-user-{what}-{}", std::process::id());
    let taken = name("taken");
    assert_eq!(tries(&mut other, "bind-abstract", &taken).await, 0);
    let address = unix::Address::Abstract(taken.into());
    let error = unix::bind(address).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "{error}");

    let ours = name("ours");
    let listener = unix::bind(unix::Address::Abstract(ours.clone().into())).unwrap();
    other.tell(&format!("connect-abstract {ours}"));
    let (stream, _) = deadline(listener.accept()).await.unwrap();
    assert_eq!(other.hear().await, "0");
    assert_eq!(unix::peer_credentials(&stream).unwrap().uid, 65_534);
    other.succeed().await;
}
