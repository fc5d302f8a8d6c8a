//! What the library has made can be told from what others have.

use std::fs::metadata;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::MARK;
use aqueduct::is_marked;
use aqueduct::{fifo, mq, unix};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::mkfifo;

use crate::mq::QueueName;

fn marked(path: &Path) -> bool {
    is_marked(&metadata(path).unwrap())
}

#[tokio::test]
async fn what_is_made_is_marked_and_what_was_there_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let mut options = fifo::OpenOptions::new();
    options.create(true);
    mkfifo(&path("theirs"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    for name in ["ours", "theirs"] {
        let _reader = options.open_receiver(path(name)).unwrap();
        assert_eq!(marked(&path(name)), name == "ours");
    }
    for packets in [false, true] {
        let socket = path("socket");
        if packets {
            let _listener = unix::BindOptions::new().bind_seqpacket(&socket).unwrap();
            assert!(marked(&socket));
        } else {
            let _listener = unix::bind(&socket).unwrap();
            assert!(marked(&socket));
        }
    }
    let _theirs = UnixListener::bind(path("their socket")).unwrap();
    assert!(!marked(&path("their socket")));
    // A directory's sticky bit is not ours.
    assert!(!is_marked(&metadata("/tmp").unwrap()));
}

#[test]
fn queues_are_marked_too_and_those_of_others_are_not() {
    let mode = |queue: &mq::Queue| fstat(queue).unwrap().st_mode;
    let (ours, theirs) = (QueueName::new(), QueueName::new());
    let mut options = mq::OpenOptions::new();
    options.create(true).capacity(1).max_message(8);
    let queue = options.open(&ours.0).unwrap();
    assert_ne!(mode(&queue) & MARK, 0);
    let made = posixmq::OpenOptions::readwrite()
        .create_new()
        .mode(0o600)
        .capacity(1)
        .max_msg_len(8)
        .open(&theirs.0)
        .unwrap();
    let queue = options.open(&theirs.0).unwrap();
    assert_eq!(mode(&queue) & MARK, 0);
    drop(made);
}
