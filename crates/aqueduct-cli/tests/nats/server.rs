//! A NATS server of a test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Stream;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
        Self::begin(tempfile::tempdir().expect("a directory"), arguments)
    }

    /// Starts one with a configuration file.
    pub(crate) fn configured(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("server.conf");
        std::fs::write(&file, config).expect("it is a file");
        Self::begin(dir, &["-c", &file.display().to_string()])
    }

    fn begin(dir: TempDir, arguments: &[&str]) -> Self {
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

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A plain client.
    pub(crate) async fn jetstream(&self) -> Context {
        let client = async_nats::connect(self.url()).await.expect("it is there");
        async_nats::jetstream::new(client)
    }

    /// Waits for one that has just started to find its streams.
    async fn stream(&self, name: &str) -> Stream {
        let context = self.jetstream().await;
        let since = Instant::now();
        loop {
            match context.get_stream(name).await {
                Ok(stream) => return stream,
                Err(error) => assert!(since.elapsed() < LIMIT, "{name}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Removes the messages of a stream.
    pub(crate) async fn purge(&self, stream: &str) {
        let purged = self.stream(stream).await.purge().await;
        purged.expect("it is there");
    }

    /// How many messages a stream has.
    pub(crate) async fn messages(&self, stream: &str) -> u64 {
        self.stream(stream).await.cached_info().state.messages
    }

    /// How many messages of a stream a consumer has not settled.
    pub(crate) async fn unfinished(&self, stream: &str, consumer: &str) -> u64 {
        let stream = self.stream(stream).await;
        let since = Instant::now();
        loop {
            match stream.consumer_info(consumer).await {
                Ok(info) => return info.num_pending + info.num_ack_pending as u64,
                Err(error) => assert!(since.elapsed() < LIMIT, "{consumer}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("it is a child");
    }

    /// Stops all its threads, until `SIGCONT`.
    pub(crate) fn stall(&self) {
        self.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = task.and_then(|it| std::fs::read_to_string(it.path().join("stat")));
            // A thread may end meanwhile.
            stat.map_or(true, |it| it.contains(") T "))
        };
        let since = Instant::now();
        while !std::fs::read_dir(&tasks).expect("it runs").all(is_stopped) {
            assert!(since.elapsed() < LIMIT, "the server does not stop");
            sleep(Duration::from_millis(1));
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) {
        let since = Instant::now();
        while self.child.try_wait().expect("it is a child").is_none() {
            assert!(since.elapsed() < LIMIT, "the server does not end");
            sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again with the same disk, once it has ended.
    pub(crate) fn start_again(&mut self) {
        self.child = start(self.port, &self.dir, &self.arguments);
    }

    /// Kills it with `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is a child");
        self.child.wait().expect("it is a child");
    }

    /// Kills it, and starts it again with the same disk.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Kills it, and starts it again with an empty disk.
    pub(crate) fn restart_empty(&mut self) {
        self.kill();
        let streams = self.dir.path().join("jetstream");
        std::fs::remove_dir_all(streams).expect("it is there");
        self.start_again();
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
