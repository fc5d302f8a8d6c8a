use nix::sys::signal::Signal;

use super::program::Program;
use crate::mq::QueueName;
use crate::support::example;

/// Runs the client to its end.
async fn calls(addresses: &[String]) {
    let arguments = std::iter::once("call").chain(addresses.iter().map(String::as_str));
    let printed = Program::start("tarpc_calls", arguments).succeeds().await;
    assert_eq!(
        printed,
        [
            "100 sums at a time: the last one is 198",
            "1 cannot be divided by 0",
            "a call with a deadline: given up in time",
        ]
    );
}

#[tokio::test]
async fn tarpc_calls_go_over_every_two_way_address() {
    let dir = tempfile::tempdir().unwrap();
    for address in [
        format!("unix:{}/calls.sock", dir.path().display()),
        format!("unixpacket:{}/calls.packets", dir.path().display()),
        String::from("tcp://127.0.0.1:0"),
    ] {
        let mut server = Program::start("tarpc_calls", ["serve", &address]);
        let address = [server.error("listening on ").await];
        tokio::join!(calls(&address), calls(&address));
        server.signal(Signal::SIGTERM);
        server.succeeds().await;
    }
    let program = example("tarpc_calls");
    let program = program.get_program().display();
    calls(&[format!("exec:{program} serve stdio:")]).await;
}

#[tokio::test]
async fn tarpc_calls_go_over_a_pair_of_message_queues_or_fifos() {
    let (calls_to, answers) = (QueueName::new(), QueueName::new());
    // Fewer places than calls at a time: each side has to wait for the other.
    let queues = [&calls_to, &answers].map(|it| format!("mq:{}?capacity=4&max-message=1024", it.0));
    let dir = tempfile::tempdir().unwrap();
    let fifos = ["calls", "answers"].map(|it| format!("fifo:{}/{it}", dir.path().display()));
    for pair in [queues, fifos] {
        let server = Program::start("tarpc_calls", ["serve", &pair[0], &pair[1]]);
        // One after the other.
        for _ in 0..3 {
            calls(&pair).await;
        }
        server.signal(Signal::SIGTERM);
        server.succeeds().await;
    }
}
