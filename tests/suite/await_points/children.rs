use aqueduct::child::{Child, Command, Receiver};
use aqueduct::pipe;
use aqueduct_conformance::every_point;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A child that ends with 7 when its descriptor 3 is closed, and that descriptor.
async fn child() -> (Child, Option<pipe::Sender>) {
    let mut command = Command::new("sh");
    command
        .args(["-c", "read line <&3; exit 7"])
        .pipe_to_child(3);
    let mut child = command.spawn().expect("it starts");
    let input = child.take_sender(3).expect("it has one");
    (child, Some(input))
}

#[tokio::test]
async fn waiting_for_the_end_and_killing() {
    every_point(
        "child::Child::wait",
        child,
        async |child: &mut Child| child.wait().await,
        async |input| drop(input.take()),
        async |mut child, input, _| {
            drop(input);
            let status = child.wait().await.expect("it can be asked again");
            assert_eq!(status.code(), Some(7));
        },
    )
    .await;
    // The signal is sent at the first poll, and reaping can go on.
    every_point(
        "child::Child::kill",
        child,
        async |child: &mut Child| child.kill().await,
        async |_| {},
        async |mut child, _input, _| {
            let status = child.wait().await.expect("it can be asked again");
            assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
        },
    )
    .await;
}

#[tokio::test]
async fn reading_what_a_child_writes() {
    every_point(
        "child::Receiver::read",
        async || {
            let mut command = Command::new("cat");
            command.pipe_to_child(0).pipe_from_child(1);
            let mut child = command.spawn().expect("it starts");
            let input = child.take_sender(0).expect("it has one");
            let output = child.take_receiver(1).expect("it has one");
            (output, (input, 0, child))
        },
        async |output: &mut Receiver| output.read(&mut [0; 8]).await,
        async |(input, sent, _)| {
            if *sent == 0 {
                *sent = input.write(b"one").await.expect("it is written");
            }
        },
        async |mut output, (input, sent, mut child), taken| {
            drop(input);
            let taken = taken.map_or(0, |it| it.expect("it is read"));
            let mut rest = Vec::new();
            output.read_to_end(&mut rest).await.expect("it is read");
            assert_eq!(taken + rest.len(), sent);
            assert!(child.wait().await.expect("it ends").success());
        },
    )
    .await;
}
