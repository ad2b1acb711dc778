//! After close or drop no backend, task or timer of the pool remains.
//!
//! Closing takes a round trip, so there is a bound in time. What counts is the client's end: a backend that the server
//! still has though its client end is gone is an orphan. A leaked or detached connection is the application's, not the
//! pool's; a connection whose flow may be silently dead may be closing for as long as TCP tries.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{Event, What};
use crate::trace::view::{Class, View};

/// Name and meaning.
pub const META: Meta = Meta {
    name: "nothing-left",
    meaning: "after close or drop no backend, task or timer of the pool remains",
    bound: "1 s and a dial",
    needs: None,
};

/// Judges [`META`].
pub struct NothingLeft {
    bound: Duration,
}

impl NothingLeft {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> NothingLeft {
        NothingLeft { bound: terms.within(META.name, terms.grace()) }
    }
}

impl Judge for NothingLeft {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::Task, Kind::Dial], after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        match &event.what {
            What::TasksLeft { count } => {
                // The task of a connection that can't be closed for want of an answer is TCP's, not the pool's.
                let excused: usize = view
                    .pools()
                    .flat_map(|(_, pool)| view.conns_of(pool))
                    .filter(|(_, conn)| conn.detached || conn.lease.is_some() || !view.is_proven(conn))
                    .count();
                if *count as usize > excused {
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
        for (id, pool) in view.pools() {
            let Some(ended) = pool.ended_at.filter(|ended| view.now.saturating_sub(*ended) > self.bound) else {
                continue;
            };
            // A lease that came back after the close is closed then.
            let late = |conn: &crate::trace::view::ConnView| {
                conn.released.is_some_and(|(released, _)| view.now.saturating_sub(released) <= self.bound)
            };
            for (conn_id, conn) in view.conns_of(pool) {
                let left = match view.class(conn_id) {
                    Class::Idle | Class::Busy => view.is_proven(conn) && !late(conn) && conn.lease.is_none(),
                    Class::Dialling => view.now.saturating_sub(conn.dialled_at) > self.bound,
                    _ => false,
                };
                if left {
                    out.add(&META, || {
                        let what = if view.class(conn_id) == Class::Dialling { "being dialled" } else { "open" };
                        let sentence = format!(
                            "the pool was closed or dropped at {}, but a connection of it is still {what} at {}",
                            seconds(ended),
                            seconds(view.now)
                        );
                        Violation::new(&META, view.now, Who::Pool(id), sentence).on(conn_id, view)
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
    use crate::trace::event::{Phase, PoolId, What};
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
    fn a_task_stays() {
        closing().at(32).closed(1).at(10_000).happens(What::TasksLeft { count: 1 }).violates(META.name, 1);
    }
}
