//! [`Facts`]: what a program is told of its message, in its environment.

use std::sync::Arc;

use aqueduct::Endpoint;
use aqueduct::child::Command;
use aqueduct::connect::{Message, Peer};

/// What is told; what is not known of a message is taken out of the environment, where a service
/// around this one may have put it.
const NAMES: [&str; 8] = [
    "AQUEDUCT_ADDRESS",
    "AQUEDUCT_ATTEMPT",
    "AQUEDUCT_PRIORITY",
    "AQUEDUCT_PEER_UID",
    "AQUEDUCT_PEER_GID",
    "AQUEDUCT_PEER_PID",
    "AQUEDUCT_PEER_ADDRESS",
    "AQUEDUCT_PEER_SUBJECT",
];

/// What concerns this process alone: a program that sent READY=1 would speak for the service
/// (sd_notify(3)).
const SUPERVISION: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// What is known of a message beside the message itself.
#[derive(Clone)]
pub(super) struct Facts {
    address: Arc<str>,
    peer: Peer,
}

impl Facts {
    pub(super) fn new(served: &Endpoint) -> Self {
        Self {
            address: served.to_string().into(),
            peer: Peer::Unknown,
        }
    }

    pub(super) fn with_peer(mut self, peer: Peer) -> Self {
        self.peer = peer;
        self
    }

    /// Those of a message.
    pub(super) fn tell(&self, command: &mut Command, message: &Message, attempt: u32) {
        let [_, number, priority, ..] = NAMES;
        let mut facts = vec![(number, attempt.to_string())];
        facts.extend(message.priority().map(|it| (priority, it.to_string())));
        self.tell_with(command, facts);
    }

    /// Those of a connection.
    pub(super) fn tell_connection(&self, command: &mut Command) {
        self.tell_with(command, Vec::new());
    }

    fn tell_with(&self, command: &mut Command, mut facts: Vec<(&str, String)>) {
        let [address, _, _, uid, gid, pid, peer, name] = NAMES;
        facts.push((address, self.address.to_string()));
        match &self.peer {
            Peer::Process(credentials) => {
                facts.push((uid, credentials.uid.to_string()));
                facts.push((gid, credentials.gid.to_string()));
                facts.extend(credentials.pid.map(|it| (pid, it.to_string())));
            }
            Peer::Child { pid: Some(number) } => facts.push((pid, number.to_string())),
            Peer::Address(address) => facts.push((peer, address.to_string())),
            Peer::Certified { address, subject } => {
                facts.push((peer, address.to_string()));
                facts.push((name, subject.to_string()));
            }
            _ => {}
        }
        for name in NAMES.into_iter().chain(SUPERVISION) {
            command.as_tokio_mut().env_remove(name);
        }
        for (name, value) in facts {
            command.as_tokio_mut().env(name, value);
        }
    }
}
