//! The `poolproof` executable: the command line over the engine of this crate.

use std::process::ExitCode;

use poolproof::cli::Engine;

fn main() -> ExitCode {
    poolproof::cli::main(Engine::standard())
}
