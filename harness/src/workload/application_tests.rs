//! Whole small runs of what an application does beside acquiring and releasing: sessions, queues, collections, processes
//! that come with requests, a blocked thread. Each is a scenario in a few lines, and what the trace says of it in words.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use crate::pool::by_name;
use crate::run::{RunSpec, drive};
use crate::trace::What;
use crate::trace::event::{ActorEnd, JobChange, Phase};
use crate::trace::recorder::Options;

const HEAD: &str = "title = \"A test\"\nstory = \"A test.\"\n[server]\n\
    sql = \"CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)\"\n";

/// What a run tells of these things, in words, until the traffic is over.
fn told(scenario: &str) -> Vec<String> {
    told_with("reference", scenario)
}

fn told_with(pool: &str, scenario: &str) -> Vec<String> {
    let text = format!("{HEAD}{scenario}\n[expect]\nuntil = \"60s\"\n");
    let scenario = Arc::new(crate::scenario::parse("a test", &text).unwrap());
    let spec = RunSpec { scenario, adapter: by_name(pool).unwrap(), seed: 1 };
    let events = poolproof_sim::runtime::run(1, async move || {
        let options = Options { keep: true, ..Options::default() };
        drive(&spec, options).await.unwrap().recorder.events()
    });
    let events = events.unwrap();
    let over = |what: &What| matches!(what, What::Phase(Phase::Capacity));
    events.iter().map(|event| &event.what).take_while(|what| !over(what)).filter_map(words).collect()
}

fn words(what: &What) -> Option<String> {
    Some(match what {
        What::ActorEnd { end: ActorEnd::Done, actor } => format!("{} done", actor.0),
        What::ActorEnd { end, actor } => format!("{} {end:?}", actor.0),
        What::SqlStart { actor, text, .. } => format!("{} sends {text}", actor.0),
        What::Released { actor, conn } => format!("{} releases {}", actor.0, conn.0),
        What::Lost { actor, conn } => format!("{} loses {}", actor.0, conn.0),
        What::Kept { actor, conn } => format!("{} keeps {}", actor.0, conn.0),
        What::Resumed { actor, conn } => format!("{} resumes {}", actor.0, conn.0),
        What::Collected { leases, pools, asked, .. } => format!("collected {leases} {pools} {asked}"),
        What::Raised { actor, class, .. } => format!("{} {class}", actor.0),
        What::Join { actor, unfinished, over, .. } => {
            format!("{} {} {unfinished}", actor.0, if *over { "joined" } else { "joins" })
        }
        What::Job { job, change, unfinished, .. } => {
            let change = match change {
                JobChange::Put { payload, .. } => format!("put {payload}"),
                JobChange::Retried { attempt, .. } => format!("retried {attempt}"),
                other => format!("{other:?}"),
            };
            format!("job {} {change} {unfinished}", job.0)
        }
        What::Deadlocked { actor, .. } => format!("{} deadlocked", actor.0),
        What::ThreadBlocked { actor } => format!("{} blocked", actor.0),
        What::PoolLost { .. } => "pool lost".to_owned(),
        What::PoolDropped { .. } => "pool dropped".to_owned(),
        What::ProcessStart { process, .. } => format!("process {} starts", process.0),
        What::ProcessEnd { process } => format!("process {} ends", process.0),
        _ => return None,
    })
}

#[test]
fn a_threads_session_outlives_its_task_and_refuses_work_after_a_failed_flush() {
    let story = told(
        "[app.web]\n[workload.task]\napp = \"web\"\narrive = { workers = 1, pause = \"25s\" }\n\
         steps = [\"session\", \"flush INSERT INTO t VALUES (1)\"]\n",
    );
    assert_eq!(
        story[1..9],
        [
            "1 sends BEGIN",
            "1 sends INSERT INTO t VALUES (1)",
            "1 sends ROLLBACK",
            "1 keeps 1",
            "1 Failed",
            "2 resumes 1",
            "2 PendingRollbackError",
            "2 keeps 1",
        ]
    );
}

#[test]
fn a_removed_session_is_new_for_the_next_task() {
    let story = told(
        "[app.web]\n[workload.task]\napp = \"web\"\narrive = { workers = 1, pause = \"40s\" }\n\
         steps = [\"session\", \"expect row SELECT id FROM t WHERE id = 2\"]\nfinally = [\"remove session\"]\n",
    );
    let once = |n: u32| {
        [
            format!("{n} sends BEGIN"),
            format!("{n} sends SELECT id FROM t WHERE id = 2"),
            format!("{n} NoResultFound"),
            format!("{n} sends ROLLBACK"),
            format!("{n} releases 1"),
            format!("{n} Failed"),
        ]
    };
    assert_eq!(story[1..], [once(1), once(2)].concat());
}

#[test]
fn a_job_is_retried_after_its_countdown_and_then_given_up() {
    let story = told(
        "[queue.mail]\nmax_retries = 1\ncountdown = \"5s\"\n[app.web]\n\
         [workload.request]\napp = \"web\"\narrive = { at = [\"1s\"] }\nsteps = [\"put mail to $actor\"]\n\
         [workload.mailer]\napp = \"web\"\narrive = { jobs = \"mail\", workers = 2 }\n\
         steps = [\"acquire\", \"expect row SELECT id FROM t WHERE id = 2\"]\n",
    );
    let told: Vec<&str> = story.iter().map(String::as_str).filter(|line| line.starts_with("job")).collect();
    assert_eq!(told, ["job 1 put to 1 1", "job 1 Taken 1", "job 1 retried 1 1", "job 1 Taken 1", "job 1 Failed 0"]);
}

#[test]
fn a_killed_workers_job_is_lost_or_delivered_again() {
    let run = |acknowledge: &str| {
        let story = told(&format!(
            "[queue.mail]\nacknowledge = \"{acknowledge}\"\n[app.web]\n\
             [workload.request]\napp = \"web\"\narrive = {{ at = [\"1s\"] }}\nsteps = [\"put mail\"]\n\
             [workload.mailer]\napp = \"web\"\narrive = {{ jobs = \"mail\", workers = 1 }}\nsteps = [\"hold 10s\"]\n\
             [[fault]]\nat = \"5s\"\ndo = \"actor.kill\"\nworkload = \"mailer\"\n",
        ));
        story.into_iter().filter(|line| line.starts_with("job")).collect::<Vec<_>>()
    };
    assert_eq!(run("early"), ["job 1 put  1", "job 1 Taken 1", "job 1 Lost 1"]);
    let again = ["job 1 put  1", "job 1 Taken 1", "job 1 Redelivered 1", "job 1 Taken 1", "job 1 Done 0"];
    assert_eq!(run("late"), again);
}

#[test]
fn a_join_returns_when_the_last_job_is_done_and_the_workers_are_killed() {
    let story = told(
        "[queue.tasks]\napp = \"web\"\n[app.web]\n[workload.run]\napp = \"web\"\narrive = { at = [\"1s\"] }\n\
         steps = [\"put tasks 3\", \"put tasks 5\", \"spawn worker\", \"join tasks\", \"kill worker\"]\n\
         [workload.worker]\napp = \"web\"\narrive = \"never\"\n\
         steps = [{ while = \"tasks\", steps = [\"take tasks\", \"acquire\", \"sql SELECT pg_sleep($payload)\", \
         \"release\", \"done tasks\"] }, \"hold 1h\"]\n",
    );
    assert_eq!(
        story[1..],
        [
            "job 1 put 3 1",
            "job 2 put 5 2",
            "1 joins 2",
            "job 1 Taken 2",
            "2 sends SELECT pg_sleep(3)",
            "2 releases 1",
            "job 1 Done 1",
            "job 2 Taken 1",
            "2 sends SELECT pg_sleep(5)",
            "2 releases 1",
            "job 2 Done 0",
            "1 joined 0",
            "2 Stopped",
            "1 done",
        ]
    );
}

#[test]
fn a_job_whose_worker_forgets_it_is_never_finished() {
    let story = told(
        "[queue.tasks]\n[app.web]\n[workload.run]\napp = \"web\"\narrive = { at = [\"1s\"] }\n\
         steps = [\"put tasks\", \"take tasks\", \"cancel after 1s: join tasks\"]\n",
    );
    assert_eq!(story[1..], ["job 1 put  1", "job 1 Taken 1", "1 joins 1", "1 done"]);
}

#[test]
fn the_collector_runs_at_its_threshold_and_when_it_is_asked() {
    let story = told(
        "[app.web]\ncollector = { threshold = 100 }\n[workload.request]\napp = \"web\"\narrive = { at = [\"1s\"] }\n\
         steps = [\"acquire\", \"lose\", \"allocate 99\", \"allocate 1\", \"new pool\", \"lose pool\", \"collect\"]\n",
    );
    assert_eq!(
        story[1..],
        [
            "1 loses 1",
            "collected 1 0 false",
            "1 releases 1",
            "pool lost",
            "collected 0 1 true",
            "pool dropped",
            "1 done"
        ]
    );
}

#[test]
fn a_collection_inside_an_acquire_hangs_a_pool_with_a_plain_lock() {
    let run = |pool: &str| {
        let story = told_with(
            pool,
            "[app.cgi]\nprocesses = \"per request\"\ncollector = { threshold = 100, acquire = 1 }\n\
             [workload.page]\napp = \"cgi\"\narrive = { at = [\"1s\"] }\n\
             steps = [\"acquire\", \"lose\", \"allocate 98\", \"acquire\", \"release\"]\n",
        );
        story.last().cloned()
    };
    assert_eq!(run("tracpool").as_deref(), Some("process 1 ends"));
    let hung = told_with(
        "tracpool2006",
        "[app.cgi]\ncollector = { threshold = 100, acquire = 1 }\n\
         [workload.page]\napp = \"cgi\"\narrive = { at = [\"1s\"] }\n\
         steps = [\"acquire\", \"lose\", \"allocate 98\", \"acquire\", \"release\"]\n",
    );
    assert_eq!(hung[1..], ["1 loses 1", "1 deadlocked", "1 GivenUp"]);
}

#[test]
fn a_process_comes_and_goes_with_its_request() {
    let story = told(
        "[app.cgi]\nprocesses = \"per request\"\n[workload.page]\napp = \"cgi\"\n\
         arrive = { at = [\"1s\", \"2s\", \"3s\"] }\nsteps = [\"acquire\", \"hold 5s\"]\n\
         [[fault]]\nat = \"4s\"\ndo = \"app.kill\"\napp = \"cgi\"\nolder_than = \"1500ms\"\n",
    );
    assert_eq!(
        story,
        [
            "process 1 starts",
            "process 2 starts",
            "process 3 starts",
            "1 Killed",
            "process 1 ends",
            "2 Killed",
            "process 2 ends",
            "3 releases 3",
            "3 done",
            "pool dropped",
            "process 3 ends",
        ]
    );
}

#[test]
fn a_statement_blocks_everybody_without_a_cooperative_driver() {
    let run = |cooperative: bool| {
        let story = told(&format!(
            "[app.web]\ncooperative = {cooperative}\n[workload.report]\napp = \"web\"\narrive = {{ burst = 2 }}\n\
             steps = [\"acquire\", \"sql SELECT pg_sleep(3)\"]\n",
        ));
        let told = |line: &String| line.contains("sends") || line.contains("blocked") || line.contains("done");
        story.into_iter().filter(told).collect::<Vec<_>>()
    };
    let sends = |n: u32| format!("{n} sends SELECT pg_sleep(3)");
    assert_eq!(run(true)[..2], [sends(1), sends(2)]);
    assert_eq!(run(false), [sends(1), "2 blocked".to_owned(), "1 done".to_owned(), sends(2), "2 done".to_owned()]);
}
