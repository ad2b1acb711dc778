//! Every planted bug is caught in a whole run, by the invariant that it violates; the reference pool, of which each is one
//! deviation, is cleared by all invariants in the same scenario with the same seeds. So no check is there that never
//! fires, and none that fires at everything.
//!
//! The scenarios are small, one for what a few bugs have in common (`planted/*.toml`). Bugs that would keep a run from
//! ending are run as campaigns run everything: in worker processes, which are this executable again.
//!
//! One test for each bug: `cargo test --test planted planted::churn`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed};
use poolproof::campaign::{self, Options, Workers};
use poolproof::pool::reference::Plant;
use poolproof::report::Told;
use poolproof::run::{self, RunSpec};
use poolproof::scenario::model::Scenario;
use poolproof::verdict::Verdict;
use poolproof::worker::{self, Limits, Loss, Work};
use poolproof::{invariant, pool, scenario};
use serde::{Deserialize, Serialize};

/// Wall-clock time for which virtual time may stand still. A run here takes some milliseconds, and its process must start.
const STALL: Duration = Duration::from_secs(4);

/// What a campaign of seven, three of them hostile, may take at most: two stalls, and new workers on a busy machine.
const CAMPAIGN: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    worker::become_worker_if_asked::<Trial>();
    let arguments = Arguments::from_args();
    let mut tests: Vec<libtest_mimic::Trial> =
        Plant::all().map(|plant| test(&format!("planted::{}", plant.name()), move || is_caught(plant))).collect();
    tests.push(test("the_reference_pool_is_cleared", the_reference_pool_is_cleared));
    tests.push(test("every_scenario_shows_a_planted_bug", every_scenario_shows_a_planted_bug));
    tests.push(test("a_campaign_goes_on_past_hostile_pools", a_campaign_goes_on_past_hostile_pools));
    tests.push(test("every_invariant_catches_a_planted_bug", every_invariant_catches_a_planted_bug));
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn test(name: &str, body: impl FnOnce() -> Result<(), String> + Send + 'static) -> libtest_mimic::Trial {
    libtest_mimic::Trial::test(name, move || body().map_err(Failed::from))
}

/// The scenario that shows it.
fn shown_by(plant: Plant) -> &'static str {
    use Plant::*;
    match plant {
        DialRace | LeaseHandedToTwo | SpinInAcquire | BlockingSleep | GrowsWithoutEnd => "burst",
        ResizeKeepsExcess | StatusStaleAfterResize | PanicOnShrink => "resize",
        ClosingNotCounted | ResetWithoutTimeout | NoWakeAfterBroken => "abandoned_statement",
        ReaperClosesLeased | LifetimeFromLastReturn => "lifetime",
        LeaseLostOnPanic => "panics",
        PermitLostOnFailedDial | NoBackoff | BackoffUnbounded | GivesUpOnServer => "refused",
        PermitLostOnCancelledCheck => "cancelled_check",
        DialWithoutTimeout | TimeoutIgnoredWhileDialling => "silent_connects",
        DetachKeepsPermit => "detached",
        InvalidatedComesBack => "invalidated",
        GrantLostOnCancel => "cancelled_waiters",
        WakeToDeadWaiter => "left_the_queue",
        RefillTakesLastSlot => "min_idle",
        CheckOutsideTimeout | CheckTimeoutReturnsConnection => "forgotten_idle",
        CloseNotWoken | DialStorm | Churn => "steady",
        ResetSkippedAfterError | ResetSkippedForWaiter | AutocommitOff | ResetCommits => "dirty",
        BrokenNotNoticed | StatusCountsBroken => "terminated_idle",
        IdleTimeoutReadOnce | ReaperOutlivesPool | PanicInReaper => "idle",
        LifoWaiters => "queue",
        RequeueAtTheBack => "failed_check",
        CloseForgetsDials | ResetLeftBehind => "closed_early",
    }
}

/// Whether a run with it might not end.
fn is_hostile(plant: Plant) -> bool {
    plant.violates() == invariant::no_stall::META.name
}

const SCENARIOS: &[(&str, &str)] = &[
    ("abandoned_statement", include_str!("planted/abandoned_statement.toml")),
    ("burst", include_str!("planted/burst.toml")),
    ("cancelled_check", include_str!("planted/cancelled_check.toml")),
    ("cancelled_waiters", include_str!("planted/cancelled_waiters.toml")),
    ("closed_early", include_str!("planted/closed_early.toml")),
    ("detached", include_str!("planted/detached.toml")),
    ("invalidated", include_str!("planted/invalidated.toml")),
    ("dirty", include_str!("planted/dirty.toml")),
    ("failed_check", include_str!("planted/failed_check.toml")),
    ("forgotten_idle", include_str!("planted/forgotten_idle.toml")),
    ("idle", include_str!("planted/idle.toml")),
    ("left_the_queue", include_str!("planted/left_the_queue.toml")),
    ("lifetime", include_str!("planted/lifetime.toml")),
    ("min_idle", include_str!("planted/min_idle.toml")),
    ("panics", include_str!("planted/panics.toml")),
    ("queue", include_str!("planted/queue.toml")),
    ("refused", include_str!("planted/refused.toml")),
    ("resize", include_str!("planted/resize.toml")),
    ("silent_connects", include_str!("planted/silent_connects.toml")),
    ("steady", include_str!("planted/steady.toml")),
    ("terminated_idle", include_str!("planted/terminated_idle.toml")),
];

fn read(name: &str) -> Arc<Scenario> {
    let (_, text) = SCENARIOS.iter().find(|(known, _)| *known == name).unwrap();
    let (invariants, pools) = (invariant::names(), pool::names());
    let names = scenario::Names { invariants: &invariants, pools: &pools, ..scenario::Names::default() };
    match scenario::parse_with(&format!("{name}.toml"), text, &names) {
        Ok(scenario) => Arc::new(scenario),
        Err(report) => panic!("{:?}", miette::Report::new(report)),
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    scenario: String,
    pool: String,
    seed: u64,
}

impl Trial {
    fn new(scenario: &str, pool: &str, seed: u64) -> Trial {
        Trial { scenario: scenario.to_owned(), pool: pool.to_owned(), seed }
    }
}

impl Work for Trial {
    type Report = Told;

    fn run(&self) -> Told {
        let adapter = pool::by_name(&self.pool).unwrap();
        run::run(&RunSpec { scenario: read(&self.scenario), adapter, seed: self.seed }, None)
    }

    fn lost(&self, loss: &Loss) -> Told {
        Told::lost(self.seed, loss)
    }
}

/// Does these in worker processes, two at once, and gives the reports in the order in which they came.
fn in_workers(trials: &[Trial]) -> Vec<(usize, Told)> {
    let options = Options {
        jobs: 2,
        limits: Limits { stall: STALL, total: Duration::from_secs(60), memory: Some(512 << 20) },
        place: Workers::ThisExecutable,
        ..Options::default()
    };
    let mut reports = Vec::new();
    campaign::run_all(trials, &options, |_| (), |index, _, told| reports.push((index, told))).unwrap();
    reports
}

/// How often a pool violated what, over all seeds of a scenario.
type Found = BTreeMap<&'static str, u64>;

/// What a planted bug's runs came to. Done once, for all tests of this process.
fn found(plant: Plant) -> &'static Result<Found, String> {
    static FOUND: OnceLock<BTreeMap<Plant, OnceLock<Result<Found, String>>>> = OnceLock::new();
    let all = FOUND.get_or_init(|| Plant::all().map(|plant| (plant, OnceLock::new())).collect());
    all[&plant].get_or_init(|| {
        let name = shown_by(plant);
        let seeds = &read(name).seeds;
        // A stall takes its time, and is the same with every seed.
        let seeds = if is_hostile(plant) { &seeds[..1] } else { seeds };
        let trials: Vec<Trial> = seeds.iter().map(|&seed| Trial::new(name, plant.adapter_name(), seed)).collect();
        let reports = if is_hostile(plant) {
            in_workers(&trials).into_iter().map(|(_, told)| told).collect()
        } else {
            trials.iter().map(Work::run).collect()
        };
        count(reports)
    })
}

fn count(reports: Vec<Told>) -> Result<Found, String> {
    let mut found = Found::new();
    for told in reports {
        if let Some(bug) = told.bug {
            return Err(format!("poolproof has a bug: {bug}"));
        }
        if let Verdict::Unsupported { .. } | Verdict::Unknown { .. } = told.report.verdict {
            return Err(told.story);
        }
        for (invariant, count) in told.report.counts {
            *found.entry(invariant).or_default() += count;
        }
    }
    Ok(found)
}

fn is_caught(plant: Plant) -> Result<(), String> {
    let (scenario, invariant) = (shown_by(plant), plant.violates());
    let found = found(plant).as_ref()?;
    if !found.contains_key(invariant) {
        return Err(format!(
            "{} ({}) is not caught by {invariant} in {scenario}; what was found: {found:?}",
            plant.adapter_name(),
            plant.meaning()
        ));
    }
    is_cleared(scenario)
}

/// The reference pool violates nothing in this scenario.
fn is_cleared(name: &str) -> Result<(), String> {
    for seed in &read(name).seeds {
        let told = Trial::new(name, "reference", *seed).run();
        if told.report.verdict != Verdict::Pass || !told.report.wrong_sql.is_empty() {
            return Err(format!("the reference pool is accused:\n{}", told.story));
        }
    }
    Ok(())
}

fn the_reference_pool_is_cleared() -> Result<(), String> {
    SCENARIOS.iter().try_for_each(|(name, _)| is_cleared(name))
}

fn every_scenario_shows_a_planted_bug() -> Result<(), String> {
    let shown: BTreeSet<_> = Plant::all().map(shown_by).collect();
    let there: BTreeSet<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/planted");
    let files: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(shown, there);
    assert_eq!(files, there.iter().map(|name| (*name).to_owned()).collect());
    Ok(())
}

/// Without any one invariant's check, this fails.
fn every_invariant_catches_a_planted_bug() -> Result<(), String> {
    // Whether an application's jobs are done is no pool's to break: scenarios/seeds has stories that do.
    let of_pools = invariant::names().into_iter().filter(|name| *name != invariant::jobs_done::META.name);
    let mut caught: BTreeMap<&str, Vec<&str>> = of_pools.map(|name| (name, Vec::new())).collect();
    for plant in Plant::all() {
        if found(plant).as_ref()?.contains_key(plant.violates()) {
            caught.get_mut(plant.violates()).unwrap().push(plant.name());
        }
    }
    let idle: Vec<_> = caught.iter().filter(|(_, plants)| plants.is_empty()).map(|(name, _)| *name).collect();
    if idle.is_empty() { Ok(()) } else { Err(format!("nothing is caught by {}", idle.join(", "))) }
}

/// Pools that spin, allocate without end or panic end as verdicts, in bounded time, and the others' runs go on.
fn a_campaign_goes_on_past_hostile_pools() -> Result<(), String> {
    let good = |seed| Trial::new("steady", "reference", seed);
    let bad = |plant: Plant| Trial::new(shown_by(plant), plant.adapter_name(), 1);
    let trials = [
        good(1),
        bad(Plant::SpinInAcquire),
        good(2),
        bad(Plant::GrowsWithoutEnd),
        good(3),
        bad(Plant::PanicInReaper),
        good(4),
    ];
    let started = Instant::now();
    let reports = in_workers(&trials);
    let took = started.elapsed();

    let seen: Vec<(usize, Vec<&str>)> =
        reports.iter().map(|(index, told)| (*index, told.report.counts.keys().copied().collect())).collect();
    let expected: Vec<(usize, Vec<&str>)> = [&[][..], &["no-stall"], &[], &["no-stall"], &[], &["no-panic"], &[]]
        .into_iter()
        .map(<[&str]>::to_vec)
        .enumerate()
        .collect();
    assert_eq!(seen, expected);
    for (index, told) in &reports {
        assert_eq!(told.bug, None);
        let passed = told.report.verdict == Verdict::Pass;
        assert_eq!(passed, index % 2 == 0, "{}", told.story);
    }
    let story = |index: usize| reports[index].1.story.as_str();
    assert!(story(1).contains("virtual time stood still"), "{}", story(1));
    assert!(story(3).contains("more memory than a run may have"), "{}", story(3));
    assert!(took < CAMPAIGN, "it took {took:?}");
    // Where a pool stands still is the same each time.
    let again = in_workers(&[bad(Plant::SpinInAcquire)]);
    assert_eq!(again[0].1.story, story(1));
    Ok(())
}
