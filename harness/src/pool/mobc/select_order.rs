//! Makes the order in which futures-util's `select!` polls its branches a function of the run.
//!
//! mobc's timeout is such a `select!` of a timer and a get. When both are ready at once, the order decides which one wins.
//! futures-util draws it from a generator of its own, one a thread (`async_await/random.rs`), whose seed counts the threads
//! of the process that have drawn before: a run would depend on the runs beside it, and the generator can't be seeded.
//!
//! It can be read, though. A `select!` of two branches that are ready shows one bit of its state, the generator is linear
//! over bits (xorshift64*, of whose result only the lowest bit is used), so 64 such bits tell the whole state. From there on
//! each draw is foreseen, and draws are thrown away until the next one is what the run's own entropy wants.

use std::collections::hash_map::RandomState;
use std::future::{poll_fn, ready};
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{FutureExt, select};

/// Wanted orders, one after another, from the run's entropy (std's hash keys are).
pub(super) struct SelectOrder {
    keys: RandomState,
    drawn: AtomicU64,
}

impl SelectOrder {
    pub(super) fn new() -> SelectOrder {
        SelectOrder { keys: RandomState::new(), drawn: AtomicU64::new(0) }
    }

    /// Drives a future that does at most one `select!` of two branches in each poll.
    pub(super) async fn steer<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            let wanted = self.keys.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed)) & 1;
            make_next(wanted);
            future.as_mut().poll(cx)
        })
        .await
    }
}

/// Throws draws away until the next one has this lowest bit.
fn make_next(wanted: u64) {
    let mut state = read_state();
    loop {
        let next = step(state);
        if next & 1 == wanted {
            return;
        }
        draw();
        state = next;
    }
}

/// The generator's state on this thread. It costs 64 draws, well below a microsecond.
fn read_state() -> u64 {
    (0..64).filter(|_| draw() == 1).fold(0, |state, bit| state ^ STATE_OF_BIT[bit])
}

/// One draw: 1 when `select!` polls its first branch first.
fn draw() -> u64 {
    let first = async {
        select! {
            () = ready(()).fuse() => 1,
            () = ready(()).fuse() => 0,
        }
    };
    first.now_or_never().expect("both branches are ready")
}

/// `random` in futures-util's `async_await/random.rs`, without its last multiplication, which keeps the lowest bit.
fn step(mut x: u64) -> u64 {
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    x
}

/// What each of 64 bits drawn says of the state after them: the state is the sum (xor) of those whose bit is 1.
static STATE_OF_BIT: LazyLock<[u64; 64]> = LazyLock::new(|| {
    // The bits that each single bit of the first state leads to, and the state after them.
    let mut rows: [(u64, u64); 64] = std::array::from_fn(|place| {
        let mut state = 1 << place;
        let mut bits = 0;
        for bit in 0..64 {
            state = step(state);
            bits |= (state & 1) << bit;
        }
        (bits, state)
    });
    // Gauss and Jordan, until each row has one bit.
    for bit in 0..64 {
        let pivot = (bit..64).find(|&row| rows[row].0 >> bit & 1 == 1).expect("64 bits tell a state of 64 bits");
        rows.swap(bit, pivot);
        let (bits, state) = rows[bit];
        for (row, other) in rows.iter_mut().enumerate() {
            if row != bit && other.0 >> bit & 1 == 1 {
                *other = (other.0 ^ bits, other.1 ^ state);
            }
        }
    }
    rows.map(|(_, state)| state)
});

#[cfg(test)]
mod tests {
    use super::*;

    /// Each thread's generator has another state.
    #[test]
    fn a_draw_is_foreseen() {
        for _ in 0..8 {
            std::thread::spawn(|| {
                let mut state = read_state();
                for _ in 0..1000 {
                    state = step(state);
                    assert_eq!(draw(), state & 1);
                }
            })
            .join()
            .expect("the thread's assertions hold");
        }
    }

    #[test]
    fn the_next_draw_is_the_wanted_one() {
        for wanted in [0, 1, 1, 0, 0, 1, 0, 1, 1, 1] {
            make_next(wanted);
            assert_eq!(draw(), wanted);
        }
    }
}
