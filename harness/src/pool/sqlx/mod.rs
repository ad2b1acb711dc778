//! sqlx's pool: `sqlx_core::pool::Pool` 0.9 (<https://docs.rs/sqlx/0.9/sqlx/struct.Pool.html>), the real one, over a
//! `database` of ours. sqlx's own driver opens its sockets itself, so that **`PgConnection` is not under test**: a
//! connection is a `tokio_postgres::Client` that is pinged, closed and dropped as `PgConnection` is.
//!
//! | setting | sqlx |
//! | --- | --- |
//! | max_size | `max_connections` |
//! | min_idle | `min_connections`; it counts all connections, not the idle ones. By a task when the pool is built or, with a timeout or lifetime set, when the reaper has closed one: until then a lazy pool has none |
//! | acquire_timeout | `acquire_timeout`, for the whole of an acquire; none is a century, since its sum with a time must not overflow |
//! | idle_timeout, max_lifetime | the same, by a reaper at each such interval; its defaults, 10 and 30 minutes, are off |
//! | test_on_acquire | `test_before_acquire` (a Sync); sqlx's default is on, ours off. A Sync at each return can't be turned off |
//! | reset_on_return | an `after_release` hook that sends ROLLBACK or COMMIT, and DISCARD ALL for discard |
//! | order | always FIFO |
//!
//! The pool is built by `connect_lazy_with`: `connect_with` would dial once, and fail when that fails. sqlx can't change its
//! size. It documents that acquires are fair.

mod database;
mod never;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::LevelFilter;
use sqlx_core::error::Error;
use sqlx_core::pool::{PoolConnection, PoolOptions};
use tokio_postgres::Client;

use self::database::{Options, Session, TokioPostgres};
use super::error::describe;
use super::{
    Adapter, Capabilities, Connector, Detached, DetachedClient, Lease, Pool, PoolError, PoolErrorKind, Status,
};
use crate::scenario::model::{PoolSettings, Reset};

/// The version of sqlx-core in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "0.9.0";

/// `PoolInner::acquire` adds the timeout to the time, which must not overflow.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Builds sqlx pools.
#[derive(Debug, Clone, Copy)]
pub struct Sqlx;

#[async_trait]
impl Adapter for Sqlx {
    fn name(&self) -> &'static str {
        "sqlx"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            min_idle: true,
            acquire_timeout: true,
            idle_timeout: true,
            max_lifetime: true,
            test_on_acquire: true,
            reset_rollback: true,
            reset_commit: true,
            reset_discard: true,
            close: true,
            detach: true,
            invalidate: true,
            fair: true,
            fifo: true,
            ..Capabilities::default()
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "max_connections"),
            ("min_idle", "min_connections, which counts all; with a timeout set it is filled after a reaping only"),
            ("acquire_timeout", "acquire_timeout; never is a century"),
            ("idle_timeout", "idle_timeout, by a reaper at each such interval (sqlx's default is 10 minutes)"),
            ("max_lifetime", "max_lifetime, by a reaper at each such interval (sqlx's default is 30 minutes)"),
            ("test_on_acquire", "test_before_acquire with a Sync (sqlx's default is on); each return sends one, too"),
            ("reset_on_return", "an after_release hook with ROLLBACK or COMMIT, and DISCARD ALL for discard"),
            ("order", "always fifo"),
            ("close, resize, detach", "close, PoolConnection::detach"),
            ("invalidate", "PoolConnection::close"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        Ok(Arc::new(SqlxPool(options(settings).connect_lazy_with(Options(connector)))))
    }
}

fn options(settings: &PoolSettings) -> PoolOptions<TokioPostgres> {
    let options = PoolOptions::new()
        .max_connections(settings.max_size)
        .min_connections(settings.min_idle)
        .acquire_timeout(settings.acquire_timeout.unwrap_or(CENTURY))
        .acquire_slow_level(LevelFilter::Off)
        .idle_timeout(settings.idle_timeout)
        .max_lifetime(settings.max_lifetime)
        .test_before_acquire(settings.test_on_acquire);
    let reset: &'static [&str] = match settings.reset_on_return {
        Reset::None => return options,
        Reset::Rollback => &["ROLLBACK"],
        Reset::Commit => &["COMMIT"],
        // Two statements, since DISCARD ALL refuses to run in one text with others.
        Reset::Discard => &["ROLLBACK", "DISCARD ALL"],
    };
    options.after_release(move |session, _| {
        Box::pin(async move {
            for statement in reset {
                session.execute(statement).await?;
            }
            Ok(true)
        })
    })
}

struct SqlxPool(sqlx_core::pool::Pool<TokioPostgres>);

#[async_trait]
impl Pool for SqlxPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        match self.0.acquire().await {
            Ok(lease) => Ok(Box::new(SqlxLease(lease))),
            Err(error) => Err(PoolError {
                kind: match error {
                    Error::PoolTimedOut => PoolErrorKind::Timeout,
                    Error::PoolClosed => PoolErrorKind::Closed,
                    _ => PoolErrorKind::Connect,
                },
                message: describe(&error),
            }),
        }
    }

    fn status(&self) -> Option<Status> {
        Some(Status {
            size: Some(self.0.size()),
            idle: u32::try_from(self.0.num_idle()).ok(),
            in_use: None,
            waiting: None,
            max_size: Some(self.0.options().get_max_connections()),
        })
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

struct SqlxLease(PoolConnection<TokioPostgres>);

#[async_trait]
impl Lease for SqlxLease {
    fn client(&mut self) -> &Client {
        self.0.client()
    }

    async fn invalidate(self: Box<Self>) {
        // How the connection ended is told to the trace.
        let _ = self.0.close().await;
    }

    fn detach(self: Box<Self>) -> Option<Detached> {
        Some(Box::new(self.0.detach()))
    }
}

impl DetachedClient for Session {
    fn client(&mut self) -> &Client {
        Session::client(self)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::testing::{Door, TestServer, build, settings, settle};

    async fn pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
        build(&Sqlx, server, settings).await
    }

    #[tokio::test(start_paused = true)]
    async fn dials_that_may_soon_succeed_are_retried_until_the_timeout() {
        for door in [Door::Refused, Door::Full] {
            let server = TestServer::new();
            server.set_door(door);
            let pool = pool(&server, &settings()).await;
            let error = pool.acquire().await.err().unwrap();
            assert_eq!(error.kind, PoolErrorKind::Timeout);
            assert!(server.dials() > 1);
            server.set_door(Door::Open);
            assert!(pool.acquire().await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_connection_does_not_come_back() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let lease = pool.acquire().await.unwrap();
        server.kill_all();
        settle().await;
        drop(lease);
        settle().await;
        assert_eq!(pool.status().unwrap().size, Some(0), "the ping at the return failed");
    }

    #[tokio::test(start_paused = true)]
    async fn close_waits_for_leases() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let lease = pool.acquire().await.unwrap();
        let began = tokio::time::Instant::now();
        tokio::join!(pool.close(), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(lease);
        });
        assert_eq!(began.elapsed().as_secs(), 3);
        assert_eq!(server.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn its_counters() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        drop(held.0);
        settle().await;
        let counted = Status { size: Some(2), idle: Some(1), max_size: Some(2), ..Status::default() };
        assert_eq!(pool.status(), Some(counted));
    }
}
