//! qp 0.2.1.

use qp::resource::Manage;
use qp::{Pool, async_trait};

use super::*;

#[async_trait]
impl Manage for Manager {
    type Output = Connection;
    type Error = io::Error;

    async fn try_create(&self) -> io::Result<Connection> {
        self.dial().await
    }

    async fn validate(&self, connection: &Connection) -> bool {
        self.check(connection).await.is_ok()
    }
}

/// `Acquire::poll` (sync.rs) puts its waker into the queue once, ever. `SemaphorePermit::drop` frees the permit and wakes the
/// first in the queue. Whoever asks before that one is polled takes the permit; the one that was woken finds none, and is
/// in no queue any more.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_was_overtaken_is_never_woken_again() {
    let pool = Pool::new(Manager::new(), 1);
    let held = pool.acquire().await.unwrap();
    let mut waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    sleep(Duration::from_secs(1)).await;
    drop(held);
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.size(), 1, "there is a free place");
    assert!(timeout(HOUR, &mut waiter).await.is_err(), "and somebody who waits for it");
}

/// A waker stays in the queue when its `Acquire` is dropped. It takes the wake-up of one that still waits.
#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_takes_the_wake_up_of_the_next() {
    let pool = Pool::new(Manager::new(), 1);
    let held = pool.acquire().await.unwrap();
    // In a task of its own, as a request that is given up: in the same task the next one would be woken along with it.
    let cancelled = tokio::spawn({
        let pool = pool.clone();
        async move { timeout(Duration::from_millis(1), pool.acquire()).await.is_err() }
    });
    assert!(cancelled.await.unwrap());
    let mut waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    sleep(Duration::from_secs(1)).await;
    drop(held);
    assert!(timeout(HOUR, &mut waiter).await.is_err());
    assert_eq!(pool.size(), 1, "there is a free place");
}

/// `Inner::acquire` (pool.rs) has no timeout, for nothing that it waits for.
#[tokio::test(start_paused = true)]
async fn a_hung_dial_keeps_its_caller_for_ever() {
    let manager = Manager::new();
    manager.set_dial(Answer::Never);
    let pool = Pool::new(manager, 1);
    assert!(timeout(24 * HOUR, pool.acquire()).await.is_err());
}
