//! Acquire ends by `acquire_timeout`, close by its bound, a cancelled acquire at once.
//!
//! Whatever happens inside an acquire is inside its timeout: the wait, the dial, the check of `test_on_acquire`. A pool
//! without an acquire timeout, or settings without one, are not judged by it. The actor's own deadline is poolproof's
//! own timer: an acquire that it ends is judged by the pool's timeout only. Close waits for leases in many pools, so its
//! bound counts from the last lease's end, and a close that waits for a leaked lease is not judged. Nor is one that was
//! cancelled: nobody waits for it, and a later close has its own time.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::pool::TIMER_SLACK;
use crate::trace::event::{Event, PoolId, What};
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "deadline",
    meaning: "acquire and close end by their timeout plus a small epsilon; a cancelled acquire ends at once",
    bound: "acquire_timeout + 5 ms; 30 s for close",
    needs: None,
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct Deadline {
    acquire: bool,
    close: Duration,
    slack: Duration,
}

impl Deadline {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> Deadline {
        Deadline {
            acquire: terms.capabilities.acquire_timeout,
            close: terms.within(META.name, Duration::from_secs(30)),
            slack: TIMER_SLACK + terms.lateness,
        }
    }

    fn close_took(&self, id: PoolId, now: Duration, ended: bool, view: &View, out: &mut Violations) {
        let Some(pool) = view.pool(id) else { return };
        let Some(&closing) = pool.closes.first() else {
            return;
        };
        if pool.in_use() > 0 {
            return;
        }
        let since = pool.released_at.map_or(closing, |released| released.max(closing));
        let took = now.saturating_sub(since);
        if took > self.close + self.slack {
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
                let Some((_, since)) = actor.waiting else {
                    return;
                };
                if let Some(cancelled) = actor.cancelled_at
                    && event.at > cancelled + self.slack
                {
                    out.add(&META, || {
                        let took = seconds(event.at - cancelled);
                        let sentence = format!("its acquire ended {took} after it was cancelled, not at once");
                        Violation::new(&META, event.at, Who::Actor(*id), sentence)
                    });
                }
                let timeout = view.pool(*pool).and_then(|pool| pool.settings.acquire_timeout);
                let Some(timeout) = timeout.filter(|_| self.acquire) else {
                    return;
                };
                let waited = event.at.saturating_sub(since);
                if waited > timeout + self.slack {
                    out.add(&META, || {
                        let (waited, timeout) = (seconds(waited), seconds(timeout));
                        let sentence = format!("its acquire took {waited}, but acquire_timeout is {timeout}");
                        Violation::new(&META, event.at, Who::Actor(*id), sentence)
                    });
                }
            }
            // Who closes a closed pool once more does not wait for anything.
            What::PoolClosed { pool } if view.pool(*pool).is_some_and(|pool| pool.ended_at.is_none()) => {
                self.close_took(*pool, event.at, true, view, out);
            }
            // Whoever closed it has waited long enough.
            What::PoolDropped { pool } if view.pool(*pool).is_some_and(|pool| pool.ended_at.is_none()) => {
                self.close_took(*pool, event.at, false, view, out);
            }
            _ => {}
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        for (id, pool) in view.pools() {
            if pool.ended_at.is_none() {
                self.close_took(id, view.now, false, view, out);
            }
            let Some(timeout) = pool.settings.acquire_timeout.filter(|_| self.acquire) else {
                continue;
            };
            for (actor, since) in view.waiters(pool) {
                let waited = view.now.saturating_sub(since);
                if waited > timeout + self.slack {
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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::pool::PoolErrorKind;
    use crate::trace::event::{Acquired, ActorId, Phase, PoolId, What};

    #[test]
    fn a_timeout_that_comes_late() {
        let mut case = Case::new();
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(30_100).fails(3, PoolErrorKind::Timeout).releases(1, 1).releases(2, 2).violates(META.name, 1);
    }

    #[test]
    fn a_timeout_that_never_comes() {
        let mut case = Case::new();
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(40_000).phase(Phase::Healing).violates(META.name, 1);
    }

    #[test]
    fn in_time_or_without_a_timeout() {
        let mut case = Case::new();
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(30_004).fails(3, PoolErrorKind::Timeout).releases(1, 1).releases(2, 2).is_innocent();
        let mut scenario = scenario();
        scenario.apps["web"].pool.acquire_timeout = None;
        let mut case = Case::of(&scenario);
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(90_000).releases(1, 1).gets(3, 1).releases(2, 2).is_innocent();
        // A pool that documents no acquire timeout.
        let unable = crate::pool::Capabilities { acquire_timeout: false, ..ABLE };
        let mut case = Case::with(&super::super::testing::scenario(), unable);
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(90_000).releases(1, 1).gets(3, 1).releases(2, 2).is_innocent();
    }

    #[test]
    fn a_cancelled_acquire_that_goes_on() {
        let mut case = Case::new();
        case.at(0).asks(1).asks(2).open(1).open(2).gets(1, 1).gets(2, 2).asks(3);
        case.at(10).happens(What::StepCancelled { actor: ActorId(3), step: "acquire".into() });
        let result = Acquired::Cancelled;
        case.at(100).happens(What::AcquireEnd { actor: ActorId(3), pool: PoolId(1), result }).violates(META.name, 1);
    }

    #[test]
    fn a_close_that_hangs() {
        let mut case = Case::new();
        case.at(10).happens(What::PoolClosing { pool: PoolId(1) }).at(60_000);
        case.happens(What::PoolClosed { pool: PoolId(1) }).violates(META.name, 1);
    }

    #[test]
    fn a_second_close_of_a_closed_pool() {
        let mut case = Case::new();
        case.at(10).happens(What::PoolClosing { pool: PoolId(1) }).at(12).happens(What::PoolClosed { pool: PoolId(1) });
        case.at(60_000).happens(What::PoolClosing { pool: PoolId(1) });
        case.happens(What::PoolClosed { pool: PoolId(1) }).is_innocent();
    }

    #[test]
    fn a_cancelled_close_is_nobodys() {
        let cancelled = || {
            let mut case = Case::new();
            case.at(10).happens(What::PoolClosing { pool: PoolId(1) });
            case.at(20).happens(What::PoolCloseCancelled { pool: PoolId(1) }).at(60_000);
            case
        };
        // Neither is it held against the pool, nor does the next one have it on its account.
        cancelled().happens(What::PoolDropped { pool: PoolId(1) }).is_innocent();
        cancelled().is_innocent();
        let closing = What::PoolClosing { pool: PoolId(1) };
        cancelled().happens(closing.clone()).happens(What::PoolClosed { pool: PoolId(1) }).is_innocent();
        // The next one has its own bound, and so has another that went on.
        let mut case = cancelled();
        case.happens(closing.clone()).at(100_000).happens(What::PoolClosed { pool: PoolId(1) });
        case.violates(META.name, 1);
        let mut case = Case::new();
        case.at(10).happens(closing.clone()).at(15).happens(closing);
        case.at(20).happens(What::PoolCloseCancelled { pool: PoolId(1) });
        case.at(60_000).happens(What::PoolDropped { pool: PoolId(1) }).violates(META.name, 1);
    }

    #[test]
    fn a_close_that_never_returns() {
        let mut case = Case::new();
        case.at(10).happens(What::PoolClosing { pool: PoolId(1) }).at(60_000);
        case.happens(What::PoolDropped { pool: PoolId(1) }).violates(META.name, 1);
        let mut case = Case::new();
        case.at(10).happens(What::PoolClosing { pool: PoolId(1) }).happens(What::PoolClosed { pool: PoolId(1) });
        case.at(60_000).happens(What::PoolDropped { pool: PoolId(1) }).is_innocent();
        let mut case = Case::new();
        case.at(60_000).happens(What::PoolDropped { pool: PoolId(1) }).is_innocent();
    }

    #[test]
    fn a_close_that_waits_for_a_lease() {
        let mut case = Case::new();
        case.at(0).asks(1).open(1).gets(1, 1).at(10).happens(What::PoolClosing { pool: PoolId(1) });
        case.at(60_000).releases(1, 1).closed(1).happens(What::PoolClosed { pool: PoolId(1) }).is_innocent();
    }
}
