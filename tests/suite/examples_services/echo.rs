use std::path::Path;

use nix::sys::signal::Signal;

use super::program::Program;
use crate::mq::QueueName;
use crate::support::example;

/// Said and heard again, in order.
async fn talk(client: &mut Program) {
    let long = "long ".repeat(100);
    for line in ["hello", "zwölf Boxkämpfer", " \t ", &long] {
        client.say(line).await;
        assert_eq!(client.line().await.as_deref(), Some(line));
    }
}

fn two_way(dir: &Path) -> [String; 3] {
    [
        format!("unix:{}/echo.sock", dir.display()),
        format!("unixpacket:{}/echo.packets", dir.display()),
        String::from("tcp://127.0.0.1:0"),
    ]
}

#[tokio::test]
async fn every_two_way_address_echoes_to_clients_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    for address in two_way(dir.path()) {
        let mut server = Program::start("echo_server", [&address]);
        let address = server.error("listening on ").await;
        let mut clients = [0; 3].map(|_| Program::start("echo_client", [&address]));
        for client in &mut clients {
            talk(client).await;
        }
        let [mut one, two, mut three] = clients;
        // One that is killed costs nobody else anything.
        two.signal(Signal::SIGKILL);
        talk(&mut three).await;
        one.end_input();
        assert_eq!(one.succeeds().await, [""; 0]);

        server.signal(Signal::SIGTERM);
        assert_eq!(server.error("served ").await, "3 connections");
        assert_eq!(server.succeeds().await, [""; 0]);
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "no socket stays");
}

#[tokio::test]
async fn a_pair_of_one_way_addresses_serves_one_client_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (there, back) = (QueueName::new(), QueueName::new());
    let fifo = |name| format!("fifo:{}/{name}", dir.path().display());
    let queue = |name: &QueueName| format!("mq:{}?capacity=2&max-message=1024", name.0);
    for pair in [[fifo("there"), fifo("back")], [queue(&there), queue(&back)]] {
        let server = Program::start("echo_server", &pair);
        for _ in 0..3 {
            let mut client = Program::start("echo_client", &pair);
            talk(&mut client).await;
            client.end_input();
            client.succeeds().await;
        }
        server.signal(Signal::SIGTERM);
        server.succeeds().await;
    }
}

#[tokio::test]
async fn a_client_echoes_with_a_later_server_and_with_a_child() {
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/late.sock", dir.path().display());
    let mut client = Program::start("echo_client", [&address]);
    client.say("early").await;
    let server = Program::start("echo_server", [&address]);
    assert_eq!(client.line().await.as_deref(), Some("early"));
    server.signal(Signal::SIGTERM);
    server.succeeds().await;

    let program = example("echo_server");
    let address = format!("exec:{} stdio:", program.get_program().display());
    let mut client = Program::start("echo_client", [&address]);
    talk(&mut client).await;
    client.end_input();
    client.succeeds().await;
}

#[tokio::test]
async fn a_one_way_address_alone_is_refused_in_words() {
    for name in ["echo_server", "echo_client"] {
        let mut program = Program::start(name, ["fifo:/nowhere"]);
        let why = program.error("Error: cannot ").await;
        assert!(why.contains("one-way"), "{why}");
        assert_eq!(program.exit().await.code(), Some(1));
    }
}
