//! Every scenario file with every published pool is a test of its own: `cargo test server_restart_fast::bb8`; its story is
//! reviewed, under `snapshots/`. It is [`poolproof::suite`] over this repository. CONTRIBUTING.md says how to run and review.

use std::process::ExitCode;

mod cases;

fn main() -> ExitCode {
    cases::of_this_repository(poolproof::suite!()).stories("snapshots").main()
}
