//! From the moment the world is whole again: the time to the first success, to full capacity, and to a quiet server.
//!
//! Whole again is: no lasting fault, and the server that the name leads to takes sessions. The first success is a
//! statement begun and done after it; full capacity is reached with the last failure (an acquire that failed, a
//! statement that broke) before the next fault; the server is quiet when nobody waits, dials or is blocked. The times
//! are figures of every run. They are judged for each pool against the scenario's bound (`recovery within 1s`): both the
//! first success and the last failure. Without a bound only a pool that is asked and has no success for two minutes and
//! an acquire timeout is judged: as long as TCP may wait between two retransmissions.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Acquired, ActorId, Event, Phase, PoolId, SqlResult, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "recovery",
    meaning: "time from server-up to first success, to full capacity and to a quiet server, each within a bound",
    bound: "2 min and acquire_timeout to the first success",
    needs: None,
};

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
            let first = after.success.unwrap_or(now).saturating_sub(from);
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
            before: &[Kind::SqlEnd, Kind::AcquireStart, Kind::AcquireEnd],
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
                match result {
                    SqlResult::Ok if begun >= whole => {
                        after.success.get_or_insert(event.at);
                    }
                    SqlResult::Broken(_) => after.last_failure = Some(event.at),
                    _ => {}
                }
            }
            What::AcquireEnd { pool, result: Acquired::Error { .. } | Acquired::Deadline, .. } => {
                self.of(*pool).last_failure = Some(event.at);
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

    use crate::scenario::model::{Bound, BoundValue};
    use crate::trace::event::{Phase, SqlResult};
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
        assert_eq!((back.outage.as_millis(), back.first_success.map_or(0, |time| time.as_millis())), (3_000, 202));
    }

    #[test]
    fn a_pool_that_nobody_asks_need_not_succeed() {
        let mut case = Case::of(&bounded());
        case.at(5_000).lifecycle(Lifecycle::Down).at(8_000).lifecycle(Lifecycle::Running);
        case.at(60_000).phase(Phase::Healing).is_innocent();
    }
}
