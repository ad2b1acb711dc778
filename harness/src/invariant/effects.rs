//! Every commit acknowledged is there, once; nothing that failed is there twice.
//!
//! Judged statement by statement, by the server's commits on the actor's backend between the statement's begin and its
//! end, as the actor sees them:
//!
//! - acknowledged, and by the server's tags it wrote and was no longer in a transaction: the commit was there before;
//! - acknowledged, and its actor had begun no transaction in this lease, but the server was in one (somebody else's, or the
//!   pool's): what it wrote must not be rolled back, unless the actor itself says so;
//! - one statement, one commit at most, however it ended (more than one statement in a text may commit more often);
//! - refused by the server with an SQLSTATE: nothing was committed;
//! - nobody holds the connection, or its holder runs nothing: nothing commits, unless the last lease was abandoned, or
//!   its connection broke, in the middle of a statement, which the server then runs to its end, once. This is where a
//!   pool that commits what it was given back, or a driver that sends a statement again on another connection, is caught.
//!
//! A statement whose connection broke may have committed or not. What a failover loses is checked by the scenario's own
//! queries at the end.

use std::sync::Arc;

use poolproof_sim::postgres::event::{BackendState, ServerEvent};

use super::judge::{Judge, Kind, Meta, Takes, Violation, Violations, Wants, Who};
use crate::trace::event::{Acquired, ActorId, ConnId, Event, SqlResult, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "effects",
    meaning: "every commit acknowledged is there, once; nothing that failed is there twice",
    bound: "none",
    needs: None,
    takes: Takes::Nothing,
};

/// Judges [`META`].
#[derive(Default)]
pub struct Effects {
    conns: IntMap<u32, Written>,
    /// The last text that was looked into, and whether it is about transactions: actors send the same one over and over.
    seen: Option<(Arc<str>, bool)>,
}

#[derive(Default, Clone, Copy)]
struct Written {
    /// Wrote something that is neither committed nor rolled back yet.
    pending: bool,
    /// A COMMIT of such writes was acknowledged without a commit.
    unkept: bool,
    /// An abandoned statement has committed already: how many were in flight then.
    abandoned_committed: u32,
    /// The holder has begun a transaction of its own, or ended one.
    own: bool,
    /// The holder who was told that it wrote something, in a transaction that it has not begun.
    foreign: Option<ActorId>,
}

/// Whether the tag says that rows were written: `INSERT 0 1`, `UPDATE 2`, `DELETE 1`.
fn wrote(tag: &str) -> bool {
    (tag.starts_with("INSERT") || tag.starts_with("UPDATE") || tag.starts_with("DELETE"))
        && tag.rsplit(' ').next().is_some_and(|count| count != "0")
}

/// Whether a text begins or rolls back a transaction.
fn is_about_transactions(text: &str) -> bool {
    text.split(';').any(|statement| {
        let word = statement.split_whitespace().next().unwrap_or_default();
        ["BEGIN", "START", "ROLLBACK", "ABORT"].iter().any(|known| word.eq_ignore_ascii_case(known))
    })
}

/// Whether a text is one statement.
fn is_single(text: &str) -> bool {
    !text.trim_end().trim_end_matches(';').contains(';')
}

impl Effects {
    fn is_about_transactions(&mut self, text: &Arc<str>) -> bool {
        match &self.seen {
            Some((seen, known)) if Arc::ptr_eq(seen, text) => *known,
            _ => {
                let is = is_about_transactions(text);
                self.seen = Some((Arc::clone(text), is));
                is
            }
        }
    }

    fn commit(&mut self, event: &Event, id: ConnId, view: &View, out: &mut Violations) {
        let Some(conn) = view.conn(id) else { return };
        let written = self.conns.entry(id.0).or_default();
        (written.pending, written.unkept, written.foreign) = (false, false, None);
        if conn.detached {
            return;
        }
        let running = conn.lease.is_some_and(|holder| {
            view.actor(holder).is_some_and(|holder| holder.sql.as_ref().is_some_and(|sql| sql.conn == id))
        });
        if running {
            return;
        }
        // An abandoned or cancelled statement runs to its end at the server, whoever holds the connection by now.
        if conn.in_flight > 0 && std::mem::replace(&mut written.abandoned_committed, conn.in_flight) != conn.in_flight {
            return;
        }
        if conn.leaked {
            return;
        }
        out.add(&META, || {
            let sentence = match conn.released {
                Some((_, former)) if conn.lease.is_none() => {
                    format!("a transaction was committed while nobody held it; actor {} held it last", former.0)
                }
                _ => "a transaction was committed though its holder ran no statement".to_owned(),
            };
            let who = conn.lease.or(conn.released.map(|(_, former)| former)).map_or(Who::Pool(conn.pool), Who::Actor);
            Violation::new(&META, event.at, who, sentence).on(id, view)
        });
    }
}

impl Judge for Effects {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants {
            before: &[Kind::SqlStart, Kind::SqlEnd, Kind::StatementEnd, Kind::Commit, Kind::AcquireEnd],
            after: &[],
        }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        match &event.what {
            What::Server { event: ServerEvent::StatementEnd { pid, result: Ok(tag) }, .. } => {
                let commits = tag.as_bytes().first() == Some(&b'C') && &**tag == "COMMIT";
                if !commits && !wrote(tag) {
                    return;
                }
                let Some(id) = view.conn_of(*pid) else { return };
                let written = self.conns.entry(id.0).or_default();
                if commits {
                    written.unkept = written.pending;
                    written.pending = false;
                } else {
                    // In autocommit the commit comes before the tag or after it: it is asked for when the actor has the answer.
                    written.pending = true;
                }
            }
            What::Server { event: ServerEvent::Committed { pid, .. }, .. } => {
                if let Some(id) = view.conn_of(*pid) {
                    self.commit(event, id, view, out);
                }
            }
            What::Server { event: ServerEvent::RolledBack { pid, .. }, .. } => {
                let Some(id) = view.conn_of(*pid) else { return };
                if let Some(written) = self.conns.get_mut(&id.0) {
                    (written.pending, written.unkept) = (false, false);
                    if let Some(actor) = written.foreign.take() {
                        out.add(&META, || {
                            let sentence = "what it wrote was acknowledged, outside any transaction of its own, and \
                                            was then rolled back";
                            Violation::new(&META, event.at, Who::Actor(actor), sentence).on(id, view)
                        });
                    }
                }
            }
            What::SqlStart { conn, text, .. } => {
                if self.is_about_transactions(text) {
                    let written = self.conns.entry(conn.0).or_default();
                    (written.own, written.foreign) = (true, None);
                }
                if let Some(written) = self.conns.get_mut(&conn.0) {
                    // A statement whose actor is gone is told by its tag alone: nobody has asked whether it was committed.
                    let at_rest = view.conn(*conn).is_some_and(|conn| conn.state == Some(BackendState::Idle));
                    let pending = written.pending && !at_rest;
                    *written = Written { unkept: false, abandoned_committed: 0, pending, ..*written };
                }
            }
            What::AcquireEnd { result: Acquired::Lease { conn, .. }, .. } => {
                if let Some(written) = self.conns.get_mut(&conn.0) {
                    written.own = false;
                }
            }
            What::SqlEnd { actor, conn: id, result } => {
                let Some(sql) = view.actor(*actor).and_then(|actor| actor.sql.as_ref()) else {
                    return;
                };
                let Some(conn) = view.conn(*id).filter(|_| sql.conn == *id) else {
                    return;
                };
                let commits = conn.commits - sql.commits;
                let Some(known) = self.conns.get_mut(&id.0) else {
                    return;
                };
                let written = *known;
                if commits > 0 || conn.state == Some(BackendState::Idle) {
                    known.pending = false;
                }
                if sql.follows_abandoned {
                    return;
                }
                let in_transaction = conn.state == Some(BackendState::IdleInTransaction);
                if matches!(result, SqlResult::Ok) && known.pending && in_transaction && !known.own {
                    known.foreign = Some(*actor);
                }
                let told = match result {
                    _ if commits > 1 && is_single(&sql.text) => {
                        format!("\"{}\" was sent once and committed {commits} times", sql.text)
                    }
                    SqlResult::Error(code) if commits > 0 && is_single(&sql.text) => {
                        format!("\"{}\" failed with {code}, but it was committed", sql.text)
                    }
                    SqlResult::Ok if commits == 0 && written.unkept => {
                        format!("\"{}\" was acknowledged, but nothing was committed", sql.text)
                    }
                    SqlResult::Ok if commits == 0 && written.pending && conn.state == Some(BackendState::Idle) => {
                        format!("\"{}\" was acknowledged outside a transaction, but nothing was committed", sql.text)
                    }
                    _ => return,
                };
                out.add(&META, || Violation::new(&META, event.at, Who::Actor(*actor), told).on(*id, view));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::trace::event::{ActorEnd, SqlResult};
    use poolproof_sim::postgres::event::{BackendState, Gone, ServerEvent};

    /// Actor 1 holds connection 1 and sends this.
    fn sends(text: &str) -> Case {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).sql(1, 1, text).at(11).state(1, BackendState::Active);
        case
    }

    #[test]
    fn a_write_and_its_commit() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.commits(1).tag(1, "INSERT 0 1").state(1, BackendState::Idle).at(12).sql_ends(1, 1, SqlResult::Ok);
        // Reads after it commit nothing, and need not.
        case.sql(1, 1, "SELECT 1")
            .at(13)
            .state(1, BackendState::Active)
            .tag(1, "SELECT 1")
            .state(1, BackendState::Idle);
        case.at(14).sql_ends(1, 1, SqlResult::Ok).releases(1, 1).is_innocent();
    }

    #[test]
    fn acknowledged_and_not_there() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.tag(1, "INSERT 0 1").state(1, BackendState::Idle).at(12).sql_ends(1, 1, SqlResult::Ok).releases(1, 1);
        case.violates(META.name, 1);
    }

    #[test]
    fn sent_twice() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.commits(1).tag(1, "INSERT 0 1").commits(1).tag(1, "INSERT 0 1").state(1, BackendState::Idle);
        case.at(12).sql_ends(1, 1, SqlResult::Ok).releases(1, 1).violates(META.name, 1);
    }

    #[test]
    fn several_statements_in_a_text_may_commit_each() {
        let mut case = sends("BEGIN; INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2);");
        case.commits(1).commits(1).tag(1, "INSERT 0 1").state(1, BackendState::Idle);
        case.at(12).sql_ends(1, 1, SqlResult::Ok).releases(1, 1).is_innocent();
    }

    #[test]
    fn acknowledged_in_a_transaction_that_somebody_else_began_and_rolls_back() {
        // As a pool does that begins a transaction for each lease.
        let rolled_back = ServerEvent::RolledBack { pid: 1, xid: 700 };
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.tag(1, "INSERT 0 1").state(1, BackendState::IdleInTransaction).at(12).sql_ends(1, 1, SqlResult::Ok);
        case.releases(1, 1).at(13).server(rolled_back.clone()).state(1, BackendState::Idle).violates(META.name, 1);
        // The holder began it, or rolled it back.
        for text in ["BEGIN; INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (1); begin"] {
            let mut case = sends(text);
            case.tag(1, "INSERT 0 1").state(1, BackendState::IdleInTransaction).at(12).sql_ends(1, 1, SqlResult::Ok);
            case.releases(1, 1).at(13).server(rolled_back.clone()).state(1, BackendState::Idle).is_innocent();
        }
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.tag(1, "INSERT 0 1").state(1, BackendState::IdleInTransaction).at(12).sql_ends(1, 1, SqlResult::Ok);
        case.sql(1, 1, "ROLLBACK").at(13).server(rolled_back).tag(1, "ROLLBACK").state(1, BackendState::Idle);
        case.at(14).sql_ends(1, 1, SqlResult::Ok).releases(1, 1).is_innocent();
    }

    #[test]
    fn the_pool_commits_what_it_was_given_back() {
        let mut case = sends("UPDATE t SET a = 1");
        case.tag(1, "UPDATE 1").state(1, BackendState::IdleInTransaction).at(12).sql_ends(1, 1, SqlResult::Ok);
        case.releases(1, 1)
            .at(13)
            .state(1, BackendState::Active)
            .commits(1)
            .tag(1, "COMMIT")
            .state(1, BackendState::Idle);
        case.violates(META.name, 1);
    }

    #[test]
    fn an_abandoned_statement_runs_to_its_end() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.at(12).ends(1, ActorEnd::Abandoned).closed(1);
        case.at(500).commits(1).tag(1, "INSERT 0 1").gone(1, Gone::ClientClosed).is_innocent();
    }

    #[test]
    fn two_abandoned_statements_run_to_their_ends_one_after_another() {
        let run = |ends: &[u64]| {
            let mut case = sends("INSERT INTO t VALUES (1)");
            case.at(12).sql_ends(1, 1, SqlResult::Cancelled).releases(1, 1).asks(2).gets(2, 1);
            case.at(13)
                .sql(2, 1, "INSERT INTO t VALUES (2)")
                .at(14)
                .sql_ends(2, 1, SqlResult::Cancelled)
                .releases(2, 1);
            for at in ends {
                case.at(*at)
                    .state(1, BackendState::Active)
                    .commits(1)
                    .tag(1, "INSERT 0 1")
                    .state(1, BackendState::Idle);
            }
            case
        };
        run(&[50, 60]).is_innocent();
        // Each of them commits once.
        run(&[50, 60, 70]).violates(META.name, 1);
    }

    #[test]
    fn what_a_killed_actor_wrote_is_not_the_next_ones() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.ends(1, ActorEnd::Stopped).commits(1).tag(1, "INSERT 0 1").state(1, BackendState::Idle);
        case.at(200).asks(2).gets(2, 1).sql(2, 1, "SELECT 1").at(201).state(1, BackendState::Active);
        case.tag(1, "SELECT 1").state(1, BackendState::Idle).at(202).sql_ends(2, 1, SqlResult::Ok).is_innocent();
    }

    #[test]
    fn a_lost_answer_says_neither() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.commits(1).tag(1, "INSERT 0 1").gone(1, terminated()).at(12).broken(1);
        case.sql_ends(1, 1, SqlResult::Broken("connection closed".into())).releases(1, 1).closed(1).is_innocent();
    }

    #[test]
    fn a_statement_that_the_server_still_runs_after_a_reset_is_committed_once() {
        let lost = || {
            let mut case = sends("INSERT INTO t VALUES (1)");
            case.at(12).broken(1).sql_ends(1, 1, SqlResult::Broken("connection reset".into())).releases(1, 1);
            case.closed(1).at(500).commits(1);
            case
        };
        lost().is_innocent();
        lost().at(501).commits(1).violates(META.name, 1);
    }

    #[test]
    fn failed_and_yet_there() {
        let mut case = sends("INSERT INTO t VALUES (1)");
        case.commits(1).tag(1, "INSERT 0 1").state(1, BackendState::Idle).at(12);
        case.sql_ends(1, 1, SqlResult::Error("57014".into())).releases(1, 1).violates(META.name, 1);
    }
}
