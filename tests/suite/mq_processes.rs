//! Message queues between processes: crowds of consumers, and SIGKILL.

use std::collections::HashMap;
use std::fs::{File, OpenOptions as FileOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aqueduct::mq::{Driver, OpenOptions, Queue};
use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::mq::{QueueName, message, over_both_drivers, stream};
use crate::mq_runtime::runtime;
use crate::support::{Peer, deadline, is_peer, peer_command};

over_both_drivers!(a_killed_senders_message_stays, a_stopped_process_goes_on,);

const NAME: &str = "AQUEDUCT_TEST_QUEUE";
const DRIVER: &str = "AQUEDUCT_TEST_DRIVER";
const NUMBER: &str = "AQUEDUCT_TEST_NUMBER";
const COUNT: &str = "AQUEDUCT_TEST_COUNT";
const FILE: &str = "AQUEDUCT_TEST_FILE";
const ENDS: &str = "AQUEDUCT_TEST_ENDS";

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

fn queue_of_peer(options: &mut OpenOptions) -> Queue {
    let driver = variable(DRIVER).parse().unwrap();
    options.driver(driver).open(variable(NAME)).unwrap()
}

fn peer(role: &str, name: &QueueName, driver: Driver) -> Command {
    let mut command = peer_command(role);
    command
        .env(NAME, &name.0)
        .env(DRIVER, driver.to_string())
        .stdout(Stdio::null());
    command
}

fn number(body: &[u8]) -> u32 {
    u32::from_le_bytes(body.try_into().expect("four bytes"))
}

/// Sends its own share of numbers, and announces its end to all consumers.
#[test]
fn producer() {
    if !is_peer("mq_processes::producer") {
        return;
    }
    runtime().block_on(async {
        let queue = queue_of_peer(OpenOptions::new().write(true));
        let first: u32 = variable(NUMBER).parse().unwrap();
        let count: u32 = variable(COUNT).parse().unwrap();
        for i in first..first + count {
            queue.send(0, &i.to_le_bytes()).await.unwrap();
        }
        for _ in 0..variable(ENDS).parse().unwrap() {
            queue.send(0, b"").await.unwrap();
        }
    });
}

/// Writes what it receives to its file, until as many ends have come as there are producers.
#[test]
fn consumer() {
    if !is_peer("mq_processes::consumer") {
        return;
    }
    runtime().block_on(async {
        let queue = queue_of_peer(OpenOptions::new().read(true));
        let mut receiver = stream(&Arc::new(queue));
        let mut ends: u32 = variable(ENDS).parse().unwrap();
        let mut file = BufWriter::new(File::create(variable(FILE)).unwrap());
        while ends > 0 {
            let body = receiver.next().await.unwrap().unwrap();
            ends -= u32::from(body.is_empty());
            file.write_all(&body).unwrap();
        }
        file.flush().unwrap();
    });
}

/// As `consumer`, but each message is in the file before the next is received: this one is killed.
#[test]
fn mortal_consumer() {
    if !is_peer("mq_processes::mortal_consumer") {
        return;
    }
    runtime().block_on(async {
        let queue = queue_of_peer(OpenOptions::new().read(true).end_marker(true));
        let mut receiver = stream(&Arc::new(queue));
        let mut file = FileOptions::new()
            .create(true)
            .append(true)
            .open(variable(FILE))
            .unwrap();
        while let Some(body) = receiver.next().await {
            assert_eq!(file.write(&body.unwrap()).unwrap(), 4);
        }
    });
}

/// Sends one message when it is asked to by its number, and then never ends.
#[test]
fn sender_that_stays() {
    if !is_peer("mq_processes::sender_that_stays") {
        return;
    }
    runtime().block_on(async {
        let queue = queue_of_peer(OpenOptions::new().write(true));
        queue.send(5, b"last words").await.unwrap();
        std::future::pending::<()>().await;
    });
}

/// Echoes from one queue to the same, adding 100.
#[test]
fn echo() {
    if !is_peer("mq_processes::echo") {
        return;
    }
    runtime().block_on(async {
        let queue = queue_of_peer(&mut OpenOptions::new());
        loop {
            let message = queue.recv().await.unwrap();
            let back = OpenOptions::new().open(variable(FILE)).unwrap();
            back.send(message.priority().unwrap(), message.body())
                .await
                .unwrap();
        }
    });
}

/// What a process has sent stays when it is killed.
async fn a_killed_senders_message_stays(driver: Driver) {
    let name = QueueName::new();
    let queue = name.create(driver, 2, 16);
    let mut sender = Peer::spawn(&mut peer("mq_processes::sender_that_stays", &name, driver));
    while queue.attributes().unwrap().messages == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sender.kill();
    assert_eq!(queue.recv().await.unwrap(), message(5, "last words"));
}

/// A wait that a signal interrupts goes on. `epoll_wait` ends with `EINTR` when a process
/// is continued, even without any handler (`signal(7)`).
async fn a_stopped_process_goes_on(driver: Driver) {
    let (there, back) = (QueueName::new(), QueueName::new());
    let (to, from) = (there.create(driver, 1, 8), back.create(driver, 1, 8));
    let mut command = peer("mq_processes::echo", &there, driver);
    let echo = Peer::spawn(command.env(FILE, &back.0));
    let pid = Pid::from_raw(i32::try_from(echo.0.id()).unwrap());
    for round in 0..20_u8 {
        to.send(u32::from(round), &[round]).await.unwrap();
        assert_eq!(
            from.recv().await.unwrap(),
            message(round.into(), vec![round])
        );
        kill(pid, Signal::SIGSTOP).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
    }
}

/// Whose numbers are in the file, in the order in which they came.
fn numbers(path: &Path) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.chunks_exact(4).map(number).collect()
}

/// Each producer's numbers are in order within one file.
fn assert_in_order(numbers: &[u32], share: u32) {
    let mut last = HashMap::new();
    for i in numbers {
        let before = last.insert(i / share, *i);
        assert!(before.is_none_or(|it| it < *i), "{i} came after {before:?}");
    }
}

/// Four consumers and two producers, drivers mixed: 0 lost, 0 twice, 0 hung.
async fn crowd(capacity: usize, total: u32) {
    const PRODUCERS: u32 = 2;
    const CONSUMERS: usize = 4;
    let name = QueueName::new();
    let queue = name.create(Driver::Pool, capacity, 8);
    let directory = tempfile::tempdir().unwrap();
    let drivers = [Driver::Pool, Driver::AsyncFd];
    let files: Vec<PathBuf> = (0..CONSUMERS)
        .map(|i| directory.path().join(i.to_string()))
        .collect();
    let mut peers: Vec<Peer> = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let mut command = peer("mq_processes::consumer", &name, drivers[i % 2]);
        command.env(FILE, file).env(ENDS, PRODUCERS.to_string());
        peers.push(Peer::spawn(&mut command));
    }
    let share = total / PRODUCERS;
    for i in 0..PRODUCERS {
        let mut command = peer("mq_processes::producer", &name, drivers[i as usize % 2]);
        command
            .env(NUMBER, (i * share).to_string())
            .env(COUNT, share.to_string());
        command.env(ENDS, CONSUMERS.to_string());
        peers.push(Peer::spawn(&mut command));
    }
    for peer in &mut peers {
        succeeds(peer).await;
    }
    let mut all = Vec::new();
    for file in &files {
        let got = numbers(file);
        assert_in_order(&got, share);
        all.extend(got);
    }
    all.sort_unstable();
    assert_eq!(all.len(), total as usize, "0 lost, 0 twice");
    assert!(all.iter().copied().eq(0..total));
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

#[tokio::test]
async fn a_crowd_on_a_queue_of_ten_loses_and_doubles_nothing() {
    crowd(10, 200_000).await;
}

#[tokio::test]
async fn a_crowd_on_a_queue_of_one_loses_and_doubles_nothing() {
    crowd(1, 200_000).await;
}

/// A consumer that is killed takes at most the message in its hands with it.
#[tokio::test]
async fn killed_consumers_lose_at_most_one_message_each() {
    const TOTAL: u32 = 20_000;
    const PRODUCERS: u32 = 2;
    const CONSUMERS: usize = 4;
    const KILLS: usize = 40;
    let name = QueueName::new();
    let queue = name.create(Driver::Pool, 10, 8);
    let directory = tempfile::tempdir().unwrap();
    let file = |i: usize| directory.path().join(i.to_string());
    let drivers = [Driver::Pool, Driver::AsyncFd];
    let consumer = |i: usize| {
        let mut command = peer("mq_processes::mortal_consumer", &name, drivers[i % 2]);
        Peer::spawn(command.env(FILE, file(i)))
    };
    let mut consumers: Vec<(usize, Peer)> = (0..CONSUMERS).map(|i| (i, consumer(i))).collect();
    let share = TOTAL / PRODUCERS;
    let producer = |i: u32| {
        let mut command = peer("mq_processes::producer", &name, drivers[i as usize % 2]);
        command
            .env(NUMBER, (i * share).to_string())
            .env(COUNT, share.to_string());
        Peer::spawn(command.env(ENDS, "0"))
    };
    let mut producers: Vec<Peer> = (0..PRODUCERS).map(producer).collect();

    let seen = || {
        (0..CONSUMERS + KILLS)
            .map(|i| numbers(&file(i)).len())
            .sum::<usize>()
    };
    for kill in 0..KILLS {
        // Among messages: the next kill is when some more have come.
        let enough = (kill + 1) * (TOTAL as usize / 2 / KILLS);
        deadline(async {
            while seen() < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let next = CONSUMERS + kill;
        let (_, killed) = &mut consumers[kill % CONSUMERS];
        killed.kill();
        consumers[kill % CONSUMERS] = (next, consumer(next));
    }
    for producer in &mut producers {
        succeeds(producer).await;
    }
    for _ in 0..CONSUMERS {
        queue.send(0, b"").await.unwrap();
    }
    for (_, consumer) in &mut consumers {
        succeeds(consumer).await;
    }
    let mut all = Vec::new();
    for i in 0..CONSUMERS + KILLS {
        let got = numbers(&file(i));
        assert_in_order(&got, share);
        all.extend(got);
    }
    let received = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), received, "none twice");
    let lost = TOTAL as usize - received;
    assert!(lost <= KILLS, "{lost} messages lost in {KILLS} kills");
    assert_eq!(queue.attributes().unwrap().messages, 0);
}

/// The kernel may give a message's wake-up to a process that is stopped: the others look by themselves.
#[tokio::test]
async fn stopped_workers_hold_no_message_back() {
    const WORKERS: usize = 8;
    let name = QueueName::new();
    let queue = name.create(Driver::Pool, 10, 8);
    let directory = tempfile::tempdir().unwrap();
    let file = |i: usize| directory.path().join(i.to_string());
    let mut workers: Vec<Peer> = (0..WORKERS)
        .map(|i| {
            let mut command = peer("mq_processes::mortal_consumer", &name, Driver::Pool);
            Peer::spawn(command.env(FILE, file(i)))
        })
        .collect();
    let mut sent = 0_u32;
    let all_received = async |sent: u32| {
        let seen = || (0..WORKERS).map(|i| numbers(&file(i)).len()).sum::<usize>();
        deadline(async {
            while seen() < sent as usize {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    };
    for _ in 0..10 {
        // They meet each other.
        for _ in 0..500 {
            queue.send(0, &sent.to_le_bytes()).await.unwrap();
            sent += 1;
        }
        all_received(sent).await;
        let signal_all = |signal: Signal| {
            for worker in &workers[1..] {
                kill(Pid::from_raw(worker.0.id().try_into().unwrap()), signal).unwrap();
            }
        };
        signal_all(Signal::SIGSTOP);
        // A worker that still runs for a moment would receive a message and stop with it in hand.
        for worker in &workers[1..] {
            let id = Pid::from_raw(worker.0.id().try_into().unwrap());
            let stopped = waitpid(id, Some(WaitPidFlag::WUNTRACED)).unwrap();
            assert_eq!(stopped, WaitStatus::Stopped(id, Signal::SIGSTOP));
        }
        for _ in 0..3 {
            queue.send(0, &sent.to_le_bytes()).await.unwrap();
            sent += 1;
        }
        all_received(sent).await;
        signal_all(Signal::SIGCONT);
    }
    for _ in 0..WORKERS {
        queue.send(0, b"").await.unwrap();
    }
    for worker in &mut workers {
        succeeds(worker).await;
    }
}

/// Waits for a peer that has much to do, on a machine that may be busy.
async fn succeeds(peer: &mut Peer) {
    let limit = Duration::from_secs(240);
    let ended = tokio::time::timeout(limit, async {
        loop {
            if let Some(status) = peer.0.try_wait().expect("it is our child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(ended.await.expect("it ends").success());
}
