use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::error::Error;
use super::sender::Sender;

/// A [`Sender`] that several tasks share: each has a clone.
///
/// [`Sender::shared`] creates it. Sending takes `&self`.
///
/// - **Order**: items are sent in the order in which the calls were first polled. Items of one task
///   keep their order.
/// - **Backpressure**: all tasks wait while the transport is full, and continue in turn.
/// - **Flushing**: `send` returns when the system has its item. Tasks that send at the same time
///   share one system call.
///
/// The handles share a lock; there is no extra task or queue. Dropping the last handle drops the
/// sender, which ends that direction.
///
/// # Examples
///
/// ```
/// use aqueduct::{Channel, codec::Text};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (here, mut there) = Channel::<String, String>::pair(Text);
/// let sender = here.into_split().0.shared();
/// for worker in 0..4 {
///     let sender = sender.clone();
///     tokio::spawn(async move { sender.send(format!("worker {worker}")).await });
/// }
/// drop(sender);
/// let mut workers = 0;
/// while let Some(line) = there.recv().await {
///     assert!(line?.starts_with("worker"));
///     workers += 1;
/// }
/// assert_eq!(workers, 4);
/// # Ok(()) }
/// ```
#[must_use = "dropping the last handle ends the direction"]
pub struct SenderHandle<T> {
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    sender: Sender<T>,
    /// How many items were queued.
    queued: u64,
    /// How many of them were handed to the system.
    flushed: u64,
}

impl<T> Sender<T> {
    /// Shares the sender between tasks, as a handle that can be cloned.
    pub fn shared(self) -> SenderHandle<T> {
        let state = State {
            sender: self,
            queued: 0,
            flushed: 0,
        };
        SenderHandle {
            state: Arc::new(Mutex::new(state)),
        }
    }
}

impl<T> SenderHandle<T> {
    /// Sends one item and waits until the system has it, as [`Sender::send`] does.
    ///
    /// # Errors
    ///
    /// See [`Sender::send`]. An item that cannot be encoded, or is too large, is an error of its
    /// caller only.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe. If the future is dropped while it waits for its turn or for room, the item
    /// is dropped. Later the item is queued, and sent with the next item of any handle.
    pub async fn send(&self, item: T) -> Result<(), Error> {
        self.queue(item).await?.flushed().await
    }

    /// Sends all items, without items of other handles in between, and flushes once.
    ///
    /// # Errors
    ///
    /// As for [`Sender::send_all`].
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: after a drop it is unknown how many items were taken.
    pub async fn send_all(&self, items: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.state.lock().await.sender.send_all(items).await
    }

    /// Closes the sender for all handles, as [`Sender::close`] does.
    ///
    /// # Errors
    ///
    /// See [`Sender::close`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: call it again to continue.
    pub async fn close(&self) -> Result<(), Error> {
        self.state.lock().await.sender.close().await
    }

    /// Queues one item. Dropping the future drops the item, which is then not sent.
    pub(crate) async fn queue(&self, item: T) -> Result<Queued<'_, T>, Error> {
        let mut state = self.state.lock().await;
        state.sender.reserve().await?.send(item)?;
        state.queued += 1;
        Ok(Queued {
            state: &self.state,
            number: state.queued,
        })
    }
}

/// A queued item.
#[must_use = "it may wait until it is flushed"]
pub(crate) struct Queued<'a, T> {
    state: &'a Mutex<State<T>>,
    number: u64,
}

impl<T> Queued<'_, T> {
    /// Waits until the system has the item.
    ///
    /// The lock is fair: tasks that were waiting to queue have done so by now, and their items are
    /// flushed along.
    pub(crate) async fn flushed(self) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        if state.flushed < self.number {
            let queued = state.queued;
            if state.sender.flush_burst().await? {
                state.flushed = queued;
            }
        }
        Ok(())
    }
}

impl<T> Clone for SenderHandle<T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<T> fmt::Debug for SenderHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderHandle")
            .field("item", &type_name::<T>())
            .finish_non_exhaustive()
    }
}
