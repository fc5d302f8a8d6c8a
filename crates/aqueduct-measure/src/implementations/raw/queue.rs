//! `mq_send` and `mq_receive`, blocking.

use nix::mqueue::{MQ_OFlag, MqdT, mq_open, mq_receive, mq_send};
use nix::sys::stat::Mode;

use crate::check::Check;
use crate::implementations::{place, play_halves};
use crate::message::Message;
use crate::peer::ready;
use crate::sample::SideReport;
use crate::session::{Receives, Sends, Session};

struct Queue {
    queue: MqdT,
    buf: Vec<u8>,
}

impl Queue {
    fn open(name: &str, flags: MQ_OFlag, size: usize) -> anyhow::Result<Self> {
        Ok(Self {
            queue: mq_open(name, flags, Mode::empty(), None)?,
            buf: vec![0; size],
        })
    }
}

pub(super) fn run(session: &Session) -> anyhow::Result<SideReport> {
    ready("")?;
    let (sends, receives) = place::ends(session);
    let (to, from) = place::queue_names(session);
    let size = session.spec().size;
    let tx = sends.then(|| Queue::open(&to, MQ_OFlag::O_WRONLY, size));
    let rx = receives.then(|| Queue::open(&from, MQ_OFlag::O_RDONLY, size));
    play_halves(session, (tx.transpose()?, rx.transpose()?))
}

impl Sends for Queue {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        Ok(mq_send(&self.queue, &message.bytes, 0)?)
    }
}

impl Receives for Queue {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        let mut priority = 0;
        let len = mq_receive(&self.queue, &mut self.buf, &mut priority)?;
        check.frame(&self.buf[..len])
    }
}
