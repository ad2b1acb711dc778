//! bb8 0.9.1. It reads `std::time::Instant`, which tokio's paused clock does not move: where its reaper is looked at, real
//! milliseconds pass.

use bb8::{ManageConnection, Pool, RunError};

use super::*;

impl ManageConnection for Manager {
    type Connection = Connection;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<Connection> {
        self.dial().await
    }

    async fn is_valid(&self, connection: &mut Connection) -> io::Result<()> {
        self.check(connection).await
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken.load(Ordering::Relaxed)
    }
}

/// `PoolInner::get` (inner.rs) returns what `Getting::get` (internals.rs) popped; `has_broken` is asked in
/// `PoolInner::put_back` only.
#[tokio::test(start_paused = true)]
async fn hands_out_what_its_driver_knows_to_be_broken() {
    for (test_on_check_out, broken) in [(false, true), (true, false)] {
        let pool = Pool::builder().test_on_check_out(test_on_check_out).build(Manager::new()).await.unwrap();
        let first = pool.get().await.unwrap().clone();
        first.broken.store(true, Ordering::Relaxed); // While it is idle in the pool.
        assert_eq!(pool.get().await.unwrap().broken.load(Ordering::Relaxed), broken);
    }
}

/// `PoolInner::get` (inner.rs) calls `record_get_started` before it waits and `record_get` after; a future dropped
/// between the two is counted once. `Statistics::pending_gets` (api.rs) is their difference.
#[tokio::test(start_paused = true)]
async fn counts_a_cancelled_get_as_pending_for_ever() {
    let pool = Pool::builder().max_size(1).build(Manager::new()).await.unwrap();
    let held = pool.get().await.unwrap();
    for _ in 0..3 {
        assert!(timeout(Duration::from_millis(1), pool.get()).await.is_err());
    }
    drop(held);
    drop(pool.get().await.unwrap());
    sleep(HOUR).await;
    assert_eq!(pool.state().statistics.pending_gets(), 3, "nobody waits");
}

/// `PoolInner::add_connection` (inner.rs) awaits `connect` without a timeout, in a task that outlives the `get`; its
/// approval stays in `pending_conns` (`PoolInternals::approvals`, internals.rs) and fills `max_size`.
#[tokio::test(start_paused = true)]
async fn a_hung_dial_takes_a_place_for_ever() {
    let manager = Manager::new();
    let pool =
        Pool::builder().max_size(2).connection_timeout(Duration::from_secs(5)).build(manager.clone()).await.unwrap();
    manager.set_dial(Answer::Never);
    let (first, second) = tokio::join!(pool.get(), pool.get());
    assert!(matches!((first.err(), second.err()), (Some(RunError::TimedOut), Some(RunError::TimedOut))));
    manager.set_dial(Answer::After(Duration::from_millis(10)));
    for _ in 0..3 {
        sleep(HOUR).await;
        assert!(matches!(pool.get().await.err(), Some(RunError::TimedOut)));
    }
    assert_eq!(manager.dials(), 2);
    assert_eq!(pool.state().connections, 0);
    // Nor does it end with its pool.
    drop(pool);
    sleep(HOUR).await;
    assert!(Arc::strong_count(&manager.0) > 1, "a task has the pool's manager");
}

/// `PoolInner::add_connection` (inner.rs) holds the pool while it tries again.
#[tokio::test(start_paused = true)]
async fn dials_on_after_it_was_dropped() {
    let manager = Manager::new();
    let pool =
        Pool::builder().max_size(1).connection_timeout(Duration::from_secs(5)).build(manager.clone()).await.unwrap();
    manager.set_dial(Answer::Refused);
    assert!(timeout(Duration::from_millis(100), pool.get()).await.is_err());
    drop(pool);
    let dials = manager.dials();
    sleep(Duration::from_secs(10)).await;
    // After pauses of 0.4, 0.8, 1.6, 2.5 and 2.5 s.
    assert_eq!(manager.dials() - dials, 5);
}

/// `PoolInner::add_connection` (inner.rs) sleeps between failed dials, twice as long each time up to half of
/// `connection_timeout`; nothing wakes it when another dial succeeds or somebody asks again, and the sleeper keeps
/// its approval, so that nobody dials in its stead.
#[tokio::test(start_paused = true)]
async fn sleeps_on_after_the_server_is_back() {
    let manager = Manager::new();
    let pool =
        Pool::builder().max_size(2).connection_timeout(Duration::from_secs(10)).build(manager.clone()).await.unwrap();
    manager.set_dial(Answer::Refused);
    let began = Instant::now();
    let get = async |after| {
        sleep(Duration::from_millis(after)).await;
        let lease = pool.get().await.unwrap();
        (began.elapsed().as_millis() / 100, lease)
    };
    let (first, second, ()) = tokio::join!(get(0), get(500), async {
        sleep(Duration::from_secs(3)).await;
        manager.set_dial(Answer::After(Duration::from_millis(10)));
    });
    // One dials after 0, 0.4, 1.2, 2.8 and 6.0 s, the other after 0.5, 0.9, 1.7, 3.3 s.
    assert_eq!((first.0, second.0), (33, 60));
    assert_eq!(manager.dials(), 9);
}

/// `Getting::get` (internals.rs) approves a dial while `in_flight > pending_conns`, and a `get` that is testing its
/// connection is in flight as well. A `Notify` permit that nobody waited for (`PoolInternals::put`) sends the next
/// `get` through it twice.
#[tokio::test(start_paused = true)]
async fn dials_for_those_who_have_a_connection() {
    let manager = Manager::new();
    let pool = Pool::builder().build(manager.clone()).await.unwrap();
    drop(pool.get().await.unwrap());
    let (first, second) = tokio::join!(pool.get(), pool.get());
    assert!(first.is_ok() && second.is_ok());
    sleep(HOUR).await;
    assert_eq!((manager.dials(), pool.state().connections), (3, 3), "never were more than 2 wanted at once");
}

/// `PoolInner::get` (inner.rs): when the timeout drops the future in `is_valid`, `PooledConnection::drop` (api.rs)
/// puts the connection back in the state `Present`. `put_back` keeps what has not yet told that it is broken.
#[tokio::test(start_paused = true)]
async fn keeps_a_connection_whose_check_was_never_answered() {
    let manager = Manager::new();
    let pool = Pool::builder().connection_timeout(Duration::from_secs(3)).build(manager.clone()).await.unwrap();
    drop(pool.get().await.unwrap());
    manager.set_check(Answer::Never);
    for _ in 0..10 {
        assert!(matches!(pool.get().await.err(), Some(RunError::TimedOut)));
        assert_eq!(pool.state().idle_connections, 1, "the next caller gets it again");
    }
    assert_eq!(manager.dials(), 1, "there is room for nine more");
}

/// `PoolInternals::reap` (internals.rs) closes what is idle for too long, then dials up to `min_idle` anew, though
/// `Builder::idle_timeout` (api.rs) says "idle connections in excess of `min_idle`".
#[tokio::test(start_paused = true)]
async fn idle_timeout_does_not_spare_min_idle() {
    let manager = Manager::new();
    let idle = Duration::from_millis(1);
    let pool = Pool::builder().min_idle(1).idle_timeout(idle).build(manager.clone()).await.unwrap();
    std::thread::sleep(2 * idle);
    sleep(Duration::from_secs(31)).await;
    assert_eq!(pool.state().statistics.connections_closed_idle_timeout, 1);
    assert_eq!((manager.dials(), pool.state().idle_connections), (2, 1));
}

/// `PoolInternals::put` (internals.rs) makes the connection idle and wakes the first of those that wait;
/// `Getting::get` gives it to whoever asks first. Who has just returned one asks before the woken one is polled, and that one
/// waits again, behind all others (`PoolInner::get`, inner.rs).
#[tokio::test(start_paused = true)]
async fn serves_who_comes_back_before_who_waits() {
    let pool = Pool::builder().max_size(1).build(Manager::new()).await.unwrap();
    let hog = tokio::spawn({
        let pool = pool.clone();
        async move {
            for _ in 0..10_000 {
                let lease = pool.get().await.unwrap();
                sleep(Duration::from_millis(20)).await;
                drop(lease);
            }
        }
    });
    sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    assert!(matches!(pool.get().await.err(), Some(RunError::TimedOut)));
    assert_eq!(began.elapsed(), Duration::from_secs(30), "the connection came back 1 000 times meanwhile");
    assert!(!hog.is_finished());
}
