//! What killed processes leave behind: nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use aqueduct::bytes::Bytes;
use aqueduct::{Endpoint, inherited};
use futures_util::{SinkExt, StreamExt};

use super::{accept, place};
use crate::support::{Peer, alone, deadline, is_peer, peer_command};

/// Sends numbered messages for ever.
#[test]
fn role_sender() {
    if !is_peer("shm::left::role_sender") {
        return;
    }
    let address: Endpoint = std::env::var("AQUEDUCT_TEST_ADDRESS")
        .expect("told")
        .parse()
        .expect("an address");
    crate::actor::runtime().block_on(async {
        let (mut sink, _stream) = address.connect().await.expect("it connects").into_frames();
        for i in 0_u64.. {
            let mut body = i.to_be_bytes().to_vec();
            body.resize(8 + (i as usize * 7919) % 40_000, i as u8);
            if sink.send(Bytes::from(body)).await.is_err() {
                break;
            }
        }
    });
}

fn names() -> BTreeSet<String> {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = entries.map(|it| it.file_name().to_string_lossy().into_owned());
    names.filter(|it| it.contains("aqueduct-shm")).collect()
}

/// Shared memory of the whole machine, in KiB.
fn shmem() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc");
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix("Shmem:"))
        .expect("a line");
    line.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

fn maps() -> usize {
    let text = fs::read_to_string("/proc/self/maps").expect("/proc");
    text.lines()
        .filter(|it| it.contains("aqueduct-shm"))
        .count()
}

/// `AQUEDUCT_TEST_KILLS` is how many senders are killed.
#[test]
fn killed_senders_leave_whole_messages_and_no_memory() {
    const TEST: &str = "shm::left::killed_senders_leave_whole_messages_and_no_memory";
    alone(TEST, || {
        let kills = std::env::var("AQUEDUCT_TEST_KILLS")
            .ok()
            .and_then(|it| it.parse().ok());
        let kills: u64 = kills.unwrap_or(20);
        crate::actor::runtime().block_on(async {
            let (_dir, _, address) = place("");
            let mut listener = address.bind().await.expect("it is bound");
            let (before, names_before, files) = (shmem(), names(), open_files());
            let (mut all, mut after_death) = (0, 0);
            for kill in 0..kills {
                let mut command = peer_command("shm::left::role_sender");
                command.env("AQUEDUCT_TEST_ADDRESS", address.to_string());
                let mut sender = Peer::spawn(&mut command);
                let mut stream = accept(&mut listener).await.into_receiver();
                let at = 1 + (kill * 37) % 400;
                let mut next = 0_u64;
                let mut killed = false;
                while let Some(message) = deadline(stream.next()).await {
                    let Ok(message) = message else {
                        // Its last message is cut off.
                        break;
                    };
                    let body = message.into_body();
                    assert_eq!(body[..8], next.to_be_bytes());
                    assert_eq!(body.len(), 8 + (next as usize * 7919) % 40_000);
                    assert!(body[8..].iter().all(|it| *it == next as u8));
                    next += 1;
                    after_death += u64::from(killed);
                    if next == at {
                        sender.kill();
                        killed = true;
                    }
                }
                assert!(killed && next >= at);
                all += next;
            }
            println!("{kills} kills: {all} messages in order, {after_death} after the kill");
            assert_eq!((maps(), open_files(), names()), (0, files, names_before));
            // Others use shared memory too; each sender had more than 100 KiB.
            let grown = shmem() - before;
            assert!(grown < 100 * kills as i64 + 20_000, "{grown} KiB");
        });
    });
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn a_closed_connection_leaves_no_mapping_and_no_descriptor() {
    const TEST: &str = "shm::left::a_closed_connection_leaves_no_mapping_and_no_descriptor";
    alone(TEST, || {
        let runtime = crate::actor::runtime();
        runtime.block_on(async {
            let (_dir, _, address) = place("");
            let mut listener = address.bind().await.expect("it is bound");
            super::serves(&address, &mut listener).await;
            let before = open_files();
            for _ in 0..10 {
                super::serves(&address, &mut listener).await;
            }
            assert_eq!((maps(), open_files()), (0, before));
            let idle = (
                address.connect().await.expect("it connects"),
                accept(&mut listener).await,
            );
            // A client: its socket, its memory, its bell. A server before the hello: its socket.
            assert!(open_files() - before <= 5, "{}", open_files() - before);
            drop(idle);
            assert_eq!((maps(), open_files()), (0, before));
        });
    });
    let _ = inherited::claim as *const ();
}

/// KiB that the system has given to each piece of memory of this process.
fn given() -> Vec<u64> {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let memory = entries.map(|it| it.path()).filter(|it| {
        let link = fs::read_link(it).unwrap_or_default();
        link.to_string_lossy().starts_with("/memfd:aqueduct-shm")
    });
    memory
        .map(|it| fs::metadata(it).expect("it is open").blocks() / 2)
        .collect()
}

#[test]
fn a_message_each_way_takes_a_page_of_each_side() {
    const TEST: &str = "shm::left::a_message_each_way_takes_a_page_of_each_side";
    alone(TEST, || {
        crate::actor::runtime().block_on(async {
            let (_dir, _, address) = place("");
            let (client, server, _listener) = super::pair(&address).await;
            let (mut client, mut server) = (client.into_frames(), server.into_frames());
            let message = || Bytes::from(vec![1; 1000]);
            client.0.send(message()).await.expect("it is sent");
            deadline(server.1.next())
                .await
                .expect("one")
                .expect("whole");
            server.0.send(message()).await.expect("it is sent");
            deadline(client.1.next())
                .await
                .expect("one")
                .expect("whole");
            let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
            let page = page.expect("known").expect("limited") as u64 / 1024;
            assert_eq!(given(), [page, page]);
        });
    });
}
