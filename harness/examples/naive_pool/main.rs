//! A naive pool, a mutex around a vector, and what poolproof finds in it.
//!
//! It is what one writes in an afternoon: idle connections in a vector, a count of those that are open, and a short sleep
//! where there is none. `cargo run --example naive_pool` runs some of the built-in scenarios with it, and so does
//! `cargo test`. `README.md` beside this file says what came out.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use poolproof::pool::{
    Adapter, Capabilities, Connector, Lease, Pool, PoolError, PoolErrorKind, PoolSettings, Status, async_trait,
};
use poolproof::tokio_postgres::Client;

fn main() -> ExitCode {
    poolproof::suite!().root(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/naive_pool")).pool(Naive).main()
}

struct Naive;

#[async_trait]
impl Adapter for Naive {
    fn name(&self) -> &'static str {
        "naive"
    }

    fn version(&self) -> &'static str {
        "0.1.0"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { max_size: true, acquire_timeout: true, lifo: true, ..Capabilities::default() }
    }

    async fn build(&self, settings: &PoolSettings, connector: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        let shared = Arc::new(Mutex::new(Shared { idle: Vec::new(), open: 0 }));
        Ok(Arc::new(NaivePool { shared, settings: settings.clone(), connector }))
    }
}

struct Shared {
    idle: Vec<Client>,
    open: u32,
}

struct NaivePool {
    shared: Arc<Mutex<Shared>>,
    settings: PoolSettings,
    connector: Connector,
}

impl NaivePool {
    /// An idle connection; or the permission to open one; or neither.
    fn take(&self) -> Option<Option<Client>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = shared.idle.pop() {
            return Some(Some(client));
        }
        (shared.open < self.settings.max_size).then(|| {
            shared.open += 1;
            None
        })
    }

    async fn get(&self) -> Result<Client, PoolError> {
        loop {
            match self.take() {
                Some(Some(client)) => return Ok(client),
                Some(None) => {
                    let connected = self.connector.connect().await;
                    return Ok(connected.map_err(|error| PoolError::of(PoolErrorKind::Connect, &error))?.client);
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

#[async_trait]
impl Pool for NaivePool {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        let timeout = self.settings.acquire_timeout.unwrap_or(Duration::MAX);
        let client = tokio::time::timeout(timeout, self.get()).await;
        let client = client.map_err(|_| PoolError::new(PoolErrorKind::Timeout, "timed out"))??;
        Ok(Box::new(NaiveLease { client: Some(client), shared: Arc::clone(&self.shared) }))
    }

    fn status(&self) -> Option<Status> {
        None
    }
}

struct NaiveLease {
    client: Option<Client>,
    shared: Arc<Mutex<Shared>>,
}

impl Lease for NaiveLease {
    fn client(&mut self) -> &Client {
        self.client.as_ref().expect("it is there until the drop")
    }
}

impl Drop for NaiveLease {
    fn drop(&mut self) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).idle.extend(self.client.take());
    }
}
