//! A run in both worlds, compared.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use poolproof::trace::figures::Came;
use poolproof::verdict::{RunReport, Verdict};
use poolproof::world::turmoil;

use crate::Case;
use crate::known::Known;

/// Recovery times may differ by this factor, …
const FACTOR: u32 = 2;

/// … or by this much: a pool's own retry pauses, and the phases between them and the fault.
const SLACK: Duration = Duration::from_secs(1);

/// How many runs were compared, how they came out, and what they took.
#[derive(Default)]
pub(crate) struct Tally {
    agree: AtomicUsize,
    known: AtomicUsize,
    differ: AtomicUsize,
    ours_ms: AtomicU64,
    turmoils_ms: AtomicU64,
    virtual_ms: AtomicU64,
}

impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let seconds = |ms: &AtomicU64| Duration::from_millis(ms.load(Ordering::Relaxed)).as_secs_f64();
        write!(
            f,
            "of those compared {} agree, {} differ as known, {} differ; {:.0} virtual seconds took {:.1} s on our network \
             and {:.1} s on turmoil's",
            count(&self.agree),
            count(&self.known),
            count(&self.differ),
            seconds(&self.virtual_ms),
            seconds(&self.ours_ms),
            seconds(&self.turmoils_ms),
        )
    }
}

/// Runs the case in both worlds. What differs must be known.
pub(crate) fn agree(case: &Case, known: &Known, tally: &Tally) -> Result<(), Failed> {
    let spec = case.spec();
    let timed = |spent: &AtomicU64, run: &dyn Fn() -> poolproof::report::Told| {
        let start = Instant::now();
        let told = run();
        spent.fetch_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        told
    };
    let ours = timed(&tally.ours_ms, &|| poolproof::run::run(&spec, None));
    let turmoils = timed(&tally.turmoils_ms, &|| turmoil::run(&spec, None));
    let virtual_time = ours.report.figures.virtual_time.as_millis();
    tally.virtual_ms.fetch_add(u64::try_from(virtual_time).unwrap_or(u64::MAX), Ordering::Relaxed);
    for told in [&ours, &turmoils] {
        if let Some(bug) = &told.bug {
            return Err(bug.into());
        }
    }
    let differences = differences(&ours.report, &turmoils.report);
    let expected = known.of(&case.name());
    let counter = match (differences == expected, differences.is_empty()) {
        (true, true) => &tally.agree,
        (true, false) => &tally.known,
        (false, _) => &tally.differ,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if differences == expected {
        return Ok(());
    }
    let list = |lines: &[String]| lines.iter().map(|line| format!("    {line:?},\n")).collect::<String>();
    Err(format!(
        "the worlds differ:\n{}known.toml says:\n{}\n-- on our network\n{}\n-- on turmoil's\n{}",
        list(&differences),
        list(&expected),
        ours.story,
        turmoils.story
    )
    .into())
}

/// What the same run came to in one world and not in the other, a line each.
fn differences(ours: &RunReport, turmoils: &RunReport) -> Vec<String> {
    let mut lines = Vec::new();
    let (a, b) = (kind(&ours.verdict), kind(&turmoils.verdict));
    if a != b {
        lines.push(format!("verdict: {a} on ours, {b} on turmoil's"));
    }
    only(&mut lines, "violated", ours.counts.keys(), turmoils.counts.keys());
    only(&mut lines, "an error of kind", ours.figures.errors.keys(), turmoils.figures.errors.keys());
    only(&mut lines, "wrong", ours.wrong_sql.iter(), turmoils.wrong_sql.iter());
    let (a, b) = (ours.figures.peaks.connections, turmoils.figures.peaks.connections);
    if a != b {
        lines.push(format!("peak connections: {a} on ours, {b} on turmoil's"));
    }
    let (a, b) = (ours.figures.recovery(), turmoils.figures.recovery());
    let after = |time: Option<Duration>| time.map(Came::After);
    for (name, a, b) in [
        ("first success", a.first_success, b.first_success),
        ("full capacity", after(a.full_capacity), after(b.full_capacity)),
        ("quiet", a.quiet, b.quiet),
    ] {
        if !alike(a, b) {
            lines.push(format!("recovery, {name}: {} on ours, {} on turmoil's", shown(a), shown(b)));
        }
    }
    lines
}

fn kind(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Violations(_) => "violations".to_owned(),
        Verdict::Unsupported { needs } => format!("unsupported ({})", needs.join("; ")),
        Verdict::Unknown { reason } => format!("unknown ({reason})"),
    }
}

fn only<T: Ord + Display>(
    lines: &mut Vec<String>,
    what: &str,
    ours: impl Iterator<Item = T>,
    turmoils: impl Iterator<Item = T>,
) {
    let (ours, turmoils): (BTreeSet<T>, BTreeSet<T>) = (ours.collect(), turmoils.collect());
    lines.extend(ours.difference(&turmoils).map(|one| format!("{what} on ours only: {one}")));
    lines.extend(turmoils.difference(&ours).map(|one| format!("{what} on turmoil's only: {one}")));
}

/// Within the factor, or the slack.
fn alike(a: Option<Came>, b: Option<Came>) -> bool {
    match (a, b) {
        (Some(Came::After(a)), Some(Came::After(b))) => a.abs_diff(b) <= SLACK || a.max(b) <= a.min(b) * FACTOR,
        _ => a == b,
    }
}

fn shown(came: Option<Came>) -> String {
    match came {
        None => "not measured".to_owned(),
        Some(Came::Never) => "never".to_owned(),
        Some(Came::After(time)) => format!("{:.1} s", time.as_secs_f64()),
    }
}
