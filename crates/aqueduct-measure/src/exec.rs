//! The executors of cases: none, or one of Tokio's two runtimes.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::case::Runtime;

/// How many threads the multi-thread runtime has: as many as the machines that this is for have
/// processors, for each side.
pub const WORKERS: usize = 2;

/// Runs futures, the same way on both sides.
#[derive(Debug)]
pub enum Exec {
    /// For blocking system calls: what is run never waits.
    Blocking,
    /// Tokio's current-thread runtime.
    Current(tokio::runtime::Runtime),
    /// Tokio's multi-thread runtime, in a spawned task, which is how servers run.
    Multi(tokio::runtime::Runtime),
}

impl Exec {
    /// # Errors
    ///
    /// The system refuses a thread or a descriptor.
    pub fn new(runtime: Runtime) -> anyhow::Result<Self> {
        Ok(match runtime {
            Runtime::Blocking => Self::Blocking,
            Runtime::CurrentThread => Self::Current(
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?,
            ),
            Runtime::MultiThread => Self::Multi(
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(WORKERS)
                    .enable_all()
                    .build()?,
            ),
        })
    }

    /// Runs a future to its end.
    ///
    /// # Errors
    ///
    /// Its own.
    pub fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        let output = Arc::new(Mutex::new(None));
        let slot = output.clone();
        self.drive(Box::pin(async move {
            let result = future.await;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }))?;
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output.take().context("it has run to its end")?
    }

    /// Of one type for all futures: Tokio's share of the code would be there for each case otherwise,
    /// megabytes in all.
    fn drive(&self, future: BoxFuture<'static, ()>) -> anyhow::Result<()> {
        match self {
            Self::Blocking => future.now_or_never().context("a blocking case waited")?,
            Self::Current(runtime) => runtime.block_on(future),
            Self::Multi(runtime) => runtime.block_on(runtime.spawn(future))?,
        }
        Ok(())
    }
}
