//! Nothing panics: not an acquire, not a task that the pool spawned, not a lease's drop.
//!
//! A scenario's own `panic` step is on purpose: an actor of a workload that has one may end so. So is the panic of a pool's manager
//! (the fault `manager.panic`): a pool may pass it on to its caller.

use super::judge::{Judge, Kind, Meta, Takes, Terms, Violation, Violations, Wants, Who};
use crate::trace::event::{Acquired, ActorEnd, Event, What};
use crate::trace::view::View;
use crate::workload::MANAGER_PANIC;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "no-panic",
    meaning: "nothing panics, and no lock is poisoned",
    bound: "none",
    needs: None,
    takes: Takes::Nothing,
};

/// Judges [`META`].
pub struct NoPanic {
    on_purpose: Vec<String>,
}

impl NoPanic {
    /// On these terms.
    #[must_use]
    pub fn new(terms: &Terms) -> NoPanic {
        NoPanic { on_purpose: terms.panicking.clone() }
    }
}

impl Judge for NoPanic {
    fn meta(&self) -> &'static Meta {
        &META
    }

    fn wants(&self) -> Wants {
        Wants { before: &[Kind::AcquireEnd, Kind::ActorEnd, Kind::Task], after: &[] }
    }

    fn before(&mut self, event: &Event, view: &View, out: &mut Violations) {
        let (who, sentence) = match &event.what {
            What::AcquireEnd { result: Acquired::Panicked(message), .. }
            | What::ActorEnd { end: ActorEnd::Panicked(message), .. }
                if message.starts_with(MANAGER_PANIC) =>
            {
                return; // It is the manager's, and a pool may pass it on.
            }
            What::AcquireEnd { actor, result: Acquired::Panicked(message), .. } => {
                (Who::Actor(*actor), format!("acquire panicked: {message}"))
            }
            What::ActorEnd { actor, end: ActorEnd::Panicked(message) } => {
                let workload = view.actor(*actor).and_then(|actor| actor.workload.as_deref());
                if workload.is_some_and(|workload| self.on_purpose.iter().any(|known| known == workload)) {
                    return;
                }
                (Who::Actor(*actor), format!("the actor panicked in a step that must not: {message}"))
            }
            What::TaskPanicked { message } => {
                (Who::Run, format!("a task that poolproof did not start panicked: {message}"))
            }
            _ => return,
        };
        out.add(&META, || Violation::new(&META, event.at, who, sentence));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::{MANAGER_PANIC, META};
    use crate::scenario::model::{Action, Arrive, OnError, Step, Workload};
    use crate::trace::event::{Acquired, ActorEnd, ActorId, PoolId, ProcessId, What};

    #[test]
    fn a_pool_that_panics() {
        let mut case = Case::new();
        case.at(10).asks(1).open(1);
        let result = Acquired::Panicked("index out of bounds".into());
        case.happens(What::AcquireEnd { actor: ActorId(1), pool: PoolId(1), result });
        case.happens(What::TaskPanicked { message: "poisoned".into() }).violates(META.name, 2);
    }

    #[test]
    fn a_managers_panic_may_be_passed_on() {
        let passed = |message: &str| {
            let mut case = Case::new();
            case.at(10).asks(1);
            let result = Acquired::Panicked(format!("{message} (src/manager.rs:1)"));
            case.happens(What::AcquireEnd { actor: ActorId(1), pool: PoolId(1), result });
            case
        };
        passed(MANAGER_PANIC).is_innocent();
        passed("called `Result::unwrap()` on an `Err` value: PoisonError { .. }").violates(META.name, 1);
    }

    #[test]
    fn a_panic_on_purpose() {
        let panics = |workload: &str| {
            let mut scenario = scenario();
            let steps = vec![Step { action: Action::Panic, cancel: None }];
            let (app, arrive) = ("web".to_owned(), Arrive::Never);
            let (from, until, on_error) = (std::time::Duration::ZERO, None, OnError::Stop);
            scenario
                .workloads
                .insert("clumsy".into(), Workload { app, arrive, from, until, steps, on_error, finally: Vec::new() });
            let mut case = Case::of(&scenario);
            let (actor, workload, process) = (ActorId(1), workload.into(), ProcessId(1));
            case.happens(What::ActorStart { actor, workload, process }).ends(1, ActorEnd::Panicked("step".into()));
            case
        };
        panics("clumsy").is_innocent();
        panics("other").violates(META.name, 1);
    }
}
