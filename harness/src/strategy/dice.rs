//! What is drawn, from a seed alone.

use std::time::Duration;

use poolproof_sim::entropy;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::workload::random::between;

/// A seeded source of choices. The same seed and name give the same choices on every machine.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of this name.
    pub(crate) fn new(seed: u64, name: &str) -> Dice {
        Dice(entropy::stream(seed, name))
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number between these, both included.
    pub(crate) fn number(&mut self, low: u32, high: u32) -> u32 {
        u32::try_from(between(&mut self.0, low.into(), high.max(low).into())).unwrap_or(high)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.number(1, 100) <= percent
    }

    /// A place in a list of this length, which is not empty.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        let last = u64::try_from(len.saturating_sub(1)).unwrap_or(u64::MAX);
        usize::try_from(between(&mut self.0, 0, last)).unwrap_or(0)
    }

    /// One of a list, which is not empty.
    pub(crate) fn one<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.place(list.len())].clone()
    }

    /// One of a list by weight; the first one if no weight is above 0.
    pub(crate) fn weighted<T: Clone>(&mut self, list: &[(u32, T)]) -> T {
        let total: u32 = list.iter().map(|(weight, _)| *weight).sum();
        let mut rest = self.number(1, total.max(1));
        for (weight, value) in list {
            if rest <= *weight {
                return value.clone();
            }
            rest -= weight;
        }
        list[0].1.clone()
    }

    /// One of these, in milliseconds.
    pub(crate) fn millis(&mut self, list: &[u64]) -> Duration {
        Duration::from_millis(self.one(list))
    }
}
