use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::program::Program;
use crate::support::deadline;

/// The process of a worker that has just been started.
async fn started(supervisor: &mut Program, number: usize) -> i32 {
    let pid = supervisor
        .error(&format!("worker {number}: started, process "))
        .await;
    pid.parse().unwrap()
}

/// Waits until a process is no more, or waits for nothing but to be reaped by somebody else.
async fn is_gone(pid: i32) {
    let gone = async {
        loop {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            let state = stat.ok().and_then(|it| {
                let (_, rest) = it.rsplit_once(") ")?;
                rest.chars().next()
            });
            if matches!(state, None | Some('Z' | 'X')) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    deadline(gone).await;
}

async fn answers(supervisor: &mut Program, job: &str) {
    supervisor.say(job).await;
    let answer: String = job.chars().rev().collect();
    assert_eq!(supervisor.line().await, Some(answer));
}

#[tokio::test]
async fn a_worker_that_dies_is_replaced_and_no_job_is_lost() {
    let mut supervisor = Program::start("supervisor", ["1"]);
    let first = started(&mut supervisor, 1).await;
    answers(&mut supervisor, "abc").await;

    // Idle.
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let why = supervisor.error("worker 1: it has gone while idle").await;
    assert!(why.contains("signal: 9"), "{why}");
    let second = started(&mut supervisor, 1).await;
    assert_ne!(first, second);
    answers(&mut supervisor, "def").await;

    // With a job in hand: stopped, so that it cannot answer before it is killed.
    kill(Pid::from_raw(second), Signal::SIGSTOP).unwrap();
    supervisor.say("in hand").await;
    supervisor.say("behind it").await;
    kill(Pid::from_raw(second), Signal::SIGKILL).unwrap();
    let third = started(&mut supervisor, 1).await;
    assert_eq!(supervisor.line().await.as_deref(), Some("dnah ni"));
    assert_eq!(supervisor.line().await.as_deref(), Some("ti dniheb"));

    // A job that kills each worker is given up, and the next one is done.
    supervisor.say("crash").await;
    supervisor.say("after").await;
    let why = supervisor
        .error("worker 1: it has gone with a job in hand")
        .await;
    assert!(why.contains("exit status: 70"), "{why}");
    let gave_up = supervisor.error("job 5: gave up").await;
    assert_eq!(gave_up, ", it has cost 3 workers");
    let last = started(&mut supervisor, 1).await;
    assert_eq!(supervisor.line().await.as_deref(), Some("retfa"));

    supervisor.end_input();
    supervisor
        .error("worker 1: ended with exit status: 0")
        .await;
    supervisor.error("supervisor: all workers have ended").await;
    supervisor.succeeds().await;
    for pid in [first, second, third, last] {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "reaped");
    }
}

#[tokio::test]
async fn at_the_end_of_the_input_all_jobs_are_finished() {
    let mut supervisor = Program::start("supervisor", ["3"]);
    for n in 0..500 {
        supervisor.say(&format!("{n}#")).await;
    }
    supervisor.end_input();
    let mut done = supervisor.succeeds().await;
    done.sort();
    let mut expected: Vec<String> = (0..500)
        .map(|n| format!("{n}#").chars().rev().collect())
        .collect();
    expected.sort();
    assert_eq!(done, expected);
}

#[tokio::test]
async fn sigterm_ends_supervisor_and_workers_and_kills_a_hung_one() {
    let mut supervisor = Program::start("supervisor", ["2"]);
    let workers = [
        started(&mut supervisor, 1).await,
        started(&mut supervisor, 2).await,
    ];
    answers(&mut supervisor, "abc").await;
    kill(Pid::from_raw(workers[0]), Signal::SIGSTOP).unwrap();
    supervisor.signal(Signal::SIGTERM);
    let killed = supervisor.error("worker 1: killed, ").await;
    assert!(killed.contains("signal: 9"), "{killed}");
    supervisor.succeeds().await;
    for pid in workers {
        assert!(kill(Pid::from_raw(pid), None).is_err(), "reaped");
    }
}

#[tokio::test]
async fn workers_of_a_killed_supervisor_see_the_end_and_exit() {
    let mut supervisor = Program::start("supervisor", ["2"]);
    let workers = [
        started(&mut supervisor, 1).await,
        started(&mut supervisor, 2).await,
    ];
    supervisor.signal(Signal::SIGKILL);
    supervisor.exit().await;
    for pid in workers {
        is_gone(pid).await;
    }
}
