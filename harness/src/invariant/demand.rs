//! Connections opened stay within peak demand and `min_idle`; no dial storm, no churn.
//!
//! - *Surplus*: a pool never has more connections, dials included, than were ever wanted at once (leases and waiting
//!   acquires) or than `min_idle`; one for the look whether the server is there when the pool is built.
//! - *Storm*: within a second a pool does not dial more often than acquires came and waited, and ten times for each
//!   connection that it may have: what retries without a pause does.
//! - *Churn*: a connection that is closed without a reason, and replaced. A reason is: broken, gone or unproven at the
//!   server, idle or old enough (a quarter early, since pools spread their lifetimes), a failed statement or a dirty
//!   lease on it, a shrunk or closing pool, a faulty world. In a minute at most `max_size` of them are allowed.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Terms, Violation, Violations, Wants, Who};
use crate::trace::event::{ConnId, Event, PoolId, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::{Class, ClientEnd, PoolView, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "demand",
    meaning: "connections opened stay within peak demand and min_idle; no dial storm, no churn",
    bound: "max_size closed without a reason and replaced in a minute; ten dials a second for each of max_size",
    needs: None,
};

/// Judges [`META`].
pub struct Demand {
    at_most: Option<u64>,
    pools: IntMap<u32, Windows>,
}

#[derive(Default, Clone, Copy)]
struct Windows {
    second: Duration,
    dials: u64,
    acquires_before: u64,
    waiting: u64,
    minute: Duration,
    closed: u64,
    replaced: u64,
    told: [bool; 3],
}

impl Demand {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> Demand {
        Demand { at_most: terms.at_most(META.name), pools: IntMap::default() }
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

        let connections = pool.open() + pool.dialling();
        let wanted = pool.peak_demand.max(pool.settings.min_idle).max(1);
        if connections > wanted && connections > pool.settings.min_idle + pool.in_use() {
            tell(
                &mut windows.told[0],
                format!(
                    "it dials its {connections}th connection, but never more than {} were wanted at once and min_idle \
                     is {}",
                    pool.peak_demand, pool.settings.min_idle
                ),
            );
        }

        if now.saturating_sub(windows.second) >= Duration::from_secs(1) || windows.dials == 0 {
            windows.second = now;
            windows.dials = 0;
            windows.waiting = u64::from(pool.waiting);
            windows.acquires_before = pool.acquires;
        }
        windows.dials += 1;
        let came = windows.waiting + (pool.acquires - windows.acquires_before);
        if windows.dials > came + size * 10 {
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

    fn closed(&mut self, id: ConnId, now: Duration, view: &View) {
        let Some(conn) = view.conn(id) else { return };
        let Some(pool) = view.pool(conn.pool) else { return };
        if has_reason(id, pool, now, view) {
            return;
        }
        let windows = self.pools.entry(conn.pool.0).or_default();
        if now.saturating_sub(windows.minute) >= Duration::from_secs(60) {
            (windows.minute, windows.closed, windows.replaced) = (now, 0, 0);
        }
        windows.closed += 1;
    }
}

fn has_reason(id: ConnId, pool: &PoolView, now: Duration, view: &View) -> bool {
    let Some(conn) = view.conn(id) else { return true };
    let quarter_early = |limit: Duration| limit - limit / 4;
    let age = now.saturating_sub(conn.opened_at);
    let idle = conn.released.map_or(age, |(released, _)| now.saturating_sub(released));
    conn.end != ClientEnd::Open
        || conn.detached
        || matches!(view.class(id), Class::Dead)
        || conn.tainted
        || !view.is_proven(conn)
        || !view.is_healthy()
        || !pool.is_usable()
        || pool.resized_at.is_some()
        || view.refused_at.is_some_and(|refused| now.saturating_sub(refused) < Duration::from_secs(60))
        || pool.settings.max_lifetime.is_some_and(|limit| age >= quarter_early(limit))
        || pool.settings.idle_timeout.is_some_and(|limit| idle >= quarter_early(limit))
}

impl Judge for Demand {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::ConnClosed], after: &[Kind::Dial] }
    }

    fn before(&mut self, event: &Event, view: &View, _out: &mut Violations) {
        if let What::ConnClosed { conn } = event.what {
            self.closed(conn, event.at, view);
        }
    }

    fn after(&mut self, event: &Event, view: &View, out: &mut Violations) {
        if let What::Dial { pool, .. } = event.what {
            self.dialled(pool, event.at, view, out);
        }
    }
}
