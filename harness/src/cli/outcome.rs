//! The outcome of a scenario with a pool, as the table and the JSON have it. What is expected is decided by
//! [`crate::verdict`].

use crate::report::Told;
use crate::scenario::model::Scenario;
use crate::verdict::{Expectation, Outcome, RunReport, judge_seeds};

/// A scenario's runs with one pool, compared with what is expected.
pub(crate) struct Judged {
    pub(crate) expectation: Expectation,
    /// The first seed that explains why it is not as expected.
    pub(crate) seed: u64,
    /// The invariants that were violated, in any run.
    pub(super) violated: Vec<&'static str>,
    /// What the pool lacks.
    pub(super) lacks: Vec<String>,
    pub(super) bug: Option<String>,
}

impl Judged {
    /// Of these runs. `all_seeds` says whether they are those of the file: only then must a known bug show.
    pub(crate) fn of(scenario: &Scenario, pool: &str, version: &str, runs: &[Told], all_seeds: bool) -> Judged {
        let reports: Vec<RunReport> = runs.iter().map(|told| told.report.clone()).collect();
        let expectation = if all_seeds {
            judge_seeds(scenario, pool, version, &reports)
        } else {
            judge_some(scenario, pool, version, &reports)
        };
        let alone = |report: &&RunReport| {
            let expectation = judge_some(scenario, pool, version, std::slice::from_ref(*report));
            !expectation.outcome.is_expected()
        };
        let first = reports.iter().find(alone).or(reports.first());
        let mut violated: Vec<&'static str> = reports.iter().flat_map(|report| report.counts.keys().copied()).collect();
        violated.sort_unstable();
        violated.dedup();
        let lacks = reports.iter().find_map(|report| match &report.verdict {
            crate::verdict::Verdict::Unsupported { needs } => Some(needs.clone()),
            _ => None,
        });
        Judged {
            seed: first.map_or(1, |report| report.seed),
            violated,
            lacks: lacks.unwrap_or_default(),
            bug: runs.iter().find_map(|told| told.bug.clone()),
            expectation,
        }
    }

    pub(crate) fn is_expected(&self) -> bool {
        self.expectation.outcome.is_expected()
    }

    /// The verdict in the table.
    pub(super) fn words(&self) -> String {
        let word = word(self.expectation.outcome);
        let more = match self.expectation.outcome {
            Outcome::Pass | Outcome::Unknown => String::new(),
            Outcome::Unsupported => self.lacks.join(", "),
            Outcome::Excused | Outcome::Known | Outcome::Told | Outcome::Failed => self.violated.join(", "),
        };
        if more.is_empty() { word.to_owned() } else { format!("{word}: {more}") }
    }
}

/// An outcome in a word.
pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Excused => "excused",
        Outcome::Known => "known",
        Outcome::Told => "told",
        Outcome::Unsupported => "unsupported",
        Outcome::Failed => "FAILED",
        Outcome::Unknown => "UNKNOWN",
    }
}

/// Runs that are not all of the file's: a known bug need not show in them.
fn judge_some(scenario: &Scenario, pool: &str, version: &str, runs: &[RunReport]) -> Expectation {
    let mut scenario = scenario.clone();
    scenario.expect.known.retain(|known| runs.iter().any(|run| run.counts.contains_key(known.violates.as_str())));
    judge_seeds(&scenario, pool, version, runs)
}
