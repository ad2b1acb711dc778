//! The `poolproof` executable: the command line over the engine of this crate.

use std::process::ExitCode;
use std::sync::Arc;

use poolproof::cli::{Engine, Named};
use poolproof::pool;
use poolproof::run::{self, RunSpec};
use poolproof::{invariant, scenario, serve, trace, verdict};

fn main() -> ExitCode {
    poolproof::cli::main(Engine {
        run: |request| {
            let scenario = Arc::clone(request.scenario);
            run::run(&RunSpec { scenario, adapter: request.adapter, seed: request.seed }, request.trace)
        },
        workers: || poolproof::campaign::Workers::ThisExecutable,
        pools: || pool::all().collect(),
        published: pool::published,
        invariants: || invariant::all().iter().map(|meta| Named { name: meta.name, meaning: meta.meaning }).collect(),
        capabilities: || verdict::CAPABILITIES.to_vec(),
        figures: || [trace::figures::NAMES, &["errors.*"]].concat(),
        schema: scenario::schema::schema,
        serve: |scenario, listen| serve::serve(scenario, listen, |line| eprintln!("{line}")),
    })
}
