//! Reaping the orphans that a service gets as PID 1 of a container.

use std::fs;
use std::future::pending;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::group;

/// How long after a process has ended its zombie is looked for, with those of others.
const PAUSE: Duration = Duration::from_secs(1);

/// Reaps what the programs at work leave behind, if this process is the parent of orphans. Does not
/// end.
pub(super) async fn reap() {
    let gets_orphans = getpid() == Pid::from_raw(1) || prctl::get_child_subreaper() == Ok(true);
    let ended = signal(SignalKind::child()).ok().filter(|_| gets_orphans);
    let Some(mut ended) = ended else {
        return pending().await;
    };
    while ended.recv().await.is_some() {
        sleep(PAUSE).await;
        for pid in zombies() {
            // A program at work is waited for elsewhere.
            if !group::is_at_work(pid) {
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
        }
    }
    pending::<()>().await;
}

/// The children of this process that have ended, by what `/proc` says.
fn zombies() -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|it| it.file_name().to_str()?.parse().ok());
    let ours = pids.filter(|pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        is_zombie_of(&stat, getpid())
    });
    ours.map(Pid::from_raw).collect()
}

/// Reads `proc_pid_stat(5)`: behind the name, which may hold anything, the state and the parent.
fn is_zombie_of(stat: &str, parent: Pid) -> bool {
    let rest = stat.rsplit_once(')').map_or("", |it| it.1);
    let mut fields = rest.split_whitespace();
    fields.next() == Some("Z") && fields.next() == Some(&parent.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_is_recognised_whatever_its_name_is() {
        let parent = Pid::from_raw(7);
        assert!(is_zombie_of("12 (a) R 1 (b)) Z 7 12 12 0", parent));
        assert!(!is_zombie_of("12 (cat) S 7 12 12 0", parent));
        assert!(!is_zombie_of("12 (cat) Z 71 12 12 0", parent));
        assert!(!is_zombie_of("", parent));
    }
}
