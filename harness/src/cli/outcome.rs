//! The outcome of a scenario with a pool, over all its seeds: as expected or not.
//!
//! A known bug of a published pool is strict. Where the pool's version is one of those that the file names, the invariant
//! must be violated in at least one of the file's seeds, and nothing else may be. A bug that no longer shows is not as
//! expected: the file must be corrected.

use std::collections::BTreeSet;

use semver::{Version, VersionReq};
use serde::Serialize;

use crate::report::{RunReport, Verdict};
use crate::scenario::model::Scenario;

/// A run and its seed.
pub(super) struct Seeded {
    pub(super) seed: u64,
    pub(super) report: RunReport,
}

/// The outcome of a scenario with a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// All held in every run.
    Pass,
    /// Known bugs showed, and only they.
    Known {
        /// The invariants.
        violates: Vec<String>,
    },
    /// The pool can't do what the scenario needs.
    Unsupported {
        /// What it lacks.
        lacks: Vec<String>,
    },
    /// Something was violated that should hold.
    Violated {
        /// The first run of which that is true.
        seed: u64,
        /// Of how many runs it is true.
        runs: usize,
        /// The invariants, and `expectation` for what the scenario expects beside them.
        what: Vec<String>,
    },
    /// A known bug did not show in any of the file's seeds.
    Absent {
        /// The invariants.
        violates: Vec<String>,
    },
    /// A run gave no verdict.
    Unknown {
        /// The run.
        seed: u64,
        /// Why.
        why: String,
        /// Whether that is poolproof's own fault.
        bug: bool,
    },
}

/// What the file's own name for an unmet expectation is.
pub(super) const EXPECTATION: &str = "expectation";

impl Outcome {
    /// Of these runs. `all_seeds` says whether they are those of the file: only then must a known bug show.
    pub(super) fn of(scenario: &Scenario, pool: &str, version: &str, runs: &[Seeded], all_seeds: bool) -> Outcome {
        let known = known(scenario, pool, version);
        let mut shown = BTreeSet::new();
        let mut violated: Option<(u64, usize, BTreeSet<String>)> = None;
        for Seeded { seed, report } in runs {
            match &report.verdict {
                Verdict::Unknown { why, bug } => {
                    return Outcome::Unknown { seed: *seed, why: why.clone(), bug: *bug };
                }
                Verdict::Unsupported { lacks } => {
                    return Outcome::Unsupported { lacks: lacks.clone() };
                }
                Verdict::Pass => continue,
                Verdict::Violated => {}
            }
            let mut wrong = BTreeSet::new();
            for finding in &report.findings {
                if known.contains(&finding.invariant) {
                    shown.insert(finding.invariant.clone());
                } else {
                    wrong.insert(finding.invariant.clone());
                }
            }
            if !report.unmet.is_empty() {
                wrong.insert(EXPECTATION.to_owned());
            }
            if !wrong.is_empty() {
                let (_, count, what) = violated.get_or_insert_with(|| (*seed, 0, BTreeSet::new()));
                *count += 1;
                what.append(&mut wrong);
            }
        }
        let absent: Vec<String> = known.difference(&shown).cloned().collect();
        match violated {
            Some((seed, runs, what)) => Outcome::Violated { seed, runs, what: what.into_iter().collect() },
            None if all_seeds && !absent.is_empty() => Outcome::Absent { violates: absent },
            None if !shown.is_empty() => Outcome::Known { violates: shown.into_iter().collect() },
            None => Outcome::Pass,
        }
    }

    pub(super) fn is_expected(&self) -> bool {
        matches!(self, Outcome::Pass | Outcome::Known { .. } | Outcome::Unsupported { .. })
    }

    /// The word in the table.
    pub(super) fn word(&self) -> String {
        match self {
            Outcome::Pass => "pass".to_owned(),
            Outcome::Known { violates } => format!("known: {}", violates.join(", ")),
            Outcome::Unsupported { lacks } => format!("unsupported: {}", lacks.join(", ")),
            Outcome::Violated { what, .. } => format!("VIOLATED: {}", what.join(", ")),
            Outcome::Absent { violates } => format!("KNOWN BUG ABSENT: {}", violates.join(", ")),
            Outcome::Unknown { .. } => "UNKNOWN".to_owned(),
        }
    }
}

/// The invariants that this version of the pool is known to violate here.
pub(super) fn known(scenario: &Scenario, pool: &str, version: &str) -> BTreeSet<String> {
    let Ok(version) = Version::parse(version) else {
        return BTreeSet::new();
    };
    let applies = |versions: &str| VersionReq::parse(versions).is_ok_and(|required| required.matches(&version));
    let known = scenario.expect.known.iter().filter(|known| known.pool == pool && applies(&known.versions));
    known.map(|known| known.violates.clone()).collect()
}
