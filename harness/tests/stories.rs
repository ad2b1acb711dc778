//! The seed stories as poolproof tells them, against what the real libraries did: each scenario of `scenarios/seeds` that
//! has a counterpart is run, and what it measured is compared with the observations of `truth/stories`, which `ci/truth`
//! records on a real server with the real SQLAlchemy, Celery, gevent and Trac.
//!
//! Times are compared where the story is about them and as they were recorded (scaled ones as their unscaled originals);
//! counts and texts exactly.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use poolproof::pool::Adapter;
use poolproof::run::{self, RunSpec};
use poolproof::scenario::model::Scenario;
use poolproof::trace::Figures;
use poolproof::{pool, scenario};
use serde_json::{Value, json};

/// A part of a recorded story.
fn recorded(story: &str, path: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/truth/stories/{story}.json"));
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let found = whole.pointer(&format!("/parts/{path}"));
    found.unwrap_or_else(|| panic!("{story} has no {path}")).clone()
}

fn scenario_of(name: &str) -> Arc<Scenario> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../scenarios/seeds/{name}.toml"));
    Arc::new(scenario::parse(name, &std::fs::read_to_string(path).unwrap()).unwrap())
}

/// The pool that it names first.
fn adapter_of(name: &str) -> Arc<dyn Adapter> {
    pool::by_name(&scenario_of(name).pools[0]).unwrap()
}

/// What a run of a story's scenario measured, with the pool that it names first.
fn told(name: &str) -> Figures {
    let told = run::run(&RunSpec { scenario: scenario_of(name), adapter: adapter_of(name), seed: 1 }, None);
    assert_eq!(told.bug, None);
    told.report.figures
}

/// The events of a run's full trace that are of this kind.
fn events(name: &str, kind: &str) -> Vec<Value> {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let out = Box::new(trace.reopen().unwrap());
    let told = run::run(&RunSpec { scenario: scenario_of(name), adapter: adapter_of(name), seed: 1 }, Some(out));
    assert_eq!(told.bug, None);
    let lines = std::fs::read_to_string(trace.path()).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

/// How often a text was told, the class of the recorded error left away.
fn says(figures: &Figures, recorded: &Value) -> u64 {
    let text = recorded.as_str().unwrap();
    let text = text.split_once(": ").map_or(text, |(_, text)| text).replace("FATAL:  ", "");
    // The driver's own words around the original error differ; up to there it is SQLAlchemy's text.
    let text = text.split("(psycopg2").next().unwrap();
    figures.texts.with(text.trim_end()).map_or(0, |seen| seen.count)
}

fn figure(figures: &Figures, name: &str) -> u64 {
    let value = figures.get(name).unwrap_or_else(|| panic!("there is no figure {name}"));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let whole = value as u64;
    whole
}

fn seconds(figures: &Figures, workload: &str) -> u64 {
    figures.pace.took(workload).unwrap().as_secs()
}

#[test]
fn fifteen_leases_and_then_the_limit() {
    let figures = told("scheduler_leases_leaked");
    let real = |part: &str| recorded("scheduler", &format!("leases_never_returned/{part}"));
    assert_eq!(figure(&figures, "acquires"), real("succeeded"));
    assert_eq!(figure(&figures, "peak_in_transaction"), real("backends/idle in transaction"));
    assert!(says(&figures, &real("error")) > 0);
    let text = "QueuePool limit of size 5 overflow 10 reached";
    let first = figures.texts.with(text).unwrap().first;
    // The sixteenth check comes fifteen times five seconds after the first.
    assert_eq!(first - Duration::from_secs(75), Duration::from_secs(real("waited_s").as_u64().unwrap()));
    let sixteenth = figure(&figures, "acquires") + 1;
    assert_eq!(sixteenth, real("first_failure"));
    assert_eq!(figure(&figures, "done_a_minute.last"), real("completed_per_minute/2"));
}

#[test]
fn the_longer_it_runs_the_fewer_tasks_are_done_until_none_is() {
    let figures = told("scheduler_slows_down");
    let real = |part: &str| recorded("scheduler", &format!("some_leases_never_returned/{part}"));
    let done: Vec<u64> = real("completed_per_minute").as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert!(done.is_sorted_by(|before, after| before >= after) && done[0] > 0, "{done:?}");
    assert!(figure(&figures, "done_a_minute.first") > 0);
    assert_eq!(figure(&figures, "done_a_minute.last"), *done.last().unwrap());
    assert_eq!(figure(&figures, "peak_in_use"), real("backends"));
    // The record's timeout is scaled.
    let text =
        real("last_failure_is").as_str().unwrap().split_once(": ").unwrap().1.replace("timeout 0.05", "timeout 30.00");
    assert!(figures.texts.with(&text).is_some(), "{text}");
    assert!(figure(&told("scheduler_slows_down_cured"), "done_a_minute.least") > 0);
}

#[test]
fn the_collector_alone_closes_engines_late_and_some_at_a_time() {
    let real = |part: &str| recorded("scheduler", &format!("collector_alone/{part}"));
    assert_eq!(real("without_a_collection"), json!([[1, 1], [5, 5], [10, 10]]), "a connection a task");
    assert_eq!(real("after_a_collection"), 0);
    let tasks = figure(&told("scheduler_collector_alone"), "actors");
    let found: Vec<u64> =
        events("scheduler_collector_alone", "collected").iter().map(|event| event["pools"].as_u64().unwrap()).collect();
    assert_eq!(found.iter().any(|&pools| pools > 1), real("thresholds_700_10_10/more_than_one_at_a_time"));
    assert_eq!(found.contains(&tasks), real("thresholds_700_10_10/all_forty_at_a_time"));
}

#[test]
fn an_engine_a_task_takes_the_servers_slots_and_no_pools_limit() {
    let figures = told("scheduler_engine_per_task");
    let real = |part: &str| recorded("scheduler", &format!("an_engine_a_task/{part}"));
    assert_eq!(figure(&figures, "acquires") + 1, real("first_failure"));
    assert!(says(&figures, &real("error")) > 0);
    assert_eq!(figures.texts.with("QueuePool limit").is_none(), real("no_pool_is_exhausted"));
    assert_eq!(figure(&figures, "done_a_minute.last"), real("completed_per_minute/2"));
}

#[test]
fn dispose_at_the_end_leaves_nothing() {
    let figures = told("scheduler_engine_disposed");
    assert_eq!(figures.errors.len(), 0);
    assert_eq!(recorded("scheduler", "dispose_at_the_end/backends_at_the_end"), json!(0));
    assert_eq!(figure(&figures, "done_a_minute.first"), figure(&figures, "done_a_minute.last"));
}

#[test]
fn what_is_lent_at_a_dispose_stays_open_until_a_collection() {
    let figures = told("scheduler_dispose_while_lent");
    let stages = recorded("scheduler", "dispose_with_one_lent/backends");
    assert_eq!(stages[2], json!(["after its return", { "idle": 1 }]));
    assert_eq!(stages[3], json!(["after its last reference", { "idle": 1 }]));
    // One connection a task stays, until the server has no slot for another.
    assert_eq!(figure(&figures, "acquires"), 17);
    assert!(figures.texts.with("remaining connection slots are reserved").is_some());
}

#[test]
fn dispose_between_tasks_hides_the_limit_and_not_the_connections() {
    let figures = told("scheduler_dispose_hides_the_leak");
    let lent = recorded("scheduler", "dispose_shared_by_tasks/backends/idle in transaction").as_u64().unwrap();
    let limit = recorded("scheduler", "dispose_shared_by_tasks/limit").as_u64().unwrap();
    assert!(lent > limit, "the real pool lends more than its limit, too");
    assert!(figure(&figures, "peak_in_transaction") > 15);
    assert!(figures.texts.with("QueuePool limit").is_none());
    let real = |part: &str| recorded("scheduler", &format!("dispose_hides_the_leak/{part}"));
    assert_eq!(figure(&figures, "acquires"), real("completed"));
    assert_eq!(figure(&figures, "peak_in_transaction"), real("backends/idle in transaction"));
    assert!(says(&figures, &real("error")) > 0);
}

#[test]
fn after_a_restart_one_task_fails_without_pre_ping_and_none_with_it() {
    let failed = |part: &str| {
        let tasks = recorded("scheduler", &format!("restart_after_a_restore/{part}"));
        tasks.as_array().unwrap().iter().filter(|task| task.is_string()).count() as u64
    };
    assert_eq!(figure(&told("scheduler_restore"), "errors.broken"), failed("without_pre_ping_in_turn"));
    assert_eq!(figure(&told("scheduler_restore_cured"), "errors"), failed("with_pre_ping_in_turn"));
}

#[test]
fn threads_that_come_late_find_no_connection_unless_sessions_are_removed() {
    let figures = told("celery_no_remove");
    let real = |part: &str| recorded("celery", part);
    assert_eq!(figure(&figures, "peak_in_transaction"), real("without_remove/backends/idle in transaction"));
    // The record's timeout is scaled.
    let first = real("without_remove/first_round");
    let failed = first.as_object().unwrap().keys().find(|key| key.contains("QueuePool")).unwrap();
    let text = failed.split_once(": ").unwrap().1.replace("timeout 0.50", "timeout 30.00");
    assert!(figures.texts.with(&text).is_some(), "{text}");
    let removed = told("celery_after_return");
    assert_eq!(real("with_remove/first_round"), json!({ "100": 24 }));
    assert_eq!(figure(&removed, "errors"), 0);
    assert_eq!(real("with_remove/lent"), json!(0));
}

#[test]
fn a_failed_flush_is_rolled_back_and_its_session_refuses_work_without_asking() {
    let figures = told("celery_failed_flush");
    let real = |part: &str| recorded("celery", &format!("failed_flush_without_remove/{part}"));
    assert_eq!(figure(&figures, "errors.PendingRollbackError"), says(&figures, &real("next_task")));
    assert!(figure(&figures, "errors.PendingRollbackError") > 1);
    assert_eq!(real("the_next_task_sent_anything"), json!(false));
    let removed = told("celery_failed_flush_cured");
    assert_eq!(figure(&removed, "errors.PendingRollbackError"), 0);
    assert_eq!(recorded("celery", "failed_flush_with_remove/next_task"), json!(100));
}

#[test]
fn a_task_published_before_the_commit_finds_nothing() {
    let figures = told("celery_published_before_commit");
    assert_eq!(says(&figures, &recorded("celery", "published_before_commit/found")), 10);
    assert_eq!(figure(&told("celery_publish_after_commit"), "errors"), 0);
    assert_eq!(recorded("celery", "published_after_commit/attempts"), json!(1));
    let retried = told("celery_retry");
    assert_eq!(figure(&retried, "jobs_done"), 10);
    assert!(recorded("celery", "retried/attempts").as_u64().unwrap() > 1);
    let given_up = told("celery_retried_too_often");
    let real = recorded("celery", "retried_too_often");
    assert_eq!(scenario_of("celery_retried_too_often").queues["celery"].max_retries, real["max_retries"]);
    assert_eq!(says(&given_up, &real["failed"]), 10 * real["attempts"].as_u64().unwrap());
    assert_eq!(figure(&given_up, "jobs_done"), 0);
}

#[test]
fn an_object_is_what_it_was_when_it_was_passed_and_an_id_finds_what_is() {
    let real = recorded("celery", "object_passed");
    assert_eq!((&real["the_object"], &real["by_id"]), (&json!(100), &json!(7)), "before and after the change");
    assert_eq!(figure(&told("celery_stale_object"), "errors.NoResultFound"), 10, "nobody is called so any more");
    assert_eq!(figure(&told("celery_fresh_object"), "jobs_done"), 10);
}

#[test]
fn the_published_figures_come_out_of_one_vector() {
    let figures = told("query_pool");
    let real = recorded("query_pool", "figures");
    assert_eq!(real["durations"], json!([1, 3, 8, 2, 4, 6]), "those of the scenario");
    for (workload, key) in
        [("serial_run", "serial"), ("two_run", "2 workers"), ("three_run", "3 workers"), ("five_run", "5 workers")]
    {
        assert_eq!(seconds(&figures, workload), real[key], "{key}");
    }
    assert_eq!(seconds(&told("query_pool_blocking"), "five_run"), recorded("query_pool", "not_cooperative/5 workers"));
}

#[test]
fn queries_that_nobody_closes_use_up_the_pool() {
    let figures = told("query_pool_no_close");
    let real = recorded("query_pool", "missing_close/after_eighteen");
    assert_eq!(figure(&figures, "peak_in_use"), real["lent"]);
    assert_eq!(figure(&figures, "errors.timeout") as usize, real["failed"].as_array().unwrap().len());
}

#[test]
fn a_failed_query_is_marked_as_done_and_a_killed_workers_is_not() {
    let failed = told("query_pool_exception");
    assert_eq!(
        figure(&failed, "jobs_done") as usize,
        recorded("query_pool", "exception_in_a_query/results").as_array().unwrap().len()
    );
    let killed = told("query_pool_killed");
    let unfinished = figure(&killed, "jobs") - figure(&killed, "jobs_done");
    assert_eq!(unfinished, recorded("query_pool", "worker_killed/unfinished"));
}

#[test]
fn more_workers_than_connections_fail() {
    let figures = told("query_pool_more_workers");
    let real = recorded("query_pool", "more_workers_than_connections");
    assert_eq!(figure(&figures, "jobs_done"), real["results"]);
    assert_eq!(figure(&figures, "errors.timeout") as usize, real["failed"].as_array().unwrap().len());
}

#[test]
fn hung_timelines_have_a_backend_each_and_take_all_slots() {
    let figures = told("drproject_timeline");
    let real = recorded("drproject", "slots_exhausted");
    let wiki = real["wiki_with_all_slots_taken"].as_str().unwrap();
    let slots = "remaining connection slots are reserved for non-replication superuser connections";
    assert!(wiki.ends_with(slots) && figures.texts.with(slots).is_some());
    // As many hung processes as slots, with one backend each: 9 here, 17 there.
    assert_eq!(real["hung_requests"], real["backends"]["idle in transaction"]);
    assert_eq!(figure(&figures, "peak_in_transaction"), 9);
    let hung = recorded("drproject", "deadlock_in_the_collector/a_hung_one");
    assert_eq!(hung, json!({ "process_is_alive": true, "backends": { "idle in transaction": 1 } }));
    let collected = recorded("drproject", "deadlock_in_the_collector/of_these_with_a_collection_before_each_subsystem");
    assert_eq!(figure(&told("drproject_timeline_collected"), "errors"), collected);
}

#[test]
fn a_terminated_backend_frees_its_slot_and_a_killed_process_all_of_it() {
    let real = recorded("drproject", "slots_exhausted");
    let hung = real["hung_requests"].as_u64().unwrap();
    assert_eq!(real["after_terminating_a_backend"]["idle in transaction"], hung - 1);
    assert_eq!((&real["processes_then"], &real["wiki_then"]), (&json!(hung), &json!("served")));
    assert_eq!((&real["after_killing_the_processes"], &real["wiki_at_last"]), (&json!({}), &json!("served")));
    // 4200 s: a backend is terminated. 4815 s: all processes are killed.
    let (acquires, ends) = (events("drproject_timeline", "acquire_end"), events("drproject_timeline", "actor_end"));
    let between = |from: f64, to: f64, events: &[Value], result: &str| {
        let at = |event: &Value| event["at"].as_str().unwrap().parse::<f64>().unwrap() / 1000.0;
        let of = |event: &&Value| {
            (from..to).contains(&at(event)) && [&event["result"], &event["end"]].contains(&&json!(result))
        };
        events.iter().filter(of).count()
    };
    assert!(between(3390.0, 4200.0, &acquires, "error") > 0, "the wiki fails");
    assert!(between(4200.0, 4201.0, &acquires, "lease") > 0, "the freed slot");
    assert_eq!(between(4200.0, 4814.0, &ends, "killed"), 0, "nobody died of it");
    assert!(between(4814.0, 4816.0, &ends, "killed") > 0);
    assert_eq!(between(4816.0, 5400.0, &acquires, "error"), 0, "the wiki is well");
}
