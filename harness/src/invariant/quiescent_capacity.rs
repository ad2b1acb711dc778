//! Once actors ended and the world is healed, `max_size` acquires succeed at once.
//!
//! Whoever runs the scenario asks each pool in [`Phase::Capacity`] for `max_size` leases, less those that applications
//! leaked (which [`eventual_release`](super::eventual_release) tells), and keeps all of them until it has them; a pool
//! without a bound for as many as were ever wanted of it at once. At once includes dialling: the bound is a grace beyond a dial. What nobody can ask of the pool:
//!
//! - A connection that died silently is found dead only when somebody waits for its answer in vain: each that the pool
//!   has ([`View::suspects`]) may spoil one acquire. Those who got none ask again; a pool that keeps such a connection, or
//!   its place, spoils more.
//! - A server without a free slot (53300) has no room for the pools of all processes, each of which is asked for all it
//!   may open, nor where sessions of clients that died silently have the slots. A pool whose latest dial was refused for
//!   that may be in its pause while no slot has become free.

use std::time::Duration;

use poolproof_sim::postgres::error::SqlState;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Acquired, Event, Phase, PoolId, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "quiescent-capacity",
    meaning: "once actors ended and the world is healed, max_size acquires succeed at once",
    bound: "1 s and a dial",
    needs: Some("max_size"),
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct QuiescentCapacity {
    judged: bool,
    bound: Duration,
    // Leases of the probe, by pool.
    got: IntMap<u32, u32>,
    // Acquires of the probe that connections which died silently may still spoil, by pool.
    spoiled: IntMap<u32, u32>,
    // Pools whose dials the server refused for want of a slot, in the probe.
    no_slot: Vec<PoolId>,
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
            spoiled: IntMap::default(),
            no_slot: Vec::new(),
            told: Vec::new(),
        }
    }

    /// An acquire of the probe came late, or in vain.
    fn tell(&mut self, id: PoolId, at: Duration, why: &str, view: &View, out: &mut Violations) {
        let has_no_slot = self.no_slot.contains(&id) || view.pool(id).is_some_and(|pool| view.has_no_slot(pool));
        if self.told.contains(&id) || has_no_slot {
            return;
        }
        if let Some(spoiled) = self.spoiled.get_mut(&id.0).filter(|spoiled| **spoiled > 0) {
            *spoiled -= 1;
            return;
        }
        self.told.push(id);
        let Some(pool) = view.pool(id) else { return };
        let leaked = view.conns_of(pool).filter(|(_, conn)| conn.leaked && conn.lease.is_some()).count();
        let asked = (pool.capacity() as usize).saturating_sub(leaked);
        out.add(&META, || {
            let got = self.got.get(&id.0).copied().unwrap_or_default();
            let leaked = match leaked {
                0 => String::new(),
                _ => format!(" ({leaked} more were leaked by the application)"),
            };
            let sentence = format!(
                "with every actor gone and the world healed it should lend {asked} connections at once{leaked}; it lent \
                 {got}, then {why}"
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
        Wants { before: if self.judged { &[Kind::AcquireEnd, Kind::DialEnd, Kind::Phase] } else { &[] }, after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        if event.what == What::Phase(Phase::Capacity) {
            self.spoiled.extend(view.pools().map(|(id, pool)| (id.0, view.suspects(pool))));
        }
        // Nobody can lend connections to a server that takes no sessions.
        if view.phase != Phase::Capacity || !view.is_healthy() {
            return;
        }
        match &event.what {
            What::DialFailed { conn, code: Some(code), .. } if code == SqlState::TOO_MANY_CONNECTIONS.0 => {
                self.no_slot.extend(view.conn(*conn).map(|conn| conn.pool));
            }
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
                    Acquired::Deadline | Acquired::Cancelled | Acquired::GivenUp => {
                        self.tell(*pool, event.at, &format!("none came within {}", seconds(took)), view, out);
                    }
                    Acquired::Panicked(_) => self.tell(*pool, event.at, "an acquire panicked", view, out),
                }
            }
            What::Phase(_) => {
                for (id, pool) in view.pools() {
                    for _ in 0..pool.waiting {
                        self.tell(id, event.at, "none came any more", view, out);
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use poolproof_sim::postgres::event::{Gone, Lifecycle, ServerEvent};

    use super::super::testing::*;
    use super::META;
    use crate::pool::PoolErrorKind;
    use crate::scenario::model::FaultAction;
    use crate::trace::event::{ActorId, ConnId, Phase, What};

    #[test]
    fn one_is_missing() {
        let mut case = Case::new();
        case.at(10).phase(Phase::Capacity).asks(1).asks(2).dial(1).at(15).connected(1).gets(1, 1).dial(2);
        case.at(16).dial_fails(2).fails(2, PoolErrorKind::Connect).phase(Phase::Closing);
        case.violates(META.name, 1);
    }

    #[test]
    fn what_the_application_leaked_is_not_asked_for() {
        let run = |lends: bool| {
            let mut case = Case::of(&scenario());
            case.at(0).asks(1).open(1).gets(1, 1).happens(What::Leaked { actor: ActorId(1), conn: ConnId(1) });
            case.at(10).phase(Phase::Capacity).asks(2).dial(2).at(15);
            if lends {
                case.connected(2).gets(2, 2).at(20).releases(2, 2);
            } else {
                case.dial_fails(2).fails(2, PoolErrorKind::Connect);
            }
            case.phase(Phase::Closing);
            case
        };
        run(true).is_innocent();
        run(false).violates(META.name, 1);
    }

    #[test]
    fn what_died_silently_spoils_one_acquire_each() {
        let run = |dead: bool| {
            let mut scenario = scenario();
            scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
            let mut case = Case::of(&scenario);
            case.at(0).asks(1).open(1).gets(1, 1).releases(1, 1).at(5);
            if dead {
                case.fault(0, true);
            }
            case.at(10).phase(Phase::Capacity).asks(2).asks(3).dial(2).at(15).connected(2).gets(3, 2);
            case.at(2_015).closed(1).dial(3).at(2_020).connected(3).gets(2, 3);
            case.releases(3, 2).releases(2, 3).phase(Phase::Closing);
            case
        };
        run(true).is_innocent();
        assert!(run(false).over().counts().contains_key(META.name));
    }

    #[test]
    fn what_died_silently_spoils_no_second_one() {
        let run = |kept: bool| {
            let mut scenario = scenario();
            scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
            let mut case = Case::of(&scenario);
            case.at(0).asks(1).open(1).gets(1, 1).releases(1, 1).at(5).fault(0, true);
            case.at(10).phase(Phase::Capacity).asks(2).asks(3).dial(2).at(15).connected(2).gets(3, 2);
            case.at(2_010).fails(2, PoolErrorKind::Timeout);
            if kept {
                case.asks(4).at(4_010).fails(4, PoolErrorKind::Timeout);
            } else {
                case.closed(1).asks(4).dial(3).at(2_015).connected(3).gets(4, 3).releases(4, 3);
            }
            case.releases(3, 2).phase(Phase::Closing);
            case
        };
        run(false).is_innocent();
        assert_eq!(run(true).over().counts().get(META.name), Some(&1));
    }

    #[test]
    fn a_server_without_a_slot_is_no_fault_of_the_pool() {
        let run = |code: &str| {
            let mut case = Case::new();
            case.at(10).phase(Phase::Capacity).asks(1).asks(2).dial(1).at(15).connected(1).gets(1, 1).dial(2).at(16);
            let (message, code) = ("refused".into(), Some(code.to_owned()));
            case.happens(What::DialFailed { conn: ConnId(2), message, code });
            case.at(20).fails(2, PoolErrorKind::Connect).releases(1, 1).phase(Phase::Closing);
            case
        };
        run("53300").is_innocent();
        run("28P01").violates(META.name, 1);
    }

    #[test]
    fn a_pool_in_its_pause_after_a_refusal_may_wait_while_no_slot_is_free() {
        let run = |code: &str, freed: bool| {
            let mut case = Case::new();
            // Another session has the slot.
            case.server(ServerEvent::Forked { pid: 70, peer: "10.0.0.2:40000".parse().expect("an address") });
            let (message, code) = ("refused".into(), Some(code.to_owned()));
            case.at(5).dial(1).at(6).happens(What::DialFailed { conn: ConnId(1), message, code });
            if freed {
                case.server(ServerEvent::Gone { pid: 70, reason: Gone::ClientClosed });
            }
            case.at(10).phase(Phase::Capacity).asks(1).at(310).fails(1, PoolErrorKind::Timeout).phase(Phase::Closing);
            case
        };
        run("53300", false).is_innocent();
        run("53300", true).violates(META.name, 1);
        run("28P01", false).violates(META.name, 1);
    }

    #[test]
    fn a_server_that_takes_no_sessions_is_no_fault_of_the_pool() {
        let mut case = Case::new();
        case.at(5).lifecycle(Lifecycle::ShuttingDown).at(10).phase(Phase::Capacity).asks(1).dial(1);
        case.at(15).dial_fails(1).fails(1, PoolErrorKind::Connect).phase(Phase::Closing).is_innocent();
    }

    #[test]
    fn all_are_there_after_a_dial() {
        let mut case = Case::new();
        case.at(10).phase(Phase::Capacity).asks(1).asks(2).dial(1).dial(2).at(15).connected(1).gets(1, 1).connected(2);
        case.gets(2, 2).releases(1, 1).releases(2, 2).at(20).phase(Phase::Closing).is_innocent();
    }
}
