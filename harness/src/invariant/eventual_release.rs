//! When an actor ends, however it ends, its lease is back in the pool or its backend is gone within a bound.
//!
//! What a pool has in its hands can't be seen from outside. Back in the pool is: nothing of the actor runs on the
//! connection any more, and where the settings promise a rollback or a discard (and the pool can do it) no transaction
//! is open; or it was handed out again, or its client end or its backend is gone. While an abandoned statement runs, the
//! pool can do nothing: the bound starts anew when it has ended. Where the flow may be silently dead, or the world is
//! faulty, nothing is judged. A connection that was invalidated is to be closed within the bound. A connection that was never handed out again although the capacity probe asked for all of
//! them and did not get them was lost by the pool. What the
//! application keeps from the pool is told as well, since a story may be about it: a lease that it leaked, one that it
//! lost in a reference cycle and that no collection has found within the bound, and one that its thread's session keeps
//! after the actor's end.

use std::collections::VecDeque;
use std::time::Duration;

use poolproof_sim::postgres::event::BackendState;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::scenario::model::Reset;
use crate::trace::event::{Acquired, ActorId, ConnId, Event, Phase, PoolId, What};
use crate::trace::view::{Class, ClientEnd, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "eventual-release",
    meaning: "when an actor ends, however it ends, its lease is back in the pool or its backend is gone within a bound",
    bound: "5 s after the actor's end and its last statement's",
    needs: None,
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct EventualRelease {
    rollback: bool,
    commit: bool,
    discard: bool,
    bound: Duration,
    // Ends of leases that left something behind, by the time at which it must be gone.
    pending: VecDeque<Pending>,
    // Leaked leases whose actors have not ended.
    leaked: Vec<(ActorId, ConnId)>,
    // Kept by a session and told of: the connection, and since when it has been leased.
    kept: Vec<(ConnId, Option<Duration>)>,
    // Pools whose capacity probe did not get all it asked for.
    short: Vec<PoolId>,
    capacity_since: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Pending {
    due: Duration,
    ended: Duration,
    actor: ActorId,
    conn: ConnId,
    fate: Fate,
}

/// How a lease ended, or why it didn't.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Returned,
    Invalidated,
    Leaked,
    Lost,
    Kept,
}

impl EventualRelease {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> EventualRelease {
        EventualRelease {
            rollback: terms.capabilities.reset_rollback,
            commit: terms.capabilities.reset_commit,
            discard: terms.capabilities.reset_discard,
            bound: terms.within(META.name, Duration::from_secs(5)),
            pending: VecDeque::new(),
            leaked: Vec::new(),
            kept: Vec::new(),
            short: Vec::new(),
            capacity_since: None,
        }
    }

    fn promised(&self, reset: Reset) -> bool {
        match reset {
            Reset::None => false,
            Reset::Rollback => self.rollback,
            Reset::Commit => self.commit,
            Reset::Discard => self.discard,
        }
    }

    /// A lease of this actor ended.
    fn ended(&mut self, actor: ActorId, id: ConnId, now: Duration, view: &View) {
        let Some(conn) = view.conn(id) else { return };
        let at_rest = matches!(conn.state, None | Some(BackendState::Idle)) || conn.end != ClientEnd::Open;
        if !at_rest {
            self.pending.push_back(Pending {
                due: now + self.bound,
                ended: now,
                actor,
                conn: id,
                fate: Fate::Returned,
            });
        }
    }

    /// The connection is kept from the pool from here on.
    fn keeps(&mut self, actor: ActorId, conn: ConnId, now: Duration, fate: Fate) {
        self.pending.push_back(Pending { due: now + self.bound, ended: now, actor, conn, fate });
    }

    fn settle(&mut self, now: Duration, view: &View, out: &mut Violations) {
        while let Some(pending) = self.pending.front().copied() {
            if pending.due >= now {
                break;
            }
            self.pending.pop_front();
            self.judge(pending, now, view, out);
        }
    }

    fn judge(&mut self, pending: Pending, now: Duration, view: &View, out: &mut Violations) {
        let Some(conn) = view.conn(pending.conn) else {
            return;
        };
        if conn.end != ClientEnd::Open || conn.state.is_none() {
            return;
        }
        if pending.fate == Fate::Invalidated {
            // Its client's end is all that the pool can close: a backend that no FIN reaches is an orphan.
            out.add(&META, || {
                let sentence = format!(
                    "it was invalidated at {}, and {} later it is still open",
                    seconds(pending.ended),
                    seconds(now.saturating_sub(pending.ended))
                );
                Violation::new(&META, now, Who::Actor(pending.actor), sentence).on(pending.conn, view)
            });
            return;
        }
        if pending.fate != Fate::Returned {
            self.judge_kept(pending, now, view, out);
            return;
        }
        let handed_out_again = conn.leased_at.is_some_and(|leased| leased > pending.ended) || conn.lease.is_some();
        if handed_out_again || !view.is_proven(conn) {
            return;
        }
        let state = match conn.state {
            Some(BackendState::IdleInTransaction | BackendState::IdleInTransactionAborted) => conn.state,
            Some(BackendState::Active | BackendState::Starting) => {
                self.pending.push_back(Pending { due: now + self.bound, ..pending });
                return;
            }
            Some(BackendState::Idle) | None => return,
        };
        if !view.is_healthy() || view.healthy_since.is_some_and(|since| now.saturating_sub(since) < self.bound) {
            self.pending.push_back(Pending { due: now + self.bound, ..pending });
            return;
        }
        let reset = view.pool(conn.pool).map_or(Reset::None, |pool| pool.settings.reset_on_return);
        // Idle in a transaction since: an abandoned statement may have ended a moment ago.
        if !self.promised(reset) {
            return;
        }
        if now.saturating_sub(conn.heard_at) <= self.bound {
            self.pending.push_back(Pending { due: now + self.bound, ..pending });
            return;
        }
        out.add(&META, || {
            let sentence = format!(
                "its lease ended at {}, and {} later the backend is still {}, though the pool's settings promise a reset",
                seconds(pending.ended),
                seconds(now.saturating_sub(pending.ended)),
                state.map_or("there", BackendState::as_str),
            );
            Violation::new(&META, now, Who::Actor(pending.actor), sentence).on(pending.conn, view)
        });
    }

    /// What the application keeps from the pool.
    fn judge_kept(&mut self, pending: Pending, now: Duration, view: &View, out: &mut Violations) {
        let Some(conn) = view.conn(pending.conn) else { return };
        let ended = seconds(pending.ended);
        let sentence = match pending.fate {
            Fate::Kept => {
                // Another actor of the thread may hold it now; it is not back in the pool for that.
                let returned = conn.released.is_some_and(|(released, _)| released >= pending.ended);
                let told = (pending.conn, conn.leased_at);
                if returned || conn.lease.is_none() || self.kept.contains(&told) {
                    return;
                }
                self.kept.push(told);
                format!("the actor ended at {ended}, and its thread's session kept the connection: it was not removed")
            }
            _ if !conn.leaked || conn.lease != Some(pending.actor) => return,
            Fate::Lost => format!(
                "it lost its lease in a reference cycle at {ended}, and {} later no collection has returned it",
                seconds(self.bound)
            ),
            Fate::Leaked | Fate::Returned | Fate::Invalidated => {
                format!("the actor ended at {ended} and leaked its lease: the application never gave it back")
            }
        };
        out.add(&META, || Violation::new(&META, now, Who::Actor(pending.actor), sentence).on(pending.conn, view));
    }

    /// After the capacity probe: what the pool never handed out although it was asked for everything.
    fn lost(&mut self, now: Duration, view: &View, out: &mut Violations) {
        let Some(since) = self.capacity_since.take() else {
            return;
        };
        for id in std::mem::take(&mut self.short) {
            let Some(pool) = view.pool(id) else { continue };
            for (conn_id, conn) in view.conns_of(pool) {
                let Some((released, actor)) = conn.released else {
                    continue;
                };
                if view.class(conn_id) == Class::Idle && released < since && view.is_proven(conn) {
                    out.add(&META, || {
                        let sentence = format!(
                            "actor {} gave it back at {}; it has been idle since, but the pool did not hand it out when \
                             it was asked for all its connections",
                            actor.0,
                            seconds(released)
                        );
                        Violation::new(&META, now, Who::Actor(actor), sentence).on(conn_id, view)
                    });
                }
            }
        }
    }
}

impl Judge for EventualRelease {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants {
            before: &[
                Kind::Released,
                Kind::Invalidated,
                Kind::Leaked,
                Kind::ActorEnd,
                Kind::AcquireEnd,
                Kind::Process,
                Kind::Phase,
            ],
            after: &[],
        }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        if !self.pending.is_empty() {
            self.settle(event.at, view, out);
        }
        match &event.what {
            What::Released { actor, conn } => self.ended(*actor, *conn, event.at, view),
            What::Invalidated { actor, conn } => self.keeps(*actor, *conn, event.at, Fate::Invalidated),
            What::Leaked { actor, conn } => self.leaked.push((*actor, *conn)),
            What::Lost { actor, conn } => self.keeps(*actor, *conn, event.at, Fate::Lost),
            What::Kept { actor, conn } => self.keeps(*actor, *conn, event.at, Fate::Kept),
            What::ActorEnd { actor, .. } => {
                if let Some(conn) = view.actor(*actor).and_then(|actor| actor.held) {
                    self.ended(*actor, conn, event.at, view);
                }
                if !self.leaked.is_empty() {
                    for (leaker, conn) in std::mem::take(&mut self.leaked) {
                        if leaker == *actor {
                            self.keeps(leaker, conn, event.at, Fate::Leaked);
                        } else {
                            self.leaked.push((leaker, conn));
                        }
                    }
                }
            }
            What::AcquireEnd { pool, result, .. }
                if view.phase == Phase::Capacity
                    && !matches!(result, Acquired::Lease { .. })
                    && !self.short.contains(pool) =>
            {
                self.short.push(*pool);
            }
            What::Phase(Phase::Capacity) => self.capacity_since = Some(event.at),
            What::Phase(Phase::Closing | Phase::End) => {
                for (id, pool) in view.pools() {
                    if self.capacity_since.is_some() && pool.waiting > 0 && !self.short.contains(&id) {
                        self.short.push(id);
                    }
                }
                self.lost(event.at, view, out);
                // From here on the pools are closed: what is still open is judged as left.
                for pending in std::mem::take(&mut self.pending) {
                    if pending.fate != Fate::Returned {
                        self.judge(pending, event.at, view, out);
                    }
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.settle(view.now, view, out);
        self.lost(view.now, view, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::pool::PoolErrorKind;
    use crate::scenario::model::{FaultAction, Reset};
    use crate::trace::event::{ActorEnd, ActorId, ConnId, Phase, What};
    use poolproof_sim::postgres::event::BackendState;

    fn promising() -> crate::scenario::model::Scenario {
        let mut scenario = scenario();
        scenario.apps["web"].pool.reset_on_return = Reset::Rollback;
        scenario
    }

    #[test]
    fn a_panic_leaves_a_transaction_open() {
        let mut case = Case::of(&promising());
        case.at(10).asks(1).open(1).gets(1, 1).state(1, BackendState::IdleInTransaction);
        case.at(20).ends(1, ActorEnd::Abandoned);
        case.at(20_000).asks(2).phase(Phase::Healing);
        case.at(20_001).open(2).gets(2, 2).releases(2, 2).violates(META.name, 1);
    }

    #[test]
    fn an_invalidated_connection_is_closed() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).invalidates(1, 1).at(20).closed(1);
        case.at(20_000).asks(2).phase(Phase::Healing).is_innocent();

        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).invalidates(1, 1).at(20_000).asks(2).violates(META.name, 1);
    }

    #[test]
    fn the_reset_takes_its_time() {
        let mut case = Case::of(&promising());
        case.at(10).asks(1).open(1).gets(1, 1).state(1, BackendState::IdleInTransaction);
        case.at(20).ends(1, ActorEnd::Abandoned);
        case.at(4_000).state(1, BackendState::Active).at(4_001).state(1, BackendState::Idle);
        case.at(20_000).leases(2, 1).releases(2, 1).is_innocent();
    }

    #[test]
    fn a_pool_without_a_reset_only_takes_it_back() {
        let mut case = Case::new();
        case.at(10)
            .asks(1)
            .open(1)
            .gets(1, 1)
            .state(1, BackendState::IdleInTransaction)
            .at(20)
            .ends(1, ActorEnd::Failed);
        case.at(20_000).phase(Phase::Healing).is_innocent();
    }

    #[test]
    fn an_abandoned_statement_runs_to_its_end_first() {
        let mut case = Case::of(&promising());
        case.at(10).asks(1).open(1).gets(1, 1).sql(1, 1, "SELECT pg_sleep(60)").state(1, BackendState::Active);
        case.at(20).ends(1, ActorEnd::Abandoned);
        case.at(30_000).asks(2).open(2).gets(2, 2).releases(2, 2);
        case.at(60_010).state(1, BackendState::Idle).at(70_000).is_innocent();
    }

    #[test]
    fn a_leak_is_told() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).happens(What::Leaked { actor: ActorId(1), conn: ConnId(1) });
        case.ends(1, ActorEnd::Done).at(9_000).phase(Phase::Healing).violates(META.name, 1);
    }

    #[test]
    fn a_lease_is_lost_in_a_cycle_until_a_collection() {
        let lost = || {
            let mut case = Case::new();
            case.at(10).asks(1).open(1).gets(1, 1).happens(What::Lost { actor: ActorId(1), conn: ConnId(1) });
            case
        };
        lost().at(9_000).phase(Phase::Healing).at(20_000).phase(Phase::Capacity).violates(META.name, 1);
        lost().at(3_000).releases(1, 1).ends(1, ActorEnd::Done).at(20_000).phase(Phase::Healing).is_innocent();
    }

    #[test]
    fn a_threads_session_keeps_a_connection_and_is_told_once() {
        let kept = |actor| What::Kept { actor: ActorId(actor), conn: ConnId(1) };
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).happens(kept(1)).ends(1, ActorEnd::Done);
        case.at(2_000).happens(What::Resumed { actor: ActorId(2), conn: ConnId(1) }).happens(kept(2));
        case.ends(2, ActorEnd::Done).at(20_000).phase(Phase::Healing).at(20_001).phase(Phase::Capacity);
        case.violates(META.name, 1);
        let mut removed = Case::new();
        removed.at(10).asks(1).open(1).gets(1, 1).happens(kept(1)).ends(1, ActorEnd::Done);
        removed.at(2_000).happens(What::Resumed { actor: ActorId(2), conn: ConnId(1) }).releases(2, 1);
        removed.ends(2, ActorEnd::Done).at(20_000).phase(Phase::Healing).is_innocent();
    }

    #[test]
    fn lost_inside_the_pool() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).ends(1, ActorEnd::Panicked("step".into()));
        case.at(100).phase(Phase::Capacity).asks(2).at(30_100).fails(2, PoolErrorKind::Timeout).phase(Phase::Closing);
        let found = case.over();
        assert_eq!(found.counts()[META.name], 1, "{found:?}");
        assert!(found.counts().contains_key("no-lost-wakeup") && found.counts().contains_key("quiescent-capacity"));
    }

    #[test]
    fn a_silently_dead_flow_says_nothing() {
        let mut scenario = promising();
        scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).open(1).gets(1, 1).state(1, BackendState::IdleInTransaction);
        case.at(15).fault(0, true).at(20).ends(1, ActorEnd::Abandoned).at(20_000).phase(Phase::Healing).is_innocent();
    }
}
