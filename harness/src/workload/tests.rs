//! Actors against real pools over the small test server, in paused time: what they do, and what the trace says of it.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use tokio_postgres::Config;

use super::process::{ProcessContext, Processes, WorldHooks};
use super::{PLANNED_PANIC, Probe, Traffic};
use crate::pool::testing::{TestServer, settle};
use crate::pool::{Adapter, Capabilities, Connector, Lease, Pool, PoolError, by_name};
use crate::scenario::model::{
    Action, App, Arrive, Cancel, Expect, Network, OnError, PoolSettings, Processes as Count, Scenario, Server,
    SocketOptions, Step, Workload,
};
use crate::trace::What;
use crate::trace::event::{Acquired, ActorEnd, ActorId, PoolId, ProcessId, SqlResult};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn step(action: Action) -> Step {
    Step { action, cancel: None }
}

fn sql(text: &str) -> Step {
    step(Action::Sql(text.into()))
}

fn hold(time: Duration) -> Step {
    step(Action::Hold { min: time, max: time })
}

fn acquire() -> Step {
    step(Action::Acquire { deadline: None })
}

fn cancelled(action: Action, cancel: Cancel) -> Step {
    Step { action, cancel: Some(cancel) }
}

fn release() -> Step {
    step(Action::Release)
}

fn workload(arrive: Arrive, steps: Vec<Step>) -> Workload {
    Workload {
        app: "web".into(),
        arrive,
        from: Duration::ZERO,
        until: None,
        steps,
        on_error: OnError::Stop,
        finally: Vec::new(),
    }
}

fn once(steps: Vec<Step>) -> Workload {
    workload(Arrive::At(vec![Duration::ZERO]), steps)
}

fn scenario(processes: u32, max_size: u32, workloads: Vec<(&str, Workload)>) -> Scenario {
    let pool = PoolSettings { max_size, ..PoolSettings::default() };
    let processes = Count::Fixed(processes);
    let app = App { processes, collector: None, cooperative: true, user: "app".into(), pool };
    Scenario {
        title: String::new(),
        story: String::new(),
        seeds: vec![1],
        interleave: None,
        server: Server {
            startup_time: Duration::ZERO,
            recovery_time: Duration::ZERO,
            fork_time: Duration::ZERO,
            ..Server::default()
        },
        standby: None,
        network: Network {
            client: SocketOptions { keepalive: None, ..SocketOptions::default() },
            ..Network::default()
        },
        pools: Vec::new(),
        queues: IndexMap::new(),
        apps: IndexMap::from([("web".to_owned(), app)]),
        workloads: workloads.into_iter().map(|(name, workload)| (name.to_owned(), workload)).collect(),
        faults: Vec::new(),
        expect: Expect::ending(Duration::from_secs(60), Duration::from_secs(60)),
    }
}

/// A scenario that runs.
struct Stage {
    server: TestServer,
    processes: Arc<Processes>,
    traffic: Traffic,
    app: App,
    adapter: Arc<dyn Adapter>,
}

impl Stage {
    async fn new(scenario: &Scenario) -> Stage {
        Stage::with(scenario, by_name("bb8").unwrap()).await
    }

    async fn with(scenario: &Scenario, adapter: Arc<dyn Adapter>) -> Stage {
        let server = TestServer::new();
        let processes = Arc::new(Processes::default());
        let app = &scenario.apps["web"];
        for seat in 0..app.processes.fixed() {
            let process = process(&server, &adapter, app, seat).await;
            processes.started(process);
        }
        let traffic =
            Traffic::start(scenario, 1, server.recorder().clone(), Arc::clone(&processes), tokio::time::Instant::now());
        Stage { server, processes, traffic, app: app.clone(), adapter }
    }

    /// A new process in a seat.
    async fn restart(&self, seat: u32) {
        let process = process(&self.server, &self.adapter, &self.app, seat).await;
        self.processes.started(process);
    }

    /// Runs until every actor has arrived (within ten seconds) and ended.
    async fn finish(&self) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        self.traffic.drained().await;
        settle().await;
    }

    /// The events of actors, in words.
    fn story(&self) -> Vec<String> {
        self.server.events().iter().filter_map(words).collect()
    }

    fn ends(&self) -> Vec<ActorEnd> {
        let events = self.server.events();
        let ends = events.into_iter().filter_map(|event| match event {
            What::ActorEnd { end, .. } => Some(end),
            _ => None,
        });
        ends.collect()
    }
}

async fn process(server: &TestServer, adapter: &Arc<dyn Adapter>, app: &App, seat: u32) -> Arc<ProcessContext> {
    let hooks = WorldHooks { session: Box::new(|_| None), unread: Box::new(|_| 0) };
    let recorder = server.recorder().clone();
    let dialer = server.clone();
    let connector_for = move |pool: PoolId| {
        let mut config = Config::new();
        config.user("app").dbname("app");
        Connector::new(config, Arc::new(dialer.clone()), recorder.clone(), pool)
    };
    let id = server.recorder().next_pool();
    let pool = adapter.build(&app.pool, connector_for(id)).await.unwrap();
    ProcessContext::new(
        server.recorder().next_process(),
        "web".into(),
        seat,
        Arc::clone(adapter),
        app,
        Box::new(connector_for),
        Arc::new(hooks),
        (id, pool),
    )
}

fn words(event: &What) -> Option<String> {
    Some(match event {
        What::ActorStart { actor, process, .. } => format!("{} arrives in {}", actor.0, process.0),
        What::ActorEnd { actor, end } => format!("{} {end:?}", actor.0),
        What::AcquireStart { actor, .. } => format!("{} acquires", actor.0),
        What::AcquireEnd { actor, result, .. } => match result {
            Acquired::Lease { conn, .. } => format!("{} has {}", actor.0, conn.0),
            Acquired::Error { kind, .. } => format!("{} gets {}", actor.0, kind.as_str()),
            other => format!("{} gets {other:?}", actor.0),
        },
        What::SqlStart { actor, text, .. } => format!("{} sends {text}", actor.0),
        What::SqlEnd { actor, result, .. } => format!("{} gets {result:?}", actor.0),
        What::Released { actor, conn } => format!("{} releases {}", actor.0, conn.0),
        What::Leaked { actor, conn } => format!("{} leaks {}", actor.0, conn.0),
        What::Detached { actor, conn } => format!("{} detaches {}", actor.0, conn.0),
        What::Invalidated { actor, conn } => format!("{} invalidates {}", actor.0, conn.0),
        What::DetachedDropped { conn } => format!("{} dropped", conn.0),
        What::StepCancelled { actor, step } => format!("{} cancels {step}", actor.0),
        What::PoolBuilt { pool, own, .. } => format!("pool {} built, own {own}", pool.0),
        What::PoolDropped { pool } => format!("pool {} dropped", pool.0),
        What::PoolClosing { pool } => format!("pool {} closing", pool.0),
        What::PoolClosed { pool } => format!("pool {} closed", pool.0),
        What::PoolCloseCancelled { pool } => format!("pool {} close cancelled", pool.0),
        What::PoolResized { pool, max_size } => format!("pool {} resized to {max_size}", pool.0),
        What::PoolStatus { pool, .. } => format!("pool {} status", pool.0),
        _ => return None,
    })
}

#[tokio::test(start_paused = true)]
async fn an_actor_does_its_steps_and_the_trace_has_each() {
    let steps = vec![
        acquire(),
        step(Action::Begin),
        sql("SELECT $actor, $process, $n"),
        hold(ms(5)),
        step(Action::Commit),
        step(Action::Status),
        release(),
    ];
    let stage = Stage::new(&scenario(1, 2, vec![("request", once(steps))])).await;
    stage.finish().await;
    assert_eq!(
        stage.story(),
        [
            "1 arrives in 1",
            "1 acquires",
            "1 has 1",
            "1 sends BEGIN",
            "1 gets Ok",
            "1 sends SELECT 1, 1, 1",
            "1 gets Ok",
            "1 sends COMMIT",
            "1 gets Ok",
            "pool 1 status",
            "1 releases 1",
            "1 Done",
        ]
    );
    assert_eq!(stage.server.statements(), ["BEGIN", "SELECT 1, 1, 1", "COMMIT"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_ends_the_actor_goes_on_or_rolls_back() {
    let steps = || vec![acquire(), step(Action::Begin), sql("FAIL"), sql("LATER"), release()];
    let run = async |on_error| {
        let workload = Workload { on_error, ..once(steps()) };
        let stage = Stage::new(&scenario(1, 1, vec![("request", workload)])).await;
        stage.finish().await;
        (stage.story()[3..].to_vec(), stage.server.statements())
    };
    let failure = ["1 sends BEGIN", "1 gets Ok", "1 sends FAIL", "1 gets Error(\"22012\")"];
    let (story, _) = run(OnError::Stop).await;
    assert_eq!(story, [&failure[..], &["1 releases 1", "1 Failed"]].concat());
    let (story, _) = run(OnError::Continue).await;
    let on = ["1 sends LATER", "1 gets Error(\"25P02\")", "1 releases 1", "1 Done"];
    assert_eq!(story, [&failure[..], &on].concat());
    let (story, statements) = run(OnError::Rollback).await;
    let back = ["1 sends ROLLBACK", "1 gets Ok", "1 releases 1", "1 Failed"];
    assert_eq!(story, [&failure[..], &back].concat());
    assert_eq!(statements.last().unwrap(), "ROLLBACK");
}

#[tokio::test(start_paused = true)]
async fn an_acquire_ends_by_the_pools_timeout_or_the_actors_deadline() {
    let hog = once(vec![acquire(), hold(Duration::from_secs(50))]);
    let patient = workload(Arrive::At(vec![ms(100)]), vec![acquire()]);
    let deadline = Action::Acquire { deadline: Some(ms(250)) };
    let hasty = workload(Arrive::At(vec![ms(100)]), vec![step(deadline)]);
    let stage = Stage::new(&scenario(1, 1, vec![("hog", hog), ("patient", patient), ("hasty", hasty)])).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let at = |wanted: &str| {
        let events = stage.server.recorder().events();
        events.iter().find(|event| words(&event.what).as_deref() == Some(wanted)).unwrap().at
    };
    assert_eq!(at("3 gets Deadline"), ms(350));
    assert!((ms(30_100)..ms(30_105)).contains(&at("2 gets timeout")));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_is_abandoned_drops_what_it_does_and_has() {
    let repeated = vec![step(Action::Abandon { after: ms(30) })];
    let steps = vec![acquire(), step(Action::Repeat { times: 1, steps: repeated }), sql("SLEEP 500"), sql("NEVER")];
    let stage = Stage::new(&scenario(1, 1, vec![("request", once(steps))])).await;
    stage.finish().await;
    assert_eq!(stage.story()[3..], ["1 sends SLEEP 500", "1 gets Cancelled", "1 releases 1", "1 Abandoned"]);
}

#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_with_its_actor_is_cancelled_in_the_trace() {
    let hog = once(vec![acquire(), hold(Duration::from_secs(5)), release()]);
    let steps = vec![step(Action::Abandon { after: ms(30) }), acquire()];
    let waiter = workload(Arrive::At(vec![ms(20)]), steps);
    let stage = Stage::new(&scenario(1, 1, vec![("hog", hog), ("waiter", waiter)])).await;
    stage.finish().await;
    let story = stage.story();
    let place = story.iter().position(|line| line == "2 gets Cancelled").unwrap();
    assert_eq!(story[place + 1], "2 Abandoned");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_actors_end_and_gives_the_lease_back() {
    let workload = workload(Arrive::At(vec![ms(0), ms(50)]), vec![acquire(), step(Action::Panic)]);
    let stage = Stage::new(&scenario(1, 1, vec![("request", workload)])).await;
    stage.finish().await;
    let ends = stage.ends();
    assert_eq!(ends.len(), 2, "the second actor got the connection of the first");
    for end in ends {
        let ActorEnd::Panicked(message) = end else { panic!("{end:?}") };
        assert!(message.starts_with(PLANNED_PANIC), "{message}");
    }
    assert_eq!(stage.story()[2..4], ["1 has 1", "1 releases 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_leaked_lease_stays_open_until_the_process_ends() {
    let stage = Stage::new(&scenario(1, 1, vec![("request", once(vec![acquire(), step(Action::Leak)]))])).await;
    stage.finish().await;
    assert_eq!(stage.story()[2..], ["1 has 1", "1 leaks 1", "1 Done"]);
    assert_eq!(stage.server.count(), 1);
    let process = stage.traffic.abort_process(ProcessId(1)).unwrap();
    assert_eq!(process.leaked(), 1);
    drop((process.take_memory(), process.take_shared_pool()));
    settle().await;
    assert_eq!(stage.server.count(), 0);
}

#[cfg(feature = "deadpool")]
#[tokio::test(start_paused = true)]
async fn a_detached_connection_is_the_actors_own() {
    let steps = vec![acquire(), step(Action::Detach), sql("SELECT 1"), hold(ms(50))];
    let scenario = scenario(1, 1, vec![("request", once(steps))]);
    let stage = Stage::with(&scenario, by_name("deadpool").unwrap()).await;
    stage.finish().await;
    assert_eq!(stage.story()[3..], ["1 detaches 1", "1 sends SELECT 1", "1 gets Ok", "1 dropped", "1 Done"]);
    assert_eq!(stage.server.count(), 0, "closed, not returned");
}

#[tokio::test(start_paused = true)]
async fn an_invalidated_connection_is_closed_and_the_actor_takes_another() {
    let steps = vec![acquire(), sql("BEGIN"), step(Action::Invalidate), acquire(), release()];
    let scenario = scenario(1, 1, vec![("request", once(steps))]);
    let stage = Stage::with(&scenario, by_name("reference").unwrap()).await;
    stage.finish().await;
    let expected = ["1 invalidates 1", "1 acquires", "1 has 2", "1 releases 2", "1 Done"];
    assert_eq!(stage.story()[5..], expected);
    assert_eq!(stage.server.statements(), ["BEGIN"], "nothing was reset");
}

#[tokio::test(start_paused = true)]
async fn a_pool_of_ones_own_goes_with_its_actor() {
    let new = || step(Action::NewPool);
    let steps = vec![new(), acquire(), release(), new(), step(Action::DropPool), acquire(), release(), new()];
    let stage = Stage::new(&scenario(1, 1, vec![("request", once(steps))])).await;
    stage.finish().await;
    let pools: Vec<String> = stage.story().into_iter().filter(|line| line.starts_with("pool")).collect();
    assert_eq!(
        pools,
        [
            "pool 2 built, own true",
            "pool 3 built, own true",
            "pool 2 dropped",
            "pool 3 dropped",
            "pool 4 built, own true",
            "pool 4 dropped",
        ]
    );
    assert_eq!(stage.server.count(), 1, "the shared pool's is left");
}

#[cfg(feature = "deadpool")]
#[tokio::test(start_paused = true)]
async fn closing_and_resizing_are_in_the_trace() {
    let steps = vec![step(Action::Resize(3)), step(Action::ClosePool), acquire()];
    let scenario = scenario(1, 1, vec![("request", once(steps))]);
    assert_eq!(super::needs(&scenario).into_iter().collect::<Vec<_>>(), ["close", "resize"]);
    let stage = Stage::with(&scenario, by_name("deadpool").unwrap()).await;
    stage.finish().await;
    assert_eq!(
        stage.story()[1..],
        ["pool 1 resized to 3", "pool 1 closing", "pool 1 closed", "1 acquires", "1 gets closed", "1 Failed"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_step_is_no_error() {
    let steps =
        vec![acquire(), cancelled(Action::Sql("SLEEP 100".into()), Cancel::After(ms(20))), sql("NEXT"), release()];
    let stage = Stage::new(&scenario(1, 1, vec![("request", once(steps))])).await;
    stage.finish().await;
    assert_eq!(
        stage.story()[3..],
        [
            "1 sends SLEEP 100",
            "1 gets Cancelled",
            "1 cancels sql SLEEP 100",
            "1 sends NEXT",
            "1 gets Ok",
            "1 releases 1",
            "1 Done"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_close_has_its_end_in_the_trace() {
    let close = |cancel| vec![acquire(), release(), Step { action: Action::ClosePool, cancel }];
    let run = async |cancel| {
        let scenario = scenario(1, 1, vec![("request", once(close(cancel)))]);
        let stage = Stage::with(&scenario, by_name("reference").unwrap()).await;
        stage.finish().await;
        stage.story().split_off(4)
    };
    // It waits for the end of the connection, and is polled once more then.
    assert_eq!(run(None).await, ["pool 1 closing", "pool 1 closed", "1 Done"]);
    let cancelled = ["pool 1 closing", "pool 1 close cancelled", "1 cancels close pool", "1 Done"];
    assert_eq!(run(Some(Cancel::AtPoll(2))).await, cancelled);
    // Before its first poll nothing has begun.
    assert_eq!(run(Some(Cancel::AtPoll(1))).await, ["1 cancels close pool", "1 Done"]);
}

#[tokio::test(start_paused = true)]
async fn every_poll_of_an_acquire_is_cancelled_in_turn() {
    let acquire = cancelled(Action::Acquire { deadline: None }, Cancel::EveryPoll);
    let workload = workload(Arrive::Every(ms(100)), vec![acquire, release()]);
    let workload = Workload { until: Some(ms(1700)), ..workload };
    let stage = Stage::new(&scenario(1, 1, vec![("request", workload)])).await;
    stage.finish().await;
    let story = stage.story();
    assert!(!story.contains(&"1 acquires".to_owned()), "instead of its first poll: never called");
    assert!(story.contains(&"2 gets Cancelled".to_owned()), "it dials: polled again, but cancelled");
    assert!(story.contains(&"17 cancels acquire".to_owned()) && !story.contains(&"17 acquires".to_owned()));
    assert_eq!(stage.ends().len(), 17);
}

#[tokio::test(start_paused = true)]
async fn sigkill_drops_actors_at_once_and_releases_nothing() {
    let steps = vec![acquire(), hold(Duration::from_secs(50)), release()];
    let workload = workload(Arrive::At(vec![ms(0); 3]), steps);
    let stage = Stage::new(&scenario(2, 1, vec![("request", workload)])).await;
    tokio::time::sleep(ms(100)).await;
    assert_eq!(stage.traffic.active_actors(), 3, "two have a lease, one waits");
    let before = stage.story().len();
    let dead = stage.traffic.abort_process(ProcessId(1)).unwrap();
    assert_eq!(stage.story()[before..], ["1 Killed", "3 gets Cancelled", "3 Killed"]);
    assert_eq!(stage.traffic.active_actors(), 1);
    assert_eq!(Arc::strong_count(&dead), 1, "nothing of the process is left");
    stage.finish().await;
    assert_eq!(stage.ends().last(), Some(&ActorEnd::Done));
    assert_eq!(stage.traffic.own_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn workers_go_on_one_after_another_and_return_with_their_process() {
    let steps = vec![acquire(), sql("SELECT 1"), hold(ms(10)), release()];
    let workload = workload(Arrive::Workers { count: 2, pause: ms(90) }, steps);
    let stage = Stage::new(&scenario(2, 1, vec![("worker", workload)])).await;
    tokio::time::sleep(ms(450)).await;
    let ended = stage.ends().len();
    assert_eq!(ended, 10, "two workers, five rounds of 10 + 90 ms (the first dials)");
    drop(stage.traffic.abort_process(ProcessId(2)));
    tokio::time::sleep(ms(500)).await;
    assert_eq!(stage.ends().len(), ended + 5, "one worker");
    stage.restart(1).await;
    tokio::time::sleep(ms(500)).await;
    assert_eq!(stage.ends().len(), ended + 15, "two again");
    assert!(stage.story().iter().any(|line| line.ends_with("arrives in 3")));
    stage.traffic.stop_arrivals();
    stage.finish().await;
    assert_eq!(stage.traffic.own_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn workers_that_fail_or_do_nothing_leave_time_to_pass() {
    for steps in [vec![release()], vec![step(Action::Status)], vec![]] {
        let workload = workload(Arrive::Workers { count: 2, pause: Duration::ZERO }, steps);
        let stage = Stage::new(&scenario(1, 1, vec![("worker", workload)])).await;
        tokio::time::sleep(ms(3)).await;
        assert!(stage.ends().len() >= 4);
        stage.traffic.stop_arrivals();
        stage.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn actors_are_spread_over_processes_and_spawned_ones_stay_in_theirs() {
    let spawn = |wait| step(Action::Spawn { workload: "child".into(), wait });
    let child = workload(Arrive::Never, vec![hold(ms(50))]);
    let parent = workload(Arrive::At(vec![ms(0), ms(200)]), vec![spawn(true), spawn(false)]);
    let stage = Stage::new(&scenario(2, 1, vec![("child", child), ("parent", parent)])).await;
    stage.finish().await;
    tokio::time::sleep(ms(500)).await;
    assert_eq!(
        stage.story(),
        [
            "1 arrives in 1",
            "2 arrives in 1",
            "2 Done",
            "3 arrives in 1",
            "1 Done",
            "3 Done",
            "4 arrives in 2",
            "5 arrives in 2",
            "5 Done",
            "6 arrives in 2",
            "4 Done",
            "6 Done",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_actor_without_a_process_is_lost() {
    let workload = workload(Arrive::Every(ms(100)), vec![]);
    let stage = Stage::new(&scenario(1, 1, vec![("request", workload)])).await;
    tokio::time::sleep(ms(250)).await;
    drop(stage.traffic.abort_process(ProcessId(1)));
    tokio::time::sleep(ms(500)).await;
    assert_eq!(stage.ends().len(), 3);
    stage.restart(0).await;
    tokio::time::sleep(ms(100)).await;
    assert_eq!(stage.ends().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_an_actor_draws_depends_on_its_number_alone() {
    let range = step(Action::Hold { min: ms(1), max: ms(1000) });
    let run = async |arrive: Arrive| {
        let stage = Stage::new(&scenario(1, 1, vec![("request", workload(arrive, vec![range.clone()]))])).await;
        stage.finish().await;
        let mut held = std::collections::BTreeMap::<ActorId, Duration>::new();
        for event in stage.server.recorder().events() {
            match event.what {
                What::ActorStart { actor, .. } => drop(held.insert(actor, event.at)),
                What::ActorEnd { actor, .. } => *held.get_mut(&actor).unwrap() = event.at - held[&actor],
                _ => {}
            }
        }
        held
    };
    let together = run(Arrive::At(vec![ms(0); 5])).await;
    let apart = run(Arrive::At((0..5).map(|n| ms(n * 2000)).collect())).await;
    assert_eq!(together, apart);
    assert!(together.values().collect::<std::collections::BTreeSet<_>>().len() > 3);
}

#[tokio::test(start_paused = true)]
async fn a_probe_keeps_its_lease_until_it_is_dropped() {
    let stage = Stage::new(&scenario(1, 1, vec![])).await;
    let process = stage.processes.all().remove(0);
    let (id, pool) = process.shared_pool().unwrap();
    let recorder = stage.server.recorder();
    let mut first = Probe::new(recorder.clone(), Arc::clone(&process));
    let mut second = Probe::new(recorder.clone(), Arc::clone(&process));
    assert!(first.acquire(id, &*pool).await);
    assert!(tokio::time::timeout(ms(100), second.acquire(id, &*pool)).await.is_err());
    drop(second);
    drop(first);
    assert_eq!(
        stage.story()[2..],
        ["1 acquires", "1 has 1", "2 acquires", "2 gets Cancelled", "2 GivenUp", "1 releases 1", "1 Done"]
    );
}

/// A pool that panics in acquire.
struct Hostile;

#[async_trait]
impl Adapter for Hostile {
    fn name(&self) -> &'static str {
        "hostile"
    }
    fn version(&self) -> &'static str {
        "0.0.0"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    async fn build(&self, _: &PoolSettings, _: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        Ok(Arc::new(Hostile))
    }
}

#[async_trait]
impl Pool for Hostile {
    async fn acquire(&self) -> Result<Box<dyn Lease>, PoolError> {
        panic!("lost my mind")
    }
    fn status(&self) -> Option<crate::pool::Status> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_panics_is_told_from_an_actor_that_does() {
    let scenario = scenario(1, 1, vec![("request", once(vec![acquire()]))]);
    let stage = Stage::with(&scenario, Arc::new(Hostile)).await;
    stage.finish().await;
    let story = stage.story();
    assert!(story[2].starts_with("1 gets Panicked(\"lost my mind (harness/src/workload/tests.rs:"), "{story:?}");
    assert_eq!(story[3], "1 Failed");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_told_from_a_refused_statement() {
    let steps = vec![acquire(), hold(ms(50)), sql("SELECT 1"), sql("SELECT 2")];
    let workload = Workload { on_error: OnError::Continue, ..once(steps) };
    let stage = Stage::new(&scenario(1, 1, vec![("request", workload)])).await;
    tokio::time::sleep(ms(20)).await;
    stage.server.kill_all();
    stage.finish().await;
    let results: Vec<SqlResult> = stage
        .server
        .events()
        .into_iter()
        .filter_map(|event| match event {
            What::SqlEnd { result, .. } => Some(result),
            _ => None,
        })
        .collect();
    assert!(matches!(results[..], [SqlResult::Broken(_), SqlResult::Broken(_)]), "{results:?}");
}
