//! No lease starts on a connection known broken, older than `max_lifetime`, or idle for longer than `idle_timeout`.
//!
//! Known means that the driver saw it break in an earlier millisecond; a FIN still on its way, or a flow silently dead,
//! nobody can know. A model's driver (psycopg2) may not know what tokio-postgres knows: then it is judged only where the
//! connection is to be checked before its hand-out, and broke before the acquire began. Age and idle time are judged where the settings give them and the pool closes such connections by
//! itself; its reaper may come up to its interval late.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Acquired, Event, What};
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "live-hand-out",
    meaning: "no lease starts on a connection known broken, too old or too idle for its settings",
    bound: "30 s (a reaper's interval) beyond max_lifetime and idle_timeout",
    needs: None,
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct LiveHandOut {
    unaware: bool,
    lifetime: bool,
    idle: bool,
    late: Duration,
}

impl LiveHandOut {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> LiveHandOut {
        LiveHandOut {
            unaware: terms.capabilities.unaware,
            lifetime: terms.capabilities.max_lifetime,
            idle: terms.capabilities.idle_timeout,
            late: terms.within(META.name, Duration::from_secs(30)) + terms.grace(),
        }
    }
}

impl Judge for LiveHandOut {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::AcquireEnd], after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        let What::AcquireEnd { actor, pool, result: Acquired::Lease { conn: id, .. } } = &event.what else {
            return;
        };
        let (Some(conn), Some(pool)) = (view.conn(*id), view.pool(*pool)) else {
            return;
        };
        let settings = &pool.settings;
        let age = event.at.saturating_sub(conn.opened_at);
        let idle = conn.released.map_or(age, |(released, _)| event.at.saturating_sub(released));
        // What an unaware driver can know is what a check finds: the state at the acquire's start.
        let known_by = match view.actor(*actor).and_then(|actor| actor.waiting) {
            Some((_, since)) if self.unaware => since,
            _ => event.at,
        };
        let known = |broken: &Duration| {
            broken.as_millis() < known_by.as_millis() && (!self.unaware || settings.test_on_acquire)
        };
        let told = if let Some(broken) = conn.broken_at.filter(known) {
            format!("it was handed out, but the driver had known since {} that it is broken", seconds(broken))
        } else if let Some(limit) = settings.max_lifetime.filter(|limit| self.lifetime && age > *limit + self.late) {
            format!("it was handed out {} after it was opened, but max_lifetime is {}", seconds(age), seconds(limit))
        } else if let Some(limit) = settings.idle_timeout.filter(|limit| self.idle && idle > *limit + self.late) {
            format!("it was handed out after {} of idleness, but idle_timeout is {}", seconds(idle), seconds(limit))
        } else {
            return;
        };
        out.add(&META, || Violation::new(&META, event.at, Who::Actor(*actor), told).on(*id, view));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use std::time::Duration;

    #[test]
    fn known_broken() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(30).broken(1).gone(1, terminated());
        case.at(31).leases(2, 1).violates(META.name, 1);
    }

    #[test]
    fn broken_in_the_same_millisecond_or_unnoticed() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(30).gone(1, terminated());
        case.at(31).broken(1).leases(2, 1).is_innocent();
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(30).gone(1, terminated());
        case.at(90_000).leases(2, 1).is_innocent();
    }

    #[test]
    fn broken_unknown_to_a_driver_that_knows_by_use_alone() {
        let run = |test_on_acquire| {
            let mut settings = scenario();
            settings.apps["web"].pool.test_on_acquire = test_on_acquire;
            let mut case = Case::with(&settings, crate::pool::Capabilities { unaware: true, ..ABLE });
            case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(30).broken(1).gone(1, terminated());
            case.at(90_000).asks(2).at(90_010).gets(2, 1);
            case
        };
        run(false).is_innocent();
        run(true).violates(META.name, 1);
    }

    #[test]
    fn too_old_or_too_idle() {
        let mut limits = scenario();
        limits.apps["web"].pool.max_lifetime = Some(Duration::from_secs(60));
        let run = |at, capabilities| {
            let mut case = Case::with(&limits, capabilities);
            case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(at).leases(2, 1);
            case
        };
        run(100_000, ABLE).violates(META.name, 1);
        run(85_000, ABLE).is_innocent();
        // A pool that documents no reaper.
        run(100_000, crate::pool::Capabilities { max_lifetime: false, ..ABLE }).is_innocent();
    }
}
