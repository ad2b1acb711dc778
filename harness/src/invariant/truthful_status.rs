//! The pool's own counters agree with the server at quiescence.
//!
//! Quiescence is: traffic and faults are over, nobody waits or dials, and nothing has changed in the pool for longer
//! than a round trip. Counters are compared one by one, those that the pool has. While it may hold connections that
//! died unnoticed (broken and not yet dropped, gone at the server, unproven) its claim is neither true nor false: only
//! `max_size` is judged, and that it claims no more connections than that.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who};
use crate::pool::TIMER_SLACK;
use crate::trace::event::{Event, Phase, What};
use crate::trace::view::{Class, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "truthful-status",
    meaning: "the pool's own counters agree with the server at quiescence",
    bound: "a round trip after the last change",
    needs: None,
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct TruthfulStatus {
    settled: Duration,
    bounded: bool,
}

impl TruthfulStatus {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> TruthfulStatus {
        TruthfulStatus {
            settled: terms.within(META.name, terms.round_trip + TIMER_SLACK),
            bounded: terms.capabilities.max_size,
        }
    }
}

impl Judge for TruthfulStatus {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::PoolStatus], after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        let What::PoolStatus { pool: id, status } = &event.what else {
            return;
        };
        let Some(pool) = view.pool(*id) else { return };
        let quiet = view.phase != Phase::Fault
            && pool.waiting == 0
            && pool.dialling() == 0
            && pool.count(Class::Busy) == 0
            && event.at.saturating_sub(pool.changed_at) > self.settled
            // What is beyond a new bound is being closed.
            && pool.resized_at.is_none_or(|resized| event.at.saturating_sub(resized) > self.settled);
        let unknown = pool.count(Class::Dead) + pool.count(Class::Broken) + pool.count(Class::LeasedBroken) > 0
            || view.has_suspects(pool)
            || !view.is_healthy();
        if !quiet || !pool.is_usable() {
            return;
        }
        let known = |claim: Option<u32>| claim.filter(|_| !unknown);
        let truth = [
            ("connections", known(status.size), pool.open()),
            ("idle", known(status.idle), pool.unleased()),
            ("in use", known(status.in_use), pool.in_use()),
            ("waiting", known(status.waiting), pool.waiting),
            ("max_size", status.max_size, pool.max_size),
        ];
        let wrong = truth.into_iter().filter_map(|(name, claim, truth)| {
            let claim = claim.filter(|claim| *claim != truth)?;
            Some(format!("{name}: it says {claim}, the server says {truth}"))
        });
        let at_most = pool.max_size.max(pool.open());
        let too_many =
            status.size.filter(|size| unknown && self.bounded && pool.resized_at.is_none() && *size > at_most);
        let too_many = too_many.map(|size| format!("connections: it says {size}, more than it may have at all"));
        let wrong: Vec<String> = wrong.chain(too_many).collect();
        if !wrong.is_empty() {
            out.add(&META, || {
                Violation::new(&META, event.at, Who::Pool(*id), format!("its status is wrong; {}", wrong.join(", ")))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::pool::Status;
    use crate::trace::event::{Phase, PoolId, What};

    fn says(at: u64, idle: u32) -> Case {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).phase(Phase::Healing);
        let status = Status { size: Some(1), idle: Some(idle), in_use: Some(0), waiting: None, max_size: Some(2) };
        case.at(at).happens(What::PoolStatus { pool: PoolId(1), status });
        case
    }

    #[test]
    fn a_false_claim() {
        says(500, 2).violates(META.name, 1);
        says(500, 1).is_innocent();
    }

    #[test]
    fn a_claim_in_the_same_millisecond_as_a_change() {
        says(20, 0).is_innocent();
    }

    #[test]
    fn a_claim_in_the_same_millisecond_as_a_resize() {
        let resized = |said: u64| {
            let mut case = Case::new();
            case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).phase(Phase::Healing);
            case.at(500).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
            let status = Status { size: Some(0), max_size: Some(1), ..Status::default() };
            case.at(said).happens(What::PoolStatus { pool: PoolId(1), status });
            case
        };
        resized(500).is_innocent();
        resized(900).violates(META.name, 1);
    }

    #[test]
    fn what_died_unnoticed_is_not_held_against_it() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).phase(Phase::Healing).at(30).gone(1, terminated());
        let status = Status { size: Some(1), idle: Some(0), ..Status::default() };
        case.at(500).happens(What::PoolStatus { pool: PoolId(1), status }).is_innocent();
    }

    #[test]
    fn what_broke_is_counted_for_ever() {
        for (size, wrong) in [(2, 0), (3, 1)] {
            let mut case = Case::new();
            case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).releases(1, 1).releases(2, 2);
            case.at(20).gone(1, terminated()).broken(1).at(30).asks(3).open(3).gets(3, 3).releases(3, 3);
            case.phase(Phase::Healing);
            // Two are open. It may or may not know that the third is broken, but it can't have more than two.
            let status = Status { size: Some(size), ..Status::default() };
            case.at(500).happens(What::PoolStatus { pool: PoolId(1), status });
            assert_eq!(case.over().counts().get(META.name).copied().unwrap_or_default(), wrong, "{size}");
        }
    }
}
