//! Another order among what is ready at the same time.
//!
//! On one thread, with virtual time, a seed has one order of events: tasks run in the order in which they were woken, and
//! timers of one instant in the order in which they were set. With `interleave = N` a scenario varies it: at each boundary
//! of I/O of the connector's streams and before each step of an actor a coin decides whether others go first. It is
//! tossed from the number and the seed, so that a run is the same each time.
//!
//! What stays out of reach is what happens between two instructions of a pool: its tasks run one at a time, and are
//! interrupted where they await only. Races between threads, on a pool's own atomics and locks, are for tools that run the
//! pool's code under a scheduler of their own, in which each atomic access is a choice: loom (all orders of a small
//! model) and shuttle (random ones of a larger one). A pool is made ready for either by taking its atomics, locks and
//! threads from one module, which gives std's or, under a `cfg`, the tool's.

use std::future::poll_fn;
use std::task::{Context, Poll};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::scenario::model::Scenario;

/// The order of a run, where the scenario varies it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    number: u64,
    seed: u64,
}

impl Order {
    /// The scenario's.
    pub(crate) fn of(scenario: &Scenario, seed: u64) -> Option<Order> {
        scenario.interleave.map(|number| Order { number, seed })
    }
}

/// Where one task gives way to others.
pub(crate) struct Yields {
    coin: ChaCha8Rng,
    /// It has just given way.
    given: bool,
}

impl Yields {
    /// Those of this name.
    pub(crate) fn new(order: Order, name: &str) -> Yields {
        let name = format!("order {} of {name}", order.number);
        Yields { coin: poolproof_sim::entropy::stream(order.seed, &name), given: false }
    }

    /// Pending if others go first now: once, until this was ready again.
    pub(crate) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.given = !self.given && self.coin.next_u32().is_multiple_of(2);
        if !self.given {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets others go first, perhaps.
    pub(crate) async fn pause(&mut self) {
        poll_fn(|cx| self.poll_pause(cx)).await;
    }
}
