//! `?group=`: the group of what is made with a name.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aqueduct::{Endpoint, OpenError, OpenErrorKind};
use nix::unistd::Uid;

use crate::actor::{self, Actor, say, told};
use crate::mq::QueueName;
use crate::support::{MARK, is_peer};

/// A group that owns nothing here, and of which this user is no member.
const OTHER: u32 = 54_321;

/// An address of each kind, and the file that it makes.
fn addresses(dir: &Path, queue: &QueueName) -> [(String, PathBuf); 4] {
    let path = |name: &str| dir.join(name);
    let address = |scheme: &str| (format!("{scheme}:{}", path(scheme).display()), path(scheme));
    let in_queues = Path::new("/dev/mqueue").join(&queue.0[1..]);
    [
        address("fifo"),
        address("unix"),
        address("unixpacket"),
        (format!("mq:{}", queue.0), in_queues),
    ]
}

/// Makes what the address names, and keeps it while `then` looks at it.
async fn make<T>(address: &str, then: impl FnOnce() -> T) -> Result<T, OpenError> {
    let endpoint: Endpoint = address.parse().unwrap();
    if address.starts_with("unix") {
        let _listener = endpoint.bind().await?;
        return Ok(then());
    }
    let _receiver = endpoint.open_receiver().await?;
    Ok(then())
}

#[tokio::test]
async fn the_created_object_belongs_to_the_group_of_the_address() {
    if !Uid::effective().is_root() {
        println!("SKIPPED: only root can use any group");
        return;
    }
    for (group, options, mode) in [
        (OTHER, "?group=54321", 0o660),
        (OTHER, "?group=54321&mode=0640", 0o640),
        (0, "?group=root&mode=0666", 0o666),
    ] {
        let (dir, queue) = (tempfile::tempdir().unwrap(), QueueName::new());
        for (address, file) in addresses(dir.path(), &queue) {
            if address.starts_with("mq:") && !file.parent().unwrap().exists() {
                println!("SKIPPED: /dev/mqueue is not mounted");
                continue;
            }
            let address = format!("{address}{options}");
            let found = make(&address, || fs::metadata(&file)).await.unwrap();
            let found = found.unwrap();
            assert_eq!(found.gid(), group, "{address}");
            assert_eq!(found.mode() & 0o7777, MARK | mode, "{address}");
        }
    }
}

#[tokio::test]
async fn an_unknown_group_is_an_error_and_makes_nothing() {
    let (dir, queue) = (tempfile::tempdir().unwrap(), QueueName::new());
    for (address, file) in addresses(dir.path(), &queue) {
        let address = format!("{address}?group=no-such-group");
        let error = make(&address, || ()).await.unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::InvalidOption, "{error}");
        assert!(error.to_string().contains("no-such-group"), "{error}");
        assert!(!file.exists(), "{address}");
    }
}

#[tokio::test]
async fn a_group_of_others_is_an_error_and_makes_nothing() {
    if !Uid::effective().is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    let mut other = Actor::spawn("group::role_nobody");
    other.tell("go");
    assert_eq!(other.hear().await, "refused");
    other.succeed().await;
}

#[test]
fn role_nobody() {
    if !is_peer("group::role_nobody") {
        return;
    }
    actor::become_nobody();
    let runtime = actor::runtime();
    assert_eq!(told().as_deref(), Some("go"));
    let (dir, queue) = (tempfile::tempdir().unwrap(), QueueName::new());
    for (address, file) in addresses(dir.path(), &queue) {
        let address = format!("{address}?group={OTHER}");
        let error = runtime.block_on(make(&address, || ())).unwrap_err();
        assert_eq!(error.kind(), &OpenErrorKind::PermissionDenied, "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(!file.exists(), "{address}");
    }
    say("refused");
}
