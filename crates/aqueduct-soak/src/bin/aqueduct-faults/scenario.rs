//! The programs whose system calls fail.

use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aqueduct::connect::{Message, Options};
use aqueduct::fifo::{self, SharedSender};
use aqueduct::frame::{BoxFrameSink, BoxFrameStream, Framing};
use aqueduct::{Endpoint, mq, pipe};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, future::poll_immediate};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

/// All of them.
pub(crate) const NAMES: [&str; 14] = [
    "pipe",
    "packets",
    "fifo",
    "shared-fifo",
    "mq-pool",
    "mq-asyncfd",
    "unix",
    "unixpacket",
    "unixgram",
    "shm",
    "shm-fallback",
    "tcp",
    "udp",
    "exec",
];

/// How many messages each sends.
const COUNT: u64 = 6;

/// What became of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) errors: Vec<String>,
    pub(crate) hung: Option<String>,
    pub(crate) lost: Vec<u64>,
    pub(crate) wrong: Vec<String>,
    pub(crate) leaked: Vec<String>,
    pub(crate) names: Vec<String>,
}

/// Where a wait counts as a hang.
const PATIENCE: Duration = Duration::from_secs(8);

type Ends = (BoxFrameSink, BoxFrameStream);

/// Plays `name`; `control` is the file over which the driver and this program wait for each other.
pub(crate) fn run(name: &str, control: &Path) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(control)?;
    let directory = control.with_extension("d");
    std::fs::create_dir(&directory)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let before = descriptors()?;
    let mut outcome = Outcome::default();
    meet(&file, b'R', b'G')?;
    runtime.block_on(play(name, &directory, &mut outcome));
    runtime.shutdown_timeout(PATIENCE);
    meet(&file, b'D', b'C')?;
    // Those of the runtime itself are among them, and must have gone.
    outcome.leaked = descriptors()?;
    outcome.leaked.retain(|it| !before.contains(it));
    for entry in std::fs::read_dir(&directory)? {
        outcome.names.push(entry?.path().display().to_string());
    }
    if mq::info(&queue_name()).is_ok() {
        outcome.names.push(queue_name());
        mq::unlink(&queue_name())?;
    }
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Says `ours` and waits for `theirs`, by calls that no scenario makes.
fn meet(control: &std::fs::File, ours: u8, theirs: u8) -> io::Result<()> {
    control.write_all_at(&[ours], 0)?;
    let mut said = [0];
    while control.read_at(&mut said, 1)? == 0 || said[0] != theirs {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn descriptors() -> io::Result<Vec<String>> {
    let mut open = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let path = entry?.path();
        if let Ok(link) = std::fs::read_link(&path)
            && !link.starts_with("/proc")
        {
            open.push(format!("{}: {}", path.display(), link.display()));
        }
    }
    Ok(open)
}

fn queue_name() -> String {
    format!("/aqueduct-fault-{}", std::process::id())
}

async fn play(name: &str, directory: &Path, outcome: &mut Outcome) {
    match timely("opening", open(name, directory.join("link")), outcome).await {
        Some(Ok(ends)) => exchange(ends, outcome).await,
        Some(Err(error)) => outcome.errors.push(format!("{error:#}")),
        None => {}
    }
}

/// What the future gives, or the note that it hangs.
async fn timely<F: Future>(what: &str, future: F, outcome: &mut Outcome) -> Option<F::Output> {
    let output = tokio::time::timeout(PATIENCE, future).await.ok();
    if output.is_none() {
        outcome.hung.get_or_insert(what.to_owned());
    }
    output
}

async fn open(name: &str, path: PathBuf) -> anyhow::Result<Ends> {
    let framing = Framing::length;
    Ok(match name {
        "pipe" => {
            let (tx, rx) = pipe::pipe()?;
            (
                Box::pin(tx.framed(framing())),
                Box::pin(rx.framed(framing())),
            )
        }
        "packets" => {
            let (tx, rx) = pipe::packet::pipe()?;
            (Box::pin(tx), Box::pin(rx))
        }
        "fifo" | "shared-fifo" => {
            let mut options = fifo::OpenOptions::new();
            options.create(true).unlink_on_drop(true);
            let rx = options.open_receiver(&path)?;
            let mut options = fifo::OpenOptions::new();
            options.wait(Some(Duration::from_secs(2)));
            let tx = options.open_sender(&path).await?;
            let rx = Box::pin(rx.framed(framing()));
            match name {
                "fifo" => (Box::pin(tx.framed(framing())), rx),
                _ => (Box::pin(SharedSender::new(tx, framing())), rx),
            }
        }
        "mq-pool" | "mq-asyncfd" => {
            let mut options = mq::OpenOptions::new();
            options.driver(name.trim_start_matches("mq-").parse()?);
            options
                .capacity(4)
                .max_message(64)
                .create(true)
                .unlink_on_drop(true)
                .end_marker(true);
            let rx = options.open_receiver(queue_name())?;
            let tx = options.open_sender(queue_name())?;
            (tx.into_frames(), rx.into_frames())
        }
        "unixgram" | "udp" => {
            let address = match name {
                "udp" => "udp://127.0.0.1:0".to_owned(),
                scheme => format!("{scheme}:{}", path.display()),
            };
            let mut options = Options::new();
            options.wait(Some(Duration::from_secs(2)));
            let listener = options.bind(&address.parse()?).await?;
            let tx = options.open_sender(listener.local_endpoint()).await?;
            let mut rx = listener.into_receiver();
            // There is no end of the stream: the receiver stops once the sender is dropped.
            let open = Arc::new(());
            let dropped = Arc::downgrade(&open);
            let sink = tx.into_frames().with(move |body| {
                let _ = &open;
                std::future::ready(Ok::<_, io::Error>(body))
            });
            let stream = futures_util::stream::poll_fn(move |cx| {
                if dropped.strong_count() == 0 {
                    rx.stop();
                }
                rx.poll_next_unpin(cx).map_ok(Message::into_body)
            });
            (Box::pin(sink), Box::pin(stream))
        }
        "exec" => {
            let cat: Endpoint = "exec:cat".parse()?;
            Options::new().connect(&cat).await?.into_frames()
        }
        two_way => {
            let address = match two_way {
                "tcp" => "tcp://127.0.0.1:0".to_owned(),
                "shm-fallback" => format!("shm:{}?fallback=true", path.display()),
                scheme => format!("{scheme}:{}", path.display()),
            };
            let mut options = Options::new();
            options.wait(Some(Duration::from_secs(2)));
            let mut listener = options.bind(&address.parse()?).await?;
            let address = listener.local_endpoint().clone();
            // A connection that cannot be set up is closed, and the next one waited for.
            let accept = async {
                let accepted = tokio::time::timeout(Duration::from_secs(2), listener.accept());
                let accepted = accepted.await.map_err(io::Error::from)?;
                accepted.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
            };
            // A connection that fails ends the wait for it.
            let (tx, rx) = tokio::try_join!(
                async { options.connect(&address).await.map_err(anyhow::Error::from) },
                async { accept.await.map_err(anyhow::Error::from) },
            )?;
            let (sink, rest) = tx.into_frames();
            let (reply, stream) = rx.into_frames();
            // The other direction stays open until the end.
            let stream = stream.chain(futures_util::stream::poll_fn(move |_| {
                let _ = (&rest.size_hint(), &reply);
                std::task::Poll::Ready(None)
            }));
            (sink, Box::pin(stream))
        }
    })
}

/// Sends numbered messages and receives each, then closes and receives the rest.
async fn exchange((mut sink, mut stream): Ends, outcome: &mut Outcome) {
    let mut sent = Vec::new();
    let mut received = Vec::new();
    let mut broken = false;
    for number in 0..COUNT {
        let mut next = stream.next();
        // The receiver waits before there is anything.
        let early = poll_immediate(&mut next).await;
        let message = Bytes::copy_from_slice(&number.to_be_bytes());
        let is_sent = match timely("sending", sink.send(message), outcome).await {
            Some(Ok(())) => {
                sent.push(number);
                true
            }
            Some(Err(error)) => {
                outcome.errors.push(format!("send: {error:?}"));
                false
            }
            None => return,
        };
        let item = match early {
            Some(item) => Some(item),
            None if is_sent => timely("receiving", next, outcome).await,
            None => continue,
        };
        match item {
            Some(item) => broken |= !take(item, &mut received, outcome),
            None => return,
        }
        if broken {
            break;
        }
    }
    let closed = timely("closing", sink.close(), outcome).await;
    // A pipe ends with its last writer.
    drop(sink);
    match closed {
        Some(Err(error)) => outcome.errors.push(format!("close: {error:?}")),
        Some(Ok(())) if !broken => {
            // Only the end of the stream is no item.
            while let Some(Some(item)) =
                timely("the end of the stream", stream.next(), outcome).await
            {
                if !take(Some(item), &mut received, outcome) {
                    broken = true;
                    break;
                }
            }
        }
        _ => {}
    }
    if !received.is_sorted_by(|a, b| a < b) {
        outcome.wrong.push(format!("received {received:?}"));
    }
    // What a stream that has failed held is told of by its error.
    if !broken {
        outcome.lost = sent
            .into_iter()
            .filter(|it| !received.contains(it))
            .collect();
    }
}

/// Whether the stream goes on.
fn take(item: Option<io::Result<Bytes>>, to: &mut Vec<u64>, outcome: &mut Outcome) -> bool {
    match item {
        Some(Ok(body)) => {
            match <[u8; 8]>::try_from(&body[..]) {
                Ok(number) => to.push(u64::from_be_bytes(number)),
                Err(_) => outcome
                    .wrong
                    .push(format!("a message of {} bytes", body.len())),
            }
            true
        }
        Some(Err(error)) => {
            outcome.errors.push(format!("receive: {error:?}"));
            false
        }
        None => {
            outcome.errors.push("the stream ended early".into());
            false
        }
    }
}
