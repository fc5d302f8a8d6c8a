//! Several servers that want one path.

use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::OpenErrorKind as Kind;
use aqueduct::unix::{self, ConnectOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{leave_stale, lock_of, names, place};
use crate::actor::{Actor, runtime, say, told};
use crate::support::{deadline, is_peer};

#[tokio::test]
async fn a_killed_servers_files_are_taken_over_by_the_next() {
    let (dir, path) = place();
    let mut actor = Actor::spawn("unix::contention::role_contender");
    actor.tell(&format!("bind 0 {}", path.display()));
    assert!(actor.hear().await.starts_with("won"));
    actor.peer.kill();
    assert!(path.exists() && lock_of(&path).exists());
    let listener = unix::bind(&path).expect("the dead do not hold it");
    unix::connect(&path).await.expect("connected");
    drop(listener);
    assert_eq!(names(&dir), [""; 0]);
}

/// `CLOCK_MONOTONIC`, which all processes share.
fn now() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    Duration::from(now.expect("every system has it")).as_nanos()
}

/// Binds when told, at the given moment, answers each connection with its process number, and lets
/// go when told.
#[test]
fn role_contender() {
    if !is_peer("unix::contention::role_contender") {
        return;
    }
    let runtime = runtime();
    let mut server = None;
    while let Some(line) = told() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("bind"), Some(at), Some(path)) => {
                let at: u128 = at.parse().expect("a time");
                while now() < at {
                    std::hint::spin_loop();
                }
                let guard = runtime.enter();
                match unix::bind(path) {
                    Ok(mut listener) => {
                        server = Some(runtime.spawn(async move {
                            while let Some(Ok(mut stream)) = listener.next().await {
                                let _ = stream.write_u32(std::process::id()).await;
                            }
                        }));
                        say(format_args!("won {}", std::process::id()));
                    }
                    Err(error) if error.kind() == &Kind::InUse => say("in use"),
                    Err(other) => say(format_args!("failed: {other:?}")),
                }
                drop(guard);
            }
            // Here, since this process starts no others: one that is just being started would hold
            // a duplicate, and the socket would not be dead yet.
            (Some("stale"), _, Some(path)) => {
                leave_stale(Path::new(path));
                say("left");
            }
            (Some("stop"), ..) => {
                if let Some(server) = server.take() {
                    server.abort();
                    let _ = runtime.block_on(server);
                }
                say("stopped");
            }
            _ => panic!("{line:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_started_at_once_exactly_one_wins() {
    let (dir, path) = place();
    let mut actors = [
        Actor::spawn("unix::contention::role_contender"),
        Actor::spawn("unix::contention::role_contender"),
    ];
    for round in 0..100 {
        actors[0].tell(&format!("stale - {}", path.display()));
        assert_eq!(actors[0].hear().await, "left");
        if round % 2 == 0 {
            // As a killed server leaves it.
            std::fs::write(lock_of(&path), "").expect("written");
        }
        let at = now() + 3_000_000;
        for actor in &mut actors {
            actor.tell(&format!("bind {at} {}", path.display()));
        }
        // A client that does not wait for the outcome.
        let mut options = ConnectOptions::new();
        options.wait(None);
        let early = {
            let path = path.clone();
            tokio::spawn(async move {
                let mut stream = options.connect(path).await.expect("somebody wins");
                stream.read_u32().await.expect("it is served")
            })
        };
        let answers = [actors[0].hear().await, actors[1].hear().await];
        let winners: Vec<_> = answers
            .iter()
            .filter_map(|it| it.strip_prefix("won "))
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {answers:?}");
        assert!(
            answers.iter().any(|it| it == "in use"),
            "round {round}: {answers:?}"
        );
        let winner: u32 = winners[0].parse().expect("a process number");
        assert_eq!(
            deadline(early).await.expect("no panic"),
            winner,
            "round {round}"
        );
        for _ in 0..3 {
            let mut stream = unix::connect(&path).await.expect("connected");
            let served_by = deadline(stream.read_u32()).await.expect("served");
            assert_eq!(served_by, winner, "round {round}");
        }
        for actor in &mut actors {
            actor.tell("stop");
            assert_eq!(actor.hear().await, "stopped");
        }
        assert_eq!(names(&dir), [""; 0], "round {round}");
    }
    for actor in &mut actors {
        actor.succeed().await;
    }
}

/// Binds and lets go as often as it can, and checks each time that it is alone.
#[test]
fn role_restless() {
    if !is_peer("unix::contention::role_restless") {
        return;
    }
    let runtime = runtime();
    let path = PathBuf::from(told().expect("a path"));
    let flag = path.with_extension("held");
    let mut won = 0;
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while won < 100 {
        assert!(
            std::time::Instant::now() < end,
            "only {won} times in a minute"
        );
        let guard = runtime.enter();
        let listener = match unix::bind(&path) {
            Ok(listener) => listener,
            Err(error) if error.kind() == &Kind::InUse => continue,
            Err(other) => panic!("{other:?}"),
        };
        drop(guard);
        std::fs::File::create_new(&flag).expect("nobody else holds the path");
        let client = StdStream::connect(&path).expect("it is ours");
        let peer = unix::peer_credentials(&client).expect("connected");
        assert_eq!(peer.pid, Some(std::process::id() as i32));
        drop(client);
        std::fs::remove_file(&flag).expect("it is ours");
        if won % 3 == 2 {
            // As if killed: the socket stays. The lock goes with the process, or here by hand.
            let keep = path.with_extension("kept");
            std::fs::rename(&path, &keep).expect("it is ours");
            drop(listener);
        } else {
            drop(listener);
        }
        won += 1;
    }
}

#[tokio::test]
async fn servers_that_come_and_go_never_share_the_path() {
    let (dir, path) = place();
    let mut actors: Vec<_> = (0..4)
        .map(|_| Actor::spawn("unix::contention::role_restless"))
        .collect();
    for actor in &mut actors {
        actor.tell(path.to_str().expect("it is text"));
    }
    for actor in &mut actors {
        let status = tokio::time::timeout(Duration::from_secs(90), actor.peer.exit()).await;
        let status = status.expect("in time").expect("it can be waited for");
        assert!(status.success(), "{status}");
    }
    assert_eq!(names(&dir), ["socket.kept"]);
}
