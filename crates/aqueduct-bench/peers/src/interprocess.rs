//! interprocess: a local socket under tokio-util's frames.

use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions};

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::framed::{Both, FEED};
use aqueduct_measure::implementations::play;
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Session};

pub(crate) const CASES: &[Case] = &[Case {
    name: "peer/interprocess",
    mechanism: Mechanism::Own,
    runtime: Runtime::CurrentThread,
    works: BOTH,
    sizes: &[],
    run,
}];

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
    play(session, Both::new(stream, FEED))
}
