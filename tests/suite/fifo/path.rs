//! What becomes of the path while a FIFO is open.

use std::fs;
use std::time::Duration;

use aqueduct::fifo::{OpenOptions, PathState};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio_test::{assert_pending, task};

use super::{cpu, persistent, with_fifo};
use crate::support::deadline;

#[tokio::test]
async fn a_path_that_was_removed_or_made_anew_is_noticed() {
    let (_dir, path) = with_fifo();
    let old = persistent(&path);
    assert_eq!(old.path(), path);
    assert_eq!(old.path_state().unwrap(), PathState::Current);
    let mut wait = task::spawn(old.orphaned());
    assert_pending!(wait.poll());

    fs::remove_file(&path).unwrap();
    assert_eq!(old.path_state().unwrap(), PathState::Missing);
    assert_eq!(deadline(wait).await.unwrap(), PathState::Missing);

    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    assert_eq!(old.path_state().unwrap(), PathState::Replaced);
    assert_eq!(deadline(old.orphaned()).await.unwrap(), PathState::Replaced);
    // A writer that comes now does not meet the old reader.
    let error = OpenOptions::new().try_open_sender(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
}

#[tokio::test]
async fn a_path_that_another_fifo_was_moved_to_is_noticed() {
    let (dir, path) = with_fifo();
    let old = persistent(&path);
    let mut wait = task::spawn(old.orphaned());
    assert_pending!(wait.poll());
    let other = dir.path().join("other");
    mkfifo(&other, Mode::from_bits_truncate(0o600)).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_eq!(deadline(wait).await.unwrap(), PathState::Replaced);

    let moved = persistent(&path);
    let mut wait = task::spawn(moved.orphaned());
    assert_pending!(wait.poll());
    fs::rename(&path, &other).unwrap();
    assert_eq!(deadline(wait).await.unwrap(), PathState::Missing);
}

/// No event tells of this one: it is found by looking from time to time.
#[tokio::test]
async fn a_directory_that_was_moved_away_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("fifo");
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let receiver = persistent(&path);
    let mut wait = task::spawn(receiver.orphaned());
    assert_pending!(wait.poll());
    fs::rename(&inner, dir.path().join("elsewhere")).unwrap();
    assert_eq!(deadline(wait).await.unwrap(), PathState::Missing);
}

#[tokio::test]
async fn any_number_may_wait_for_the_path_to_change_and_again_when_it_has() {
    let (_dir, path) = with_fifo();
    let receiver = persistent(&path);
    let mut first = task::spawn(receiver.orphaned());
    let mut second = task::spawn(receiver.orphaned());
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    fs::remove_file(&path).unwrap();
    assert_eq!(deadline(first).await.unwrap(), PathState::Missing);
    assert_eq!(deadline(second).await.unwrap(), PathState::Missing);
    for _ in 0..2 {
        let state = deadline(receiver.orphaned()).await.unwrap();
        assert_eq!(state, PathState::Missing);
    }
    // As it is at each time.
    mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let state = deadline(receiver.orphaned()).await.unwrap();
    assert_eq!(state, PathState::Replaced);
}

#[tokio::test]
async fn waiting_for_the_path_to_change_costs_no_cpu() {
    let (_dir, path) = with_fifo();
    let receiver = persistent(&path);
    let before = cpu();
    let waited = tokio::time::timeout(Duration::from_secs(1), receiver.orphaned()).await;
    let used = cpu() - before;
    assert!(waited.is_err());
    assert!(used < Duration::from_millis(10), "{used:?}");
}
