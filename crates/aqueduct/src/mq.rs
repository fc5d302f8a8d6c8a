//! POSIX message queues.
//!
//! A queue has a name in the system, holds a bounded number of whole messages of bounded size, and
//! hands them out by priority, then by age. It needs no peer: messages wait in the kernel, also
//! when the process that sent them has ended, until they are received or the queue is unlinked.
//!
//! - [`OpenOptions`] opens and makes a [`Queue`], which sends and receives with priorities and can
//!   be shared by any number of tasks.
//! - [`Sender`] and [`Receiver`] are a queue as `Sink` and `Stream` of message bodies, to put a
//!   typed channel on. A queue goes one way; two make a channel.
//! - [`Framed`] is a queue with any codec of tokio-util, with priorities.
//! - [`list`], [`info`], [`limits`], [`measure_room`] and [`unlink`] look after the queues of the system.
//!
//! Opening and the `try_` methods need no runtime. Waiting needs a Tokio runtime with its timer,
//! and with its I/O driver too for [`Driver::AsyncFd`] (`enable_all` has both); without those
//! Tokio panics, as it does in `tokio::time` and `tokio::net`.
//!
//! # Contract
//!
//! | | |
//! |---|---|
//! | order | by priority, highest first; within one priority as sent |
//! | message boundaries | kept; an empty message is a message |
//! | end of stream | none, unless [agreed on](#the-end-of-a-conversation) |
//! | the peer dies | nothing happens: what it sent stays, and nobody is told |
//! | full queue | senders wait; `try_send` says `WouldBlock` |
//! | empty queue | receivers wait; `try_recv` says `WouldBlock` |
//! | dropping a future | never loses a message, never sends one |
//! | dropping the runtime | takes milliseconds; waits end with [`Error::RuntimeGone`] |
//! | unlinking it | it works on for those who have it open; [`check_name_every`](OpenOptions::check_name_every) tells those who wait |
//! | killing a process | loses at most the message in its hands, for each of its receives |
//! | delivery | at most once; to know that a message was worked on, answer on another queue |
//! | largest message | the queue's `max_message`; larger ones are refused before the system call |
//! | many senders, many receivers | any number; each message goes to one receiver |
//! | what stays behind | the queue and its messages, until it is unlinked |
//!
//! # Which driver
//!
//! A message that can be sent or received at once is, without any driver. Only when the queue is
//! full or empty does one come in:
//!
//! - [`Driver::Pool`], the default: a thread of Tokio's blocking pool sleeps in `epoll_wait` for
//!   all queues of the runtime. Take it where the runtime has no I/O driver, and where many tasks
//!   of a process wait for the same queue: each message wakes one of them.
//! - [`Driver::AsyncFd`]: Tokio's own I/O driver waits. Take it where latency or processor time
//!   count: it saves the way through the other thread.
//!
//! Before a wait either gives the processor away and tries again, a few times and for as long as
//! that pays: where messages come quickly it hardly ever sleeps.
//! [`OpenOptions::poll_for`] extends that to a latency mode.
//!
//! `cargo run --release --example mq_drivers` measures it. On 2 CPUs (Intel Xeon virtual machine,
//! Linux 6.18, other work going on), two processes, 64-byte messages, current-thread runtimes;
//! medians of 7 interleaved rounds [lowest-highest]. One way: both sides as fast as they can, on a
//! queue of 10. Round trip: both processes on one CPU.
//!
//! | | one way, messages/s | a CPU for each, messages/s | round trip, us |
//! |---|---|---|---|
//! | blocking calls | 1,568,255 [990,493-1,655,524] | 156,679 [108,873-165,032] | 2.0 [1.9-2.0] |
//! | `AsyncFd` | 1,243,612 [892,909-1,345,942] | 201,405 [183,648-215,836] | 2.7 [2.7-2.8] |
//! | `Pool` | 1,229,491 [551,400-1,274,790] | 302,521 [270,856-567,885] | 2.8 [2.7-2.9] |
//! | `AsyncFd`, [`recv_into`](Queue::recv_into) | 1,272,686 [906,270-1,408,568] | 196,205 [171,976-251,466] | 2.8 [2.7-2.8] |
//! | `Pool`, [`recv_into`](Queue::recv_into) | 1,272,659 [709,036-1,355,240] | 292,798 [271,157-311,764] | 2.8 [2.8-2.9] |
//!
//! Both are told by the kernel of every message as long as they wait. Where N processes wait for
//! one queue by either driver, each message wakes all N, and all but one go back to sleep. For a
//! pool of workers it is cheaper to have one process receive and hand out the work.
//!
//! # The end of a conversation
//!
//! A queue has no end of stream: it cannot tell that its last sender has gone. Where both ends
//! agree, an *empty message* means the end: [`Sender::announces_end`] sends it when the sink is
//! closed, [`Receiver::ends_after`] ends the stream at it. It cannot be mistaken for a message of
//! the user's, since such a sender refuses to send an empty one; and every other message is sent
//! as it is, so a program in another language can take part.
//!
//! - It is sent with priority 0, so all that the sender has sent before, of any priority, is
//!   received before it.
//! - Several senders: each announces its end; the receiver ends after as many as there are senders.
//! - Several receivers: each sender announces to as many as there are receivers, and each receiver
//!   ends after as many as there are senders. Each has then taken its share of the ends, and the
//!   last one to end does so when all messages are received. Some may end before.
//! - A sender that is killed announces nothing: receivers then wait for ever, or for as long as
//!   [`Queue::recv_timeout`] says.
//! - A receiver that is killed leaves ends in the queue, which the next conversation would meet:
//!   [`Queue::drain`] before it begins.
//!
//! # Security
//!
//! A new queue is [`DEFAULT_MODE`], 0600, exactly. An existing one is taken only if it belongs to
//! this user or to root ([`OpenOptions::allow_foreign_owner`]), and with a warning if others may use it
//! ([`OpenOptions::strict`]). A queue does not say who sent a message: whoever may write to it can
//! send anything, and fill it. Names can be seen by all.
//!
//! # Platform
//!
//! Linux. What is said here of the kernel is from
//! [`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html) and its
//! `ipc/mqueue.c`.

mod attributes;
mod buffer;
mod closing;
mod driver;
mod error;
mod framed;
mod info;
mod limits;
mod link;

pub(crate) mod list;
mod message;
mod messages;
mod name;
mod open;
mod queue;
mod receiver;
mod refusal;
mod scheme;
mod sender;
mod unlink;
mod usage;

pub use attributes::{AttributeMismatch, Attributes};
pub use buffer::{MAX_FREE_BUFFERS, MAX_FREE_BYTES};
pub use driver::{Driver, POOL_START_TIMEOUT, UnknownDriver};
pub use error::Error;
pub use framed::{Framed, WholeMessage};
pub use info::info;
pub(crate) use limits::{HARD_MSG_MAX, HARD_MSGSIZE_MAX};
pub use limits::{Limits, MEASURE_MAX_QUEUES, Room, RoomEnd, Usage, cost, limits, measure_room};
pub use link::NameState;
pub use list::{Entry, MOUNT_POINT, list};
pub use message::{MAX_PRIORITY, Message, Priority};
pub use name::{MAX_NAME, NameProblem, check_name};
pub use open::{DEFAULT_MODE, OpenOptions};
pub use queue::Queue;
pub use receiver::Receiver;
pub(crate) use scheme::{SCHEME, receive_from, send_to};
pub use sender::Sender;
pub use unlink::unlink;

/// The target of this module's events and spans.
const TARGET: &str = "aqueduct::mq";
