//! How a listener treats a failed `accept`: try again at once, pause, or give up.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::timer::{Sleep, sleep};

use super::backoff::Backoff;

/// The first pause after an `accept` that failed for lack of descriptors or memory.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many connections in a row may fail before they are accepted until there is a pause as well.
/// No kernel reports this for ever; a filter of system calls can.
const PATIENCE: u32 = 128;

/// The reaction to an error of `accept(2)`.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Again,
    Pause(Duration),
    Fail,
}

/// Accepts one connection and prepares it for use, however often either fails for a reason that is
/// temporary or specific to this connection.
///
/// Cancel safe if the futures of `one` are.
pub(crate) async fn accept<A, T, F>(
    mut one: impl FnMut() -> F,
    mut prepare: impl FnMut(A) -> io::Result<T>,
) -> io::Result<T>
where
    F: Future<Output = io::Result<A>>,
{
    let mut accepting = Accepting::default();
    loop {
        let next = match one().await {
            Ok(accepted) => match prepare(accepted) {
                Ok(connection) => return Ok(connection),
                Err(error) => accepting.after_prepare(&error),
            },
            Err(error) => match accepting.after(&error) {
                Next::Fail => return Err(error),
                next => next,
            },
        };
        if let Next::Pause(pause) = next {
            sleep(pause).await;
        }
    }
}

/// The state of a listener that is polled as a stream.
#[derive(Debug)]
pub(crate) struct Accepting {
    backoff: Backoff,
    /// Whether the shortage was already reported.
    short: bool,
    /// Connections in a row that failed before they were accepted.
    aborted: u32,
    pause: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl Default for Accepting {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            short: false,
            aborted: 0,
            pause: None,
            failed: false,
        }
    }
}

impl Accepting {
    /// Polls for the next connection that could be prepared for use. Ends after an error that is
    /// not temporary.
    pub(crate) fn poll_next<A, T>(
        &mut self,
        cx: &mut Context<'_>,
        mut one: impl FnMut(&mut Context<'_>) -> Poll<io::Result<A>>,
        mut prepare: impl FnMut(A) -> io::Result<T>,
    ) -> Poll<Option<io::Result<T>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let next = match ready!(one(cx)) {
                Ok(accepted) => match prepare(accepted) {
                    Ok(connection) => {
                        (self.short, self.aborted) = (false, 0);
                        self.backoff.reset();
                        return Poll::Ready(Some(Ok(connection)));
                    }
                    Err(error) => self.after_prepare(&error),
                },
                Err(error) => match self.after(&error) {
                    Next::Fail => {
                        self.failed = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    next => next,
                },
            };
            if let Next::Pause(pause) = next {
                self.pause = Some(Box::pin(sleep(pause)));
            }
        }
    }

    /// After a connection was accepted and could not be prepared for use. It is closed by now.
    fn after_prepare(&mut self, error: &io::Error) -> Next {
        if is_want(error) {
            return self.pause(error);
        }
        tracing::warn!(%error, "closed an accepted connection that cannot be used");
        Next::Again
    }

    fn after(&mut self, error: &io::Error) -> Next {
        match error.raw_os_error() {
            // The connection to be accepted has gone, or reported an error of its own network:
            // accept(2), "Error handling". The next one may work.
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
                self.aborted = self.aborted.wrapping_add(1);
                if self.aborted.is_multiple_of(PATIENCE) {
                    Next::Pause(FIRST_PAUSE)
                } else {
                    Next::Again
                }
            }
            _ if is_want(error) => self.pause(error),
            _ => Next::Fail,
        }
    }

    /// Connections stay in the queue, so the listener stays ready: without a pause the loop would
    /// take a whole core and help nobody.
    fn pause(&mut self, error: &io::Error) -> Next {
        if !std::mem::replace(&mut self.short, true) {
            tracing::warn!(
                %error,
                "cannot accept connections until descriptors or memory are free"
            );
        }
        Next::Pause(self.backoff.pause())
    }
}

/// Whether a resource is exhausted that will be free again: descriptors, memory, or epoll watches
/// (`ENOSPC` of epoll_ctl(2)).
fn is_want(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_pauses_longer_each_time() {
        for errno in [
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::ENOSPC,
        ] {
            let error = io::Error::from_raw_os_error(errno);
            let mut accepting = Accepting::default();
            let pauses: Vec<_> = (0..10).map(|_| accepting.after(&error)).collect();
            for (pause, most) in [(0, 10), (1, 20), (9, 1000)] {
                let Next::Pause(pause) = pauses[pause] else {
                    panic!("{errno}: it does not pause");
                };
                let most = Duration::from_millis(most);
                assert!((most / 2..=most).contains(&pause), "{pause:?}");
            }
        }
    }

    #[test]
    fn only_a_broken_listener_fails_at_once() {
        let mut accepting = Accepting::default();
        let aborted = io::Error::from_raw_os_error(libc::ECONNABORTED);
        for _ in 1..PATIENCE {
            assert_eq!(accepting.after(&aborted), Next::Again);
        }
        // An error that never ends takes no core.
        assert_eq!(accepting.after(&aborted), Next::Pause(FIRST_PAUSE));
        assert_eq!(accepting.after(&aborted), Next::Again);
        let broken = io::Error::from_raw_os_error(libc::EINVAL);
        assert_eq!(accepting.after(&broken), Next::Fail);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_pauses_restarts_its_pauses_and_ends_when_broken() {
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
                let one = |_: &mut Context<'_>| {
                    Poll::Ready(match errors.pop().flatten() {
                        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
                        None => Ok(()),
                    })
                };
                accepting.poll_next(cx, one, Ok)
            })
            .await
        };
        let start = tokio::time::Instant::now();
        assert!(matches!(next().await, Some(Ok(()))));
        // Two pauses of 10 and 20 ms, less jitter.
        assert!((15..=32).contains(&start.elapsed().as_millis()));
        let start = tokio::time::Instant::now();
        assert!(matches!(next().await, Some(Err(_))));
        assert!((5..=12).contains(&start.elapsed().as_millis()));
        assert!(next().await.is_none());
    }

    /// It used to end the listener's stream, and the service with it.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_cannot_be_used_costs_itself_alone() {
        let unusable = |errno| {
            move |n| {
                if n == 3 {
                    Ok(n)
                } else {
                    Err(io::Error::from_raw_os_error(errno))
                }
            }
        };
        for (errno, pauses) in [(libc::EINVAL, 0..=0), (libc::ENOMEM, 15..=32)] {
            let start = tokio::time::Instant::now();
            let mut taken = 0;
            let mut accepting = Accepting::default();
            let mut one = || {
                taken += 1;
                Ok(taken)
            };
            let next = std::future::poll_fn(|cx| {
                accepting.poll_next(cx, |_| Poll::Ready(one()), unusable(errno))
            });
            assert!(matches!(next.await, Some(Ok(3))));
            assert!(pauses.contains(&start.elapsed().as_millis()));

            taken = 0;
            let one = || {
                taken += 1;
                std::future::ready(Ok(taken))
            };
            assert_eq!(accept(one, unusable(errno)).await.expect("the third"), 3);
        }
    }
}
