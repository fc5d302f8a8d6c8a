//! interprocess: a local socket under tokio-util's frames.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::play;
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

pub(crate) const CASES: &[Case] = &[Case {
    name: "peer/interprocess",
    mechanism: Mechanism::Own,
    runtime: Runtime::CurrentThread,
    works: BOTH,
    sizes: &[],
    run,
}];

struct Both(Framed<Stream, LengthDelimitedCodec>);

impl Sends for Both {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.feed(message.bytes.clone()).await?)
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        Ok(SinkExt::<Bytes>::flush(&mut self.0).await?)
    }
}

impl Receives for Both {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let frame = self.0.next().await;
        check.frame(&frame.ok_or_else(|| anyhow::anyhow!("the stream has ended"))??)
    }
}

fn run(session: &Session) -> anyhow::Result<SideReport> {
    let path = session.spec().path("socket");
    let first = session.is_first();
    let stream = session.exec().run(async move {
        let name = path.to_fs_name::<GenericFilePath>()?;
        if first {
            return Ok(Stream::connect(name).await?);
        }
        let listener = ListenerOptions::new().name(name).create_tokio()?;
        ready("")?;
        Ok(listener.accept().await?)
    })?;
    play(
        session,
        Both(Framed::new(stream, LengthDelimitedCodec::new())),
    )
}
