//! Sockets that a service manager hands down.

use std::os::fd::OwnedFd;

use aqueduct::child::Command;
use aqueduct::connect::Options;
use aqueduct::{Endpoint, OpenErrorKind, codec::Text};
use futures_util::{SinkExt, StreamExt};

use super::dir;
use crate::conformance::links::{Sockets, endpoint};
use crate::support::{claim, deadline, is_peer, peer_command};

const ROLE: &str = "connect::activation::an_activated_service";
const ADDRESSES: &str = "AQUEDUCT_TEST_ADDRESSES";

/// Starts the service below with listening sockets as a service manager does.
async fn activate(sockets: Vec<(OwnedFd, Endpoint)>, pid: &str) -> std::process::ExitStatus {
    activate_as(ROLE, sockets, pid).await
}

async fn activate_as(
    role: &str,
    sockets: Vec<(OwnedFd, Endpoint)>,
    pid: &str,
) -> std::process::ExitStatus {
    let addresses: Vec<_> = sockets.iter().map(|it| it.1.to_string()).collect();
    let service = peer_command(role);
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("LISTEN_PID={pid} exec \"$@\""))
        .arg("sh")
        .arg(service.get_program())
        .args(service.get_args())
        .envs(
            service
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", "web:chat:packets:hub")
        .env(ADDRESSES, addresses.join(" "))
        .stdout(std::process::Stdio::null());
    if pid != "$$" {
        // It is expected to fail, and need not tell.
        shell.stderr(std::process::Stdio::null());
    }
    let mut command = Command::from(tokio::process::Command::from(shell));
    for (number, (fd, _)) in (3..).zip(sockets) {
        command.pass(number, fd);
    }
    command.as_tokio_mut().kill_on_drop(true);
    let mut child = command.spawn().expect("it can be started");
    deadline(child.wait()).await.expect("it can be waited for")
}

/// Bound by us, as by a service manager.
fn bound(address: &Endpoint) -> (OwnedFd, Endpoint) {
    use socket2::{Domain, SockAddr, Socket, Type};

    let (domain, kind, at) = match address.scheme().name {
        scheme @ ("tcp" | "udp") => {
            let at: std::net::SocketAddr = "127.0.0.1:0".parse().expect("it is an address");
            let kind = match scheme {
                "tcp" => Type::STREAM,
                _ => Type::DGRAM,
            };
            (Domain::IPV4, kind, SockAddr::from(at))
        }
        scheme @ ("unix" | "unixpacket" | "unixgram") => {
            let at = match (address.path(), address.to_string().split_once('@')) {
                (Some(path), _) => SockAddr::unix(path),
                (None, Some((_, name))) => SockAddr::unix(format!("\0{name}")),
                (None, None) => panic!("{address} has no name"),
            };
            let kind = match scheme {
                "unix" => Type::STREAM,
                "unixpacket" => Type::SEQPACKET,
                _ => Type::DGRAM,
            };
            (Domain::UNIX, kind, at.expect("it is an address"))
        }
        other => panic!("{other} is no socket"),
    };
    let socket = Socket::new(domain, kind, None).expect("a socket can be made");
    socket.bind(&at).expect("the address is free");
    if kind != Type::DGRAM {
        socket.listen(8).expect("it can listen");
    }
    let local = socket.local_addr().expect("it is bound").as_socket();
    let scheme = address.scheme().name;
    let local = local.map(|at| endpoint(format!("{scheme}://{at}")));
    (socket.into(), local.unwrap_or_else(|| address.clone()))
}

#[tokio::test]
async fn bind_takes_the_handed_down_socket_whose_address_is_its_own() {
    let (one, two) = (dir(), dir());
    let sockets = [
        ("tcp", &one),
        ("unix", &one),
        ("unixpacket", &two),
        ("unix:@", &one),
    ];
    let sockets = sockets.map(|(scheme, dir)| bound(&Sockets::new(scheme).address(dir)));
    let status = activate(sockets.into(), "$$").await;
    assert!(status.success(), "{status}");
}

/// `ListenDatagram=` of systemd.
#[tokio::test]
async fn datagram_sockets_are_handed_down_too() {
    let dir = dir();
    let sockets = ["unixgram", "unixgram:@", "udp"];
    let sockets = sockets.map(|scheme| bound(&Sockets::new(scheme).address(&dir)));
    let status = activate_as(RECEIVER, sockets.into(), "$$").await;
    assert!(status.success(), "{status}");
}

const RECEIVER: &str = "connect::activation::an_activated_receiver";

#[tokio::test]
async fn an_activated_receiver() {
    if !is_peer(RECEIVER) {
        return;
    }
    claim();
    let addresses = std::env::var(ADDRESSES).expect("the test sets it");
    for (address, name) in addresses.split(' ').zip(["web", "chat", "packets"]) {
        let address = endpoint(address.to_owned());
        let listener = address.bind().await.expect("it was handed down");
        assert_eq!(listener.activation_name(), Some(name));
        let mut receiver = listener.into_receiver();
        let mut sender = address.open_sender().await.expect("it is there");
        sender.send("hi".into()).await.expect("it is sent");
        let message = deadline(receiver.next()).await.expect("it comes");
        assert_eq!(message.expect("it is whole").body(), "hi");
        // What comes after it is told to stop stays for the next process.
        receiver.stop();
        sender.send("later".into()).await.expect("it is sent");
        assert!(deadline(receiver.next()).await.is_none());
        drop(receiver);
        if let Some(path) = address.path() {
            assert!(path.exists(), "the file is the service manager's");
        }
    }
}

#[tokio::test]
async fn sockets_handed_to_another_process_are_not_ours() {
    let dir = dir();
    let socket = bound(&Sockets::new("unix").address(&dir));
    // In the service the address is then in use, as for any second server.
    let status = activate(vec![socket], "1").await;
    assert!(!status.success());
}

/// The address is in use by the very socket that was handed down for it.
#[tokio::test]
async fn an_unclaimed_socket_is_named_with_the_cure() {
    let dir = dir();
    let sockets = vec![bound(&Sockets::new("unix").address(&dir))];
    let status = activate_as(CARELESS, sockets, "$$").await;
    assert!(status.success(), "{status}");
}

const CARELESS: &str = "connect::activation::a_service_that_claims_nothing";

#[tokio::test]
async fn a_service_that_claims_nothing() {
    if !is_peer(CARELESS) {
        return;
    }
    let address = endpoint(std::env::var(ADDRESSES).expect("the test sets it"));
    let error = address.bind().await.expect_err("it is in use");
    assert_eq!(error.kind(), &OpenErrorKind::InUse, "{error:?}");
    let cure = error.cure().expect("there is one");
    assert!(cure.contains("inherited::claim"), "{error}");
}

#[tokio::test]
async fn an_activated_service() {
    if !is_peer(ROLE) {
        return;
    }
    claim();
    let addresses = std::env::var(ADDRESSES).expect("the test sets it");
    let addresses: Vec<Endpoint> = addresses
        .split(' ')
        .map(|it| endpoint(it.to_owned()))
        .collect();
    // An address that was not handed down is bound as usual.
    let dir = dir();
    let other = Sockets::new("unix").address(&dir).bind().await;
    assert_eq!(other.expect("it is free").activation_name(), None);
    // In another order than they were handed down.
    for (address, name) in addresses
        .iter()
        .zip(["web", "chat", "packets", "hub"])
        .rev()
    {
        let mut listener = address.bind().await.expect("it was handed down");
        assert_eq!(listener.activation_name(), Some(name));
        assert_eq!(listener.local_endpoint(), address);
        let client = deadline(address.connect()).await.expect("it is connected");
        let mut client = client.channel::<String, String>(Text);
        client.send("hi".into()).await.expect("it is sent");
        let server = deadline(listener.accept()).await.expect("it comes");
        let mut server = server.expect("it is").channel::<String, String>(Text);
        let hi = deadline(server.recv()).await.expect("it comes");
        assert_eq!(hi.expect("it is whole"), "hi");
        // It is taken; whoever binds it again meets the socket that is there.
        let error = Options::new()
            .bind(address)
            .await
            .expect_err("it is in use");
        assert_eq!(error.kind(), &OpenErrorKind::InUse, "{error:?}");
        drop(listener);
        if let Some(path) = address.path() {
            assert!(path.exists(), "the file is the service manager's");
        }
    }
}
