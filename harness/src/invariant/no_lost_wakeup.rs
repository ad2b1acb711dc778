//! Nobody waits while a connection is idle, or while there is room to dial on a healthy server.
//!
//! Judged for the oldest waiter, the connection idle for longest, and the room that has been there for longest: all of
//! them at once, for longer than a grace. It does not count while the world is faulty, nor, for room, while the pool has a
//! dial under way or may be pausing between failed dials: a pause as long as the failures lasted, at most the acquire
//! timeout.
//!
//! Who waits for the answer to a check on his own connection is being served. Which acquire that is can't be seen from
//! outside, so one is taken for each connection on which something runs, and for each that may be under a check whose
//! question or answer was lost (see [`View::is_proven`]): such a connection is not idle, and what else is idle, or room,
//! counts only while more wait than that.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Event, PoolId, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::{Class, PoolView, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "no-lost-wakeup",
    meaning: "nobody waits while a connection is idle, or while there is room to dial on a healthy server",
    bound: "1 s and a dial",
    needs: None,
};

/// The longest pause between failed dials that is taken for a pause when the pool has no acquire timeout.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Judges [`META`].
pub struct NoLostWakeup {
    grace: Duration,
    // One violation for each wait: the waiter (by its start) that was told of last, by pool.
    told: Vec<(PoolId, Duration)>,
    // When each pool's waiters were last no more than the checks that it may have under way.
    checking: IntMap<u32, Duration>,
}

impl NoLostWakeup {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> NoLostWakeup {
        NoLostWakeup { grace: terms.within(META.name, terms.grace()), told: Vec::new(), checking: IntMap::default() }
    }

    /// Judges what held in this pool until `now`.
    fn look(&mut self, id: PoolId, pool: &PoolView, now: Duration, view: &View, out: &mut Violations) {
        if pool.waiting == 0 || !pool.is_usable() {
            return;
        }
        // A condition that lasts must be looked at whenever it may end: before anything is excused.
        if pool.count(Class::Busy) + view.suspects(pool) >= pool.waiting {
            self.checking.insert(id.0, now);
        }
        let Some(healthy) = view.healthy_since else {
            return;
        };
        let Some((actor, waits)) = view.waiters(pool).next() else {
            return;
        };
        let checking = self.checking.get(&id.0).copied().unwrap_or_default();
        let since = waits.max(healthy).max(pool.built_at).max(checking);
        if now.saturating_sub(since) <= self.grace {
            return;
        }
        let idle = view.idle_conns(pool).find(|(_, conn)| view.is_proven(conn));
        let (conn, reason) = match idle {
            Some((conn, idle)) if now.saturating_sub(since.max(idle.idle_since)) > self.grace => {
                (Some(conn), format!("connection {} was idle since {}", conn.0, seconds(idle.idle_since)))
            }
            _ => {
                let Some(room) = pool.room_since else { return };
                let pause = pool.dial_failures.map_or(Duration::ZERO, |(last, first)| {
                    let longest = pool.settings.acquire_timeout.unwrap_or(LONGEST_PAUSE);
                    last + (last.saturating_sub(first) + Duration::from_millis(200)).min(longest)
                });
                let since = since.max(room).max(pause).max(view.refused_at.unwrap_or_default());
                if now.saturating_sub(since) <= self.grace {
                    return;
                }
                let open = pool.open() + pool.dialling();
                (None, format!("it had only {open} of {} connections and dialled none", pool.max_size))
            }
        };
        if self.told.contains(&(id, waits)) {
            return;
        }
        self.told.retain(|(told, _)| *told != id);
        self.told.push((id, waits));
        out.add(&META, || {
            let sentence = format!(
                "actor {} had been waiting for pool {} since {}, for {}, while {reason}",
                actor.0,
                id.0,
                seconds(waits),
                seconds(now.saturating_sub(waits)),
            );
            let violation = Violation::new(&META, now, Who::Actor(actor), sentence);
            conn.map_or_else(|| violation.clone(), |conn| violation.clone().on(conn, view))
        });
    }

    fn look_everywhere(&mut self, now: Duration, view: &View, out: &mut Violations) {
        for (id, pool) in view.pools() {
            self.look(id, pool, now, view, out);
        }
    }
}

impl Judge for NoLostWakeup {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants {
            before: &[
                Kind::AcquireStart,
                Kind::AcquireEnd,
                Kind::ActorEnd,
                Kind::Dial,
                Kind::State,
                Kind::Gone,
                Kind::ConnClosed,
                Kind::ConnBroken,
                Kind::Fault,
                Kind::Lifecycle,
                Kind::Phase,
                Kind::PoolEnd,
                Kind::Process,
            ],
            after: &[],
        }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        use poolproof_sim::postgres::event::ServerEvent;
        if view.totals.waiting == 0 {
            return;
        }
        let pool = match &event.what {
            What::AcquireStart { pool, .. }
            | What::AcquireEnd { pool, .. }
            | What::Dial { pool, .. }
            | What::PoolClosing { pool } => Some(*pool),
            What::ConnClosed { conn } | What::ConnBroken { conn, .. } => view.conn(*conn).map(|conn| conn.pool),
            What::Server { event: ServerEvent::State { pid, .. } | ServerEvent::Gone { pid, .. }, .. } => {
                let Some(conn) = view.conn_of(*pid).and_then(|conn| view.conn(conn)) else {
                    return;
                };
                if conn.lease.is_some() {
                    return;
                }
                Some(conn.pool)
            }
            What::ActorEnd { actor, .. } => match view.actor(*actor).and_then(|actor| actor.waiting) {
                Some((pool, _)) => Some(pool),
                None => return,
            },
            What::FaultBegin { .. } | What::FaultEnd { .. } | What::Phase(_) | What::ProcessEnd { .. } => None,
            What::Server { event: ServerEvent::Lifecycle(_) | ServerEvent::Promoted, .. } => None,
            _ => return,
        };
        match pool {
            Some(id) => {
                if let Some(pool) = view.pool(id) {
                    self.look(id, pool, event.at, view, out);
                }
            }
            None => self.look_everywhere(event.at, view, out),
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.look_everywhere(view.now, view, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use std::time::Duration;

    use crate::pool::PoolErrorKind;
    use crate::scenario::model::FaultAction;
    use crate::trace::event::SqlResult;
    use poolproof_sim::postgres::event::{BackendState, Lifecycle};

    #[test]
    fn a_connection_is_idle_and_nobody_is_woken() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).at(20).asks(3).at(30).releases(1, 1);
        case.at(5_000).releases(2, 2).gets(3, 1).at(5_010).releases(3, 1).violates(META.name, 1);
    }

    #[test]
    fn there_is_room_and_nobody_dials() {
        let mut case = Case::new();
        case.at(10).asks(1).at(30_010).fails(1, PoolErrorKind::Timeout).violates(META.name, 1);
    }

    #[test]
    fn a_check_under_way_is_not_idle() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).at(20).asks(3).at(30).releases(1, 1);
        case.at(31).state(1, BackendState::Active).at(20_000).state(1, BackendState::Idle).at(20_001).gets(3, 1);
        case.releases(3, 1).is_innocent();
    }

    #[test]
    fn a_check_on_a_silently_dead_flow_is_not_idle() {
        let mut scenario = scenario();
        scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).at(20).asks(3).fault(0, true);
        case.at(30).releases(1, 1).at(25_000).broken(1).dial(3).at(25_005).connected(3).gets(3, 3).releases(3, 3);
        case.is_innocent();
    }

    /// A pool with room, of which every waiter may be checking a connection of before a silent death, until `asks` more
    /// come; at `at` all of the old ones break.
    fn checks_on_dead_flows(more: u32, at: u64) -> Case {
        let mut scenario = scenario();
        scenario.apps["web"].pool.max_size = 4;
        scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).releases(1, 1).releases(2, 2);
        case.at(100).fault(0, true).at(200).asks(3).asks(4);
        for n in 0..more {
            case.at(3_000).asks(5 + n);
        }
        case.at(at).broken(1).closed(1).broken(2).closed(2).dial(3).dial(4);
        case.at(at + 5).connected(3).connected(4).gets(3, 3).gets(4, 4).releases(3, 3).releases(4, 4);
        for n in 0..more {
            case.gets(5 + n, 3).releases(5 + n, 3);
        }
        case
    }

    #[test]
    fn room_counts_for_those_who_can_not_be_checking() {
        checks_on_dead_flows(0, 20_000).is_innocent();
        checks_on_dead_flows(1, 3_900).is_innocent();
        checks_on_dead_flows(1, 20_000).violates(META.name, 1);
    }

    /// Two connections of before a silent death, and one that was opened since and is idle; of its waiters two may be
    /// checking the old ones.
    fn an_idle_one_beside_checks_on_dead_flows(waiters: u32) -> Case {
        let mut scenario = scenario();
        scenario.apps["web"].pool.max_size = 3;
        scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).releases(1, 1).releases(2, 2);
        case.at(100).fault(0, true).at(200).asks(3).open(3).gets(3, 3).releases(3, 3);
        for actor in 0..waiters {
            case.asks(4 + actor);
        }
        case.at(10_000).broken(1).closed(1).broken(2).closed(2);
        for actor in 0..waiters {
            case.gets(4 + actor, 3).releases(4 + actor, 3);
        }
        case
    }

    #[test]
    fn an_idle_connection_counts_for_those_who_can_not_be_checking_another() {
        an_idle_one_beside_checks_on_dead_flows(2).is_innocent();
        an_idle_one_beside_checks_on_dead_flows(3).violates(META.name, 1);
    }

    #[test]
    fn an_answer_after_the_silent_death_ends_the_excuse() {
        let mut scenario = scenario();
        scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).at(20).sql(1, 1, "SELECT 1").fault(0, true);
        // Asked before: its answer says nothing of the way there.
        case.at(30).sql_ends(1, 1, SqlResult::Ok).asks(3).releases(1, 1).at(20_000).gets(3, 1);
        case.at(20_010).sql(3, 1, "SELECT 1").at(20_012).sql_ends(3, 1, SqlResult::Ok);
        case.at(20_020).asks(4).at(20_030).releases(3, 1).at(30_000).gets(4, 1).releases(4, 1).releases(2, 2);
        case.violates(META.name, 1);
    }

    #[test]
    fn a_check_that_takes_long_leaves_its_waiter_no_need_of_room() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).releases(1, 1).at(20).asks(2).state(1, BackendState::Active);
        case.at(20_000).state(1, BackendState::Idle).gets(2, 1).releases(2, 1).is_innocent();
    }

    #[test]
    fn a_firewall_that_forgets_idle_flows() {
        let mut scenario = scenario();
        scenario.network.idle_flow_timeout = Some(Duration::from_secs(60));
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).releases(1, 1).releases(2, 2);
        case.at(70_000).asks(3).at(90_000).broken(1).closed(1).dial(3).at(90_005).connected(3).gets(3, 3).is_innocent();
    }

    #[test]
    fn a_faulty_world_does_not_count() {
        let mut case = Case::new();
        case.at(10).asks(1).lifecycle(Lifecycle::Down).at(25_000).lifecycle(Lifecycle::Running);
        case.at(25_500).open(1).gets(1, 1).releases(1, 1).is_innocent();
    }

    #[test]
    fn a_pause_after_failed_dials() {
        let mut case = Case::new();
        case.at(10).asks(1).dial(1).lifecycle(Lifecycle::Down).at(20).dial_fails(1).at(8_000).dial(2);
        case.at(8_002).dial_fails(2).lifecycle(Lifecycle::Running).at(14_000).open(3).gets(1, 3).releases(1, 3);
        case.is_innocent();
    }

    #[test]
    fn every_connection_is_in_use() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(25_000).releases(1, 1).gets(3, 1).releases(3, 1).releases(2, 2).is_innocent();
    }
}
