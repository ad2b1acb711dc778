use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Trac;
use super::connection_pool::Config;
use super::today::Backend;
use crate::pool::connector::identify;
use crate::pool::testing::{Door, TestServer, settle, sql};
use crate::pool::{Adapter, Caller, Lease, Pool, PoolError, PoolErrorKind};
use crate::scenario::model::PoolSettings;

const BOTH: [Trac; 2] = [Trac::Today, Trac::Of2006];

async fn pool(server: &TestServer, which: Trac, max_size: u32) -> Arc<dyn Pool> {
    let settings = PoolSettings { max_size, acquire_timeout: Some(Duration::from_secs(20)), ..PoolSettings::default() };
    which.build(&settings, server.connector()).await.unwrap()
}

async fn take(pool: &Arc<dyn Pool>, thread: u32) -> Result<Box<dyn Lease>, PoolError> {
    Caller(thread).scope(pool.acquire()).await
}

async fn give_back(lease: Box<dyn Lease>, thread: u32) {
    Caller(thread).scope(lease.give_back()).await;
}

#[tokio::test(start_paused = true)]
async fn a_thread_gets_the_connection_that_it_has_until_its_last_return() {
    for which in BOTH {
        let server = TestServer::new();
        let pool = pool(&server, which, 1).await;
        let mut first = take(&pool, 1).await.unwrap();
        sql(&mut first, "BEGIN").await.unwrap();
        let mut second = take(&pool, 1).await.unwrap();
        assert_eq!(identify(first.client()), identify(second.client()), "{which:?}");
        give_back(first, 1).await;
        assert_eq!(server.backends().values().next().unwrap().transaction, 'T', "not the last return: {which:?}");
        give_back(second, 1).await;
        assert_eq!(server.backends().values().next().unwrap().transaction, 'I', "{which:?}");
        assert_eq!(server.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn another_thread_waits_for_the_return() {
    for which in BOTH {
        let server = TestServer::new();
        let pool = pool(&server, which, 1).await;
        let held = take(&pool, 1).await.unwrap();
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { take(&pool, 2).await.map(|mut lease| identify(lease.client())) }
        });
        settle().await;
        give_back(held, 1).await;
        assert_eq!(waiting.await.unwrap().unwrap(), 101, "{which:?}");
        assert_eq!(server.peak(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_without_a_return_ends_in_2006_and_not_today() {
    let server = TestServer::new();
    let old = pool(&server, Trac::Of2006, 1).await;
    let _held = take(&old, 1).await.unwrap();
    let began = Instant::now();
    let error = take(&old, 2).await.err().unwrap();
    assert_eq!(error.message, "Unable to get database connection within 20 seconds");
    assert_eq!((error.kind, began.elapsed()), (PoolErrorKind::Timeout, Duration::from_secs(20)));

    let today = pool(&server, Trac::Today, 1).await;
    let _held = take(&today, 1).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(86_400), take(&today, 2)).await.is_err());
    assert_eq!(today.status().unwrap().waiting, Some(0), "it was cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_lost_one_comes_back_when_it_is_collected() {
    for which in BOTH {
        let server = TestServer::new();
        let pool = pool(&server, which, 1).await;
        let mut lost = take(&pool, 1).await.unwrap();
        sql(&mut lost, "BEGIN").await.unwrap();
        {
            let _the_collector_runs_in = Caller(1).enter();
            drop(lost);
        }
        settle().await;
        assert_eq!(server.backends().values().next().unwrap().transaction, 'I', "{which:?}");
        take(&pool, 2).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn in_2006_a_collector_in_another_thread_returns_nothing() {
    for (which, free) in [(Trac::Today, true), (Trac::Of2006, false)] {
        let server = TestServer::new();
        let pool = pool(&server, which, 1).await;
        let lost = take(&pool, 1).await.unwrap();
        {
            let _the_collector_runs_in = Caller(2).enter();
            drop(lost);
        }
        settle().await;
        let taken = tokio::time::timeout(Duration::from_secs(60), take(&pool, 3)).await;
        assert_eq!(matches!(taken, Ok(Ok(_))), free, "{which:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn today_a_failed_connect_makes_room_and_tells_nobody() {
    let server = TestServer::new();
    let pool = pool(&server, Trac::Today, 1).await;
    server.set_dial_takes(Duration::from_secs(1));
    server.set_door(Door::Refused);
    let dialling = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { take(&pool, 1).await.err() }
    });
    settle().await;
    let waiting = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { take(&pool, 2).await.err() }
    });
    let error = dialling.await.unwrap().unwrap();
    assert_eq!(error.message, "Unable to get database connection within 1 seconds.");
    assert_eq!(error.kind, PoolErrorKind::Connect);
    server.set_door(Door::Open);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!waiting.is_finished(), "nobody woke it, though there has been room for an hour");
}

#[tokio::test(start_paused = true)]
async fn today_another_connection_may_be_opened_while_one_is_rolled_back() {
    let server = TestServer::new();
    let config = Config { max_size: 1, timeout: None, implicit_begin: false, listener: None, flaw: None };
    let backend = Backend::new(server.connector(), config);
    Caller(1).scope(backend.get_cnx()).await.unwrap();
    let rolled_back = backend.begin_return(Caller(1)).unwrap().unwrap();
    let _second = Caller(2).scope(backend.get_cnx()).await.unwrap();
    backend.finish_return(rolled_back, Ok(()));
    assert_eq!(server.count(), 2, "of a pool of one");
}

#[tokio::test(start_paused = true)]
async fn a_dead_one_is_found_by_the_ping_today_and_lent_in_2006() {
    for (which, good) in [(Trac::Today, true), (Trac::Of2006, false)] {
        let server = TestServer::new();
        let pool = pool(&server, which, 1).await;
        let lease = take(&pool, 1).await.unwrap();
        give_back(lease, 1).await;
        server.kill_all();
        settle().await;
        let mut lease = take(&pool, 1).await.unwrap();
        assert_eq!(sql(&mut lease, "SELECT 1").await.is_ok(), good, "{which:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_found_its_connection_dead_is_remembered_at_the_return() {
    for (which, free) in [(Trac::Today, true), (Trac::Of2006, false)] {
        let server = TestServer::new();
        let pool = pool(&server, which, 1).await;
        let mut lease = take(&pool, 1).await.unwrap();
        server.kill_all();
        settle().await;
        let error = sql(&mut lease, "SELECT 1").await.unwrap_err();
        lease.failed(&error);
        give_back(lease, 1).await;
        assert_eq!(take(&pool, 1).await.is_ok(), free, "{which:?}");
    }
}
