//! qp 0.2 (<https://docs.rs/qp/0.2>) with the manager of qp-postgres 0.1, which is tied to `TcpStream`: ours does the same
//! over the connector.
//!
//! | setting | qp |
//! | --- | --- |
//! | max_size | `max_size` |
//! | min_idle | can't keep it (`reserve` dials once) |
//! | acquire_timeout | can't: an acquire waits for ever |
//! | idle_timeout, max_lifetime | can't |
//! | test_on_acquire | `Manage::validate` sends an empty simple query; otherwise it asks the driver only whether the connection is closed, as qp-postgres does |
//! | order | always FIFO |
//!
//! It can't reset a returned connection, be closed or change its size. It promises no order among waiters. Its one counter,
//! `size`, is that of free places, so that the rest is reported as leased.

use std::sync::Arc;

use async_trait::async_trait;
use ouroboros::self_referencing;
use qp::Pooled;
use qp::resource::Manage;
use tokio_postgres::Client;

use super::error::describe;
use super::{Adapter, Capabilities, Connector, Detached, Lease, Pool, PoolError, PoolErrorKind, Status};
use crate::scenario::model::PoolSettings;

/// The version in `Cargo.lock`; a test compares.
pub(super) const VERSION: &str = "0.2.1";

/// Builds qp pools.
#[derive(Debug, Clone, Copy)]
pub struct Qp;

#[async_trait]
impl Adapter for Qp {
    fn name(&self) -> &'static str {
        "qp"
    }

    fn version(&self) -> &'static str {
        VERSION
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { max_size: true, test_on_acquire: true, detach: true, fifo: true, ..Capabilities::default() }
    }

    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[
            ("max_size", "max_size"),
            ("min_idle", "not possible: it dials in an acquire only"),
            ("acquire_timeout", "not possible: an acquire waits for ever"),
            ("idle_timeout", "not possible"),
            ("max_lifetime", "not possible"),
            ("test_on_acquire", "Manage::validate with an empty query; otherwise it asks is_closed, as qp-postgres"),
            ("reset_on_return", "not possible: qp has no hook at return"),
            ("order", "always fifo"),
            ("close, resize, detach", "detach: Pooled::take"),
        ]
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let manager = Manager { connector, test_on_acquire: settings.test_on_acquire };
        Ok(Arc::new(QpPool(qp::Pool::new(manager, settings.max_size as usize))))
    }
}

/// What `qp_postgres::PgConnManager` does, over the connector.
struct Manager {
    connector: Connector,
    test_on_acquire: bool,
}

#[async_trait]
impl Manage for Manager {
    type Output = Client;
    type Error = tokio_postgres::Error;

    async fn try_create(&self) -> Result<Client, tokio_postgres::Error> {
        Ok(self.connector.connect().await?.client)
    }

    async fn validate(&self, client: &Client) -> bool {
        !client.is_closed() && (!self.test_on_acquire || client.simple_query("").await.is_ok())
    }
}

struct QpPool(qp::Pool<Manager>);

#[async_trait]
impl Pool for QpPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        let lease = QpLeaseAsyncSendTryBuilder {
            pool: self.0.clone(),
            pooled_builder: |pool| Box::pin(async move { pool.acquire().await.map(Some) }),
        };
        match lease.try_build().await {
            Ok(lease) => Ok(Box::new(lease)),
            Err(error) => Err(PoolError { kind: PoolErrorKind::Connect, message: describe(&error) }),
        }
    }

    fn status(&self) -> Option<Status> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let max_size = count(self.0.max_size());
        Some(Status {
            size: None,
            idle: None,
            in_use: Some(max_size.saturating_sub(count(self.0.size()))),
            waiting: None,
            max_size: Some(max_size),
        })
    }
}

/// A lease and the pool that it borrows from.
#[self_referencing]
struct QpLease {
    pool: qp::Pool<Manager>,
    /// `None` once it is detached.
    #[borrows(pool)]
    #[covariant]
    pooled: Option<Pooled<'this, Manager>>,
}

impl Lease for QpLease {
    fn client(&mut self) -> &Client {
        self.borrow_pooled().as_ref().expect("a lease that was detached is gone")
    }

    fn detach(mut self: Box<Self>) -> Option<Detached> {
        let client = self.with_pooled_mut(|pooled| pooled.take().map(Pooled::take))?;
        Some(Box::new(client))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::pool::testing::{Door, TestServer, build, settings, settle};

    async fn pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
        build(&Qp, server, settings).await
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
    async fn its_counter() {
        let server = TestServer::new();
        let pool = pool(&server, &settings()).await;
        let _held = pool.acquire().await.unwrap();
        let counted = Status { in_use: Some(1), max_size: Some(2), ..Status::default() };
        assert_eq!(pool.status(), Some(counted));
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
