//! `Engine`, as far as it has to do with pools: the present one, and those that it has disposed of.
//!
//! A disposed pool and the records in its queue refer to each other. Nobody else does once its last checkout came back, but
//! only Python's garbage collector can find that out: until it runs, connections that were checked out during `dispose()`
//! stay open in a queue from which nobody takes. [`Engine::collect`] is the collector.

use std::sync::Arc;

use parking_lot::Mutex;

use super::base::{Config, Counters, Pool};
use super::error::Error;
use super::events::Listener;
use super::fairy::Fairy;
use super::flaw::Flaw;
use crate::pool::Connector;

/// An engine.
pub struct Engine {
    pool: Mutex<Arc<Pool>>,
    /// Disposed of, and not collected yet.
    former: Mutex<Vec<Arc<Pool>>>,
}

impl Engine {
    /// `create_engine`
    #[must_use]
    pub fn new(config: Config, connector: Connector, listener: Option<Listener>) -> Engine {
        Engine::flawed(config, connector, listener, None)
    }

    /// With a deliberate mistake.
    #[must_use]
    pub fn flawed(config: Config, connector: Connector, listener: Option<Listener>, flaw: Option<Flaw>) -> Engine {
        Engine { pool: Mutex::new(Pool::new(config, connector, listener, flaw)), former: Mutex::default() }
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool.lock())
    }

    /// `pool.connect()`
    ///
    /// # Errors
    /// SQLAlchemy's own, and the driver's.
    pub async fn connect(&self) -> Result<Arc<Fairy>, Error> {
        self.pool().connect().await
    }

    /// What a `Connection` does when a statement failed by a disconnect: the generation is invalidated, in the *present* pool,
    /// and the checkout ends.
    pub fn disconnected(&self, fairy: &Fairy) {
        self.pool().invalidate(fairy.record().as_deref());
        fairy.invalidate_at_once();
    }

    /// `dispose(close=…)`. It waits for statements on what a SingletonThreadPool or a StaticPool has lent.
    pub async fn dispose(&self, close: bool) {
        let former = self.pool();
        if close {
            former.dispose().await;
        }
        *self.pool.lock() = former.recreate();
        self.former.lock().push(former);
    }

    /// Python's garbage collector runs: disposed pools that no checkout holds any more are gone, and their connections with
    /// them. No event tells of it.
    pub fn collect(&self) {
        let garbage: Vec<Arc<Pool>> = {
            let mut former = self.former.lock();
            former.extract_if(.., |pool| Arc::strong_count(pool) == 1).collect()
        };
        drop(garbage);
    }

    /// How many wait in a QueuePool's queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.pool().waiting()
    }

    /// A QueuePool's counters; the others have none.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.pool().counters()
    }
}
