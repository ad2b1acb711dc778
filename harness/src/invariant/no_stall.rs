//! No busy loop and no blocked thread.
//!
//! A run that is stuck can't say so: whoever runs it sees from outside that it makes no progress, ends it, and adds
//! [`Violation::stall`](super::Violation::stall).

use super::judge::Meta;

/// Name and meaning.
pub const META: Meta = Meta {
    name: "no-stall",
    meaning: "no task spins without yielding, and none blocks the thread",
    bound: "the wall-clock limit of a run",
    needs: None,
};
