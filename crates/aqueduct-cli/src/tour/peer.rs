//! peer
use crate::cli::PeerArgs;
use crate::exit::Exit;
pub(crate) async fn run(_args: PeerArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Done)
}
