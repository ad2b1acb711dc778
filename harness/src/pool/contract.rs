//! What every adapter's pool does, whatever the pool: each of these tests goes over all that [`published`] names. What
//! is a pool's own is tested beside its adapter.

use std::time::Duration;

use super::connector::identify;
use super::testing::{TestServer, build, settings, settle, sql};
use super::{PoolErrorKind, published};

#[tokio::test(start_paused = true)]
async fn a_returned_connection_is_handed_out_again() {
    for adapter in published() {
        let (name, server) = (adapter.name(), TestServer::new());
        let pool = build(&*adapter, &server, &settings()).await;
        let mut lease = pool.acquire().await.unwrap();
        sql(&mut lease, "SELECT 1").await.unwrap();
        let first = identify(lease.client());
        drop(lease);
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(identify(lease.client()), first, "{name}");
        assert_eq!(server.count(), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_times_out_when_all_are_leased() {
    for adapter in published().into_iter().filter(|adapter| adapter.capabilities().acquire_timeout) {
        let (name, server) = (adapter.name(), TestServer::new());
        let pool = build(&*adapter, &server, &settings()).await;
        let _held = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let began = tokio::time::Instant::now();
        let error = pool.acquire().await.err().unwrap();
        assert_eq!(error.kind, PoolErrorKind::Timeout, "{name}: {error}");
        let took = began.elapsed();
        assert!((Duration::from_secs(5)..Duration::from_millis(5005)).contains(&took), "{name}: {took:?}");
        assert_eq!(server.peak(), 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_replaced() {
    for adapter in published() {
        let (name, server) = (adapter.name(), TestServer::new());
        let pool = build(&*adapter, &server, &settings()).await;
        let mut lease = pool.acquire().await.unwrap();
        let first = identify(lease.client());
        server.kill(first);
        settle().await;
        drop(lease);
        let mut lease = pool.acquire().await.unwrap();
        assert_ne!(identify(lease.client()), first, "{name}");
        sql(&mut lease, "SELECT 1").await.unwrap();
    }
}
