//! The suite of this repository: every file below `scenarios/` with the pools that its story is about, or with every
//! published one.

use poolproof::suite::Suite;

pub(crate) fn of_this_repository(suite: Suite) -> Suite {
    // The files themselves, and not those that are compiled in: seed stories are among them.
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    suite.root(root).own_only().scenarios("scenarios")
}
