//! `aqueduct mq limits`: what the system allows, what is used, and what still fits.

use aqueduct::mq::{self, Limits, RoomEnd};
use serde::Serialize;

use crate::cli::LimitsArgs;
use crate::exit::Exit;
use crate::look::MOUNT_POINT;
use crate::report::Report;
use crate::stdout;
use crate::table::{Table, cell};

pub(super) fn run(args: LimitsArgs, report: &Report) -> anyhow::Result<Exit> {
    let limits = mq::limits();
    let room = Room::new(&limits, args.measure)?;
    if args.format.json {
        return stdout::write_json(&[Json::new(&limits, room)]);
    }
    let printed = table(&limits, &room).print()?;
    room.notes(&limits, report);
    Ok(printed)
}

/// How many more queues of the default size fit.
#[derive(Serialize)]
struct Room {
    /// `null` where there is no limit.
    queues: Option<u64>,
    capacity: u64,
    max_message: u64,
    cost: u64,
    /// The limit that the next one meets.
    ends_with: Option<&'static str>,
    /// Whether it was tried out, not reckoned.
    measured: bool,
}

impl Room {
    fn new(limits: &Limits, measure: bool) -> anyhow::Result<Self> {
        let cost = limits.default_cost;
        let room = if measure {
            mq::measure_room(None)?
        } else {
            limits.room_for(cost)
        };
        let end = room.ends_with;
        Ok(Self {
            queues: (measure || end.is_some()).then_some(room.queues),
            capacity: limits.msg_default.min(limits.msg_max),
            max_message: limits.msgsize_default.min(limits.msgsize_max),
            cost,
            ends_with: end.map(|end| match end {
                RoomEnd::Bytes => BYTES,
                RoomEnd::Queues => QUEUES,
                _ => "RLIMIT_NOFILE",
            }),
            measured: measure,
        })
    }

    /// In words, and what to do about it.
    fn notes(&self, limits: &Limits, report: &Report) {
        let Self {
            capacity,
            max_message,
            cost,
            ..
        } = self;
        let size = format!("{capacity} messages of {max_message} bytes, a cost of {cost}");
        if limits.exempt {
            report.note(format_args!(
                "this process has CAP_SYS_RESOURCE: msg_max, msgsize_max and queues_max do not \
                 apply to it, RLIMIT_MSGQUEUE does"
            ));
        }
        let uncertain = !self.measured && !limits.usage.listed;
        match (self.queues, self.ends_with) {
            (Some(queues), Some(end)) => {
                let sure = if uncertain { "at most " } else { "" };
                let of = if queues == 1 { "queue" } else { "queues" };
                report.note(format_args!(
                    "{sure}{queues} more {of} of the default size can be made ({size}); then \
                     {end} is reached"
                ));
            }
            (Some(queues), None) => report.note(format_args!(
                "{queues} more queues of the default size were made ({size}), and no limit was \
                 reached"
            )),
            (None, _) => report.note(format_args!(
                "no limit ends the number of queues of the default size that can be made ({size})"
            )),
        }
        match self.ends_with {
            Some(BYTES) => {
                let higher = "LimitMSGQUEUE= in a systemd unit or msgqueue in \
                              /etc/security/limits.conf";
                let how = match limits.bytes_hard {
                    Some(hard) if limits.bytes_soft == Some(hard) => higher.to_owned(),
                    Some(hard) => format!("ulimit -q BYTES, up to {hard}; beyond, {higher}"),
                    None => "ulimit -q BYTES".to_owned(),
                };
                report.note(format_args!(
                    "for more, make smaller ones (--capacity, --max-message), unlink some, or \
                     raise the limit ({how})"
                ));
            }
            Some(QUEUES) => {
                let twice = limits.queues_max.saturating_mul(2);
                report.note(format_args!(
                    "for more, unlink some, or raise the limit: sysctl -w {QUEUES}={twice}"
                ));
            }
            _ => {}
        }
        if uncertain {
            report.note(format_args!(
                "no queue file system is on {MOUNT_POINT}, so queues that no process has open \
                 were not seen: be exact with --measure, or mount one, as root (mkdir -p \
                 {MOUNT_POINT} && mount -t mqueue none {MOUNT_POINT})"
            ));
        }
    }
}

/// The limit on what a user's queues cost together.
const BYTES: &str = "RLIMIT_MSGQUEUE";
/// The limit on the number of queues.
const QUEUES: &str = "fs.mqueue.queues_max";

fn table(limits: &Limits, room: &Room) -> Table {
    let usage = &limits.usage;
    let sysctl = |name: &str| format!("fs.mqueue.{name}");
    let or_unlimited = |limit: Option<u64>| match limit {
        Some(limit) => limit.to_string(),
        None => "unlimited".to_owned(),
    };
    let mut table = Table::new(&["limit", "value", "used", "on", "set by"]).right(&[1, 2]);
    let mut row = |name: &str, value: String, used: Option<u64>, on: &str, by: String| {
        table.row(vec![name.to_owned(), value, cell(used), on.to_owned(), by]);
    };
    for (name, value, used, on) in [
        ("msg_max", limits.msg_max, None, "messages held"),
        ("msg_default", limits.msg_default, None, "if not said"),
        ("msgsize_max", limits.msgsize_max, None, "message bytes"),
        (
            "msgsize_default",
            limits.msgsize_default,
            None,
            "if not said",
        ),
        (
            "queues_max",
            limits.queues_max,
            Some(usage.queues),
            "all queues",
        ),
    ] {
        row(name, value.to_string(), used, on, sysctl(name));
    }
    let (soft, hard) = (
        or_unlimited(limits.bytes_soft),
        or_unlimited(limits.bytes_hard),
    );
    let by = "ulimit -q, LimitMSGQUEUE=";
    row(
        "bytes_soft",
        soft,
        Some(usage.own_bytes),
        "own queues",
        by.to_owned(),
    );
    let by = "ulimit -Hq";
    row("bytes_hard", hard, None, "the soft one", by.to_owned());
    let by = cell(room.ends_with);
    row(
        "room",
        or_unlimited(room.queues),
        None,
        "default queues",
        by,
    );
    table
}

/// All of it as JSON; people's scripts rely on the names. No limit is `null`.
#[derive(Serialize)]
struct Json {
    msg_max: u64,
    msg_default: u64,
    msgsize_max: u64,
    msgsize_default: u64,
    queues_max: u64,
    /// Whether the maxima above do not hold for this process.
    exempt: bool,
    bytes_soft: Option<u64>,
    bytes_hard: Option<u64>,
    used: Used,
    room: Room,
}

#[derive(Serialize)]
struct Used {
    /// Whether queues that nobody has open could be seen.
    listed: bool,
    queues: u64,
    own_queues: u64,
    own_bytes: u64,
}

impl Json {
    fn new(limits: &Limits, room: Room) -> Self {
        Self {
            msg_max: limits.msg_max,
            msg_default: limits.msg_default,
            msgsize_max: limits.msgsize_max,
            msgsize_default: limits.msgsize_default,
            queues_max: limits.queues_max,
            exempt: limits.exempt,
            bytes_soft: limits.bytes_soft,
            bytes_hard: limits.bytes_hard,
            used: Used {
                listed: limits.usage.listed,
                queues: limits.usage.queues,
                own_queues: limits.usage.own_queues,
                own_bytes: limits.usage.own_bytes,
            },
            room,
        }
    }
}
