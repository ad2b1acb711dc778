//! A smaller input that shows the same violation.
//!
//! Delta debugging over the scenario's own parts ([`simpler`]): the largest cuts first, each candidate run, and kept if it
//! shows the same [key](super::mechanism::Mechanism::key). After a cut that held, the next one of the new scenario is tried
//! at the same place; it ends when a whole round brought nothing, or when its runs are spent.
//!
//! proptest's own shrinker is not used here, though the strategies have it: it tries one candidate at a time, and here several
//! go to a worker at once.

use std::io;
use std::sync::Arc;

use super::campaign::AT_ONCE;
use super::trial::{Aim, Answer, Recipe, Trial, read};
use crate::pool::Capabilities;
use crate::scenario::model::Scenario;
use crate::scenario::print;
use crate::strategy::simpler;

/// What is to stay the same.
pub(super) struct Sought<'a> {
    /// The pool.
    pub(super) pool: &'a str,
    /// What it can do.
    pub(super) capabilities: Capabilities,
    /// The violation's key.
    pub(super) key: &'a str,
    /// The pool that must be innocent of everything.
    pub(super) innocent: Option<&'a str>,
    /// The most runs.
    pub(super) runs: u32,
}

/// Shrinks a scenario. `ask` has a trial done. Gives the smallest one, and how many runs that took; `None` if not even the
/// scenario itself shows what is sought.
pub(super) fn shrink(
    start: &Scenario,
    sought: &Sought<'_>,
    mut ask: impl FnMut(&Trial) -> io::Result<Answer>,
) -> io::Result<(Option<Scenario>, u32)> {
    let mut runs = 0;
    // The first of these candidates that shows it, and how many were tried.
    let mut first = |candidates: &[Scenario]| -> io::Result<(Option<usize>, u32, bool)> {
        let inputs = candidates.iter().map(|scenario| Recipe::Given(Arc::from(print(scenario)))).collect();
        let aim = Aim::FirstWith { key: sought.key.to_owned(), innocent: sought.innocent.map(str::to_owned) };
        let answer = ask(&Trial { pool: sought.pool.to_owned(), inputs, aim })?;
        Ok(match answer {
            Answer::First(place, runs) => (place, runs, false),
            // One of several hangs or crashes. Alone, that is what is sought, or it is not.
            Answer::Lost(seen) if candidates.len() == 1 => (seen.shows(sought.key).then_some(0), LOST_COSTS, true),
            _ => (None, LOST_COSTS, true),
        })
    };
    let (found, tried, mut hostile) = first(std::slice::from_ref(start))?;
    runs += tried;
    if found.is_none() {
        return Ok((None, runs));
    }
    let mut current = start.clone();
    let mut place = 0;
    let mut since = 0;
    let mut at_once = 1;
    while runs < sought.runs {
        let all: Vec<Scenario> = simpler(&current, &sought.capabilities);
        if all.is_empty() || since >= all.len() {
            break;
        }
        if place >= all.len() {
            place = 0;
        }
        let end = (place + if hostile { 1 } else { at_once }).min(all.len());
        let mut some = &all[place..end];
        let (mut found, mut tried, lost) = first(some)?;
        if lost && some.len() > 1 {
            // Which one it was is found one by one, from here on.
            hostile = true;
            some = &all[place..=place];
            let (alone, more, _) = first(some)?;
            (found, tried) = (alone, tried + more);
        }
        runs += tried;
        match found {
            Some(index) => {
                current = some[index].clone();
                place += index;
                (since, at_once) = (0, 1);
            }
            None => {
                place += some.len();
                since += some.len();
                at_once = (at_once * 2).min(AT_ONCE);
            }
        }
    }
    // As a reader of the file sees it.
    Ok((read(&print(&current)).ok(), runs))
}

/// A run over which a worker is lost takes as long as so many others.
const LOST_COSTS: u32 = 100;
