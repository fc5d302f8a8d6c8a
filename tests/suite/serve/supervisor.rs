//! Services notify their manager: `sd_notify(3)`.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aqueduct::codec::Text;
use aqueduct::connect::Connection;
use aqueduct::service::{Context, Supervisor, respond, serve, shutdown_on_signal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::conformance::links::{endpoint, fresh_name};
use crate::support::{Peer, is_peer, peer_command};

const ROLE: &str = "serve::supervisor::role_service";
const SOCKET: &str = "AQUEDUCT_TEST_SOCKET";
/// The extension of a file that tells the service that its manager knows that it is stopping.
const HEARD: &str = "heard";

/// The socket of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn new(at: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(at).expect("it is free");
        let limit = Some(Duration::from_secs(30));
        socket.set_read_timeout(limit).expect("it can be limited");
        Self(socket)
    }

    fn hears(&self) -> String {
        let mut state = [0; 200];
        let len = self.0.recv(&mut state).expect("it is told");
        String::from_utf8_lossy(&state[..len]).into_owned()
    }

    /// Waits for a state with that beginning, skipping `WATCHDOG=1`.
    fn hears_of(&self, beginning: &str) -> String {
        loop {
            let state = self.hears();
            if state.starts_with(beginning) {
                return state;
            }
            assert_eq!(state, "WATCHDOG=1");
        }
    }
}

fn service(path: &std::path::Path) -> Command {
    let mut command = peer_command(ROLE);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.env(SOCKET, path);
    command
}

#[tokio::test]
async fn a_service_reports_that_it_is_ready_alive_and_stopping() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let name = fresh_name();
    let path = dir.path().join("notify");
    let by_path = SocketAddr::from_pathname(&path).expect("it is a path");
    let abstract_one = SocketAddr::from_abstract_name(&name).expect("it is a name");
    for (at, told) in [
        (by_path, path.display().to_string()),
        (abstract_one, format!("@{name}")),
    ] {
        let manager = Manager::new(&at);
        let socket = dir.path().join("service");
        let mut command = service(&socket);
        command.env("NOTIFY_SOCKET", told);
        command.env("WATCHDOG_USEC", "200000");
        let mut service = Peer::spawn(&mut command);
        manager.hears_of("READY=1");
        // It is.
        let mut client = UnixStream::connect(&socket).expect("it is ready");
        let start = Instant::now();
        for _ in 0..3 {
            manager.hears_of("WATCHDOG=1");
        }
        assert!(start.elapsed() > Duration::from_millis(150));
        client.write_all(b"hi\n").expect("it is sent");
        let mut reply = [0; 3];
        client.read_exact(&mut reply).expect("it is answered");
        let pid = Pid::from_raw(service.0.id() as i32);
        kill(pid, Signal::SIGTERM).expect("it lives");
        let state = manager.hears_of("STOPPING=1");
        assert_eq!(state, "STOPPING=1\nSTATUS=connections still open: 1");
        std::fs::write(socket.with_extension(HEARD), "").expect("it can be made");
        drop(client);
        assert!(service.exit().await.expect("it is reaped").success());
    }
}

#[tokio::test]
async fn the_watchdog_of_another_process_is_ignored() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("notify");
    let manager = Manager::new(&SocketAddr::from_pathname(&path).expect("it is a path"));
    let mut command = service(&dir.path().join("service"));
    command.env("NOTIFY_SOCKET", &path);
    command.env("WATCHDOG_USEC", "1000");
    command.env("WATCHDOG_PID", "1");
    let mut service = Peer::spawn(&mut command);
    assert_eq!(manager.hears(), "READY=1");
    std::thread::sleep(Duration::from_millis(100));
    let pid = Pid::from_raw(service.0.id() as i32);
    kill(pid, Signal::SIGTERM).expect("it lives");
    assert!(manager.hears().starts_with("STOPPING=1"));
    assert!(service.exit().await.expect("it is reaped").success());
}

/// Its queue is full, it does not exist, or its name is not valid.
#[tokio::test]
async fn a_manager_that_does_not_read_stops_no_service() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("notify");
    let manager = Manager::new(&SocketAddr::from_pathname(&path).expect("it is a path"));
    let stuffed = UnixDatagram::unbound().expect("a socket can be made");
    stuffed.set_nonblocking(true).expect("it can be set");
    while stuffed.send_to(b"X=1", &path).is_ok() {}
    let nobody = dir.path().join("nobody");
    for told in [path.as_os_str(), nobody.as_os_str(), "relative".as_ref()] {
        let socket = dir.path().join("service");
        let mut command = service(&socket);
        command.env("NOTIFY_SOCKET", told);
        let mut service = Peer::spawn(&mut command);
        let mut client = loop {
            match UnixStream::connect(&socket) {
                Ok(client) => break client,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        client.write_all(b"hi\n").expect("it is sent");
        let mut reply = [0; 3];
        client.read_exact(&mut reply).expect("it is answered");
        assert_eq!(&reply, b"HI\n");
        let pid = Pid::from_raw(service.0.id() as i32);
        kill(pid, Signal::SIGTERM).expect("it lives");
        drop(client);
        assert!(service.exit().await.expect("it is reaped").success());
    }
    drop(manager);
}

#[tokio::test]
async fn without_a_manager_nothing_is_sent() {
    let supervisor = Supervisor::from_env();
    supervisor.notify("READY=1").await;
    let watching = tokio_test::task::spawn(supervisor.watchdog()).poll();
    assert!(watching.is_pending());
}

#[test]
fn role_service() {
    if !is_peer(ROLE) {
        return;
    }
    let path = std::env::var(SOCKET).expect("the test sets it");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        let address = endpoint(format!("unix:{path}"));
        let mut options = aqueduct::connect::Options::new();
        options.framing(aqueduct::frame::Framing::lines());
        let shutdown = shutdown_on_signal().expect("signals can be caught");
        let listener = options.bind(&address).await.expect("the path is free");
        let heard = std::path::PathBuf::from(&path).with_extension(HEARD);
        let has_manager = std::env::var_os("WATCHDOG_USEC").is_some();
        let answer = move |connection: Connection, context: Context| {
            let heard = heard.clone();
            async move {
                let channel = connection.channel::<String, String>(Text);
                let upper = async |line: String| line.to_uppercase();
                let result = respond(channel, &context, upper).await;
                // The connection stays open until the manager has been notified.
                while has_manager && !heard.exists() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                result
            }
        };
        let served = serve(listener, shutdown, answer).await;
        served.expect("it is served");
    });
}
