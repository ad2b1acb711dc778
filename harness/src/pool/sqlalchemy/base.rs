//! `Pool`, what all of SQLAlchemy's pools share: settings, listeners, and the time before which every connection is invalid.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::Error;
use super::events::{Events, Listener};
use super::fairy::Fairy;
use super::flaw::Flaw;
use super::queue_pool::QueuePool;
use super::record::Record;
use super::singleton_thread_pool::SingletonThreadPool;
use super::static_pool::StaticPool;
use crate::pool::Connector;

/// Which pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolClass {
    /// A queue of connections, and some beyond it.
    Queue,
    /// A connection for each checkout.
    Null,
    /// A connection for each thread.
    SingletonThread,
    /// One connection for all.
    Static,
}

impl PoolClass {
    /// SQLAlchemy's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PoolClass::Queue => "QueuePool",
            PoolClass::Null => "NullPool",
            PoolClass::SingletonThread => "SingletonThreadPool",
            PoolClass::Static => "StaticPool",
        }
    }
}

impl fmt::Display for PoolClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `reset_on_return`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetOnReturn {
    /// `"rollback"`, the default.
    Rollback,
    /// `"commit"`
    Commit,
    /// `None`
    None,
}

impl ResetOnReturn {
    pub(super) fn statement(self) -> Option<&'static str> {
        match self {
            ResetOnReturn::Rollback => Some("ROLLBACK"),
            ResetOnReturn::Commit => Some("COMMIT"),
            ResetOnReturn::None => None,
        }
    }
}

/// A pool's settings, under SQLAlchemy's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The pool's class.
    pub class: PoolClass,
    /// `pool_size`: connections that are kept; 0 is without a bound. Of a SingletonThreadPool, threads.
    pub pool_size: u32,
    /// `max_overflow`: connections beyond `pool_size`; `None` is -1, without a bound.
    pub max_overflow: Option<u32>,
    /// `timeout`: how long a checkout waits; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// `recycle`: an older connection is replaced at its checkout; `None` is -1, never.
    pub recycle: Option<Duration>,
    /// `pre_ping`
    pub pre_ping: bool,
    /// `use_lifo`
    pub use_lifo: bool,
    /// `reset_on_return`
    pub reset_on_return: ResetOnReturn,
}

impl Default for Config {
    /// SQLAlchemy's defaults.
    fn default() -> Self {
        Config {
            class: PoolClass::Queue,
            pool_size: 5,
            max_overflow: Some(10),
            timeout: Some(Duration::from_secs(30)),
            recycle: None,
            pre_ping: false,
            use_lifo: false,
            reset_on_return: ResetOnReturn::Rollback,
        }
    }
}

/// A QueuePool's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// `size()`
    pub size: i64,
    /// `checkedin()`: records in the queue, those without a connection included.
    pub checked_in: i64,
    /// `checkedout()`: what the overflow counter and the queue make of it.
    pub checked_out: i64,
    /// `overflow()`: from minus `pool_size` up.
    pub overflow: i64,
}

/// A pool.
pub(super) struct Pool {
    pub(super) config: Config,
    pub(super) connector: Connector,
    pub(super) events: Events,
    flaw: Option<Flaw>,
    /// `_invalidate_time`
    invalidate_time: Mutex<Option<Instant>>,
    kind: Kind,
    /// What is checked out, for [`Flaw::DisposeClosesCheckedOut`] alone.
    lent: Mutex<Vec<Weak<Record>>>,
}

enum Kind {
    Queue(QueuePool),
    Null,
    SingletonThread(SingletonThreadPool),
    Static(StaticPool),
}

impl Pool {
    pub(super) fn new(
        config: Config,
        connector: Connector,
        listener: Option<Listener>,
        flaw: Option<Flaw>,
    ) -> Arc<Pool> {
        Pool::with_events(config, connector, Events::new(listener), flaw)
    }

    fn with_events(config: Config, connector: Connector, events: Events, flaw: Option<Flaw>) -> Arc<Pool> {
        let kind = match config.class {
            PoolClass::Queue => Kind::Queue(QueuePool::new(&config, flaw)),
            PoolClass::Null => Kind::Null,
            PoolClass::SingletonThread => Kind::SingletonThread(SingletonThreadPool::new(config.pool_size)),
            PoolClass::Static => Kind::Static(StaticPool::default()),
        };
        let (invalidate_time, lent) = (Mutex::new(None), Mutex::default());
        Arc::new(Pool { config, connector, events, flaw, invalidate_time, kind, lent })
    }

    /// `recreate`: a new one with the same settings and listeners.
    pub(super) fn recreate(&self) -> Arc<Pool> {
        Pool::with_events(self.config.clone(), self.connector.clone(), self.events.successor(), self.flaw)
    }

    /// Whether it has this deliberate mistake.
    pub(super) fn flawed(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// `connect`
    pub(super) async fn connect(self: &Arc<Self>) -> Result<Arc<Fairy>, Error> {
        let threads = match &self.kind {
            Kind::SingletonThread(threads) => Some(threads),
            Kind::Queue(_) | Kind::Null | Kind::Static(_) => None,
        };
        let existing = threads.and_then(SingletonThreadPool::fairy);
        let fairy = match existing {
            Some(fairy) => fairy,
            None => {
                let fairy = Record::checkout(self).await?;
                if let Some(threads) = threads {
                    threads.set_fairy(&fairy);
                }
                fairy
            }
        };
        fairy.check_out().await?;
        Ok(fairy)
    }

    /// `_do_get`
    pub(super) async fn do_get(self: &Arc<Self>) -> Result<Arc<Record>, Error> {
        let record = match &self.kind {
            Kind::Queue(pool) => pool.do_get(self).await,
            Kind::Null => Record::create(self).await,
            Kind::SingletonThread(pool) => pool.do_get(self).await,
            Kind::Static(pool) => pool.do_get(self).await,
        }?;
        if self.flawed(Flaw::DisposeClosesCheckedOut) {
            self.lent.lock().push(Arc::downgrade(&record));
        }
        Ok(record)
    }

    /// `_do_return_conn`
    pub(super) fn do_return_conn(&self, record: &Arc<Record>) {
        match &self.kind {
            Kind::Queue(pool) => {
                if self.flawed(Flaw::RecycleAtCheckin) && record.too_old(self) {
                    record.close();
                }
                pool.do_return_conn(record);
            }
            Kind::Null => record.close(),
            Kind::SingletonThread(pool) => pool.do_return_conn(),
            Kind::Static(_) => {}
        }
    }

    /// `dispose`
    pub(super) async fn dispose(&self) {
        let lent = std::mem::take(&mut *self.lent.lock());
        for record in lent.iter().filter_map(Weak::upgrade) {
            record.close();
        }
        match &self.kind {
            Kind::Queue(pool) => pool.dispose(),
            Kind::Null => {}
            Kind::SingletonThread(pool) => pool.dispose().await,
            Kind::Static(pool) => pool.dispose().await,
        }
    }

    /// `_invalidate`, of the generation: whatever was connected before now is replaced at its next checkout, unless that was
    /// said already since this record was connected.
    pub(super) fn invalidate(&self, record: Option<&Record>) {
        if self.flawed(Flaw::NoSoftInvalidation) {
            return;
        }
        let mut time = self.invalidate_time.lock();
        if record.is_none_or(|record| *time < record.start_time()) {
            *time = Some(Instant::now());
        }
    }

    pub(super) fn invalidate_time(&self) -> Option<Instant> {
        *self.invalidate_time.lock()
    }

    /// How many wait in a QueuePool's queue.
    pub(super) fn waiting(&self) -> usize {
        match &self.kind {
            Kind::Queue(pool) => pool.waiting(),
            Kind::Null | Kind::SingletonThread(_) | Kind::Static(_) => 0,
        }
    }

    /// A QueuePool's counters; the others have none.
    pub(super) fn counters(&self) -> Option<Counters> {
        match &self.kind {
            Kind::Queue(pool) => Some(pool.counters()),
            Kind::Null | Kind::SingletonThread(_) | Kind::Static(_) => None,
        }
    }
}
