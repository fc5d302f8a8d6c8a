//! What a server, a stream and a consumer mean for the promises.

use async_nats::ServerInfo;
use async_nats::jetstream::consumer;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};

use super::connection::Target;
use crate::connect::{Finding, Grade, OpenError};

/// Looks at all of them. What cannot be used is a finding, but a server that is not there an error.
pub(super) async fn examine(target: Target) -> Result<Vec<Finding>, OpenError> {
    let mut line = target.connect_to_server().await?;
    let mut findings = of_server(&line.client.server_info(), target.address.stream.is_some());
    let Some(name) = &target.address.stream else {
        return Ok(findings);
    };
    let bad =
        |name, error: OpenError| Finding::new(name, Grade::Bad, "unusable", error.to_string());
    match target.stream(&line.client, name).await {
        Ok(stream) => {
            findings.extend(of_stream(stream.cached_info(), &target.address.subject));
            line.stream = Some(stream);
        }
        Err(error) => {
            findings.push(bad("stream", error));
            return Ok(findings);
        }
    }
    if target.address.consumer.is_some() {
        match target.consumer(&mut line).await {
            Ok(consumer) => {
                let window = target.address.window();
                findings.extend(of_consumer(consumer.cached_info(), window));
            }
            Err(error) => findings.push(bad("consumer", error)),
        }
    }
    Ok(findings)
}

fn of_server(info: &ServerInfo, has_stream: bool) -> Vec<Finding> {
    use Grade::{Good, Weak};
    let mut findings = vec![
        Finding::new(
            "server",
            Good,
            format!("nats-server {}", info.version),
            "reachable",
        ),
        Finding::new(
            "largest_message",
            Good,
            format!("{} bytes", info.max_payload),
            "max_payload, headers included; larger messages are refused by the sender",
        ),
    ];
    findings.push(match (info.jetstream, has_stream) {
        (true, true) => Finding::new("jetstream", Good, "enabled", "messages can be stored"),
        (true, false) => Finding::new(
            "jetstream",
            Weak,
            "enabled, not used",
            "without stream= messages are lost while nobody subscribes or the server restarts",
        ),
        (false, false) => Finding::new(
            "jetstream",
            Weak,
            "disabled",
            "messages are lost while nobody subscribes or the server restarts; nats-server -js",
        ),
        (false, true) => Finding::new(
            "jetstream",
            Grade::Bad,
            "disabled",
            "a stream needs it: nats-server -js",
        ),
    });
    findings
}

fn of_stream(info: &stream::Info, subject: &str) -> Vec<Finding> {
    use Grade::{Good, Weak};
    let (config, state) = (&info.config, &info.state);
    let value = format!(
        "{}: {} messages, {} bytes",
        config.name, state.messages, state.bytes
    );
    let mut findings = vec![Finding::new(
        "stream",
        Good,
        value,
        format!("its subjects are {}", config.subjects.join(", ")),
    )];
    if !subject.contains(['*', '>']) && !config.subjects.iter().any(|it| covers(it, subject)) {
        findings.push(Finding::new(
            "subject",
            Grade::Bad,
            subject,
            "no subject of the stream: nothing that is sent to it is stored",
        ));
    }
    findings.push(match config.storage {
        StorageType::File => Finding::new(
            "storage",
            Good,
            "file",
            "a killed server loses nothing; a power failure loses what was written since the last sync, 2 \
             minutes by default and not visible to clients: sync_interval: always",
        ),
        StorageType::Memory => Finding::new(
            "storage",
            Weak,
            "memory",
            "all messages are lost when the server restarts: use file storage",
        ),
    });
    findings.push(match config.retention {
        RetentionPolicy::Limits => Finding::new(
            "retention",
            Good,
            "limits",
            "messages stay until a limit removes them; after a killed server those that were settled in the \
             last seconds may come again",
        ),
        RetentionPolicy::WorkQueue => Finding::new(
            "retention",
            Good,
            "workqueue",
            "a settled message is removed; one that is sent again after a killed server is stored again",
        ),
        RetentionPolicy::Interest => Finding::new(
            "retention",
            Weak,
            "interest",
            "messages that come while there is no consumer are not kept",
        ),
    });
    let limits =
        config.max_messages > 0 || config.max_bytes > 0 || config.max_messages_per_subject > 0;
    findings.push(match (config.discard, limits) {
        (DiscardPolicy::Old, true) => Finding::new(
            "full",
            Weak,
            "discards old messages",
            "when it is full, the oldest messages are lost without an error: discard: new makes senders wait",
        ),
        (DiscardPolicy::Old, false) => {
            Finding::new("full", Good, "no limit", "it grows until the disk is full")
        }
        (DiscardPolicy::New, _) => {
            Finding::new("full", Good, "refuses new messages", "senders wait for room")
        }
    });
    if !config.max_age.is_zero() {
        let value = format!("{:?}", config.max_age);
        let meaning = "older messages are removed, settled or not";
        findings.push(Finding::new("max_age", Weak, value, meaning));
    }
    let window = config.duplicate_window;
    let grade = if window.is_zero() { Weak } else { Good };
    findings.push(Finding::new(
        "duplicate_window",
        grade,
        format!("{window:?}"),
        "a message that is sent again within this time is stored once; after a longer outage twice",
    ));
    let replicas = config.num_replicas;
    let meaning = "how many servers have each message";
    findings.push(Finding::new("replicas", Good, replicas, meaning));
    findings
}

fn of_consumer(info: &consumer::Info, window: usize) -> Vec<Finding> {
    use Grade::{Good, Weak};
    let config = &info.config;
    let value = format!(
        "{}: {} to be delivered, {} unsettled",
        info.name, info.num_pending, info.num_ack_pending
    );
    let ack_wait = format!("{:?}", config.ack_wait);
    let mut findings = vec![
        Finding::new("consumer", Good, value, "a durable pull consumer"),
        Finding::new(
            "ack_wait",
            Good,
            ack_wait,
            "how long after a killed receiver its unsettled messages come again",
        ),
    ];
    if config.max_deliver > 0 {
        findings.push(Finding::new(
            "max_deliver",
            Weak,
            config.max_deliver,
            "a message that was delivered so often without being settled is not delivered again",
        ));
    }
    let limit = config.max_ack_pending;
    if limit > 0 && (limit as u64) < window as u64 {
        findings.push(Finding::new(
            "max_ack_pending",
            Weak,
            limit,
            format!(
                "fewer unsettled messages than the window of {window}: the server waits for each"
            ),
        ));
    }
    findings
}

/// Whether a subject of a stream, with wildcards, includes `subject`.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_subject_of_a_stream_covers_those_of_its_wildcards() {
        for (pattern, subject) in [("a", "a"), ("*.b", "a.b"), ("a.>", "a.b.c"), (">", "a")] {
            assert!(covers(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in [("a", "b"), ("*", "a.b"), ("a.>", "a"), ("a.b", "a")] {
            assert!(!covers(pattern, subject), "{pattern} {subject}");
        }
    }
}
