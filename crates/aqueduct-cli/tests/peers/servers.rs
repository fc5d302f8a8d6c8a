//! Servers that know nothing of this project, called and talked to over their Unix sockets: Redis, HAProxy
//! and memcached, as Debian has them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::readme::{Place, row_of};
use crate::support::{
    Dir, Running, aqueduct, expect, expect_text, run, start, start_with_input, until,
};

/// A server in a directory of its own, and the address of its socket.
struct Server {
    address: String,
    _running: Running,
    _dir: Dir,
}

fn server(program: &str, args: impl FnOnce(&Path) -> Vec<String>) -> Server {
    let dir = Dir::new();
    let socket = dir.path("socket");
    let mut command = Command::new(program);
    command.args(args(&socket)).current_dir(dir.path(""));
    let running = start(command.stdin(Stdio::null()));
    let address = format!("unix:{}", socket.display());
    // It takes connections as soon as it listens.
    until("it listens", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    Server {
        address,
        _running: running,
        _dir: dir,
    }
}

fn redis() -> Server {
    server("redis-server", |socket| {
        let path = socket.display().to_string();
        let args = ["--port", "0", "--save", "", "--unixsocket", &path];
        args.map(str::to_owned).to_vec()
    })
}

fn memcached() -> Server {
    server("memcached", |socket| {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
        let user = user.unwrap().map_or_else(String::new, |it| it.name);
        let path = socket.display().to_string();
        let args = ["-u", &user, "-a", "600", "-s", &path];
        args.map(str::to_owned).to_vec()
    })
}

fn haproxy() -> Server {
    server("haproxy", |socket| {
        let file = socket.with_file_name("haproxy.cfg");
        let (stats, front) = (socket.display(), socket.with_file_name("front"));
        let text = format!(
            "global\n stats socket {stats} mode 600 level admin\n\
             defaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n\
             frontend f\n bind unix@{}\n",
            front.display()
        );
        std::fs::write(&file, text).unwrap();
        vec![
            "-db".to_owned(),
            "-f".to_owned(),
            file.display().to_string(),
        ]
    })
}

impl Server {
    fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = aqueduct(&[name, &self.address]);
        command.args(args).stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> String {
        expect_text(run(&mut self.command("call", args)), 0)
    }

    fn talk(&self, args: &[&str], input: &str) -> String {
        expect_text(
            start_with_input(&mut self.command("talk", args), input).finish(),
            0,
        )
    }
}

/// What the guide says of each, as it stands there.
#[test]
fn the_rows_of_the_guide_work() {
    let page = include_str!("../../../../docs/src/other-programs.md");
    for (program, server, answer, input, conversation) in [
        (
            "Redis",
            redis(),
            "+PONG\n",
            "PING\nQUIT\n",
            "+PONG\r\n+OK\r\n",
        ),
        (
            "memcached",
            memcached(),
            "STAT pid ",
            "verbosity 0\nquit\n",
            "OK\r\n",
        ),
        (
            "HAProxy",
            haproxy(),
            "Name: HAProxy\n",
            "show version\n",
            "",
        ),
    ] {
        let (ask, talk) = row_of(page, program);
        let in_page = ask.split(' ').find(|it| it.starts_with("unix:")).unwrap();
        let place = Place::new(&[(in_page, &server.address)]);
        let text = expect_text(run(&mut place.shell(&ask)), 0);
        assert!(text.starts_with(answer), "{text}");
        let talk = start_with_input(&mut place.shell(&talk), input);
        let text = expect_text(talk.finish(), 0);
        assert!(text.starts_with(conversation), "{text}");
    }
}

#[test]
fn redis_is_called_and_talked_to() {
    let redis = redis();
    assert_eq!(redis.call(&["--frame", "crlf", "PING"]), "+PONG\n");
    let mut pipeline = redis.command("call", &["--frame", "crlf", "--replies", "3"]);
    let pipeline = start_with_input(&mut pipeline, "SET a 1\nGET a\n");
    assert_eq!(expect_text(pipeline.finish(), 0), "+OK\n$1\n1\n");
    // What was left of an answer, and an answer that goes on.
    let half = redis
        .command("call", &["--frame", "crlf", "GET a"])
        .output();
    let (out, said) = expect(half.unwrap(), 1);
    assert_eq!(out, b"$1\n");
    assert!(said.contains(": 3 unexpected bytes "), "{said}");
    let subscribed = redis.call(&["--frame", "crlf", "--idle", "300ms", "SUBSCRIBE news"]);
    assert_eq!(subscribed, "*3\n$9\nsubscribe\n$4\nnews\n:1\n");
    let said = redis.talk(&["--crlf"], "PING\nGET a\nQUIT\n");
    assert_eq!(said, "+PONG\r\n$1\r\n1\r\n+OK\r\n");
}

#[test]
fn redis_cli_reaches_a_unix_socket_through_the_proxy() {
    let redis = redis();
    let proxy = start(&mut aqueduct(&[
        "proxy",
        "tcp://127.0.0.1:0",
        &redis.address,
    ]));
    let address = proxy.told("tcp://127.0.0.1:");
    let port = address.rsplit(':').next().unwrap();
    let mut cli = Command::new("redis-cli");
    let cli = start_with_input(cli.args(["-p", port]), "SET a 1\nINCR a\nSUBSCRIBE news\n");
    cli.printed("OK\n2\nsubscribe\nnews\n1\n".len());
    let publish = redis.call(&["--frame", "crlf", "PUBLISH news now"]);
    assert_eq!(publish, ":1\n");
    cli.printed("OK\n2\nsubscribe\nnews\n1\nmessage\nnews\nnow\n".len());
    drop(cli);
    // As many bytes as a benchmark moves.
    let mut many = Command::new("redis-benchmark");
    let args = [
        "-p", port, "-n", "2000", "-P", "8", "-d", "3000", "-t", "set,get", "-q",
    ];
    expect(run(many.args(args)), 0);
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    expect(proxy.finish(), 0);
}

#[test]
fn haproxy_answers_with_all_its_lines() {
    let haproxy = haproxy();
    let all = haproxy.call(&["--all", "show info"]);
    assert!(
        all.starts_with("Name: HAProxy\n") && all.lines().count() > 40,
        "{all}"
    );
    // The empty line at its end.
    let until = haproxy.call(&["--until", "", "show info"]);
    assert_eq!(until.lines().count(), all.lines().count());
    let (out, said) = expect(run(&mut haproxy.command("call", &["show info"])), 1);
    assert_eq!(out, b"Name: HAProxy\n");
    assert!(said.contains("unexpected bytes"), "{said}");
    // Its prompt has no end.
    let said = haproxy.talk(&[], "prompt\nshow version\nquit\n");
    assert!(
        said.starts_with("\n> ") && said.ends_with("\n\n> "),
        "{said:?}"
    );
}

#[test]
fn memcached_is_called_and_talked_to() {
    let memcached = memcached();
    let stats = memcached.call(&["--until", "END", "stats"]);
    assert!(
        stats.starts_with("STAT pid ") && stats.ends_with("\nEND\r\n"),
        "{stats}"
    );
    let mut set = memcached.command("call", &["--frame", "crlf", "--replies", "1"]);
    let set = start_with_input(&mut set, "set k 0 0 5\nhello\n");
    assert_eq!(expect_text(set.finish(), 0), "STORED\n");
    let said = memcached.talk(&["--crlf"], "get k\nquit\n");
    assert_eq!(said, "VALUE k 0 5\r\nhello\r\nEND\r\n");
}
