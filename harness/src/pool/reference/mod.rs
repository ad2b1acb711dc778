//! The reference pool: small, correct, fair, with every capability that the trait knows; and its planted bugs.
//!
//! It shows that the invariants can be met, all of them at once, and it is the ground on which each planted bug
//! ([`Plant`]) is one deviation. It is written to be read, not to be fast: every event takes one lock, changes the
//! `state` and then serves whoever can be served (`State::serve`), so there is no wake-up to lose.
//!
//! Decisions that a pool has to take, and what this one does:
//!
//! - **A permit belongs to the task that dials and then watches the connection** (`watch`), from before the dial until
//!   the socket is closed. Whoever is cancelled, panics or forgets, it comes back.
//! - **Waiters are served first come, first served**, by handing a connection over, never by a wake-up to come and look.
//!   A granted connection that its waiter does not take (it was cancelled) goes to the next. An acquire whose
//!   connection fails its check keeps its place.
//! - **Dials are the pool's**, not an acquire's: as many as waiters (and `min_idle`) ask for beyond those under way and
//!   connections on their way back. A cancelled acquire leaves its dial to the next one.
//! - **A dial takes 5 s at most**, or `acquire_timeout` if that is shorter. After a failure one dial at a time is tried,
//!   with pauses from 50 ms doubling to 400 ms, until one succeeds. Waiters wait on, until their timeout, whose
//!   text has the last dial's error. Without `acquire_timeout` they wait for ever.
//! - **Every returned connection takes a round trip** before it is idle: ROLLBACK, ROLLBACK and DISCARD ALL, or a bare
//!   Sync with `reset_on_return = "none"`, so that no answer of the former user is still due. Without an answer within
//!   2 s it is closed. The check before a hand-out (`test_on_acquire`) has the same bound, within `acquire_timeout`.
//! - **Broken connections leave at once** when the driver sees them break, wherever they are, and are looked at once
//!   more at the hand-out. `idle_timeout` and `max_lifetime` are kept by a task that sleeps until the next one is due,
//!   and at the hand-out. They don't spare `min_idle`: replacements are dialled. Each connection's lifetime is
//!   shorter by up to a tenth, by its number, so that connections opened together don't end together.
//! - **Close** ends the waiting acquires with an error, the dials, and the idle connections; it waits until those are
//!   closed, and not for leases. A returned lease is closed. Dropping the pool does the same without waiting.
//! - **A given-up connection whose statement still runs** has 100 ms to end in order, then its socket is closed.

mod acquire;
mod adapter;
mod handle;
mod lease;
mod plant;
mod reaper;
mod state;
mod watch;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use adapter::{Planted, Reference};
pub use plant::Plant;
