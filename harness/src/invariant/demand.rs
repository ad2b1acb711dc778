//! Connections opened stay within peak demand and `min_idle`; no dial storm, no churn.
//!
//! - *Surplus*: a pool never has more connections, dials included, than were ever wanted at once (leases and waiting
//!   acquires) with `min_idle` idle ones beside them; one for the look whether the server is there when the pool is
//!   built. `min_idle` is what is idle, so with one connection out and `min_idle = 2` there are three.
//!   Those that are due to be replaced for their age do not count: their successors may come first. What fails its
//!   check may be closed just after the dial for its successor began, in the same instant.
//! - *Storm*: within a second a pool does not dial more often than acquires came and waited, once for each connection that
//!   came to its end and for each dial that it dropped because it was made smaller, and ten times for each that it may
//!   have: what retries without a pause does.
//! - *Churn*: a connection that is closed without a reason, and replaced. A reason is: broken, gone or unproven at the
//!   server, idle or old enough (a quarter early, since pools spread their lifetimes), a failed statement or a dirty
//!   lease on it, a check or a reset before the hand-out that was given up with its acquire (its answer is still due), a
//!   closing pool or one that has more than its bound since it was shrunk, more idle ones than `max_idle`, a faulty world.
//!   In a minute at most `max_size` of them are allowed. It is not judged with pools that document that they keep none.

use std::time::Duration;

use poolproof_sim::postgres::event::BackendState;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who};
use crate::pool::TIMER_SLACK;
use crate::scenario::model::Reset;
use crate::trace::event::{Acquired, ConnId, Event, PoolId, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::{Class, ClientEnd, ConnView, PoolView, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "demand",
    meaning: "connections opened stay within peak demand and min_idle; no dial storm, no churn",
    bound: "max_size closed without a reason and replaced in a minute; ten dials a second for each of max_size",
    needs: None,
    takes: Takes::Count,
};

/// Judges [`META`].
pub struct Demand {
    at_most: Option<u64>,
    unpooled: bool,
    grace: Duration,
    on_its_way: Duration,
    pools: IntMap<u32, Windows>,
}

#[derive(Default, Clone, Copy)]
struct Windows {
    second: Duration,
    dials: u64,
    /// When a dial last began.
    dialled: Option<Duration>,
    /// Connections that came to their end in this second.
    ended: u64,
    acquires_before: u64,
    waiting: u64,
    minute: Duration,
    closed: u64,
    replaced: u64,
    /// When an acquire last ended without a lease.
    in_vain: Option<Duration>,
    told: [bool; 3],
}

impl Demand {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> Demand {
        let (at_most, unpooled) = (terms.at_most(META.name), terms.capabilities.unpooled);
        let on_its_way = terms.round_trip + TIMER_SLACK;
        Demand { at_most, unpooled, grace: terms.grace(), on_its_way, pools: IntMap::default() }
    }

    fn dialled(&mut self, id: PoolId, now: Duration, view: &View, out: &mut Violations) {
        let Some(pool) = view.pool(id) else { return };
        let windows = self.pools.entry(id.0).or_default();
        let size = u64::from(pool.max_size.min(1000));
        let mut tell = |told: &mut bool, sentence: String| {
            if !std::mem::replace(told, true) {
                out.add(&META, || Violation::new(&META, now, Who::Pool(id), sentence));
            }
        };

        if now.saturating_sub(windows.second) >= Duration::from_secs(1) || windows.dials == 0 {
            windows.second = now;
            (windows.dials, windows.ended) = (0, 0);
            windows.waiting = u64::from(pool.waiting);
            windows.acquires_before = pool.acquires;
        }
        windows.dials += 1;
        windows.dialled = Some(now);
        let came = windows.waiting + (pool.acquires - windows.acquires_before);
        if windows.dials > came + windows.ended + size * 10 {
            tell(
                &mut windows.told[1],
                format!("it dialled {} times within a second, though only {came} acquires wanted one", windows.dials),
            );
        }

        if now.saturating_sub(windows.minute) < Duration::from_secs(60) && windows.closed > windows.replaced {
            windows.replaced += 1;
            let bound = self.at_most.unwrap_or(size);
            if windows.replaced > bound {
                tell(
                    &mut windows.told[2],
                    format!(
                        "within a minute it closed {} healthy connections without a reason and dialled {} new ones; at \
                         most {bound} are allowed",
                        windows.closed, windows.replaced
                    ),
                );
            }
        }
    }

    /// A dial was answered: is there more than was ever wanted?
    fn opened(&mut self, id: PoolId, now: Duration, view: &View, out: &mut Violations) {
        let Some(pool) = view.pool(id) else { return };
        let min_idle = pool.settings.min_idle;
        let wanted = pool.peak_demand.saturating_add(min_idle).max(1);
        // Of whoever left in the middle of a check, the answer is still due: the connection can't be handed out either.
        if pool.open() + pool.dialling() <= wanted || self.left_a_check(id, pool, now, view) {
            return;
        }
        // What is busy, dirty or may be dead can't be handed out: another may take its place.
        let clean = || {
            let conns = view.idle_conns(pool).map(|(_, conn)| conn);
            conns.filter(|conn| {
                conn.state == Some(BackendState::Idle)
                    && !conn.tainted
                    && view.is_proven(conn)
                    && !is_old(conn, pool, now)
            })
        };
        // A dial that began in this instant may be instead of one whose check failed in it, and which is closed next.
        let replaces = self.pools.get(&id.0).is_some_and(|windows| windows.dialled == Some(now));
        let just_used =
            |conn: &ConnView| now.saturating_sub(free_since(conn).max(conn.heard_at)) <= self.on_its_way(view);
        let replaced = replaces && checks(pool) && pool.waiting > 0 && clean().any(just_used);
        let clean = u32::try_from(clean().count()).unwrap_or(u32::MAX);
        let usable = pool.in_use() + pool.dialling() + clean - u32::from(replaced);
        if usable <= wanted {
            return;
        }
        let told = &mut self.pools.entry(id.0).or_default().told[0];
        if !std::mem::replace(told, true) {
            out.add(&META, || {
                let sentence = format!(
                    "it has {usable} connections, dials included, but never more than {} were wanted at once and \
                     min_idle is {min_idle}",
                    pool.peak_demand
                );
                Violation::new(&META, now, Who::Pool(id), sentence)
            });
        }
    }

    /// A connection came to its end.
    fn ended(&mut self, id: ConnId, view: &View) {
        if let Some(conn) = view.conn(id).filter(|conn| conn.end == ClientEnd::Open) {
            self.pools.entry(conn.pool.0).or_default().ended += 1;
        }
    }

    /// A dial was dropped: by a pool that was made smaller just now, for it can't be helped.
    fn dial_dropped(&mut self, id: ConnId, now: Duration, view: &View) {
        let Some(conn) = view.conn(id) else { return };
        let shrunk = view.pool(conn.pool).and_then(|pool| pool.shrunk_at);
        if shrunk.is_some_and(|shrunk| now.saturating_sub(shrunk) <= Duration::from_secs(1)) {
            self.pools.entry(conn.pool.0).or_default().ended += 1;
        }
    }

    fn closed(&mut self, id: ConnId, now: Duration, view: &View) {
        let Some(conn) = view.conn(id) else { return };
        let Some(pool) = view.pool(conn.pool) else {
            return;
        };
        if self.unpooled || self.has_reason(id, pool, now, view) {
            return;
        }
        let windows = self.pools.entry(conn.pool.0).or_default();
        if now.saturating_sub(windows.minute) >= Duration::from_secs(60) {
            (windows.minute, windows.closed, windows.replaced) = (now, 0, 0);
        }
        windows.closed += 1;
    }

    fn has_reason(&self, id: ConnId, pool: &PoolView, now: Duration, view: &View) -> bool {
        let Some(conn) = view.conn(id) else {
            return true;
        };
        let shrunk = pool.shrunk_at.is_some_and(|shrunk| now <= shrunk + self.grace || pool.open() > pool.max_size);
        conn.end != ClientEnd::Open
            || conn.detached
            || conn.invalidated
            || conn.former
            || matches!(view.class(id), Class::Dead)
            || self.was_being_checked(conn, pool, now, view)
            || conn.tainted
            || !view.is_proven(conn)
            || !view.is_healthy()
            || !pool.is_usable()
            || shrunk
            || pool.settings.max_idle.is_some_and(|most| pool.unleased() > most)
            || view.refused_at.is_some_and(|refused| now.saturating_sub(refused) < Duration::from_secs(60))
            || is_old(conn, pool, now)
    }

    /// Whether a check of it, or a reset, may have been under way that nobody waits for any more: it answered something since its
    /// last lease just now, or an acquire was given up just now.
    fn was_being_checked(&self, conn: &ConnView, pool: &PoolView, now: Duration, view: &View) -> bool {
        let heard = conn.heard_at > free_since(conn) && now.saturating_sub(conn.heard_at) <= self.on_its_way(view);
        checks(pool) && heard || self.left_a_check(conn.pool, pool, now, view)
    }

    /// Whether somebody who was given a connection may have left just now before it was checked, or reset. In the same
    /// millisecond the close may come before the acquire's end.
    fn left_a_check(&self, id: PoolId, pool: &PoolView, now: Duration, view: &View) -> bool {
        let in_vain = self.pools.get(&id.0).and_then(|windows| windows.in_vain);
        checks(pool) && in_vain.is_some_and(|at| now.saturating_sub(at) <= self.on_its_way(view))
    }

    /// How long an answer may be on its way.
    fn on_its_way(&self, view: &View) -> Duration {
        self.on_its_way.max(view.round_trip() + TIMER_SLACK)
    }
}

/// Whether connections are checked before they are handed out, or reset: some pools do that when somebody wants them.
fn checks(pool: &PoolView) -> bool {
    pool.settings.test_on_acquire || pool.settings.reset_on_return != Reset::None
}

/// Since when nobody has had it.
fn free_since(conn: &ConnView) -> Duration {
    conn.released.map_or(conn.opened_at, |(released, _)| released)
}

/// Whether a connection has been there, or idle, for as long as it may, or nearly so.
fn is_old(conn: &ConnView, pool: &PoolView, now: Duration) -> bool {
    let quarter_early = |limit: Duration| limit - limit / 4;
    let age = now.saturating_sub(conn.opened_at);
    let idle = now.saturating_sub(free_since(conn));
    pool.settings.max_lifetime.is_some_and(|limit| age >= quarter_early(limit))
        || pool.settings.idle_timeout.is_some_and(|limit| idle >= quarter_early(limit))
}

impl Judge for Demand {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants {
            before: &[Kind::ConnBroken, Kind::ConnClosed, Kind::DialEnd, Kind::AcquireEnd],
            after: &[Kind::Dial, Kind::Connected],
        }
    }

    fn before(&mut self, event: &Event, view: &View, _out: &mut Violations) {
        match &event.what {
            What::ConnBroken { conn, .. } => self.ended(*conn, view),
            What::DialDropped { conn } => self.dial_dropped(*conn, event.at, view),
            What::ConnClosed { conn } => {
                self.ended(*conn, view);
                self.closed(*conn, event.at, view);
            }
            What::AcquireEnd { pool, result, .. } if !matches!(result, Acquired::Lease { .. }) => {
                self.pools.entry(pool.0).or_default().in_vain = Some(event.at);
            }
            _ => {}
        }
    }

    fn after(&mut self, event: &Event, view: &View, out: &mut Violations) {
        match event.what {
            What::Dial { pool, .. } => self.dialled(pool, event.at, view, out),
            What::Connected { conn, .. } => {
                if let Some(pool) = view.conn(conn).map(|conn| conn.pool) {
                    self.opened(pool, event.at, view, out);
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
    use std::time::Duration;

    use crate::pool::PoolErrorKind;
    use crate::scenario::model::Reset;
    use crate::trace::event::{Acquired, ActorId, ConnId, PoolId, What};
    use poolproof_sim::postgres::event::Lifecycle;

    #[test]
    fn a_dial_that_nobody_wants() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).open(2).at(30).releases(1, 1).violates(META.name, 1);
    }

    #[test]
    fn idle_ones_are_kept_beside_those_in_use() {
        let run = |connections: u32| {
            let mut scenario = scenario();
            scenario.apps["web"].pool.max_size = 10;
            scenario.apps["web"].pool.min_idle = 2;
            let mut case = Case::of(&scenario);
            case.at(10).asks(1);
            for conn in 1..=connections {
                case.dial(conn);
            }
            for conn in 1..=connections {
                case.at(14 + u64::from(conn)).connected(conn);
            }
            case.gets(1, 1).at(90).releases(1, 1);
            case
        };
        run(3).is_innocent();
        run(4).violates(META.name, 1);
    }

    #[test]
    fn one_that_failed_its_check_may_be_replaced_before_it_is_closed() {
        let run = |test_on_acquire: bool, dialled: u64| {
            let mut scenario = scenario();
            scenario.apps["web"].pool.min_idle = 1;
            scenario.apps["web"].pool.test_on_acquire = test_on_acquire;
            let mut case = Case::of(&scenario);
            case.at(10).asks(1).open(1).dial(2).at(dialled).dial(3).at(12).connected(2);
            case.over().counts().contains_key(META.name)
        };
        assert!(!run(true, 12));
        assert!(run(true, 11));
        assert!(run(false, 12));
    }

    #[test]
    fn dials_that_are_dropped_with_a_smaller_bound_may_begin_again() {
        let run = |resized: bool| {
            let mut case = Case::new();
            case.at(10).asks(1);
            for n in 0..10 {
                case.at(10 + u64::from(n) * 5);
                for conn in n * 3 + 1..=n * 3 + 3 {
                    case.dial(conn);
                }
                if resized {
                    case.happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
                }
                for conn in n * 3 + 1..=n * 3 + 3 {
                    case.happens(What::DialDropped { conn: ConnId(conn) });
                }
                if resized {
                    case.happens(What::PoolResized { pool: PoolId(1), max_size: 2 });
                }
            }
            case.at(100).fails(1, PoolErrorKind::Timeout);
            case.over().counts().contains_key(META.name)
        };
        assert!(!run(true));
        assert!(run(false));
    }

    #[test]
    fn one_that_is_still_being_checked_for_somebody_who_left_is_no_surplus() {
        let run = |test_on_acquire: bool| {
            let mut scenario = scenario();
            scenario.apps["web"].pool.test_on_acquire = test_on_acquire;
            let mut case = Case::of(&scenario);
            case.at(10).asks(1).dial(1).at(15).connected(1);
            let result = Acquired::Cancelled;
            case.at(16).happens(What::AcquireEnd { actor: ActorId(1), pool: PoolId(1), result });
            case.asks(2).dial(2).at(17).connected(2);
            case
        };
        run(true).is_innocent();
        run(false).violates(META.name, 1);
    }

    #[test]
    fn the_successor_of_one_that_is_old_enough_may_come_first() {
        let run = |idle_timeout: Option<Duration>| {
            let mut scenario = scenario();
            scenario.apps["web"].pool.min_idle = 1;
            scenario.apps["web"].pool.idle_timeout = idle_timeout;
            let mut case = Case::of(&scenario);
            case.at(10).open(1).at(510).open(2).closed(1);
            case
        };
        run(Some(Duration::from_millis(500))).is_innocent();
        run(None).violates(META.name, 1);
    }

    #[test]
    fn a_connection_that_came_to_its_end_may_be_dialled_again() {
        let run = |end: &str| {
            let mut case = Case::new();
            case.at(10).asks(1);
            for n in 1..=30 {
                case.at(10 + u64::from(n) * 2).dial(n);
                match end {
                    "closed" => case.connected(n).gets(1, n).invalidates(1, n).releases(1, n).closed(n).asks(1),
                    "broken" => case.connected(n).broken(n),
                    _ => case.dial_fails(n),
                };
            }
            case.at(100).fails(1, PoolErrorKind::Timeout);
            case
        };
        run("closed").is_innocent();
        run("broken").is_innocent();
        run("never there").violates(META.name, 1);
    }

    #[test]
    fn dials_without_a_pause() {
        let mut case = Case::new();
        case.at(10).asks(1).lifecycle(Lifecycle::Down);
        for n in 0..30 {
            case.at(10 + u64::from(n) * 2).dial(n + 1).dial_fails(n + 1);
        }
        case.at(100).fails(1, PoolErrorKind::Timeout).violates(META.name, 1);
    }

    #[test]
    fn a_check_that_was_given_up_with_its_acquire() {
        let run = |test_on_acquire: bool, reset_on_return: Reset| {
            let mut scenario = scenario();
            let pool = &mut scenario.apps["web"].pool;
            (pool.test_on_acquire, pool.reset_on_return) = (test_on_acquire, reset_on_return);
            let mut case = Case::of(&scenario);
            for n in 1..8 {
                let result = Acquired::Cancelled;
                case.at(u64::from(n) * 100).asks(n).open(n).at(u64::from(n) * 100 + 20);
                case.happens(What::AcquireEnd { actor: ActorId(n), pool: PoolId(1), result }).closed(n);
            }
            case
        };
        run(true, Reset::None).is_innocent();
        run(false, Reset::Rollback).is_innocent();
        run(false, Reset::None).violates(META.name, 1);
    }

    #[test]
    fn every_lease_on_a_new_connection() {
        let run = |mut case: Case| {
            for n in 1..6 {
                let at = u64::from(n) * 100;
                case.at(at).asks(n).open(n).gets(n, n).at(at + 10).releases(n, n).closed(n);
            }
            case
        };
        run(Case::new()).violates(META.name, 1);
        run(Case::with(&scenario(), crate::pool::Capabilities { unpooled: true, ..ABLE })).is_innocent();
        // Each is the one idle connection that may be kept, so that nothing excuses its end.
        let mut kept = scenario();
        kept.apps["web"].pool.max_idle = Some(1);
        run(Case::of(&kept)).violates(META.name, 1);
        kept.apps["web"].pool.max_idle = Some(0);
        run(Case::of(&kept)).is_innocent();
    }

    #[test]
    fn a_resize_excuses_what_is_beyond_the_new_bound() {
        // Five callers in turn, a second after the resize; each has a new connection, and the pool closes it.
        let run = |sizes: &[u32]| {
            let mut case = Case::new();
            for &max_size in sizes {
                case.at(10).happens(What::PoolResized { pool: PoolId(1), max_size });
            }
            for n in 1..6 {
                let at = 2_000 + u64::from(n) * 100;
                case.at(at).asks(n).open(n).gets(n, n).at(at + 10).releases(n, n).closed(n);
            }
            case
        };
        run(&[1]).violates(META.name, 1);
        run(&[1, 2]).violates(META.name, 1);
        // Two are out when it is shrunk, and come back late.
        let mut case = Case::new();
        for n in 1..=2 {
            case.at(10).asks(n).open(n).gets(n, n);
        }
        case.at(20).happens(What::PoolResized { pool: PoolId(1), max_size: 1 });
        case.at(9_000).releases(1, 1).closed(1).at(9_010).releases(2, 2).is_innocent();
    }

    #[test]
    fn broken_and_old_ones_are_replaced() {
        let mut old = scenario();
        old.apps["web"].pool.max_lifetime = Some(Duration::from_secs(10));
        let mut case = Case::of(&old);
        for n in 1..6 {
            case.at(u64::from(n) * 10_000)
                .asks(n)
                .open(n)
                .gets(n, n)
                .at(u64::from(n) * 10_000 + 9_000)
                .releases(n, n)
                .closed(n);
        }
        case.is_innocent();
        let mut case = Case::new();
        for n in 1..6 {
            case.at(u64::from(n) * 100).asks(n).open(n).gets(n, n).at(u64::from(n) * 100 + 10).gone(n, terminated());
            case.broken(n).releases(n, n).closed(n);
        }
        case.is_innocent();
    }
}
