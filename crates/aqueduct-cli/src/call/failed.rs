//! How a call fails.

use std::io;

use aqueduct::frame::FrameError;

use super::request::Failed;
use super::{Call, LAST_WORDS, Sent};
use crate::config::CallConfig;
use crate::exit::Failure;
use crate::forward::Stopped;
use crate::recv;

impl Call<'_> {
    /// The stream has ended: whether that is the end of a reply.
    pub(super) async fn ended<T>(&mut self, sent: &Sent<T>) -> anyhow::Result<()> {
        let address = &self.config.endpoint;
        let begun = self.reply.has_begun();
        // How a program ended tells more than that it did not take what it was sent.
        if !begun
            && let Some(child) = &mut self.child
            && let Ok(status) = tokio::time::timeout(LAST_WORDS, child.wait()).await
        {
            let status = status?;
            anyhow::bail!("{address} ended without a reply, with {status}");
        }
        if matches!(sent, Sent::Done(Err(_))) {
            return Ok(());
        }
        let missing = self.config.link.missing();
        anyhow::ensure!(begun, "{address} closed without a reply{missing}");
        match self.reply.missing() {
            Some(missing) => Err(anyhow::Error::msg(missing)),
            None => Ok(()),
        }
    }

    /// Whether the peer took the whole request.
    pub(super) fn taken<T>(&self, sent: Result<T, Failed>) -> anyhow::Result<T> {
        sent.map_err(|failed| match failed {
            Stopped::From(error) => error,
            Stopped::To(error) if FrameError::of(&error).is_some() => {
                let CallConfig { endpoint, link, .. } = self.config;
                anyhow::anyhow!("{endpoint}: {}", link.refused("the request", &error))
            }
            Stopped::To(error) => {
                let address = &self.config.endpoint;
                let sentence = match error.kind() {
                    io::ErrorKind::ConnectionRefused => format!("no process receives at {address}"),
                    _ => format!("{address} has closed before it took the whole message"),
                };
                anyhow::Error::new(error).context(sentence)
            }
        })
    }

    /// Why nothing more comes.
    pub(super) fn broken(&self, error: io::Error) -> anyhow::Error {
        let reset = error.kind() == io::ErrorKind::ConnectionReset;
        let error = recv::broken(error, &self.config.endpoint);
        match reset && !self.reply.has_begun() {
            true => anyhow::anyhow!("{error:#}, without a reply{}", self.config.link.missing()),
            false => error,
        }
    }

    pub(super) fn given_up(&self) -> anyhow::Error {
        anyhow::anyhow!("stopped before {} replied", self.config.endpoint)
    }

    pub(super) fn timed_out(&mut self) -> anyhow::Error {
        let limit = self.config.link.timeout.unwrap_or_default();
        let address = &self.config.endpoint;
        let n = self.incoming.unfinished();
        Failure::timed_out(match (n, self.reply.has_begun()) {
            (0, false) => format!("no reply arrived from {address} for {limit:?}"),
            (0, true) => format!("{address} did not end its reply for {limit:?}"),
            _ => format!("the reply of {address} is unfinished after {n} bytes for {limit:?}"),
        })
    }
}
