//! deadpool-postgres 0.14 (<https://docs.rs/deadpool-postgres/0.14>), its own manager over the connector.
//!
//! | setting | deadpool |
//! | --- | --- |
//! | max_size | `max_size` |
//! | min_idle | can't: it dials in an acquire only |
//! | acquire_timeout | `timeouts.wait`, `.create` and `.recycle` alike; see below |
//! | idle_timeout, max_lifetime | can't: it has no reaper (an application may call `retain` itself) |
//! | test_on_acquire | `RecyclingMethod::Verified` (an empty simple query before each hand-out but the first); otherwise `Fast`, its default |
//! | reset_on_return = rollback | `RecyclingMethod::Custom("ROLLBACK")`, at the next hand-out, not at the return: until then the transaction stays open; `commit` likewise |
//! | reset_on_return = discard | `RecyclingMethod::Clean`, at the next hand-out. It ends no open transaction, and leaves prepared statements |
//! | order | `queue_mode`; the default is FIFO |
//!
//! deadpool has no timeout for the whole of an acquire, but one for each of its phases: waiting for a slot, checking an
//! idle connection (once for each that fails), dialling. All are set to `acquire_timeout`, so an acquire may take
//! longer than it, by as much for each phase.
//!
//! A dropped client's task is aborted: the server sees a FIN without Terminate. Its semaphore serves waiters in order,
//! but its documentation doesn't say so. `status().available` is reported as `idle`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::{
    ClientWrapper, Connect, Manager, ManagerConfig, Object, PoolConfig, QueueMode, RecyclingMethod, Runtime, Timeouts,
};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::error::describe;
use super::{
    Adapter, Capabilities, Connector, Detached, DetachedClient, Lease, Pool, PoolError, PoolErrorKind, Status,
};
use crate::scenario::model::{Order, PoolSettings, Reset};

/// The version in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "0.14.2";

/// Builds deadpool-postgres pools.
#[derive(Debug, Clone, Copy)]
pub struct Deadpool;

#[async_trait]
impl Adapter for Deadpool {
    fn name(&self) -> &'static str {
        "deadpool"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            min_idle: false,
            acquire_timeout: true,
            idle_timeout: false,
            max_lifetime: false,
            test_on_acquire: true,
            reset_rollback: true,
            reset_commit: true,
            reset_discard: true,
            close: true,
            resize: true,
            detach: true,
            fair: false,
            fifo: true,
            lifo: true,
            ..Capabilities::default()
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "max_size"),
            ("min_idle", "not possible: it dials in an acquire only"),
            ("acquire_timeout", "timeouts.wait, .create and .recycle alike; there is none for the whole"),
            ("idle_timeout", "not possible: it has no reaper"),
            ("max_lifetime", "not possible: it has no reaper"),
            ("test_on_acquire", "RecyclingMethod::Verified; otherwise Fast, the default"),
            (
                "reset_on_return",
                "rollback: Custom(\"ROLLBACK\"), commit: Custom(\"COMMIT\"), discard: Clean; both at the next hand-out",
            ),
            ("order", "queue_mode (default fifo)"),
            ("close, resize, detach", "close, resize, Object::take"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let pg_config = connector.config().clone();
        let manager =
            Manager::from_connect(pg_config, Dial(connector), ManagerConfig { recycling_method: recycling(settings) });
        let config = PoolConfig {
            max_size: settings.max_size as usize,
            timeouts: Timeouts {
                wait: settings.acquire_timeout,
                create: settings.acquire_timeout,
                recycle: settings.acquire_timeout,
            },
            queue_mode: match settings.order {
                None => QueueMode::default(),
                Some(Order::Fifo) => QueueMode::Fifo,
                Some(Order::Lifo) => QueueMode::Lifo,
            },
        };
        match deadpool_postgres::Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build() {
            Ok(pool) => Ok(Arc::new(DeadpoolPool(pool))),
            Err(error) => Err(PoolError { kind: PoolErrorKind::Other, message: describe(&error) }),
        }
    }
}

/// The nearest recycling method. There is one for each pool: a reset includes the check.
fn recycling(settings: &PoolSettings) -> RecyclingMethod {
    match (settings.reset_on_return, settings.test_on_acquire) {
        (Reset::Discard, _) => RecyclingMethod::Clean,
        (Reset::Rollback, _) => RecyclingMethod::Custom("ROLLBACK".to_owned()),
        (Reset::Commit, _) => RecyclingMethod::Custom("COMMIT".to_owned()),
        (Reset::None, true) => RecyclingMethod::Verified,
        (Reset::None, false) => RecyclingMethod::Fast,
    }
}

/// deadpool-postgres' own extension point for other streams.
struct Dial(Connector);

impl Connect for Dial {
    fn connect(
        &self,
        _: &tokio_postgres::Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + '_>> {
        Box::pin(async move {
            let connection = self.0.connect().await?;
            Ok((connection.client, connection.task))
        })
    }
}

struct DeadpoolPool(deadpool_postgres::Pool);

#[async_trait]
impl Pool for DeadpoolPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        use deadpool_postgres::PoolError as Theirs;
        match self.0.get().await {
            Ok(object) => Ok(Box::new(DeadpoolLease(object))),
            Err(error) => Err(PoolError {
                kind: match error {
                    Theirs::Timeout(_) => PoolErrorKind::Timeout,
                    Theirs::Backend(_) => PoolErrorKind::Connect,
                    Theirs::Closed => PoolErrorKind::Closed,
                    Theirs::NoRuntimeSpecified | Theirs::PostCreateHook(_) => PoolErrorKind::Other,
                },
                message: describe(&error),
            }),
        }
    }

    fn status(&self) -> Option<Status> {
        let status = self.0.status();
        let count = |n: usize| Some(u32::try_from(n).unwrap_or(u32::MAX));
        Some(Status {
            size: count(status.size),
            idle: count(status.available),
            in_use: None,
            waiting: count(status.waiting),
            max_size: count(status.max_size),
        })
    }

    async fn close(&self) {
        self.0.close();
    }

    fn resize(&self, max_size: u32) {
        self.0.resize(max_size as usize);
    }
}

struct DeadpoolLease(Object);

impl Lease for DeadpoolLease {
    fn client(&mut self) -> &Client {
        &self.0
    }

    fn detach(self: Box<Self>) -> Option<Detached> {
        Some(Box::new(Taken(Object::take(self.0))))
    }
}

struct Taken(ClientWrapper);

impl DetachedClient for Taken {
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
        build(&Deadpool, server, settings).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_dial_is_passed_on() {
        let server = TestServer::new();
        server.set_door(Door::Refused);
        let pool = pool(&server, &settings()).await;
        let error = pool.acquire().await.err().unwrap();
        assert_eq!(error.kind, PoolErrorKind::Connect);
        assert_eq!(
            error.message,
            "Error occurred while creating a new object: error communicating with the server: connection refused"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn status_resize_and_close() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let held = pool.acquire().await.unwrap();
        let status = pool.status().unwrap();
        assert_eq!((status.size, status.idle, status.waiting, status.max_size), (Some(1), Some(0), Some(0), Some(2)));
        pool.resize(3);
        let _others = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert_eq!(server.count(), 3);
        pool.close().await;
        drop(held);
        settle().await;
        assert_eq!(server.count(), 2, "a lease returned after close is closed");
        assert_eq!(pool.acquire().await.err().unwrap().kind, PoolErrorKind::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_detached_connection_is_no_longer_counted() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let mut detached = pool.acquire().await.unwrap().detach().unwrap();
        assert_eq!(pool.status().unwrap().size, Some(0));
        detached.client().simple_query("SELECT 1").await.unwrap();
        drop(detached);
        settle().await;
        assert_eq!(server.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn recycling_follows_the_settings() {
        for (reset_on_return, test_on_acquire, sent) in [
            (Reset::None, false, None),
            (Reset::None, true, Some("")),
            (Reset::Rollback, false, Some("ROLLBACK")),
            (Reset::Commit, false, Some("COMMIT")),
            (Reset::Discard, true, RecyclingMethod::Clean.query()),
        ] {
            let server = TestServer::new();
            let settings = PoolSettings { reset_on_return, test_on_acquire, ..settings() };
            let pool = pool(&server, &settings).await;
            drop(pool.acquire().await.unwrap());
            assert!(server.statements().is_empty(), "nothing at the return");
            drop(pool.acquire().await.unwrap());
            assert_eq!(server.statements(), Vec::from_iter(sent), "before the next hand-out");
        }
    }
}
