//! After close, dispose, drop or loss no backend, task or timer of the pool remains.
//!
//! Closing takes a round trip, so there is a bound in time. What counts is the client's end: a backend that the server
//! still has though its client end is gone is an orphan. A leaked or detached connection is the application's, not the
//! pool's, unless its actor lost the pool itself; a connection whose flow may be silently dead may be closing for as long as TCP tries.
//! A dial that nobody answers is the pool's: whoever ends a pool wants no connection any more.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{ActorId, Event, PoolId, What};
use crate::trace::view::{Class, ClientEnd, ConnView, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "nothing-left",
    meaning: "after close, dispose, drop or loss no backend, task or timer of the pool remains",
    bound: "1 s and a dial",
    needs: None,
    takes: Takes::Time,
};

/// Judges [`META`].
pub struct NothingLeft {
    bound: Duration,
    // Pools that were disposed, and pools that were lost by their actors, until all that they had is gone.
    gone: Vec<Gone>,
}

#[derive(Clone, Copy)]
struct Gone {
    pool: PoolId,
    at: Duration,
    /// Who lost it; `None`: it was disposed.
    lost_by: Option<ActorId>,
}

impl NothingLeft {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> NothingLeft {
        NothingLeft { bound: terms.within(META.name, terms.grace()), gone: Vec::new() }
    }

    /// Judges what is left of disposed and of lost pools. What is still leased is judged when it has come back.
    fn settle(&mut self, now: Duration, view: &View, out: &mut Violations) {
        let bound = self.bound;
        self.gone.retain(|gone| {
            if now <= gone.at + bound {
                return true;
            }
            let Some(pool) = view.pool(gone.pool).filter(|pool| pool.ended_at.is_none()) else { return false };
            let of_it = |conn: &ConnView| gone.lost_by.is_some() || conn.former;
            let open = |conn: &ConnView| conn.end == ClientEnd::Open && !conn.detached && view.is_proven(conn);
            let mut waits = false;
            for (id, conn) in view.conns_of(pool).filter(|(_, conn)| of_it(conn) && open(conn)) {
                let since = conn.released.map_or(gone.at, |(released, _)| released.max(gone.at));
                if conn.lease.is_some() || now <= since + bound {
                    waits = true;
                    continue;
                }
                out.add(&META, || {
                    let at = seconds(gone.at);
                    let (who, how) = match gone.lost_by {
                        Some(actor) => (Who::Actor(actor), format!("lost its pool in a reference cycle at {at}")),
                        None => (Who::Pool(gone.pool), format!("let go of its connections at {at}")),
                    };
                    let sentence = format!("it {how}, but at {} a connection of it is still open", seconds(now));
                    Violation::new(&META, now, who, sentence).on(id, view)
                });
                return false;
            }
            waits
        });
    }
}

impl Judge for NothingLeft {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants {
            before: &[Kind::Task, Kind::Dial, Kind::PoolEnd, Kind::Process, Kind::ActorEnd, Kind::Phase],
            after: &[],
        }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        if !self.gone.is_empty() {
            self.settle(event.at, view, out);
        }
        match &event.what {
            What::PoolDisposed { pool } => self.gone.push(Gone { pool: *pool, at: event.at, lost_by: None }),
            What::PoolLost { actor, pool } => {
                self.gone.push(Gone { pool: *pool, at: event.at, lost_by: Some(*actor) });
            }
            What::TasksLeft { count } => {
                let known = self.ended(event.at, view, out);
                if !known && *count as usize > excused(view) {
                    out.add(&META, || {
                        let sentence =
                            format!("every pool is gone, but {count} tasks that they started are still alive");
                        Violation::new(&META, event.at, Who::Run, sentence)
                    });
                }
            }
            What::Dial { conn, pool: id } => {
                let Some(ended) = view.pool(*id).and_then(|pool| pool.ended_at) else {
                    return;
                };
                if event.at > ended + self.bound {
                    out.add(&META, || {
                        let sentence = format!("it was closed or dropped at {}, but dials again", seconds(ended));
                        Violation::new(&META, event.at, Who::Pool(*id), sentence).on(*conn, view)
                    });
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, view: &View, out: &mut Violations) {
        self.settle(view.now, view, out);
        self.ended(view.now, view, out);
    }
}

/// How many tasks may be left: that of a connection which can't be closed for want of an answer is TCP's, not the pool's.
#[must_use]
pub fn excused(view: &View) -> usize {
    let conns = view.pools().flat_map(|(_, pool)| view.conns_of(pool));
    let waits = |conn: &ConnView| conn.end != ClientEnd::Dialling && !view.is_proven(conn);
    let excused = conns.filter(|(_, conn)| conn.detached || conn.lease.is_some() || waits(conn)).count();
    // Nor is one that went on in a process which is dead.
    excused + view.dead_dials as usize
}

impl NothingLeft {
    /// Judges what is left of pools that ended. Says whether there was anything.
    fn ended(&self, now: Duration, view: &View, out: &mut Violations) -> bool {
        let mut any = false;
        for (id, pool) in view.pools() {
            let Some(ended) = pool.ended_at.filter(|ended| now.saturating_sub(*ended) > self.bound) else {
                continue;
            };
            // A lease that came back after the close is closed then.
            let late =
                |conn: &ConnView| conn.released.is_some_and(|(released, _)| now.saturating_sub(released) <= self.bound);
            for (conn_id, conn) in view.conns_of(pool) {
                let left = match view.class(conn_id) {
                    Class::Idle | Class::Busy => view.is_proven(conn) && !late(conn) && conn.lease.is_none(),
                    Class::Dialling => now.saturating_sub(conn.dialled_at) > self.bound,
                    _ => false,
                };
                if left {
                    any = true;
                    out.add(&META, || {
                        let what = if view.class(conn_id) == Class::Dialling { "being dialled" } else { "open" };
                        let sentence = format!(
                            "the pool was closed or dropped at {}, but a connection of it is still {what} at {}",
                            seconds(ended),
                            seconds(now)
                        );
                        Violation::new(&META, now, Who::Pool(id), sentence).on(conn_id, view)
                    });
                }
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::META;
    use crate::pool::PoolErrorKind;
    use crate::trace::event::{ActorId, ConnId, Phase, PoolId, ProcessId, What};
    use poolproof_sim::postgres::event::Gone;

    fn closing() -> Case {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1).at(30).phase(Phase::Closing);
        case.happens(What::PoolClosing { pool: PoolId(1) }).happens(What::PoolClosed { pool: PoolId(1) });
        case
    }

    #[test]
    fn a_connection_stays_open() {
        closing().at(10_000).phase(Phase::End).violates(META.name, 1);
    }

    #[test]
    fn closing_takes_a_round_trip() {
        closing().at(32).closed(1).at(33).gone(1, Gone::Terminate).at(10_000).phase(Phase::End).is_innocent();
    }

    #[test]
    fn a_backend_that_has_not_heard_of_it_is_an_orphan() {
        closing().at(32).closed(1).at(10_000).phase(Phase::End).is_innocent();
    }

    #[test]
    fn a_disposed_pool_keeps_what_it_had() {
        let disposed = || {
            let mut case = Case::new();
            case.at(10).asks(1).open(1).gets(1, 1).at(20).happens(What::PoolDisposed { pool: PoolId(1) });
            case.at(10_000).releases(1, 1);
            case
        };
        disposed().at(20_000).phase(Phase::Healing).violates(META.name, 1);
        disposed().at(10_001).closed(1).at(20_000).phase(Phase::Healing).is_innocent();
        // What it opened since is its own affair.
        let mut goes_on = Case::new();
        goes_on.at(10).happens(What::PoolDisposed { pool: PoolId(1) }).at(20).asks(1).open(1).gets(1, 1);
        goes_on.at(30).releases(1, 1).at(20_000).phase(Phase::Healing).is_innocent();
    }

    #[test]
    fn a_lost_pool_stays_open() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).releases(1, 1);
        case.happens(What::PoolLost { actor: ActorId(1), pool: PoolId(1) });
        case.at(20_000).phase(Phase::Healing).violates(META.name, 1);
    }

    #[test]
    fn a_task_stays() {
        closing().at(32).closed(1).at(10_000).happens(What::TasksLeft { count: 1 }).violates(META.name, 1);
    }

    #[test]
    fn a_dead_process_dials_no_more() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1).at(20).happens(What::ProcessEnd { process: ProcessId(1) }).dial(2);
        case.at(60_000).happens(What::TasksLeft { count: 1 }).phase(Phase::End).is_innocent();
    }

    #[test]
    fn a_dial_stays_that_nobody_answers() {
        let run = |dropped: bool| {
            let mut case = Case::new();
            case.at(10).asks(1).dial(1).fails(1, PoolErrorKind::Timeout).at(30).phase(Phase::Closing);
            case.happens(What::PoolDropped { pool: PoolId(1) }).at(40);
            if dropped {
                case.happens(What::DialDropped { conn: ConnId(1) });
            }
            case.at(60_000).happens(What::TasksLeft { count: u32::from(!dropped) });
            // By then the kernel has closed all that the process had.
            case.happens(What::ProcessEnd { process: ProcessId(1) }).phase(Phase::End);
            case
        };
        run(false).violates(META.name, 1);
        run(true).is_innocent();
    }
}
