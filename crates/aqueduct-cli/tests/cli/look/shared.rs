//! `aqueduct list` of connections by shared memory.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

use super::list;
use crate::support::{Dir, Running, aqueduct, expect, run, start, until};

const CAPACITY: u64 = 2 << 20;
const NOBODY: u32 = 65534;

/// An abstract address of this test's own.
fn own(name: &str) -> String {
    format!("shm:@aqueduct-cli-{name}-{}", std::process::id())
}

fn connections(prefix: &str) -> Vec<Value> {
    let things = list(&["--all", prefix]).into_iter();
    things.filter(|it| it["kind"] == "connection").collect()
}

/// A receiver, and a sender that waits for more input.
fn pair(address: &str) -> (Running, Running, ChildStdin) {
    let receiver = start(&mut aqueduct(&["recv", "-v", address]));
    until("it listens", || {
        let unix = address.replacen("shm", "unix", 1);
        list(&[&unix]).iter().any(|it| it["address"] == unix)
    });
    let mut sender = start(aqueduct(&["send", address]).stdin(Stdio::piped()));
    let mut input = sender.stdin();
    input.write_all(b"first\n").unwrap();
    receiver.printed(6);
    (receiver, sender, input)
}

fn pids(thing: &Value, key: &str) -> Vec<u32> {
    let ends = thing[key].as_array().unwrap().iter();
    ends.map(|it| serde_json::from_value(it["pid"].clone()).unwrap())
        .collect()
}

#[test]
fn a_connection_is_listed_with_both_ends_and_what_waits() {
    let address = own("both");
    let (receiver, sender, mut input) = pair(&address);
    let ends = [receiver.pid(), sender.pid()];
    until("the receiver sleeps", || {
        let found = connections(&address);
        assert_eq!(found.len(), 1, "{found:?}");
        let thing = &found[0];
        assert_eq!(
            (&thing["address"], &thing["state"]),
            (&address.as_str().into(), &"in use".into())
        );
        assert_eq!(
            (pids(thing, "sides"), pids(thing, "open_by")),
            (ends.to_vec(), ends.to_vec())
        );
        for side in thing["sides"].as_array().unwrap() {
            assert_eq!(
                (&side["command"], &side["capacity"]),
                (&"aqueduct".into(), &CAPACITY.into())
            );
        }
        thing["sides"][0]["waits_for_data"] == true && thing["sides"][1]["unread"] == 0
    });
    let text = |args: &[&str]| String::from_utf8(expect(run(&mut aqueduct(args)), 0).0).unwrap();
    let table = text(&["list", &address]);
    let row = format!(
        "{address}\tin use\t0/{CAPACITY} 0/{CAPACITY}\taqueduct\taqueduct[{}]:asleep ",
        ends[0]
    );
    assert!(table.contains(&row), "{table}");

    // A receiver that is stopped: what is written stays in the ring.
    receiver.signal(Signal::SIGSTOP);
    input.write_all(b"second\n").unwrap();
    until("the message waits", || {
        connections(&address)[0]["sides"][1]["unread"] == "second\n".len()
    });
    receiver.signal(Signal::SIGCONT);
    receiver.printed(13);
    until("it is read", || {
        connections(&address)[0]["sides"][1]["unread"] == 0
    });
}

#[test]
fn killed_ends_of_a_connection_leave_nothing_to_clean() {
    let dir = Dir::new();
    let address = format!("shm:{}", dir.path("socket").display());
    let (receiver, sender, input) = pair(&address);
    assert_eq!(connections(&address).len(), 1);
    let within = dir.path("").display().to_string();
    assert!(list(&[&within]).iter().any(|it| it["address"] == address));
    for end in [&receiver, &sender] {
        end.signal(Signal::SIGKILL);
    }
    drop((receiver, sender, input));
    assert_eq!(connections(&address), [] as [Value; 0]);
    // As with every Unix socket its file is left, and nothing else.
    let (cleaned, _) = expect(
        run(&mut aqueduct(&["clean", "--yes", "--json", &within])),
        0,
    );
    let cleaned = String::from_utf8(cleaned).unwrap();
    assert_eq!(cleaned.lines().count(), 1, "{cleaned}");
    assert!(cleaned.contains("\"kind\":\"socket\""), "{cleaned}");
    assert_eq!(list(&[&within]), [] as [Value; 0]);
}

/// Memory with these words, by the name that `aqueduct list` looks for.
fn memory(len: u64, words: &[(u64, u64)]) -> File {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"aqueduct-shm", flags).unwrap());
    file.set_len(len).unwrap();
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    for (at, word) in words {
        let fits = at + 8 <= len;
        assert!(!fits || file.write_all_at(&word.to_ne_bytes(), *at).is_ok());
    }
    file
}

fn inode(fd: &impl AsRawFd) -> u64 {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    fs::metadata(path).unwrap().ino()
}

/// The socket and the memory that a process has open.
fn of_process(pid: u32) -> (Vec<u64>, u64) {
    let (mut sockets, mut memory) = (Vec::new(), None);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        let (link, file) = (
            link.to_string_lossy().into_owned(),
            fs::metadata(entry.path()),
        );
        let Ok(file) = file else { continue };
        if link.starts_with("socket:") {
            sockets.push(file.ino());
        } else if link.starts_with("/memfd:aqueduct-shm") {
            memory = Some(file.ino());
        }
    }
    (sockets, memory.unwrap())
}

/// What a process writes into its own memory is shown as its own, and changes nothing else.
#[test]
fn memory_that_lies_misleads_nobody() {
    let magic = u64::from_le_bytes(*b"aqueduct");
    let address = own("lies");
    let (receiver, sender, _input) = pair(&address);
    let (sockets, honest) = of_process(receiver.pid());
    let (one, other): (OwnedFd, OwnedFd) = UnixStream::pair()
        .map(|(a, b)| (a.into(), b.into()))
        .unwrap();
    let len = 512 + 65536;
    let mut lies = vec![
        // Of another version, of no size, too short for its words, of something else.
        memory(len, &[(0, magic), (8, 77)]),
        memory(0, &[]),
        memory(len + 1, &[(0, magic), (8, 1)]),
        memory(len, &[(0, 1), (8, 1), (0x10, inode(&one))]),
        // It names the receiver's memory as its other side.
        memory(
            len,
            &[(0, magic), (8, 1), (0x10, inode(&one)), (0x18, honest)],
        ),
    ];
    // It claims the receiver's sockets.
    lies.extend(
        sockets
            .iter()
            .map(|it| memory(len, &[(0, magic), (8, 1), (0x10, *it)])),
    );
    // It names one whose server has not said anything yet.
    let waiting = memory(len, &[(0, magic), (8, 1), (0x10, inode(&one))]);
    let waiting_id = inode(&waiting);
    lies.push(memory(
        len,
        &[(0, magic), (8, 1), (0x10, inode(&one)), (0x18, waiting_id)],
    ));
    // Two that name each other, with words that fit nothing.
    let wild = [(0x80, 5), (0x100, u64::MAX), (0x180, 1), (0x188, u64::MAX)];
    let two = [&one, &other].map(|it| {
        memory(
            len,
            &[&[(0, magic), (8, 1), (0x10, inode(it))][..], &wild].concat(),
        )
    });
    for (a, b) in [(0, 1), (1, 0)] {
        two[a]
            .write_all_at(&inode(&two[b]).to_ne_bytes(), 0x18)
            .unwrap();
    }
    let found = connections(&address);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(pids(&found[0], "sides"), [receiver.pid(), sender.pid()]);

    let (said, told) = expect(run(&mut aqueduct(&["list", "--json", "--all", "shm:"])), 0);
    assert!(told.contains("version 77"), "{told}");
    let own = std::process::id();
    let said = String::from_utf8(said).unwrap();
    let things = said
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap());
    let things: Vec<_> = things
        .filter(|it| pids(it, "sides").contains(&own))
        .collect();
    assert_eq!(things.len(), 4, "{things:?}");
    for thing in things {
        assert_eq!(thing["address"], "shm:");
        let sides = thing["sides"].as_array().unwrap();
        match &thing["state"] {
            state if state == "in use" => {
                assert_eq!(pids(&thing, "sides"), [own, own]);
                assert!(sides.iter().all(|it| it["unread"].is_null()), "{thing}");
            }
            state => {
                assert!(state == "unclear" || state == "waiting", "{thing}");
                assert_eq!(sides.len(), 1, "{thing}");
            }
        }
    }
}

/// Memory may be looked at by those who may trace its process.
#[test]
fn an_end_of_another_user_is_missing_and_said_to_be() {
    if !geteuid().is_root() {
        return;
    }
    let dir = Dir::new();
    fs::set_permissions(dir.path(""), Permissions::from_mode(0o755)).unwrap();
    let program = dir.path("aqueduct");
    fs::copy(env!("CARGO_BIN_EXE_aqueduct"), &program).unwrap();
    let nobody = |args: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(args)
            .env_remove("RUST_LOG")
            .uid(NOBODY)
            .gid(NOBODY);
        command
    };
    let address = own("users");
    let receiver = start(&mut aqueduct(&["recv", &address]));
    let unix = address.replacen("shm", "unix", 1);
    until("it listens", || !list(&[&unix]).is_empty());
    let mut sender = start(nobody(&["send", &address]).stdin(Stdio::piped()));
    let mut input = sender.stdin();
    input.write_all(b"first\n").unwrap();
    receiver.printed(6);
    let ends = [receiver.pid(), sender.pid()];
    assert_eq!(pids(&connections(&address)[0], "sides"), ends);
    let (said, told) = expect(run(&mut nobody(&["list", "--json", "shm:"])), 0);
    let said = String::from_utf8(said).unwrap();
    let things = said
        .lines()
        .map(|it| serde_json::from_str::<Value>(it).unwrap());
    let thing = things.into_iter().find(|it| pids(it, "sides") == ends[1..]);
    let thing = thing.unwrap_or_else(|| panic!("its own end is missing: {said}"));
    // It may not have seen yet that it is accepted.
    assert!(
        thing["state"] == "unclear" || thing["state"] == "waiting",
        "{thing}"
    );
    assert!(told.contains("only root may look into"), "{told}");
}
