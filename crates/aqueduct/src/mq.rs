//! POSIX message queues.
//!
//! A queue has a name in the system. It holds a bounded number of whole messages of bounded size,
//! and delivers them by priority, then by age. It needs no peer: messages wait in the kernel until
//! they are received or the queue is unlinked, even if their sender has exited.
//!
//! - [`OpenOptions`] opens and creates a [`Queue`], which sends and receives with priorities and
//!   can be shared by any number of tasks.
//! - [`OpenOptions::open_sender`] and [`open_receiver`](OpenOptions::open_receiver) open a queue as
//!   a `Sink` or `Stream` of messages, for [typed](crate::connect::MessageSender::typed) ends or
//!   ends with [priorities](crate::connect::MessageSender::prioritized). A queue is one-way; two
//!   make a channel.
//! - [`list`], [`info`], [`limits`], [`measure_room`] and [`unlink`] manage the system's queues.
//!
//! [`Endpoint`](crate::Endpoint) opens the same queues by an address such as
//! `mq:/jobs?capacity=10&max-message=1KiB`. By address a missing queue is created; [`OpenOptions`]
//! does so only with [`create`](OpenOptions::create).
//!
//! Opening and the `try_` methods need no runtime. Waiting needs a Tokio runtime.
//! [`Driver::AsyncFd`] also needs its I/O driver, without which Tokio panics as in `tokio::net`.
//!
//! # Examples
//!
//! A consumer of messages from any program, in C or otherwise, which runs until it is stopped:
//!
//! ```
//! use aqueduct::codec::Text;
//! use aqueduct::{Endpoint, service};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let jobs: Endpoint = format!("mq:/doc-consumer-{}", std::process::id()).parse()?;
//! # let path = jobs.clone();
//! # let _ = r#"
//! let jobs: Endpoint = "mq:/jobs".parse()?;
//! # "#;
//! let stop = service::shutdown_on_signal()?;
//! # stop.cancel();
//! let jobs = jobs.open_receiver().await?.prioritized::<String>(Text);
//! let mut jobs = jobs.until(stop.cancelled_owned());
//! while let Some(job) = jobs.recv().await.transpose()? {
//!     println!("{} (priority {})", job.item, job.priority);
//! }
//! # path.remove().await?;
//! # Ok(()) }
//! ```
//!
//! # Contract
//!
//! | | promise |
//! |---|---|
//! | order | by priority, highest first; within one priority as sent |
//! | message boundaries | kept; an empty message is a message |
//! | end of stream | none, unless [agreed on](#the-end-of-a-conversation) |
//! | peer dies | its messages stay, and no other process is notified |
//! | full queue | senders wait; `try_send` returns `WouldBlock` |
//! | empty queue | receivers wait; `try_recv` returns `WouldBlock` |
//! | dropping a future | never loses a message, never sends one |
//! | dropping the runtime | takes milliseconds; waits end with an error ([`NoRuntime`]) |
//! | unlinking | the queue works on for processes that have it open; [`watch_name`](OpenOptions::watch_name) notifies those that wait |
//! | killing a process | loses at most one message per receive in progress |
//! | delivery | at most once; to confirm that a message was processed, answer on another queue |
//! | largest message | the queue's `max_message`; larger ones are refused before the system call |
//! | many senders and receivers | any number; each message goes to one receiver |
//! | left behind | the queue and its messages, until it is unlinked |
//!
//! Errors of waiting and of replaced queues are [`OpenError`](crate::OpenError)s inside the
//! [`io::Error`](std::io::Error), which [`OpenError::of`](crate::OpenError::of) finds. A refused
//! message is a [`FrameError`](crate::frame::FrameError) there.
//!
//! [`NoRuntime`]: crate::OpenErrorKind::NoRuntime
//!
//! # Which driver
//!
//! A message that can be sent or received at once needs no driver. Only a full or empty queue does:
//!
//! - [`Driver::Pool`], the default: a thread of Tokio's blocking pool sleeps in `epoll_wait` for
//!   all queues of the runtime. Use it if the runtime has no I/O driver, or if several processes, or
//!   several tasks of one, wait for the same queue: each message wakes one of them.
//! - [`Driver::AsyncFd`]: Tokio's own I/O driver waits. Use it if latency or processor time matter
//!   and few processes share the queue: it avoids the other thread.
//!
//! Before a wait both yield the processor and try again, a few times and for as long as that pays.
//! If messages follow quickly they hardly ever sleep. [`OpenOptions::poll_for`] extends this to a
//! latency mode.
//!
//! `cargo run --release --example mq_drivers` measures it. On 2 CPUs (Intel Xeon virtual machine,
//! Linux 6.18, other work going on), two processes, 64-byte messages, current-thread runtimes;
//! medians of 7 interleaved rounds [lowest-highest]. One way: both sides as fast as they can, on a
//! queue of 10. Round trip: both processes on one CPU.
//!
//! | | one way, messages/s | a CPU for each, messages/s | round trip, µs |
//! |---|---|---|---|
//! | blocking calls | 1,568,255 [990,493-1,655,524] | 156,679 [108,873-165,032] | 2.0 [1.9-2.0] |
//! | `AsyncFd` | 1,243,612 [892,909-1,345,942] | 201,405 [183,648-215,836] | 2.7 [2.7-2.8] |
//! | `Pool` | 1,229,491 [551,400-1,274,790] | 302,521 [270,856-567,885] | 2.8 [2.7-2.9] |
//!
//! # Many processes at one queue
//!
//! If N processes wait for one queue by [`Driver::AsyncFd`], each message wakes all N, and all but
//! one go back to sleep. [`Driver::Pool`] notices this and then waits exclusively (`EPOLLEXCLUSIVE`,
//! [`epoll_ctl(2)`](https://man7.org/linux/man-pages/man2/epoll_ctl.2.html)): each message wakes
//! one. If that process is killed or stopped before it uses the wake-up, the others look for
//! themselves within 50 ms, so none sleeps beside a message or room for longer. While a process
//! waits exclusively, its thread wakes every 25 ms; after a second it waits as if it were alone.
//! Processes that block in `mq_send` and `mq_receive` are served before all that wait here.
//!
//! # The end of a conversation
//!
//! A queue has no end of stream: it does not know that its last sender has gone. If both ends
//! agree, an *empty message* marks the end. For one sender and one receiver
//! [`OpenOptions::end_marker`] does this: closing the sending end sends it, the receiving end ends
//! at it, and other empty messages are refused. Every other message is sent unchanged, so a program
//! in another language can take part.
//!
//! With several senders or receivers, agree on this: when a sender is done, it sends one empty
//! message of priority 0 to each receiver (`queue.send(0, b"")`), and each receiver stops after as
//! many as there are senders. Priority 0 is the lowest, so everything that a sender sent before is
//! received before.
//!
//! - A sender that is killed marks no end: receivers wait indefinitely, or for as long as
//!   [`Queue::recv_timeout`] says.
//! - A receiver that is killed leaves end marks in the queue for the next conversation: call
//!   [`Queue::drain`] before it begins.
//!
//! # Security
//!
//! A new queue has exactly mode 0600. An existing one is used only if it belongs to this user or to
//! root ([`OpenOptions::allow_foreign_owner`]), and with a warning if others may use it
//! ([`OpenOptions::strict`]). A queue does not know who sent a message: any process that may write
//! to it can send anything, and fill it. All users can see the names.
//!
//! # Platform
//!
//! Linux. Statements about the kernel are from
//! [`mq_overview(7)`](https://man7.org/linux/man-pages/man7/mq_overview.7.html) and the kernel's
//! `ipc/mqueue.c`.

mod buffer;
mod driver;
mod ends;
mod error;
mod link;
mod list;
mod mount;
mod name;
mod open;
mod opening;
mod queue;
mod refusal;
mod room;
mod scheme;
mod system_limits;
mod usage;

pub use driver::Driver;
pub use list::{Entry, info, list};
#[cfg(fuzzing)]
pub(crate) use mount::{field, notified};
pub use name::unlink;
pub use open::OpenOptions;
pub use queue::{Attributes, Queue};
pub use room::{limits, measure_room};
pub(crate) use scheme::{SCHEME, receive_from, send_to};
pub use system_limits::{Limits, Room, RoomEnd, Usage, cost};
