//! An application's own scenarios, with its pool's settings as it has them, and with those that it should have.
//!
//! The shop uses bb8 with at most eight connections and no check at the hand-out. Its database is restarted each night, for
//! two seconds, and each night some requests fail long after the server is back. `scenarios/nightly_restart.toml` is that
//! night; `scenarios/nightly_restart_checked.toml` is the same with `test_on_acquire`, and shows that the failures go.
//!
//! `cargo run --example application` runs both; `cargo test` does so, too. Nothing of the built-in scenarios is run: the
//! pool is not ours to judge, its settings are.

use std::process::ExitCode;

use poolproof::pool::bb8::Bb8;

fn main() -> ExitCode {
    poolproof::suite!().root(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/application")).pool(Bb8).main()
}
