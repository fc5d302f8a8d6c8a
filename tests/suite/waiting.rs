//! Waiting for a peer that does not come.

use std::time::Duration;

use aqueduct::Endpoint;
use aqueduct::connect::Options;

use crate::support::Log;

#[tokio::test(start_paused = true)]
async fn a_long_wait_says_once_whom_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    for (address, awaited) in [
        (format!("unix:{path}/nobody"), "server"),
        (format!("fifo:{path}/nobody"), "reader"),
    ] {
        let (log, recording) = Log::start();
        let endpoint: Endpoint = address.parse().unwrap();
        let mut options = Options::new();
        options.wait(Some(Duration::from_secs(2)));
        options.open_sender(&endpoint).await.unwrap_err();
        let said = format!("waiting for a {awaited}");
        assert!(!log.text().contains("INFO"), "{}", log.text());
        options.wait(Some(Duration::from_secs(60)));
        options.open_sender(&endpoint).await.unwrap_err();
        drop(recording);
        let text = log.text();
        let mut lines = text.lines().filter(|line| line.contains("INFO"));
        let line = lines.next().unwrap();
        assert!(line.contains(&address) && line.contains(&said), "{text}");
        assert!(lines.next().is_none(), "{text}");
    }
}
