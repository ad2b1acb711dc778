//! The oldest waiter is overtaken at most n times, by pools that say that they serve in order.
//!
//! A waiter whose turn has come may be waiting for a dial or a check that takes its time, and others are served
//! meanwhile: an overtaking counts only while the pool has no dial and no check under way, and no connection that may be
//! under a check whose answer was lost. Arrivals in the same millisecond have no order.

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who};
use crate::trace::event::{Acquired, ActorId, Event, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::{Class, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "bounded-bypass",
    meaning: "the oldest waiter is overtaken at most n times",
    bound: "3 x max_size, for pools that document fairness",
    needs: Some("fair"),
    takes: Takes::Count,
};

/// Judges [`META`].
pub struct BoundedBypass {
    fair: bool,
    at_most: Option<u64>,
    // The oldest waiter of each pool, and how often it was overtaken when it could have been served.
    oldest: IntMap<u32, (ActorId, u64)>,
}

impl BoundedBypass {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> BoundedBypass {
        BoundedBypass {
            fair: terms.capabilities.fair || terms.at_most(META.name).is_some(),
            at_most: terms.at_most(META.name),
            oldest: IntMap::default(),
        }
    }
}

impl Judge for BoundedBypass {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: if self.fair { &[Kind::AcquireEnd] } else { &[] }, after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        let What::AcquireEnd { actor, pool: id, result: Acquired::Lease { conn, .. } } = &event.what else {
            return;
        };
        let Some(pool) = view.pool(*id) else { return };
        if pool.waiting < 2 {
            return;
        }
        let Some((_, since)) = view.actor(*actor).and_then(|actor| actor.waiting) else {
            return;
        };
        let Some((oldest, first)) = view.waiters(pool).next() else {
            return;
        };
        let busy = pool.dialling() > 0 || pool.count(Class::Busy) > 0 || view.has_suspects(pool);
        if oldest == *actor || first.as_millis() >= since.as_millis() || busy || !view.is_healthy() {
            return;
        }
        let (who, times) = self.oldest.entry(id.0).or_insert((oldest, 0));
        if *who != oldest {
            (*who, *times) = (oldest, 0);
        }
        *times += 1;
        let bound = self.at_most.unwrap_or(u64::from(pool.max_size) * 3);
        if *times == bound + 1 {
            out.add(&META, || {
                let sentence = format!(
                    "actor {}, the oldest waiter of pool {}, was overtaken for the {}th time, by actor {}, but at most \
                     {bound} times are allowed",
                    oldest.0, id.0, times, actor.0
                );
                Violation::new(&META, event.at, Who::Actor(oldest), sentence).on(*conn, view)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;

    fn overtaken(times: u32, capabilities: crate::pool::Capabilities) -> Case {
        let mut case = Case::with(&scenario(), capabilities);
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).at(1).asks(3);
        for n in 0..times {
            let at = u64::from(n) * 20 + 10;
            case.at(at).asks(100 + n).at(at + 5).releases(if n == 0 { 1 } else { 99 + n }, 1).gets(100 + n, 1);
        }
        case
    }

    #[test]
    fn the_oldest_is_served_last() {
        overtaken(6, ABLE).is_innocent();
        overtaken(7, ABLE).violates(META.name, 1);
        overtaken(50, crate::pool::Capabilities { fair: false, ..ABLE }).is_innocent();
    }

    #[test]
    fn one_that_waits_for_a_dial_is_being_served() {
        let mut case = Case::new();
        case.at(0).asks(1).open(1).gets(1, 1).at(1).asks(3).dial(2);
        for n in 0..20 {
            let at = u64::from(n) * 20 + 10;
            case.at(at).asks(100 + n).at(at + 5).releases(if n == 0 { 1 } else { 99 + n }, 1).gets(100 + n, 1);
        }
        case.at(900).connected(2).gets(3, 2).is_innocent();
    }
}
