//! Datagram sockets: Python, socat, logger and systemd-notify at the other end.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::python::python;
use crate::readme::{Place, row};
use crate::socat::free_port;
use crate::support::{Dir, Running, aqueduct, expect, expect_text, run, start, until};

fn path(dir: &Dir, name: &str) -> String {
    dir.path(name).to_str().unwrap().to_owned()
}

/// Starts `recv` of so many messages at the path.
fn recv(dir: &Dir, count: &str) -> Running {
    let address = format!("unixgram:{}", path(dir, "x"));
    let recv = start(&mut aqueduct(&["recv", &address, "-n", count]));
    until("it is bound", || dir.path("x").exists());
    recv
}

fn tool(name: &str, args: &[&str]) -> Running {
    start(Command::new(name).args(args).stdin(Stdio::null()))
}

#[test]
fn python_sends_to_and_receives_from_a_datagram_socket() {
    let dir = Dir::new();
    let ours = recv(&dir, "2");
    let sender = "
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for word in b'one', b'two':
    s.sendto(word, argv[0])
";
    expect_text(python(sender, &[&path(&dir, "x")]).finish(), 0);
    assert_eq!(expect_text(ours.finish(), 0), "one\ntwo\n");
    let receiver = "
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(argv[0])
print(s.recv(100), s.recv(100), s.recv(100))
";
    let theirs = python(receiver, &[&path(&dir, "y")]);
    let to = format!("unixgram:{}", path(&dir, "y"));
    expect(run(&mut aqueduct(&["send", &to, "one", "", "two"])), 0);
    assert_eq!(expect_text(theirs.finish(), 0), "b'one' b'' b'two'\n");
}

#[test]
fn python_is_answered_and_answers_over_datagrams() {
    let dir = Dir::new();
    let client = "
if argv[0].startswith('/'):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(argv[0] + '-client')
    to = argv[0]
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host, _, port = argv[0].partition(':')
    to = host, int(port)
for word in b'one', b'two':
    s.sendto(word, to)
    print(s.recv(100).decode())
";
    for address in [
        format!("unixgram:{}", path(&dir, "x")),
        "udp://127.0.0.1:0".to_owned(),
    ] {
        let mut serve = aqueduct(&["serve", &address, "--", "tr", "a-z", "A-Z"]);
        let serve = start(serve.stdin(Stdio::null()));
        serve.told("serving ");
        let told = serve.told(address.split(':').next().unwrap());
        let to = told.split_once(':').unwrap().1.trim_start_matches("//");
        let client = python(client, &[to]);
        assert_eq!(expect_text(client.finish(), 0), "ONE\nTWO\n", "{address}");
        serve.signal(Signal::SIGTERM);
        expect(serve.finish(), 0);
    }
    let server = "
if argv[0].startswith('/'):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(argv[0])
else:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('127.0.0.1', 0))
    print('port=%d' % s.getsockname()[1], file=sys.stderr)
word, sender = s.recvfrom(100)
s.sendto(word[::-1], sender)
";
    let unix = path(&dir, "y");
    let server_there = python(server, &[&unix]);
    let call = ["call", &format!("unixgram:{unix}"), "drawer"];
    let (stdout, _) = expect(run(&mut aqueduct(&call)), 0);
    assert_eq!(stdout, b"reward\n");
    expect_text(server_there.finish(), 0);
    let server = python(server, &["udp"]);
    let port = server.told("port=");
    let port = port.trim_start_matches("port=");
    let call = ["call", &format!("udp://127.0.0.1:{port}"), "drawer"];
    assert_eq!(expect_text(run(&mut aqueduct(&call)), 0), "reward\n");
    expect(server.finish(), 0);
}

#[test]
fn socat_sends_receives_and_asks() {
    let dir = Dir::new();
    let (x, y) = (path(&dir, "x"), path(&dir, "y"));
    let ours = recv(&dir, "1");
    let mut socat = Command::new("socat");
    let send = format!("printf hi | socat -u - UNIX-SENDTO:{x}");
    let mut shell = Command::new("sh");
    expect_text(run(shell.args(["-c", &send])), 0);
    assert_eq!(expect_text(ours.finish(), 0), "hi\n");
    // It goes on until it is killed.
    socat.args(["-u", &format!("UNIX-RECV:{y}"), "-"]);
    let theirs = start(socat.stdin(Stdio::null()));
    let to = format!("unixgram:{y}");
    expect(run(&mut aqueduct(&["send", &to, "one", "two"])), 0);
    theirs.printed(6);
    theirs.signal(Signal::SIGTERM);
    assert_eq!(theirs.finish().stdout, b"onetwo");
    // A service that echoes.
    let port = free_port();
    for (listen, address) in [
        (
            format!("UNIX-RECVFROM:{y}-echo,fork"),
            format!("unixgram:{y}-echo"),
        ),
        (
            format!("UDP-RECVFROM:{port},bind=127.0.0.1,fork"),
            format!("udp://127.0.0.1:{port}"),
        ),
    ] {
        let _echo = tool("socat", &[&listen, "EXEC:cat"]);
        let call = ["call", &address, "hi", "--timeout", "500ms"];
        // Nothing tells when a UDP server is there.
        until("it answers", || run(&mut aqueduct(&call)).stdout == b"hi\n");
    }
    // And asks one of ours.
    let serve = ["serve", "udp://127.0.0.1:0", "--", "tr", "a-z", "A-Z"];
    let serve = start(aqueduct(&serve).stdin(Stdio::null()));
    let at = serve.told("udp://127.0.0.1:").split_off("udp://".len());
    let ask = format!("printf hi | socat -t 5 - UDP:{at}");
    let mut shell = Command::new("sh");
    let asked = start(shell.args(["-c", &ask]));
    asked.printed(2);
    assert_eq!(expect_text(asked.finish(), 0), "HI");
}

#[test]
fn a_log_socket_is_read_by_either() {
    for server in <[String; 2]>::from(row("receive what programs log to a datagram socket")) {
        let place = Place::new(&[]);
        let out = place.dir().path("out");
        let _server = place.serve(&format!("exec > /tmp/out; {server}"));
        until("it is bound", || place.dir().path("log").exists());
        let log = place.dir().path("log").display().to_string();
        let logger = tool("logger", &["-d", "-u", &log, "-t", "peers", "a line"]);
        expect(logger.finish(), 0);
        until("it is written", || {
            std::fs::read_to_string(&out).is_ok_and(|it| it.contains("peers: a line"))
        });
    }
}

#[test]
fn a_line_for_syslog_is_sent_by_either() {
    let dir = Dir::new();
    let log = dir.path("log");
    let daemon = std::os::unix::net::UnixDatagram::bind(&log).unwrap();
    daemon
        .set_read_timeout(Some(crate::support::DEADLINE))
        .unwrap();
    for client in <[String; 2]>::from(row("log a line to syslog")) {
        let place = Place::new(&[("/dev/log", log.to_str().unwrap())]);
        expect_text(run(&mut place.shell(&client)), 0);
        let mut line = [0; 1000];
        let len = daemon.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..len]);
        assert!(line.starts_with("<13>"), "{line}");
        assert!(line.contains("backup: done"), "{line}");
    }
}

#[test]
fn a_metric_for_statsd_is_sent_by_either() {
    let statsd = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let limit = Some(crate::support::DEADLINE);
    statsd.set_read_timeout(limit).unwrap();
    let port = statsd.local_addr().unwrap().port().to_string();
    for client in <[String; 2]>::from(row("send a metric to StatsD")) {
        let place = Place::new(&[("8125", &port)]);
        expect_text(run(&mut place.shell(&client)), 0);
        let mut metric = [0; 100];
        let len = statsd.recv(&mut metric).unwrap();
        assert_eq!(&metric[..len], b"hits:1|c");
    }
}

/// In place of the daemon at `/dev/log`.
#[test]
fn what_logger_logs_is_received() {
    let dir = Dir::new();
    let ours = recv(&dir, "2");
    let x = path(&dir, "x");
    for words in ["a first line", "and a second"] {
        let logger = ["-d", "-u", &x, "-p", "user.warning", "-t", "peers", words];
        expect(tool("logger", &logger).finish(), 0);
    }
    let logged = expect_text(ours.finish(), 0);
    let lines: Vec<_> = logged.lines().collect();
    assert_eq!(lines.len(), 2, "{logged}");
    assert!(lines[0].starts_with("<12>"), "{logged}");
    assert!(lines[0].ends_with("peers: a first line"), "{logged}");
    assert!(lines[1].ends_with("peers: and a second"), "{logged}");
}

/// In place of the service manager whose socket is in `NOTIFY_SOCKET`.
#[test]
fn what_systemd_notify_says_is_received() {
    let dir = Dir::new();
    let ours = recv(&dir, "1");
    let mut notify = Command::new("systemd-notify");
    notify
        .args(["--ready", "--no-block", "--status=at work"])
        .env("NOTIFY_SOCKET", dir.path("x"));
    expect_text(run(&mut notify), 0);
    let said = expect_text(ours.finish(), 0);
    assert!(said.contains("READY=1\nSTATUS=at work"), "{said}");
    // Without --no-block it waits until the receiver has closed the descriptor that it sends.
    let ours = recv(&dir, "2");
    let mut notify = Command::new("systemd-notify");
    notify.arg("--ready").env("NOTIFY_SOCKET", dir.path("x"));
    expect_text(run(&mut notify), 0);
    let said = expect_text(ours.finish(), 0);
    assert!(said.ends_with("BARRIER=1\n"), "{said}");
}

/// A syslog daemon with a socket and a UDP port of its own. It writes what it logs to a file, and
/// forwards it to a socket and a port.
struct Rsyslog {
    _running: Running,
    out: std::path::PathBuf,
    port: u16,
}

impl Rsyslog {
    fn start(dir: &Dir, forward_to: u16) -> Option<Self> {
        let (port, out) = (free_port(), dir.path("out"));
        let text = format!(
            r#"
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{log}")
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}")
module(load="omuxsock")
*.* action(type="omfile" file="{out}" template="RSYSLOG_SyslogProtocol23Format")
*.* action(type="omfwd" target="127.0.0.1" port="{forward_to}" protocol="udp")
$OMUxSockSocket {forward}
*.* :omuxsock:
"#,
            log = path(dir, "log"),
            out = out.display(),
            forward = path(dir, "x"),
        );
        std::fs::write(dir.path("rsyslog.conf"), text).unwrap();
        // It is not in every user's PATH.
        let program = "/usr/sbin/rsyslogd";
        if !std::path::Path::new(program).exists() {
            println!("SKIPPED: there is no {program}");
            return None;
        }
        let (file, pid) = (path(dir, "rsyslog.conf"), path(dir, "pid"));
        let running = tool(program, &["-n", "-C", "-f", &file, "-i", &pid]);
        Some(Self {
            _running: running,
            out,
            port,
        })
    }

    fn has_logged(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.out).is_ok_and(|it| it.contains(text))
    }
}

/// Both directions over both kinds of datagrams.
#[test]
fn rsyslog_logs_what_is_sent_and_forwards_it() {
    let dir = Dir::new();
    let ours = recv(&dir, "1");
    let udp = start(aqueduct(&["recv", "udp://127.0.0.1:0", "-n", "1"]).stdin(Stdio::null()));
    let at = udp.told("udp://127.0.0.1:");
    let forward_to = at.rsplit_once(':').unwrap().1.parse().unwrap();
    let Some(rsyslog) = Rsyslog::start(&dir, forward_to) else {
        return;
    };
    // The sender waits until the daemon has bound its socket.
    let log = format!("unixgram:{}", path(&dir, "log"));
    let line = "<13>peers: through the socket";
    expect_text(run(&mut aqueduct(&["send", "-q", &log, line])), 0);
    until("it is logged", || rsyslog.has_logged("through the socket"));
    for forwarded in [ours, udp] {
        let line = String::from_utf8(expect(forwarded.finish(), 0).0).unwrap();
        assert!(line.starts_with("<13>"), "{line}");
        assert!(line.contains("peers: through the socket"), "{line}");
    }
    // Nothing tells when it has bound the port.
    let port = format!("udp://127.0.0.1:{}", rsyslog.port);
    let line = "<13>Nov 30 12:00:00 here peers: through the port";
    until("it is logged", || {
        run(&mut aqueduct(&["send", &port, line]));
        rsyslog.has_logged("through the port")
    });
}
