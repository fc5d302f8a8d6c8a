//! One typed program over every transport, by address alone.
//!
//! [`program`] is the program: two processes that talk through a `Channel<Ask, Reply>` and name no
//! transport. [`cases`] are what is promised of every one of them: order and boundaries, the end of
//! the stream, the peer's death by SIGKILL, a full buffer, cancelled futures, the largest message.
//! [`links`] are the transports: each gives the channel of this process and a second process that
//! runs the program at the other end. What a case expects where transports differ it asks of
//! [`Capabilities`], so these are tested too.
//!
//! A new transport implements [`Link`] and is stamped out:
//!
//! ```text
//! conformance! { my_transport => MyLink }
//! ```
//!
//! [`Capabilities`]: aqueduct::endpoint::Capabilities
//! [`Link`]: links::Link

pub(crate) mod cases;
pub(crate) mod links;
pub(crate) mod program;

use self::links::{Descriptors, Exec, Fifos, Queues, Sockets, StdioOver};

/// Stamps all cases out for each transport.
macro_rules! conformance {
    ($($name:ident => $link:expr;)+) => { $(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            #[tokio::test]
            async fn messages_keep_their_boundaries_and_their_order() {
                $crate::conformance::cases::order(&$link).await;
            }

            #[tokio::test]
            async fn the_end_of_the_stream_comes_after_all_messages_where_there_is_one() {
                $crate::conformance::cases::end(&$link).await;
            }

            #[tokio::test]
            async fn a_peer_that_ends_first_is_seen_and_sending_fails() {
                $crate::conformance::cases::peer_ends(&$link).await;
            }

            #[tokio::test]
            async fn a_peer_killed_at_any_step_leaves_whole_messages_in_order() {
                $crate::conformance::cases::killed(&$link).await;
            }

            #[tokio::test]
            async fn a_full_buffer_makes_the_sender_wait_and_loses_nothing() {
                $crate::conformance::cases::full(&$link).await;
            }

            #[tokio::test]
            async fn a_peer_killed_behind_a_full_buffer_frees_the_sender() {
                $crate::conformance::cases::killed_full(&$link).await;
            }

            #[tokio::test]
            async fn dropped_futures_lose_nothing_and_double_nothing() {
                $crate::conformance::cases::cancel(&$link).await;
            }

            #[tokio::test]
            async fn the_largest_message_passes_and_a_larger_one_is_refused_at_either_end() {
                $crate::conformance::cases::largest(&$link).await;
            }
        }
    )+ };
}

conformance! {
    unix_path => Sockets::new("unix");
    unix_abstract => Sockets::new("unix:@");
    unixpacket_path => Sockets::new("unixpacket");
    unixpacket_abstract => Sockets::new("unixpacket:@");
    tcp => Sockets::new("tcp");
    exec => Exec;
    fd_stream_sockets => Descriptors::StreamSockets;
    fd_packet_sockets => Descriptors::PacketSockets;
    fd_pipes => Descriptors::Pipes;
    stdio_over_pipes => StdioOver::Pipes;
    stdio_over_a_socket => StdioOver::Socket;
    fifos => Fifos;
    queues_pool => Queues::new("pool");
    queues_asyncfd => Queues::new("asyncfd");
}
