//! deadpool 0.13.1.

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Pool, PoolError, RecycleResult, TimeoutType, Timeouts};

use super::*;

impl managed::Manager for Manager {
    type Type = Connection;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Connection> {
        self.dial().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<io::Error> {
        Ok(self.check(connection).await?)
    }
}

/// `Pool::timeout_get` (managed/pool.rs) has a timeout for each phase, `try_recycle` one for each idle connection,
/// and none for the whole.
#[tokio::test(start_paused = true)]
async fn timeouts_of_the_phases_add_up() {
    let manager = Manager::new();
    let limit = Some(Duration::from_secs(3));
    let timeouts = Timeouts { wait: limit, create: limit, recycle: limit };
    let pool: Pool<Manager> =
        Pool::builder(manager.clone()).max_size(2).timeouts(timeouts).runtime(Runtime::Tokio1).build().unwrap();
    let (first, second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    manager.set_check(Answer::Never);
    manager.set_dial(Answer::Never);

    // 2.9 s for a place, twice 3 s for the dead ones, 3 s for a dial.
    let began = Instant::now();
    let (result, ()) = tokio::join!(pool.get(), async {
        sleep(Duration::from_millis(2900)).await;
        drop((first, second));
    });
    assert!(matches!(result.err(), Some(PoolError::Timeout(TimeoutType::Create))));
    assert_eq!(began.elapsed().as_millis() / 100, 119);
}

/// `Pool::resize` (managed/pool.rs) takes a permit from the semaphore for each connection that there is too much, and none for
/// the room that was never used.
#[tokio::test(start_paused = true)]
async fn a_smaller_size_does_not_bind_a_pool_that_was_not_full() {
    let manager = Manager::new();
    let pool: Pool<Manager> = Pool::builder(manager.clone()).max_size(12).build().unwrap();
    pool.resize(4);
    assert_eq!(pool.status().max_size, 4);
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(timeout(HOUR, pool.get()).await.unwrap().unwrap());
    }
    assert_eq!((manager.dials(), pool.status().size), (12, 12));
}

/// `Timeouts::default` (managed/config.rs) is no timeout at all. `Pool::timeout_get` (managed/pool.rs) holds its permit while it
/// awaits `Manager::create`.
#[tokio::test(start_paused = true)]
async fn a_hung_dial_keeps_its_place_unless_a_timeout_is_set() {
    let create = Some(Duration::from_secs(3));
    for (timeouts, served) in [(Timeouts::default(), false), (Timeouts { create, ..Timeouts::default() }, true)] {
        let manager = Manager::new();
        let pool: Pool<Manager> =
            Pool::builder(manager.clone()).max_size(1).timeouts(timeouts).runtime(Runtime::Tokio1).build().unwrap();
        manager.set_dial(Answer::Never);
        let first = tokio::spawn({
            let pool = pool.clone();
            async move { pool.get().await.is_ok() }
        });
        sleep(Duration::from_secs(1)).await;
        manager.set_dial(Answer::After(Duration::from_millis(10)));
        assert_eq!(timeout(HOUR, pool.get()).await.is_ok(), served);
        assert_eq!(first.is_finished(), served);
    }
}

/// `Pool::timeout_get` (managed/pool.rs) looks for an idle object once, then awaits `Manager::create` itself: what comes back meanwhile
/// is idle, and not for it.
#[tokio::test(start_paused = true)]
async fn waits_for_its_own_dial_beside_an_idle_connection() {
    let manager = Manager::new();
    let create = Some(Duration::from_secs(30));
    let timeouts = Timeouts { create, ..Timeouts::default() };
    let pool: Pool<Manager> =
        Pool::builder(manager.clone()).max_size(2).timeouts(timeouts).runtime(Runtime::Tokio1).build().unwrap();
    manager.set_dial(Answer::Never);
    let (first, ()) = tokio::join!(pool.get(), async {
        sleep(Duration::from_secs(1)).await;
        manager.set_dial(Answer::After(Duration::from_millis(10)));
        drop(pool.get().await.unwrap());
    });
    assert!(matches!(first.err(), Some(PoolError::Timeout(TimeoutType::Create))));
    assert_eq!((manager.dials(), pool.status().size), (2, 1), "for 29 s one was idle");
}
