//! The text in a queue's file under /dev/mqueue: a number where there is one, never a panic.
#![no_main]

use aqueduct::fuzzing::queue_status;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (bytes, notified) = queue_status(text);
    // As any fool would read it.
    let words = || text.split_whitespace();
    if bytes.is_some() {
        assert!(words().any(|it| it.starts_with("QSIZE:")));
    }
    if let Some(pid) = notified {
        assert!(pid > 0 && words().any(|it| it.starts_with("NOTIFY_PID:")));
    }
    let made = format!(
        "QSIZE:{} NOTIFY:0 SIGNO:0 NOTIFY_PID:7 \n{text}",
        text.len()
    );
    assert_eq!(queue_status(&made), (Some(text.len() as u64), Some(7)));
});
