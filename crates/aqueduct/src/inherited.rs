//! Inherited file descriptors: claimed once, then opened by address or taken.
//!
//! A parent can pass down descriptors from 3 on: [`child::Command`](crate::child::Command), a shell
//! (`3<file`), a service manager. The system does not tell a program which of its descriptors these
//! are, so the program calls [`claim`] first thing in `main`. From then on each can be used once,
//! by its address `fd:N` or by the functions here. A descriptor from another source, such as a
//! message of a Unix socket, gets an address by [`offer`].
//!
//! No address reaches any other open descriptor of the program: an address is only text, and must
//! not take a descriptor from its owner.
//!
//! The standard streams, 0 to 2, belong to [`std::io`]. `fd:0` and the like share them, any number
//! of times, and [`stdio`](crate::stdio) reads and writes them.
//!
//! # Examples
//!
//! A parent starts itself a second time as a worker and talks to it over descriptors 3 and 4. The
//! worker's side is as short as the parent's:
//!
//! ```
//! use aqueduct::codec::Text;
//! use aqueduct::frame::Framing;
//! use aqueduct::{child, inherited};
//!
//! const JOBS: i32 = 3;
//! const ANSWERS: i32 = 4;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // SAFETY: only inherited descriptors are open without FD_CLOEXEC here.
//!     unsafe { inherited::claim() };
//!     match std::env::args().nth(1).as_deref() {
//!         Some("worker") => worker().await,
//!         _ => parent().await,
//!     }
//! }
//!
//! async fn parent() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut command = child::Command::new(std::env::current_exe()?);
//!     command.arg("worker").pipe_to_child(JOBS).pipe_from_child(ANSWERS);
//!     let mut child = command.spawn()?;
//!     let mut worker = child.channel::<String, String, _>(JOBS, ANSWERS, Framing::length(), Text)?;
//!     worker.send("quietly".into()).await?;
//!     assert_eq!(worker.recv().await.transpose()?.as_deref(), Some("QUIETLY"));
//!     worker.close().await?;
//!     assert!(child.wait().await?.success());
//!     Ok(())
//! }
//!
//! async fn worker() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut parent = inherited::channel::<String, String, _>(ANSWERS, JOBS, Framing::length(), Text)?;
//!     while let Some(job) = parent.recv().await {
//!         parent.send(job?.to_uppercase()).await?;
//!     }
//!     Ok(())
//! }
//! ```

mod ends;
mod found;
mod scheme;

pub use self::ends::{channel, offer, receiver, sender, take};
pub(crate) use self::scheme::SCHEME;
pub use crate::io::sys::claim;
