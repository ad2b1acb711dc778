//! One run: (scenario, pool, seed) → trace, figures, verdict.
//!
//! The phases: traffic and faults until the scenario's `until`; healing, in which faults end and nobody arrives; capacity,
//! in which each pool must give all its leases at once; closing, after which nothing of the pool may be left. What happens in
//! them is recorded; who is right is judged from the record alone.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use poolproof_sim::postgres::event::{Observer, ServerEvent};
use poolproof_sim::runtime::Failure;
use tokio::time::{Instant, timeout};

use crate::apps::Apps;
use crate::pool::{Adapter, version_text};
use crate::report::Told;
use crate::scenario::model::{PoolSettings, Scenario, SqlCheck};
use crate::trace::event::Phase;
use crate::trace::recorder::{Finished, Options, Watch};
use crate::trace::story::Head;
use crate::trace::view::{PoolView, View};
use crate::trace::{Recorder, What};
use crate::verdict::{self, RunReport, Verdict};
use crate::workload::{Launcher, Probe, ProcessContext, Processes, Traffic, WorldHooks};
use crate::world::faults::{Target, Teller};
use crate::world::schedule::play;
use crate::world::sentence;
use crate::world::servers::boot_bound;
use crate::world::sim::LateObserver;
use crate::world::{Place, SimWorld, World};

/// How long the capacity phase waits for `max_size` leases, the time that dials of a pool may take to be noticed included.
const CAPACITY_BOUND: Duration = Duration::from_secs(60);

/// How long close may take.
const CLOSE_BOUND: Duration = Duration::from_secs(60);

/// After close (or drop): Terminate takes a round trip, and a reaper its interval, until nothing is left.
const QUIET: Duration = Duration::from_secs(60);

/// How often it is looked whether anything is left, where time is real.
const LOOK: Duration = Duration::from_millis(50);

/// Between two phases: longer than any round trip, so that what ended has ended everywhere.
const SETTLE: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone)]
pub struct RunSpec {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// The pool.
    pub adapter: Arc<dyn Adapter>,
    /// The seed.
    pub seed: u64,
}

/// Does one run on a thread of its own, and judges it. `out` gets the full trace.
///
/// Nothing limits it: a pool that blocks or spins keeps this function from returning. Runs that must be limited are done by
/// workers ([`crate::campaign`]).
#[must_use]
pub fn run(spec: &RunSpec, out: Option<Box<dyn io::Write + Send>>) -> Told {
    if let Some(told) = unsupported(spec, verdict::lacks_in_virtual_time(&spec.scenario, &*spec.adapter), &[]) {
        return told;
    }
    let moved = spec.clone();
    let ran = poolproof_sim::runtime::run(spec.seed, async move || {
        let options =
            Options { watch: Some(Watch::new(&moved.scenario, moved.adapter.capabilities())), out, keep: false };
        finish(drive(&moved, options).await?)
    });
    tell(spec, ran)
}

/// What is told of a run that can't be: the pool lacks what the scenario needs, or the world does.
pub(crate) fn unsupported(spec: &RunSpec, mut lacks: Vec<String>, world_lacks: &[String]) -> Option<Told> {
    let (name, version) = (spec.adapter.name(), version_text(&*spec.adapter));
    let whose = if lacks.is_empty() { "this world lacks" } else { "it lacks" };
    if lacks.is_empty() {
        lacks = world_lacks.to_vec();
    }
    if lacks.is_empty() {
        return None;
    }
    let story = format!("{}\n{name} {version}: unsupported, {whose} {}\n", spec.scenario.title, lacks.join(", "));
    Some(Told { report: RunReport::unsupported(spec.seed, lacks), story, bug: None })
}

/// The same in any world; the scenario is as it is there ([`Place::scenario`]).
#[must_use]
pub fn run_at(spec: &RunSpec, place: &Place, out: Option<Box<dyn io::Write + Send>>) -> Told {
    match place {
        Place::Sim => run(spec, out),
        #[cfg(feature = "turmoil")]
        Place::Turmoil => crate::world::turmoil::run(spec, out),
        #[cfg(not(feature = "turmoil"))]
        Place::Turmoil => tell(spec, Ok(Err(place.is_off()))),
        #[cfg(feature = "postgres")]
        Place::Postgres(real) => crate::world::postgres::run(spec, real, out),
        #[cfg(not(feature = "postgres"))]
        Place::Postgres(_) => tell(spec, Ok(Err(place.is_off()))),
    }
}

/// A run that was driven and whose trace is complete.
pub(crate) struct Finish {
    finished: Finished,
    wrong_sql: Vec<String>,
    mistakes: Vec<String>,
}

/// Ends the trace.
///
/// # Errors
/// The trace could not be written, or nobody watched.
pub(crate) fn finish(driven: Driven) -> Result<Finish, String> {
    let Driven { recorder, wrong_sql, mistakes } = driven;
    let finished = recorder.finish().map_err(|error| format!("the trace could not be written: {error}"))?;
    let finished = finished.ok_or("the run was not watched")?;
    Ok(Finish { finished, wrong_sql, mistakes })
}

/// What is told of a run that ended so.
pub(crate) fn tell(spec: &RunSpec, ran: Result<Result<Finish, String>, Failure>) -> Told {
    let Finish { finished, wrong_sql, mistakes } = match ran {
        Ok(Ok(finish)) => finish,
        Ok(Err(reason)) => {
            let report = RunReport::unknown(spec.seed, reason.clone());
            return Told { report, story: format!("{reason}\n"), bug: None };
        }
        Err(failure) => return Told::bug(spec.seed, failure.to_string()),
    };
    let (name, version) = (spec.adapter.name(), version_text(&*spec.adapter));
    let mut report = RunReport::judged(spec.seed, &finished.violations, finished.figures, wrong_sql);
    if !mistakes.is_empty() {
        report.verdict = Verdict::Unknown { reason: mistakes.join("; ") };
    }
    let sentence = verdict::sentence(&spec.scenario, name, spec.adapter.version(), &report);
    let errors = &spec.scenario.expect.errors;
    let head = Head { title: &spec.scenario.title, pool: name, version: &version, seed: spec.seed, errors };
    let story = finished.story.render(head, &report.figures, &finished.violations, &sentence);
    Told { report, story, bug: None }
}

/// Drives one run in the simulated world, on the thread of a run: see [`poolproof_sim::runtime`].
///
/// # Errors
/// The server's refusal of the scenario's settings or of its `sql`, as a sentence.
pub async fn drive(spec: &RunSpec, options: Options) -> Result<Driven, String> {
    let scenario = &spec.scenario;
    let observer = Arc::new(LateObserver::default());
    let world = SimWorld::new(scenario, spec.seed, observer.clone()).map_err(|error| error.to_string())?;
    timeout(boot_bound(scenario), world.ready()).await.map_err(|_| "the servers did not start".to_owned())?;

    Ok(drive_in(world, &observer, spec, options).await)
}

/// Drives one run in a world whose servers are ready. They tell `observer` what happens.
pub async fn drive_in(
    world: Arc<dyn World>,
    observer: &LateObserver<Recorder>,
    spec: &RunSpec,
    options: Options,
) -> Driven {
    let scenario = &spec.scenario;
    // Time zero. From here on everything is told.
    let origin = Instant::now();
    let recorder = Recorder::new(options);
    observer.set(recorder.clone());
    for server in world.servers() {
        recorder.server_event(sentence::name(*server), ServerEvent::Lifecycle(world.control().lifecycle(*server)));
    }
    let panics = recorder.clone();
    poolproof_sim::runtime::on_panic(move |text| {
        let planned = [crate::workload::PLANNED_PANIC, crate::workload::MANAGER_PANIC];
        if !planned.iter().any(|planned| text.starts_with(planned)) {
            panics.record(What::TaskPanicked { message: text.into() });
        }
    });
    recorder.record(What::Phase(Phase::Fault));

    let processes = Arc::new(Processes::default());
    let hooks = Arc::new(hooks(&world));
    let apps = Arc::new(Apps::new(
        Arc::clone(&world),
        Arc::clone(&spec.adapter),
        recorder.clone(),
        Arc::clone(&processes),
        hooks,
    ));
    let launcher: Weak<dyn Launcher> = Arc::downgrade(&(Arc::clone(&apps) as Arc<dyn Launcher>));
    processes.set_launcher(launcher);
    apps.start_all().await;
    let traffic = Arc::new(Traffic::start(scenario, spec.seed, recorder.clone(), Arc::clone(&processes), origin));
    let told = recorder.clone();
    let teller = Teller::new(move |what| told.record(what));
    let target = Target {
        world: Arc::clone(&world),
        apps: Arc::clone(&apps),
        traffic: Arc::clone(&traffic),
        teller: teller.clone(),
    };

    play(scenario, spec.seed, &target, origin).await;
    healing_phase(scenario, &recorder, &target).await;
    let live = processes.all();
    capacity_phase(&recorder, &live, &*world).await;
    drop((traffic, apps));
    closing_phase(&recorder, &live, target).await;
    recorder.record(What::Phase(Phase::End));
    let mut wrong = Vec::new();
    for check in &scenario.expect.sql {
        wrong.extend(wrong_sql(&*world, check).await);
    }
    Driven { recorder, wrong_sql: wrong, mistakes: teller.mistakes() }
}

/// A run that was driven to its end, and not yet judged.
pub struct Driven {
    /// Its trace.
    pub recorder: Recorder,
    /// The scenario's queries that did not return what they must, a sentence each.
    pub wrong_sql: Vec<String>,
    /// What the scenario's faults did by mistake, a sentence each: then nothing can be said of the pool.
    pub mistakes: Vec<String>,
}

/// Runs a query of the scenario's expectations; a sentence if it does not return what it must.
async fn wrong_sql(world: &dyn World, check: &SqlCheck) -> Option<String> {
    let SqlCheck { query, equals } = check;
    match world.control().query(query).await {
        Err(error) => Some(format!("`{query}` must return {equals}, and fails: {error}")),
        Ok(rows) => match rows.as_slice() {
            [row] if row.len() == 1 => {
                let value = row[0].as_deref().unwrap_or("NULL");
                (value != equals).then(|| format!("`{query}` must return {equals}, and returns {value}"))
            }
            rows => Some(format!(
                "`{query}` must return one row of one column, and returns {} rows of {}",
                rows.len(),
                rows.first().map_or(0, Vec::len)
            )),
        },
    }
}

/// Nobody arrives; those that are there may end, within the scenario's bound.
async fn healing_phase(scenario: &Scenario, recorder: &Recorder, target: &Target) {
    target.traffic.stop_arrivals();
    target.heal_servers();
    let _ = timeout(scenario.expect.healing, async {
        target.traffic.drained().await;
        target.world.ready().await;
        target.apps.settled().await;
    })
    .await;
    // Who is still there waits for something that will not come, and is judged for it; it must not stand in the way of
    // the next phases.
    let running = recorder.look(View::running).unwrap_or_default();
    target.traffic.give_up();
    target.cancel(&running).await;
    target.apps.freeze();
    tokio::time::sleep(target.world.patience(SETTLE)).await;
    record_status(recorder, &target.apps.live());
}

/// Each pool is asked for all its leases at once. What applications leaked they never give back: that is left out. Those
/// that get none ask again, as often as a connection that died silently may have cost an acquire, and once more.
async fn capacity_phase(recorder: &Recorder, processes: &[Arc<ProcessContext>], world: &dyn World) {
    recorder.record(What::Phase(Phase::Capacity));
    for process in processes {
        let Some((pool, handle)) = process.shared_pool() else { continue };
        // A pool that its application has closed owes nothing.
        let left = |pool: &PoolView| if pool.is_usable() { pool.capacity().saturating_sub(pool.in_use()) } else { 0 };
        let seen = recorder.look(|view| view.pool(pool).map(|pool| (left(pool), view.suspects(pool))));
        let bound = process.settings.max_size;
        let unseen = (if bound == PoolSettings::UNLIMITED { 0 } else { bound }, 0);
        let (wanted, suspects) = seen.flatten().unwrap_or(unseen);
        // All are held until the last has come or failed for good.
        let mut held: Vec<Probe> = Vec::new();
        for _round in 0..=suspects {
            let missing = (wanted as usize).saturating_sub(held.len());
            let mut probes: Vec<_> = (0..missing).map(|_| Probe::new(recorder.clone(), Arc::clone(process))).collect();
            let asking = probes.iter_mut().map(|probe| probe.acquire(pool, &*handle));
            // A pool without an acquire timeout may never answer.
            let _ = timeout(world.patience(CAPACITY_BOUND), futures_util::future::join_all(asking)).await;
            held.extend(probes.into_iter().filter(Probe::holds));
            if held.len() == wanted as usize {
                break;
            }
        }
    }
    tokio::time::sleep(world.patience(SETTLE)).await;
    record_status(recorder, processes);
}

/// Pools are closed where they can be, and dropped. Afterwards nothing of them may be left.
async fn closing_phase(recorder: &Recorder, processes: &[Arc<ProcessContext>], target: Target) {
    let world = Arc::clone(&target.world);
    recorder.record(What::Phase(Phase::Closing));
    for process in processes {
        let Some((id, pool)) = process.take_shared_pool() else { continue };
        if process.adapter.capabilities().close {
            recorder.record(What::PoolClosing { pool: id });
            // What is judged does not shrink with a scenario's time.
            if timeout(CLOSE_BOUND, pool.close()).await.is_ok() {
                recorder.record(What::PoolClosed { pool: id });
            }
        }
        recorder.record(What::PoolDropped { pool: id });
        drop(pool);
    }
    // What applications leaked goes with their memory: until then it keeps tasks of the pool alive that no pool can end.
    for process in processes {
        drop(process.take_memory());
    }
    drop(target);
    if world.is_in_real_time() {
        // A pool's own intervals are as long as ever; nobody waits for what is over.
        let over = async {
            tokio::time::sleep(world.patience(SETTLE)).await;
            while tasks_left(&*world) > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        let _some_never_end = timeout(QUIET, over).await;
    } else {
        tokio::time::sleep(QUIET).await;
    }
    let left = tasks_left(&*world);
    recorder.record(What::TasksLeft { count: u32::try_from(left).unwrap_or(u32::MAX) });
    for process in processes {
        recorder.record(What::ProcessEnd { process: process.id });
    }
}

/// How many tasks of the runtime are not the world's.
fn tasks_left(world: &dyn World) -> usize {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    alive.saturating_sub(world.tasks().alive() + world.other_tasks())
}

/// Each pool's own counters, for comparison with the truth.
fn record_status(recorder: &Recorder, processes: &[Arc<ProcessContext>]) {
    for process in processes {
        let Some((pool, handle)) = process.shared_pool() else { continue };
        if let Some(status) = handle.status() {
            recorder.record(What::PoolStatus { pool, status });
        }
    }
}

/// What actors ask the world.
fn hooks(world: &Arc<dyn World>) -> WorldHooks {
    let (sessions, streams) = (Arc::clone(world), Arc::clone(world));
    WorldHooks {
        session: Box::new(move |pid| sessions.control().session(pid)),
        unread: Box::new(move |pid| streams.unread(pid)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A run of the reference pool: its report, and how often each of these kinds of events happened.
    fn ran<const N: usize>(text: &str, kinds: [&str; N]) -> (RunReport, [usize; N]) {
        let scenario = Arc::new(crate::scenario::parse("a test", text).unwrap());
        let adapter = crate::pool::by_name("reference").unwrap();
        let memory = Memory::default();
        let told = run(&RunSpec { scenario, adapter, seed: 1 }, Some(Box::new(memory.clone())));
        assert_eq!(told.bug, None);
        let trace = String::from_utf8(memory.0.lock().clone()).unwrap();
        (told.report, kinds.map(|kind| trace.matches(&format!("\"{kind}\"")).count()))
    }

    const WEB: &str = r#"
title = "A test"
story = "A test."
[server]
max_connections = 10
[app.web]
processes = 2
pool = { max_size = 3, min_idle = 1, acquire_timeout = "2s" }
[workload.request]
app = "web"
arrive = { every = "200ms" }
steps = ["acquire", "sql SELECT 1", "release"]
"#;

    #[test]
    fn a_seat_has_one_process_however_often_it_is_killed() {
        // Killed at 3 s, back at 8 s; killed again at 9 s, back in the healing phase; nobody is there at 5 and 7 s.
        let fault = "[[fault]]\nat = \"3s\"\nevery = \"2s\"\ndo = \"app.kill\"\napp = \"web\"\nprocess = 1\n\
                     restart_after = \"5s\"\n[expect]\nuntil = \"10s\"\n";
        let (report, [starts, ends]) = ran(&format!("{WEB}{fault}"), ["process_start", "process_end"]);
        assert_eq!((starts, ends), (4, 4));
        assert_eq!(report.verdict, Verdict::Pass);
    }

    #[test]
    fn a_server_that_dies_twice_in_one_instant_comes_back() {
        let kill = "[[fault]]\nat = \"999ms\"\ndo = \"server.kill\"\ndown_for = \"1ms\"\n\
                    [[fault]]\nat = \"999ms\"\ndo = \"server.crash_backend\"\n[expect]\nuntil = \"5s\"\n";
        let power = "[[fault]]\nat = \"0s\"\nevery = \"5s\"\ndo = \"server.power_loss\"\ndown_for = \"5s\"\n\
                     [expect]\nuntil = \"11s\"\nhealing = \"1m\"\n";
        let one = WEB.replace("processes = 2", "processes = 1");
        for fault in [kill, power] {
            for seed in 1..=8 {
                let scenario = Arc::new(crate::scenario::parse("a test", &format!("{one}{fault}")).unwrap());
                let adapter = crate::pool::by_name("reference").unwrap();
                let told = run(&RunSpec { scenario, adapter, seed }, None);
                assert_eq!(told.report.verdict, Verdict::Pass, "seed {seed}: {}", told.story);
            }
        }
    }

    #[test]
    fn a_reset_under_way_is_not_held_against_a_pool_that_is_shrunk() {
        // Two seconds, on a server that is slow; somebody asks in vain meanwhile.
        let text = r#"
title = "A test"
story = "A test."
[app.web]
pool = { max_size = 2, reset_on_return = "rollback", acquire_timeout = "1s" }
[workload.long]
app = "web"
arrive = { at = ["100ms"] }
steps = ["acquire", "hold 10s", "release"]
[workload.short]
app = "web"
arrive = { at = ["100ms"] }
steps = ["acquire", "hold 900ms", "release"]
[workload.shrinks]
app = "web"
arrive = { at = ["1100ms"] }
steps = ["resize 1"]
[workload.asks]
app = "web"
arrive = { at = ["1500ms"] }
steps = ["acquire"]
[[fault]]
at = "500ms"
do = "server.slow"
by = "5s"
for = "4s"
[expect]
until = "20s"
"#;
        let (report, [resized]) = ran(text, ["pool_resized"]);
        assert_eq!((report.verdict, resized), (Verdict::Pass, 1));
    }

    #[test]
    fn a_close_that_was_cancelled_is_not_held_against_a_pool() {
        let run = |steps: &str| {
            let text = format!(
                "{WEB}[workload.closes]\napp = \"web\"\narrive = {{ at = [\"2s\"] }}\nsteps = [{steps}]\n\
                 [expect]\nuntil = \"1m\"\n"
            );
            let (report, [cancelled]) = ran(&text, ["pool_close_cancelled"]);
            assert_eq!((report.verdict, cancelled), (Verdict::Pass, 1), "{steps}");
        };
        // The run closes it once more, a minute later.
        run("\"cancel at poll 2: close pool\"");
        // Nobody does.
        run("\"new pool\", \"hold 1s\", \"cancel at poll 2: close pool\", \"hold 40s\", \"drop pool\"");
    }

    #[test]
    fn a_server_without_a_slot_to_spare_is_not_asked_for_min_idle_all_the_time() {
        let text = r#"
title = "A test"
story = "A test."
[server]
max_connections = 4
[app.web]
pool = { max_size = 4, min_idle = 4, acquire_timeout = "5s" }
[workload.request]
app = "web"
arrive = { every = "45ms" }
steps = ["acquire", "sql SELECT 1", "invalidate"]
[expect]
until = "20s"
"#;
        // There is one slot. Each caller has its connection closed, and another is dialled for the next.
        let (report, [dials, failed]) = ran(text, ["dial", "dial_failed"]);
        assert_eq!(report.verdict, Verdict::Pass);
        assert!(dials - failed > 200 && failed < 200, "{dials} dials, {failed} of which failed");
    }

    #[test]
    fn a_restart_that_is_due_after_the_healing_does_not_happen() {
        let fault = "[[fault]]\nat = \"9s\"\ndo = \"app.kill\"\napp = \"web\"\nprocess = 1\nrestart_after = \"20s\"\n\
                     [expect]\nuntil = \"10s\"\nhealing = \"10s\"\n";
        let (report, [starts, ends]) = ran(&format!("{WEB}{fault}"), ["process_start", "process_end"]);
        assert_eq!((starts, ends), (2, 2));
        assert_eq!(report.verdict, Verdict::Pass);
    }

    #[test]
    fn a_smart_stop_that_never_ends_is_over_in_the_healing_phase() {
        let stop =
            "at = \"5s\"\ndo = \"server.stop\"\nmode = \"smart\"\n[[fault]]\nat = \"8s\"\ndo = \"server.start\"\n";
        let restart = "at = \"5s\"\ndo = \"server.restart\"\nmode = \"smart\"\ndown_for = \"1s\"\n";
        // The start finds a postmaster; and the healing tells what it does.
        for (fault, effects) in [(stop, 2), (restart, 1)] {
            let fault = format!("[[fault]]\n{fault}[expect]\nuntil = \"10s\"\n");
            let (report, [told]) = ran(&format!("{WEB}{fault}"), ["fault_effect"]);
            assert_eq!((report.verdict, told), (Verdict::Pass, effects));
            assert!(report.figures.virtual_time < Duration::from_secs(90), "{:?}", report.figures.virtual_time);
        }
    }

    #[test]
    fn a_statement_of_a_caller_that_is_given_up_is_cancelled() {
        let long = "[workload.long]\napp = \"web\"\narrive = { at = [\"9s\"] }\n\
                    steps = [\"acquire\", \"sql SELECT pg_sleep(1000)\", \"release\"]\n\
                    [expect]\nuntil = \"10s\"\nhealing = \"5s\"\n";
        let (report, [told]) = ran(&format!("{WEB}{long}"), ["fault_effect"]);
        assert_eq!((report.verdict, told), (Verdict::Pass, 1));
        assert!(report.figures.virtual_time < Duration::from_secs(200), "{:?}", report.figures.virtual_time);
    }

    #[test]
    fn what_a_fault_did_not_find_is_told() {
        let fault = |text: &str| {
            let text = format!("{WEB}[[fault]]\nat = \"5s\"\n{text}\n[expect]\nuntil = \"10s\"\n");
            let (report, [told]) = ran(&text, ["fault_effect"]);
            assert_eq!(report.verdict, Verdict::Pass, "{text}");
            told
        };
        // 10 slots, some of them of the two processes.
        assert_eq!(fault("do = \"server.occupy\"\nsessions = 9\nuser = \"postgres\"\nfor = \"1s\""), 1);
        assert_eq!(fault("do = \"server.occupy\"\nsessions = 4\nuser = \"postgres\"\nfor = \"1s\""), 0);
        assert_eq!(fault("do = \"server.crash_backend\"\nstate = \"idle in transaction\""), 1);
        assert_eq!(fault("do = \"server.terminate\"\ncount = 1"), 0);
        assert_eq!(fault("do = \"server.terminate\"\ncount = 9"), 1);
        assert_eq!(fault("do = \"actor.kill\"\nworkload = \"request\"\nolder_than = \"1m\""), 1);
        assert_eq!(fault("do = \"server.start\""), 1);
        // No mistake of the scenario: the world does not let it.
        assert_eq!(fault("do = \"server.sql\"\nsql = \"SET statement_timeout = 9; SELECT pg_sleep(1)\""), 1);
    }

    #[test]
    fn a_fault_that_fails_by_mistake_makes_the_run_unknown() {
        let fault = "[[fault]]\nat = \"5s\"\ndo = \"server.sql\"\nsql = \"SELECT * FROM nowhere\"\n";
        let (report, [told]) = ran(&format!("{WEB}{fault}[expect]\nuntil = \"10s\"\n"), ["fault_effect"]);
        let reason = "fault 1: the DBA's statement fails: 42P01 relation \"nowhere\" does not exist".to_owned();
        assert_eq!((report.verdict, told), (Verdict::Unknown { reason }, 1));
    }

    #[test]
    fn a_standby_makes_the_world_whole_when_it_is_promoted() {
        let standby = WEB.replace("[app.web]", "[standby]\npromotion_time = \"3s\"\n[app.web]");
        let repoint = "[[fault]]\nat = \"4s\"\ndo = \"server.kill\"\n\
                       [[fault]]\nat = \"5s\"\ndo = \"dns.repoint\"\nto = \"standby\"\n";
        let promote = "[[fault]]\nat = \"6s\"\ndo = \"server.promote\"\n";
        let whole = |faults: &str| {
            let text = format!("{standby}{faults}[expect]\nuntil = \"20s\"\n");
            let (report, [promoted]) = ran(&text, ["server_promoted"]);
            assert_eq!(report.verdict, Verdict::Pass);
            (report.figures.comebacks.iter().map(|comeback| comeback.at.as_secs()).collect::<Vec<_>>(), promoted)
        };
        assert_eq!(whole(&format!("{repoint}{promote}")), (vec![9], 1));
        // One that is there for reading serves at once.
        assert_eq!(whole(repoint), (vec![5], 0));
    }

    #[test]
    fn a_leak_is_told_once_and_the_rest_can_still_be_lent() {
        let leak = "[workload.leaky]\napp = \"web\"\narrive = { burst = 1, every = \"1h\" }\n\
                    steps = [\"acquire\", \"sql SELECT 1\", \"leak\"]\n[expect]\nuntil = \"10s\"\n";
        let (report, [leaked]) = ran(&format!("{WEB}{leak}"), ["leaked"]);
        assert_eq!(leaked, 1);
        let told: Vec<_> = report.counts.into_iter().collect();
        assert_eq!(told, [("eventual-release", 1)]);
    }

    #[test]
    fn pools_that_may_open_more_than_the_server_has_slots_for_are_all_innocent() {
        let few = WEB.replace("processes = 2", "processes = 5");
        let (report, [refused]) = ran(&format!("{few}[expect]\nuntil = \"10s\"\n"), ["dial_failed"]);
        assert!(refused > 0, "5 x 3 connections don't fit in 7 slots");
        assert_eq!(report.verdict, Verdict::Pass);
    }

    #[test]
    fn a_probe_on_connections_that_died_silently() {
        // Those of the peak have been dead since 9 s, and nobody has used them.
        let checked = WEB.replace("acquire_timeout", "test_on_acquire = true, order = \"lifo\", acquire_timeout");
        let peak = "[workload.peak]\napp = \"web\"\narrive = { burst = 6, every = \"1h\" }\n\
                    steps = [\"acquire\", \"sql SELECT 1\", \"hold 1s\", \"release\"]\n\
                    [[fault]]\nat = \"9s\"\ndo = \"net.forget\"\n[expect]\nuntil = \"10s\"\n";
        let (report, [closed]) = ran(&format!("{checked}{peak}"), ["conn_closed"]);
        assert!(closed > 6, "dead ones were found, and replaced");
        assert_eq!(report.verdict, Verdict::Pass);
    }
}
