//! From the moment the world is whole again: the time to the first success, to full capacity, and to a quiet server.
//!
//! Whole again is: no lasting fault, and the server that the name leads to takes sessions. The first success is a
//! statement begun and answered after it (a statement that the server refuses for what it says is answered: a workload
//! may be wrong and its pool right), or a lease after it that sent none; full capacity is reached with the last failure (an acquire that failed, a
//! statement that broke) before the next fault; the server is quiet when nobody waits, dials or is blocked. The times
//! are figures of every run. They are judged for each pool against the scenario's bound (`recovery within 1s`): both the
//! first success and the last failure. Without a bound only a pool that is asked and has no success for two minutes and
//! an acquire timeout is judged: as long as TCP may wait between two retransmissions. A pool has no success only for as
//! long as it is asked in vain: from the first who asks to the last whom it disappoints. Who gives up of his own accord
//! within a second gave it no chance, who asks a closed pool expects none, and a pool that ended is asked no more. Without a
//! bound, a pool that has lent all that it may have is not asked in vain: those who have it have no success. Nor is one that the
//! server has no slot for, since clients that died silently have them all.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::pool::PoolErrorKind;
use crate::trace::event::{Acquired, ActorId, Event, Phase, PoolId, SqlResult, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::{PoolView, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "recovery",
    meaning: "time from server-up to first success, to full capacity and to a quiet server, each within a bound",
    bound: "2 min and acquire_timeout to the first success",
    needs: None,
    takes: Takes::Time,
};

/// How long an acquire must wait to be asking in vain, if it is not the pool that ends it: a dial and more.
const A_CHANCE: Duration = Duration::from_secs(1);

/// Judges [`META`].
pub struct Recovery {
    given: Option<Duration>,
    whole_since: Option<Duration>,
    pools: IntMap<u32, After>,
    order: Vec<PoolId>,
}

#[derive(Default, Clone, Copy)]
struct After {
    asked: Option<Duration>,
    success: Option<Duration>,
    last_failure: Option<Duration>,
    // Until when it was asked in vain.
    in_vain: Option<Duration>,
}

impl Recovery {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> Recovery {
        Recovery {
            given: terms.given_within(META.name),
            whole_since: None,
            pools: IntMap::default(),
            order: Vec::new(),
        }
    }

    /// An acquire of this pool failed, though it could have succeeded.
    fn in_vain(&mut self, id: PoolId, at: Duration, view: &View) {
        if !view.pool(id).is_some_and(|pool| self.has_nothing_to_lend(pool, view)) {
            self.of(id).in_vain = Some(at);
        }
    }

    /// Whether callers hold all connections that the pool may have, or can. With a bound that is no excuse.
    fn has_nothing_to_lend(&self, pool: &PoolView, view: &View) -> bool {
        self.given.is_none() && (pool.in_use() >= pool.max_size || view.has_no_slot(pool))
    }

    fn of(&mut self, pool: PoolId) -> &mut After {
        if !self.pools.contains_key(&pool.0) {
            self.order.push(pool);
        }
        self.pools.entry(pool.0).or_default()
    }

    /// Judges what followed the last return of the world, up to now.
    fn judge(&mut self, now: Duration, view: &View, out: &mut Violations) {
        let Some(whole) = self.whole_since else {
            return;
        };
        for id in std::mem::take(&mut self.order) {
            let Some(after) = self.pools.remove(&id.0) else {
                continue;
            };
            let Some(pool) = view.pool(id) else { continue };
            let Some(asked) = after.asked else { continue };
            let timeout = pool.settings.acquire_timeout.unwrap_or(Duration::from_secs(30));
            let bound = self.given.unwrap_or(Duration::from_secs(120) + timeout);
            // A pool that nobody asked for a while had no chance to succeed before.
            let from = whole.max(asked);
            let now = pool.ended_at.or(pool.closing_at).map_or(now, |ended| ended.min(now));
            let waits = view.waiters(pool).next().map(|(_, since)| since.max(whole));
            let waits = waits.filter(|_| !self.has_nothing_to_lend(pool, view));
            let waits = waits.filter(|since| now.saturating_sub(*since) >= A_CHANCE).map(|_| now);
            let Some(until) = after.success.or(waits).or(after.in_vain) else { continue };
            let first = until.saturating_sub(from);
            let full = after.last_failure.map_or(Duration::ZERO, |failure| failure.saturating_sub(whole));
            let told = if first > bound {
                let first = seconds(first);
                if after.success.is_some() {
                    format!("the first success took {first}")
                } else {
                    format!("no success came in {first}")
                }
            } else if self.given.is_some() && full > bound {
                format!("failures went on for {}", seconds(full))
            } else {
                continue;
            };
            out.add(&META, || {
                let sentence =
                    format!("the world was whole again at {}; {told}, the bound is {}", seconds(whole), seconds(bound));
                Violation::new(&META, now, Who::Pool(id), sentence)
            });
        }
    }
}

/// Whether this error is the server's answer to what the statement says, and not to the state it is itself in: a lost or
/// refused connection, no resources, an operator's intervention (a cancelled statement excepted), a failing system, a
/// server that is read-only though the name leads to it.
fn answers(code: &str) -> bool {
    code == "57014" || !(["08", "53", "57", "58", "XX"].iter().any(|class| code.starts_with(class)) || code == "25006")
}

fn pool_of(actor: ActorId, what: &What, view: &View) -> Option<PoolId> {
    match what {
        What::AcquireEnd { pool, .. } => Some(*pool),
        What::SqlEnd { conn, .. } => view.conn(*conn).map(|conn| conn.pool),
        _ => view.actor(actor)?.held.and_then(|conn| view.conn(conn)).map(|conn| conn.pool),
    }
}

impl Judge for Recovery {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants {
            before: &[
                Kind::SqlEnd,
                Kind::AcquireStart,
                Kind::AcquireEnd,
                Kind::Released,
                Kind::Invalidated,
                Kind::Detached,
            ],
            after: &[Kind::Fault, Kind::Lifecycle, Kind::Phase],
        }
    }

    fn before(&mut self, event: &Event, view: &View, _out: &mut Violations) {
        let Some(whole) = self.whole_since else {
            return;
        };
        match &event.what {
            What::AcquireStart { pool, .. } => {
                self.of(*pool).asked.get_or_insert(event.at);
            }
            What::SqlEnd { actor, result, .. } => {
                let Some(pool) = pool_of(*actor, &event.what, view) else {
                    return;
                };
                let begun = view.actor(*actor).and_then(|actor| actor.sql.as_ref()).map_or(event.at, |sql| sql.since);
                let after = self.of(pool);
                let answered = match result {
                    SqlResult::Ok => true,
                    SqlResult::Error(code) => answers(code),
                    SqlResult::Broken(_) | SqlResult::Cancelled => false,
                };
                if answered && begun >= whole {
                    after.success.get_or_insert(event.at);
                }
                if matches!(result, SqlResult::Broken(_)) {
                    after.last_failure = Some(event.at);
                    after.in_vain = Some(event.at);
                }
            }
            What::Released { conn, .. } | What::Invalidated { conn, .. } | What::Detached { conn, .. } => {
                let Some(conn) = view.conn(*conn) else { return };
                if let Some(leased) = conn.leased_at.filter(|leased| *leased >= whole && !conn.used) {
                    self.of(conn.pool).success.get_or_insert(leased);
                }
            }
            What::AcquireEnd { pool, result: Acquired::Error { kind, .. }, .. } if *kind != PoolErrorKind::Closed => {
                self.of(*pool).last_failure = Some(event.at);
                self.in_vain(*pool, event.at, view);
            }
            What::AcquireEnd {
                actor,
                pool,
                result: result @ (Acquired::Deadline | Acquired::Cancelled | Acquired::GivenUp),
            } => {
                let since = view.actor(*actor).and_then(|actor| actor.waiting).map_or(event.at, |(_, since)| since);
                if *result == Acquired::Deadline {
                    self.of(*pool).last_failure = Some(event.at);
                }
                if event.at.saturating_sub(since.max(whole)) >= A_CHANCE {
                    self.in_vain(*pool, event.at, view);
                }
            }
            _ => {}
        }
    }

    fn after(&mut self, event: &Event, view: &View, out: &mut Violations) {
        match (self.whole_since, view.healthy_since) {
            (Some(_), None) => {
                // A world that breaks again before the bound is over says nothing against the pool.
                let short = self.whole_since.is_some_and(|whole| {
                    event.at.saturating_sub(whole) < self.given.unwrap_or(Duration::from_secs(120))
                });
                if !short {
                    self.judge(event.at, view, out);
                }
                self.whole_since = None;
                self.pools.clear();
                self.order.clear();
            }
            (None, Some(since)) if view.faulty_since.is_some() => {
                self.whole_since = Some(since);
                // Those that wait already have asked already.
                let waiting: Vec<PoolId> =
                    view.pools().filter(|(_, pool)| pool.waiting > 0).map(|(id, _)| id).collect();
                for pool in waiting {
                    self.of(pool).asked = Some(since);
                }
            }
            _ => {}
        }
        // The capacity probe and the closing have their own judges.
        if matches!(event.what, What::Phase(Phase::Capacity | Phase::Closing | Phase::End)) {
            self.judge(event.at, view, out);
            self.whole_since = None;
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.judge(view.now, view, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use std::time::Duration;

    use crate::pool::PoolErrorKind;
    use crate::scenario::model::{Bound, BoundValue};
    use crate::trace::event::{Acquired, ActorId, ConnId, Phase, PoolId, ProcessId, SqlResult, What};
    use poolproof_sim::postgres::event::Lifecycle;

    fn bounded() -> crate::scenario::model::Scenario {
        let mut scenario = scenario();
        let value = BoundValue::Within(Duration::from_secs(1));
        scenario.expect.bounds = vec![Bound { invariant: META.name.into(), value }];
        scenario
    }

    fn outage(scenario: &crate::scenario::model::Scenario, success: u64) -> Case {
        let mut case = Case::of(scenario);
        case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running);
        case.at(8_100).asks(1).dial(1).at(success).connected(1).gets(1, 1).sql(1, 1, "SELECT 1");
        case.at(success + 2).sql_ends(1, 1, SqlResult::Ok).releases(1, 1).at(60_000).phase(Phase::Healing);
        case
    }

    #[test]
    fn within_its_bound_or_not() {
        outage(&bounded(), 8_200).is_innocent();
        outage(&bounded(), 12_000).violates(META.name, 1);
        outage(&scenario(), 12_000).is_innocent();
    }

    #[test]
    fn the_figures_tell_the_times() {
        let mut case = outage(&scenario(), 8_200);
        case.is_innocent();
        let back = case.figures.comebacks[0];
        assert_eq!((back.outage.as_millis(), back.first_success.map_or(0, |time| time.as_millis())), (3_000, 102));
    }

    /// Three minutes after an outage in which `each` happens every second.
    fn three_minutes(each: impl Fn(&mut Case, u32, u64)) -> Case {
        let mut case = Case::new();
        case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running);
        for n in 1..180 {
            each(&mut case, n, 8_000 + u64::from(n) * 1_000);
        }
        case.at(190_000).phase(Phase::Healing);
        case
    }

    #[test]
    fn a_pool_that_does_not_come_back() {
        three_minutes(|case, n, at| {
            case.at(at).asks(n).dial(n).dial_fails(n).fails(n, PoolErrorKind::Connect);
        })
        .violates(META.name, 1);
        // Nobody is told anything: they wait.
        let mut case = Case::new();
        case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running).at(8_500).asks(1);
        assert_eq!(case.at(190_000).phase(Phase::Capacity).over().counts()[META.name], 1);
    }

    #[test]
    fn who_holds_all_connections_and_waits_is_not_the_pools_fault() {
        let run = |lent: u32| {
            let mut case = Case::new();
            for n in 1..=lent {
                case.at(u64::from(n)).asks(n).open(n).gets(n, n).sql(n, n, "SELECT pg_sleep(1000)");
            }
            case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running);
            for n in 1..180 {
                case.at(8_000 + u64::from(n) * 1_000).asks(100 + n).fails(100 + n, PoolErrorKind::Timeout);
            }
            case.at(190_000).phase(Phase::Healing);
            case
        };
        let max_size = scenario().apps["web"].pool.max_size;
        assert!(!run(max_size).over().counts().contains_key(META.name));
        assert_eq!(run(max_size - 1).over().counts()[META.name], 1);
    }

    #[test]
    fn a_workload_that_can_not_succeed() {
        // Its statement is wrong.
        let refused = |code: &'static str| {
            move |case: &mut Case, n: u32, at: u64| {
                if n == 1 {
                    case.at(at).open(1);
                }
                case.at(at).asks(n).gets(n, 1).sql(n, 1, "SELEC 1");
                case.at(at + 1).sql_ends(n, 1, SqlResult::Error(code.into())).releases(n, 1);
            }
        };
        three_minutes(refused("42601")).is_innocent();
        // It sends none.
        three_minutes(|case, n, at| {
            if n == 1 {
                case.at(at).open(1);
            }
            case.at(at).asks(n).gets(n, 1).at(at + 1).releases(n, 1);
        })
        .is_innocent();
        // It has each closed, and sends something with the last.
        three_minutes(|case, n, at| {
            case.at(at).asks(n).open(n).gets(n, n).at(at + 1);
            if n < 179 {
                case.invalidates(n, n).closed(n);
            } else {
                case.sql(n, n, "SELECT 1").at(at + 2).sql_ends(n, n, SqlResult::Ok).releases(n, n);
            }
        })
        .is_innocent();
        // It has no patience.
        three_minutes(|case, n, at| {
            case.at(at).asks(n).dial(n).at(at + 1);
            let result = Acquired::Cancelled;
            case.happens(What::AcquireEnd { actor: ActorId(n), pool: PoolId(1), result });
            case.happens(What::DialDropped { conn: ConnId(n) });
        })
        .is_innocent();
        // It closed its pool.
        let mut closed = Case::new();
        closed.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running);
        closed.at(8_100).happens(What::PoolClosing { pool: PoolId(1) }).happens(What::PoolClosed { pool: PoolId(1) });
        closed.asks(1).fails(1, PoolErrorKind::Closed).at(8_200).asks(2).at(200_000).fails(2, PoolErrorKind::Closed);
        assert!(!closed.over().counts().contains_key(META.name));
    }

    #[test]
    fn a_process_that_is_killed_is_asked_no_more() {
        let mut case = Case::new();
        case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running).at(8_001).asks(1);
        case.dial(1).at(8_003).dial_fails(1).fails(1, PoolErrorKind::Connect);
        case.at(8_500).happens(What::ProcessEnd { process: ProcessId(1) }).at(400_000).phase(Phase::Healing);
        case.is_innocent();
    }

    #[test]
    fn a_pool_that_nobody_asks_need_not_succeed() {
        let mut case = Case::of(&bounded());
        case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running);
        case.at(60_000).phase(Phase::Healing).is_innocent();
    }
}
