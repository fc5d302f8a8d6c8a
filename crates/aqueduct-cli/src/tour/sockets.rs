//! Sockets: Unix streams, Unix packets, shared memory, TCP.

use anyhow::Context;
use aqueduct::Endpoint;
use aqueduct::connect::Peer;

use super::requests::{self, Server};
use super::stage::Stage;

pub(super) async fn unix(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("A server in another process, asked over a stream socket and then over")?;
    stage.say("one that keeps messages whole. The kernel says who is at the other end.")?;
    over(stage, "unix").await?;
    over(stage, "unixpacket").await
}

pub(super) async fn shm(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("The same server by shared memory: the two processes agree on it over a")?;
    stage.say("socket, and the kernel is asked only to wake a process that sleeps.")?;
    over(stage, "shm").await
}

/// A server at a path, and who it is.
async fn over(stage: &mut Stage, scheme: &str) -> anyhow::Result<()> {
    let path = stage.path("socket");
    let (name, endpoint) = (format!("{scheme}:"), Endpoint::new(scheme, &path)?);
    let server = Server::start(stage, &endpoint.to_string()).await?;
    let connection = server.endpoint.connect().await?;
    let peer = connection.peer().clone();
    let credentials = peer.credentials().context("the kernel names no peer")?;
    let pid = credentials.pid.and_then(|it| u32::try_from(it).ok());
    anyhow::ensure!(
        pid.is_some() && pid == server.pid(),
        "the kernel names {peer}, which is not the server"
    );
    stage.verified(format_args!("{name:<11} at the other end is {peer}"))?;
    requests::ask(stage, connection).await?;
    server.end().await?;
    anyhow::ensure!(!path.exists(), "the server has left its socket behind");
    Ok(())
}

pub(super) async fn tcp(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("The same server over TCP, on a port of the system's choice.")?;
    let server = Server::start(stage, "tcp://127.0.0.1:0").await?;
    let connection = server.endpoint.connect().await?;
    let peer = connection.peer().clone();
    let Peer::Address(at) = peer else {
        anyhow::bail!("the peer is {peer}, which is no address");
    };
    let reached = format!("tcp://{at}");
    anyhow::ensure!(
        reached == server.endpoint.to_string(),
        "{reached} has answered for {}",
        server.endpoint
    );
    stage.verified(format_args!("at the other end is {reached}"))?;
    requests::ask(stage, connection).await?;
    server.end().await
}
