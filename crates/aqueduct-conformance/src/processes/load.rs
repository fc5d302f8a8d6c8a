//! Cases about load: idle ends, and floods beside a timer.

use nix::sys::signal::Signal;
use tokio_test::{assert_pending, task};

use super::{USUAL, fill, next};
use crate::cpu::{busy_if, timers, uses_no_cpu};
use crate::link::Link;
use crate::program::{Ask, Reply, Talk, body};
use crate::{deadline, rerun, run};

/// Opens it, and makes sure that the process is at work.
async fn open(link: &impl Link, module: &str) -> Talk {
    let mut talk = Talk::open(link, module, USUAL, USUAL).await;
    let asked = deadline(talk.channel.send(Ask::Report)).await;
    asked.expect("it is sent");
    assert!(matches!(
        next(&mut talk.channel).await,
        Reply::Report { .. }
    ));
    talk
}

/// Two processes that wait for each other use less than 10 ms of CPU time per second each.
///
/// So does one that waits for room.
pub fn idle(link: &impl Link, module: &str, test: &str) {
    let test = rerun::listed(module, test);
    if !rerun::is(&test) {
        rerun::alone(&test, |_| {});
        return;
    }
    let size = link.promises().limit(5000).min(4900) - 30;
    run(async {
        let waiting = &mut open(link, module).await;
        let processes = [std::process::id(), waiting.peer.id()];
        uses_no_cpu(&processes, waiting.channel.recv()).await;
        let stuck = &mut open(link, module).await;
        stuck.peer.signal(Signal::SIGSTOP);
        fill(&mut stuck.channel, size).await;
        let mut flush = task::spawn(stuck.channel.flush());
        assert_pending!(flush.poll());
        uses_no_cpu(&processes[..1], flush).await;
    });
}

/// A timer of 10 ms fires within 50 ms of this thread's CPU time during a flood.
///
/// That is, beside a task that receives without end from a process, and beside one that sends to it
/// without end.
pub async fn timer(link: &impl Link, module: &str) {
    for sends_here in [false, true] {
        let Talk {
            mut channel,
            peer: _peer,
            kept: _kept,
        } = open(link, module).await;
        // A task of its own on this thread, as a service of a program is.
        let busy = tokio::spawn(async move {
            if sends_here {
                for number in 0.. {
                    let body = body(number, 10);
                    if channel.feed(Ask::Count { number, body }).await.is_err() {
                        return;
                    }
                    busy_if(true);
                }
            }
            let (count, size) = (u64::MAX, 10);
            if channel.send(Ask::Flood { count, size }).await.is_err() {
                return;
            }
            while channel.recv().await.is_some_and(|it| it.is_ok()) {
                busy_if(true);
            }
        });
        deadline(timers()).await;
        assert!(!busy.is_finished());
        busy.abort();
        let _ = deadline(busy).await;
    }
}
