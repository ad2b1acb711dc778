//! When faults begin and end: the file's times and repetitions, in one order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::faults::{Target, Undo};
use super::sentence;
use crate::scenario::model::{FaultAction, Scenario};
use crate::trace::What;
use crate::trace::event::Phase;

/// One beginning of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// When.
    pub at: Duration,
    /// Which, by its place in the file.
    pub index: usize,
}

/// All beginnings before the end of the fault phase, by time. Those of one instant are in an order that the seed gives.
#[must_use]
pub fn schedule(scenario: &Scenario, seed: u64) -> Vec<Beginning> {
    let mut all = Vec::new();
    for (index, fault) in scenario.faults.iter().enumerate() {
        let mut at = fault.at;
        while at < scenario.expect.until {
            all.push(Beginning { at, index });
            match fault.every {
                Some(every) if !every.is_zero() => at += every,
                _ => break,
            }
        }
    }
    all.shuffle(&mut poolproof_sim::entropy::stream(seed, "faults of one instant"));
    all.sort_by_key(|beginning| beginning.at);
    all
}

/// Plays the fault phase from `origin` to the scenario's `until`: faults begin and end at their times. At its end the
/// healing phase is told, and every fault that still lasts ends.
pub async fn play(scenario: &Scenario, seed: u64, target: &Target, origin: Instant) {
    let tell = |what: What| target.teller.tell(what);
    let until = scenario.expect.until;
    let mut beginnings = schedule(scenario, seed).into_iter().peekable();
    // By time; those of one instant in the order of their beginnings.
    let mut ends: BTreeMap<(Duration, usize), (usize, Undo)> = BTreeMap::new();
    let mut begun = 0;
    loop {
        let next_begin = beginnings.peek().map(|beginning| beginning.at);
        let next_end = ends.keys().next().map(|(at, _)| *at);
        let Some(at) = [next_begin, next_end].into_iter().flatten().min().filter(|at| *at < until) else { break };
        tokio::time::sleep_until(origin + at).await;
        if next_end == Some(at)
            && let Some((_, (index, undo))) = ends.pop_first()
        {
            end(scenario, target, index, undo).await;
            continue;
        }
        let Some(beginning) = beginnings.next() else { break };
        let action = &scenario.faults[beginning.index].action;
        // What waits for a message begins when that comes.
        if !matches!(action, FaultAction::NetMessage { .. }) {
            tell(What::FaultBegin { index: beginning.index, text: sentence::begin(action).into() });
        }
        begun += 1;
        if let Some((undo, lasts)) = target.begin(beginning.index, action).await {
            let over = lasts.map_or(Duration::MAX, |lasts| beginning.at + lasts);
            ends.insert((over, begun), (beginning.index, undo));
        }
    }
    tokio::time::sleep_until(origin + until).await;
    target.world.faults_are_over();
    tell(What::Phase(Phase::Healing));
    for (index, undo) in ends.into_values() {
        end(scenario, target, index, undo).await;
    }
}

async fn end(scenario: &Scenario, target: &Target, index: usize, undo: Undo) {
    let text: Arc<str> = sentence::end(&scenario.faults[index].action).into();
    target.teller.tell(What::FaultEnd { index, text });
    target.end(index, undo).await;
}
