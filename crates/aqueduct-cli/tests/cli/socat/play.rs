//! [`play`]: a command and its peers, one step after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::readme::Place;
use crate::support::{DEADLINE, Running, start, until};

/// How long nothing has to arrive.
const NOTHING: Duration = Duration::from_millis(100);
/// What a file holds.
const FILE: usize = 300_000;

/// A stage with a command on it, and those it talks to.
struct Play {
    place: Place,
    command: String,
    ports: [u16; 2],
    running: Option<Running>,
    stdin: Option<ChildStdin>,
    /// The command's process group.
    group: Option<Pid>,
    /// What it has to have printed by now.
    printed: String,
    listeners: BTreeMap<String, Socket>,
    peers: BTreeMap<String, Peer>,
    /// What is in the directory by this test alone.
    mine: BTreeSet<String>,
}

enum Peer {
    Socket(Socket),
    /// An end of a FIFO.
    File(File),
}

/// Plays all steps; panics at the first that does not happen.
pub(super) fn play(command: &str, steps: &str) {
    let ports = [port(), port()];
    let names = ports.map(|it| it.to_string());
    let mut play = Play {
        place: Place::new(&[("7000", &names[0]), ("7001", &names[1])]),
        command: command.to_owned(),
        ports,
        running: None,
        stdin: None,
        group: None,
        printed: String::new(),
        listeners: BTreeMap::new(),
        peers: BTreeMap::new(),
        mine: BTreeSet::new(),
    };
    for step in steps.split('|').map(str::trim) {
        play.step(step);
    }
    let left: BTreeSet<_> = fs::read_dir(play.place.dir().path(""))
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left, play.mine, "left behind");
}

impl Play {
    fn step(&mut self, step: &str) {
        let words: Vec<_> = step.splitn(3, ' ').collect();
        match words[..] {
            ["run"] => self.run(),
            ["listen", at] => self.listen(at, Type::STREAM, 100),
            ["listen", at, "packets"] => self.listen(at, Type::SEQPACKET, 100),
            ["listen", at, "datagrams"] => {
                let socket = self.bound(at, Type::DGRAM);
                self.enter(at, socket);
            }
            ["bound", at] => until("the socket is bound", || {
                let table = match at {
                    "7000" => "/proc/net/udp",
                    _ => "/proc/net/unix",
                };
                let name = match at {
                    "7000" => format!("0100007F:{:04X} ", self.ports[0]),
                    at => self.path(at).display().to_string(),
                };
                fs::read_to_string(table).unwrap().contains(&name)
            }),
            ["listen", at, "full"] => {
                self.listen(at, Type::STREAM, 0);
                // Until the queue of those that are not accepted takes no more.
                for i in 0.. {
                    let socket = self.socket(at, Type::STREAM);
                    let limit = Duration::from_millis(200);
                    if socket.connect_timeout(&self.address(at), limit).is_err() {
                        break;
                    }
                    self.peers
                        .insert(format!("waiting {i}"), Peer::Socket(socket));
                }
            }
            ["stale", at] => {
                let socket = self.socket(at, Type::STREAM);
                socket.bind(&self.address(at)).unwrap();
            }
            ["fifo", at] => {
                mkfifo(&self.path(at), Mode::from_bits_truncate(0o600)).unwrap();
                self.mine.insert(at.to_owned());
            }
            ["file", at] => {
                fs::write(self.path(at), noise()).unwrap();
                self.mine.insert(at.to_owned());
            }
            ["mode", at, mode] => until("the mode is set", || {
                let metadata = fs::metadata(self.path(at));
                metadata.is_ok_and(|it| format!("{:o}", it.permissions().mode() & 0o777) == mode)
            }),
            ["in", "ends"] => self.stdin = None,
            ["in", ref text @ ..] => {
                let stdin = self.stdin.as_mut().unwrap();
                stdin.write_all(line(&text.join(" ")).as_bytes()).unwrap();
            }
            ["out", ref text @ ..] => {
                self.printed += &line(&text.join(" "));
                let running = self.running.as_ref().unwrap();
                running.printed(self.printed.len());
            }
            ["succeeds"] => assert!(self.end(), "it fails"),
            ["fails"] => assert!(!self.end(), "it succeeds"),
            ["ends"] => _ = self.end(),
            ["stop"] => self.stop(Signal::SIGTERM),
            // socat with all its children at work is deaf to SIGTERM.
            ["killed"] => self.stop(Signal::SIGKILL),
            [who, "accepts", at] => {
                let (socket, _) = self.listeners[at].accept().unwrap();
                self.enter(who, socket);
            }
            [who, "connects", at] => {
                let start = Instant::now();
                loop {
                    let socket = self.socket(at, Type::STREAM);
                    match socket.connect(&self.address(at)) {
                        Ok(()) => break self.enter(who, socket),
                        // It is not there yet.
                        Err(_) if start.elapsed() < DEADLINE => thread::sleep(NOTHING / 20),
                        Err(error) => panic!("{step}: {error}"),
                    }
                }
            }
            [who, "sends", at] => {
                let socket = self.socket(at, Type::DGRAM);
                socket.connect(&self.address(at)).unwrap();
                self.enter(who, socket);
            }
            [who, "reads", at] => self.open(who, at, File::options().read(true)),
            [who, "writes", at] => self.open(who, at, File::options().write(true)),
            [who, "closes"] => drop(self.peers.remove(who).unwrap()),
            [who, "resets"] => {
                let peer = self.peers.remove(who).unwrap();
                let socket = SockRef::from(peer.socket()).set_linger(Some(Duration::ZERO));
                socket.unwrap();
            }
            [who, "ends"] => self.peers[who].socket().shutdown(Shutdown::Write).unwrap(),
            [who, "hears", "the end"] => self.hears(who, b"", true),
            [who, "hears", "the file"] => self.hears(who, &noise(), false),
            [who, "hears", "nothing"] => {
                let socket = self.peers.get_mut(who).unwrap().socket();
                socket.set_read_timeout(Some(NOTHING)).unwrap();
                let read = (&*socket).read(&mut [0]);
                assert_eq!(read.unwrap_err().kind(), ErrorKind::WouldBlock, "{step}");
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
            }
            [who, "is", "gone"] => {
                let read = self.peers.get_mut(who).unwrap().read(&mut [0]);
                let reset = |it: &io::Error| it.kind() == ErrorKind::ConnectionReset;
                assert!(
                    matches!(&read, Ok(0)) || read.as_ref().is_err_and(reset),
                    "{read:?}"
                );
            }
            [who, "hears", text] => self.hears(who, line(text).as_bytes(), false),
            [who, "says", text] => {
                let peer = self.peers.get_mut(who).unwrap();
                peer.write_all(line(text).as_bytes()).unwrap();
            }
            _ => panic!("{step:?} is no step"),
        }
    }

    fn run(&mut self) {
        let mut shell = self.place.shell(&format!("exec {}", self.command));
        let mut running = start(shell.stdin(Stdio::piped()));
        self.stdin = Some(running.stdin());
        self.group = Some(Pid::from_raw(running.pid() as i32));
        self.running = Some(running);
    }

    /// Waits until the command has ended and gives whether it succeeded.
    fn end(&mut self) -> bool {
        let mut running = self.running.take().unwrap();
        let start = Instant::now();
        while running.is_running() && start.elapsed() < DEADLINE {
            thread::sleep(NOTHING / 50);
        }
        let ended = !running.is_running();
        // What it has started may hold its standard output.
        self.kill();
        let output = running.finish();
        let (out, said) = (output.stdout, String::from_utf8_lossy(&output.stderr));
        assert!(ended, "it still runs: {said}");
        assert_eq!(String::from_utf8_lossy(&out), self.printed, "{said}");
        output.status.success()
    }

    fn stop(&mut self, signal: Signal) {
        self.running.as_ref().unwrap().signal(signal);
        self.end();
    }

    fn kill(&mut self) {
        if let Some(group) = self.group.take() {
            // It may have ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    fn listen(&mut self, at: &str, kind: Type, backlog: i32) {
        let socket = self.bound(at, kind);
        socket.listen(backlog).unwrap();
        self.listeners.insert(at.to_owned(), socket);
    }

    fn bound(&mut self, at: &str, kind: Type) -> Socket {
        let socket = self.socket(at, kind);
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address(at)).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        if self.path(at).exists() {
            self.mine.insert(at.to_owned());
        }
        socket
    }

    fn enter(&mut self, who: &str, socket: Socket) {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        self.peers.insert(who.to_owned(), Peer::Socket(socket));
    }

    /// Opens an end of a FIFO, which waits for the other one.
    fn open(&mut self, who: &str, at: &str, options: &fs::OpenOptions) {
        let (tx, rx) = channel();
        let (path, options) = (self.path(at), options.clone());
        thread::spawn(move || tx.send(options.open(path)));
        let file = rx.recv_timeout(DEADLINE).expect("the other end is opened");
        self.peers.insert(who.to_owned(), Peer::File(file.unwrap()));
    }

    fn hears(&mut self, who: &str, expected: &[u8], end: bool) {
        let peer = self.peers.get_mut(who).unwrap();
        let mut heard = vec![0; expected.len()];
        if let Peer::Socket(socket) = &*peer
            && socket.r#type().is_ok_and(|it| it == Type::DGRAM)
            && let Ok(sender) = socket.peek_sender()
        {
            // What it says next is for the sender of this, where that has a name.
            let _ = socket.connect(&sender);
        }
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&heard),
            String::from_utf8_lossy(expected)
        );
        if end {
            assert_eq!(peer.read(&mut [0]).unwrap(), 0, "{who} hears more");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.dir().path(name)
    }

    /// Ports are 7000 and 7001, abstract names begin with an at sign, others are files.
    fn address(&self, at: &str) -> SockAddr {
        match at {
            "7000" => SocketAddr::from(([127, 0, 0, 1], self.ports[0])).into(),
            "7001" => SocketAddr::from(([127, 0, 0, 1], self.ports[1])).into(),
            at => match at.strip_prefix('@') {
                Some(name) => SockAddr::unix(format!("\0{}", self.place.here(name))).unwrap(),
                None => SockAddr::unix(self.path(at)).unwrap(),
            },
        }
    }

    fn socket(&self, at: &str, kind: Type) -> Socket {
        let domain = self.address(at).domain();
        assert!(domain == Domain::UNIX || domain == Domain::IPV4);
        Socket::new(domain, kind, None).unwrap()
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        // Before the command is waited for: what it has started may hold its output.
        self.kill();
    }
}

impl Peer {
    fn socket(&self) -> &Socket {
        match self {
            Self::Socket(socket) => socket,
            Self::File(_) => panic!("a FIFO is no socket"),
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.read(buf),
            Self::File(file) => file.read(buf),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.write(buf),
            Self::File(file) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each text is a line; `\r` stands for a carriage return.
fn line(text: &str) -> String {
    format!("{}\n", text.replace("\\r", "\r"))
}

fn noise() -> Vec<u8> {
    (0..FILE)
        .map(|i| b'a' + (i * 31 % 251 % 26) as u8)
        .collect()
}

/// A port that nobody has now and that the system gives to nobody.
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let some = std::process::id() as u16 % 2000 + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 30_100 + some % 2600;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
