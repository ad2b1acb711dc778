//! What the records of `harness/tests/truth/` can't tell: the settings' names, cancellation, and returns from anywhere.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{PoolClass, SqlAlchemy};
use crate::pool::connector::identify;
use crate::pool::testing::{Door, TestServer, settle, sql};
use crate::pool::{Adapter, Caller, Lease, Pool, PoolErrorKind, Status};
use crate::scenario::model::{PoolSettings, Reset};

fn settings(max_size: u32) -> PoolSettings {
    let acquire_timeout = Some(Duration::from_secs(30));
    PoolSettings { max_size, acquire_timeout, reset_on_return: Reset::Rollback, ..PoolSettings::default() }
}

async fn queue_pool(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
    SqlAlchemy(PoolClass::Queue).build(settings, server.connector()).await.unwrap()
}

fn counters(pool: &Arc<dyn Pool>) -> (u32, u32) {
    let Status { idle, in_use, .. } = pool.status().unwrap();
    (idle.unwrap(), in_use.unwrap())
}

async fn in_transaction(pool: &Arc<dyn Pool>) -> Box<dyn Lease> {
    let mut lease = pool.acquire().await.unwrap();
    sql(&mut lease, "BEGIN").await.unwrap();
    lease
}

#[tokio::test(start_paused = true)]
async fn the_sixteenth_checkout_fails_after_thirty_seconds_with_the_known_words() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &PoolSettings { max_idle: Some(5), ..settings(15) }).await;
    let mut held = Vec::new();
    for _ in 0..15 {
        held.push(pool.acquire().await.unwrap());
    }
    let began = Instant::now();
    let error = pool.acquire().await.err().unwrap();
    let words = "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00";
    assert_eq!((error.kind, error.message.as_str()), (PoolErrorKind::Timeout, words));
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    drop(held);
    settle().await;
    assert_eq!((server.count(), counters(&pool)), (5, (5, 0)), "what is more than pool_size is closed");
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_all_or_some_are_kept() {
    for (max_idle, kept) in [(None, 4), (Some(2), 2)] {
        let server = TestServer::new();
        let unlimited = PoolSettings { max_idle, ..settings(PoolSettings::UNLIMITED) };
        let pool = queue_pool(&server, &unlimited).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(pool.acquire().await.unwrap());
        }
        drop(held);
        settle().await;
        assert_eq!(server.count(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn what_sqlalchemy_has_no_setting_for_is_refused() {
    let server = TestServer::new();
    let none_kept = PoolSettings { max_idle: Some(0), ..settings(2) };
    let discards = PoolSettings { reset_on_return: Reset::Discard, ..settings(2) };
    for settings in [none_kept, discards] {
        let refused = SqlAlchemy(PoolClass::Queue).build(&settings, server.connector()).await;
        assert_eq!(refused.err().unwrap().kind, PoolErrorKind::Other);
    }
}

#[tokio::test(start_paused = true)]
async fn a_return_sends_its_reset_only_inside_a_transaction_and_waits_for_it() {
    for (reset_on_return, sent) in
        [(Reset::Rollback, Some("ROLLBACK")), (Reset::Commit, Some("COMMIT")), (Reset::None, None)]
    {
        let server = TestServer::new();
        let pool = queue_pool(&server, &PoolSettings { reset_on_return, ..settings(1) }).await;
        pool.acquire().await.unwrap().give_back().await;
        assert!(server.statements().is_empty(), "there is nothing to reset");
        in_transaction(&pool).await.give_back().await;
        assert_eq!(server.statements()[1..], Vec::from_iter(sent.map(str::to_owned)));
        assert_eq!(counters(&pool), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_return_that_is_cancelled_goes_on() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &settings(1)).await;
    let lease = in_transaction(&pool).await;
    {
        let mut returning = std::pin::pin!(lease.give_back());
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(returning.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    settle().await;
    assert_eq!(server.statements(), ["BEGIN", "ROLLBACK"]);
    assert_eq!(counters(&pool), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_reset_and_returned_when_it_is_dropped() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &settings(1)).await;
    drop(in_transaction(&pool).await);
    settle().await;
    assert_eq!(server.statements(), ["BEGIN", "ROLLBACK"]);
    assert_eq!(counters(&pool), (1, 0));
}

#[test]
fn outside_of_a_runtime_a_lost_lease_is_given_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let server = TestServer::new();
    let (pool, lease) = runtime.block_on(async {
        let pool = queue_pool(&server, &settings(1)).await;
        let lease = in_transaction(&pool).await;
        (pool, lease)
    });
    drop(lease);
    assert_eq!(counters(&pool), (1, 0), "its record is back, empty");
    runtime.block_on(settle());
    assert_eq!(server.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_returned_in_the_middle_of_a_statement_is_closed() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &settings(1)).await;
    let mut lease = pool.acquire().await.unwrap();
    assert!(timeout(Duration::from_secs(1), sql(&mut lease, "SLEEP 60000")).await.is_err());
    lease.give_back().await;
    assert_eq!(counters(&pool), (1, 0), "its record is back, empty");
    let mut next = timeout(Duration::from_secs(1), pool.acquire()).await.unwrap().unwrap();
    assert_eq!(identify(next.client()), 102);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_checkout_leaves_nothing_behind() {
    let second = Duration::from_secs(1);
    let server = TestServer::new();
    let checked = PoolSettings { test_on_acquire: true, ..settings(1) };
    let pool = queue_pool(&server, &checked).await;
    server.set_door(Door::Silent);
    assert!(timeout(second, pool.acquire()).await.is_err(), "in its dial");
    assert_eq!(counters(&pool), (0, 0));
    server.set_door(Door::Open);
    let held = pool.acquire().await.unwrap();
    assert!(timeout(second, pool.acquire()).await.is_err(), "in the queue");
    held.give_back().await;
    server.set_mute(true);
    assert!(timeout(second, pool.acquire()).await.is_err(), "in its ping");
    assert_eq!(counters(&pool), (1, 0), "its record is back, empty");
    server.set_mute(false);
    pool.acquire().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_statement_invalidates_after_a_disconnect_alone() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &settings(2)).await;
    let (mut first, second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    second.give_back().await;
    let error = sql(&mut first, "FAIL").await.unwrap_err();
    first.failed(&error);
    assert_eq!(counters(&pool), (1, 1), "the statement's own fault");
    server.kill(identify(first.client()));
    settle().await;
    let error = sql(&mut first, "SELECT 1").await.unwrap_err();
    first.failed(&error);
    assert_eq!(counters(&pool), (2, 0), "the checkout has ended");
    assert!(sql(&mut first, "SELECT 1").await.is_err());
    first.give_back().await;
    assert_eq!(counters(&pool), (2, 0));
    let mut next = pool.acquire().await.unwrap();
    assert_eq!(identify(next.client()), 103, "the other one is of the same generation");
}

#[tokio::test(start_paused = true)]
async fn dispose_leaves_what_is_lent_to_the_collector() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &settings(2)).await;
    let (lent, idle) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    idle.give_back().await;
    pool.dispose().await;
    settle().await;
    assert_eq!(server.count(), 1);
    lent.give_back().await;
    settle().await;
    assert_eq!((server.count(), counters(&pool)), (1, (0, 0)), "open, in a pool that nobody has");
    pool.collect();
    settle().await;
    assert_eq!(server.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn detach_and_invalidate_free_the_place() {
    let server = TestServer::new();
    let pool = queue_pool(&server, &settings(1)).await;
    let mut taken = pool.acquire().await.unwrap().detach().unwrap();
    taken.client().batch_execute("SELECT 1").await.unwrap();
    pool.acquire().await.unwrap().invalidate().await;
    settle().await;
    assert_eq!((server.count(), counters(&pool)), (1, (1, 0)));
    drop(taken);
    settle().await;
    assert_eq!(server.count(), 0);
}

async fn pool_of(server: &TestServer, class: PoolClass) -> Arc<dyn Pool> {
    SqlAlchemy(class).build(&settings(1), server.connector()).await.unwrap()
}

/// A lease with a statement of five seconds under way, in a transaction.
fn works(mut lease: Box<dyn Lease>) -> tokio::task::JoinHandle<(Box<dyn Lease>, bool)> {
    tokio::spawn(async move {
        sql(&mut lease, "BEGIN").await.unwrap();
        let answered = sql(&mut lease, "SLEEP 5000").await.is_ok();
        (lease, answered)
    })
}

#[tokio::test(start_paused = true)]
async fn room_for_another_thread_is_made_when_the_statement_of_the_first_has_ended() {
    let server = TestServer::new();
    let pool = pool_of(&server, PoolClass::SingletonThread).await;
    let working = works(Caller(1).scope(pool.acquire()).await.unwrap());
    settle().await;
    let began = Instant::now();
    let mut second = Caller(2).scope(pool.acquire()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 4, "what is left of five");
    let (mut first, answered) = working.await.unwrap();
    assert!(answered);
    assert!(sql(&mut first, "SELECT 1").await.is_err(), "closed");
    sql(&mut second, "SELECT 1").await.unwrap();
    assert_eq!(server.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_to_close_what_another_uses_can_be_cancelled() {
    let server = TestServer::new();
    let pool = pool_of(&server, PoolClass::SingletonThread).await;
    let working = works(Caller(1).scope(pool.acquire()).await.unwrap());
    settle().await;
    assert!(timeout(Duration::from_secs(1), Caller(2).scope(pool.acquire())).await.is_err());
    assert!(working.await.unwrap().1);
    settle().await;
    assert_eq!(server.count(), 0, "both are closed");
}

#[tokio::test(start_paused = true)]
async fn a_return_of_a_shared_connection_waits_for_the_other_users_statement() {
    for ends in ["release", "invalidate", "dispose"] {
        let server = TestServer::new();
        let pool = pool_of(&server, PoolClass::Static).await;
        let (first, second) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let working = works(first);
        settle().await;
        let began = Instant::now();
        match ends {
            "release" => second.give_back().await,
            "invalidate" => second.invalidate().await,
            _ => pool.dispose().await,
        }
        assert_eq!(began.elapsed().as_secs(), 4, "{ends}");
        let (mut first, answered) = working.await.unwrap();
        assert!(answered, "{ends}");
        assert_eq!(sql(&mut first, "SELECT 1").await.is_ok(), ends == "release", "{ends}");
        let last = server.statements().pop().unwrap();
        assert_eq!(last, if ends == "release" { "SELECT 1" } else { "SLEEP 5000" });
        assert_eq!(server.statements().contains(&"ROLLBACK".to_owned()), ends == "release");
    }
}
