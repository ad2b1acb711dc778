//! fast_pool 1.0 (<https://docs.rs/fast_pool/1.0>) over the connector. It has no manager for tokio-postgres.
//!
//! | setting | fast_pool |
//! | --- | --- |
//! | max_size | `set_max_open` |
//! | max_idle | `set_max_idle_conns`, otherwise as `max_open`, as its documentation says of the default |
//! | min_idle | can't: it dials in a get only |
//! | acquire_timeout | `set_timeout_wait`, for the whole of a get; none is the longest there is, since its own `None` means no time at all |
//! | idle_timeout | can't |
//! | max_lifetime | `DurationManager` with `CheckMode::MaxLifetime`, looked at in a get only |
//! | test_on_acquire | `Manager::check`, which is called before each hand-out in any case: an empty simple query; otherwise it asks the driver only whether the connection is closed |
//! | order | always FIFO |
//!
//! A check is given up after `timeout_check`, which is left at its default of 10 s. It can't reset a returned connection, be
//! closed or give a connection away. `resize` is `set_max_open`. It promises no order among waiters. `State::waits` counts
//! every get under way, and is reported as `waiting`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fast_pool::plugin::{CheckMode, DurationManager};
use tokio_postgres::Client;

use super::error::describe;
use super::{Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, Status};
use crate::scenario::model::PoolSettings;

/// The version in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "1.0.4";

/// Builds fast_pool pools.
#[derive(Debug, Clone, Copy)]
pub struct FastPool;

#[async_trait]
impl Adapter for FastPool {
    fn name(&self) -> &'static str {
        "fast_pool"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            max_idle: true,
            acquire_timeout: true,
            test_on_acquire: true,
            resize: true,
            fifo: true,
            ..Capabilities::default()
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "set_max_open"),
            ("max_idle", "set_max_idle_conns, otherwise as max_open; a resize lowers it, and never raises it"),
            ("min_idle", "not possible: it dials in a get only"),
            ("acquire_timeout", "set_timeout_wait; never is the longest there is (None means no time at all)"),
            ("idle_timeout", "not possible"),
            ("max_lifetime", "DurationManager, looked at in a get only"),
            ("test_on_acquire", "Manager::check with an empty query; otherwise it asks is_closed"),
            ("reset_on_return", "not possible: fast_pool has no hook at return"),
            ("order", "always fifo"),
            ("close, resize, detach", "resize: set_max_open"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let mode = settings.max_lifetime.map_or(CheckMode::NoLimit, CheckMode::MaxLifetime);
        let manager = Manager { connector, test_on_acquire: settings.test_on_acquire };
        let pool = fast_pool::Pool::new(DurationManager::new(manager, mode));
        pool.set_max_open(u64::from(settings.max_size));
        pool.set_max_idle_conns(u64::from(settings.max_idle.unwrap_or(settings.max_size)));
        pool.set_timeout_wait(Some(settings.acquire_timeout.unwrap_or(Duration::MAX)));
        Ok(Arc::new(FastPoolPool(pool)))
    }
}

struct Manager {
    connector: Connector,
    test_on_acquire: bool,
}

impl fast_pool::Manager for Manager {
    type Connection = Client;
    type Error = Failure;

    async fn connect(&self) -> Result<Client, Failure> {
        match self.connector.connect().await {
            Ok(connection) => Ok(connection.client),
            Err(error) => Err(Failure { kind: PoolErrorKind::Connect, message: describe(&error) }),
        }
    }

    async fn check(&self, client: &mut Client) -> Result<(), Failure> {
        let failed = |message| Failure { kind: PoolErrorKind::Check, message };
        if client.is_closed() {
            return Err(failed("connection closed".to_owned()));
        }
        if self.test_on_acquire {
            client.simple_query("").await.map_err(|error| failed(describe(&error)))?;
        }
        Ok(())
    }
}

/// The error of a manager, and of the pool itself, which speaks in texts.
struct Failure {
    kind: PoolErrorKind,
    message: String,
}

impl From<&str> for Failure {
    /// `Pool::get_timeout` (pool.rs) has these two texts, and that of a closed channel.
    fn from(text: &str) -> Failure {
        let kind = match text {
            "get_timeout" => PoolErrorKind::Timeout,
            text if text.starts_with("check_timeout") => PoolErrorKind::Check,
            _ => PoolErrorKind::Other,
        };
        Failure { kind, message: text.to_owned() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

struct FastPoolPool(fast_pool::Pool<DurationManager<Manager>>);

#[async_trait]
impl Pool for FastPoolPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        match self.0.get().await {
            Ok(guard) => Ok(Box::new(FastPoolLease(guard))),
            Err(Failure { kind, message }) => Err(PoolError { kind, message }),
        }
    }

    fn status(&self) -> Option<Status> {
        let state = self.0.state();
        let count = |n: u64| Some(u32::try_from(n).unwrap_or(u32::MAX));
        Some(Status {
            size: count(state.connections),
            idle: count(state.idle),
            in_use: count(state.in_use),
            waiting: count(state.waits),
            max_size: count(state.max_open),
        })
    }

    fn resize(&self, max_size: u32) {
        self.0.set_max_open(u64::from(max_size));
    }
}

struct FastPoolLease(fast_pool::ConnectionGuard<DurationManager<Manager>>);

impl Lease for FastPoolLease {
    fn client(&mut self) -> &Client {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::pool::testing::{Door, TestServer, build, settings, settle};

    async fn pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
        build(&FastPool, server, settings).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_dial_is_passed_on() {
        let server = TestServer::new();
        server.set_door(Door::Refused);
        let pool = pool(&server, &settings()).await;
        let error = pool.acquire().await.err().unwrap();
        let message = "error communicating with the server: connection refused".to_owned();
        assert_eq!(error, PoolError { kind: PoolErrorKind::Connect, message });
        assert_eq!(server.dials(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn its_counters() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        drop(held.0);
        settle().await;
        let counted = Status { size: Some(2), idle: Some(1), in_use: Some(1), waiting: Some(0), max_size: Some(2) };
        assert_eq!(pool.status(), Some(counted));
        pool.resize(5);
        assert_eq!(pool.status().unwrap().max_size, Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_larger_than_its_default() {
        let server = TestServer::new();
        let pool = pool(&server, &PoolSettings { max_size: 40, ..settings() }).await;
        let acquires = futures_util::future::join_all((0..40).map(|_| pool.acquire())).await;
        drop(acquires);
        settle().await;
        assert_eq!((server.count(), pool.status().unwrap().idle), (40, Some(40)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_driver_knows_to_be_closed_is_dropped_before_the_hand_out() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        drop(pool.acquire().await.unwrap());
        server.kill_all();
        settle().await;
        assert!(!pool.acquire().await.unwrap().client().is_closed());
        assert!(server.statements().is_empty());
    }
}
