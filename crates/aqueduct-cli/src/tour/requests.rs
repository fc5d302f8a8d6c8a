//! Requests and replies between two processes: what the steps of the sockets have in common.

use std::time::Instant;

use anyhow::Context;
use aqueduct::codec::Json;
use aqueduct::connect::{Connection, Listener};
use aqueduct::{Channel, Endpoint};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use super::numbered;
use super::pipes::{Answer, Job};
use super::stage::{Stage, count};

/// Requests made one after the other, each waiting for its reply.
const MANY: u64 = 2_000;
const SIZE: usize = 100;

/// A process that serves one client, and where it is reached.
pub(super) struct Server {
    process: Child,
    pub(super) endpoint: Endpoint,
}

impl Server {
    /// Starts a process that binds `address`, and waits until it has.
    pub(super) async fn start(stage: &Stage, address: &str) -> anyhow::Result<Self> {
        let mut process = stage.start("answer", &[address])?;
        let stdout = process.stdout.as_mut().context("its output is a pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await?;
        let endpoint = line.trim_end().parse();
        let endpoint = endpoint.context("the server has not said where it is")?;
        Ok(Self { process, endpoint })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// It ends after its one client.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        let status = self.process.wait().await?;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// Asks the server at the other end, a few times to see, and many times to measure.
pub(super) async fn ask(stage: &Stage, connection: Connection) -> anyhow::Result<()> {
    let mut server: Channel<Job, Answer> = connection.channel(Json);
    let texts = ["sort the attic", "two\nlines"];
    for (id, text) in (1..).zip(texts) {
        let text = text.to_owned();
        let job = Job { id, text };
        stage.sent(serde_json::to_string(&job)?)?;
        let answer = request(&mut server, job).await?;
        stage.received(serde_json::to_string(&answer)?)?;
    }
    stage.sent(format_args!(
        "{} requests of {SIZE} bytes, each after the reply to the last",
        count(MANY)
    ))?;
    let start = Instant::now();
    let mut bytes = 0;
    for i in 0..MANY {
        let text = String::from_utf8(numbered::message(0, i, SIZE).into())?;
        bytes += 2 * text.len() as u64;
        request(&mut server, Job { id: i as u32, text }).await?;
    }
    let time = start.elapsed();
    server.close().await?;
    anyhow::ensure!(server.recv().await.is_none(), "a reply too many");
    stage.received(format_args!("{} replies, then the end", count(MANY)))?;
    stage.verified("every reply, byte for byte, each to its request")?;
    stage.speed(2 * MANY, bytes, time)
}

async fn request(server: &mut Channel<Job, Answer>, job: Job) -> anyhow::Result<Answer> {
    let (id, expected) = (job.id, job.text.to_uppercase());
    server.send(job).await?;
    let answer = server.recv().await.context("the server has gone")??;
    anyhow::ensure!(answer.id == id && answer.text == expected, "a wrong reply");
    Ok(answer)
}

/// The part of the server: it says where it is, and answers its first client in capitals.
pub(super) async fn answer(endpoint: Endpoint) -> anyhow::Result<()> {
    let mut listener: Listener = endpoint.bind().await?;
    println(listener.local_endpoint())?;
    let connection = listener.accept().await.context("no client can come")??;
    let mut client: Channel<Answer, Job> = connection.channel(Json);
    while let Some(job) = client.recv().await {
        let Job { id, text } = job?;
        let text = text.to_uppercase();
        client.send(Answer { id, text }).await?;
    }
    client.close().await?;
    Ok(())
}

fn println(endpoint: &Endpoint) -> anyhow::Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{endpoint}")?;
    Ok(stdout.flush()?)
}
