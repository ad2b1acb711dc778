//! A lease starts clean: nothing runs, no transaction is open, no answer is unread, no session state is left over.
//!
//! A transaction or a statement left by a former lease is always a violation, whatever the pool promises: the next
//! statement would run inside it. Leftover session state (settings, temporary tables, LISTEN, advisory locks, portals,
//! prepared statements that are not a driver's own) is judged where `reset_on_return` is `discard` and the pool can do
//! it; what the connection had at its first hand-out is the pool's own doing and counts as clean. Unread bytes may have
//! arrived just now: they count once the server has been silent, and nobody had the lease, for longer than the bytes can have been
//! on their way.

use std::time::Duration;

use poolproof_sim::postgres::event::{BackendState, SessionReport};

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who};
use crate::pool::TIMER_SLACK;
use crate::scenario::model::Reset;
use crate::trace::event::{Acquired, ConnId, Event, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "clean-hand-out",
    meaning: "a lease starts with ReadyForQuery I, no unread bytes, no foreign transaction, no leftover session state",
    bound: "none; session state where reset_on_return is discard",
    needs: None,
    takes: Takes::Nothing,
};

/// Judges [`META`].
pub struct CleanHandOut {
    discards: bool,
    per_thread: bool,
    on_its_way: Duration,
    // What a connection had at its first hand-out, if anything.
    at_first: IntMap<u32, SessionReport>,
}

impl CleanHandOut {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> CleanHandOut {
        CleanHandOut {
            discards: terms.capabilities.reset_discard,
            per_thread: terms.capabilities.per_thread,
            on_its_way: terms.round_trip + TIMER_SLACK,
            at_first: IntMap::default(),
        }
    }

    fn leftovers(&self, conn: ConnId, report: &SessionReport) -> Vec<String> {
        let none = Vec::new();
        let first = self.at_first.get(&conn.0);
        let mut left = Vec::new();
        let mut compare = |what: &str, now: &[String], first: &[String]| {
            left.extend(now.iter().filter(|name| !first.contains(name)).map(|name| format!("{what} {name}")));
        };
        compare("setting", &report.settings, first.map_or(&none, |first| &first.settings));
        compare("temporary table", &report.temporary_tables, first.map_or(&none, |first| &first.temporary_tables));
        compare("LISTEN", &report.channels, first.map_or(&none, |first| &first.channels));
        compare("portal", &report.portals, first.map_or(&none, |first| &first.portals));
        let own: Vec<String> = report.prepared.iter().filter(|name| !is_drivers(name)).cloned().collect();
        compare("prepared statement", &own, first.map_or(&none, |first| &first.prepared));
        if report.advisory_locks > first.map_or(0, |first| first.advisory_locks) {
            left.push(format!("{} session-level advisory locks", report.advisory_locks));
        }
        left
    }
}

/// Whether a driver names its own prepared statements so: tokio-postgres `s12`, sqlx `sqlx_s_12`.
fn is_drivers(name: &str) -> bool {
    name.strip_prefix("sqlx_s_")
        .or_else(|| name.strip_prefix('s'))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Judge for CleanHandOut {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::AcquireEnd], after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        let What::AcquireEnd { actor, pool, result: Acquired::Lease { conn: id, session, unread, .. } } = &event.what
        else {
            return;
        };
        let (Some(conn), Some(pool), Some(report)) = (view.conn(*id), view.pool(*pool), session) else {
            return;
        };
        if self.per_thread && conn.lease == Some(*actor) {
            // The thread has it already, with its transaction: it was lost, and is lent again.
            return;
        }
        let promised = self.discards && pool.settings.reset_on_return == Reset::Discard;
        if report.state == BackendState::Idle && *unread == 0 && !(promised && has_any(report)) {
            return;
        }
        let former = conn.released.map_or_else(String::new, |(_, former)| format!(", left by actor {}", former.0));
        let dirt = match report.state {
            BackendState::Idle => None,
            BackendState::Active | BackendState::Starting => Some("a statement was still running on it"),
            BackendState::IdleInTransaction => Some("a transaction was open on it"),
            BackendState::IdleInTransactionAborted => Some("a failed transaction was open on it"),
        };
        let mut tell = |sentence: String| {
            out.add(&META, || Violation::new(&META, event.at, Who::Actor(*actor), sentence).on(*id, view));
        };
        // A driver closes its prepared statements on its own, at the lease's end at the latest; no state tells of that.
        let asked = conn.heard_at.max(conn.released.map_or(Duration::ZERO, |(released, _)| released));
        if let Some(dirt) = dirt {
            tell(format!("when it was handed out, {dirt}{former}"));
        } else if *unread > 0 && event.at.saturating_sub(asked) > self.on_its_way {
            tell(format!("when it was handed out, {unread} bytes of an earlier answer were unread"));
        }
        if !promised {
            return;
        }
        if conn.leased_at.is_none() {
            if has_any(report) {
                self.at_first.insert(id.0, report.clone());
            }
        } else if has_any(report) {
            let left = self.leftovers(*id, report);
            if !left.is_empty() {
                tell(format!("when it was handed out it still had{former}: {}", left.join(", ")));
            }
        }
    }
}

fn has_any(report: &SessionReport) -> bool {
    !report.settings.is_empty()
        || !report.prepared.is_empty()
        || !report.temporary_tables.is_empty()
        || !report.channels.is_empty()
        || !report.portals.is_empty()
        || report.advisory_locks > 0
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::scenario::model::Reset;
    use crate::trace::event::{Acquired, ActorId, ConnId, PoolId, What};
    use poolproof_sim::postgres::event::BackendState;

    fn leased_once(scenario: &crate::scenario::model::Scenario) -> Case {
        let mut case = Case::of(scenario);
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(30).asks(2);
        case
    }

    #[test]
    fn a_transaction_left_open_is_dirt_whatever_is_promised() {
        let mut case = leased_once(&scenario());
        case.gets_session(2, 1, session(BackendState::IdleInTransaction)).releases(2, 1).violates(META.name, 1);
    }

    #[test]
    fn settings_are_dirt_where_a_discard_is_promised() {
        let mut dirty = session(BackendState::Idle);
        dirty.settings = vec!["search_path".into()];
        dirty.advisory_locks = 1;
        leased_once(&scenario()).gets_session(2, 1, dirty.clone()).is_innocent();
        let mut promising = scenario();
        promising.apps["web"].pool.reset_on_return = Reset::Discard;
        leased_once(&promising).gets_session(2, 1, dirty).violates(META.name, 1);
    }

    #[test]
    fn a_drivers_statements_and_the_pools_own_settings_are_no_dirt() {
        let mut promising = scenario();
        promising.apps["web"].pool.reset_on_return = Reset::Discard;
        let mut own = session(BackendState::Idle);
        own.settings = vec!["application_name".into()];
        own.prepared = vec!["s0".into(), "sqlx_s_1".into()];
        let mut case = Case::of(&promising);
        case.at(10).asks(1).open(1).gets_session(1, 1, own.clone()).at(20).releases(1, 1).at(30).asks(2);
        case.gets_session(2, 1, own).is_innocent();
    }

    #[test]
    fn unread_bytes_may_be_on_their_way() {
        let unread = |at| {
            let mut case = Case::new();
            case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).state(1, BackendState::Idle).at(at).asks(2);
            let session = Some(session(BackendState::Idle));
            let result = Acquired::Lease { conn: ConnId(1), pid: 1, session, unread: 7 };
            case.happens(What::AcquireEnd { actor: ActorId(2), pool: PoolId(1), result });
            case
        };
        unread(21).is_innocent();
        unread(500).violates(META.name, 1);
        // The answer to what the driver sent when a prepared statement was dropped, long after the server was heard of.
        let closes = |at| {
            let mut case = Case::new();
            case.at(10).asks(1).open(1).gets(1, 1).at(500).releases(1, 1).at(at).asks(2);
            let result =
                Acquired::Lease { conn: ConnId(1), pid: 1, session: Some(session(BackendState::Idle)), unread: 11 };
            case.happens(What::AcquireEnd { actor: ActorId(2), pool: PoolId(1), result });
            case
        };
        closes(502).is_innocent();
        closes(900).violates(META.name, 1);
    }
}
