//! Where the ends of one-way mechanisms are: the same for every implementation.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use aqueduct::inherited;

use crate::case::{Mechanism, Work};
use crate::peer::Side;
use crate::runner::{READ_FD, WRITE_FD, queues};
use crate::session::Session;

/// Which ends this side needs: whether it sends, whether it receives.
pub(super) fn ends(session: &Session) -> (bool, bool) {
    match (session.spec().work, session.spec().side) {
        (Work::OneWay, Side::First) => (true, false),
        (Work::OneWay, Side::Second) => (false, true),
        (Work::RoundTrip, _) => (true, true),
    }
}

/// The ends of the inherited pipes.
pub(super) fn pipes(session: &Session) -> anyhow::Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    let (sends, receives) = ends(session);
    let tx = sends.then(|| inherited::take(WRITE_FD)).transpose()?;
    let rx = receives.then(|| inherited::take(READ_FD)).transpose()?;
    Ok((tx, rx))
}

/// The paths of the FIFOs that this side writes to and reads from.
pub(super) fn fifos(session: &Session) -> (PathBuf, PathBuf) {
    let (there, back) = (session.spec().path("there"), session.spec().path("back"));
    match session.spec().side {
        Side::First => (there, back),
        Side::Second => (back, there),
    }
}

/// The names of the queues that this side sends to and receives from.
pub(super) fn queue_names(session: &Session) -> (String, String) {
    let [there, back] = queues(session.spec());
    match session.spec().side {
        Side::First => (there, back),
        Side::Second => (back, there),
    }
}

/// Pipes or FIFOs as blocking files.
pub(super) fn files(
    session: &Session,
    mechanism: Mechanism,
) -> anyhow::Result<(Option<File>, Option<File>)> {
    if mechanism == Mechanism::Pipe {
        let (tx, rx) = pipes(session)?;
        return Ok((tx.map(File::from), rx.map(File::from)));
    }
    let (sends, receives) = ends(session);
    let (there, back) = fifos(session);
    let tx = || {
        sends
            .then(|| File::options().write(true).open(&there))
            .transpose()
    };
    let rx = || receives.then(|| File::open(&back)).transpose();
    // Opening waits for the other side: so the first opens its sending end first, the second last.
    Ok(match session.spec().side {
        Side::First => {
            let tx = tx()?;
            (tx, rx()?)
        }
        Side::Second => {
            let rx = rx()?;
            (tx()?, rx)
        }
    })
}
