//! What an open queue is: not its name, and not another's descriptor.

use std::os::fd::AsFd;

use aqueduct::OpenErrorKind;
use aqueduct::mq::{Driver, OpenOptions};
use tokio::runtime::Builder;
use tokio_test::assert_pending;

use crate::mq_open::run_alone;
use crate::support::{deadline, is_peer};

use super::{QueueName, blocking, body, over_both_drivers, replaced};

over_both_drivers!(
    unlinked_queue_works_on_and_its_name_is_another_queue,
    inherited_descriptor_gets_a_description_of_its_own,
);

/// Unlinked while open it works on; the same name again is another queue.
async fn unlinked_queue_works_on_and_its_name_is_another_queue(driver: Driver) {
    let name = QueueName::new();
    let old = name.create(driver, 1, 8);
    assert_eq!(replaced(&old), None);
    old.unlink().unwrap();
    assert_eq!(replaced(&old), Some(false));
    old.send(0, b"old").await.unwrap();

    let new = name.create(driver, 1, 8);
    assert_eq!(replaced(&old), Some(true));
    old.unlink().expect_err("the name is another one's");
    assert_eq!(replaced(&new), None);
    new.send(0, b"new").await.unwrap();
    assert_eq!(old.recv().await.unwrap(), body("old"));
    assert_eq!(new.recv().await.unwrap(), body("new"));
}

/// `O_NONBLOCK` is the description's. One that is shared must not be changed.
async fn inherited_descriptor_gets_a_description_of_its_own(driver: Driver) {
    let name = QueueName::new();
    let made = name.create(driver, 1, 8);
    let shared = blocking(&name);
    made.unlink().unwrap();
    let queue = OpenOptions::new().driver(driver).open_fd(&shared).unwrap();
    let attributes = queue.attributes().unwrap();
    assert_eq!((attributes.capacity, attributes.max_message), (1, 8));
    assert_eq!(queue.name(), name.0);
    made.send(0, b"x").await.unwrap();
    assert_eq!(queue.recv().await.unwrap(), body("x"));
    assert_eq!(
        nix::mqueue::mq_getattr(&shared).unwrap().flags(),
        0,
        "blocking still"
    );
    let _ = nix::mqueue::mq_close(shared);

    let file = std::fs::File::open("/proc/self/status").unwrap();
    let error = OpenOptions::new().open_fd(file.as_fd()).unwrap_err();
    let found = "not a message queue";
    assert_eq!(error.kind(), &OpenErrorKind::WrongType { found });
}

/// To send waits on a descriptor of its own, which is made at the first wait and kept.
#[test]
fn a_queue_that_has_waited_needs_no_more_descriptors() {
    const ROLE: &str = "mq::descriptor::a_queue_that_has_waited_needs_no_more_descriptors";
    if !is_peer(ROLE) {
        return run_alone(ROLE);
    }
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
    // Of several threads: there one that has slept gives its place up at once.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let name = QueueName::new();
        let queue = name.create(Driver::AsyncFd, 1, 8);
        queue.try_send(0, b"full").unwrap();
        let mut all = Vec::new();
        for _ in 0..2 {
            let mut send = tokio_test::task::spawn(queue.send(0, b"full"));
            // It tries some more before it sleeps.
            while {
                assert_pending!(send.poll());
                send.is_woken()
            } {}
            queue.try_recv().unwrap();
            deadline(send).await.unwrap();
            while let Ok(fd) = queue.as_fd().try_clone_to_owned() {
                all.push(fd);
            }
        }
    });
}
