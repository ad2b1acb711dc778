//! SQLAlchemy's pools under their names here: `queuepool`, `nullpool`, `singletonthreadpool`, `staticpool`.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Client;

use super::base::{Config, PoolClass, ResetOnReturn};
use super::engine::Engine;
use super::fairy::Fairy;
use crate::pool::python::psycopg2::{Dbapi, is_disconnect};
use crate::pool::{
    Adapter, Capabilities, Connector, Detached, DetachedClient, Lease, Pool, PoolError, PoolErrorKind, Status,
};
use crate::scenario::model::{Order, PoolSettings, Reset};

/// The version of SQLAlchemy that is modelled: that of the records in `harness/tests/truth/`.
pub const VERSION: &str = "2.0.58";

/// Builds engines with a pool of this class.
#[derive(Debug, Clone, Copy)]
pub struct SqlAlchemy(pub PoolClass);

const NEVER_WAITS: &str = "not possible: a checkout never waits for another";
const NO_REAPER: &str = "not possible: nothing closes an idle connection but dispose";
const RECYCLE: (&str, &str) = ("max_lifetime", "recycle: replaced at a checkout, never before");
const PRE_PING: (&str, &str) = ("test_on_acquire", "pre_ping");
const RESET: (&str, &str) =
    ("reset_on_return", "reset_on_return, waited for by whoever returns; discard is not possible");
const METHODS: (&str, &str) = ("dispose, detach, invalidate", "Engine.dispose, and the fairy's detach and invalidate");

const QUEUE_POOL: &[(&str, &str)] = &[
    ("max_size", "pool_size + max_overflow; \"unlimited\" is max_overflow = -1, or pool_size = 0 where all are kept"),
    ("max_idle", "pool_size (default max_size, so that max_overflow is 0); 0 is not possible"),
    ("min_idle", "not possible: it dials in a checkout only"),
    ("acquire_timeout", "timeout: for the wait in the queue alone, not for a connect or a ping"),
    ("idle_timeout", NO_REAPER),
    RECYCLE,
    PRE_PING,
    RESET,
    ("order", "use_lifo (default fifo)"),
    ("close, resize", "not possible"),
    METHODS,
];

const NULL_POOL: &[(&str, &str)] = &[
    ("max_size", "not possible: a connection for each checkout"),
    ("acquire_timeout", NEVER_WAITS),
    ("test_on_acquire", "pre_ping, which spares fresh connections: all of them"),
    RESET,
    METHODS,
];

const SINGLETON_THREAD_POOL: &[(&str, &str)] = &[
    ("max_size", "pool_size: with more threads, connections are closed, those in use too"),
    ("acquire_timeout", NEVER_WAITS),
    ("idle_timeout", NO_REAPER),
    RECYCLE,
    PRE_PING,
    RESET,
    METHODS,
];

const STATIC_POOL: &[(&str, &str)] = &[
    ("max_size", "not possible: one connection, lent to all who ask"),
    ("acquire_timeout", NEVER_WAITS),
    ("idle_timeout", NO_REAPER),
    RECYCLE,
    PRE_PING,
    RESET,
    METHODS,
];

impl SqlAlchemy {
    /// The settings under SQLAlchemy's names.
    fn config(self, settings: &PoolSettings) -> Result<Config, PoolError> {
        let refused = |message: &str| PoolError { kind: PoolErrorKind::Other, message: message.to_owned() };
        let unlimited = settings.max_size == PoolSettings::UNLIMITED;
        let (pool_size, max_overflow) = match (self.0, settings.max_idle) {
            (PoolClass::Queue, Some(0)) => {
                return Err(refused(
                    "max_idle = 0 is not possible: SQLAlchemy's pool_size = 0 keeps all; see nullpool",
                ));
            }
            (PoolClass::Queue, Some(kept)) if unlimited => (kept, None),
            (PoolClass::Queue, None) if unlimited => (0, None),
            (PoolClass::Queue, kept) => {
                let kept = kept.unwrap_or(settings.max_size);
                (kept, Some(settings.max_size.saturating_sub(kept)))
            }
            _ => (settings.max_size, Some(0)),
        };
        Ok(Config {
            class: self.0,
            pool_size,
            max_overflow,
            timeout: settings.acquire_timeout,
            recycle: settings.max_lifetime,
            pre_ping: settings.test_on_acquire,
            use_lifo: settings.order == Some(Order::Lifo),
            reset_on_return: match settings.reset_on_return {
                Reset::None => ResetOnReturn::None,
                Reset::Rollback => ResetOnReturn::Rollback,
                Reset::Commit => ResetOnReturn::Commit,
                Reset::Discard => return Err(refused("reset_on_return = \"discard\" is not possible")),
            },
        })
    }
}

#[async_trait]
impl Adapter for SqlAlchemy {
    fn name(&self) -> &'static str {
        match self.0 {
            PoolClass::Queue => "queuepool",
            PoolClass::Null => "nullpool",
            PoolClass::SingletonThread => "singletonthreadpool",
            PoolClass::Static => "staticpool",
        }
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn models(&self) -> Option<&'static str> {
        Some("SQLAlchemy (PyPI) with psycopg2")
    }

    fn capabilities(&self) -> Capabilities {
        let all = Capabilities {
            test_on_acquire: true,
            reset_rollback: true,
            reset_commit: true,
            dispose: true,
            detach: true,
            invalidate: true,
            unaware: true,
            ..Capabilities::default()
        };
        match self.0 {
            PoolClass::Queue => Capabilities {
                max_size: true,
                unlimited: true,
                max_idle: true,
                acquire_timeout: true,
                fifo: true,
                lifo: true,
                ..all
            },
            PoolClass::Null => Capabilities { unlimited: true, unpooled: true, ..all },
            PoolClass::SingletonThread => all,
            PoolClass::Static => Capabilities { shared: true, ..all },
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        match self.0 {
            PoolClass::Queue => QUEUE_POOL,
            PoolClass::Null => NULL_POOL,
            PoolClass::SingletonThread => SINGLETON_THREAD_POOL,
            PoolClass::Static => STATIC_POOL,
        }
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let engine = Engine::new(self.config(settings)?, connector, None);
        Ok(Arc::new(EnginePool(Arc::new(engine))))
    }
}

struct EnginePool(Arc<Engine>);

#[async_trait]
impl Pool for EnginePool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        let fairy = self.0.connect().await?;
        let connection = fairy.connection();
        Ok(Box::new(Checkout { connection, fairy, engine: Arc::clone(&self.0) }))
    }

    /// A QueuePool counts what is checked in and out; what is not open it counts, too. The others count nothing.
    fn status(&self) -> Option<Status> {
        let counters = self.0.counters()?;
        let count = |n: i64| u32::try_from(n).ok();
        Some(Status { idle: count(counters.checked_in), in_use: count(counters.checked_out), ..Status::default() })
    }

    async fn dispose(&self) {
        self.0.dispose(true).await;
    }

    fn collect(&self) {
        self.0.collect();
    }
}

struct Checkout {
    /// The connection of this checkout, kept though it may be invalidated meanwhile: whoever uses it then gets errors.
    /// Dropped before the fairy is: a pool that closes it should be the last to have it.
    connection: Option<Arc<Dbapi>>,
    fairy: Arc<Fairy>,
    engine: Arc<Engine>,
}

#[async_trait]
impl Lease for Checkout {
    fn client(&mut self) -> &Client {
        let connection = self.connection.as_ref().expect("a checkout has its connection until it ends");
        connection.client(self.fairy.id().user())
    }

    async fn give_back(mut self: Box<Self>) {
        self.connection = None;
        self.fairy.close().await;
    }

    fn failed(&mut self, error: &tokio_postgres::Error) {
        if is_disconnect(error) {
            self.engine.disconnected(&self.fairy);
        }
    }

    async fn invalidate(mut self: Box<Self>) {
        self.connection = None;
        self.fairy.invalidate().await;
    }

    fn detach(self: Box<Self>) -> Option<Detached> {
        self.fairy.detach();
        Some(Box::new(TakenOut { connection: self.connection.clone(), fairy: Arc::clone(&self.fairy) }))
    }
}

/// A detached fairy. Dropped, it is closed.
struct TakenOut {
    connection: Option<Arc<Dbapi>>,
    fairy: Arc<Fairy>,
}

impl DetachedClient for TakenOut {
    fn client(&mut self) -> &Client {
        let connection = self.connection.as_ref().expect("it has its connection until it ends");
        connection.client(self.fairy.id().user())
    }
}

impl Drop for TakenOut {
    fn drop(&mut self) {
        self.connection = None;
        self.fairy.close_in_background();
    }
}
