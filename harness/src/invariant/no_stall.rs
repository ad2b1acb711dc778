//! No busy loop and no blocked thread.
//!
//! A run that is stuck can't say so: whoever runs it sees from outside that it makes no progress in the pool's hands, ends
//! it, and adds [`Violation::stall`]. A run whose own load is too large for the limits is no stall: it is unknown. Judged here is what an application does to itself: with a driver that is not cooperative, one
//! actor's statement blocks the only thread of its process, and no other actor of it runs meanwhile.

use std::time::Duration;

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who, seconds};
use crate::trace::event::{ActorId, Event, What};
use crate::trace::view::View;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "no-stall",
    meaning: "no task spins without yielding, and none blocks the thread",
    bound: "the wall-clock limit of a run; 1 s for an actor that can't run while another one blocks its thread",
    needs: None,
    takes: Takes::Time,
};

/// Judges [`META`], as far as it can be seen from inside.
pub struct NoStall {
    bound: Duration,
    // Who can't run, and since when.
    blocked: Vec<(ActorId, Duration)>,
}

impl NoStall {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> NoStall {
        NoStall { bound: terms.within(META.name, Duration::from_secs(1)), blocked: Vec::new() }
    }

    fn free(&mut self, actor: ActorId, now: Duration, out: &mut Violations) {
        let Some(place) = self.blocked.iter().position(|(blocked, ..)| *blocked == actor) else { return };
        let (_, since) = self.blocked.swap_remove(place);
        let took = now.saturating_sub(since);
        if took > self.bound {
            out.add(&META, || {
                let took = seconds(took);
                let sentence =
                    format!("it could not run for {took}: others' statements blocked the only thread of their process");
                Violation::new(&META, now, Who::Actor(actor), sentence)
            });
        }
    }
}

impl Judge for NoStall {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::Thread, Kind::ActorEnd], after: &[] }
    }

    fn before(&mut self, event: &Event, _view: &View, out: &mut Violations) {
        match &event.what {
            What::ThreadBlocked { actor } => self.blocked.push((*actor, event.at)),
            What::ThreadFree { actor } | What::ActorEnd { actor, .. } if !self.blocked.is_empty() => {
                self.free(*actor, event.at, out);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Violation, Violations};
    use super::META;
    use crate::trace::event::{ActorId, What};

    #[test]
    fn it_is_told_from_outside() {
        let mut violations = Violations::default();
        violations.push(Violation::stall(std::time::Duration::from_secs(3), "no progress in 10 s of real time"));
        assert_eq!(violations.counts()[META.name], 1);
        assert_eq!(violations.list()[0].to_string(), "no-stall at 3.000 s, run: no progress in 10 s of real time");
        Case::new().is_innocent();
    }

    #[test]
    fn one_statement_blocks_the_thread_of_all() {
        let blocked = |until: u64| {
            let mut case = Case::new();
            case.at(10).happens(What::ThreadBlocked { actor: ActorId(2) });
            case.at(until).happens(What::ThreadFree { actor: ActorId(2) });
            case
        };
        blocked(8_010).violates(META.name, 1);
        blocked(900).is_innocent();
    }
}
