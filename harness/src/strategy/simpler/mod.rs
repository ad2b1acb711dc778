//! Simpler scenarios than one that is there: what shrinking tries, the largest cuts first.
//!
//! Each candidate has one thing less, or one thing that is more usual. They are proposed; whether one still shows what is
//! sought is for a run to say. The order is by how much a cut may take away, so that a long scenario is short after a few
//! runs, and it is the same each time.

mod settings;
mod times;
mod traffic;

use super::fair::mend;
use crate::pool::Capabilities;
use crate::scenario::model::Scenario;

/// Every scenario that is simpler by one step.
pub(crate) fn simpler(scenario: &Scenario, capabilities: &Capabilities) -> Vec<Scenario> {
    let mut cuts = Cuts { of: scenario, capabilities, found: Vec::new() };
    traffic::apps_and_workloads(&mut cuts);
    for place in 0..scenario.faults.len() {
        cuts.add(|s| drop(s.faults.remove(place)));
    }
    settings::environment(&mut cuts);
    traffic::steps(&mut cuts);
    settings::pools(&mut cuts);
    traffic::arrivals(&mut cuts);
    settings::faults(&mut cuts);
    times::end(&mut cuts);
    times::rounded(&mut cuts);
    times::smaller_numbers(&mut cuts);
    cuts.add(|s| s.seeds = vec![1]);
    cuts.found
}

/// Candidates that are being collected.
struct Cuts<'a> {
    of: &'a Scenario,
    capabilities: &'a Capabilities,
    found: Vec<Scenario>,
}

impl Cuts<'_> {
    /// One more: the scenario with this change, if it changes anything.
    fn add(&mut self, change: impl FnOnce(&mut Scenario)) {
        let mut changed = self.of.clone();
        change(&mut changed);
        mend(&mut changed, self.capabilities);
        if changed != *self.of && !changed.workloads.is_empty() {
            self.found.push(changed);
        }
    }
}
