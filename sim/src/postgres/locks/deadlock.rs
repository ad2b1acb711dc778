//! The deadlock check: PostgreSQL's deadlock.c, without lock groups and without its fixed-size work space.
//!
//! A waiter has a hard edge to each session that holds a conflicting lock, and a soft edge to each one ahead of it in the
//! queue with a conflicting request. A cycle with a soft edge may be broken by reversing that edge, that is by moving the
//! waiter ahead; the search tries each soft edge of each cycle it finds in turn, until an order of the queues without
//! a cycle through the sessions concerned is found, or none is left to try.

use std::collections::HashSet;
use std::hash::BuildHasherDefault;

use super::table::{FixedHasher, LockTable};
use super::{Edge, Mode, Tag};
use crate::postgres::event::Pid;

/// What a check found.
pub(super) enum Outcome {
    /// A deadlock that no order of the queues avoids.
    Hard(Vec<Edge>),
    /// No deadlock, provided that these queues (by object) are brought into these orders; most often there are none.
    Rearranged(Vec<(usize, Vec<Pid>)>),
}

/// Looks for a cycle of waits through `pid`, and for a way out of it.
pub(super) fn check(table: &LockTable, pid: Pid) -> Outcome {
    let mut search = Search { table, constraints: Vec::new(), orders: Vec::new(), visited: HashSet::default() };
    if !search.is_stuck(pid) {
        return Outcome::Rearranged(search.orders);
    }
    // The error describes the queues as they are.
    search.orders.clear();
    let cycle = search.cycle_through(pid);
    let cycle = cycle.expect("a deadlock is a cycle without any rearrangement, too");
    let next = cycle.hops.iter().cycle().skip(1);
    let edges = cycle.hops.iter().zip(next).map(|(hop, next)| Edge {
        waiter: hop.pid,
        mode: hop.mode,
        tag: hop.tag,
        blocker: next.pid,
    });
    Outcome::Hard(edges.collect())
}

/// "`waiter` goes before `blocker` in the queue of `object`": a soft edge, to be reversed.
#[derive(Debug, Clone, Copy)]
struct Constraint {
    waiter: Pid,
    blocker: Pid,
    object: usize,
}

/// A closed chain of waits.
#[derive(Default)]
struct Cycle {
    /// From the session asked about, each blocked by the next, the last one by the first.
    hops: Vec<Hop>,
    soft: Vec<Constraint>,
}

struct Hop {
    pid: Pid,
    mode: Mode,
    tag: Tag,
}

struct Search<'a> {
    table: &'a LockTable,
    constraints: Vec<Constraint>,
    /// The queues as the constraints make them, by object.
    orders: Vec<(usize, Vec<Pid>)>,
    visited: HashSet<Pid, BuildHasherDefault<FixedHasher>>,
}

/// The result of trying the constraints (`TestConfiguration`).
enum Configuration {
    Good,
    /// A cycle of hard edges only, or constraints that contradict each other.
    Hopeless,
    /// A cycle, of which one of these edges has to be reversed.
    Soft(Vec<Constraint>),
}

impl Search<'_> {
    /// `DeadLockCheckRecurse`: false when the constraints, with some more, lead out; `orders` then says how.
    fn is_stuck(&mut self, start: Pid) -> bool {
        let soft = match self.configuration(start) {
            Configuration::Good => return false,
            Configuration::Hopeless => return true,
            Configuration::Soft(soft) => soft,
        };
        for edge in soft {
            self.constraints.push(edge);
            if !self.is_stuck(start) {
                return false;
            }
            self.constraints.pop();
        }
        true
    }

    fn configuration(&mut self, start: Pid) -> Configuration {
        if !self.expand_constraints() {
            return Configuration::Hopeless;
        }
        // The session asked about comes last: a soft cycle of its own is to be dealt with first.
        let concerned = self.constraints.iter().flat_map(|c| [c.waiter, c.blocker]);
        let concerned: Vec<Pid> = concerned.chain([start]).collect();
        let mut found = Configuration::Good;
        for pid in concerned {
            if let Some(cycle) = self.cycle_through(pid) {
                if cycle.soft.is_empty() {
                    return Configuration::Hopeless;
                }
                found = Configuration::Soft(cycle.soft);
            }
        }
        found
    }

    /// Orders the queues that the constraints speak of; false when they contradict each other (`ExpandConstraints`).
    fn expand_constraints(&mut self) -> bool {
        self.orders.clear();
        // Backwards, since only the newest constraint can be the one that contradicts.
        for constraint in self.constraints.iter().rev() {
            let object = constraint.object;
            if self.orders.iter().any(|(ordered, _)| *ordered == object) {
                continue;
            }
            let Some(order) = self.sorted_queue(object) else {
                return false;
            };
            self.orders.push((object, order));
        }
        true
    }

    /// The queue of an object with as little moved as the constraints allow (`TopoSort`): filled from the end, each time
    /// with the last session that need not be before one still to be placed.
    fn sorted_queue(&self, object: usize) -> Option<Vec<Pid>> {
        let queue = &self.table.object_at(object).queue;
        let mut remaining: Vec<Pid> = queue.iter().map(|waiter| waiter.pid).collect();
        let constraints = self.constraints.iter().filter(|c| c.object == object);
        let constraints: Vec<&Constraint> = constraints.collect();
        let mut order = Vec::with_capacity(remaining.len());
        while !remaining.is_empty() {
            let free = remaining
                .iter()
                .rposition(|pid| !constraints.iter().any(|c| c.waiter == *pid && remaining.contains(&c.blocker)))?;
            order.push(remaining.remove(free));
        }
        order.reverse();
        Some(order)
    }

    /// `FindLockCycle`.
    fn cycle_through(&mut self, start: Pid) -> Option<Cycle> {
        self.visited.clear();
        let mut cycle = Cycle::default();
        if !self.leads_back(start, start, &mut cycle) {
            return None;
        }
        cycle.hops.reverse();
        Some(cycle)
    }

    /// Whether a chain of waits leads from `pid` to `start`; fills the cycle from its end.
    fn leads_back(&mut self, pid: Pid, start: Pid, cycle: &mut Cycle) -> bool {
        if !self.visited.insert(pid) {
            // A cycle without `start` is someone else's business.
            return pid == start;
        }
        let table = self.table;
        let Some((index, object)) = table.awaited(pid) else {
            return false;
        };
        let Some(wait) = object.queue.iter().find(|waiter| waiter.pid == pid) else {
            return false;
        };
        let conflicts = wait.mode.conflict_mask();
        let hop = Hop { pid, mode: wait.mode, tag: object.tag };

        // Hard edges first: whom both kinds of edge lead to is hard-blocking.
        for claim in &object.claims {
            if claim.pid != pid && claim.held & conflicts != 0 && self.leads_back(claim.pid, start, cycle) {
                cycle.hops.push(hop);
                return true;
            }
        }

        let proposed = self.orders.iter().find(|(ordered, _)| *ordered == index);
        let queue: Vec<Pid> = match proposed {
            Some((_, order)) => order.clone(),
            None => object.queue.iter().map(|waiter| waiter.pid).collect(),
        };
        for other in queue.into_iter().take_while(|other| *other != pid) {
            let asks = object.queue.iter().find(|waiter| waiter.pid == other);
            if asks.is_some_and(|waiter| waiter.mode.bit() & conflicts != 0) && self.leads_back(other, start, cycle) {
                cycle.hops.push(hop);
                cycle.soft.push(Constraint { waiter: pid, blocker: other, object: index });
                return true;
            }
        }
        false
    }
}
