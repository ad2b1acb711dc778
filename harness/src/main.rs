//! The `poolproof` executable: the command line over the engine of this crate.

use std::process::ExitCode;

use poolproof::cli::{Engine, Named};
use poolproof::pool;
use poolproof::report::Told;
use poolproof::{invariant, trace, verdict};

fn main() -> ExitCode {
    poolproof::cli::main(Engine {
        run: |request| Told::bug(request.seed, "this build has no world to run in"),
        workers: || poolproof::campaign::Workers::ThisExecutable,
        pools: pool::published,
        published: pool::published,
        invariants: || {
            invariant::all()
                .iter()
                .map(|meta| Named {
                    name: meta.name,
                    meaning: meta.meaning,
                })
                .collect()
        },
        capabilities: || verdict::CAPABILITIES.to_vec(),
        figures: || [trace::figures::NAMES, &["errors.*"]].concat(),
        schema: String::new,
        serve: |_, _| Err(std::io::ErrorKind::Unsupported.into()),
    })
}
