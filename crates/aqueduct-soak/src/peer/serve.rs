use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use aqueduct::connect::{Connection, Options};
use aqueduct::{Endpoint, inherited};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinSet, LocalSet};

use super::{End, STOP_FD};
use crate::ledger::Received;
use crate::message;

/// Notes each message down and then answers it with its head, until it is told to stop and all
/// connections have ended.
pub(super) async fn run(address: &str, notes: &Path) -> anyhow::Result<End> {
    let endpoint: Endpoint = address.parse()?;
    let mut told = inherited::receiver(STOP_FD)?;
    let mut listener = Options::new().bind(&endpoint).await?;
    let received = Rc::new(RefCell::new(Received::create(notes)?));
    let local = LocalSet::new();
    let serve = async {
        let mut connections = JoinSet::new();
        let mut end = [0];
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Some(connection) => {
                        connections.spawn_local(answer(connection?, Rc::clone(&received)));
                    }
                    None => anyhow::bail!("the listener ended"),
                },
                Some(ended) = connections.join_next() => ended??,
                _ = told.read(&mut end) => break,
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        Ok(End::Whole)
    };
    local.run_until(serve).await
}

/// Any end of a connection will do: clients are killed and cut off. Messages are in order until then.
async fn answer(connection: Connection, received: Rc<RefCell<Received>>) -> anyhow::Result<()> {
    let (mut sink, mut stream) = connection.into_frames();
    let mut last = None;
    while let Some(Ok(body)) = stream.next().await {
        let record = message::read(&body);
        anyhow::ensure!(
            record.is_none() || last < record,
            "{record:?} came after {last:?}"
        );
        last = record.or(last);
        received.borrow_mut().note(record)?;
        let answer = Bytes::copy_from_slice(&body[..body.len().min(message::HEADER)]);
        if sink.send(answer).await.is_err() {
            return Ok(());
        }
    }
    let _ = sink.close().await;
    Ok(())
}
