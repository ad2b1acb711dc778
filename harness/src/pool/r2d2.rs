//! r2d2 0.8 (<https://docs.rs/r2d2/0.8>) with the manager of r2d2_postgres, which is tied to the blocking `postgres`: ours does
//! the same three things over the connector.
//!
//! r2d2 blocks threads: those of its callers, and three of its own in each pool, which dial and reap. So it can be run in real
//! time only, in the world `postgres`. It is used as asynchronous programs use it:
//!
//! - An acquire is `Pool::get` in tokio's `spawn_blocking`, on threads of the process's own, 512 of them at most
//!   (`threads.rs`). Whoever gives an acquire up gives up a future; the thread goes on waiting, and a connection that it gets
//!   goes back to the pool at once.
//! - `connect` and `is_valid` are called on those threads, while sockets, driver and trace belong to the run's: the manager
//!   has the run's runtime do it, and blocks until it has. When the run is over it gets an error.
//! - A lease is dropped, and so returned, on the run's thread; nothing waits there.
//!
//! | setting | r2d2 |
//! | --- | --- |
//! | max_size | `max_size` |
//! | min_idle | `min_idle`; `build` dials them before it returns, and fails when that takes longer than `acquire_timeout`. None is `Some(0)`: r2d2's own default is `max_size` |
//! | acquire_timeout | `connection_timeout`, whose half also bounds the pauses between failed dials; none is an hour ([`NEVER`]) |
//! | idle_timeout, max_lifetime | the same, looked at by a reaper every 30 s; they don't spare `min_idle`, it dials anew |
//! | test_on_acquire | `test_on_check_out` (an empty simple query, as r2d2_postgres); r2d2's default is on, ours off |
//! | order | always LIFO |
//!
//! It can't reset a returned connection (there is no hook at return that has the connection), close, resize, or give a
//! connection away, and promises no order among waiters. `has_broken`, asked at each return, is `Client::is_closed`. Errors
//! of dials and checks go to r2d2's `NopErrorHandler`: the trace has them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use r2d2::NopErrorHandler;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::threads::Threads;
use super::{Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, Status};
use crate::scenario::model::PoolSettings;

/// The version in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "0.8.10";

/// `connection_timeout` where a scenario wants none, which r2d2 has not: no run in real time lasts as long. What is left of a
/// run that is over waits as long, so it is no longer than that.
pub const NEVER: Duration = Duration::from_secs(3600);

/// Builds r2d2 pools.
#[derive(Debug, Clone, Copy)]
pub struct R2d2;

#[async_trait]
impl Adapter for R2d2 {
    fn name(&self) -> &'static str {
        "r2d2"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn needs_real_time(&self) -> Option<&'static str> {
        Some("it blocks threads")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            min_idle: true,
            acquire_timeout: true,
            idle_timeout: true,
            max_lifetime: true,
            test_on_acquire: true,
            lifo: true,
            ..Capabilities::default()
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "max_size"),
            ("min_idle", "min_idle, dialled before build returns (r2d2's default is max_size, here it is 0)"),
            ("acquire_timeout", "connection_timeout; its half bounds the pauses between failed dials; none is an hour"),
            ("idle_timeout", "idle_timeout, by a reaper every 30 s; spares no min_idle"),
            ("max_lifetime", "max_lifetime, by a reaper every 30 s"),
            ("test_on_acquire", "test_on_check_out with an empty query, as r2d2_postgres (r2d2's default is on)"),
            ("reset_on_return", "not possible: r2d2 has no hook at return that has the connection"),
            ("order", "always lifo"),
            ("close, resize, detach", "not possible"),
            ("worlds", "postgres only: it blocks threads; an acquire is get in spawn_blocking"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let builder = builder(settings)?;
        let threads = Threads::new().map_err(|error| PoolError::of(PoolErrorKind::Other, &error))?;
        let manager = Manager { connector, run: Handle::current() };
        let pool = threads
            .run(move || builder.build(manager))
            .await?
            .map_err(|error| PoolError::of(PoolErrorKind::Connect, &error))?;
        Ok(Arc::new(R2d2Pool { pool, threads }))
    }
}

/// Maps the settings. r2d2 asserts its bounds; a scenario that breaks them gets r2d2's own text as an error.
fn builder(settings: &PoolSettings) -> Result<r2d2::Builder<Manager>, PoolError> {
    let zero = |duration: Option<Duration>| duration == Some(Duration::ZERO);
    let refused = |text: &str| Err(PoolError::new(PoolErrorKind::Other, text));
    if settings.max_size == 0 {
        return refused("max_size must be positive");
    }
    if settings.min_idle > settings.max_size {
        return refused("min_idle must be no larger than max_size");
    }
    if zero(settings.acquire_timeout) {
        return refused("connection_timeout must be positive");
    }
    if zero(settings.idle_timeout) {
        return refused("idle_timeout must be positive");
    }
    if zero(settings.max_lifetime) {
        return refused("max_lifetime must be positive");
    }
    Ok(r2d2::Pool::builder()
        .max_size(settings.max_size)
        .min_idle(Some(settings.min_idle))
        .connection_timeout(settings.acquire_timeout.unwrap_or(NEVER))
        .idle_timeout(settings.idle_timeout)
        .max_lifetime(settings.max_lifetime)
        .test_on_check_out(settings.test_on_acquire)
        .error_handler(Box::new(NopErrorHandler)))
}

/// What `r2d2_postgres::PostgresConnectionManager` does, over the connector.
struct Manager {
    connector: Connector,
    /// The run's runtime. What it is given after its end is dropped unfinished.
    run: Handle,
}

/// What `connect` and `is_valid` report.
#[derive(Debug, thiserror::Error)]
enum ManagerError {
    #[error(transparent)]
    Driver(#[from] tokio_postgres::Error),
    #[error("the run is over")]
    Over,
}

impl r2d2::ManageConnection for Manager {
    type Connection = Client;
    type Error = ManagerError;

    fn connect(&self) -> Result<Client, ManagerError> {
        let connector = self.connector.clone();
        let (answer, answered) = oneshot::channel();
        self.run.spawn(async move {
            // It is waited for until it is there.
            let _heard = answer.send(connector.connect().await);
        });
        Ok(answered.blocking_recv().map_err(|_| ManagerError::Over)??.client)
    }

    fn is_valid(&self, client: &mut Client) -> Result<(), ManagerError> {
        // The answer comes by a channel, whose other end is dropped with the run.
        Ok(self.run.block_on(client.simple_query("")).map(|_| ())?)
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

struct R2d2Pool {
    pool: r2d2::Pool<Manager>,
    threads: Threads,
}

#[async_trait]
impl Pool for R2d2Pool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        let pool = self.pool.clone();
        match self.threads.run(move || pool.get()).await? {
            Ok(lease) => Ok(Box::new(R2d2Lease(lease))),
            // Its only error: after the whole timeout, with the text of the last dial or check that failed.
            Err(error) => Err(PoolError::of(PoolErrorKind::Timeout, &error)),
        }
    }

    fn status(&self) -> Option<Status> {
        let state = self.pool.state();
        Some(Status {
            size: Some(state.connections),
            idle: Some(state.idle_connections),
            in_use: None,
            waiting: None,
            max_size: Some(self.pool.max_size()),
        })
    }
}

struct R2d2Lease(r2d2::PooledConnection<Manager>);

impl Lease for R2d2Lease {
    fn client(&mut self) -> &Client {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use r2d2::ManageConnection as _;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::pool::connector::identify;
    use crate::pool::testing::{Door, TestServer, build, settings, sql};

    async fn pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
        build(&R2d2, server, settings).await
    }

    /// Until something holds: time is real here.
    async fn soon(mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "not within 20 s");
            sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn refused_dials_are_retried_until_the_timeout() {
        let server = TestServer::new();
        server.set_door(Door::Refused);
        let settings = PoolSettings { acquire_timeout: Some(Duration::from_secs(1)), ..settings() };
        let pool = pool(&server, &settings).await;
        let error = pool.acquire().await.err().unwrap();
        assert_eq!(error.kind, PoolErrorKind::Timeout);
        assert!(error.message.starts_with("timed out waiting for connection: "), "{}", error.message);
        // At 0 and 0.4 s.
        assert!(server.dials() > 1);
    }

    #[tokio::test]
    async fn build_dials_min_idle_and_reports_a_dead_server() {
        let server = TestServer::new();
        let settings = PoolSettings { min_idle: 2, ..settings() };
        let pool = pool(&server, &settings).await;
        assert_eq!(server.count(), 2);
        let status = pool.status().unwrap();
        assert_eq!((status.size, status.idle, status.max_size), (Some(2), Some(2), Some(2)));

        server.set_door(Door::Refused);
        let settings = PoolSettings { acquire_timeout: Some(Duration::from_millis(200)), ..settings };
        let error = R2d2.build(&settings, server.connector()).await.err().unwrap();
        assert_eq!(error.kind, PoolErrorKind::Connect);
        assert!(error.message.starts_with("timed out waiting for connection: "), "{}", error.message);
    }

    #[tokio::test]
    async fn a_bound_it_asserts_is_an_error() {
        let server = TestServer::new();
        let refused =
            async |settings: PoolSettings| R2d2.build(&settings, server.connector()).await.err().unwrap().message;
        let none = Some(Duration::ZERO);
        assert_eq!(refused(PoolSettings { max_size: 0, ..settings() }).await, "max_size must be positive");
        assert_eq!(
            refused(PoolSettings { min_idle: 3, ..settings() }).await,
            "min_idle must be no larger than max_size"
        );
        assert_eq!(
            refused(PoolSettings { acquire_timeout: none, ..settings() }).await,
            "connection_timeout must be positive"
        );
        assert_eq!(refused(PoolSettings { idle_timeout: none, ..settings() }).await, "idle_timeout must be positive");
        assert_eq!(refused(PoolSettings { max_lifetime: none, ..settings() }).await, "max_lifetime must be positive");
    }

    #[tokio::test]
    async fn test_on_acquire_sends_an_empty_query() {
        let server = TestServer::new();
        let pool = pool(&server, &PoolSettings { test_on_acquire: true, ..settings() }).await;
        drop(pool.acquire().await.unwrap());
        drop(pool.acquire().await.unwrap());
        assert_eq!(server.statements(), ["", ""]);
    }

    #[tokio::test]
    async fn a_check_finds_a_broken_connection() {
        let server = TestServer::new();
        let pool = pool(&server, &PoolSettings { test_on_acquire: true, ..settings() }).await;
        let mut lease = pool.acquire().await.unwrap();
        let first = identify(lease.client());
        drop(lease);
        server.kill(first);
        soon(|| server.count() == 0).await;
        let mut lease = pool.acquire().await.unwrap();
        assert_ne!(identify(lease.client()), first);
        sql(&mut lease, "SELECT 1").await.unwrap();
    }

    #[tokio::test]
    async fn it_lends_max_size_and_the_one_returned_last_first() {
        let server = TestServer::new();
        let settings = PoolSettings { acquire_timeout: Some(Duration::from_millis(300)), ..settings() };
        let pool = pool(&server, &settings).await;
        let (first, mut second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert_eq!(pool.acquire().await.err().unwrap().kind, PoolErrorKind::Timeout);
        assert_eq!(server.peak(), 2);
        let last = identify(second.client());
        drop(first);
        drop(second);
        assert_eq!(identify(pool.acquire().await.unwrap().client()), last);
    }

    #[tokio::test]
    async fn what_a_caller_gave_up_goes_back_to_the_pool() {
        let server = TestServer::new();
        let pool = pool(&server, &PoolSettings { max_size: 1, ..settings() }).await;
        let held = pool.acquire().await.unwrap();
        assert!(timeout(Duration::from_millis(50), pool.acquire()).await.is_err());
        drop(held);
        // Its thread takes the connection, finds nobody, and returns it.
        soon(|| pool.status().unwrap().idle == Some(1)).await;
        drop(pool.acquire().await.unwrap());
        assert_eq!((server.dials(), server.count()), (1, 1));
    }

    #[tokio::test]
    async fn a_dropped_pool_closes_its_connections() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let leases = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert_eq!(server.count(), 2);
        drop(leases.0);
        drop(pool);
        drop(leases.1);
        soon(|| server.count() == 0).await;
    }

    #[test]
    fn a_dial_ends_with_its_run() {
        let server = TestServer::new();
        server.set_door(Door::Lost);
        let run = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let manager = Manager { connector: server.connector(), run: run.handle().clone() };
        let dial = std::thread::spawn(move || (manager.connect().err().unwrap(), manager.connect().err().unwrap()));
        run.block_on(soon(|| server.dials() == 1));
        drop(run);
        let (under_way, later) = dial.join().unwrap();
        assert!(matches!((under_way, later), (ManagerError::Over, ManagerError::Over)));
    }
}
