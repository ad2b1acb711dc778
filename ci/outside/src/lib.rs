//! A small connection pool: a semaphore, and a stack of idle connections.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Error as Driver};

/// Opens a connection.
pub type Dial = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Client, Driver>> + Send>> + Send + Sync>;

/// Why there is no connection.
#[derive(Debug)]
pub enum Error {
    Timeout,
    Dial(Driver),
}

/// A pool of at most so many connections.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    dial: Dial,
    /// Asked of an idle connection before it is handed out: `""` or `ROLLBACK`.
    check: Option<&'static str>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Client>>,
    timeout: Duration,
}

impl Pool {
    pub fn new(max_size: usize, timeout: Duration, check: Option<&'static str>, dial: Dial) -> Pool {
        let permits = Arc::new(Semaphore::new(max_size));
        Pool(Arc::new(Shared { dial, check, permits, idle: Mutex::default(), timeout }))
    }

    pub async fn get(&self) -> Result<Lease, Error> {
        let lease = tokio::time::timeout(self.0.timeout, async {
            let permit = Arc::clone(&self.0.permits).acquire_owned().await.expect("it is never closed");
            let client = loop {
                let Some(client) = self.0.idle_live() else { break (self.0.dial)().await.map_err(Error::Dial)? };
                match self.0.check {
                    Some(query) if client.simple_query(query).await.is_err() => {}
                    _ => break client,
                }
            };
            Ok(Lease { client: Some(client), pool: self.clone(), _permit: permit })
        });
        lease.await.unwrap_or(Err(Error::Timeout))
    }

    pub fn idle(&self) -> usize {
        self.0.lock().len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idle_live(&self) -> Option<Client> {
        let mut idle = self.lock();
        std::iter::from_fn(|| idle.pop()).find(|client| !client.is_closed())
    }
}

/// A connection, until it is dropped.
pub struct Lease {
    client: Option<Client>,
    pool: Pool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub fn client(&self) -> &Client {
        self.client.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.0.lock().extend(self.client.take());
    }
}
