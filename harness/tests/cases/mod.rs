//! The `main` of a test executable whose tests are the cases of `scenarios/`: every file with every published pool.

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use poolproof::cli::Engine;
use poolproof::suite::{Case, Suite};

/// Where files are named from.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs what `trials` makes of all cases, as the command line's arguments choose.
pub(crate) fn main(trials: impl FnOnce(Vec<Case>) -> Vec<Trial>) -> ExitCode {
    let suite = Suite::start(Engine::standard());
    let arguments = Arguments::from_args();
    // Paths in messages are then as a user at the workspace's root would type them.
    if let Err(error) = std::env::set_current_dir(ROOT) {
        eprintln!("can't go to {ROOT}: {error}");
        return ExitCode::FAILURE;
    }
    match suite.cases(Path::new("scenarios")) {
        Ok(cases) => libtest_mimic::run(&arguments, trials(cases)).exit_code(),
        Err(mistakes) => {
            eprintln!("{mistakes}");
            ExitCode::FAILURE
        }
    }
}
