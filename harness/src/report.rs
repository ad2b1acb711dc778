//! What a run is reported as, the same whether it was done in this process or in a worker: the judged report, and the story.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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

    /// A run whose worker was lost over it: that is a stall, and the pool's.
    #[must_use]
    pub fn lost(seed: u64, loss: &Loss) -> Told {
        let (place, what) = match loss {
            Loss::Stalled(place) => {
                (place, "kept the thread: virtual time stood still, or the run had no end".to_owned())
            }
            Loss::Memory(place) => (place, "asked for more memory than a run may have".to_owned()),
            Loss::StackOverflow(place) => (place, "overflowed the stack".to_owned()),
            Loss::Died { place, how, stderr } => {
                let last = stderr.lines().next_back().unwrap_or("it wrote nothing");
                (place, format!("ended the process by {how}: {last}"))
            }
            Loss::Harness(message) => return Told::bug(seed, message),
        };
        let Place { virtual_ms, actor } = *place;
        let whose = actor.map_or_else(|| "a task".to_owned(), |actor| format!("actor {actor}"));
        let mut violations = Violations::default();
        violations.push(Violation::stall(Duration::from_millis(virtual_ms), format!("{whose} {what}")));
        let report = RunReport::judged(seed, &violations, Figures::default(), Vec::new());
        let story = format!("{}\n", violations.list()[0]);
        Told { report, story, bug: None }
    }
}
