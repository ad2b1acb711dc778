//! What proptest asks of a strategy: values, and how a failing one becomes simpler.

use std::fmt;
use std::sync::Arc;

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rand_chacha::rand_core::Rng;

use super::dice::Dice;

type Draw<T> = dyn Fn(&mut Dice) -> T + Send + Sync;
type Simpler<T> = dyn Fn(&T) -> Vec<T> + Send + Sync;

/// A strategy of values that are drawn whole, and shrunk by proposals of simpler ones.
///
/// Not by proptest's own combinators: a value that was combined from many choices shrinks choice by choice, and a choice that
/// all others depend on (how many callers there are) takes the rest with it. Proposals know what they simplify.
pub struct Drawn<T> {
    draw: Arc<Draw<T>>,
    simpler: Arc<Simpler<T>>,
}

impl<T> Drawn<T> {
    pub(super) fn new(
        draw: impl Fn(&mut Dice) -> T + Send + Sync + 'static,
        simpler: impl Fn(&T) -> Vec<T> + Send + Sync + 'static,
    ) -> Drawn<T> {
        Drawn { draw: Arc::new(draw), simpler: Arc::new(simpler) }
    }
}

impl<T> Clone for Drawn<T> {
    fn clone(&self) -> Self {
        Drawn { draw: Arc::clone(&self.draw), simpler: Arc::clone(&self.simpler) }
    }
}

impl<T> fmt::Debug for Drawn<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drawn").finish_non_exhaustive()
    }
}

impl<T: Clone + fmt::Debug> Strategy for Drawn<T> {
    type Tree = Tree<T>;
    type Value = T;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let mut dice = Dice::new(runner.rng().next_u64(), "strategy");
        let value = (self.draw)(&mut dice);
        Ok(Tree { failing: value, trial: None, simpler: Arc::clone(&self.simpler) })
    }
}

/// A value and what it may shrink to.
pub struct Tree<T> {
    /// The simplest value that is known to fail, or the one that was drawn.
    failing: T,
    /// The simpler ones than that, and which of them is tried.
    trial: Option<(Vec<T>, usize)>,
    simpler: Arc<Simpler<T>>,
}

impl<T: Clone + fmt::Debug> ValueTree for Tree<T> {
    type Value = T;

    fn current(&self) -> T {
        match &self.trial {
            Some((all, place)) => all[*place].clone(),
            None => self.failing.clone(),
        }
    }

    /// The current value fails: one that is simpler than it is tried next.
    fn simplify(&mut self) -> bool {
        self.failing = self.current();
        let all = (self.simpler)(&self.failing);
        self.trial = (!all.is_empty()).then_some((all, 0));
        self.trial.is_some()
    }

    /// The current value does not fail: another one is tried.
    fn complicate(&mut self) -> bool {
        match self.trial.take() {
            Some((all, place)) if place + 1 < all.len() => {
                self.trial = Some((all, place + 1));
                true
            }
            _ => false,
        }
    }
}
