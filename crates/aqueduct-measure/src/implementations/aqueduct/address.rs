//! Whatever an address names.

use aqueduct::Endpoint;
use aqueduct::connect::Options;
use aqueduct::endpoint::Direction;

use super::{FEED, Rx, Tx, ended};
use crate::implementations::play_halves;
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::Session;

/// The second side binds the address of the sample, the first connects to what that is then.
pub(super) fn run(session: &Session) -> anyhow::Result<SideReport> {
    let address = session.spec().address.clone();
    let first = session.is_first();
    let halves = session.exec().run(async move {
        let (endpoint, options) = (address.parse::<Endpoint>()?, Options::new());
        if endpoint.capabilities().direction == Direction::OneWay {
            if first {
                let sender = options.open_sender(&endpoint).await?;
                return Ok((Some(sender.into_frames()), None));
            }
            let receiver = options.open_receiver(&endpoint).await?;
            ready(&address)?;
            return Ok((None, Some(receiver.into_frames())));
        }
        let connection = if first {
            options.connect(&endpoint).await?
        } else {
            let mut listener = options.bind(&endpoint).await?;
            ready(&listener.local_endpoint().to_string())?;
            listener.accept().await.ok_or_else(ended)??
        };
        let (tx, rx) = connection.into_frames();
        Ok((Some(tx), Some(rx)))
    })?;
    let (tx, rx) = halves;
    play_halves(
        session,
        (tx.map(|sink| Tx { sink, each: FEED }), rx.map(Rx)),
    )
}
