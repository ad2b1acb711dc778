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
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Client>>,
    timeout: Duration,
}

impl Pool {
    pub fn new(max_size: usize, timeout: Duration, dial: Dial) -> Pool {
        Pool(Arc::new(Shared { dial, permits: Arc::new(Semaphore::new(max_size)), idle: Mutex::default(), timeout }))
    }

    pub async fn get(&self) -> Result<Lease, Error> {
        let lease = tokio::time::timeout(self.0.timeout, async {
            let permit = Arc::clone(&self.0.permits).acquire_owned().await.expect("it is never closed");
            let idle = self.0.idle_live();
            let client = match idle {
                Some(client) => client,
                None => (self.0.dial)().await.map_err(Error::Dial)?,
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
