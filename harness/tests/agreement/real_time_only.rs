//! Pools that can't be simulated, and so have nothing to agree with: on a real server they do what is known of them, and no more.

use std::path::Path;
use std::sync::Arc;

use libtest_mimic::Failed;
use poolproof::pool::by_name;
use poolproof::run::{RunSpec, run};
use poolproof::scenario;
use poolproof::trace::Figures;
use poolproof::verdict::{Verdict, known};
use poolproof::world::postgres::{Servers, run_on};
use poolproof::world::{Place, RealTime};

use super::SCALE;

/// The pools of this build.
pub(super) const POOLS: &[&str] = &[
    #[cfg(feature = "r2d2")]
    "r2d2",
];

/// What a run must show, beside that its invariants hold or are known not to: a sentence if it does not.
type Shows = fn(&Figures) -> Result<(), String>;

/// Scenarios, and what they must show.
pub(super) const SCENARIOS: [(&str, Shows); 3] = [
    ("connect_refused", |figures| {
        // Callers wait for their whole timeout, and learn why.
        check(count(figures, "timeout") > 0, "nobody timed out in the outages")?;
        check(count(figures, "dial") > 0, "no dial was refused")?;
        comes_back(figures, 3)
    }),
    ("hog_and_waiter", |figures| {
        check(figures.errors.is_empty(), "there are errors, though nothing fails")?;
        check(figures.peaks.connections <= 2, "there are more connections than max_size")?;
        check(figures.acquires_ok > 200, "two connections for 20 ms each serve more")
    }),
    ("stuck_transaction", |figures| {
        check(figures.peaks.blocked > 0, "nobody waited for the lock")?;
        check(count(figures, "timeout") > 0, "nobody timed out")?;
        check(figures.peaks.connections <= 10, "there are more connections than max_size")
    }),
];

fn count(figures: &Figures, kind: &str) -> u64 {
    figures.errors.get(kind).copied().unwrap_or_default()
}

fn comes_back(figures: &Figures, times: usize) -> Result<(), String> {
    let served = figures.comebacks.iter().filter(|comeback| comeback.first_success.is_some()).count();
    check(served == times, &format!("after {served} of {times} outages somebody was served"))
}

fn check(holds: bool, or: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(or.to_owned()) }
}

/// Runs a scenario on a real server, and asks in passing why it can't be simulated.
pub(super) fn does_what_is_known(
    name: &'static str,
    pool: &str,
    servers: Arc<Servers>,
    shows: Shows,
) -> Result<(), Failed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/faults/{name}.toml"));
    let text = std::fs::read_to_string(&path)?;
    let scenario = scenario::parse(name, &text).map_err(|report| report.to_string())?;
    let adapter = by_name(pool).ok_or("there is no such pool")?;
    let version = adapter.version();
    let spec = |scenario| RunSpec { scenario: Arc::new(scenario), adapter: Arc::clone(&adapter), seed: 1 };

    match run(&spec(scenario.clone()), None).report.verdict {
        Verdict::Unsupported { needs } if needs.len() == 1 && needs[0].starts_with("virtual time, since ") => {}
        other => return Err(format!("in virtual time it came to {other:?}").into()),
    }
    let place = Place::Postgres(RealTime { url: None, time_scale: SCALE });
    let told = run_on(&spec(place.scenario(&scenario).into_owned()), SCALE, servers, None);
    let report = &told.report;
    if !matches!(report.verdict, Verdict::Pass | Verdict::Violations(_)) {
        return Err(told.story.into());
    }
    let excuses = &scenario.expect.excuses;
    let is_excused = |invariant: &str| {
        excuses.iter().any(|excuse| excuse.invariant == invariant && excuse.pool.as_deref().is_none_or(|of| of == pool))
    };
    let unknown: Vec<&str> = report
        .counts
        .keys()
        .copied()
        .filter(|&invariant| known(&scenario, pool, version, invariant).is_none() && !is_excused(invariant))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("not known: {}\n{}", unknown.join(", "), told.story).into());
    }
    shows(&report.figures).map_err(|wrong| format!("{wrong}\n{}", told.story).into())
}
