//! What a run came to, and whether that is what its scenario expects.
//!
//! A [`Verdict`] is about one run. What is *expected* is decided here, in one place, over all seeds of a scenario and a
//! pool: violations that are excused, known bugs of a published version (strict: each must show in at least one seed, and
//! nothing else may), bounds on figures, and the scenario's own queries.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::invariant::{Violation, Violations};
use crate::pool::{Adapter, Capabilities};
use crate::scenario::model::{
    Comparison, Declared, ErrorCheck, Excuse, FigureUnit, Known, Operator, PoolSettings, Reset, Scenario,
};
use crate::trace::Figures;

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every invariant held.
    Pass,
    /// Where invariants broke; of each invariant the first few.
    Violations(Vec<Violation>),
    /// The pool can't do what the scenario needs: nothing was judged.
    Unsupported {
        /// What it can't do.
        needs: Vec<String>,
    },
    /// Nothing can be said.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// One run, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Its seed.
    pub seed: u64,
    /// What it came to.
    pub verdict: Verdict,
    /// How many violations there were, by invariant.
    #[serde(deserialize_with = "crate::invariant::judge::known_names")]
    pub counts: BTreeMap<&'static str, u64>,
    /// What was measured.
    pub figures: Figures,
    /// The scenario's queries that did not return what they must, one sentence each.
    pub wrong_sql: Vec<String>,
}

impl RunReport {
    /// Of a run that was judged to its end.
    #[must_use]
    pub fn judged(seed: u64, violations: &Violations, figures: Figures, wrong_sql: Vec<String>) -> RunReport {
        let verdict =
            if violations.is_empty() { Verdict::Pass } else { Verdict::Violations(violations.list().to_vec()) };
        RunReport { seed, verdict, counts: violations.counts().clone(), figures, wrong_sql }
    }

    /// Of a run that never began, since the pool can't do what is needed.
    #[must_use]
    pub fn unsupported(seed: u64, needs: Vec<String>) -> RunReport {
        RunReport::blank(seed, Verdict::Unsupported { needs })
    }

    /// Of a run of which nothing can be said.
    #[must_use]
    pub fn unknown(seed: u64, reason: impl Into<String>) -> RunReport {
        RunReport::blank(seed, Verdict::Unknown { reason: reason.into() })
    }

    fn blank(seed: u64, verdict: Verdict) -> RunReport {
        RunReport { seed, verdict, counts: BTreeMap::new(), figures: Figures::default(), wrong_sql: Vec::new() }
    }
}

/// How all seeds of a scenario and a pool together came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As expected: everything held.
    Pass,
    /// As expected: only what the scenario excuses was violated.
    Excused,
    /// As expected: the known bugs showed, and nothing else.
    Known,
    /// As expected: the story violates what it declares, and nothing else.
    Told,
    /// The pool can't do what the scenario needs. Neither passed nor failed.
    Unsupported,
    /// Not as expected.
    Failed,
    /// Nothing can be said. Not as expected.
    Unknown,
}

impl Outcome {
    /// Whether it is what the scenario expects (unsupported is: nothing was claimed).
    #[must_use]
    pub fn is_expected(self) -> bool {
        !matches!(self, Outcome::Failed | Outcome::Unknown)
    }
}

/// All seeds of a scenario and a pool, compared with what the scenario expects.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// How they came out.
    pub outcome: Outcome,
    /// Why it is not as expected, one sentence each, seeds named.
    pub reasons: Vec<String>,
    /// What is worth knowing though it is as expected: excuses used and not used, known bugs shown.
    pub notes: Vec<String>,
}

impl Expectation {
    /// The verdict as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = match self.outcome {
            Outcome::Pass => "as expected: every invariant held".to_owned(),
            Outcome::Excused => "as expected: only what the scenario excuses was violated".to_owned(),
            Outcome::Known => {
                let bugs = self.notes.iter().filter(|note| note.contains(SHOWED)).count();
                let bugs = if bugs > 1 { "known bugs" } else { "known bug" };
                format!("as expected: the {bugs} showed, and nothing else")
            }
            Outcome::Told => "as expected: the story violates what it declares, and nothing else".to_owned(),
            Outcome::Unsupported => "unsupported".to_owned(),
            Outcome::Failed => "NOT as expected".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        let told = if self.reasons.is_empty() { &self.notes } else { &self.reasons };
        for (place, line) in told.iter().enumerate() {
            let _ = write!(sentence, "{}{line}", if place == 0 { ": " } else { "; " });
        }
        sentence
    }
}

/// In a note on a known bug.
const SHOWED: &str = " showed with seed ";

/// What the scenario grants this version of this pool.
struct Grants<'a> {
    excuses: Vec<&'a Excuse>,
    known: Vec<&'a Known>,
    declared: Vec<&'a Declared>,
}

impl<'a> Grants<'a> {
    fn new(scenario: &'a Scenario, pool: &str, version: &str, reasons: &mut Vec<String>) -> Grants<'a> {
        let excuses = scenario.expect.excuses.iter();
        let mut known = Vec::new();
        for bug in scenario.expect.known.iter().filter(|bug| bug.pool == pool) {
            match has_bug(&bug.versions, version) {
                Ok(true) => known.push(bug),
                Ok(false) => {}
                Err(error) => reasons.push(format!("known bug {}: {error}", bug.link)),
            }
        }
        Grants {
            excuses: excuses.filter(|excuse| excuse.pool.as_deref().is_none_or(|only| only == pool)).collect(),
            known,
            declared: scenario
                .expect
                .violations
                .iter()
                .filter(|declared| declared.pool.as_deref().is_none_or(|only| only == pool))
                .collect(),
        }
    }

    fn declared(&self, invariant: &str) -> Option<&'a Declared> {
        self.declared.iter().find(|declared| declared.invariant == invariant).copied()
    }

    fn excuse(&self, invariant: &str) -> Option<&'a Excuse> {
        self.excuses.iter().find(|excuse| excuse.invariant == invariant).copied()
    }

    fn known(&self, invariant: &str) -> Option<&'a Known> {
        self.known.iter().find(|bug| bug.violates == invariant).copied()
    }
}

/// The known bug of this version of a pool by which a scenario explains a violation.
#[must_use]
pub fn known<'a>(scenario: &'a Scenario, pool: &str, version: &str, invariant: &str) -> Option<&'a Known> {
    Grants::new(scenario, pool, version, &mut Vec::new()).known(invariant)
}

/// Whether a scenario's story is told of this pool. With any other, what it violates by the application's doing may show and
/// need not, and what it says and counts is not expected.
fn is_about(scenario: &Scenario, pool: &str) -> bool {
    scenario.pools.is_empty() || scenario.pools.iter().any(|name| name == pool)
}

/// Whether a version satisfies a requirement as Cargo writes them; a pre-release counts as the release it precedes.
fn has_bug(versions: &str, version: &str) -> Result<bool, String> {
    let requirement =
        VersionReq::parse(versions).map_err(|error| format!("\"{versions}\" is no version requirement: {error}"))?;
    let mut version = Version::parse(version).map_err(|error| format!("\"{version}\" is no version: {error}"))?;
    version.pre = semver::Prerelease::EMPTY;
    Ok(requirement.matches(&version))
}

/// Compares what the runs of one pool came to with what the scenario expects of it.
#[must_use]
pub fn judge_seeds(scenario: &Scenario, pool: &str, version: &str, runs: &[RunReport]) -> Expectation {
    let mut reasons = Vec::new();
    let mut notes = Vec::new();
    let grants = Grants::new(scenario, pool, version, &mut reasons);
    let mut shown: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut excused: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unknown = false;
    let mut unsupported: Option<&[String]> = None;
    let mut judged = 0;
    let about = is_about(scenario, pool);
    let mut declared_shows = false;

    if runs.is_empty() {
        unknown = true;
        reasons.push("there was no run".to_owned());
    }
    for run in runs {
        let seed = run.seed;
        match &run.verdict {
            Verdict::Unknown { reason } => {
                unknown = true;
                reasons.push(format!("seed {seed}: {reason}"));
                continue;
            }
            Verdict::Unsupported { needs } => {
                unsupported = Some(needs);
                continue;
            }
            Verdict::Pass | Verdict::Violations(_) => judged += 1,
        }
        if let Some(lacks) = run.figures.refused.not_supported().filter(|_| !expects_unsupported(scenario)) {
            unknown = true;
            reasons.push(format!("seed {seed}: {lacks}"));
        }
        if let Some(mistaken) = run.figures.refused.mistaken() {
            let mistaken = format!("a statement {mistaken}");
            if !notes.contains(&mistaken) {
                notes.push(mistaken);
            }
        }
        let mut has_known = false;
        for (&invariant, &count) in &run.counts {
            if grants.declared(invariant).is_some() {
                // That it shows with every seed is asked below.
            } else if let Some(bug) = grants.known(invariant) {
                has_known = true;
                shown.entry(&bug.violates).or_default().push(seed);
            } else if let Some(excuse) = grants.excuse(invariant) {
                *excused.entry(&excuse.invariant).or_default() += count;
            } else {
                reasons.push(unexpected(run, invariant, count));
            }
        }
        declared_shows |= grants.declared.iter().any(|one| run.counts.contains_key(one.invariant.as_str()));
        for declared in grants.declared.iter().filter(|_| about) {
            if !run.counts.contains_key(declared.invariant.as_str()) {
                reasons.push(format!(
                    "seed {seed}: {} held, but the story is that it is violated: {}",
                    declared.invariant, declared.because
                ));
            }
        }
        reasons.extend(run.wrong_sql.iter().map(|wrong| format!("seed {seed}: {wrong}")));
        // What a known bug does to the figures is its own affair.
        if !has_known && about {
            for check in &scenario.expect.errors {
                reasons.extend(wrong_error(&run.figures, check).map(|wrong| format!("seed {seed}: {wrong}")));
            }
            for (name, comparison) in &scenario.expect.figures {
                let wrong = compare(run.figures.get(name), *comparison);
                let wrong = wrong.map(|wrong| match run.figures.never(name) {
                    true => wrong.replacen("was not measured", "is never", 1),
                    false => wrong,
                });
                reasons.extend(wrong.map(|wrong| format!("seed {seed}: {name} {wrong}")));
            }
        }
    }
    if judged > 0 {
        for bug in &grants.known {
            match shown.get(bug.violates.as_str()) {
                Some(seeds) => {
                    let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
                    notes.push(format!("{}{SHOWED}{} ({})", bug.violates, seeds.join(", "), bug.link));
                }
                None => reasons.push(format!(
                    "the known bug {} ({}) did not show with any seed: if {pool} {version} has fixed it, remove it from \
                     the scenario",
                    bug.violates, bug.link
                )),
            }
        }
        for declared in grants.declared.iter().filter(|_| declared_shows) {
            notes.push(format!("{} is violated because {}", declared.invariant, declared.because));
        }
        for excuse in &grants.excuses {
            match excused.get(excuse.invariant.as_str()) {
                Some(_) => notes.push(format!("{} is excused: {}", excuse.invariant, excuse.why)),
                None if grants.known(&excuse.invariant).is_none() => {
                    notes.push(format!("{} is excused, but held", excuse.invariant));
                }
                None => {}
            }
        }
    }
    if let Some(needs) = unsupported {
        if judged > 0 {
            reasons.push("some seeds were unsupported and others were not".to_owned());
        }
        notes.push(format!("{pool} can't: {}", needs.join(", ")));
    }

    let outcome = if unknown {
        Outcome::Unknown
    } else if !reasons.is_empty() {
        Outcome::Failed
    } else if unsupported.is_some() {
        Outcome::Unsupported
    } else if !shown.is_empty() {
        Outcome::Known
    } else if declared_shows {
        Outcome::Told
    } else if !excused.is_empty() {
        Outcome::Excused
    } else {
        Outcome::Pass
    };
    Expectation { outcome, reasons, notes }
}

/// Whether the scenario says that statements fail with 0A000.
fn expects_unsupported(scenario: &Scenario) -> bool {
    let expect = &scenario.expect;
    expect.figures.contains_key("errors.0A000") || expect.errors.iter().any(|check| check.text.contains("0A000"))
}

/// The verdict on one run as a sentence, for its story: whether a known bug shows with other seeds is not asked.
#[must_use]
pub fn sentence(scenario: &Scenario, pool: &str, version: &str, run: &RunReport) -> String {
    let mut expectation = judge_seeds(scenario, pool, version, std::slice::from_ref(run));
    expectation.reasons.retain(|reason| !reason.starts_with("the known bug "));
    if expectation.outcome == Outcome::Failed && expectation.reasons.is_empty() {
        if expectation.notes.iter().any(|note| note.contains(SHOWED)) {
            expectation.outcome = Outcome::Known; // One of several; the others may show with other seeds.
        } else {
            expectation.outcome = Outcome::Pass;
            expectation.notes.push("the known bug does not show with this seed".to_owned());
        }
    }
    expectation.notes.retain(|note| !note.ends_with(", but held"));
    expectation.sentence()
}

fn unexpected(run: &RunReport, invariant: &str, count: u64) -> String {
    let first = match &run.verdict {
        Verdict::Violations(list) => list.iter().find(|violation| violation.invariant == invariant),
        _ => None,
    };
    let times = if count == 1 { String::new() } else { format!(" ({count} times)") };
    match first {
        Some(first) => format!("seed {}: violates {first}{times}", run.seed),
        None => format!("seed {}: violates {invariant}{times}", run.seed),
    }
}

/// What is wrong with an expected error, if anything.
fn wrong_error(figures: &Figures, check: &ErrorCheck) -> Option<String> {
    let text = &check.text;
    let Some(seen) = figures.texts.with(text) else {
        let none = check.count.is_some_and(|count| compare(Some(0.0), count).is_none());
        return (!none).then(|| format!("no error said \"{text}\""));
    };
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let count = check.count.and_then(|count| compare(Some(seen.count as f64), count));
    let first = check.first.and_then(|first| compare(Some(seen.first.as_secs_f64()), first));
    match (count, first) {
        (Some(wrong), _) => Some(format!("the count of the error \"{text}\" {wrong}")),
        (None, Some(wrong)) => Some(format!("the first time of the error \"{text}\" {wrong}")),
        (None, None) => None,
    }
}

/// What is wrong with a figure, if anything.
fn compare(figure: Option<f64>, expected: Comparison) -> Option<String> {
    let (sign, holds): (_, fn(f64, f64) -> bool) = match expected.operator {
        Operator::Equal => ("", |a, b| (a - b).abs() < 1e-9),
        Operator::AtMost => ("at most ", |a, b| a <= b + 1e-9),
        Operator::AtLeast => ("at least ", |a, b| a >= b - 1e-9),
        Operator::Below => ("below ", |a, b| a < b - 1e-9),
        Operator::Above => ("above ", |a, b| a > b + 1e-9),
    };
    let bound = measured(expected.value, expected.unit);
    match figure {
        None => Some(format!("was not measured, but must be {sign}{bound}")),
        Some(figure) if !holds(figure, expected.value) => {
            Some(format!("is {}, but must be {sign}{bound}", measured(figure, expected.unit)))
        }
        Some(_) => None,
    }
}

/// A figure with its unit, as people write it.
fn measured(figure: f64, unit: FigureUnit) -> String {
    match unit {
        FigureUnit::Count => figure.to_string(),
        // Times are whole milliseconds; a longer fraction is arithmetic's.
        FigureUnit::Seconds if figure < 1.0 => format!("{} ms", (figure * 1e6).round() / 1e3),
        FigureUnit::Seconds => format!("{} s", (figure * 1e3).round() / 1e3),
        FigureUnit::Share => format!("{} %", (figure * 1e4).round() / 1e2),
    }
}

/// The names of what a pool can do, as `expect.needs` writes them.
pub const CAPABILITIES: &[&str] = &[
    "max_size",
    "unlimited",
    "min_idle",
    "max_idle",
    "acquire_timeout",
    "idle_timeout",
    "max_lifetime",
    "test_on_acquire",
    "reset_rollback",
    "reset_commit",
    "reset_discard",
    "close",
    "resize",
    "dispose",
    "detach",
    "invalidate",
    "fair",
    "fifo",
    "lifo",
    "manager",
];

/// Whether a pool can do this; `None` when there is no such capability.
#[must_use]
pub fn can(capabilities: &Capabilities, name: &str) -> Option<bool> {
    Some(match name {
        "max_size" => capabilities.max_size,
        "unlimited" => capabilities.unlimited,
        "min_idle" => capabilities.min_idle,
        "max_idle" => capabilities.max_idle,
        "acquire_timeout" => capabilities.acquire_timeout,
        "idle_timeout" => capabilities.idle_timeout,
        "max_lifetime" => capabilities.max_lifetime,
        "test_on_acquire" => capabilities.test_on_acquire,
        "reset_rollback" => capabilities.reset_rollback,
        "reset_commit" => capabilities.reset_commit,
        "reset_discard" => capabilities.reset_discard,
        "close" => capabilities.close,
        "resize" => capabilities.resize,
        "dispose" => capabilities.dispose,
        "detach" => capabilities.detach,
        "invalidate" => capabilities.invalidate,
        "fair" => capabilities.fair,
        "fifo" => capabilities.fifo,
        "lifo" => capabilities.lifo,
        "manager" => capabilities.manager,
        _ => return None,
    })
}

/// What the scenario needs of a pool and this one can't do: by `expect.needs`, by settings that change what an application
/// sees (a reset at the return, no bound, fewer idle connections than `max_size`), and by its steps. Empty when the scenario can be run.
#[must_use]
pub fn lacks(scenario: &Scenario, capabilities: &Capabilities) -> Vec<String> {
    let settings = scenario.apps.values().flat_map(|app| settings_needed(&app.pool));
    let mut lacks = Vec::new();
    let steps = crate::workload::needs(scenario);
    for need in scenario.expect.needs.iter().map(String::as_str).chain(settings).chain(steps) {
        if can(capabilities, need) != Some(true) && !lacks.iter().any(|known| known == need) {
            lacks.push(need.to_owned());
        }
    }
    lacks
}

/// The same where time is virtual, which a pool may lack altogether.
#[must_use]
pub fn lacks_in_virtual_time(scenario: &Scenario, adapter: &dyn Adapter) -> Vec<String> {
    match adapter.needs_real_time() {
        Some(why) => vec![format!("virtual time, since {why} (--world postgres has real time)")],
        None => lacks(scenario, &adapter.capabilities()),
    }
}

fn settings_needed(settings: &PoolSettings) -> impl Iterator<Item = &str> {
    let reset = match settings.reset_on_return {
        Reset::None => None,
        Reset::Rollback => Some("reset_rollback"),
        Reset::Commit => Some("reset_commit"),
        Reset::Discard => Some("reset_discard"),
    };
    let unlimited = (settings.max_size == PoolSettings::UNLIMITED).then_some("unlimited");
    let max_idle = settings.max_idle.map(|_| "max_idle");
    reset.into_iter().chain(unlimited).chain(max_idle)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::invariant::testing::scenario;
    use crate::invariant::{Who, demand, no_lost_wakeup};
    use crate::scenario::model::{Action, Arrive, OnError, Step, Workload};

    fn run(seed: u64, metas: &[&'static crate::invariant::Meta]) -> RunReport {
        let mut violations = Violations::default();
        for meta in metas {
            violations.push(Violation::new(meta, Duration::from_secs(1), Who::Run, "it broke"));
        }
        RunReport::judged(seed, &violations, Figures::default(), Vec::new())
    }

    fn knowing(versions: &str) -> Scenario {
        let mut scenario = scenario();
        let (pool, violates) = ("bb8".into(), no_lost_wakeup::META.name.into());
        scenario.expect.known.push(Known {
            pool,
            versions: versions.into(),
            violates,
            link: "https://example.org/1".into(),
        });
        scenario
    }

    fn outcome(scenario: &Scenario, runs: &[RunReport]) -> Outcome {
        judge_seeds(scenario, "bb8", "0.9.1", runs).outcome
    }

    #[test]
    fn what_holds_passes_and_what_breaks_fails() {
        assert_eq!(outcome(&scenario(), &[run(1, &[])]), Outcome::Pass);
        assert_eq!(outcome(&scenario(), &[run(1, &[]), run(2, &[&demand::META])]), Outcome::Failed);
        assert_eq!(outcome(&scenario(), &[]), Outcome::Unknown);
        assert_eq!(outcome(&scenario(), &[run(1, &[]), RunReport::unknown(2, "killed")]), Outcome::Unknown);
    }

    #[test]
    fn a_known_bug_is_strict() {
        let scenario = knowing("<=0.9.1");
        assert_eq!(outcome(&scenario, &[run(1, &[]), run(2, &[&no_lost_wakeup::META])]), Outcome::Known);
        assert_eq!(outcome(&scenario, &[run(1, &[]), run(2, &[])]), Outcome::Failed, "it must show");
        let both = [&no_lost_wakeup::META, &demand::META];
        assert_eq!(outcome(&scenario, &[run(1, &both)]), Outcome::Failed, "and only it");
        assert_eq!(
            outcome(&knowing("<0.9"), &[run(1, &[&no_lost_wakeup::META])]),
            Outcome::Failed,
            "another version's"
        );
        assert_eq!(outcome(&knowing("<0.9"), &[run(1, &[])]), Outcome::Pass);
        assert_eq!(judge_seeds(&scenario, "deadpool", "0.14.2", &[run(1, &[])]).outcome, Outcome::Pass);
        assert_eq!(sentence(&scenario, "bb8", "0.9.1", &run(1, &[])).split(':').next(), Some("as expected"));
    }

    #[test]
    fn one_run_need_not_show_every_known_bug() {
        let mut scenario = scenario();
        for violates in ["demand", "deadline"] {
            let (versions, link) = ("<=0.9.1".into(), "https://example.org".into());
            let (pool, violates) = ("bb8".into(), violates.into());
            scenario.expect.known.push(Known { pool, versions, violates, link });
        }
        let sentence = |run: RunReport| sentence(&scenario, "bb8", "0.9.1", &run);
        let some = sentence(run(1, &[&demand::META]));
        assert!(some.contains("the known bug showed") && !some.contains("does not show"), "{some}");
        assert!(sentence(run(1, &[])).contains("the known bug does not show with this seed"));
    }

    #[test]
    fn an_excuse_may_be_unused() {
        let mut scenario = scenario();
        let (invariant, why) = (demand::META.name.into(), "the scenario storms on purpose".into());
        scenario.expect.excuses.push(Excuse { invariant, pool: Some("bb8".into()), why });
        assert_eq!(outcome(&scenario, &[run(1, &[&demand::META])]), Outcome::Excused);
        assert_eq!(outcome(&scenario, &[run(1, &[])]), Outcome::Pass);
        assert_eq!(judge_seeds(&scenario, "deadpool", "1.0.0", &[run(1, &[&demand::META])]).outcome, Outcome::Failed);
    }

    #[test]
    fn what_a_story_declares_must_show_with_every_seed_and_nothing_else() {
        let mut scenario = scenario();
        let because = "the application leaks".to_owned();
        scenario.expect.violations.push(Declared { invariant: "demand".into(), pool: None, because });
        let shown = |seed| run(seed, &[&demand::META]);
        assert_eq!(outcome(&scenario, &[shown(1), shown(2)]), Outcome::Told);
        assert_eq!(outcome(&scenario, &[shown(1), run(2, &[])]), Outcome::Failed);
        assert_eq!(outcome(&scenario, &[run(1, &[&demand::META, &no_lost_wakeup::META])]), Outcome::Failed);
        scenario.expect.violations[0].pool = Some("deadpool".into());
        assert_eq!(outcome(&scenario, &[shown(1)]), Outcome::Failed, "it is declared for another pool");
        assert_eq!(outcome(&scenario, &[run(1, &[])]), Outcome::Pass);
    }

    #[test]
    fn a_story_of_other_pools_expects_nothing_of_this_one() {
        let mut scenario = scenario();
        scenario.pools = vec!["queuepool".into()];
        let because = "the application leaks".to_owned();
        scenario.expect.violations.push(Declared { invariant: "demand".into(), pool: None, because });
        scenario.expect.errors.push(ErrorCheck { text: "QueuePool limit".into(), count: None, first: None });
        assert_eq!(outcome(&scenario, &[run(1, &[])]), Outcome::Pass);
        assert_eq!(outcome(&scenario, &[run(1, &[&demand::META])]), Outcome::Told, "the application's doing");
        assert_eq!(outcome(&scenario, &[run(1, &[&no_lost_wakeup::META])]), Outcome::Failed);
        assert_eq!(judge_seeds(&scenario, "queuepool", "2.0.0", &[run(1, &[])]).outcome, Outcome::Failed);
    }

    #[test]
    fn an_expected_error_must_be_said_as_often_and_as_early() {
        use crate::trace::event::{ConnId, What};
        let compared =
            |operator, value| Some(Comparison { unit: crate::scenario::model::FigureUnit::Count, operator, value });
        let judged = |count, first| {
            let mut scenario = scenario();
            scenario.expect.errors.push(ErrorCheck { text: "limit of size 5".into(), count, first });
            let mut report = run(1, &[]);
            let message = "QueuePool limit of size 5 overflow 10 reached".into();
            let what = What::DialFailed { conn: ConnId(1), message, code: None };
            report.figures.texts.take(Duration::from_secs(75), &what);
            outcome(&scenario, &[report])
        };
        assert_eq!(judged(None, None), Outcome::Pass);
        assert_eq!(judged(compared(Operator::Equal, 1.0), compared(Operator::AtMost, 75.0)), Outcome::Pass);
        assert_eq!(judged(compared(Operator::Equal, 2.0), None), Outcome::Failed);
        assert_eq!(judged(None, compared(Operator::Below, 75.0)), Outcome::Failed);
        let mut scenario = scenario();
        scenario.expect.errors.push(ErrorCheck { text: "never said".into(), count: None, first: None });
        assert_eq!(outcome(&scenario, &[run(1, &[])]), Outcome::Failed);
        scenario.expect.errors[0].count = compared(Operator::Equal, 0.0);
        assert_eq!(outcome(&scenario, &[run(1, &[])]), Outcome::Pass);
    }

    #[test]
    fn figures_have_their_units() {
        assert_eq!(measured(0.013, FigureUnit::Seconds), "13 ms");
        assert_eq!(measured(1.956, FigureUnit::Seconds), "1.956 s");
        assert_eq!(measured(0.99, FigureUnit::Share), "99 %");
        assert_eq!(measured(12.0, FigureUnit::Count), "12");
    }

    #[test]
    fn what_the_simulated_server_lacks_says_nothing_about_a_pool() {
        let mut report = run(1, &[]);
        report.figures.refused.failed("0A000", Some(&"MERGE INTO t".into()));
        let mut scenario = scenario();
        let judged = judge_seeds(&scenario, "bb8", "0.9.1", std::slice::from_ref(&report));
        assert_eq!(judged.outcome, Outcome::Unknown);
        assert!(judged.reasons[0].contains("MERGE INTO t"), "{:?}", judged.reasons);
        scenario.expect.errors.push(ErrorCheck { text: "0A000".into(), count: None, first: None });
        let compared =
            Comparison { unit: crate::scenario::model::FigureUnit::Count, operator: Operator::AtLeast, value: 0.0 };
        scenario.expect.errors[0].count = Some(compared);
        assert_eq!(outcome(&scenario, &[report]), Outcome::Pass);
        // A mistake in a statement is told, and no more.
        let mut report = run(1, &[]);
        report.figures.refused.failed("42601", Some(&"SELEC 1".into()));
        let judged = judge_seeds(&scenario, "bb8", "0.9.1", &[report]);
        assert_eq!(judged.outcome, Outcome::Pass);
        assert!(judged.sentence().contains("a statement failed each time with 42601 (1 times): SELEC 1"), "{judged:?}");
    }

    #[test]
    fn figures_and_queries_are_compared() {
        let mut scenario = scenario();
        let comparison =
            Comparison { unit: crate::scenario::model::FigureUnit::Count, operator: Operator::AtMost, value: 2.0 };
        scenario.expect.figures.insert("errors.timeout".into(), comparison);
        let mut report = run(1, &[]);
        report.figures.errors.insert("timeout".into(), 2);
        assert_eq!(outcome(&scenario, &[report.clone()]), Outcome::Pass);
        report.figures.errors.insert("timeout".into(), 3);
        assert_eq!(outcome(&scenario, &[report]), Outcome::Failed);
        let mut report = run(1, &[]);
        report.wrong_sql.push("SELECT count(*) FROM t gave 2, not 1".into());
        assert_eq!(outcome(&scenario, &[report]), Outcome::Failed);
        scenario.expect.figures.insert("recovery.quiet".into(), comparison);
        assert_eq!(outcome(&scenario, &[run(1, &[])]), Outcome::Failed, "nothing was measured");
    }

    #[test]
    fn what_a_pool_lacks_is_unsupported() {
        let mut scenario = scenario();
        scenario.expect.needs = vec!["resize".into()];
        scenario.apps["web"].pool.reset_on_return = Reset::Discard;
        let missing = lacks(&scenario, &Capabilities::default());
        assert_eq!(missing, ["resize", "reset_discard"]);
        assert_eq!(outcome(&scenario, &[RunReport::unsupported(1, missing)]), Outcome::Unsupported);
        assert!(CAPABILITIES.iter().all(|name| can(&Capabilities::default(), name) == Some(false)));

        // What its steps do is needed as well, and told once.
        let actions = [Action::Resize(3), Action::Detach, Action::Resize(4)];
        let steps = Vec::from(actions.map(|action| Step { action, cancel: None }));
        let (arrive, on_error) = (Arrive::Never, OnError::Stop);
        let workload = Workload {
            app: "web".into(),
            arrive,
            from: Duration::ZERO,
            until: None,
            steps,
            on_error,
            finally: Vec::new(),
        };
        scenario.workloads.insert("changes".into(), workload);
        assert_eq!(lacks(&scenario, &Capabilities::default()), ["resize", "reset_discard", "detach"]);
        let able = Capabilities { resize: true, reset_discard: true, detach: true, ..Capabilities::default() };
        assert!(lacks(&scenario, &able).is_empty());
        assert_eq!(lacks(&scenario, &Capabilities { detach: false, ..able }), ["detach"]);
    }
}
