//! [`Engine`]: the task of a receiver that pulls, and passes on what is settled and given back.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Client, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arrival::{Arrival, Source};
use super::backlog::Backlog;
use crate::connect::{Message, Receipt};
use crate::io::timer::{sleep_until, timeout};
use crate::nats::connection::{Failure, Left, Line, Target};

/// How long the server keeps a request for messages. Old servers (2.9) deliver settled messages again if
/// one is given back while they have a request of an end that is gone. So each request is short, and a
/// receiver that is stopped waits for its end.
const EXPIRES: Duration = Duration::from_secs(1);
/// How long the server may be silent about a request before the connection is replaced.
const SILENT: Duration = Duration::from_secs(10);
/// How many bytes one request asks for.
const BYTES: usize = 8 << 20;
/// How soon a message that was given back is delivered again.
const AGAIN: &str = "-NAK {\"delay\": 1000000000}";
/// How soon a refused request is made again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the end may take to pass on what is settled.
const FAREWELL: Duration = Duration::from_secs(5);

pub(super) struct Engine {
    target: Target,
    to_end: mpsc::Sender<io::Result<Message>>,
    outcomes: Option<mpsc::UnboundedSender<(u64, bool)>>,
    settled: mpsc::UnboundedReceiver<(u64, bool)>,
    /// By stream sequence, where to answer for those that are delivered and not settled.
    held: BTreeMap<u64, Subject>,
    /// The last that were settled: their acknowledgement may have been lost with a connection.
    done: BTreeSet<u64>,
    backlog: Backlog,
    stop: CancellationToken,
}

impl Engine {
    pub(super) fn new(
        target: Target,
        to_end: mpsc::Sender<io::Result<Message>>,
        stop: CancellationToken,
    ) -> Self {
        let (outcomes, settled) = mpsc::unbounded_channel();
        Self {
            target,
            to_end,
            outcomes: Some(outcomes),
            settled,
            held: BTreeMap::new(),
            done: BTreeSet::new(),
            backlog: Backlog::default(),
            stop,
        }
    }

    pub(super) async fn run(mut self, line: Line) {
        let mut next = Some(line);
        loop {
            let line = match next.take() {
                Some(next) => next,
                None => match self.connect_again().await {
                    Some(Ok(next)) => next,
                    Some(Err(failure)) => return self.fail(failure).await,
                    None => return,
                },
            };
            match self.pull(line).await {
                Left::Lost => {}
                Left::Finished => return,
                Left::Failed(failure) => return self.fail(failure).await,
            }
        }
    }

    /// `None`: it is stopped, and nothing is held.
    async fn connect_again(&mut self) -> Option<Result<Line, Failure>> {
        let again = self.target.connect_again();
        // What is held is delivered again by the server, whatever comes of it here.
        let (stop, target) = (self.stop.clone(), &self.target);
        let late = async {
            stop.cancelled().await;
            crate::io::timer::sleep(FAREWELL).await;
            tracing::warn!(
                target: "aqueduct::nats", address = %target.object,
                "stopped without a connection: settled messages may be delivered again"
            );
        };
        tokio::select! {
            again = again => Some(again),
            () = late => None,
        }
    }

    /// Forgets a stream that is gone: the next one numbers its messages from 1 again.
    fn forget(&mut self) {
        self.held.clear();
        self.done.clear();
        self.backlog = Backlog::default();
        // What is in hand of the old stream is settled without effect.
        let (outcomes, settled) = mpsc::unbounded_channel();
        self.outcomes = self.outcomes.is_some().then_some(outcomes);
        self.settled = settled;
    }

    async fn fail(self, failure: Failure) {
        let _ = self.to_end.send(Err(failure.into())).await;
    }

    async fn pull(&mut self, line: Line) -> Left {
        let Line {
            client,
            mut refusals,
            stream,
            consumer: Some(consumer),
            is_anew,
            ..
        } = line
        else {
            // A receiver's connection has one.
            return Left::Lost;
        };
        if is_anew {
            self.forget();
        }
        let inbox = Subject::from(client.new_inbox());
        let Ok(mut arrivals) = client.subscribe(inbox.clone()).await else {
            return Left::Lost;
        };
        let window = self.target.address.window();
        let info = consumer.cached_info();
        let ack_wait = match info.config.ack_wait {
            Duration::ZERO => Duration::from_secs(30),
            wait => wait,
        };
        let progress = (ack_wait / 2).max(Duration::from_millis(10));
        let mut report = Instant::now() + progress;
        let source = Source {
            stream: info.stream_name.clone(),
            created: stream.map_or(0, |it| it.cached_info().created.unix_timestamp_nanos()),
        };
        if self.target.sole_reader {
            let last = info.delivered.stream_sequence;
            let known = self.held.range(..=last).count();
            let missing = info.num_ack_pending.saturating_sub(known);
            if missing > 0 {
                tracing::info!(
                    target: "aqueduct::nats", address = %self.target.object, missing, ?ack_wait,
                    "waiting for messages that were delivered before and not settled"
                );
            }
            self.backlog.expect(last, missing, ack_wait);
        }
        // How many messages the server still owes.
        let mut asked = 0;
        let mut batch = window;
        let mut heard = Instant::now();
        let mut resume = heard;
        let stop = self.stop.clone();
        loop {
            while self.backlog.is_ready()
                && let Ok(room) = self.to_end.try_reserve()
                && let Some((_, message)) = self.backlog.pop()
            {
                room.send(Ok(message));
            }
            let room = window.saturating_sub(self.held.len());
            let wanted = match self.backlog.wanted() {
                0 if room > 0 && room >= window / 4 => room.min(batch),
                wanted => wanted,
            };
            let asks = asked == 0 && wanted > 0;
            if asks && !stop.is_cancelled() && Instant::now() >= resume {
                asked = wanted;
                batch = window;
                if ask(&consumer, &inbox, asked).await.is_err() {
                    return Left::Lost;
                }
                heard = Instant::now();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    return self.finish(&client, arrivals, asked, progress).await;
                }
                Some(outcome) = self.settled.recv() => {
                    if self.answer(&client, outcome).await.is_err() {
                        return Left::Lost;
                    }
                }
                Some(text) = refusals.recv() => {
                    return Left::Failed(self.target.refused(&text));
                }
                arrival = arrivals.next() => {
                    let Some(arrival) = arrival else {
                        return Left::Lost;
                    };
                    heard = Instant::now();
                    match Arrival::of(&arrival) {
                        Arrival::Message(sequence) => {
                            asked = asked.saturating_sub(1);
                            if self.take(&client, &source, sequence, arrival).await.is_err() {
                                return Left::Lost;
                            }
                            if self.backlog.wanted() == 1 {
                                resume = Instant::now() + PAUSE;
                            }
                        }
                        Arrival::Heartbeat => {}
                        Arrival::Over => asked = 0,
                        Arrival::Refused => {
                            asked = 0;
                            resume = Instant::now() + PAUSE;
                        }
                        Arrival::TooLarge => {
                            self.backlog.ask_for_one();
                            (asked, batch) = (0, 1);
                        }
                        Arrival::Gone(text) => {
                            let object = &self.target.object;
                            let text = format!("cannot receive from {object}: {text}");
                            return Left::Failed(Failure { kind: io::ErrorKind::NotFound, text });
                        }
                    }
                }
                () = room_in(&self.to_end), if self.backlog.is_ready() => {}
                () = self.backlog.too_late() => self.backlog.give_up(),
                () = sleep_until(report) => {
                    report = Instant::now() + progress;
                    if self.report(&client).await.is_err() {
                        return Left::Lost;
                    }
                }
                () = sleep_until(resume), if asks && asked == 0 => {}
                () = sleep_until(heard + SILENT), if asked > 0 => return Left::Lost,
            }
        }
    }

    /// Takes a message that has arrived.
    async fn take(
        &mut self,
        client: &Client,
        source: &Source,
        sequence: u64,
        arrival: async_nats::Message,
    ) -> Result<(), async_nats::PublishError> {
        let Some(reply) = arrival.reply else {
            return Ok(());
        };
        if self.done.contains(&sequence) {
            self.backlog.came(sequence);
            // Its acknowledgement was lost.
            return client.publish(reply, Bytes::from_static(b"+ACK")).await;
        }
        // One in hand is delivered again: from now on it is answered for here.
        if self.held.insert(sequence, reply).is_some() {
            return Ok(());
        }
        self.backlog.came(sequence);
        let Some(outcomes) = self.outcomes.clone() else {
            return Ok(());
        };
        let receipt = Receipt::new(move |settled| {
            let _ = outcomes.send((sequence, settled));
        });
        let mut message = Message::new(arrival.payload).with_receipt(receipt);
        message.set_id(source.id(sequence));
        if self.backlog.is_awaited() || self.backlog.is_ready() {
            self.backlog.keep(sequence, message);
            return Ok(());
        }
        // After a backlog more may be held than the window. If the end is gone, this drops the message,
        // which gives it back.
        if let Err(TrySendError::Full(Ok(message))) = self.to_end.try_send(Ok(message)) {
            self.backlog.keep(sequence, message);
        }
        Ok(())
    }

    /// Tells the server what has become of a message.
    async fn answer(
        &mut self,
        client: &Client,
        (sequence, settled): (u64, bool),
    ) -> Result<(), async_nats::PublishError> {
        let Some(reply) = self.held.remove(&sequence) else {
            return Ok(());
        };
        if settled {
            self.done.insert(sequence);
            if self.done.len() > 4 * self.target.address.window() {
                self.done.pop_first();
            }
        }
        let answer = if settled { "+ACK" } else { AGAIN };
        client
            .publish(reply, Bytes::from_static(answer.as_bytes()))
            .await
    }

    /// Tells the server that what is held is still worked on.
    async fn report(&self, client: &Client) -> Result<(), async_nats::PublishError> {
        for reply in self.held.values() {
            client
                .publish(reply.clone(), Bytes::from_static(b"+WPI"))
                .await?;
        }
        Ok(())
    }

    /// Gives back what was not delivered, and waits until the rest is settled.
    async fn finish(
        &mut self,
        client: &Client,
        mut arrivals: Subscriber,
        mut asked: usize,
        progress: Duration,
    ) -> Left {
        self.outcomes = None;
        let over = Instant::now() + EXPIRES + SILENT;
        let mut report = Instant::now() + progress;
        // In order, and only once the server has no request of this end.
        let mut back = BTreeMap::new();
        while let Some((sequence, _)) = self.backlog.pop() {
            back.extend(self.held.remove(&sequence).map(|reply| (sequence, reply)));
        }
        loop {
            if asked == 0 {
                while let Some((_, reply)) = back.pop_first() {
                    if client
                        .publish(reply, Bytes::from_static(b"-NAK"))
                        .await
                        .is_err()
                    {
                        return Left::Lost;
                    }
                }
                if self.held.is_empty() {
                    break;
                }
            }
            tokio::select! {
                biased;
                arrival = arrivals.next(), if asked > 0 => {
                    let Some(arrival) = arrival else {
                        return Left::Lost;
                    };
                    match Arrival::of(&arrival) {
                        Arrival::Message(sequence) => {
                            asked -= 1;
                            if !self.held.contains_key(&sequence) {
                                back.extend(arrival.reply.map(|reply| (sequence, reply)));
                            }
                        }
                        Arrival::Heartbeat => {}
                        _ => asked = 0,
                    }
                }
                outcome = self.settled.recv(), if !self.held.is_empty() => match outcome {
                    Some((sequence, false)) => {
                        back.extend(self.held.remove(&sequence).map(|reply| (sequence, reply)));
                    }
                    Some(outcome) => {
                        if self.answer(client, outcome).await.is_err() {
                            return Left::Lost;
                        }
                    }
                    None => self.held.clear(),
                },
                () = sleep_until(over), if asked > 0 => return Left::Lost,
                () = sleep_until(report) => {
                    report = Instant::now() + progress;
                    if self.report(client).await.is_err() {
                        return Left::Lost;
                    }
                }
            }
        }
        match timeout(FAREWELL, round_trip(client)).await {
            Ok(Ok(())) => Left::Finished,
            _ => Left::Lost,
        }
    }
}

/// Waits until there is room for a message, or the end is gone.
async fn room_in<T>(to_end: &mpsc::Sender<T>) {
    let _ = to_end.reserve().await;
}

/// Waits until the server has processed everything before.
async fn round_trip(client: &Client) -> Result<(), ()> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.map_err(drop)?;
    client.publish(inbox, Bytes::new()).await.map_err(drop)?;
    echo.next().await.map(drop).ok_or(())
}

async fn ask(consumer: &PullConsumer, inbox: &Subject, batch: usize) -> Result<(), ()> {
    let config = BatchConfig {
        batch,
        expires: Some(EXPIRES),
        // A message may be larger than that: alone, it is asked for without a limit.
        max_bytes: if batch == 1 { 0 } else { BYTES },
        ..BatchConfig::default()
    };
    consumer
        .request_batch(config, inbox.clone())
        .await
        .map_err(drop)
}
