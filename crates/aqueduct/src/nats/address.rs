//! [`Address`]: the parts of an address, parsed and printed.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy;

use crate::address::{AddressProblem, HostPort, Printer, Query, escape};

const PORT: u16 = 4222;
const WINDOW: usize = 256;
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Stands for a password or token that is not printed.
const SECRET: &str = "***";

const SUBJECT: &str = "a slash and a subject without spaces, such as /jobs or /jobs.new";
const NAME: &str = "a name without spaces, dots, slashes, * and >, such as JOBS";
const FILE: &str = "a path, as in ca=/etc/ssl/ca.pem";
const COUNT: &str = "a number of messages from 1 to 65536";
const LIMIT: &str = "a number from 1, or a size such as 64MiB";
const SECONDS: &str = "a number of seconds from 1 to 86400";
const RETENTIONS: [(&str, Retention); 3] = [
    ("interest", Retention::Interest),
    ("limits", Retention::Limits),
    ("workqueue", Retention::WorkQueue),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    Interest,
    Limits,
    WorkQueue,
}

impl From<Retention> for RetentionPolicy {
    fn from(retention: Retention) -> Self {
        match retention {
            Retention::Interest => Self::Interest,
            Retention::Limits => Self::Limits,
            Retention::WorkQueue => Self::WorkQueue,
        }
    }
}

impl Display for Retention {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = RETENTIONS.iter().find(|it| it.1 == *self);
        f.write_str(name.map_or("", |it| it.0))
    }
}

/// The user of an address.
#[derive(Clone)]
pub(super) enum User {
    Password(String, String),
    Token(String),
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) server: HostPort,
    pub(super) user: Option<User>,
    pub(super) subject: String,
    pub(super) stream: Option<String>,
    pub(super) consumer: Option<String>,
    pub(super) queue: Option<String>,
    pub(super) create: Option<bool>,
    pub(super) retention: Option<Retention>,
    pub(super) max_messages: Option<u32>,
    pub(super) max_bytes: Option<u64>,
    window: Option<usize>,
    ack_wait: Option<u64>,
    id: Option<bool>,
    pub(super) tls: Option<bool>,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) creds: Option<PathBuf>,
    pub(super) nkey: Option<PathBuf>,
}

impl Address {
    pub(super) fn parse(rest: &[u8], query: &Query) -> Result<Self, AddressProblem> {
        let slash = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let (authority, subject) = rest.split_at(slash);
        let subject = escape::decode(subject.strip_prefix(b"/").unwrap_or_default())?;
        let subject = String::from_utf8_lossy(&subject).into_owned();
        if !is_subject(&subject) {
            return Err(invalid("subject", &subject, SUBJECT));
        }
        let (user, server) = match memchr::memrchr(b'@', authority) {
            Some(at) => (Some(user(&authority[..at])?), &authority[at + 1..]),
            None => (None, authority),
        };
        let has_port = match server.strip_prefix(b"[") {
            Some(_) => !server.ends_with(b"]"),
            None => server.contains(&b':'),
        };
        let server = match has_port {
            true => HostPort::parse(server)?,
            false => HostPort::parse(&[server, format!(":{PORT}").as_bytes()].concat())?,
        };
        let name = |option| query.text(option, NAME, is_name);
        let file = |option| {
            let text = query.text(option, FILE, |it| !it.is_empty())?;
            Ok(text.map(PathBuf::from))
        };
        Ok(Self {
            server,
            user,
            subject,
            stream: name("stream")?,
            consumer: name("consumer")?,
            queue: name("queue")?,
            create: query.boolean("create")?,
            retention: query.choice("retention", &RETENTIONS, "interest, limits or workqueue")?,
            max_messages: query.number("max-messages", 1..=u32::MAX.into(), false, LIMIT)?,
            max_bytes: query.number("max-bytes", 1..=i64::MAX as u64, true, LIMIT)?,
            window: query.number("window", 1..=65_536, false, COUNT)?,
            ack_wait: query.number("ack-wait", 1..=86_400, false, SECONDS)?,
            id: query.boolean("id")?,
            tls: query.boolean("tls")?,
            ca: file("ca")?,
            cert: file("cert")?,
            key: file("key")?,
            creds: file("creds")?,
            nkey: file("nkey")?,
        })
    }

    pub(super) fn window(&self) -> usize {
        self.window.unwrap_or(WINDOW)
    }

    /// How many messages of a core subject may wait.
    pub(super) fn backlog(&self) -> usize {
        4 * self.window() + 1024
    }

    pub(super) fn ack_wait(&self) -> Duration {
        self.ack_wait.map_or(ACK_WAIT, Duration::from_secs)
    }

    /// Whether each message that is sent gets an id.
    pub(super) fn has_ids(&self) -> bool {
        self.id.unwrap_or(true)
    }

    pub(super) fn print(&self, printer: &mut Printer) {
        match &self.user {
            Some(User::Password(name, _)) => {
                printer.rest(name.as_ref(), b":@/");
                printer.literal(&format!(":{SECRET}@"));
            }
            Some(User::Token(_)) => printer.literal(&format!("{SECRET}@")),
            None => {}
        }
        self.server.print(printer);
        printer.literal("/");
        printer.rest(self.subject.as_ref(), b"/");
        let file = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| {
                let mut text = String::new();
                escape::encode(path.as_os_str().as_encoded_bytes(), b"&", &mut text);
                text
            })
        };
        printer.option("ack-wait", self.ack_wait);
        printer.option("ca", file(&self.ca));
        printer.option("cert", file(&self.cert));
        printer.option("consumer", self.consumer.as_ref());
        printer.option("create", self.create);
        printer.option("creds", file(&self.creds));
        printer.option("id", self.id);
        printer.option("key", file(&self.key));
        printer.option("max-bytes", self.max_bytes);
        printer.option("max-messages", self.max_messages);
        printer.option("nkey", file(&self.nkey));
        printer.option("queue", self.queue.as_ref());
        printer.option("retention", self.retention);
        printer.option("stream", self.stream.as_ref());
        printer.option("tls", self.tls);
        printer.option("window", self.window);
    }
}

fn user(text: &[u8]) -> Result<User, AddressProblem> {
    let decode = |text| Ok(String::from_utf8_lossy(&escape::decode(text)?).into_owned());
    Ok(match memchr::memchr(b':', text) {
        Some(at) => User::Password(decode(&text[..at])?, decode(&text[at + 1..])?),
        None => User::Token(decode(text)?),
    })
}

/// Tokens between dots; `*` and `>` stand for others, `>` only at the end.
fn is_subject(subject: &str) -> bool {
    let tokens: Vec<_> = subject.split('.').collect();
    let is_token = |(at, token): (usize, &&str)| {
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        let wild = token.contains(['*', '>']);
        let allowed = !wild || *token == "*" || *token == ">" && at + 1 == tokens.len();
        !token.is_empty() && token.chars().all(plain) && allowed
    };
    tokens.iter().enumerate().all(is_token)
}

/// The name of a stream, a consumer or a queue group.
fn is_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !".*>/\\".contains(c);
    !name.is_empty() && name.chars().all(allowed)
}

fn invalid(part: &'static str, value: &str, expected: &'static str) -> AddressProblem {
    let value = value.to_owned();
    AddressProblem::InvalidPart {
        part,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use crate::Endpoint;

    fn printed(address: &str) -> String {
        address.parse::<Endpoint>().expect(address).to_string()
    }

    #[test]
    fn addresses_print_without_secrets() {
        for (address, print) in [
            ("nats://localhost/jobs", "nats://localhost:4222/jobs"),
            ("nats:[::1]/a.*.>", "nats://[::1]:4222/a.*.>"),
            ("nats://me:s%40cret@h:1/a", "nats://me:***@h:1/a"),
            (
                "nats://token@h/a?stream=S&window=1",
                "nats://***@h:4222/a?stream=S&window=1",
            ),
            ("nats://h/a?ca=/a%26b", "nats://h:4222/a?ca=/a%26b"),
        ] {
            assert_eq!(printed(address), print);
            assert_eq!(printed(print), print);
            let endpoint: Endpoint = address.parse().unwrap();
            assert!(!format!("{endpoint:?}").contains("s@cret"));
        }
    }

    #[test]
    fn invalid_subjects_and_names_are_refused() {
        for rest in [
            "h", "h/", "h/a..b", "h/.a", "h/a b", "h/a.>.b", "h/a*", "/a", "h:x/a",
        ] {
            assert!(
                format!("nats://{rest}").parse::<Endpoint>().is_err(),
                "{rest}"
            );
        }
        for option in [
            "stream=a.b",
            "stream=",
            "window=0",
            "retention=never",
            "ack-wait=0",
        ] {
            let address = format!("nats://h/a?{option}");
            assert!(address.parse::<Endpoint>().is_err(), "{option}");
        }
    }
}
