//! The runtime's tasks that are the world's own, counted, so that a pool's can be told from them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinHandle;

use crate::worker::progress::our_task;

/// Spawns tasks and counts those that are alive.
#[derive(Clone, Default)]
pub struct Tasks {
    alive: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tasks {
    /// As `tokio::spawn`.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.alive.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.alive));
        tokio::spawn(async move {
            let _counted = counted;
            our_task(future).await
        })
    }

    /// How many are alive.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}
