//! How many actors were done in each minute of the fault phase, and how long actors took, by workload: whether the work
//! slows down the longer a run goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{ActorEnd, Phase, What};
use super::view::View;

const MINUTE: Duration = Duration::from_secs(60);

/// A run of several weeks has no more minutes than this; later ones are not counted.
const MOST: usize = 50_000;

/// The columns of the line in a story.
const COLUMNS: usize = 16;

/// The pace of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pace {
    done: Vec<u64>,
    longest: BTreeMap<String, Duration>,
    /// Whether the story tells it: when the scenario expects a figure of it.
    pub told: bool,
}

impl Pace {
    /// Told in the story, or only counted.
    #[must_use]
    pub fn told_if(told: bool) -> Pace {
        Pace { told, ..Pace::default() }
    }

    /// Takes an event into account that the view has taken.
    pub fn take(&mut self, at: Duration, what: &What, view: &View) {
        let What::ActorEnd { end: ActorEnd::Done, .. } = what else { return };
        if let Some((workload, lived)) = &view.lived {
            match self.longest.get_mut(&**workload) {
                Some(longest) => *longest = (*longest).max(*lived),
                None => {
                    self.longest.insert(workload.to_string(), *lived);
                }
            }
        }
        let minute = usize::try_from(at.as_secs() / MINUTE.as_secs()).unwrap_or(usize::MAX);
        if view.phase == Phase::Fault && minute < MOST {
            if self.done.len() <= minute {
                self.done.resize(minute + 1, 0);
            }
            self.done[minute] += 1;
        }
    }

    /// Actors done in each whole minute of a fault phase of this length.
    fn minutes(&self, fault_phase: Duration) -> Vec<u64> {
        let whole = usize::try_from(fault_phase.as_secs() / MINUTE.as_secs()).unwrap_or(0).min(MOST);
        (0..whole).map(|minute| self.done.get(minute).copied().unwrap_or(0)).collect()
    }

    /// `first`, `last`, `least` or `most` of the whole minutes; `None` when there was none.
    #[must_use]
    pub fn done_a_minute(&self, which: &str, fault_phase: Duration) -> Option<u64> {
        let minutes = self.minutes(fault_phase);
        match which {
            "first" => minutes.first().copied(),
            "last" => minutes.last().copied(),
            "least" => minutes.iter().min().copied(),
            "most" => minutes.iter().max().copied(),
            _ => None,
        }
    }

    /// How long the longest actor of a workload took, of those that were done.
    #[must_use]
    pub fn took(&self, workload: &str) -> Option<Duration> {
        self.longest.get(workload).copied()
    }

    /// `20, 20, 13, 4, 0`: over a long run every so many minutes' mean.
    #[must_use]
    pub fn line(&self, fault_phase: Duration) -> Option<String> {
        let minutes = self.minutes(fault_phase);
        if !self.told || minutes.is_empty() {
            return None;
        }
        let each = minutes.len().div_ceil(COLUMNS);
        let means = minutes.chunks(each).map(|part| {
            let sum: u64 = part.iter().sum();
            let count = part.len() as u64;
            ((sum + count / 2) / count).to_string()
        });
        let over = if each == 1 { String::new() } else { format!(" (means of {each} minutes)") };
        Some(format!("{}{over}", means.collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_minutes_count() {
        let pace = Pace { done: vec![20, 20, 5, 1], told: true, ..Pace::default() };
        let phase = Duration::from_secs(200);
        let figures = ["first", "last", "least", "most"].map(|which| pace.done_a_minute(which, phase));
        assert_eq!(figures, [Some(20), Some(5), Some(5), Some(20)]);
        assert_eq!(pace.line(phase).as_deref(), Some("20, 20, 5"));
        assert_eq!(pace.done_a_minute("last", Duration::from_secs(600)), Some(0), "nobody was done later");
        assert_eq!(pace.done_a_minute("last", Duration::from_secs(59)), None);
    }

    #[test]
    fn a_long_run_is_told_by_means() {
        let pace = Pace { done: vec![3; 40], told: true, ..Pace::default() };
        let line = pace.line(Duration::from_secs(2400));
        assert_eq!(line.as_deref(), Some("3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3 (means of 3 minutes)"));
    }
}
