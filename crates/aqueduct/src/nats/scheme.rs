//! `nats://host/subject`: the address of a subject, and how it is opened.

use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::connection::{Line, Target};
use super::{incoming, outgoing};
use crate::address::{
    Awaited, Capabilities, Direction, EndOfStream, LargestMessage, Ordering, Printer, Sharing,
};
use crate::connect::{
    Asked, End, Finding, Mechanism, MessageReceiver, MessageSender, OpenError, OpenErrorKind,
    Opening, Place, Scheme,
};
use crate::io::backoff::{Backoff, Retry};

pub(crate) static SCHEME: Scheme = Scheme {
    name: "nats",
    form: "nats://host/subject",
    summary: "NATS subject, or JetStream with stream=",
    options: &[
        "ack-wait",
        "ca",
        "cert",
        "consumer",
        "create",
        "creds",
        "id",
        "key",
        "max-bytes",
        "max-messages",
        "nkey",
        "queue",
        "retention",
        "stream",
        "tls",
        "window",
    ],
    synonyms: &["jetstream"],
    parse: |rest, query| Ok(Arc::new(Nats(Arc::new(Address::parse(rest, query)?)))),
};

#[derive(Debug)]
struct Nats(Arc<Address>);

impl Mechanism for Nats {
    fn print(&self, printer: &mut Printer) {
        self.0.print(printer);
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            direction: Direction::OneWay,
            keeps_boundaries: Some(true),
            ordering: Ordering::Sent,
            end_of_stream: EndOfStream::Never,
            largest_message: LargestMessage::AsOpened,
            readers: Sharing::Many,
            writers: Sharing::Many,
            awaits: Awaited::Server,
            listens: Some(false),
            outlives_processes: self.0.stream.is_some(),
            private: false,
            stdio: false,
        }
    }

    fn place(&self, _: End) -> Option<Place> {
        let place = format!("{}/{}", self.0.server, self.0.subject);
        Some(Place::Name("nats", place.into_bytes()))
    }

    fn remove<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, ()> {
        Box::pin(async move {
            let cause = "streams of a server are not removed";
            let kind = OpenErrorKind::Unsupported;
            let error = OpenError::new("remove", asked.address, kind, cause);
            Err(error.with_cure("use `nats stream rm`"))
        })
    }

    fn examine<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Vec<Finding>> {
        Box::pin(async move {
            let mut target = self.target(asked, "examine");
            target.in_runtime()?;
            // Only looks.
            Arc::make_mut(&mut target.address).create = None;
            super::examine::examine(target).await
        })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let target = self.target(asked, "send to");
            if self.0.subject.split('.').any(|it| it == "*" || it == ">") {
                let cause = "a subject with * or > is for receivers only";
                let error = target.error(OpenErrorKind::InvalidName, cause);
                return Err(error.with_cure("name one subject"));
            }
            let line = self.open(&target, asked).await?;
            Ok(outgoing::sender(target, line))
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let target = self.target(asked, "receive from");
            if self.0.stream.is_some() && self.0.consumer.is_none() {
                let cause = "a stream is received from by a consumer, and the address names none";
                let error = target.error(OpenErrorKind::InvalidOption, cause);
                return Err(error.with_cure("add consumer=NAME"));
            }
            let line = self.open(&target, asked).await?;
            incoming::receiver(target, line).await
        })
    }
}

impl Nats {
    fn target(&self, asked: Asked<'_>, action: &'static str) -> Target {
        Target {
            address: Arc::clone(&self.0),
            action,
            object: asked.address.to_owned(),
            limit: asked.options.wait,
            sole_reader: asked.options.sole_reader,
        }
    }

    /// Connects, and tries again for as long as the options say if no server is there.
    async fn open(&self, target: &Target, asked: Asked<'_>) -> Result<Line, OpenError> {
        target.in_runtime()?;
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut retry = Retry::new(asked.options.wait, backoff);
        loop {
            match target.connect().await {
                Err(error) if error.kind() == &OpenErrorKind::Refused => {
                    if !retry.pause().await {
                        return Err(error);
                    }
                }
                opened => return opened,
            }
        }
    }
}
