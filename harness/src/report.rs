//! What a run is reported as: plain data, the same whether the run was done in this process or in a worker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::worker::{Loss, Place};

/// What came of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The verdict on this run alone. Whether a violation is a known bug is for [`crate::cli`] to say, which sees all
    /// seeds.
    pub verdict: Verdict,
    /// What was violated, in the order in which it was found; excused invariants are left out.
    pub findings: Vec<Finding>,
    /// Expectations of the scenario that were not met (figures, SQL), a sentence each.
    pub unmet: Vec<String>,
    /// What was counted and measured.
    pub figures: Figures,
    /// The story, as `show` prints it.
    pub story: String,
}

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All invariants and expectations held.
    Pass,
    /// Some did not.
    Violated,
    /// The pool can't do what the scenario needs.
    Unsupported {
        /// What it lacks.
        lacks: Vec<String>,
    },
    /// The run gave no verdict.
    Unknown {
        /// Why, in a sentence.
        why: String,
        /// Whether that is poolproof's own fault.
        bug: bool,
    },
}

/// One violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The invariant's name.
    pub invariant: String,
    /// When, in milliseconds of virtual time since the run's start.
    pub at_ms: u64,
    /// Who, on which connection, and what was seen instead of what was expected.
    pub sentence: String,
}

/// Figures of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The most connections that were open at once.
    pub peak_connections: u64,
    /// The longest that an acquire took, in milliseconds; `None` if there was none.
    pub worst_wait_ms: Option<u64>,
    /// From server-up to the first success, the longest if there were several, in milliseconds.
    pub recovery_ms: Option<u64>,
    /// All figures by the names that scenarios use.
    pub all: BTreeMap<String, f64>,
}

impl RunReport {
    /// Of a run whose worker was lost over it.
    #[must_use]
    pub fn lost(loss: &Loss) -> RunReport {
        let finding = |place: &Place, what: &str| {
            let whose = place.actor.map_or_else(|| "a task".to_owned(), |actor| format!("actor {actor}"));
            vec![Finding {
                invariant: "no-stall".to_owned(),
                at_ms: place.virtual_ms,
                sentence: format!("{whose} {what}"),
            }]
        };
        let findings = match loss {
            Loss::Stalled(place) => finding(place, "kept the thread: virtual time stood still, or the run had no end"),
            Loss::Memory(place) => finding(place, "asked for more memory than a run may have"),
            Loss::StackOverflow(place) => finding(place, "overflowed the stack"),
            Loss::Died { place, how, stderr } => {
                let last = stderr.lines().next_back().unwrap_or("it wrote nothing");
                finding(place, &format!("ended the process by {how}: {last}"))
            }
            Loss::Harness(_) => Vec::new(),
        };
        let verdict = match loss {
            Loss::Harness(message) => Verdict::Unknown { why: message.clone(), bug: true },
            _ => Verdict::Violated,
        };
        let told = findings.iter().map(|finding| format!("violated {}: {}\n", finding.invariant, finding.sentence));
        RunReport { verdict, unmet: Vec::new(), figures: Figures::default(), story: told.collect(), findings }
    }
}
