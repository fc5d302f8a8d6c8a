//! Capacity: what the kernel makes of a wish, and which limit refuses it.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt;

use aqueduct::{OpenError, OpenErrorKind, pipe};
use tokio_test::{assert_pending, assert_ready_ok, task};

use crate::pipe::{fill, take};
use crate::support::{Peer, is_peer, peer_command, woken};

fn limit(name: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/sys/fs/{name}")).unwrap();
    text.trim().parse().unwrap()
}

fn page() -> usize {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    usize::try_from(page.unwrap().unwrap()).unwrap()
}

#[tokio::test]
async fn a_capacity_is_rounded_up_to_a_power_of_two_of_pages() {
    let (tx, rx) = pipe::pipe().unwrap();
    assert_eq!(rx.set_capacity(1).unwrap(), page());
    assert_eq!(tx.capacity().unwrap(), page());
    assert_eq!(tx.set_capacity(page() + 1).unwrap(), 2 * page());
    assert_eq!(rx.capacity().unwrap(), 2 * page());
}

/// The error names both numbers.
#[tokio::test]
async fn a_capacity_over_the_system_limit_is_refused() {
    let max = limit("pipe-max-size");
    let (tx, _rx) = pipe::pipe().unwrap();
    match tx.set_capacity(2 * max) {
        // With CAP_SYS_RESOURCE there is no limit.
        Ok(got) => assert_eq!(got, 2 * max),
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::PermissionDenied);
            let error = OpenError::of(&e).unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            assert_eq!(error.kind(), &OpenErrorKind::LimitReached);
            let both = format!("{} bytes exceed the limit of {max}", 2 * max);
            assert!(e.to_string().contains(&both), "{e}");
            assert!(error.cure().unwrap().contains("pipe-max-size"), "{e}");
        }
    }
    let absurd = tx.set_capacity(usize::MAX).unwrap_err();
    let absurd = OpenError::of(&absurd).unwrap();
    assert_eq!(absurd.kind(), &OpenErrorKind::LimitReached);
}

#[tokio::test]
async fn a_pipe_does_not_shrink_below_its_content() {
    let (tx, rx) = pipe::pipe().unwrap();
    if tx.set_capacity(4 * page()).is_err() {
        return; // A user with too many pipes already.
    }
    let size = fill(&tx).await;
    let refused = tx.set_capacity(page()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ResourceBusy);
    let error = OpenError::of(&refused).unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    let capacity = format!("its capacity is {} bytes", 4 * page());
    assert!(refused.to_string().contains(&capacity), "{refused}");
    assert!(refused.to_string().contains("read from it first"));
    assert_eq!(take(&rx, size).await.len(), size, "nothing was lost");
    assert_eq!(tx.set_capacity(page()).unwrap(), page());
}

#[tokio::test]
async fn growing_a_full_pipe_wakes_its_writer() {
    let (tx, rx) = pipe::pipe().unwrap();
    tx.set_capacity(page()).unwrap();
    fill(&tx).await;
    let mut waiting = task::spawn(tx.writable());
    assert_pending!(waiting.poll());
    rx.set_capacity(2 * page()).unwrap();
    woken(&waiting).await;
    assert_ready_ok!(waiting.poll());
    assert_eq!(tx.try_write(b"x").unwrap(), 1);
}

/// Root has no such limit, so a process of another user goes there. Its pipes are its own: nothing
/// of this reaches the other tests.
#[test]
fn a_user_with_too_many_pipes_is_told_which_limit_that_is() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut command = peer_command("pipe::capacity::peer_with_too_many_pipes");
    command.uid(65534).gid(65534);
    let Ok(child) = command.spawn() else {
        return; // The test binary is out of that user's reach.
    };
    let mut peer = Peer(child);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(runtime.block_on(peer.exit()).unwrap().success());
}

#[test]
fn peer_with_too_many_pipes() {
    if !is_peer("pipe::capacity::peer_with_too_many_pipes") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let mut large = Vec::new();
    let refused = loop {
        let (tx, rx) = pipe::pipe().unwrap();
        match tx.set_capacity(limit("pipe-max-size")) {
            Ok(_) => large.push((tx, rx)),
            Err(e) => break e,
        }
    };
    let pages = limit("pipe-user-pages-soft");
    let error = OpenError::of(&refused).unwrap();
    assert_eq!(error.kind(), &OpenErrorKind::LimitReached, "{refused}");
    assert!(error.cure().unwrap().contains("pipe-user-pages-soft"));
    let limit = format!("limit of {pages} pages");
    assert!(refused.to_string().contains(&limit), "{refused}");
    // With no room left at all, pipes are made of two pages and cannot grow, but they work.
    let mut small = Vec::new();
    let (tx, rx) = loop {
        let (tx, rx) = pipe::pipe().unwrap();
        if tx.capacity().unwrap() <= 2 * page() {
            break (tx, rx);
        }
        small.push((tx, rx));
    };
    assert!(tx.set_capacity(16 * page()).is_err());
    runtime.block_on(async {
        let size = fill(&tx).await;
        assert_eq!(take(&rx, size).await.len(), size);
    });
}
