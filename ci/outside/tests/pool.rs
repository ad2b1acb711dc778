//! What poolproof finds in the pool of this crate.

use std::sync::Arc;
use std::time::Duration;

use poolproof::pool::{
    Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, PoolSettings, Reset, Status, async_trait,
};
use poolproof::tokio_postgres::Client;

poolproof::main!(Small);

struct Small;

#[async_trait]
impl Adapter for Small {
    fn name(&self) -> &'static str {
        "smallpool"
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_size: true,
            acquire_timeout: true,
            test_on_acquire: true,
            reset_rollback: true,
            lifo: true,
            ..Capabilities::default()
        }
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let timeout = settings.acquire_timeout.unwrap_or(Duration::MAX);
        let check = match settings.reset_on_return {
            Reset::Rollback => Some("ROLLBACK"),
            _ => settings.test_on_acquire.then_some(""),
        };
        let dial = move || {
            let connector = connector.clone();
            Box::pin(async move { Ok(connector.connect().await?.client) }) as _
        };
        Ok(Arc::new(SmallPool(smallpool::Pool::new(settings.max_size as usize, timeout, check, Box::new(dial)))))
    }
}

struct SmallPool(smallpool::Pool);

#[async_trait]
impl Pool for SmallPool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        match self.0.get().await {
            Ok(lease) => Ok(Box::new(SmallLease(lease))),
            Err(smallpool::Error::Timeout) => Err(PoolError::new(PoolErrorKind::Timeout, "timed out")),
            Err(smallpool::Error::Dial(error)) => Err(PoolError::of(PoolErrorKind::Connect, &error)),
        }
    }

    fn status(&self) -> Option<Status> {
        Some(Status { idle: u32::try_from(self.0.idle()).ok(), ..Status::default() })
    }
}

struct SmallLease(smallpool::Lease);

impl Lease for SmallLease {
    fn client(&mut self) -> &Client {
        self.0.client()
    }
}
