//! mobc 0.9.0, whose timers are tokio's here (`sim/futures-timer`).

use mobc::{Pool, async_trait};

use super::*;

#[async_trait]
impl mobc::Manager for Manager {
    type Connection = Connection;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Connection> {
        self.dial().await
    }

    async fn check(&self, connection: Connection) -> io::Result<Connection> {
        Manager::check(self, &connection).await?;
        Ok(connection)
    }
}

/// `Pool::set_max_open_conns` (lib.rs) changes the number that `Pool::state` tells. The bound is a semaphore that is made
/// once, in `Pool::new_inner`.
#[tokio::test(start_paused = true)]
async fn a_new_max_open_changes_nothing() {
    let manager = Manager::new();
    let pool = Pool::builder().max_open(2).get_timeout(Some(Duration::from_secs(1))).build(manager.clone());
    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    pool.set_max_open_conns(3).await;
    assert_eq!(pool.state().await.max_open, 3);
    assert!(matches!(pool.get().await.err(), Some(mobc::Error::Timeout)), "no third");
    drop(held);

    pool.set_max_open_conns(1).await;
    let _held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_eq!((pool.state().await.max_open, pool.state().await.in_use), (1, 2), "still two");
}

/// `validate_conn` (lib.rs), called in a get, is the only one to look at ages: the cleaner is started by
/// `Pool::set_conn_max_lifetime` alone, and `max_idle_lifetime` has none.
#[tokio::test(start_paused = true)]
async fn ages_are_looked_at_in_a_get_only() {
    let manager = Manager::new();
    // mobc reads std's clock for ages: real milliseconds pass.
    let age = Some(Duration::from_millis(1));
    let pool = Pool::builder().max_lifetime(age).max_idle_lifetime(age).build(manager.clone());
    drop(pool.get().await.unwrap());
    std::thread::sleep(Duration::from_millis(5));
    sleep(HOUR).await;
    assert_eq!((pool.state().await.idle, manager.dials()), (1, 1), "too old for an hour");
    drop(pool.get().await.unwrap());
    assert_eq!(manager.dials(), 2);
}

/// `get_or_create_conn` (lib.rs) pops a connection and, with `test_on_check_out(false)`, hands it out: `Manager::validate`
/// is asked at the return only, and that of mobc-postgres always says yes.
#[tokio::test(start_paused = true)]
async fn hands_out_what_its_driver_knows_to_be_broken() {
    for (test_on_check_out, broken) in [(false, true), (true, false)] {
        let pool = Pool::builder().test_on_check_out(test_on_check_out).build(Manager::new());
        let first = pool.get().await.unwrap().clone();
        sleep(Duration::from_secs(1)).await;
        first.broken.store(true, Ordering::Relaxed); // While it is idle in the pool.
        assert_eq!(pool.get().await.unwrap().broken.load(Ordering::Relaxed), broken);
    }
}

/// `recycle_conn` (lib.rs) asks `Manager::validate`, whose default is yes; mobc-postgres 0.9.0 leaves it so.
#[tokio::test(start_paused = true)]
async fn keeps_what_came_back_broken() {
    let manager = Manager::new();
    let pool = Pool::builder().test_on_check_out(false).build(manager.clone());
    for _ in 0..100 {
        let lease = pool.get().await.unwrap();
        lease.broken.store(true, Ordering::Relaxed); // While it is used, and from then on.
        drop(lease);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(manager.dials(), 1);
}

/// `Connection::drop` (lib.rs) spawns a task that puts the connection back. A get that comes before that task has run finds
/// nothing idle, has a permit, and dials.
#[tokio::test(start_paused = true)]
async fn dials_while_a_connection_is_on_its_way_back() {
    let manager = Manager::new();
    let pool = Pool::builder().build(manager.clone());
    drop(pool.get().await.unwrap());
    drop(pool.get().await.unwrap());
    assert_eq!(manager.dials(), 2, "never was more than 1 wanted at once");
}

/// `open_new_connection` (lib.rs) is awaited by the get that found nothing idle: what comes back meanwhile is idle, and not for it.
#[tokio::test(start_paused = true)]
async fn waits_for_its_own_dial_beside_an_idle_connection() {
    let manager = Manager::new();
    let pool = Pool::builder().max_open(2).get_timeout(Some(Duration::from_secs(30))).build(manager.clone());
    manager.set_dial(Answer::Never);
    let (first, ()) = tokio::join!(pool.get(), async {
        sleep(Duration::from_secs(1)).await;
        manager.set_dial(Answer::After(Duration::from_millis(10)));
        drop(pool.get().await.unwrap());
    });
    assert!(matches!(first.err(), Some(mobc::Error::Timeout)));
    assert_eq!((manager.dials(), pool.state().await.idle), (2, 1), "for 29 s one was idle");
}
