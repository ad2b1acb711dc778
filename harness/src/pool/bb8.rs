//! bb8 0.9 (<https://docs.rs/bb8/0.9>) with the manager of bb8-postgres, which is tied to `TcpStream`: ours does the same
//! three things over the connector.
//!
//! | setting | bb8 |
//! | --- | --- |
//! | max_size | `max_size` |
//! | min_idle | `min_idle`; `build` dials them before it returns, and fails when that fails for `acquire_timeout` |
//! | acquire_timeout | `connection_timeout`, which is also how long a failed dial is retried; none is `Duration::MAX` |
//! | idle_timeout | `idle_timeout`, looked at by a reaper every 30 s; it doesn't spare `min_idle`, it dials anew |
//! | max_lifetime | `max_lifetime`, looked at by the reaper and at each return |
//! | test_on_acquire | `test_on_check_out` (an empty simple query, as bb8-postgres); bb8's default is on, ours off |
//! | order | `queue_strategy`; the default is FIFO |
//!
//! It can't reset a returned connection (there is no hook at return), close, resize, or give a connection away, and
//! promises no order among waiters. `pending_gets` of its statistics is reported as `waiting`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Client;

use super::error::describe;
use super::{Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, Status};
use crate::scenario::model::{Order, PoolSettings};

/// The version in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "0.9.1";

/// Builds bb8 pools.
#[derive(Debug, Clone, Copy)]
pub struct Bb8;

#[async_trait]
impl Adapter for Bb8 {
    fn name(&self) -> &'static str {
        "bb8"
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
            reset_rollback: false,
            reset_discard: false,
            close: false,
            resize: false,
            detach: false,
            fair: false,
            fifo: true,
            lifo: true,
            ..Capabilities::default()
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "max_size"),
            ("min_idle", "min_idle, dialled before build returns"),
            ("acquire_timeout", "connection_timeout; also how long a failed dial is retried"),
            ("idle_timeout", "idle_timeout, by a reaper every 30 s; spares no min_idle"),
            ("max_lifetime", "max_lifetime, by a reaper every 30 s and at each return"),
            ("test_on_acquire", "test_on_check_out with an empty query, as bb8-postgres (bb8's default is on)"),
            ("reset_on_return", "not possible: bb8 has no hook at return"),
            ("order", "queue_strategy (default fifo)"),
            ("close, resize, detach", "not possible"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let pool = builder(settings)?
            .build(Manager(connector))
            .await
            .map_err(|error| PoolError { kind: PoolErrorKind::Connect, message: describe(&error) })?;
        Ok(Arc::new(Bb8Pool(pool)))
    }
}

/// Maps the settings. bb8 asserts its bounds; a scenario that breaks them gets bb8's own text as an error.
fn builder(settings: &PoolSettings) -> Result<bb8::Builder<Manager>, PoolError> {
    let zero = |duration: Option<Duration>| duration == Some(Duration::ZERO);
    let refused = |text: &str| Err(PoolError { kind: PoolErrorKind::Other, message: text.to_owned() });
    if settings.max_size == 0 {
        return refused("max_size must be greater than zero!");
    }
    if settings.min_idle > settings.max_size {
        return refused("min_idle must be no larger than max_size");
    }
    if zero(settings.acquire_timeout) {
        return refused("connection_timeout must be non-zero");
    }
    if zero(settings.idle_timeout) {
        return refused("idle_timeout must be greater than zero!");
    }
    if zero(settings.max_lifetime) {
        return refused("max_lifetime must be greater than zero!");
    }
    let builder = bb8::Pool::builder()
        .max_size(settings.max_size)
        .min_idle((settings.min_idle > 0).then_some(settings.min_idle))
        .connection_timeout(settings.acquire_timeout.unwrap_or(Duration::MAX))
        .idle_timeout(settings.idle_timeout)
        .max_lifetime(settings.max_lifetime)
        .test_on_check_out(settings.test_on_acquire);
    Ok(match settings.order {
        None => builder,
        Some(Order::Fifo) => builder.queue_strategy(bb8::QueueStrategy::Fifo),
        Some(Order::Lifo) => builder.queue_strategy(bb8::QueueStrategy::Lifo),
    })
}

/// What `bb8_postgres::PostgresConnectionManager` does, over the connector.
struct Manager(Connector);

impl bb8::ManageConnection for Manager {
    type Connection = Client;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        Ok(self.0.connect().await?.client)
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
        client.simple_query("").await.map(|_| ())
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

struct Bb8Pool(bb8::Pool<Manager>);

#[async_trait]
impl Pool for Bb8Pool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        match self.0.get_owned().await {
            Ok(lease) => Ok(Box::new(Bb8Lease(lease))),
            Err(error) => Err(PoolError {
                kind: match error {
                    bb8::RunError::TimedOut => PoolErrorKind::Timeout,
                    bb8::RunError::User(_) => PoolErrorKind::Connect,
                },
                message: describe(&error),
            }),
        }
    }

    fn status(&self) -> Option<Status> {
        let state = self.0.state();
        let pending = state.statistics.pending_gets();
        Some(Status {
            size: Some(state.connections),
            idle: Some(state.idle_connections),
            in_use: None,
            waiting: Some(u32::try_from(pending).unwrap_or(u32::MAX)),
            max_size: Some(self.0.config().max_size),
        })
    }
}

struct Bb8Lease(bb8::PooledConnection<'static, Manager>);

impl Lease for Bb8Lease {
    fn client(&mut self) -> &Client {
        &self.0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::pool::testing::{Door, TestServer, build, settings};

    async fn pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
        build(&Bb8, server, settings).await
    }

    #[tokio::test(start_paused = true)]
    async fn refused_dials_are_retried_until_the_timeout() {
        let server = TestServer::new();
        server.set_door(Door::Refused);
        let pool = pool(&server, &settings()).await;
        let error = pool.acquire().await.err().unwrap();
        assert_eq!(error, PoolError { kind: PoolErrorKind::Timeout, message: "Timed out in bb8".to_owned() });
        assert!(server.dials() > 1);
    }

    #[tokio::test(start_paused = true)]
    async fn build_dials_min_idle_and_reports_a_dead_server() {
        let server = TestServer::new();
        let settings = PoolSettings { min_idle: 2, ..settings() };
        let pool = pool(&server, &settings).await;
        assert_eq!(server.count(), 2);
        let status = pool.status().unwrap();
        assert_eq!((status.size, status.idle, status.waiting, status.max_size), (Some(2), Some(2), Some(0), Some(2)));

        // bb8 counts the retries' time on the operating system's clock, which is not virtual in this test.
        server.set_door(Door::Refused);
        let settings = PoolSettings { acquire_timeout: Some(Duration::from_millis(20)), ..settings };
        let error = Bb8.build(&settings, server.connector()).await.err().unwrap();
        assert_eq!(error.kind, PoolErrorKind::Connect);
        assert!(error.message.ends_with("connection refused"), "{}", error.message);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_it_asserts_is_an_error() {
        let server = TestServer::new();
        let settings = PoolSettings { max_size: 0, ..settings() };
        let error = Bb8.build(&settings, server.connector()).await.err().unwrap();
        assert_eq!(error.message, "max_size must be greater than zero!");
    }

    #[tokio::test(start_paused = true)]
    async fn test_on_acquire_sends_an_empty_query() {
        let server = TestServer::new();
        let pool = pool(&server, &PoolSettings { test_on_acquire: true, ..settings() }).await;
        drop(pool.acquire().await.unwrap());
        drop(pool.acquire().await.unwrap());
        assert_eq!(server.statements(), ["", ""]);
    }
}
