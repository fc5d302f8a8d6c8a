//! A NATS server of a test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long it may take to start.
const LIMIT: Duration = Duration::from_secs(20);

/// The program of the server: `AQUEDUCT_NATS_SERVER`, or `nats-server`.
fn program() -> String {
    std::env::var("AQUEDUCT_NATS_SERVER").unwrap_or_else(|_| "nats-server".into())
}

/// A server on a port of loopback, with its own directory. It is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl Server {
    /// Starts one with JetStream.
    pub(crate) fn new() -> Self {
        Self::with(&["-js"])
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("it is bound").port();
        drop(free);
        let arguments: Vec<_> = arguments.iter().map(|it| (*it).to_owned()).collect();
        let child = start(port, &dir, &arguments);
        Self {
            child,
            port,
            dir,
            arguments,
        }
    }

    /// Where plain clients connect to.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// An address of it.
    pub(crate) fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.url())
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Removes the messages of a stream.
    pub(crate) async fn purge(&self, stream: &str) {
        let client = async_nats::connect(self.url()).await.expect("it is there");
        let context = async_nats::jetstream::new(client);
        let stream = context.get_stream(stream).await.expect("it is there");
        stream.purge().await.expect("it is there");
    }

    /// Kills it with `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is a child");
        self.child.wait().expect("it is a child");
    }

    /// Kills it, and starts it again with the same disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = start(self.port, &self.dir, &self.arguments);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(port: u16, dir: &TempDir, arguments: &[String]) -> Child {
    let child = Command::new(program())
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(dir.path())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server is installed");
    let since = Instant::now();
    while !answers(port) {
        assert!(since.elapsed() < LIMIT, "the server does not start");
        sleep(Duration::from_millis(10));
    }
    child
}

/// Whether it greets, and answers a ping, which it does once it is ready.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut buf = [0; 4096];
    let greeted = stream
        .read(&mut buf)
        .is_ok_and(|n| buf[..n].starts_with(b"INFO"));
    greeted
        && stream
            .write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")
            .is_ok()
}
