//! Errors of services: replies with headers, as in the services of NATS ([ADR-32]).
//!
//! [ADR-32]: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md

use async_nats::{Client, HeaderMap, Message, PublishError, Subject};
use bytes::Bytes;

const ERROR: &str = "Nats-Service-Error";
const CODE: &str = "Nats-Service-Error-Code";
/// The code of an error of the service.
pub(super) const FAILED: &str = "500";
/// The code of a service that does not take a request.
pub(super) const UNAVAILABLE: &str = "503";

/// Replies with an error.
pub(super) async fn reply_with(
    client: &Client,
    to: Subject,
    code: &str,
    error: &str,
) -> Result<(), PublishError> {
    let mut headers = HeaderMap::new();
    headers.insert(ERROR, error);
    headers.insert(CODE, code);
    let told = client.publish_with_headers(to, headers, Bytes::new());
    told.await
}

/// The error that a reply is, with its code.
pub(super) fn error_of(reply: &Message) -> Option<String> {
    let headers = reply.headers.as_ref()?;
    let error = headers.get(ERROR)?;
    Some(match headers.get(CODE) {
        Some(code) => format!("{error} (code {code})"),
        None => error.to_string(),
    })
}
