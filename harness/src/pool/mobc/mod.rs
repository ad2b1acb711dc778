//! mobc 0.9 (<https://docs.rs/mobc/0.9>) with the manager of mobc-postgres 0.9, which is tied to `TcpStream`: ours does the
//! same over the connector.
//!
//! | setting | mobc |
//! | --- | --- |
//! | max_size | `max_open`; unlimited is its 0 |
//! | max_idle | `max_idle`, otherwise as `max_open`: mobc's default keeps two idle ones |
//! | min_idle | can't: it dials in a get only |
//! | acquire_timeout | `get_timeout`, for the whole of a get |
//! | idle_timeout | `max_idle_lifetime`, looked at in a get only: who is idle for too long is closed when it would be handed out |
//! | max_lifetime | `max_lifetime`, looked at in a get only |
//! | test_on_acquire | `test_on_check_out` (an empty simple query, as mobc-postgres); mobc's default is on, ours off |
//! | order | always LIFO |
//!
//! It can't reset a returned connection or be closed. `resize` is `set_max_open_conns`. It promises no order among waiters.
//! `State::wait_count` is by its documentation a total, so that nothing is reported as waiting.
//!
//! Two things below it are not as in production, and neither is mobc's own: futures-timer runs on tokio's clock (the crate
//! `sim/futures-timer` in its place), and the order in which futures-util's `select!` polls follows the run's seed
//! (`select_order`).

mod select_order;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio_postgres::Client;

use self::select_order::SelectOrder;
use super::error::describe;
use super::{Adapter, Capabilities, Connector, Detached, Lease, Pool, PoolError, PoolErrorKind, Status};
use crate::scenario::model::PoolSettings;

/// The version in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "0.9.0";

/// Builds mobc pools.
#[derive(Debug, Clone, Copy)]
pub struct Mobc;

#[async_trait]
impl Adapter for Mobc {
    fn name(&self) -> &'static str {
        "mobc"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            unlimited: true,
            max_idle: true,
            acquire_timeout: true,
            test_on_acquire: true,
            resize: true,
            detach: true,
            lifo: true,
            ..Capabilities::default()
        }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "max_open; unlimited: 0"),
            ("max_idle", "max_idle, otherwise as max_open (mobc's default is 2)"),
            ("min_idle", "not possible: it dials in a get only"),
            ("acquire_timeout", "get_timeout"),
            ("idle_timeout", "max_idle_lifetime, looked at in a get only"),
            ("max_lifetime", "max_lifetime, looked at in a get only"),
            ("test_on_acquire", "test_on_check_out with an empty query, as mobc-postgres (mobc's default is on)"),
            ("reset_on_return", "not possible: mobc has no hook for it"),
            ("order", "always lifo"),
            ("close, resize, detach", "resize: set_max_open_conns, detach: Connection::into_inner"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        if format!("{:?}", futures_timer::Delay::new(Duration::ZERO)) == "Delay" {
            return Err(refused(
                "mobc's timers run by the wall clock here: put poolproof's sim/futures-timer in the place of \
                 futures-timer, by [patch.crates-io] in the workspace's Cargo.toml",
            ));
        }
        let pool = builder(settings)?.build(Manager(connector));
        Ok(Arc::new(MobcPool { pool, order: SelectOrder::new() }))
    }
}

fn refused(text: &str) -> PoolError {
    PoolError { kind: PoolErrorKind::Other, message: text.to_owned() }
}

/// Maps the settings. mobc asserts its bounds; a scenario that breaks them gets mobc's own text as an error.
fn builder(settings: &PoolSettings) -> Result<mobc::Builder<Manager>, PoolError> {
    for (duration, text) in [
        (settings.acquire_timeout, "get_timeout must be positive"),
        (settings.idle_timeout, "max_idle_lifetime must be positive"),
        (settings.max_lifetime, "max_lifetime must be positive"),
    ] {
        if duration == Some(Duration::ZERO) {
            return Err(refused(text));
        }
    }
    if settings.max_idle == Some(0) {
        return Err(refused("a max_idle of 0 means as many as max_open to mobc"));
    }
    let max_open = if settings.max_size == PoolSettings::UNLIMITED { 0 } else { u64::from(settings.max_size) };
    Ok(mobc::Pool::builder()
        .max_open(max_open)
        .max_idle(settings.max_idle.map_or(max_open, u64::from))
        .get_timeout(settings.acquire_timeout)
        .max_idle_lifetime(settings.idle_timeout)
        .max_lifetime(settings.max_lifetime)
        .test_on_check_out(settings.test_on_acquire))
}

/// What `mobc_postgres::PgConnectionManager` does, over the connector.
struct Manager(Connector);

#[async_trait]
impl mobc::Manager for Manager {
    type Connection = Client;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        Ok(self.0.connect().await?.client)
    }

    async fn check(&self, client: Client) -> Result<Client, tokio_postgres::Error> {
        client.simple_query("").await?;
        Ok(client)
    }
}

struct MobcPool {
    pool: mobc::Pool<Manager>,
    order: SelectOrder,
}

#[async_trait]
impl Pool for MobcPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        match self.order.steer(pin!(self.pool.get())).await {
            Ok(lease) => Ok(Box::new(MobcLease(lease))),
            Err(error) => Err(PoolError {
                kind: match error {
                    mobc::Error::Timeout => PoolErrorKind::Timeout,
                    mobc::Error::Inner(_) => PoolErrorKind::Connect,
                    mobc::Error::PoolClosed => PoolErrorKind::Closed,
                    mobc::Error::BadConn => PoolErrorKind::Other,
                },
                message: match error {
                    mobc::Error::Inner(inner) => describe(&inner),
                    other => other.to_string(),
                },
            }),
        }
    }

    fn status(&self) -> Option<Status> {
        // It locks for a moment only, so that it is free whenever somebody else runs on the run's one thread.
        let state = self.pool.state().now_or_never()?;
        let count = |n: u64| Some(u32::try_from(n).unwrap_or(u32::MAX));
        Some(Status {
            size: count(state.connections),
            idle: count(state.idle),
            in_use: count(state.in_use),
            waiting: None,
            max_size: count(state.max_open),
        })
    }

    fn resize(&self, max_size: u32) {
        // As for `status`.
        let _ = self.pool.set_max_open_conns(u64::from(max_size)).now_or_never();
    }
}

struct MobcLease(mobc::Connection<Manager>);

impl Lease for MobcLease {
    fn client(&mut self) -> &Client {
        &self.0
    }

    fn detach(self: Box<Self>) -> Option<Detached> {
        Some(Box::new(self.0.into_inner()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pool::testing::{Door, TestServer, build, settings, settle};

    async fn pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
        build(&Mobc, server, settings).await
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
        let counted = Status { size: Some(2), idle: Some(1), in_use: Some(1), waiting: None, max_size: Some(2) };
        assert_eq!(pool.status(), Some(counted));
        pool.resize(5);
        assert_eq!(pool.status().unwrap().max_size, Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_it_asserts_is_an_error() {
        let server = TestServer::new();
        let settings = PoolSettings { max_lifetime: Some(Duration::ZERO), ..settings() };
        let error = Mobc.build(&settings, server.connector()).await.err().unwrap();
        assert_eq!(error.message, "max_lifetime must be positive");
    }

    #[test]
    fn ages_are_looked_at_in_a_get_only() {
        let outcome = poolproof_sim::runtime::run(1, async || {
            let minute = Some(Duration::from_secs(60));
            for settings in [
                PoolSettings { idle_timeout: minute, ..settings() },
                PoolSettings { max_lifetime: minute, ..settings() },
            ] {
                let server = TestServer::new();
                let pool = pool(&server, &settings).await;
                drop(pool.acquire().await.unwrap());
                tokio::time::sleep(Duration::from_secs(3600)).await;
                assert_eq!((server.count(), server.dials()), (1, 1));
                drop(pool.acquire().await.unwrap());
                settle().await;
                assert_eq!((server.count(), server.dials()), (1, 2));
            }
        });
        outcome.unwrap();
    }
}
