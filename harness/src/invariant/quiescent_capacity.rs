//! Once actors ended and the world is healed, `max_size` acquires succeed at once.
//!
//! Whoever runs the scenario asks each pool for `max_size` leases in [`Phase::Capacity`] and keeps all of them until it
//! has them. At once includes dialling, and replacing what died unnoticed: the bound is a grace beyond a dial. What an
//! application leaked is missing, and told; a scenario that leaks excuses it.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Acquired, Event, Phase, PoolId, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "quiescent-capacity",
    meaning: "once actors ended and the world is healed, max_size acquires succeed at once",
    bound: "1 s and a dial",
    needs: Some("max_size"),
};

/// Judges [`META`].
pub struct QuiescentCapacity {
    judged: bool,
    bound: Duration,
    // Leases of the probe, by pool.
    got: IntMap<u32, u32>,
    told: Vec<PoolId>,
}

impl QuiescentCapacity {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> QuiescentCapacity {
        QuiescentCapacity {
            judged: terms.capabilities.max_size,
            bound: terms.within(META.name, terms.grace()),
            got: IntMap::default(),
            told: Vec::new(),
        }
    }

    fn tell(&mut self, id: PoolId, at: Duration, why: &str, view: &View, out: &mut Violations) {
        if self.told.contains(&id) {
            return;
        }
        self.told.push(id);
        let Some(pool) = view.pool(id) else { return };
        let leaked = view.conns_of(pool).filter(|(_, conn)| conn.leaked && conn.lease.is_some()).count();
        out.add(&META, || {
            let got = self.got.get(&id.0).copied().unwrap_or_default();
            let leaked = match leaked {
                0 => String::new(),
                _ => format!(" ({leaked} leaked by the application)"),
            };
            let sentence = format!(
                "with every actor gone and the world healed it should lend {} connections at once; it lent {got}{leaked}, \
                 then {why}",
                pool.max_size
            );
            Violation::new(&META, at, Who::Pool(id), sentence)
        });
    }
}

impl Judge for QuiescentCapacity {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: if self.judged { &[Kind::AcquireEnd, Kind::Phase] } else { &[] }, after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        if view.phase != Phase::Capacity {
            return;
        }
        match &event.what {
            What::AcquireEnd { actor, pool, result } => {
                let since = view.actor(*actor).and_then(|actor| actor.waiting).map_or(event.at, |(_, since)| since);
                let took = event.at.saturating_sub(since);
                match result {
                    Acquired::Lease { .. } if took <= self.bound => *self.got.entry(pool.0).or_default() += 1,
                    Acquired::Lease { .. } => {
                        self.tell(*pool, event.at, &format!("the next took {}", seconds(took)), view, out);
                    }
                    Acquired::Error { kind, message } => {
                        let why = format!("an acquire failed after {} ({}: {message})", seconds(took), kind.as_str());
                        self.tell(*pool, event.at, &why, view, out);
                    }
                    Acquired::Deadline | Acquired::Cancelled => {
                        self.tell(*pool, event.at, &format!("none came within {}", seconds(took)), view, out);
                    }
                    Acquired::Panicked(_) => self.tell(*pool, event.at, "an acquire panicked", view, out),
                }
            }
            What::Phase(_) => {
                let waiting: Vec<PoolId> =
                    view.pools().filter(|(_, pool)| pool.waiting > 0).map(|(id, _)| id).collect();
                for id in waiting {
                    self.tell(id, event.at, "none came any more", view, out);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::pool::PoolErrorKind;
    use crate::trace::event::Phase;

    #[test]
    fn one_is_missing() {
        let mut case = Case::new();
        case.at(10).phase(Phase::Capacity).asks(1).asks(2).dial(1).at(15).connected(1).gets(1, 1).dial(2);
        case.at(16).dial_fails(2).fails(2, PoolErrorKind::Connect).phase(Phase::Closing);
        case.violates(META.name, 1);
    }

    #[test]
    fn all_are_there_after_a_dial() {
        let mut case = Case::new();
        case.at(10).phase(Phase::Capacity).asks(1).asks(2).dial(1).dial(2).at(15).connected(1).gets(1, 1).connected(2);
        case.gets(2, 2).releases(1, 1).releases(2, 2).at(20).phase(Phase::Closing).is_innocent();
    }
}
