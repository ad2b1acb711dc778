//! The reviewed story of every scenario with every pool. There is no code here: cargo-insta looks for snapshots below the
//! workspace's packages only, so this folder is one. `harness/tests/scenarios.rs` writes and compares them.
