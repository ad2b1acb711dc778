//! The invariants: one file each, judged in every run from the run's events.

pub mod judge;

pub mod bounded_bypass;
pub mod bounded_connections;
pub mod clean_hand_out;
pub mod deadline;
pub mod demand;
pub mod effects;
pub mod eventual_release;
pub mod exclusive_lease;
pub mod jobs_done;
pub mod live_hand_out;
pub mod no_lost_wakeup;
pub mod no_panic;
pub mod no_stall;
pub mod nothing_left;
pub mod quiescent_capacity;
pub mod recovery;
pub mod truthful_status;

#[cfg(test)]
pub(crate) mod testing;

pub use judge::{Judge, Jury, Meta, Takes, Terms, Violation, Violations, Who};

/// Every invariant, in the order in which they are listed to people.
#[must_use]
pub fn all() -> &'static [Meta] {
    static ALL: [Meta; 17] = [
        bounded_connections::META,
        exclusive_lease::META,
        eventual_release::META,
        quiescent_capacity::META,
        no_lost_wakeup::META,
        deadline::META,
        clean_hand_out::META,
        live_hand_out::META,
        bounded_bypass::META,
        demand::META,
        recovery::META,
        truthful_status::META,
        nothing_left::META,
        no_panic::META,
        no_stall::META,
        effects::META,
        jobs_done::META,
    ];
    &ALL
}

/// Their names.
#[must_use]
pub fn names() -> Vec<&'static str> {
    all().iter().map(|meta| meta.name).collect()
}

/// The judges of one run; a run that is stuck is judged from outside.
#[must_use]
pub fn jury(terms: &Terms) -> Jury {
    Jury::new(vec![
        Box::new(bounded_connections::BoundedConnections::new(terms)),
        Box::new(exclusive_lease::ExclusiveLease::new(terms)),
        Box::new(eventual_release::EventualRelease::new(terms)),
        Box::new(quiescent_capacity::QuiescentCapacity::new(terms)),
        Box::new(no_lost_wakeup::NoLostWakeup::new(terms)),
        Box::new(deadline::Deadline::new(terms)),
        Box::new(clean_hand_out::CleanHandOut::new(terms)),
        Box::new(live_hand_out::LiveHandOut::new(terms)),
        Box::new(bounded_bypass::BoundedBypass::new(terms)),
        Box::new(demand::Demand::new(terms)),
        Box::new(recovery::Recovery::new(terms)),
        Box::new(truthful_status::TruthfulStatus::new(terms)),
        Box::new(nothing_left::NothingLeft::new(terms)),
        Box::new(no_panic::NoPanic::new(terms)),
        Box::new(no_stall::NoStall::new(terms)),
        Box::new(effects::Effects::default()),
        Box::new(jobs_done::JobsDone::default()),
    ])
}

#[cfg(test)]
mod tests {
    use super::testing::scenario;
    use super::*;
    use crate::pool::Capabilities;

    #[test]
    fn names_are_unique_and_meanings_are_sentences() {
        let mut names = names();
        assert_eq!(names.len(), 17);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 17);
        assert!(all().iter().all(|meta| !meta.meaning.is_empty() && !meta.bound.is_empty()));
    }

    #[test]
    fn a_pool_that_can_nothing_is_judged_all_the_same() {
        let _ = jury(&Terms::new(&scenario(), Capabilities::default()));
    }
}
