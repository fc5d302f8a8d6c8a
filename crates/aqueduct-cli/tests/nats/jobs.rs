//! Jobs from a queue through a relay and a stream to workers, all of which are killed meanwhile.
//! `AQUEDUCT_NATS_JOBS` is how many (2,000), `AQUEDUCT_NATS_KILLS` how many kills.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aqueduct::connect::Message;
use aqueduct_conformance::deadline;
use futures_util::SinkExt;

use crate::server::Server;
use crate::{endpoint, receiver, sender};

/// How many jobs a worker has in hand.
const IN_HAND: usize = 4;
/// What the relay sends again at most: all of its spool, or its window.
const SPOOL: usize = 1024;
const WINDOW: usize = 256;
/// Fails for one job of a hundred, and notes the others. One whose worker is killed before it gets its
/// job reads nothing.
const WORK: &str = "read n; case $n in ''|*13) exit 1 ;; *) echo $n >>\"$0\" ;; esac";

struct Jobs {
    queue: String,
    stream: String,
    dead: String,
}

impl Jobs {
    fn relay(&self, dir: &Path) -> Child {
        start(
            Command::new(env!("CARGO_BIN_EXE_aqueduct"))
                .args(["--quiet", "relay", &self.queue, &self.stream, "--spool"])
                .arg(dir.join("spool")),
        )
    }

    fn worker(&self, dir: &Path) -> Child {
        let jobs = IN_HAND.to_string();
        start(
            Command::new(env!("CARGO_BIN_EXE_aqueduct"))
                .args(["--quiet", "serve", &self.stream, "--jobs", &jobs])
                .args(["--on-fail", &self.dead, "--", "sh", "-c", WORK])
                .arg(dir.join("done"))
                .stderr(Stdio::null()),
        )
    }
}

fn start(command: &mut Command) -> Child {
    let child = command.stdin(Stdio::null()).spawn();
    child.expect("it can be run")
}

fn kill(child: &mut Child) {
    child.kill().expect("it is a child");
    child.wait().expect("it is a child");
}

/// How often each job is in the file.
fn done(dir: &Path) -> BTreeMap<usize, usize> {
    let text = std::fs::read_to_string(dir.join("done")).unwrap_or_default();
    let mut done = BTreeMap::new();
    for line in text.lines() {
        *done.entry(line.parse().expect("a number")).or_insert(0) += 1;
    }
    done
}

fn fails(job: usize) -> bool {
    job % 100 == 13
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_is_done_or_failed_while_all_are_killed() {
    let count = std::env::var("AQUEDUCT_NATS_JOBS").ok();
    let count: usize = count.and_then(|it| it.parse().ok()).unwrap_or(2000);
    let mut server = Server::new();
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    let queue = format!("/aqueduct-nats-jobs-{}", std::process::id());
    let jobs = Jobs {
        queue: format!("mq:{queue}"),
        stream: server
            .at("jobs?stream=JOBS&consumer=work&create=true&retention=workqueue&ack-wait=2"),
        dead: server.at("dead?stream=DEAD&consumer=check&create=true"),
    };
    let mut outgoing = sender(&jobs.queue).await;
    let sending = tokio::spawn(async move {
        for job in 0..count {
            let sent = outgoing.send(Message::new(job.to_string())).await;
            sent.expect("it goes on");
        }
    });
    drop(receiver(&jobs.stream).await);
    // Its consumer is created at the end: what is given back while a server dies comes again late.
    drop(sender(&jobs.dead).await);
    let mut relay = jobs.relay(dir);
    let mut workers = [jobs.worker(dir), jobs.worker(dir)];
    let most = crate::kills::kills();
    let (mut kills, mut relays, mut servers) = (0, 0, 0);
    let mut quiet = 0;
    // Until nothing is on its way for a while: the queue is empty, the consumer has settled everything, and
    // each job that no relay has lost has its outcome. How many messages the stream has does not tell: a
    // server that was killed may keep settled ones.
    while quiet < 5 {
        let failed = server.messages("DEAD").await as usize;
        let finished = sending.is_finished()
            && is_empty(&queue)
            && server.unfinished("JOBS", "work").await == 0
            && done(dir).len() + failed + relays >= count;
        quiet = if finished { quiet + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(300)).await;
        if finished || kills == most {
            continue;
        }
        kills += 1;
        match kills % 4 {
            0 => {
                tokio::task::block_in_place(|| server.restart());
                servers += 1;
            }
            1 => {
                kill(&mut relay);
                relays += 1;
                relay = jobs.relay(dir);
            }
            which => {
                let worker = &mut workers[which - 2];
                kill(worker);
                *worker = jobs.worker(dir);
            }
        }
        // They have time to do something.
        tokio::time::sleep(Duration::from_millis(1200)).await;
    }
    deadline(sending).await.expect("no panic");
    kill(&mut relay);
    workers.iter_mut().for_each(kill);
    let removed = endpoint(&jobs.queue).remove().await;
    removed.expect("it is there");
    let dead = dead(&jobs.dead, server.messages("DEAD").await).await;
    let done = done(dir);
    let lost = (0..count).filter(|it| !done.contains_key(it) && !dead.contains_key(it));
    let lost = lost.count();
    let again = |it: &BTreeMap<usize, usize>| it.values().map(|n| n - 1).sum::<usize>();
    println!(
        "{count} jobs, {kills} kills: {lost} lost with {relays} relays; {} done, {} again; {} failed, {} again",
        done.len(),
        again(&done),
        dead.len(),
        again(&dead)
    );
    assert!(dead.keys().all(|it| fails(*it)) && !done.keys().any(|it| fails(*it)));
    assert!(lost <= relays, "{lost} are lost with {relays} relays");
    // Those in hand of the workers that died, or whose server did. A server that was killed does not know
    // the ids of removed messages any more: what the relay sends again is stored again.
    let most = 2 * IN_HAND * kills + (SPOOL + WINDOW) * servers;
    assert!(
        again(&done) + again(&dead) <= most,
        "more than {most} again"
    );
}

/// Whether a queue has no messages.
fn is_empty(queue: &str) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aqueduct"));
    let output = command.args(["mq", "info", queue, "--json"]).output();
    let text = String::from_utf8(output.expect("it can be run").stdout).expect("it is text");
    text.contains("\"messages\":0,")
}

/// The failed jobs, and how often each is there.
async fn dead(address: &str, count: u64) -> BTreeMap<usize, usize> {
    let mut incoming = receiver(address).await;
    let mut dead = BTreeMap::new();
    for _ in 0..count {
        let mut message = crate::next(&mut incoming).await;
        let text = String::from_utf8_lossy(message.body()).into_owned();
        *dead.entry(text.parse().expect("a number")).or_insert(0) += 1;
        message.take_receipt().expect("it has one").settle();
    }
    dead
}
