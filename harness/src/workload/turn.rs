//! A process whose driver is not cooperative: one thread, and while one actor's statement waits for the server, no other
//! actor of the process runs.
//!
//! psycopg2 is C code that gevent can't patch: without a wait callback (psycogreen) its `execute` blocks the thread, and all
//! greenlets with it. Waiting for a pool's queue and sleeping are Python's, patched, and block nobody. Left out: the time
//! that a dial blocks, and tasks of the pool itself.

use tokio::sync::{Mutex, MutexGuard};

use crate::trace::event::ActorId;
use crate::trace::{Recorder, What};

/// The only thread of a process.
#[derive(Default)]
pub(super) struct Turn {
    thread: Mutex<()>,
}

impl Turn {
    /// Waits until the actor can run; it has the thread until what this returns is dropped.
    pub(super) async fn of(&self, actor: ActorId, recorder: &Recorder) -> MutexGuard<'_, ()> {
        match self.thread.try_lock() {
            Ok(guard) => guard,
            Err(_) => {
                recorder.record(What::ThreadBlocked { actor });
                let guard = self.thread.lock().await;
                recorder.record(What::ThreadFree { actor });
                guard
            }
        }
    }
}
