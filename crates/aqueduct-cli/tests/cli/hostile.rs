//! Peers that do harm: each costs itself alone, and the others are served.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, sendmsg, socket,
};
use socket2::{Domain, Socket, Type};

use crate::support::{DEADLINE, Dir, Running, aqueduct, expect_text, run, start, until};

/// How many of each kind.
const EACH: usize = 20;

/// Starts a command that binds an address, and gives that as it tells it.
fn bound(command: &str, address: &str, flags: &[&str]) -> (Running, String) {
    let mut command = aqueduct(&[command, address]);
    let running = start(command.args(flags).stdin(Stdio::null()));
    let scheme = address.split_once(':').unwrap().0;
    let address = running.told(&format!("{scheme}:"));
    (running, address)
}

/// A connection by which bytes go.
trait Wire: Write + Send {
    fn patience(&self, limit: Duration);
}

impl Wire for UnixStream {
    fn patience(&self, limit: Duration) {
        self.set_write_timeout(Some(limit)).unwrap();
    }
}

impl Wire for TcpStream {
    fn patience(&self, limit: Duration) {
        self.set_write_timeout(Some(limit)).unwrap();
    }
}

fn dial(address: &str) -> Box<dyn Wire> {
    match address.split_once(':').unwrap() {
        ("unix", path) => Box::new(UnixStream::connect(path).unwrap()),
        (_, at) => Box::new(TcpStream::connect(at.trim_start_matches('/')).unwrap()),
    }
}

/// Does harm in each way; what is returned is to be kept.
fn harm(address: &str) -> Vec<Box<dyn Wire>> {
    let mut kept = Vec::new();
    for n in 0..EACH {
        // Says nothing.
        kept.push(dial(address));
        // Begins a message and stops.
        let mut wire = dial(address);
        wire.write_all(b"never to be fini").unwrap();
        kept.push(wire);
        // Garbage, and gone.
        let mut wire = dial(address);
        let garbage: Vec<u8> = (0..5000).map(|it| (it * 7 + n) as u8).collect();
        let _ = wire.write_all(&garbage);
        // A message without an end, as far as it is taken.
        let mut wire = dial(address);
        wire.patience(Duration::from_millis(200));
        let endless = vec![b'x'; 64 * 1024];
        for _ in 0..64 {
            if wire.write_all(&endless).is_err() {
                break;
            }
        }
        // Asks and never reads.
        let mut wire = dial(address);
        wire.patience(Duration::from_millis(20));
        // One that fills all buffers is enough, and one that is read as fast as it writes does not.
        let questions = if n == 0 { 300_000 } else { 1 };
        for _ in 0..questions {
            if wire.write_all(b"a question\n").is_err() {
                break;
            }
        }
        kept.push(wire);
    }
    kept
}

fn peak_memory(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|it| it.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
    fds.unwrap().count()
}

#[test]
fn a_service_answers_the_others_though_a_hundred_do_harm() {
    let dir = Dir::new();
    for address in [
        format!("unix:{}", dir.path("x").display()),
        "tcp://127.0.0.1:0".to_owned(),
    ] {
        let (mut serve, address) = bound("serve", &address, &[]);
        let kept = harm(&address);
        for _ in 0..3 {
            let answer = run(&mut aqueduct(&["call", &address, "hello"]));
            assert_eq!(expect_text(answer, 0), "hello\n");
        }
        assert!(serve.is_running());
        // Twenty messages are cut off at 1 MiB, each with room to grow; the rest is small.
        let peak = peak_memory(serve.pid());
        assert!(peak < 100 * 1024, "{peak} KiB");
        drop(kept);
    }
}

#[test]
fn a_receiver_serves_honest_clients_beside_a_hundred_hostile() {
    let dir = Dir::new();
    let (_reserved, port) = reserved_port();
    for address in [
        format!("unix:{}", dir.path("x").display()),
        format!("tcp://127.0.0.1:{port}"),
    ] {
        let recv = start(&mut aqueduct(&["recv", &address]));
        until("it is bound", || match address.strip_prefix("tcp://") {
            Some(at) => TcpStream::connect(at).is_ok(),
            None => UnixStream::connect(dir.path("x")).is_ok(),
        });
        let kept = harm(&address);
        for n in 0..3 {
            let message = format!("message number {n}");
            expect_text(run(&mut aqueduct(&["send", &address, &message])), 0);
        }
        drop(kept);
        recv.signal(Signal::SIGTERM);
        let output = recv.finish();
        // What the harmful had not finished when it was told to stop it drops, and says so.
        let told = String::from_utf8_lossy(&output.stderr);
        let failures: Vec<_> = told
            .lines()
            .filter(|it| it.starts_with("aqueduct:"))
            .collect();
        let dropped = "of an unfinished message were dropped when the command was stopped";
        assert!(failures.iter().all(|it| it.ends_with(dropped)), "{told}");
        let code = i32::from(!failures.is_empty());
        assert_eq!(output.status.code(), Some(code), "{told}");
        let printed = String::from_utf8_lossy(&output.stdout);
        for n in 0..3 {
            assert!(printed.contains(&format!("message number {n}\n")));
        }
    }
}

/// A port that the system gives to nobody else meanwhile: bound and not listening, which keeps no
/// listener with `SO_REUSEADDR` away (socket(7)).
fn reserved_port() -> (Socket, u16) {
    let kept = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    kept.set_reuse_address(true).unwrap();
    kept.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = kept.local_addr().unwrap().as_socket().unwrap();
    (kept, address.port())
}

/// Descriptors that nobody asked for are closed, whatever they come with.
#[test]
fn a_flood_of_descriptors_leaves_none_open() {
    let dir = Dir::new();
    let null = File::open("/dev/null").unwrap();
    let nulls = [null.as_raw_fd(); 200];
    for scheme in ["unix", "unixpacket"] {
        let path = dir.path("x");
        let address = format!("{scheme}:{}", path.display());
        let (serve, _) = bound("serve", &address, &[]);
        // It opens its watch of the name when it first waits for clients.
        let answers = || expect_text(run(&mut aqueduct(&["call", &address, "hello"])), 0);
        assert_eq!(answers(), "hello\n");
        let before = descriptors(serve.pid());
        for _ in 0..20 {
            let kind = match scheme {
                "unix" => SockType::Stream,
                _ => SockType::SeqPacket,
            };
            let flags = SockFlag::SOCK_CLOEXEC;
            let flood = socket(AddressFamily::Unix, kind, flags, None).unwrap();
            connect(flood.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
            for _ in 0..5 {
                let sent = sendmsg::<UnixAddr>(
                    flood.as_raw_fd(),
                    &[IoSlice::new(b"take these\n")],
                    &[ControlMessage::ScmRights(&nulls)],
                    MsgFlags::MSG_NOSIGNAL,
                    None,
                );
                if sent.is_err() {
                    // It was shown the door, or has too many under way.
                    break;
                }
            }
        }
        assert_eq!(answers(), "hello\n");
        let pid = serve.pid();
        until("the flood is gone", || descriptors(pid) <= before);
    }
}

/// With more connections than it may have descriptors the service waits, without a processor, and
/// goes on when there are some.
#[test]
fn more_connections_than_descriptors_are_waited_out() {
    let dir = Dir::new();
    let path = dir.path("x");
    let program = aqueduct(&[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 100 && exec \"$0\" \"$@\""])
        .arg(program.get_program())
        .args(["serve", &format!("unix:{}", path.display())])
        .env_remove("RUST_LOG");
    let mut serve = start(command.stdin(Stdio::null()));
    serve.told("serving ");
    let flood: Vec<_> = (0..500)
        .map_while(|_| UnixStream::connect(&path).ok())
        .collect();
    assert!(flood.len() > 200, "{}", flood.len());
    serve.told("cannot accept connections");
    let before = processor_time(serve.pid());
    thread::sleep(Duration::from_millis(500));
    let spent = processor_time(serve.pid()) - before;
    assert!(spent < Duration::from_millis(100), "{spent:?}");
    assert!(serve.is_running());
    drop(flood);
    let address = format!("unix:{}", path.display());
    let wait = format!("{}s", DEADLINE.as_secs());
    let answer = run(&mut aqueduct(&["call", "--wait", &wait, &address, "hello"]));
    assert_eq!(expect_text(answer, 0), "hello\n");
}

fn processor_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse().ok()
        })
        .map(Duration::from_nanos)
        .sum()
}
