//! What limits message queues.

use aqueduct::mq::{self, Limits};

use crate::look::MOUNT_POINT;

use super::{Check, State};

pub(super) fn checks() -> anyhow::Result<Vec<Check>> {
    let limits = mq::limits();
    let usage = &limits.usage;
    Ok(vec![
        mounted(&limits),
        Check::usage("queue_bytes", usage.own_bytes, limits.bytes_soft).advice(
            "RLIMIT_MSGQUEUE, what this user's queues may cost together; for more: ulimit -q BYTES, \
             LimitMSGQUEUE= in a systemd unit, or aqueduct mq unlink what is not needed",
        ),
        Check::usage("queues", usage.queues, Some(limits.queues_max)).advice(format!(
            "fs.mqueue.queues_max, for all users together; for more: sysctl -w \
             fs.mqueue.queues_max={}",
            limits.queues_max.saturating_mul(2)
        )),
        room(&limits),
        sizes(&limits),
    ])
}

fn mounted(limits: &Limits) -> Check {
    if limits.usage.listed {
        return Check::new("queue_mount", State::Ok, MOUNT_POINT);
    }
    Check::new("queue_mount", State::Low, "not mounted").advice(format!(
        "queues work and cannot be listed: mkdir -p {MOUNT_POINT} && mount -t mqueue none \
         {MOUNT_POINT}"
    ))
}

fn room(limits: &Limits) -> Check {
    let n = limits.room_for(limits.default_cost).queues;
    let state = match n {
        0 => State::Bad,
        1 => State::Low,
        _ => State::Ok,
    };
    let sure = if limits.usage.listed { "" } else { "at most " };
    Check::new("queue_room", state, format!("{sure}{n} more")).advice(format!(
        "queues of the default size, each at a cost of {} bytes; smaller ones cost less: \
         ?capacity=4&max-message=256",
        limits.default_cost
    ))
}

fn sizes(limits: &Limits) -> Check {
    let (messages, bytes) = (limits.msg_max, limits.msgsize_max);
    let value = format!("{messages} of {bytes} bytes");
    Check::new("queue_size", State::Ok, value).advice(
        "the largest queue, by fs.mqueue.msg_max and fs.mqueue.msgsize_max; for more: sysctl -w",
    )
}
