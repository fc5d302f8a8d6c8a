//! What a listener does when `accept` fails: try again at once, pause, or give up.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The first pause after an `accept` that failed for want of descriptors or memory. It doubles.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What to do about an error of `accept(2)`.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Again,
    Pause(Duration),
    Fail,
}

/// Accepts one connection, however often `accept` fails for a reason that passes.
///
/// Cancel safe if the futures of `one` are.
pub(crate) async fn accept<T, F>(mut one: impl FnMut() -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut accepting = Accepting::default();
    loop {
        let error = match one().await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match accepting.after(&error) {
            Next::Again => {}
            Next::Pause(pause) => sleep(pause).await,
            Next::Fail => return Err(error),
        }
    }
}

/// The state of a listener that is polled as a stream.
#[derive(Debug, Default)]
pub(crate) struct Accepting {
    pauses: u32,
    pause: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl Accepting {
    /// Polls for the next connection. Ends after an error that does not pass.
    pub(crate) fn poll_next<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut one: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<Option<io::Result<T>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let error = match ready!(one(cx)) {
                Ok(connection) => {
                    self.pauses = 0;
                    return Poll::Ready(Some(Ok(connection)));
                }
                Err(error) => error,
            };
            match self.after(&error) {
                Next::Again => {}
                Next::Pause(pause) => self.pause = Some(Box::pin(sleep(pause))),
                Next::Fail => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn after(&mut self, error: &io::Error) -> Next {
        match error.raw_os_error() {
            // The connection that was to be taken has gone, or brought its own network's error
            // along: accept(2), "Error handling". The next one may well be good.
            Some(
                libc::ECONNABORTED
                | libc::EINTR
                | libc::ENETDOWN
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ETIMEDOUT
                | libc::EPERM,
            ) => {
                tracing::debug!(%error, "a connection failed before it was accepted");
                Next::Again
            }
            // The connection stays in the queue, so the listener stays ready: without a pause the
            // loop would take a whole core and help nobody.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << self.pauses.min(16))
                    .min(LONGEST_PAUSE);
                if self.pauses == 0 {
                    tracing::warn!(
                        %error,
                        "no connection can be accepted until descriptors or memory are free"
                    );
                }
                self.pauses = self.pauses.saturating_add(1);
                Next::Pause(pause)
            }
            _ => Next::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_descriptors_pauses_at_least_ten_milliseconds_and_longer_each_time() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let error = io::Error::from_raw_os_error(errno);
            let mut accepting = Accepting::default();
            let pauses: Vec<_> = (0..10).map(|_| accepting.after(&error)).collect();
            assert_eq!(pauses[0], Next::Pause(Duration::from_millis(10)));
            assert_eq!(pauses[1], Next::Pause(Duration::from_millis(20)));
            assert_eq!(pauses[9], Next::Pause(LONGEST_PAUSE));
        }
    }

    #[test]
    fn an_aborted_connection_is_passed_over_at_once_and_a_broken_listener_gives_up() {
        let mut accepting = Accepting::default();
        let aborted = io::Error::from_raw_os_error(libc::ECONNABORTED);
        assert_eq!(accepting.after(&aborted), Next::Again);
        let broken = io::Error::from_raw_os_error(libc::EINVAL);
        assert_eq!(accepting.after(&broken), Next::Fail);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_pauses_then_yields_then_starts_again_from_the_first_pause_and_ends_when_broken()
     {
        let mut errors = vec![
            Some(libc::EINVAL),
            Some(libc::EMFILE),
            None,
            Some(libc::EMFILE),
            Some(libc::EMFILE),
            Some(libc::ECONNABORTED),
        ];
        let mut accepting = Accepting::default();
        let mut next = async || {
            std::future::poll_fn(|cx| {
                accepting.poll_next(cx, |_| {
                    Poll::Ready(match errors.pop().flatten() {
                        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                        None => Ok(()),
                    })
                })
            })
            .await
        };
        let start = tokio::time::Instant::now();
        assert!(matches!(next().await, Some(Ok(()))));
        assert_eq!(start.elapsed().as_millis() / 10, 3);
        let start = tokio::time::Instant::now();
        assert!(matches!(next().await, Some(Err(_))));
        assert_eq!(start.elapsed().as_millis() / 10, 1);
        assert!(next().await.is_none());
    }
}
