//! What a run is reported as, the same whether it was done in this process or in a worker: the judged report, and the story.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::invariant::judge::seconds;
use crate::invariant::{Violation, Violations};
use crate::trace::Figures;
use crate::verdict::RunReport;
use crate::worker::{Loss, Place};

/// A run, judged and told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// What it came to.
    pub report: RunReport,
    /// Its story, as `show` prints it.
    pub story: String,
    /// A bug of poolproof itself that kept the run from a verdict.
    pub bug: Option<String>,
}

impl Told {
    /// A run of which nothing can be said, by poolproof's own fault.
    #[must_use]
    pub fn bug(seed: u64, what: impl Into<String>) -> Told {
        let what = what.into();
        let report = RunReport::unknown(seed, format!("poolproof has a bug: {what}"));
        Told { report, story: String::new(), bug: Some(what) }
    }

    /// A run whose worker was lost over it. That is a stall, and the pool's, unless the load may be the scenario's own.
    #[must_use]
    pub fn lost(seed: u64, loss: &Loss) -> Told {
        let (place, what) = match loss {
            Loss::Stalled(place) if place.in_pool => {
                (place, "the pool kept the thread, and virtual time stood still".to_owned())
            }
            Loss::Stalled(place) => {
                let why = "virtual time stood still, or the run had no end, and not in the pool: it may be more than this \
                           machine can do in the time (--stall-after)";
                return Told::given_up(seed, *place, why);
            }
            Loss::Memory(place) if place.in_pool => {
                (place, "the pool asked for more memory than a run may have".to_owned())
            }
            Loss::Memory(place) => {
                return Told::given_up(
                    seed,
                    *place,
                    "it needs more memory than a run may have (--memory), and not in the pool",
                );
            }
            Loss::StackOverflow(place) => (place, "a thread overflowed its stack".to_owned()),
            Loss::Died { place, how, stderr } => {
                let last = stderr.lines().next_back().unwrap_or("it wrote nothing");
                (place, format!("the process ended by {how}: {last}"))
            }
            Loss::Harness(message) => return Told::bug(seed, message),
        };
        let Place { virtual_ms, acquires, .. } = *place;
        let mut violations = Violations::default();
        let sentence = match loss {
            // Where it stands still it is the same each time.
            Loss::Stalled(_) => format!("{what}, with {acquires} acquires under way"),
            _ => what,
        };
        violations.push(Violation::stall(Duration::from_millis(virtual_ms), sentence));
        let report = RunReport::judged(seed, &violations, Figures::default(), Vec::new());
        let story = format!("{}\n", violations.list()[0]);
        Told { report, story, bug: None }
    }

    /// A run that was given up at a place, and nobody knows why.
    fn given_up(seed: u64, place: Place, why: &str) -> Told {
        let at = seconds(Duration::from_millis(place.virtual_ms));
        let reason = format!("the run was given up at {at}: {why}");
        Told { report: RunReport::unknown(seed, reason.clone()), story: format!("{reason}\n"), bug: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn a_load_that_is_too_large_is_nobodys_violation() {
        let place = |in_pool| Place { virtual_ms: 5_000, in_pool, acquires: 3 };
        for loss in [Loss::Stalled, Loss::Memory] {
            let told = Told::lost(1, &loss(place(true)));
            assert_eq!(told.report.counts.get("no-stall"), Some(&1), "{}", told.story);
            let told = Told::lost(1, &loss(place(false)));
            assert!(matches!(told.report.verdict, Verdict::Unknown { .. }), "{}", told.story);
            assert!(told.bug.is_none() && told.story.contains("at 5.000 s"), "{}", told.story);
        }
    }
}
