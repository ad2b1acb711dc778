//! Trac's pools under their names here: `tracpool` and `tracpool2006`.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Client;

use super::connection_pool::{Config, ConnectionPool, PooledConnection};
use crate::pool::{Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, Status};
use crate::scenario::model::{PoolSettings, Reset};

/// The version of Trac that is modelled as today's: that of the records in `harness/tests/truth/`, which PyPI calls 1.6.
pub const VERSION: &str = "1.6.0";

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
            Trac::Today => VERSION,
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
        let config = Config {
            max_size: settings.max_size,
            timeout: settings.acquire_timeout,
            implicit_begin: false,
            listener: None,
            flaw: None,
        };
        Ok(Arc::new(ConnectionPool::new(*self, config, connector)))
    }
}

#[async_trait]
impl Pool for ConnectionPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        Ok(Box::new(self.get_cnx().await?))
    }

    fn holds_plain_lock(&self) -> bool {
        ConnectionPool::holds_plain_lock(self)
    }

    fn status(&self) -> Option<Status> {
        Some(ConnectionPool::status(self))
    }
}

#[async_trait]
impl Lease for PooledConnection {
    fn client(&mut self) -> &Client {
        PooledConnection::client(self)
    }

    fn failed(&mut self, error: &tokio_postgres::Error) {
        self.heard(error);
    }

    async fn give_back(mut self: Box<Self>) {
        // What comes out of `close()` nobody here can do anything about.
        let _raised = self.close().await;
    }
}
