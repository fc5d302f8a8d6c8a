//! Sockets and namespaces: abstract names in network namespaces, owners in user namespaces.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use aqueduct::OpenErrorKind as Kind;
use aqueduct::unix::{self};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, chown};

use crate::actor::{Actor, runtime, say, told};
use crate::support::{deadline, is_peer, peer_command};

/// A name for both types of socket, which do not share it.
fn name_of(process: u32) -> String {
    format!("@aqueduct-test-namespace-{process}")
}

#[tokio::test]
async fn an_abstract_name_is_seen_only_in_its_own_network_namespace() {
    let name = name_of(std::process::id());
    let streams = unix::bind(&name).expect("bound");
    let packets = unix::BindOptions::new()
        .bind_seqpacket(&name)
        .expect("bound");
    let mut other = Actor::spawn("unix_namespace::role_elsewhere");
    other.tell(&std::process::id().to_string());
    // In the same namespace another process does reach it: what follows is the namespace's doing.
    assert_eq!(other.hear().await, "both reached here");
    deadline(streams.accept()).await.expect("it came");
    deadline(packets.accept()).await.expect("it came");
    match other.hear().await.as_str() {
        "moved" => {
            other.succeed().await;
            deadline(unix::connect(&name)).await.expect("it still is");
        }
        refused => {
            // Not by a macro, whose output the harness keeps.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "SKIPPED: {refused}");
        }
    }
}

#[test]
fn role_elsewhere() {
    if !is_peer("unix_namespace::role_elsewhere") {
        return;
    }
    let name = name_of(told().expect("who").parse().expect("a process"));
    runtime().block_on(async {
        unix::connect(&name).await.expect("the same namespace");
        unix::ConnectOptions::new()
            .connect_seqpacket(&name)
            .await
            .expect("the same namespace");
    });
    say("both reached here");
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => say("moved"),
        Err(Errno::EPERM) => return say("a network namespace of its own is not permitted"),
        Err(errno) => panic!("unshare: {errno}"),
    }
    // A thread is in the namespace of the one that starts it.
    runtime().block_on(async {
        let error = unix::connect(&name).await.expect_err("nobody here");
        assert_eq!(error.kind(), &Kind::Refused, "{error}");
        let error = unix::ConnectOptions::new()
            .connect_seqpacket(&name)
            .await
            .expect_err("nobody here");
        assert_eq!(error.kind(), &Kind::Refused, "{error}");
        // The name is free here, and what is bound to it is another socket.
        let ours = unix::bind(&name).expect("free here");
        let _client = unix::connect(&name).await.expect("ours");
        deadline(ours.accept()).await.expect("it came to us");
    });
}

/// It was called user 65534, which is somebody else's number outside of user namespaces.
#[tokio::test]
async fn an_owner_from_outside_a_user_namespace_is_named_so() {
    const ROLE: &str = "unix_namespace::role_inside";
    if !Uid::effective().is_root() {
        println!("SKIPPED: only root can give a socket to another user");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let sticky = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(dir.path(), sticky).expect("it is ours");
    let path = dir.path().join("socket");
    // Who has no number inside is one of all others there.
    let listener = unix::BindOptions::new().mode(0o666).bind(&path);
    let _listener = listener.expect("bound");
    chown(&path, Some(Uid::from_raw(1000)), None).expect("root may");
    let peer = peer_command(ROLE);
    let mut inside = Command::new("unshare");
    inside.args(["--user", "--map-root-user"]);
    inside.arg(peer.get_program()).args(peer.get_args());
    inside.env("AQUEDUCT_TEST_PEER", ROLE).env("SOCKET", &path);
    match inside.output() {
        Err(e) => println!("SKIPPED: unshare(1): {e}"),
        Ok(output) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(text.contains("Operation not permitted"), "{text}");
            println!("SKIPPED: {text}");
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                text.contains("it belongs to a user outside this user namespace"),
                "{text}"
            );
            assert!(!text.contains("user 65534"), "{text}");
        }
    }
}

#[test]
fn role_inside() {
    if !is_peer("unix_namespace::role_inside") {
        return;
    }
    let path = std::env::var("SOCKET").expect("a path");
    let error = runtime().block_on(unix::connect(path));
    println!("{}", error.expect_err("another user's"));
}
