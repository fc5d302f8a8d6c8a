//! [`Arrival`]: a message from the server for a receiver that pulls, and [`Source`]: the ids of its messages.

use async_nats::Subject;

/// Where messages are from, for their ids.
pub(super) struct Source {
    pub(super) stream: String,
    pub(super) created: i128,
}

impl Source {
    pub(super) fn id(&self, sequence: u64) -> Box<str> {
        format!("{}:{}:{sequence}", self.created, self.stream).into()
    }
}

/// What has arrived.
pub(super) enum Arrival {
    /// A message with its stream sequence.
    Message(u64),
    Heartbeat,
    /// The request is over.
    Over,
    /// The request was refused for now, such as for too many of them.
    Refused,
    /// The next message is larger than the bytes that were asked for.
    TooLarge,
    /// There is no consumer any more.
    Gone(String),
}

impl Arrival {
    pub(super) fn of(arrival: &async_nats::Message) -> Self {
        let Some(status) = arrival.status else {
            return match arrival.reply.as_ref().and_then(sequence) {
                Some(sequence) => Self::Message(sequence),
                None => Self::Heartbeat,
            };
        };
        let text = arrival.description.as_deref().unwrap_or_default();
        match status.as_u16() {
            100 => Self::Heartbeat,
            409 if text.contains("Deleted") || text.contains("Push Based") => {
                Self::Gone(format!("its consumer is gone: {text}"))
            }
            409 if text.contains("MaxBytes") => Self::TooLarge,
            404 | 408 => Self::Over,
            409 if text.contains("Completed") => Self::Over,
            _ => Self::Refused,
        }
    }
}

/// The stream sequence in the reply subject of a message: of nine tokens
/// (`$JS.ACK.stream.consumer.delivered.sequence.…`), or of at least eleven with a domain and an
/// account before the stream.
fn sequence(reply: &Subject) -> Option<u64> {
    let tokens: Vec<&str> = reply.split('.').collect();
    let at = match tokens.len() {
        9 => 5,
        11.. => 7,
        _ => return None,
    };
    tokens.get(at)?.parse().ok()
}
