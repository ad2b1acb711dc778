//! Threads of a simulated process, for a pool whose calls block: those of tokio's `spawn_blocking`, 512 at most.
//!
//! A process has its own, as it would have its own runtime. When its pool is dropped, calls that have not begun never do; those
//! under way go on until they end by themselves, and nobody waits for them: neither the run nor the command.

use std::io;

use tokio::runtime::{Builder, Runtime};

use super::{PoolError, PoolErrorKind};

/// The threads of one process.
pub(super) struct Threads(Option<Runtime>);

impl Threads {
    /// None yet: they are started as they are needed.
    pub(super) fn new() -> io::Result<Threads> {
        // Nothing but blocking calls is given to it: nobody drives it.
        Ok(Threads(Some(Builder::new_current_thread().thread_name("caller").build()?)))
    }

    /// Calls on one of them. Dropped, the call goes on, and what it returns is dropped on its thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let runtime = self.0.as_ref().expect("it is there until the drop");
        let called = runtime.spawn_blocking(call).await;
        called.map_err(|error| PoolError::of(PoolErrorKind::Other, &error))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
