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
use crate::scenario::model::{Order, PoolSettings};

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
        Some("it blocks threads of its own and of its callers")
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
    if settings.order == Some(Order::Fifo) {
        return refused("r2d2 is always lifo");
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
