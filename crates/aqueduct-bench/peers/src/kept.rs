//! Ends that live until the other process is done.
//!
//! Most of these libraries send in a task or thread of their own, and what that still has is lost
//! when the end is dropped: here each side waits for the other first, after all that is measured.

use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use aqueduct_measure::exec::Exec;
use aqueduct_measure::implementations::play;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Check, Message, Receives, Sends, Session};

/// Where the two processes wait for each other.
pub(crate) enum Meeting {
    First(PathBuf),
    Second(UnixListener),
}

impl Meeting {
    /// Has to be there before the second side says that it is ready.
    pub(crate) fn new(session: &Session) -> anyhow::Result<Self> {
        let path = session.spec().path("meeting");
        Ok(if session.is_first() {
            Self::First(path)
        } else {
            Self::Second(UnixListener::bind(path)?)
        })
    }

    /// Has the second side connect its ends to those that the first one has made, and the first one wait
    /// for that before it connects its own.
    pub(crate) fn connect(
        &self,
        connect: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self {
            Self::First(path) => {
                UnixStream::connect(path)?.read_to_end(&mut Vec::new())?;
                connect()
            }
            Self::Second(listener) => {
                let _told = listener.accept()?;
                connect()
            }
        }
    }

    /// Plays this side, and keeps its end until the other side is done too.
    pub(crate) fn play<D: Sends + Receives>(
        self,
        session: &Session,
        end: D,
    ) -> anyhow::Result<SideReport> {
        let kept = Arc::new(Mutex::new(None));
        let both = Kept {
            end: Some(end),
            kept: kept.clone(),
        };
        let report = play(session, both)?;
        if matches!(session.exec(), Exec::Blocking) {
            let mut stream = match self {
                Self::First(path) => UnixStream::connect(path)?,
                Self::Second(listener) => listener.accept()?.0,
            };
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new())?;
            return Ok(report);
        }
        // Meanwhile the library's tasks run on.
        session.exec().run(async move {
            let mut stream = match self {
                Self::First(path) => tokio::net::UnixStream::connect(path).await?,
                Self::Second(listener) => {
                    listener.set_nonblocking(true)?;
                    tokio::net::UnixListener::from_std(listener)?
                        .accept()
                        .await?
                        .0
                }
            };
            stream.shutdown().await?;
            stream.read_to_end(&mut Vec::new()).await?;
            drop(kept);
            Ok(())
        })?;
        Ok(report)
    }
}

/// An end that is put aside when it is dropped.
struct Kept<D> {
    end: Option<D>,
    kept: Arc<Mutex<Option<D>>>,
}

impl<D> Kept<D> {
    fn end(&mut self) -> anyhow::Result<&mut D> {
        let end = self.end.as_mut();
        end.ok_or_else(|| anyhow::anyhow!("the end was put aside"))
    }
}

impl<D: Sends> Sends for Kept<D> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        self.end()?.send(message).await
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.end()?.flush().await
    }
}

impl<D: Receives> Receives for Kept<D> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        self.end()?.receive(check).await
    }
}

impl<D> Drop for Kept<D> {
    fn drop(&mut self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = self.end.take();
    }
}
