//! [`forward`]: one direction of a conversation, to its end.

use std::io;

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};

/// Whether the end of one direction is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The sink is closed: the peer sees that nothing more comes.
    Passed,
    /// The sink stays open.
    Kept,
}

/// Why a direction ended early.
#[derive(Debug)]
pub(crate) enum Stopped<E> {
    /// Nothing more could be taken.
    From(E),
    /// Nothing more could be sent.
    To(io::Error),
}

impl<E> From<io::Error> for Stopped<E> {
    fn from(error: io::Error) -> Self {
        Self::To(error)
    }
}

/// Moves all that comes from one end to another, and then the end. What is there at once goes out
/// together; nothing is held back while more is waited for, or where taking it fails.
///
/// `moved` is told of each item before it is given to the sink, and, by `None`, of each time that
/// the sink has written all it had. Dropped, it may have taken an item that it has not sent.
pub(crate) async fn forward<T, E>(
    mut from: impl Stream<Item = Result<T, E>> + Unpin,
    to: &mut (impl Sink<T, Error = io::Error> + Unpin),
    end: End,
    mut moved: impl FnMut(Option<&T>),
) -> Result<(), Stopped<E>> {
    let result = loop {
        let next = match from.next().now_or_never() {
            Some(next) => next,
            None => {
                to.flush().await?;
                moved(None);
                from.next().await
            }
        };
        match next {
            Some(Ok(item)) => {
                moved(Some(&item));
                to.feed(item).await?;
            }
            Some(Err(error)) => break Err(Stopped::From(error)),
            None => break Ok(()),
        }
    };
    to.flush().await?;
    moved(None);
    if result.is_ok() && end == End::Passed {
        to.close().await?;
    }
    result
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures_util::stream;

    use super::*;

    /// Notes what becomes of it.
    #[derive(Default)]
    struct Noted(String);

    impl Sink<char> for Noted {
        type Error = io::Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(mut self: Pin<&mut Self>, item: char) -> io::Result<()> {
            self.0.push(item);
            Ok(())
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push('/');
            Poll::Ready(Ok(()))
        }

        fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.push('.');
            Poll::Ready(Ok(()))
        }
    }

    fn forwarded(items: Vec<Poll<Result<char, &'static str>>>, end: End) -> (String, bool) {
        let mut items = items.into_iter();
        let from = stream::poll_fn(move |cx| match items.next() {
            Some(Poll::Ready(item)) => Poll::Ready(Some(item)),
            Some(Poll::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        });
        let mut to = Noted::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let result = runtime.block_on(forward(from, &mut to, end, |_| {}));
        (to.0, result.is_ok())
    }

    #[test]
    fn what_is_there_goes_out_together_and_the_end_is_passed_on() {
        let items = || {
            vec![
                Poll::Ready(Ok('a')),
                Poll::Ready(Ok('b')),
                Poll::Pending,
                Poll::Ready(Ok('c')),
            ]
        };
        assert_eq!(forwarded(items(), End::Passed), ("ab/c/.".to_owned(), true));
        assert_eq!(forwarded(items(), End::Kept), ("ab/c/".to_owned(), true));
    }

    #[test]
    fn what_came_before_a_failure_is_sent_and_no_end() {
        let items = vec![
            Poll::Ready(Ok('a')),
            Poll::Ready(Err("broken")),
            Poll::Ready(Ok('b')),
        ];
        assert_eq!(forwarded(items, End::Passed), ("a/".to_owned(), false));
    }
}
