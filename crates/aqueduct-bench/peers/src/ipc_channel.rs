//! ipc-channel: typed values, and bytes, by blocking calls.

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender,
};

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

fn values(session: &Session) -> anyhow::Result<SideReport> {
    let (tx, rx) = if session.is_first() {
        let (tx, there) = ipc::channel::<Item>()?;
        let (back, rx) = ipc::channel::<Item>()?;
        IpcSender::connect(session.spec().address.clone())?.send((back, there))?;
        (tx, rx)
    } else {
        let (server, name) = IpcOneShotServer::<(IpcSender<Item>, IpcReceiver<Item>)>::new()?;
        ready(&name)?;
        server.accept()?.1
    };
    let (tx, rx) = (Values(tx), Values(rx));
    play(session, Two { tx, rx })
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
