//! What every adapter does, whichever its pool, and that a pool can do what its adapter claims. Each test runs with every
//! published pool of this build that claims the capability, in virtual time. A pool that needs real time has such tests in its
//! own file.
//!
//! `resize` and `fair` are left to the scenarios: what pools promise of them, and what they do, are findings.

use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::runtime;
use tokio::time::{Instant, sleep, timeout};

use super::connector::identify;
use super::testing::{TestServer, settings, settle, sql};
use super::{Adapter, Lease, Pool, PoolErrorKind, published};
use crate::scenario::model::{Order, PoolSettings, Reset};
use crate::verdict;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs a test with each pool that can do this.
fn with_each(capability: &str, test: impl AsyncFn(&TestServer, &dyn Adapter) + Copy + Send + 'static) {
    for adapter in published().into_iter().filter(|adapter| adapter.needs_real_time().is_none()) {
        if verdict::can(&adapter.capabilities(), capability) == Some(true) {
            let name = adapter.name();
            let run = runtime::run(1, move || async move { test(&TestServer::new(), &*adapter).await });
            run.unwrap_or_else(|failure| panic!("{name}: {failure}"));
        }
    }
}

async fn build(server: &TestServer, adapter: &dyn Adapter, settings: PoolSettings) -> Arc<dyn Pool> {
    let pool = adapter.build(&settings, server.connector()).await.unwrap();
    settle().await;
    pool
}

/// Gives it back, and waits for what the pool does then.
async fn give_back(lease: Box<dyn Lease>) {
    drop(lease);
    settle().await;
}

#[test]
fn a_returned_connection_is_handed_out_again() {
    with_each("max_size", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        let mut lease = pool.acquire().await.unwrap();
        sql(&mut lease, "SELECT 1").await.unwrap();
        let first = identify(lease.client());
        give_back(lease).await;
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(identify(lease.client()), first);
    });
}

#[test]
fn a_dropped_pool_closes_its_connections() {
    with_each("max_size", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        let leases = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert_eq!(server.count(), 2);
        give_back(leases.0).await;
        give_back(leases.1).await;
        drop(pool);
        settle().await;
        assert_eq!(server.count(), 0);
    });
}

#[test]
fn max_size_is_the_bound() {
    with_each("max_size", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        let _held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert!(!matches!(timeout(MINUTE, pool.acquire()).await, Ok(Ok(_))));
        assert_eq!(server.peak(), 2);
    });
}

#[test]
fn an_acquire_times_out_when_all_are_leased() {
    with_each("acquire_timeout", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        let _held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let began = Instant::now();
        let error = pool.acquire().await.err().unwrap();
        assert_eq!(error.kind, PoolErrorKind::Timeout);
        assert!((Duration::from_secs(5)..Duration::from_millis(5005)).contains(&began.elapsed()));
    });
}

#[test]
fn without_a_timeout_an_acquire_waits() {
    with_each("max_size", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { acquire_timeout: None, ..settings() }).await;
        let held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let (waited, ()) = tokio::join!(pool.acquire(), async {
            sleep(24 * HOUR).await;
            drop(held);
        });
        assert!(waited.is_ok());
    });
}

#[test]
fn a_check_before_the_hand_out_needs_an_answer() {
    with_each("test_on_acquire", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { test_on_acquire: true, ..settings() }).await;
        give_back(pool.acquire().await.unwrap()).await;
        server.set_mute(true);
        let silent = *server.backends().keys().next().unwrap();
        if let Ok(Ok(mut lease)) = timeout(MINUTE, pool.acquire()).await {
            assert_ne!(identify(lease.client()), silent);
        }
    });
}

#[test]
fn a_checked_connection_is_not_a_broken_one() {
    with_each("test_on_acquire", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { test_on_acquire: true, ..settings() }).await;
        let mut lease = pool.acquire().await.unwrap();
        let first = identify(lease.client());
        give_back(lease).await;
        server.kill(first);
        settle().await;
        let mut lease = pool.acquire().await.unwrap();
        assert_ne!(identify(lease.client()), first);
        sql(&mut lease, "SELECT 1").await.unwrap();
    });
}

async fn order(server: &TestServer, adapter: &dyn Adapter, order: Order) {
    let pool = build(server, adapter, PoolSettings { order: Some(order), ..settings() }).await;
    let (mut first, mut second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let wanted = match order {
        Order::Fifo => identify(first.client()),
        Order::Lifo => identify(second.client()),
    };
    give_back(first).await;
    give_back(second).await;
    assert_eq!(identify(pool.acquire().await.unwrap().client()), wanted);
}

#[test]
fn fifo_hands_out_the_one_idle_for_longest() {
    with_each("fifo", async |server, adapter| order(server, adapter, Order::Fifo).await);
}

#[test]
fn lifo_hands_out_the_one_returned_last() {
    with_each("lifo", async |server, adapter| order(server, adapter, Order::Lifo).await);
}

#[test]
fn a_rollback_ends_an_open_transaction_before_the_next_hand_out() {
    with_each("reset_rollback", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { reset_on_return: Reset::Rollback, ..settings() }).await;
        let mut lease = pool.acquire().await.unwrap();
        sql(&mut lease, "BEGIN").await.unwrap();
        let first = identify(lease.client());
        give_back(lease).await;
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(identify(lease.client()), first);
        assert_eq!(server.backends()[&first].transaction, 'I');
    });
}

#[test]
fn a_discard_clears_the_session_before_the_next_hand_out() {
    with_each("reset_discard", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { reset_on_return: Reset::Discard, ..settings() }).await;
        let mut lease = pool.acquire().await.unwrap();
        sql(&mut lease, "SET search_path = 'x'").await.unwrap();
        let first = identify(lease.client());
        assert!(server.backends()[&first].dirty);
        give_back(lease).await;
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(identify(lease.client()), first);
        assert!(!server.backends()[&first].dirty);
    });
}

#[test]
fn min_idle_is_dialled_without_an_acquire() {
    with_each("min_idle", async |server, adapter| {
        let _pool = build(server, adapter, PoolSettings { min_idle: 2, ..settings() }).await;
        assert_eq!(server.count(), 2);
    });
}

#[test]
fn what_is_idle_for_too_long_is_closed_without_an_acquire() {
    with_each("idle_timeout", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { idle_timeout: Some(MINUTE), ..settings() }).await;
        give_back(pool.acquire().await.unwrap()).await;
        sleep(HOUR).await;
        assert_eq!(server.count(), 0);
    });
}

#[test]
fn what_is_too_old_is_closed_without_an_acquire() {
    with_each("max_lifetime", async |server, adapter| {
        let pool = build(server, adapter, PoolSettings { max_lifetime: Some(MINUTE), ..settings() }).await;
        give_back(pool.acquire().await.unwrap()).await;
        sleep(HOUR).await;
        assert_eq!(server.count(), 0);
    });
}

#[test]
fn a_closed_pool_refuses_and_has_no_connections() {
    with_each("close", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        give_back(pool.acquire().await.unwrap()).await;
        pool.close().await;
        settle().await;
        assert_eq!(server.count(), 0);
        assert_eq!(pool.acquire().await.err().unwrap().kind, PoolErrorKind::Closed);
    });
}

#[test]
fn an_invalidated_connection_is_closed_and_its_place_is_free() {
    with_each("invalidate", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        let (mut first, _second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        first.client().batch_execute("BEGIN").await.unwrap();
        let pid = identify(first.client());
        first.invalidate().await;
        settle().await;
        assert_eq!(server.count(), 1);
        let mut third = pool.acquire().await.unwrap();
        assert_ne!(identify(third.client()), pid);
        assert_eq!(server.count(), 2);
    });
}

#[test]
fn a_detached_connection_is_no_longer_the_pools() {
    with_each("detach", async |server, adapter| {
        let pool = build(server, adapter, settings()).await;
        let mut detached = pool.acquire().await.unwrap().detach().unwrap();
        detached.client().simple_query("SELECT 1").await.unwrap();
        let _others = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        assert_eq!(server.count(), 3);
        drop(detached);
        settle().await;
        assert_eq!(server.count(), 2);
    });
}
