//! Simpler scenarios than one that is there: what shrinking tries, the largest cuts first.
//!
//! The first few have much less at once, each of the others has one thing less, or one that is more usual. They are
//! proposed; whether one still shows what is sought is for a run to say. The order is by how much a cut may take away, so that
//! a long scenario is short after a few runs, and it is the same each time.

mod settings;
mod times;
mod traffic;

use super::fair::mend;
use crate::pool::Capabilities;
use crate::scenario::model::Scenario;

/// The scenarios that are simpler by one step, and some that are by many.
pub(crate) fn simpler(scenario: &Scenario, capabilities: &Capabilities) -> Vec<Scenario> {
    let mut cuts = Cuts { of: scenario, capabilities, found: Vec::new() };
    boldly(&mut cuts);
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

/// Much at once: where each run that shows it costs a worker, there are few of them.
fn boldly(cuts: &mut Cuts<'_>) {
    let scenario = cuts.of;
    let all_usual = |s: &mut Scenario| {
        s.faults.clear();
        settings::usual_environment(s);
        settings::usual_pools(s);
    };
    for only in scenario.workloads.keys() {
        let alone = |s: &mut Scenario| s.workloads.retain(|name, _| name == only);
        cuts.add(|s| {
            alone(s);
            all_usual(s);
        });
        cuts.add(alone);
    }
    cuts.add(all_usual);
    cuts.add(|s| s.faults.clear());
    cuts.add(settings::usual_environment);
    cuts.add(settings::usual_pools);
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
