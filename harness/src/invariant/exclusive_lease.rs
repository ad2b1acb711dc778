//! A connection is never in two leases at once, nor used by one who does not hold it. One that was taken out of the pool, or
//! invalidated, is never in another.
//!
//! Within one virtual millisecond a release and the next lease have no order: a lease that seems to overlap is held
//! back until the millisecond is over, and forgotten if the former lease ended in it.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who};
use crate::trace::event::{Acquired, ActorId, ConnId, Event, What};
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "exclusive-lease",
    meaning: "a connection is never in two leases at once",
    bound: "none",
    needs: None,
    takes: Takes::Nothing,
};

/// Judges [`META`].
pub struct ExclusiveLease {
    /// Pools that document that they lend one connection to several.
    shared: bool,
    // A thread may be lent what it has: an actor has it when it lost its lease in a reference cycle.
    per_thread: bool,
    open: Vec<Overlap>,
}

struct Overlap {
    at: Duration,
    conn: ConnId,
    former: ActorId,
    newer: ActorId,
}

impl ExclusiveLease {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> ExclusiveLease {
        ExclusiveLease {
            shared: terms.capabilities.shared,
            per_thread: terms.capabilities.per_thread,
            open: Vec::new(),
        }
    }

    fn settle(&mut self, now: Duration, view: &View, out: &mut Violations) {
        self.open.retain(|overlap| {
            if overlap.at.as_millis() == now.as_millis() {
                return true;
            }
            out.add(&META, || {
                let (ActorId(former), ActorId(newer)) = (overlap.former, overlap.newer);
                let sentence = format!("it was handed to actor {newer} while actor {former} still held it");
                Violation::new(&META, overlap.at, Who::Actor(overlap.newer), sentence).on(overlap.conn, view)
            });
            false
        });
    }
}

impl Judge for ExclusiveLease {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        const BEFORE: &[Kind] =
            &[Kind::AcquireEnd, Kind::Released, Kind::Invalidated, Kind::ActorEnd, Kind::SqlStart, Kind::Phase];
        Wants { before: if self.shared { &[] } else { BEFORE }, after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        match &event.what {
            What::AcquireEnd { actor, pool, result: Acquired::Lease { conn, .. } } => {
                let Some(known) = view.conn(*conn) else {
                    return;
                };
                if let Some(former) = known.lease.filter(|former| !self.per_thread || former != actor) {
                    self.open.push(Overlap { at: event.at, conn: *conn, former, newer: *actor });
                }
                if known.detached || known.invalidated || known.pool != *pool {
                    out.add(&META, || {
                        let sentence = if known.detached {
                            "it was handed out after it had been taken out of the pool".to_owned()
                        } else if known.invalidated {
                            "it was handed out after it had been invalidated".to_owned()
                        } else {
                            format!("pool {} handed it out, but it belongs to pool {}", pool.0, known.pool.0)
                        };
                        Violation::new(&META, event.at, Who::Actor(*actor), sentence).on(*conn, view)
                    });
                }
            }
            What::Released { actor, conn } | What::Invalidated { actor, conn } => {
                self.open.retain(|overlap| {
                    overlap.conn != *conn || overlap.former != *actor || overlap.at.as_millis() != event.at.as_millis()
                });
            }
            What::ActorEnd { actor, .. } => {
                self.open.retain(|overlap| overlap.former != *actor || overlap.at.as_millis() != event.at.as_millis());
            }
            What::SqlStart { actor, conn, .. } => {
                let Some(known) = view.conn(*conn) else {
                    return;
                };
                if let Some(holder) = known.lease
                    && holder != *actor
                    && !known.also.contains(actor)
                {
                    out.add(&META, || {
                        let sentence = format!("actor {} used it while actor {} held it", actor.0, holder.0);
                        Violation::new(&META, event.at, Who::Actor(*actor), sentence).on(*conn, view)
                    });
                }
            }
            _ => {}
        }
        if !self.open.is_empty() {
            self.settle(event.at, view, out);
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.settle(Duration::MAX, view, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;

    #[test]
    fn two_at_once() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).asks(2).gets(2, 1).at(30).releases(1, 1).at(40).releases(2, 1);
        case.violates(META.name, 1);
    }

    #[test]
    fn two_at_once_in_a_pool_that_documents_it() {
        let mut case = Case::with(&scenario(), crate::pool::Capabilities { shared: true, ..ABLE });
        case.at(10).asks(1).open(1).gets(1, 1).at(20).asks(2).gets(2, 1).at(30).releases(1, 1).at(40).releases(2, 1);
        case.is_innocent();
    }

    #[test]
    fn a_release_in_the_same_millisecond() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).leases(2, 1).releases(1, 1).at(40).releases(2, 1);
        case.is_innocent();
    }

    #[test]
    fn used_after_it_was_given_back() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).leases(2, 1).at(30).sql(1, 1, "SELECT 1");
        case.violates(META.name, 1);
    }
}
