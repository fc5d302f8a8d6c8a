//! TCP on this machine.

use aqueduct::connect::Peer;

use super::requests::{self, Server};
use super::stage::Stage;

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.say("The same server over TCP, on a port of the system's choice.")?;
    let server = Server::start(stage, "tcp://127.0.0.1:0").await?;
    let connection = server.endpoint.connect().await?;
    let peer = *connection.peer();
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
