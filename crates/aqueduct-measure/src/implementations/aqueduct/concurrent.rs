//! Several sends at a time over one Unix socket, each done when its item is with the system.

use std::sync::Arc;

use aqueduct::codec::Postcard;
use aqueduct::{Receiver, Sender};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::connection;
use crate::implementations::{Asks, play_halves};
use crate::message::{Item, Message};
use crate::sample::SideReport;
use crate::session::Session;

/// How many sends are under way.
const AT_A_TIME: usize = 8;

/// Sends by what `share` makes of the sender.
fn run<C, F>(
    session: &Session,
    share: impl FnOnce(Sender<Item>) -> C + Send + 'static,
) -> anyhow::Result<SideReport>
where
    C: Fn(&'static Message) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<Option<Item>>> + Send + 'static,
{
    let (sender, receiver) = connection(session)?.channel(Postcard).into_split();
    if !session.is_first() {
        return play_halves(session, (None::<Sender<Item>>, Some(receiver)));
    }
    let send = session.exec().run(async move { Ok(share(sender)) })?;
    let asks = Asks::new(session, AT_A_TIME, send);
    play_halves(session, (Some(asks), None::<Receiver<Item>>))
}

/// By handles of one sender.
pub(super) fn handles(session: &Session) -> anyhow::Result<SideReport> {
    run(session, |sender| {
        let shared = sender.shared();
        move |message| {
            let shared = shared.clone();
            async move {
                shared.send(message.item).await?;
                Ok(None)
            }
        }
    })
}

/// By a sender behind Tokio's mutex.
pub(super) fn mutex(session: &Session) -> anyhow::Result<SideReport> {
    run(session, |sender| {
        let shared = Arc::new(Mutex::new(sender));
        move |message| {
            let shared = Arc::clone(&shared);
            async move {
                shared.lock().await.send(message.item).await?;
                Ok(None)
            }
        }
    })
}

type Queued = (Item, oneshot::Sender<()>);

/// By a task with a queue, which tells each sender when its item is out.
pub(super) fn queue(session: &Session) -> anyhow::Result<SideReport> {
    run(session, |sender| {
        let (queue, items) = mpsc::channel(AT_A_TIME);
        tokio::spawn(forward(items, sender));
        move |message| {
            let queue = queue.clone();
            async move {
                let (done, sent) = oneshot::channel();
                queue.send((message.item, done)).await?;
                sent.await?;
                Ok(None)
            }
        }
    })
}

async fn forward(
    mut items: mpsc::Receiver<Queued>,
    mut sender: Sender<Item>,
) -> Result<(), aqueduct::Error> {
    let mut batch = Vec::with_capacity(AT_A_TIME);
    while items.recv_many(&mut batch, AT_A_TIME).await > 0 {
        for (item, _) in &batch {
            sender.feed(*item).await?;
        }
        sender.flush().await?;
        for (_, done) in batch.drain(..) {
            // Nobody may wait any more.
            let _ = done.send(());
        }
    }
    Ok(())
}
