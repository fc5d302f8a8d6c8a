//! ipc-channel: typed values, bytes, and a piece of shared memory for each message, by blocking calls.

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender,
    IpcSharedMemory,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::{Two, play};
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Item, Message, Receives, Sends, Session};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/ipc-channel",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        // A value of 64 bytes.
        sizes: &[64],
        run: values,
    },
    Case {
        name: "peer/ipc-channel/bytes",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run: bytes,
    },
    Case {
        name: "peer/ipc-channel/shared",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run: shared,
    },
];

struct Values<T>(T);

impl Sends for Values<IpcSender<Item>> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(message.item)?)
    }
}

impl Receives for Values<IpcReceiver<Item>> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.item(&self.0.recv()?)
    }
}

struct Bytes<T>(T);

impl Sends for Bytes<IpcBytesSender> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(&message.bytes)?)
    }
}

impl Receives for Bytes<IpcBytesReceiver> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(&self.0.recv()?)
    }
}

struct Shared<T>(T);

impl Sends for Shared<IpcSender<IpcSharedMemory>> {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(self.0.send(IpcSharedMemory::from_bytes(&message.bytes))?)
    }
}

impl Receives for Shared<IpcReceiver<IpcSharedMemory>> {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        check.frame(&self.0.recv()?)
    }
}

fn values(session: &Session) -> anyhow::Result<SideReport> {
    let (tx, rx) = pair::<Item>(session)?;
    let (tx, rx) = (Values(tx), Values(rx));
    play(session, Two { tx, rx })
}

fn shared(session: &Session) -> anyhow::Result<SideReport> {
    let (tx, rx) = pair::<IpcSharedMemory>(session)?;
    let (tx, rx) = (Shared(tx), Shared(rx));
    play(session, Two { tx, rx })
}

/// A channel each way.
fn pair<T: Serialize + DeserializeOwned>(
    session: &Session,
) -> anyhow::Result<(IpcSender<T>, IpcReceiver<T>)> {
    if session.is_first() {
        let (tx, there) = ipc::channel::<T>()?;
        let (back, rx) = ipc::channel::<T>()?;
        IpcSender::connect(session.spec().address.clone())?.send((back, there))?;
        Ok((tx, rx))
    } else {
        let (server, name) = IpcOneShotServer::<(IpcSender<T>, IpcReceiver<T>)>::new()?;
        ready(&name)?;
        Ok(server.accept()?.1)
    }
}

fn bytes(session: &Session) -> anyhow::Result<SideReport> {
    let (tx, rx) = if session.is_first() {
        let (tx, there) = ipc::bytes_channel()?;
        let (back, rx) = ipc::bytes_channel()?;
        IpcSender::connect(session.spec().address.clone())?.send((back, there))?;
        (tx, rx)
    } else {
        let (server, name) = IpcOneShotServer::<(IpcBytesSender, IpcBytesReceiver)>::new()?;
        ready(&name)?;
        server.accept()?.1
    };
    let (tx, rx) = (Bytes(tx), Bytes(rx));
    play(session, Two { tx, rx })
}
