//! `nats://host/subject`: the address of a subject, and how it is opened.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::address::Address;
use super::connection::Target;
use super::incoming::{self, subscription};
use super::outgoing;
use super::replies::Requests;
use super::requests::Conversation;
use crate::address::{
    Awaited, Capabilities, Direction, EndOfStream, LargestMessage, Ordering, Printer, Sharing,
};
use crate::connect::{
    Asked, Bound, Connection, End, Finding, Mechanism, MessageReceiver, MessageSender, OpenError,
    OpenErrorKind, Opening, Peer, Place, Scheme, Served,
};

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
        let has_stream = self.0.stream.is_some();
        Capabilities {
            direction: match has_stream {
                true => Direction::OneWay,
                false => Direction::TwoWay,
            },
            keeps_boundaries: Some(true),
            ordering: Ordering::Sent,
            end_of_stream: EndOfStream::Never,
            largest_message: LargestMessage::AsOpened,
            readers: Sharing::Many,
            writers: Sharing::Many,
            awaits: Awaited::Server,
            listens: Some(!has_stream),
            outlives_processes: has_stream,
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

    fn connect<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Connection> {
        Box::pin(async move {
            let target = self.target(asked, "call");
            self.check_two_way(&target)?;
            target.check_subject()?;
            let line = target.open().await?;
            let conversation = Conversation::begin(target, line).await?;
            let framing = asked.options.framing.clone();
            let subject = Arc::from(self.0.subject.as_str());
            let peer = Peer::Subject(subject);
            Ok(Connection::messages(conversation, framing, peer))
        })
    }

    fn bind<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, Served> {
        Box::pin(async move {
            let target = self.target(asked, "serve");
            self.check_two_way(&target)?;
            let line = target.open().await?;
            let (incoming, give_back) = subscription::begin(target, line, true).await?;
            let requests = Requests {
                incoming: Some(incoming),
                give_back,
                framing: asked.options.framing.clone(),
            };
            Ok(Bound::new(requests, asked.address, asked.options.poll_for).into())
        })
    }

    fn open_sender<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageSender> {
        Box::pin(async move {
            let target = self.target(asked, "send to");
            target.check_subject()?;
            let line = target.open().await?;
            Ok(outgoing::sender(target, line))
        })
    }

    fn open_receiver<'a>(&'a self, asked: Asked<'a>) -> Opening<'a, MessageReceiver> {
        Box::pin(async move {
            let mut target = self.target(asked, "receive from");
            target.receives = true;
            if self.0.stream.is_some() && self.0.consumer.is_none() {
                let cause = "a stream is received from by a consumer, and the address names none";
                let error = target.error(OpenErrorKind::InvalidOption, cause);
                return Err(error.with_cure("add consumer=NAME"));
            }
            let line = target.open().await?;
            match line.stream {
                Some(_) => Ok(incoming::receiver(target, line)),
                None => Ok(MessageReceiver::new(
                    subscription::begin(target, line, false).await?.0,
                )),
            }
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
            receives: false,
            created: AtomicI64::new(0),
        }
    }

    /// Requests are for core subjects: a stream answers with its acknowledgement.
    fn check_two_way(&self, target: &Target) -> Result<(), OpenError> {
        if self.0.stream.is_none() {
            return Ok(());
        }
        let cause = "a stream stores messages, and does not reply";
        let error = target.error(OpenErrorKind::Unsupported, cause);
        Err(error.with_cure("leave stream= out"))
    }
}
