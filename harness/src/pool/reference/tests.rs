//! The reference pool over the tiny test server, in paused time.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::pool::connector::identify;
use crate::pool::testing::{Door, TestServer, settle, sql};
use crate::pool::{Adapter, Lease, Pool, PoolErrorKind};
use crate::scenario::model::{PoolSettings, Reset};
use crate::trace::What;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn settings(max_size: u32) -> PoolSettings {
    PoolSettings { max_size, acquire_timeout: Some(5 * S), ..PoolSettings::default() }
}

async fn build(server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
    Reference.build(settings, server.connector()).await.unwrap()
}

async fn plant(server: &TestServer, settings: &PoolSettings, plant: Plant) -> Arc<dyn Pool> {
    Planted(plant).build(settings, server.connector()).await.unwrap()
}

/// Polls a future at most `polls` times, then drops it.
async fn cancel_at<F: Future>(future: F, mut polls: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order() {
    let server = TestServer::new();
    let pool = build(&server, &settings(1)).await;
    let lease = pool.acquire().await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in 0..5 {
        let (pool, order) = (Arc::clone(&pool), Arc::clone(&order));
        tokio::spawn(async move {
            let _lease = pool.acquire().await.unwrap();
            order.lock().push(n);
            sleep(MS).await;
        });
    }
    settle().await;
    drop(lease);
    sleep(S).await;
    assert_eq!(*order.lock(), [0, 1, 2, 3, 4]);
    assert_eq!(server.peak(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_not_taken_goes_to_the_next() {
    let server = TestServer::new();
    let pool = build(&server, &settings(1)).await;
    let lease = pool.acquire().await.unwrap();
    let mut first = Box::pin(pool.acquire());
    let mut second = Box::pin(pool.acquire());
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(lease);
    settle().await; // The first waiter has its grant now, and is not polled.
    drop(first);
    assert!(timeout(MS, second).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquire_leaves_its_dial_to_the_next() {
    let server = TestServer::new();
    let pool = build(&server, &settings(1)).await;
    assert!(timeout(MS, pool.acquire()).await.is_err());
    pool.acquire().await.unwrap();
    assert_eq!(server.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_dials_than_waiters() {
    let server = TestServer::new();
    let pool = build(&server, &settings(10)).await;
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                let _lease = pool.acquire().await.unwrap();
                sleep(MS).await;
            })
        })
        .collect();
    for waiter in waiters {
        waiter.await.unwrap();
    }
    assert_eq!(server.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_probed_by_one_dial_at_a_time_and_waiters_are_served_after_it() {
    let server = TestServer::new();
    let pool = build(&server, &settings(4)).await;
    server.set_door(Door::Refused);
    let waiters: Vec<_> = (0..4)
        .map(|_| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.acquire().await.map(|_| ()) })
        })
        .collect();
    sleep(3 * S).await;
    let dials = server.dials();
    assert!((8..=15).contains(&dials), "{dials}");
    server.set_door(Door::Open);
    let up = Instant::now();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert!(up.elapsed() <= Duration::from_millis(450), "{:?}", up.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_tells_why_nothing_could_be_dialled() {
    let server = TestServer::new();
    let pool = build(&server, &settings(4)).await;
    server.set_door(Door::Full);
    let began = Instant::now();
    let error = pool.acquire().await.err().unwrap();
    assert_eq!((error.kind, began.elapsed()), (PoolErrorKind::Timeout, 5 * S));
    assert_eq!(
        error.message,
        "no connection within 5s; the last dial failed: db error: FATAL: sorry, too many clients already"
    );
}

#[tokio::test(start_paused = true)]
async fn hanging_dials_end() {
    for door in [Door::Lost, Door::Silent] {
        let server = TestServer::new();
        let pool = build(&server, &settings(2)).await;
        server.set_door(door);
        assert_eq!(pool.acquire().await.err().unwrap().kind, PoolErrorKind::Timeout);
        server.set_door(Door::Open);
        let _leases = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_idle_connection_leaves_at_once() {
    let server = TestServer::new();
    let pool = build(&server, &settings(2)).await;
    drop(pool.acquire().await.unwrap());
    settle().await;
    assert_eq!(pool.status().unwrap().idle, Some(1));
    server.kill_all();
    settle().await;
    let status = pool.status().unwrap();
    assert_eq!((status.size, status.idle), (Some(0), Some(0)));
    sql(&mut pool.acquire().await.unwrap(), "SELECT 1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_returned_session_is_reset() {
    for (reset_on_return, clean) in [(Reset::Rollback, ('I', true)), (Reset::Discard, ('I', false))] {
        for statements in [&["SET a", "BEGIN"][..], &["SET a", "BEGIN", "FAIL"]] {
            let server = TestServer::new();
            let pool = build(&server, &PoolSettings { reset_on_return, ..settings(1) }).await;
            let mut lease = pool.acquire().await.unwrap();
            for statement in statements {
                let _ = sql(&mut lease, statement).await;
            }
            drop(lease);
            settle().await;
            let backend = server.backends().into_values().next().unwrap();
            assert_eq!((backend.transaction, backend.dirty), clean);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_statement_still_runs_is_not_handed_out() {
    let server = TestServer::new();
    let pool = build(&server, &settings(1)).await;
    let mut lease = pool.acquire().await.unwrap();
    assert!(timeout(10 * MS, sql(&mut lease, "SLEEP 1000")).await.is_err());
    drop(lease);
    let began = Instant::now();
    pool.acquire().await.unwrap();
    assert!(began.elapsed() >= 900 * MS, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_fails_its_check_and_the_acquire_goes_on() {
    let server = TestServer::new();
    let pool = build(&server, &PoolSettings { test_on_acquire: true, ..settings(1) }).await;
    drop(pool.acquire().await.unwrap());
    settle().await;
    server.set_mute(true);
    let mut acquire = pin!(pool.acquire());
    assert!(timeout(S, &mut acquire).await.is_err());
    sleep(10 * MS).await;
    server.set_mute(false);
    let mut lease = acquire.await.unwrap();
    assert_eq!(identify(lease.client()), 102);
    assert_eq!(server.peak(), 2, "the server still has the silent one, the pool gave it up");
}

#[tokio::test(start_paused = true)]
async fn idle_timeout_and_lifetime_are_kept_without_an_acquire() {
    let server = TestServer::new();
    let pool = build(&server, &PoolSettings { idle_timeout: Some(60 * S), ..settings(2) }).await;
    drop(pool.acquire().await.unwrap());
    sleep(59 * S).await;
    assert_eq!(server.count(), 1);
    sleep(2 * S).await;
    assert_eq!(server.count(), 0);
    assert_eq!(pool.status().unwrap().size, Some(0));

    let server = TestServer::new();
    let pool = build(&server, &PoolSettings { max_lifetime: Some(100 * S), min_idle: 4, ..settings(4) }).await;
    settle().await;
    let first: BTreeSet<_> = server.backends().into_keys().collect();
    assert_eq!(first.len(), 4);
    sleep(89 * S).await;
    assert_eq!(server.backends().into_keys().collect::<BTreeSet<_>>(), first);
    sleep(12 * S).await;
    let second: BTreeSet<_> = server.backends().into_keys().collect();
    assert!(second.is_disjoint(&first) && second.len() == 4);
    let closed = server.recorder().events().into_iter().filter(|e| matches!(e.what, What::ConnClosed { .. }));
    let times: BTreeSet<_> = closed.map(|event| event.at).collect();
    assert_eq!(times.len(), 4, "not all at once: {times:?}");
    drop(pool);
}

#[tokio::test(start_paused = true)]
async fn close_ends_waiters_and_dials_and_leaves_nothing() {
    let server = TestServer::new();
    let pool = build(&server, &PoolSettings { idle_timeout: Some(60 * S), min_idle: 1, ..settings(3) }).await;
    let lease = pool.acquire().await.unwrap();
    settle().await;
    server.set_door(Door::Silent);
    let _second = pool.acquire().await.unwrap();
    let waiter = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire().await.err() }
    });
    settle().await;
    let began = Instant::now();
    pool.close().await;
    assert!(began.elapsed() <= 100 * MS, "{:?}", began.elapsed());
    assert_eq!(waiter.await.unwrap().unwrap().kind, PoolErrorKind::Closed);
    assert_eq!(pool.acquire().await.err().unwrap().kind, PoolErrorKind::Closed);
    assert_eq!(server.count(), 2, "leases are left alone");
    drop((lease, _second, pool));
    settle().await;
    assert_eq!((server.count(), tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pool_leaves_nothing() {
    let server = TestServer::new();
    let pool = build(&server, &PoolSettings { max_lifetime: Some(60 * S), min_idle: 2, ..settings(3) }).await;
    let lease = pool.acquire().await.unwrap();
    settle().await;
    drop(pool);
    settle().await;
    assert_eq!(server.count(), 1);
    drop(lease);
    settle().await;
    assert_eq!((server.count(), tasks()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn resize_closes_what_is_beyond_the_bound_and_serves_what_is_within() {
    let server = TestServer::new();
    let pool = build(&server, &settings(1)).await;
    let lease = pool.acquire().await.unwrap();
    let waiter = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.acquire().await }
    });
    settle().await;
    pool.resize(2);
    let second = waiter.await.unwrap().unwrap();
    pool.resize(1);
    assert_eq!(pool.status().unwrap().max_size, Some(1));
    drop(second);
    settle().await;
    assert_eq!(server.count(), 1, "the lease beyond the bound was closed");
    drop(lease);
    settle().await;
    assert_eq!(pool.status().unwrap().idle, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_detached_connection_makes_room() {
    let server = TestServer::new();
    let pool = build(&server, &settings(1)).await;
    let mut detached = pool.acquire().await.unwrap().detach().unwrap();
    let _lease = pool.acquire().await.unwrap();
    detached.client().simple_query("SELECT 1").await.unwrap();
    drop(detached);
    settle().await;
    assert_eq!(server.count(), 1);
}

#[test]
fn the_end_of_the_runtime_ends_the_pool() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (pool, lease) = runtime.block_on(async {
        let server = TestServer::new();
        let pool = build(&server, &PoolSettings { min_idle: 2, ..settings(4) }).await;
        let lease = pool.acquire().await.unwrap();
        server.set_door(Door::Lost);
        (pool, lease)
    });
    drop(runtime);
    drop((lease, pool));
}

/// One thing that a test does.
#[derive(Debug, Clone)]
enum Op {
    Acquire { polls: u32 },
    Release(usize),
    Dirty(usize),
    Stray(usize),
    Kill(usize),
    Door(Door),
    Resize(u32),
    Pass(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let door = prop_oneof![
        4 => Just(Door::Open),
        1 => Just(Door::Refused),
        1 => Just(Door::Lost),
        1 => Just(Door::Silent),
        1 => Just(Door::Full),
    ];
    let op = prop_oneof![
        8 => prop_oneof![1u32..8, Just(u32::MAX)].prop_map(|polls| Op::Acquire { polls }),
        6 => (0usize..8).prop_map(Op::Release),
        2 => (0usize..8).prop_map(Op::Dirty),
        1 => (0usize..8).prop_map(Op::Stray),
        2 => (0usize..8).prop_map(Op::Kill),
        2 => door.prop_map(Op::Door),
        1 => (1u32..5).prop_map(Op::Resize),
        8 => prop_oneof![0u64..5, Just(60u64), Just(700), Just(6_000)].prop_map(Op::Pass),
    ];
    prop::collection::vec(op, 1..60)
}

type Leases = Arc<Mutex<Vec<Box<dyn Lease>>>>;

fn take(leases: &Leases, at: usize) -> Option<Box<dyn Lease>> {
    let mut leases = leases.lock();
    (at < leases.len()).then(|| leases.remove(at))
}

/// Why a lease should not have been handed out.
fn unfit(lease: &mut Box<dyn Lease>, server: &TestServer) -> Option<String> {
    if lease.client().is_closed() {
        return Some("a lease starts on a broken connection".to_owned());
    }
    let pid = identify(lease.client());
    let backend = server.backends().remove(&pid)?;
    (backend.dirty || backend.transaction != 'I').then(|| format!("a lease starts on {backend:?}"))
}

/// Does the operations, then checks that the pool is whole. The error says what is wrong.
async fn play(pool: Arc<dyn Pool>, server: TestServer, mut max_size: u32, ops: Vec<Op>) -> Result<(), String> {
    let leases: Leases = Arc::default();
    let wrong: Arc<Mutex<Option<String>>> = Arc::default();
    for op in ops {
        match op {
            Op::Acquire { polls } => {
                let (pool, leases) = (Arc::clone(&pool), Arc::clone(&leases));
                let (server, wrong) = (server.clone(), Arc::clone(&wrong));
                tokio::spawn(async move {
                    let began = Instant::now();
                    let ended = cancel_at(pool.acquire(), polls).await;
                    if began.elapsed() > 5 * S {
                        *wrong.lock() = Some(format!("an acquire took {:?}", began.elapsed()));
                    }
                    if let Some(Ok(mut lease)) = ended {
                        if let Some(what) = unfit(&mut lease, &server) {
                            *wrong.lock() = Some(what);
                        }
                        leases.lock().push(lease);
                    }
                });
            }
            Op::Release(at) => drop(take(&leases, at)),
            Op::Dirty(at) => {
                if let Some(mut lease) = take(&leases, at) {
                    let _ = sql(&mut lease, "SET a").await;
                    let _ = sql(&mut lease, "BEGIN").await;
                }
            }
            Op::Stray(at) => {
                if let Some(mut lease) = take(&leases, at) {
                    let _ = timeout(MS, sql(&mut lease, "SLEEP 300")).await;
                }
            }
            Op::Kill(at) => {
                if let Some(pid) = server.backends().into_keys().nth(at) {
                    server.kill(pid);
                }
            }
            Op::Door(door) => server.set_door(door),
            Op::Resize(size) => {
                pool.resize(size);
                max_size = size;
            }
            Op::Pass(ms) => sleep(ms as u32 * MS).await,
        }
        let mut leases = leases.lock();
        let pids: BTreeSet<_> = leases.iter_mut().map(|lease| identify(lease.client())).collect();
        if pids.len() != leases.len() {
            return Err("a connection is in two leases".to_owned());
        }
    }
    if let Some(wrong) = wrong.lock().take() {
        return Err(wrong);
    }
    // Healing: everything is returned, the server is well.
    server.set_door(Door::Open);
    leases.lock().clear();
    sleep(10 * S).await;
    leases.lock().clear();
    sleep(S).await;
    let all = async {
        let mut held = Vec::new();
        for _ in 0..max_size {
            held.push(pool.acquire().await.map_err(|error| format!("no full capacity: {error}"))?);
        }
        Ok::<_, String>(held)
    };
    let held = timeout(S, all).await.map_err(|_| "full capacity takes more than a second".to_owned())??;
    if server.count() != max_size as usize {
        return Err(format!("{} backends at full capacity of {max_size}", server.count()));
    }
    let dirty = server.backends().into_values().any(|backend| backend.dirty || backend.transaction != 'I');
    if dirty {
        return Err("a lease starts in a dirty session".to_owned());
    }
    let status = pool.status().ok_or("no status")?;
    if (status.in_use, status.idle, status.size, status.max_size, status.waiting)
        != (Some(max_size), Some(0), Some(max_size), Some(max_size), Some(0))
    {
        return Err(format!("{status:?} at full capacity of {max_size}"));
    }
    let closing = Instant::now();
    timeout(S, pool.close()).await.map_err(|_| "close hangs".to_owned())?;
    drop(held);
    drop(pool);
    sleep(S).await;
    settle().await;
    if server.count() != 0 || tasks() != 0 {
        return Err(format!(
            "{} backends, {} tasks left, {:?} after close",
            server.count(),
            tasks(),
            closing.elapsed()
        ));
    }
    Ok(())
}

/// Connections open and dials under way, from the trace, never beyond the bound.
fn bounded(server: &TestServer, bound: i64) -> Result<(), String> {
    let mut open = 0i64;
    for event in server.events() {
        match event {
            What::Dial { .. } => open += 1,
            What::DialFailed { .. } | What::DialDropped { .. } | What::ConnBroken { .. } | What::ConnClosed { .. } => {
                open -= 1;
            }
            _ => {}
        }
        if open > bound {
            return Err(format!("{open} connections and dials, the bound is {bound}"));
        }
    }
    Ok(())
}

fn run(plant: Option<Plant>, settings: PoolSettings, ops: Vec<Op>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let server = TestServer::new();
        let most = ops.iter().map(|op| if let Op::Resize(size) = op { *size } else { 0 }).max().unwrap_or(0);
        let max_size = settings.max_size;
        let pool = match plant {
            None => build(&server, &settings).await,
            Some(plant) => self::plant(&server, &settings, plant).await,
        };
        play(pool, server.clone(), max_size, ops).await?;
        bounded(&server, i64::from(most.max(max_size)))
    })
}

fn any_settings() -> impl Strategy<Value = PoolSettings> {
    (1u32..4, 0u32..2, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(max_size, min_idle, test_on_acquire, idle, life)| PoolSettings {
            min_idle,
            test_on_acquire,
            idle_timeout: idle.then_some(3 * S),
            max_lifetime: life.then_some(8 * S),
            reset_on_return: Reset::Discard,
            ..settings(max_size)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_pool_is_whole_after_anything(settings in any_settings(), ops in ops()) {
        prop_assert_eq!(run(None, settings, ops), Ok(()));
    }
}

/// The property above can fail: it finds the planted bugs that have no script of their own below.
#[test]
fn the_property_finds_planted_bugs() {
    for plant in Plant::all().filter(|&plant| script_settings(plant).is_none() && plant != Plant::BlockingSleep) {
        let config = ProptestConfig {
            cases: 400,
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(1),
            max_shrink_iters: 0,
            ..ProptestConfig::default()
        };
        let found = TestRunner::new(config).run(&(any_settings(), ops()), |(settings, ops)| {
            prop_assert_eq!(run(Some(plant), settings, ops), Ok(()));
            Ok(())
        });
        assert!(found.is_err(), "{} was not found", plant.name());
    }
}

/// The settings of the script that shows a planted bug, for those that the property can't see. `BlockingSleep` has none:
/// it would block the test for its minute.
fn script_settings(plant: Plant) -> Option<PoolSettings> {
    let one = settings(1);
    Some(match plant {
        Plant::LeaseLostOnPanic
        | Plant::ResetWithoutTimeout
        | Plant::CloseNotWoken
        | Plant::AutocommitOff
        | Plant::DetachKeepsPermit
        | Plant::InvalidatedComesBack
        | Plant::GrantLostOnCancel
        | Plant::NoWakeAfterBroken
        | Plant::LifoWaiters
        | Plant::Churn
        | Plant::NoBackoff
        | Plant::CloseForgetsDials
        | Plant::ResetLeftBehind
        | Plant::SpinInAcquire
        | Plant::GrowsWithoutEnd => one,
        Plant::CheckOutsideTimeout | Plant::CheckTimeoutReturnsConnection | Plant::RequeueAtTheBack => {
            PoolSettings { test_on_acquire: true, ..one }
        }
        Plant::LifetimeFromLastReturn | Plant::ReaperClosesLeased => PoolSettings { max_lifetime: Some(10 * S), ..one },
        Plant::IdleTimeoutReadOnce | Plant::PanicInReaper => PoolSettings { idle_timeout: Some(3 * S), ..one },
        Plant::DialStorm => settings(10),
        Plant::ResetCommits => PoolSettings { reset_on_return: Reset::Rollback, ..one },
        _ => return None,
    })
}

/// Whether the pool does what it should where `plant` would not.
async fn sound(plant: Plant, pool: Arc<dyn Pool>, server: TestServer) -> bool {
    let waiter = |name: char, order: &Arc<Mutex<String>>| {
        let (pool, order) = (Arc::clone(&pool), Arc::clone(order));
        tokio::spawn(async move {
            let lease = pool.acquire().await;
            order.lock().push(name);
            drop(lease);
        })
    };
    let order: Arc<Mutex<String>> = Arc::default();
    match plant {
        Plant::LeaseLostOnPanic => {
            let pool_of_actor = Arc::clone(&pool);
            let actor = tokio::spawn(async move {
                let _lease = pool_of_actor.acquire().await;
                panic!("an actor's own");
            });
            assert!(actor.await.is_err());
            timeout(S, pool.acquire()).await.is_ok()
        }
        Plant::ResetWithoutTimeout => {
            let lease = pool.acquire().await.unwrap();
            server.set_mute(true);
            drop(lease);
            sleep(3 * S).await;
            server.set_mute(false);
            timeout(S, pool.acquire()).await.is_ok()
        }
        Plant::CloseNotWoken => {
            drop(pool.acquire().await.unwrap());
            settle().await;
            timeout(S, pool.close()).await.is_ok()
        }
        Plant::AutocommitOff => {
            drop(pool.acquire().await.unwrap());
            settle().await;
            !server.statements().contains(&"BEGIN".to_owned())
        }
        Plant::InvalidatedComesBack => {
            let mut lease = pool.acquire().await.unwrap();
            let invalidated = identify(lease.client());
            lease.invalidate().await;
            identify(pool.acquire().await.unwrap().client()) != invalidated
        }
        Plant::DetachKeepsPermit => {
            let _detached = pool.acquire().await.unwrap().detach();
            timeout(S, pool.acquire()).await.is_ok()
        }
        Plant::GrantLostOnCancel => {
            let lease = pool.acquire().await.unwrap();
            let mut first = Box::pin(pool.acquire());
            let mut second = Box::pin(pool.acquire());
            assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
            drop(lease);
            settle().await;
            drop(first);
            timeout(S, second).await.is_ok()
        }
        Plant::NoWakeAfterBroken => {
            let _lease = pool.acquire().await.unwrap();
            let waiting = waiter('a', &order);
            settle().await;
            server.kill_all();
            timeout(S, waiting).await.is_ok()
        }
        Plant::CheckOutsideTimeout => {
            drop(pool.acquire().await.unwrap());
            settle().await;
            server.set_mute(true);
            timeout(6 * S, pool.acquire()).await.is_ok()
        }
        Plant::CheckTimeoutReturnsConnection => {
            drop(pool.acquire().await.unwrap());
            settle().await;
            server.set_mute(true);
            assert!(timeout(S, pool.acquire()).await.is_err());
            pool.status().unwrap().idle == Some(0)
        }
        Plant::LifetimeFromLastReturn => {
            let first = identify(pool.acquire().await.unwrap().client());
            for _ in 0..30 {
                sleep(S / 2).await;
                drop(pool.acquire().await.unwrap());
            }
            identify(pool.acquire().await.unwrap().client()) != first
        }
        Plant::ReaperClosesLeased => {
            let mut lease = pool.acquire().await.unwrap();
            sleep(15 * S).await;
            let kept = !lease.client().is_closed();
            drop(lease);
            kept && !pool.acquire().await.unwrap().client().is_closed()
        }
        Plant::IdleTimeoutReadOnce => {
            let first = identify(pool.acquire().await.unwrap().client());
            sleep(10 * S).await;
            identify(pool.acquire().await.unwrap().client()) != first
        }
        Plant::PanicInReaper => {
            for _ in 0..2 {
                drop(pool.acquire().await.unwrap());
                sleep(10 * S).await;
            }
            server.count() == 0
        }
        Plant::LifoWaiters => {
            let lease = pool.acquire().await.unwrap();
            let waiters = ['a', 'b', 'c'].map(|name| waiter(name, &order));
            settle().await;
            drop(lease);
            for waiter in waiters {
                waiter.await.unwrap();
            }
            *order.lock() == "abc"
        }
        Plant::RequeueAtTheBack => {
            drop(pool.acquire().await.unwrap());
            settle().await;
            server.set_mute(true);
            let waiters = ['a', 'b'].map(|name| waiter(name, &order));
            sleep(S).await;
            server.set_mute(false);
            for waiter in waiters {
                waiter.await.unwrap();
            }
            *order.lock() == "ab"
        }
        Plant::DialStorm => {
            server.set_dial_takes(50 * MS);
            let waiting = waiter('a', &order);
            for _ in 0..5 {
                let _ = timeout(MS, pool.acquire()).await;
            }
            waiting.await.unwrap();
            server.dials() <= 2
        }
        Plant::Churn => {
            for _ in 0..5 {
                drop(pool.acquire().await.unwrap());
                settle().await;
            }
            server.dials() == 1
        }
        Plant::NoBackoff => {
            server.set_door(Door::Refused);
            assert!(pool.acquire().await.is_err());
            server.dials() < 30
        }
        Plant::CloseForgetsDials => {
            assert!(timeout(MS, pool.acquire()).await.is_err());
            drop(pool);
            sleep(S).await;
            server.count() == 0
        }
        Plant::ResetLeftBehind => {
            let mut lease = pool.acquire().await.unwrap();
            assert!(timeout(MS, sql(&mut lease, "SLEEP 300")).await.is_err());
            drop(lease);
            drop(pool);
            sleep(S).await;
            server.count() == 0
        }
        Plant::ResetCommits => {
            let mut lease = pool.acquire().await.unwrap();
            sql(&mut lease, "BEGIN").await.unwrap();
            drop(lease);
            settle().await;
            !server.statements().contains(&"COMMIT".to_owned())
        }
        Plant::SpinInAcquire | Plant::GrowsWithoutEnd => cancel_at(pool.acquire(), 30).await.is_some(),
        _ => unreachable!("{} has no script", plant.name()),
    }
}

#[test]
fn each_script_shows_its_planted_bug_and_clears_the_reference_pool() {
    for plant in Plant::all() {
        let Some(settings) = script_settings(plant) else {
            continue;
        };
        for (planted, expected) in [(None, true), (Some(plant), false)] {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let seen = runtime.block_on(async {
                let server = TestServer::new();
                let pool = match planted {
                    None => build(&server, &settings).await,
                    Some(planted) => self::plant(&server, &settings, planted).await,
                };
                sound(plant, pool, server).await
            });
            assert_eq!(seen, expected, "{} on {planted:?}", plant.name());
        }
    }
}

#[test]
fn every_plant_has_its_row_and_every_invariant_a_plant() {
    let plants: BTreeSet<_> = Plant::all().collect();
    assert_eq!(plants.len(), Plant::all().count());
    assert_eq!(plants.last(), Some(&Plant::InvalidatedComesBack), "the last variant has a row");
    assert_eq!(plants.len(), Plant::InvalidatedComesBack as usize + 1, "as all others");
    assert_eq!(Plant::all().map(Plant::name).collect::<BTreeSet<_>>().len(), plants.len());
    let invariants: BTreeSet<_> = Plant::all().map(Plant::violates).collect();
    assert_eq!(invariants.len(), 16, "{invariants:?}");
}
