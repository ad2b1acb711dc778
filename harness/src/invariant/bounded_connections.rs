//! Connections open at the app's end plus dials under way never exceed the pool's `max_size`.
//!
//! The app's end counts, not the server's: a backend that outlives its client is an orphan, which no pool can prevent.
//! A connection that was taken out of the pool is not the pool's any more. One whose flow may be silently dead may have
//! been given up by the pool, though its socket stays until TCP gives up: the driver keeps it for the answer that is due.
//! It does not count until it is [proven](View::is_proven) alive; its backend, if there is one, is an orphan. A pool that was shrunk keeps what is leased
//! until it is returned: the old bound holds until the bound given in time has passed, and longer for what was *under way*
//! when it was shrunk: leased, being dialled, or in the pool's own hands, in a check or a reset. A statement that runs can't be taken back: the socket of
//! a connection that is given up stays until it is answered, and who was granted a connection before gets it. What the pool lends
//! again counts.
//! Connections closed and dialled within one millisecond have no order, so the count is taken when the millisecond is
//! over; in real time, where the end of a connection is seen a little later than it is closed, when that is over, too.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::pool::TIMER_SLACK;
use crate::trace::event::{Acquired, ConnId, Event, PoolId, What};
use crate::trace::view::{Class, ConnView, PoolView, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "bounded-connections",
    meaning: "connections open at the app's end plus dials under way never exceed the configured bound, also after resize",
    bound: "max_size; 1 s and a dial after a resize",
    needs: Some("max_size"),
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct BoundedConnections {
    judged: bool,
    shrink: Duration,
    lateness: Duration,
    on_its_way: Duration,
    // What was under way when its pool was resized, and has not been lent again since.
    under_way: Vec<UnderWay>,
    // Pools over their bound in this millisecond.
    over: Vec<(PoolId, Duration)>,
    // Resizes that were told of.
    told: Vec<(PoolId, Duration)>,
}

#[derive(Clone, Copy)]
struct UnderWay {
    conn: ConnId,
    pool: PoolId,
    /// It was leased then, or has been since: the next lease is another one.
    lent: bool,
}

impl BoundedConnections {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> BoundedConnections {
        BoundedConnections {
            judged: terms.capabilities.max_size,
            shrink: terms.within(META.name, terms.grace()),
            lateness: terms.lateness,
            on_its_way: terms.round_trip + TIMER_SLACK,
            under_way: Vec::new(),
            over: Vec::new(),
            told: Vec::new(),
        }
    }

    fn bound(&self, pool: &PoolView, now: Duration, view: &View) -> u32 {
        match pool.resized_at {
            Some(at) if now <= at + self.shrink => pool.max_size.max(pool.max_size_before),
            Some(_) => pool.max_size.max(self.still_under_way(pool, now, view)),
            None => pool.max_size,
        }
    }

    /// Connections that are under way since before the resize, and those of them that no longer are, since just now: they are
    /// being closed.
    fn still_under_way(&self, pool: &PoolView, now: Duration, view: &View) -> u32 {
        let just_now = now.saturating_sub(self.shrink);
        let is_still = |id: ConnId, conn: &ConnView| {
            let rests = view.class(id) == Class::Idle && conn.idle_since < just_now;
            self.under_way.iter().any(|known| known.conn == id) && !rests
        };
        let still = view.conns_of(pool).filter(|(id, conn)| is_still(*id, conn));
        u32::try_from(still.count()).unwrap_or(u32::MAX)
    }

    /// A pool is resized: what of it is under way?
    fn resized(&mut self, id: PoolId, now: Duration, view: &View) {
        let Some(pool) = view.pool(id) else { return };
        // What is on its way between the pool and the server can't be told from what rests: that which somebody may have been granted
        // just now, and that which came back or was answered just now.
        let may_be_on_its_way =
            |conn: &ConnView| pool.waiting > 0 || now.saturating_sub(conn.idle_since) <= self.on_its_way;
        let under_way = view.conns_of(pool).filter_map(|(conn_id, conn)| {
            let is = match view.class(conn_id) {
                Class::Leased | Class::Busy | Class::Dialling => true,
                Class::Idle => may_be_on_its_way(conn),
                _ => false,
            };
            // Where nobody waits, nobody has been granted anything.
            is.then_some(UnderWay { conn: conn_id, pool: id, lent: conn.lease.is_some() || pool.waiting == 0 })
        });
        let under_way: Vec<UnderWay> = under_way.collect();
        self.under_way.retain(|known| known.pool != id);
        self.under_way.extend(under_way);
    }

    /// A connection is lent: once to those who had been granted it before the resize.
    fn lent(&mut self, conn: ConnId) {
        self.under_way.retain_mut(|known| known.conn != conn || !std::mem::replace(&mut known.lent, true));
    }

    /// What a shrunk pool should have closed by now, and did not.
    fn shrunk(&mut self, id: PoolId, now: Duration, view: &View, out: &mut Violations) {
        let Some(pool) = view.pool(id).filter(|pool| pool.is_usable() && pool.open() > pool.max_size) else { return };
        let Some(resized) = pool.resized_at.filter(|resized| !self.told.contains(&(id, *resized))) else { return };
        let open = pool.open() - view.suspects(pool);
        if open > self.bound(pool, now, view) {
            self.told.push((id, resized));
            out.add(&META, || {
                let sentence = format!(
                    "it was resized to {} at {}, and still has {open} connections open",
                    pool.max_size,
                    seconds(resized)
                );
                Violation::new(&META, now, Who::Pool(id), sentence)
            });
        }
    }

    fn all_shrunk(&mut self, now: Duration, view: &View, out: &mut Violations) {
        for (id, _) in view.pools() {
            self.shrunk(id, now, view, out);
        }
    }

    fn settle(&mut self, now: Duration, view: &View, out: &mut Violations) {
        for (id, at) in std::mem::take(&mut self.over) {
            if at.as_millis() == now.as_millis() {
                self.over.push((id, at));
                continue;
            }
            let Some(pool) = view.pool(id) else { continue };
            let connections = held(pool, view);
            let bound = self.bound(pool, at, view);
            if now.saturating_sub(at) < self.lateness {
                // It must be so all the while.
                self.over.extend((connections > bound).then_some((id, at)));
                continue;
            }
            if connections > bound && bound < u32::MAX {
                out.add(&META, || {
                    let sentence = format!(
                        "at {} it had {} connections open and {} dials under way, {connections} in all, but its bound \
                         is {bound}",
                        seconds(at),
                        connections - pool.dialling(),
                        pool.dialling(),
                    );
                    Violation::new(&META, at, Who::Pool(id), sentence)
                });
            }
        }
    }
}

/// What counts: dials, leases, and what nobody holds and is not suspected to be dead.
fn held(pool: &PoolView, view: &View) -> u32 {
    pool.open() + pool.dialling() - view.suspects(pool)
}

impl Judge for BoundedConnections {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        const KINDS: &[Kind] = &[Kind::Dial, Kind::DialEnd, Kind::Connected, Kind::ConnClosed, Kind::ConnBroken];
        Wants {
            before: &[
                Kind::Dial,
                Kind::DialEnd,
                Kind::Connected,
                Kind::ConnClosed,
                Kind::ConnBroken,
                Kind::Phase,
                Kind::AcquireEnd,
                Kind::Released,
                Kind::Invalidated,
                Kind::Detached,
                Kind::PoolResized,
            ],
            after: if self.judged { KINDS } else { &[] },
        }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        if !self.over.is_empty() {
            self.settle(event.at, view, out);
        }
        if !self.judged {
            return;
        }
        match event.what {
            // Nothing needs to happen in a pool that keeps what it should close: it is looked at between the phases.
            What::Phase(_) => self.all_shrunk(event.at, view, out),
            // Or it is lent again and again, until the pool is grown.
            What::AcquireEnd { pool, ref result, .. } => {
                self.shrunk(pool, event.at, view, out);
                if let Acquired::Lease { conn, .. } = result
                    && !self.under_way.is_empty()
                {
                    self.lent(*conn);
                }
            }
            What::PoolResized { pool, .. } => {
                self.shrunk(pool, event.at, view, out);
                self.resized(pool, event.at, view);
            }
            _ => {}
        }
    }

    fn after(&mut self, event: &Event, view: &View, _out: &mut Violations) {
        let conn = match event.what {
            What::Dial { conn, .. } | What::Connected { conn, .. } => conn,
            _ => return,
        };
        let Some(id) = view.conn(conn).map(|conn| conn.pool) else {
            return;
        };
        let Some(pool) = view.pool(id) else { return };
        let over = |connections| connections > self.bound(pool, event.at, view);
        // The suspects are counted only where they may make a difference.
        if over(pool.open() + pool.dialling())
            && over(held(pool, view))
            && !self.over.iter().any(|&(over, _)| over == id)
        {
            self.over.push((id, event.at));
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.settle(Duration::MAX, view, out);
        if self.judged {
            self.all_shrunk(view.now, view, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::pool::PoolErrorKind;
    use crate::scenario::model::FaultAction;
    use crate::trace::event::{Phase, PoolId, SqlResult, What};
    use poolproof_sim::postgres::event::BackendState;

    #[test]
    fn a_third_connection_of_a_pool_of_two() {
        let mut case = Case::new();
        case.at(10)
            .asks(1)
            .asks(2)
            .asks(3)
            .open(1)
            .open(2)
            .gets(1, 1)
            .gets(2, 2)
            .at(20)
            .dial(3)
            .at(30)
            .connected(3)
            .gets(3, 3);
        let found = case.over();
        assert_eq!(found.counts()[META.name], 2, "the dial, and the connection");
    }

    #[test]
    fn orphans_are_not_the_pools() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        // The client ends are gone; the server has not noticed.
        case.at(20).broken(1).releases(1, 1).closed(1).asks(3).open(3).gets(3, 3);
        assert_eq!((case.view.totals.backends, case.view.totals.orphans), (3, 0), "it may be about to notice");
        case.at(1_020).releases(3, 3);
        assert_eq!((case.view.totals.backends, case.view.totals.orphans), (3, 1));
        case.at(9_000).gone(1, terminated()).is_innocent();
        assert_eq!(case.view.totals.orphans, 0);
    }

    /// A pool whose two connections were cut, and that dials anew; `held` says whether it still lends the old ones.
    fn after_a_silent_death(held: bool) -> Case {
        let mut scenario = scenario();
        scenario.faults = vec![fault(FaultAction::NetForget { older_than: None, app: None })];
        let mut case = Case::of(&scenario);
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        if !held {
            case.at(20).releases(1, 1).releases(2, 2);
        }
        case.at(30).fault(0, true).at(40).asks(3).at(2_040).dial(3).at(2_045).connected(3).gets(3, 3);
        case
    }

    #[test]
    fn what_was_given_up_for_dead_waits_for_tcp() {
        after_a_silent_death(false).at(5_000).broken(1).closed(1).broken(2).closed(2).is_innocent();
        after_a_silent_death(true).at(5_000).releases(1, 1).releases(2, 2).violates(META.name, 2);
        // Those that turn out to be alive are the pool's.
        let mut case = after_a_silent_death(false);
        for (actor, conn) in [(4, 1), (5, 2)] {
            case.at(2_050).leases(actor, conn).sql(actor, conn, "x").sql_ends(actor, conn, SqlResult::Ok);
            case.releases(actor, conn);
        }
        case.at(3_000).asks(6).dial(4).at(3_005).connected(4).gets(6, 4);
        assert_eq!(case.over().counts()[META.name], 2, "the dial, and the connection");
    }

    #[test]
    fn a_close_and_a_dial_in_one_millisecond_have_no_order() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        case.at(20)
            .sql(1, 1, "x")
            .sql_ends(1, 1, SqlResult::Error("42601".into()))
            .releases(1, 1)
            .asks(3)
            .dial(3)
            .closed(1);
        case.at(22).connected(3).gets(3, 3).is_innocent();
    }

    #[test]
    fn a_shrunk_pool_that_keeps_what_is_idle() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).at(20).releases(1, 1).releases(2, 2);
        case.at(30).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        // It dials no more; then it is closed, which is late.
        case.at(20_000).phase(Phase::Healing).phase(Phase::Closing);
        case.happens(What::PoolClosing { pool: PoolId(1) }).closed(1).closed(2);
        case.happens(What::PoolClosed { pool: PoolId(1) }).violates(META.name, 1);
    }

    #[test]
    fn a_shrunk_pool_has_until_its_leases_end() {
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        case.at(20).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        case.at(9_000).releases(1, 1).closed(1).at(20_000).is_innocent();
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        case.at(20).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        case.at(30).releases(1, 1).releases(2, 2).at(20_000).phase(Phase::Healing).violates(META.name, 1);
    }

    /// A pool of two that is shrunk to one at 30 ms. One connection is leased; the other came back at 20 ms, and is being reset if
    /// `in_hand`.
    fn shrunk(in_hand: bool) -> Case {
        let mut case = Case::new();
        case.at(1)
            .asks(1)
            .asks(2)
            .open(1)
            .open(2)
            .gets(1, 1)
            .gets(2, 2)
            .at(if in_hand { 20 } else { 2 })
            .releases(2, 2);
        if in_hand {
            case.at(21).state(2, BackendState::Active);
        }
        case.at(30).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        case
    }

    #[test]
    fn a_shrunk_pool_can_not_take_a_statement_back() {
        // The reset goes on for two seconds; somebody asks meanwhile, and just after it.
        let slow_reset = || {
            let mut case = shrunk(true);
            case.at(1_900).asks(3).fails(3, PoolErrorKind::Timeout).at(2_100).state(2, BackendState::Idle);
            case.at(2_101).asks(4);
            case
        };
        slow_reset().fails(4, PoolErrorKind::Timeout).closed(2).at(20_000).phase(Phase::Healing).is_innocent();
        // It is to be closed then, neither kept nor lent.
        let mut kept = slow_reset();
        kept.fails(4, PoolErrorKind::Timeout).at(20_000).phase(Phase::Healing).violates(META.name, 1);
        slow_reset().gets(4, 2).at(20_000).phase(Phase::Healing).violates(META.name, 1);
        // What rested is not under way because it is checked later.
        let mut case = shrunk(false);
        case.at(1_900).state(2, BackendState::Active).asks(3).fails(3, PoolErrorKind::Timeout).violates(META.name, 1);
    }

    #[test]
    fn who_was_granted_a_connection_before_the_shrink_gets_it() {
        // A check is under way, and a dial.
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(100).asks(2).state(1, BackendState::Active);
        case.asks(3).dial(2).at(101).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        case.at(102).state(1, BackendState::Idle).gets(2, 1).at(103).connected(2).gets(3, 2);
        case.at(5_000).asks(4).fails(4, PoolErrorKind::Timeout).at(9_000).releases(3, 2).closed(2);
        case.at(9_001).releases(2, 1).at(20_000).phase(Phase::Healing).is_innocent();
    }

    #[test]
    fn a_shrunk_pool_that_lends_again_what_it_should_close() {
        let run = |grown: bool| {
            let mut case = Case::new();
            case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
            case.at(20).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
            case.at(3_000).releases(1, 1).releases(2, 2).asks(3).asks(4).at(3_001).gets(3, 1).gets(4, 2).at(9_000);
            if grown {
                case.happens(What::PoolResized { pool: PoolId(1), max_size: 2 });
            } else {
                case.releases(3, 1).leases(5, 1);
            }
            case
        };
        run(true).violates(META.name, 1);
        run(false).violates(META.name, 1);
        // What comes back late is being closed while the next caller is served.
        let mut case = Case::new();
        case.at(10).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2);
        case.at(20).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        case.at(9_000).releases(1, 1).releases(2, 2).leases(3, 2).at(9_003).closed(1).at(9_010).releases(3, 2);
        case.at(20_000).phase(Phase::Healing).is_innocent();
    }
}
