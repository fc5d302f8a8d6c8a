//! iceoryx2: samples in shared memory by publish and subscribe, for a subscriber that events wake or that
//! looks again and again.

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::*;

use aqueduct_measure::case::{BOTH, Mechanism, Runtime};
use aqueduct_measure::implementations::Two;
use aqueduct_measure::peer::ready;
use aqueduct_measure::sample::SideReport;
use aqueduct_measure::{Case, Check, Message, Receives, Sends, Session};

use crate::kept::Meeting;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "peer/iceoryx2",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run,
    },
    Case {
        name: "peer/iceoryx2/polling",
        mechanism: Mechanism::Own,
        runtime: Runtime::Blocking,
        works: BOTH,
        sizes: &[],
        run,
    },
];

/// What can go to another thread, as every end here must.
type Shared = ipc_threadsafe::Service;

/// Bytes on their way, and samples at most.
const ROOM: usize = 8 << 20;
const SAMPLES: usize = 128;
/// How often one that polls looks before it lets other processes run.
const LOOKS: u32 = 100;

struct Tx {
    publisher: Publisher<Shared, [u8], ()>,
    notifier: Notifier<Shared>,
    /// Samples that the subscriber was not woken for, and when it is.
    unnoticed: usize,
    batch: usize,
    peer_polls: bool,
}

impl Sends for Tx {
    async fn send(&mut self, message: &'static Message) -> anyhow::Result<()> {
        let sample = self.publisher.loan_slice_uninit(message.bytes.len())?;
        sample.write_from_slice(&message.bytes).send()?;
        self.unnoticed += 1;
        if self.unnoticed >= self.batch {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if self.unnoticed > 0 && !self.peer_polls {
            self.notifier.notify()?;
            self.unnoticed = 0;
        }
        Ok(())
    }
}

struct Rx {
    subscriber: Subscriber<Shared, [u8], ()>,
    listener: Listener<Shared>,
    polls: bool,
}

impl Receives for Rx {
    async fn receive(&mut self, check: &mut Check) -> anyhow::Result<()> {
        for look in 0_u32.. {
            if let Some(sample) = self.subscriber.receive()? {
                return check.frame(sample.payload());
            }
            if !self.polls {
                self.listener.blocking_wait(|_| {})?;
            } else if look % LOOKS < LOOKS - 1 {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        anyhow::bail!("nothing comes")
    }
}

fn run(session: &Session) -> anyhow::Result<SideReport> {
    set_log_level(LogLevel::Error);
    let meeting = Meeting::new(session)?;
    let spec = session.spec();
    let mut config = Config::default();
    let dir = spec.dir.to_str().unwrap_or_default();
    config.global.set_root_path(&Path::new(dir.as_bytes())?);
    let node = NodeBuilder::new()
        .config(&config)
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<Shared>()?;
    let samples = (ROOM / spec.size).clamp(4, SAMPLES);
    let open = |way: &str| {
        let name = format!("{}{way}", spec.name);
        let data = node
            .service_builder(&name.as_str().try_into()?)
            .publish_subscribe::<[u8]>()
            // Nothing may be lost.
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size(samples)
            .open_or_create()?;
        let wakes = node
            .service_builder(&name.as_str().try_into()?)
            .event()
            .open_or_create()?;
        anyhow::Ok((data, wakes))
    };
    let (there, back) = (open("/there")?, open("/back")?);
    let (to, from) = if session.is_first() {
        (there, back)
    } else {
        (back, there)
    };
    let polls = spec.case.ends_with("/polling");
    let rx = Rx {
        polls,
        subscriber: from.0.subscriber_builder().create()?,
        listener: from.1.listener_builder().create()?,
    };
    let publisher = to.0.publisher_builder();
    let publisher = publisher.initial_max_slice_len(spec.size);
    let tx = Tx {
        publisher: publisher
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?,
        notifier: to.1.notifier_builder().create()?,
        unnoticed: 0,
        batch: samples / 4,
        peer_polls: polls,
    };
    if !session.is_first() {
        ready("")?;
    }
    // A sample that does not fit the buffer of a subscriber that has not connected is lost.
    meeting.connect(|| {
        rx.subscriber.update_connections()?;
        Ok(tx.publisher.update_connections()?)
    })?;
    meeting.play(session, Two { tx, rx })
}
