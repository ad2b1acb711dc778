//! Acquire ends by `acquire_timeout`, close by its bound, a cancelled acquire at once.
//!
//! Whatever happens inside an acquire is inside its timeout: the wait, the dial, the check of `test_on_acquire`. A pool
//! without an acquire timeout, or settings without one, are not judged by it. The actor's own deadline is poolproof's
//! own timer: an acquire that it ends is judged by the pool's timeout only. Close waits for leases in many pools, so its
//! bound counts from the last lease's end, and a close that waits for a leaked lease is not judged.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Terms, Violation, Violations, Wants, Who, seconds};
use crate::pool::TIMER_SLACK;
use crate::trace::event::{Event, PoolId, What};
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "deadline",
    meaning: "acquire and close end by their timeout plus a small epsilon; a cancelled acquire ends at once",
    bound: "acquire_timeout + 5 ms; 30 s for close",
    needs: None,
};

/// Judges [`META`].
pub struct Deadline {
    acquire: bool,
    close: Duration,
}

impl Deadline {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> Deadline {
        Deadline {
            acquire: terms.capabilities.acquire_timeout,
            close: terms.within(META.name, Duration::from_secs(30)),
        }
    }

    fn close_took(&self, id: PoolId, now: Duration, ended: bool, view: &View, out: &mut Violations) {
        let Some(pool) = view.pool(id) else { return };
        let Some(closing) = pool.closing_at else { return };
        if pool.in_use() > 0 {
            return;
        }
        let since = view.conns_of(pool).filter_map(|(_, conn)| Some(conn.released?.0)).fold(closing, Duration::max);
        let took = now.saturating_sub(since);
        if took > self.close + TIMER_SLACK {
            out.add(&META, || {
                let told = if ended { "took" } else { "has not returned after" };
                let sentence = format!("close {told} {}, but its bound is {}", seconds(took), seconds(self.close));
                Violation::new(&META, now, Who::Pool(id), sentence)
            });
        }
    }
}

impl Judge for Deadline {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::AcquireEnd, Kind::PoolEnd], after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        match &event.what {
            What::AcquireEnd { actor: id, pool, .. } => {
                let Some(actor) = view.actor(*id) else { return };
                let Some((_, since)) = actor.waiting else { return };
                if let Some(cancelled) = actor.cancelled_at
                    && event.at > cancelled + TIMER_SLACK
                {
                    out.add(&META, || {
                        let took = seconds(event.at - cancelled);
                        let sentence = format!("its acquire ended {took} after it was cancelled, not at once");
                        Violation::new(&META, event.at, Who::Actor(*id), sentence)
                    });
                }
                let timeout = view.pool(*pool).and_then(|pool| pool.settings.acquire_timeout);
                let Some(timeout) = timeout.filter(|_| self.acquire) else { return };
                let waited = event.at.saturating_sub(since);
                if waited > timeout + TIMER_SLACK {
                    out.add(&META, || {
                        let (waited, timeout) = (seconds(waited), seconds(timeout));
                        let sentence = format!("its acquire took {waited}, but acquire_timeout is {timeout}");
                        Violation::new(&META, event.at, Who::Actor(*id), sentence)
                    });
                }
            }
            What::PoolClosed { pool } => self.close_took(*pool, event.at, true, view, out),
            _ => {}
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        for (id, pool) in view.pools() {
            if pool.ended_at.is_none() {
                self.close_took(id, view.now, false, view, out);
            }
            let Some(timeout) = pool.settings.acquire_timeout.filter(|_| self.acquire) else { continue };
            for (actor, since) in view.waiters(pool) {
                let waited = view.now.saturating_sub(since);
                if waited > timeout + TIMER_SLACK {
                    out.add(&META, || {
                        let (since, timeout) = (seconds(since), seconds(timeout));
                        let sentence = format!(
                            "its acquire, begun at {since}, is still not over at {}, but acquire_timeout is {timeout}",
                            seconds(view.now)
                        );
                        Violation::new(&META, view.now, Who::Actor(actor), sentence)
                    });
                }
            }
        }
    }
}
