//! Trac's pools under their names here: `tracpool` and `tracpool2006`.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Client;

use super::of_2006::OldPool;
use super::today::Backend;
use crate::pool::python::psycopg2::Dbapi;
use crate::pool::{Adapter, Caller, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, Status, caller};
use crate::scenario::model::{PoolSettings, Reset};

/// Builds Trac's pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trac {
    /// Of Trac 1.6.
    Today,
    /// Of Trac's trunk in March 2006.
    Of2006,
}

const MAX_SIZE: (&str, &str) = ("max_size", "maxsize");
const PER_THREAD: (&str, &str) = ("(not a setting)", "a thread that has a connection gets the same one again");
const RESET: (&str, &str) = ("reset_on_return", "rollback, always: others are not possible");
const NO_REAPER: (&str, &str) = ("idle_timeout, max_lifetime", "not possible");

#[async_trait]
impl Adapter for Trac {
    fn name(&self) -> &'static str {
        match self {
            Trac::Today => "tracpool",
            Trac::Of2006 => "tracpool2006",
        }
    }

    fn version(&self) -> &'static str {
        match self {
            Trac::Today => "1.6.0",
            Trac::Of2006 => "0.10.0-dev",
        }
    }

    fn models(&self) -> Option<&'static str> {
        match self {
            Trac::Today => Some("trac.db.pool of Trac (PyPI) with psycopg2"),
            Trac::Of2006 => Some("trac.db.pool of Trac's trunk on 2006-03-29 with psycopg2"),
        }
    }

    fn capabilities(&self) -> Capabilities {
        let all = Capabilities {
            max_size: true,
            reset_rollback: true,
            unaware: true,
            per_thread: true,
            ..Capabilities::default()
        };
        match self {
            Trac::Today => Capabilities { test_on_acquire: true, fifo: true, ..all },
            Trac::Of2006 => Capabilities { acquire_timeout: true, lifo: true, ..all },
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Trac::Today => &[
                MAX_SIZE,
                PER_THREAD,
                ("acquire_timeout", "not possible: get_cnx does not use its timeout"),
                ("test_on_acquire", "always, with SELECT 1"),
                RESET,
                ("order", "fifo, always"),
                NO_REAPER,
            ],
            Trac::Of2006 => &[
                MAX_SIZE,
                PER_THREAD,
                ("acquire_timeout", "get_cnx(timeout), for the waits alone; Trac itself gave none"),
                ("test_on_acquire", "not possible"),
                RESET,
                ("order", "lifo, always"),
                NO_REAPER,
            ],
        }
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        if matches!(settings.reset_on_return, Reset::Commit | Reset::Discard) {
            let message = "reset_on_return can only be rollback".to_owned();
            return Err(PoolError { kind: PoolErrorKind::Other, message });
        }
        Ok(Arc::new(match self {
            Trac::Today => TracPool::Today(Backend::new(connector, settings.max_size)),
            Trac::Of2006 => TracPool::Of2006(OldPool::new(connector, settings.max_size, settings.acquire_timeout)),
        }))
    }
}

#[derive(Clone)]
enum TracPool {
    Today(Arc<Backend>),
    Of2006(Arc<OldPool>),
}

#[async_trait]
impl Pool for TracPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        let connection = match self {
            TracPool::Today(pool) => pool.get_cnx().await?,
            TracPool::Of2006(pool) => pool.get_cnx().await?,
        };
        Ok(Box::new(PooledConnection { pool: self.clone(), connection: Some(connection), thread: caller() }))
    }

    fn holds_plain_lock(&self) -> bool {
        matches!(self, TracPool::Of2006(_))
    }

    fn status(&self) -> Option<Status> {
        Some(match self {
            TracPool::Today(pool) => pool.status(),
            TracPool::Of2006(pool) => pool.status(),
        })
    }
}

impl TracPool {
    /// `close()` of a PooledConnection.
    async fn give_back(self, connection: Arc<Dbapi>, thread: Caller) {
        match self {
            TracPool::Today(pool) => {
                if let Some(connection) = pool.begin_return(thread) {
                    let rollback = connection.end_transaction("ROLLBACK").await;
                    pool.finish_return(connection, rollback);
                }
            }
            TracPool::Of2006(pool) => pool.return_cnx(thread, &connection).await,
        }
    }
}

/// `PooledConnection`
struct PooledConnection {
    pool: TracPool,
    connection: Option<Arc<Dbapi>>,
    /// `_tid`: who took it.
    thread: Caller,
}

impl PooledConnection {
    /// The return, for whoever does it now.
    fn returning(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let connection = self.connection.take()?;
        let thread = match self.pool {
            TracPool::Today(_) => self.thread,
            TracPool::Of2006(_) => caller(),
        };
        Some(self.pool.clone().give_back(connection, thread))
    }
}

#[async_trait]
impl Lease for PooledConnection {
    fn client(&mut self) -> &Client {
        self.connection.as_ref().expect("it has its connection until it is closed").client()
    }

    async fn give_back(mut self: Box<Self>) {
        if let Some(returning) = self.returning() {
            // A task of its own, which nobody can cancel; that it ends is all there is to know.
            let _ended = tokio::spawn(returning).await;
        }
    }
}

impl Drop for PooledConnection {
    /// `__del__`
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Some(returning) = self.returning()
        {
            runtime.spawn(returning);
        }
    }
}
