//! [`Member`]: a process of the crowd.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::Framing;
use aqueduct::mq::{self, Queue};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio::time::{sleep, timeout};

use crate::{PATIENCE, Phase, Role, message, queue_name};

/// A process of the crowd.
pub(crate) struct Member {
    directory: PathBuf,
    number: u32,
    phase: File,
    notes: File,
}

impl Member {
    pub(crate) fn new(directory: &Path, number: u32) -> anyhow::Result<Self> {
        Ok(Self {
            phase: File::open(directory.join("phase"))?,
            notes: File::create(directory.join(number.to_string()))?,
            directory: directory.to_owned(),
            number,
        })
    }

    fn phase(&self) -> anyhow::Result<Phase> {
        let mut phase = [0];
        self.phase.read_exact_at(&mut phase, 0)?;
        let all = [Phase::Run, Phase::Full, Phase::Empty, Phase::End];
        Ok(all[usize::from(phase[0])])
    }

    /// Notes how many were begun and how many were sent.
    fn note(&self, begun: u64, sent: u64) -> anyhow::Result<()> {
        let mut both = [0; 16];
        both[..8].copy_from_slice(&begun.to_le_bytes());
        both[8..].copy_from_slice(&sent.to_le_bytes());
        Ok(self.notes.write_all_at(&both, 0)?)
    }

    pub(crate) async fn play(mut self, role: Role) -> anyhow::Result<()> {
        let queue = || mq::OpenOptions::new().open(queue_name(&self.directory));
        match role {
            Role::QueueWriter => self.write_queue(&queue()?).await,
            Role::QueueReader => {
                let queue = queue()?;
                self.read_queue(&queue).await
            }
            Role::FifoWriter => self.write_fifo().await,
        }
    }

    /// Pauses while the phase says so; returns whether to go on.
    async fn goes_on(&self, pause: Phase) -> anyhow::Result<bool> {
        loop {
            match self.phase()? {
                Phase::End => return Ok(false),
                phase if phase == pause => sleep(Duration::from_millis(2)).await,
                _ => return Ok(true),
            }
        }
    }

    async fn write_queue(&self, queue: &Queue) -> anyhow::Result<()> {
        let mut number = 0;
        while self.goes_on(Phase::Empty).await? {
            self.note(number + 1, number)?;
            let body = message(self.number, number);
            // One that was dropped and sent all the same would come twice.
            let sent = match fastrand::u8(..8) {
                0 => timeout(a_moment(), queue.send(0, &body)).await.ok(),
                _ => timeout(PATIENCE / 4, queue.send(0, &body)).await.ok(),
            };
            if sent.transpose()?.is_some() {
                number += 1;
            }
        }
        self.note(number, number)
    }

    async fn read_queue(&mut self, queue: &Queue) -> anyhow::Result<()> {
        loop {
            let ends = !self.goes_on(Phase::Full).await?;
            let limit = match fastrand::u8(..8) {
                _ if ends => Duration::from_millis(200),
                0 => a_moment(),
                _ => PATIENCE / 4,
            };
            match timeout(limit, queue.recv()).await {
                Ok(received) => self.notes.write_all(received?.body())?,
                Err(_) if ends => return Ok(()),
                Err(_) => {}
            }
        }
    }

    async fn write_fifo(&self) -> anyhow::Result<()> {
        let sender = fifo::OpenOptions::new()
            .open_sender(self.directory.join("fifo"))
            .await?;
        let mut sink = SharedSender::new(sender, Framing::length().max_frame(4092));
        let mut number = 0;
        while self.goes_on(Phase::Empty).await? {
            let more = fastrand::u64(1..300);
            self.note(number + more, number)?;
            for _ in 0..more {
                let body = Bytes::copy_from_slice(&message(self.number, number));
                sink.feed(body).await?;
                number += 1;
            }
            while fastrand::u8(..4) == 0 {
                let _ = timeout(a_moment(), sink.flush()).await;
            }
            sink.flush().await?;
            self.note(number, number)?;
        }
        Ok(sink.close().await?)
    }
}

fn a_moment() -> Duration {
    Duration::from_micros(fastrand::u64(..4000))
}
