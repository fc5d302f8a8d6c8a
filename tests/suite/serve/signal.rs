//! A service that is told to end by a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use aqueduct::codec::Text;
use aqueduct::connect::Connection;
use aqueduct::frame::Framing;
use aqueduct::service::{respond, serve, shutdown_on_signal};
use aqueduct::tcp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Peer, is_peer, peer_command};

/// The process, its number, and what waits for a line that holds these words: the rest of it.
fn started(command: &mut Command) -> (Peer, Pid, impl FnMut(&str) -> String) {
    let mut service = Peer::spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()));
    let pid = Pid::from_raw(service.0.id() as i32);
    let mut printed = BufReader::new(service.0.stdout.take().expect("it is piped")).lines();
    let said = move |what: &str| {
        let line = printed.find_map(|line| {
            let line = line.expect("it can be read");
            line.split_once(what).map(|(_, rest)| rest.to_owned())
        });
        line.unwrap_or_else(|| panic!("it ended without saying {what:?}"))
    };
    (service, pid, said)
}

/// In a process of its own, since signals are for all of it.
#[tokio::test]
async fn ctrl_c_sigterm_and_sighup_end_a_service_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut command = peer_command("serve::signal::role_service");
        let (mut service, pid, mut said) = started(&mut command);
        let mut client = TcpStream::connect(said("listening on ")).expect("it listens");
        client.write_all(b"slow\n").expect("sent");
        said("asked");
        kill(pid, signal).expect("it lives");
        said("shutting down");
        // A second one changes nothing.
        kill(pid, Signal::SIGTERM).expect("it lives");
        kill(pid, Signal::SIGINT).expect("it lives");
        let mut reply = String::new();
        client.read_to_string(&mut reply).expect("answered");
        assert_eq!(reply, "SLOW\n");
        assert!(service.exit().await.expect("reaped").success());
    }
}

#[tokio::test]
async fn sighup_ignored_at_the_start_does_not_end_a_service() {
    let mut command = peer_command("serve::signal::role_service");
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    nohup.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        nohup.env(name, value.expect("it is set"));
    }
    command = nohup;
    let (mut service, pid, mut said) = started(&mut command);
    let address = said("listening on ");
    kill(pid, Signal::SIGHUP).expect("it lives");
    let mut client = TcpStream::connect(address).expect("it listens");
    client.write_all(b"slow\n").expect("sent");
    said("asked");
    kill(pid, Signal::SIGTERM).expect("it lives");
    let mut reply = String::new();
    client.read_to_string(&mut reply).expect("answered");
    assert_eq!(reply, "SLOW\n");
    assert!(service.exit().await.expect("reaped").success());
}

#[test]
fn role_service() {
    if !is_peer("serve::signal::role_service") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let listener = tcp::bind("127.0.0.1:0").await.expect("bound");
        let stop = shutdown_on_signal().expect("in a runtime");
        println!("listening on {}", listener.local_addr().expect("bound"));
        let served = serve(listener, stop, |socket, cx| async move {
            let channel =
                cx.channel::<String, String>(Connection::from_io(socket, Framing::lines()), Text);
            respond(channel, &cx, async |request: String| {
                println!("asked");
                cx.shutdown().await;
                println!("shutting down");
                // Time for what must not end this.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                request.to_uppercase()
            })
            .await
        });
        assert_eq!(served.await.expect("served").finished, 1);
    });
}

#[test]
fn without_a_runtime_it_is_an_error_and_no_panic() {
    assert!(shutdown_on_signal().is_err());
}
