//! The lock table once more, as plainly as possible, and random sequences of calls on which both must agree.
//!
//! The model keeps one list of held locks and one queue, and works everything out from them each time: who is in the way of
//! whom, who is woken, and whether any order of the queues would be free of deadlock (by trying all of them).

#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    pid: Pid,
    tag: Tag,
    mode: Mode,
    hold: Hold,
    /// The number of acquisitions before it, for savepoints.
    at: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waits {
    pid: Pid,
    tag: Tag,
    mode: Mode,
    hold: Hold,
}

#[derive(Debug, Default)]
struct Model {
    /// One entry an acquisition.
    held: Vec<Held>,
    /// All queues in one: the order counts only among those with the same tag.
    queue: Vec<Waits>,
    granted: Vec<Pid>,
    /// Grants from a queue that were not asked for again.
    pickup: Vec<Waits>,
    count: usize,
}

impl Model {
    fn holders_in_the_way(&self, w: &Waits) -> Vec<Pid> {
        let others = self
            .held
            .iter()
            .filter(|h| h.tag == w.tag && h.pid != w.pid);
        others
            .filter(|h| h.mode.conflicts(w.mode))
            .map(|h| h.pid)
            .collect()
    }

    fn take(&mut self, w: &Waits) {
        let same =
            |h: &&Held| h.pid == w.pid && h.tag == w.tag && h.mode == w.mode && h.hold == w.hold;
        let first = self.held.iter().find(same).map(|h| h.at);
        self.count += 1;
        self.held.push(Held {
            pid: w.pid,
            tag: w.tag,
            mode: w.mode,
            hold: w.hold,
            at: first.unwrap_or(self.count),
        });
    }

    fn grant_from_queue(&mut self, w: Waits) {
        self.take(&w);
        self.granted.push(w.pid);
        self.pickup.push(w);
    }

    fn lock(&mut self, w: Waits, patience: Patience) -> Grant {
        let picked_up = self.pickup.contains(&w);
        self.pickup.retain(|p| p.pid != w.pid);
        if picked_up {
            return Grant::Granted;
        }
        let holds = |mode: &dyn Fn(Mode) -> bool, pid: Pid, held: &[Held]| {
            held.iter()
                .any(|h| h.pid == pid && h.tag == w.tag && mode(h.mode))
        };
        if holds(&|mode| mode == w.mode, w.pid, &self.held) {
            self.take(&w);
            return Grant::Granted;
        }
        let queue: Vec<Waits> = self
            .queue
            .iter()
            .filter(|q| q.tag == w.tag)
            .cloned()
            .collect();
        let free = self.holders_in_the_way(&w).is_empty();
        if free && !queue.iter().any(|q| q.mode.conflicts(w.mode)) {
            self.take(&w);
            return Grant::Granted;
        }
        if patience == Patience::NoWait {
            return Grant::Refused;
        }
        // The first waiter that my locks are in the way of.
        let place = queue
            .iter()
            .position(|q| holds(&|mode| mode.conflicts(q.mode), w.pid, &self.held));
        let Some(place) = place else {
            self.queue.push(w);
            return Grant::Queued;
        };
        let behind = &queue[place];
        if holds(&|mode| mode.conflicts(w.mode), behind.pid, &self.held) {
            let edge = |from: &Waits, to: &Waits| Edge {
                waiter: from.pid,
                mode: from.mode,
                tag: from.tag,
                blocker: to.pid,
            };
            return Grant::Deadlock(Box::new([edge(&w, behind), edge(behind, &w)]));
        }
        if free && !queue[..place].iter().any(|q| q.mode.conflicts(w.mode)) {
            self.take(&w);
            return Grant::Granted;
        }
        let place = self.queue.iter().position(|q| q.pid == behind.pid).unwrap();
        self.queue.insert(place, w);
        Grant::Queued
    }

    /// Grants whatever nobody is in the way of, until nothing changes.
    fn settle(&mut self) {
        while let Some(at) = (0..self.queue.len()).find(|&at| self.blocking_at(at).is_empty()) {
            let w = self.queue.remove(at);
            self.grant_from_queue(w);
        }
    }

    fn blocking_at(&self, at: usize) -> Vec<Pid> {
        let w = &self.queue[at];
        let ahead = self.queue[..at]
            .iter()
            .filter(|q| q.tag == w.tag && q.mode.conflicts(w.mode));
        let mut pids: Vec<Pid> = ahead
            .map(|q| q.pid)
            .chain(self.holders_in_the_way(w))
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    fn blocking(&self, pid: Pid) -> Vec<Pid> {
        let at = self.queue.iter().position(|q| q.pid == pid);
        at.map(|at| self.blocking_at(at)).unwrap_or_default()
    }

    fn release(&mut self, gone: impl Fn(&Held) -> bool) {
        self.held.retain(|h| !gone(h));
        self.settle();
    }

    fn give_up(&mut self, pid: Pid) {
        self.queue.retain(|q| q.pid != pid);
        self.settle();
    }

    /// Whether following who blocks whom leads around in a circle anywhere.
    fn has_cycle(&self) -> bool {
        // Who waits for nobody that waits can end; take those away until none is left, or a knot.
        let mut waiting: Vec<Pid> = self.queue.iter().map(|q| q.pid).collect();
        loop {
            let before = waiting.len();
            let still = waiting.clone();
            waiting.retain(|pid| {
                self.blocking(*pid)
                    .iter()
                    .any(|blocker| still.contains(blocker))
            });
            if waiting.is_empty() || waiting.len() == before {
                return !waiting.is_empty();
            }
        }
    }

    /// Whether every order of the queues has a cycle.
    fn is_deadlocked(&self) -> bool {
        fn orders(chosen: &mut Vec<Waits>, left: &[Waits], model: &Model) -> bool {
            if left.is_empty() {
                let model = Model {
                    held: model.held.clone(),
                    queue: chosen.clone(),
                    ..Model::default()
                };
                return model.has_cycle();
            }
            (0..left.len()).all(|at| {
                let mut rest = left.to_vec();
                chosen.push(rest.remove(at));
                let stuck = orders(chosen, &rest, model);
                chosen.pop();
                stuck
            })
        }
        self.has_cycle() && orders(&mut Vec::new(), &self.queue, self)
    }

    fn rows(&self) -> Vec<LockRow> {
        let row = |tag, pid, mode, granted| LockRow {
            tag,
            pid,
            mode,
            granted,
        };
        let held = self.held.iter().map(|h| row(h.tag, h.pid, h.mode, true));
        let waits = self.queue.iter().map(|q| row(q.tag, q.pid, q.mode, false));
        let mut rows: Vec<LockRow> = held.chain(waits).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }
}

#[derive(Debug, Clone)]
enum Call {
    Lock(Pid, Tag, Mode, Hold, Patience),
    Unlock(Pid, Tag, Mode, Hold),
    GiveUp(Pid),
    EndTransaction(Pid),
    UnlockAdvisory(Pid),
    Gone(Pid),
    Savepoint(Pid),
    RollbackTo(Pid),
}

const PIDS: std::ops::RangeInclusive<Pid> = 1..=5;

fn call() -> impl Strategy<Value = Call> {
    let tag = prop_oneof![
        Just(Tag::Relation(1)),
        Just(Tag::Relation(2)),
        Just(Tag::AdvisoryBig(3))
    ];
    let mode = prop::sample::select(&Mode::ALL[..]);
    let hold = prop_oneof![3 => Just(Hold::Transaction), 1 => Just(Hold::Session)];
    let patience = prop_oneof![5 => Just(Patience::Queue), 1 => Just(Patience::NoWait)];
    prop_oneof![
        16 => (PIDS, tag.clone(), mode.clone(), hold.clone(), patience)
            .prop_map(|(pid, tag, mode, hold, patience)| Call::Lock(pid, tag, mode, hold, patience)),
        2 => (PIDS, tag, mode, hold).prop_map(|(pid, tag, mode, hold)| Call::Unlock(pid, tag, mode, hold)),
        1 => PIDS.prop_map(Call::GiveUp),
        2 => PIDS.prop_map(Call::EndTransaction),
        1 => PIDS.prop_map(Call::UnlockAdvisory),
        1 => PIDS.prop_map(Call::Gone),
        1 => PIDS.prop_map(Call::Savepoint),
        1 => PIDS.prop_map(Call::RollbackTo),
    ]
}

/// Plays the calls on both and compares after each; says how many deadlocks and rearrangements there were.
fn agree(calls: Vec<Call>) -> Result<(u32, u32), TestCaseError> {
    let mut table = LockTable::new();
    let mut model = Model::default();
    let mut savepoints = [(table.mark(1), 0); 6];
    let (mut deadlocks, mut rearranged) = (0, 0);
    for call in calls {
        match &call {
            Call::Unlock(pid, ..)
            | Call::EndTransaction(pid)
            | Call::UnlockAdvisory(pid)
            | Call::Gone(pid)
            | Call::RollbackTo(pid) => model.pickup.retain(|p| p.pid != *pid),
            Call::Lock(..) | Call::GiveUp(_) | Call::Savepoint(_) => {}
        }
        match call {
            Call::Lock(pid, tag, mode, hold, patience) => {
                if table.waiting_for(pid).is_some() {
                    continue;
                }
                let ours = table.lock(pid, tag, mode, hold, patience);
                let theirs = model.lock(
                    Waits {
                        pid,
                        tag,
                        mode,
                        hold,
                    },
                    patience,
                );
                prop_assert_eq!(&ours, &theirs);
                // Each waiter checks at once, so that there is never an old cycle somewhere else.
                if ours == Grant::Queued {
                    let cyclic = model.has_cycle();
                    let stuck = model.is_deadlocked();
                    match table.deadlock(pid) {
                        Some(edges) => {
                            prop_assert!(stuck, "a deadlock that another order avoids");
                            prop_assert_eq!(edges[0].waiter, pid);
                            for (edge, next) in edges.iter().zip(edges.iter().cycle().skip(1)) {
                                prop_assert_eq!(edge.blocker, next.waiter);
                                prop_assert_eq!(
                                    Some((edge.tag, edge.mode)),
                                    table.waiting_for(edge.waiter)
                                );
                                prop_assert!(model.blocking(edge.waiter).contains(&edge.blocker));
                            }
                            deadlocks += 1;
                            table.give_up(pid);
                            model.give_up(pid);
                        }
                        None => {
                            prop_assert!(!stuck, "a deadlock was not seen");
                            if cyclic {
                                // Take over the new order, and see that it does without a cycle.
                                rearranged += 1;
                                let woken: Vec<Pid> = table.granted_so_far().to_vec();
                                for pid in woken {
                                    let at = model.queue.iter().position(|q| q.pid == pid).unwrap();
                                    let w = model.queue.remove(at);
                                    prop_assert!(model.holders_in_the_way(&w).is_empty());
                                    model.grant_from_queue(w);
                                }
                                let order = table.queue_order();
                                model
                                    .queue
                                    .sort_by_key(|q| order.iter().position(|pid| *pid == q.pid));
                                prop_assert!(!model.has_cycle());
                            }
                        }
                    }
                }
            }
            Call::Unlock(pid, tag, mode, hold) => {
                let found = model
                    .held
                    .iter()
                    .rposition(|h| (h.pid, h.tag, h.mode, h.hold) == (pid, tag, mode, hold));
                prop_assert_eq!(table.unlock(pid, tag, mode, hold), found.is_some());
                if let Some(found) = found {
                    model.held.remove(found);
                    model.settle();
                }
            }
            Call::GiveUp(pid) => {
                table.give_up(pid);
                model.give_up(pid);
            }
            Call::EndTransaction(pid) => {
                table.release_transaction(pid);
                model.give_up(pid);
                for advisory in [false, true] {
                    // One by one, in the order of acquisition, as the order of the grants depends on it.
                    let ends = |h: &Held| {
                        h.pid == pid
                            && h.hold == Hold::Transaction
                            && h.tag.is_advisory() == advisory
                    };
                    end_each(&mut model, ends);
                }
            }
            Call::UnlockAdvisory(pid) => {
                table.release_session_advisory(pid);
                end_each(&mut model, |h| {
                    h.pid == pid && h.hold == Hold::Session && h.tag.is_advisory()
                });
            }
            Call::Gone(pid) => {
                table.release_all(pid);
                model.give_up(pid);
                for advisory in [false, true] {
                    end_each(&mut model, |h| {
                        h.pid == pid && h.tag.is_advisory() == advisory
                    });
                }
                model.granted.retain(|granted| *granted != pid);
            }
            Call::Savepoint(pid) => savepoints[pid as usize] = (table.mark(pid), model.count),
            Call::RollbackTo(pid) => {
                let (ours, theirs) = savepoints[pid as usize];
                table.release_since(pid, ours);
                model.give_up(pid);
                for advisory in [false, true] {
                    end_each(&mut model, |h| {
                        h.pid == pid
                            && h.hold == Hold::Transaction
                            && h.tag.is_advisory() == advisory
                            && h.at > theirs
                    });
                }
            }
        }
        // Now and then a statement that was woken is executed again.
        for w in model.pickup.clone().into_iter().filter(|w| w.pid % 2 == 0) {
            let ours = table.lock(w.pid, w.tag, w.mode, w.hold, Patience::Queue);
            prop_assert_eq!(ours, model.lock(w, Patience::Queue));
        }
        // Grants on different objects have no order in PostgreSQL: compare them as sets, and those of one object in order.
        let (ours, theirs) = (table.take_granted(), std::mem::take(&mut model.granted));
        let sorted = |mut pids: Vec<Pid>| {
            pids.sort_unstable();
            pids
        };
        prop_assert_eq!(sorted(ours), sorted(theirs));
        prop_assert_eq!(table.rows(), model.rows());
        for pid in PIDS {
            prop_assert_eq!(table.blocking(pid), model.blocking(pid));
            prop_assert_eq!(
                table.waiting_for(pid).is_some(),
                !table.blocking(pid).is_empty()
            );
        }
        let rows = table.rows();
        for (at, one) in rows.iter().enumerate() {
            for other in rows[..at]
                .iter()
                .filter(|other| other.tag == one.tag && other.pid != one.pid)
            {
                prop_assert!(!(one.granted && other.granted && one.mode.conflicts(other.mode)));
            }
        }
    }
    Ok((deadlocks, rearranged))
}

/// Releases what ends, object by object.
fn end_each(model: &mut Model, ends: impl Fn(&Held) -> bool) {
    while let Some(first) = model.held.iter().find(|h| ends(h)).cloned() {
        model.release(|h| ends(h) && (h.tag, h.mode) == (first.tag, first.mode));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_the_naive_model(calls in prop::collection::vec(call(), 1..60)) {
        agree(calls)?;
    }
}

/// The random calls reach what is interesting: hard deadlocks and rearranged queues.
#[test]
fn random_calls_meet_deadlocks_and_rearrangements() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(call(), 60);
    let (mut deadlocks, mut rearranged) = (0, 0);
    for _ in 0..500 {
        let calls =
            proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap());
        let (hard, soft) = agree(calls).unwrap();
        deadlocks += hard;
        rearranged += soft;
    }
    assert!(
        deadlocks > 20 && rearranged > 20,
        "{deadlocks} deadlocks, {rearranged} rearrangements"
    );
}
