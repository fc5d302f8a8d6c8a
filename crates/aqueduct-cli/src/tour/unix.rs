//! Unix sockets: a stream of bytes, and whole packets.

use anyhow::Context;
use aqueduct::Endpoint;

use super::requests::{self, Server};
use super::stage::Stage;

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("A server in another process, asked over a stream socket and then over")?;
    stage.say("one that keeps messages whole. The kernel says who is at the other end.")?;
    let path = stage.path("socket");
    for scheme in ["unix", "unixpacket"] {
        let (name, endpoint) = (format!("{scheme}:"), Endpoint::new(scheme, &path)?);
        let server = Server::start(stage, &endpoint.to_string()).await?;
        let connection = server.endpoint.connect().await?;
        let peer = *connection.peer();
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
    }
    Ok(())
}
