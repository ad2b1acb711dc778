//! What the command line stands on: the rest of poolproof, as far as commands need it. An executable with pools of its own
//! gives an engine of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use crate::campaign::Workers;
use crate::pool::{self, Adapter};
use crate::report::Told;
use crate::run::RunSpec;
use crate::scenario::model::Scenario;
use crate::world::Place;
use crate::{invariant, scenario, serve, trace, verdict};

/// Something with a name and its meaning in one sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// As scenarios write it.
    pub name: &'static str,
    /// One sentence.
    pub meaning: &'static str,
}

/// One run to be done.
pub struct RunRequest<'a> {
    /// The scenario.
    pub scenario: &'a Arc<Scenario>,
    /// The pool.
    pub adapter: Arc<dyn Adapter>,
    /// The seed.
    pub seed: u64,
    /// The world, the scenario being as it is there.
    pub place: &'a Place,
    /// Where the full trace goes, as JSON lines.
    pub trace: Option<Box<dyn io::Write + Send>>,
}

/// What commands use.
#[derive(Clone, Copy)]
pub struct Engine {
    /// Does a run, to its end.
    pub run: fn(RunRequest<'_>) -> Told,
    /// Where runs are done.
    pub workers: fn() -> Workers,
    /// Pools that this crate does not know. Where there are any, they are run when none is named.
    pub own: &'static [Arc<dyn Adapter>],
    /// Every pool of this crate that can be named.
    pub pools: fn() -> Vec<Arc<dyn Adapter>>,
    /// Those that are run when none is named, and nobody has brought any; where time is virtual, without those that need it real.
    pub published: fn() -> Vec<Arc<dyn Adapter>>,
    /// Every invariant.
    pub invariants: fn() -> Vec<Named>,
    /// Every name of something that a pool may be able to do.
    pub capabilities: fn() -> Vec<&'static str>,
    /// Every figure; a name that ends in `.*` stands for all that begin so.
    pub figures: fn() -> Vec<&'static str>,
    /// The JSON Schema of scenario files.
    pub schema: fn() -> String,
    /// Serves the scenario's server in real time until the process ends.
    pub serve: fn(&Arc<Scenario>, SocketAddr) -> io::Result<()>,
}

/// A worker has nothing but its requests to work with: the engine is the process's.
static ENGINE: OnceLock<Engine> = OnceLock::new();

impl Engine {
    /// With the pools, invariants and figures of this crate. Its workers are processes of the executable that asks.
    #[must_use]
    pub fn standard() -> Engine {
        Engine {
            run: |request| {
                let scenario = Arc::clone(request.scenario);
                let spec = RunSpec { scenario, adapter: request.adapter, seed: request.seed };
                crate::run::run_at(&spec, request.place, request.trace)
            },
            workers: || Workers::ThisExecutable,
            own: &[],
            pools: || pool::all().collect(),
            published: pool::published,
            invariants: || {
                invariant::all().iter().map(|meta| Named { name: meta.name, meaning: meta.meaning }).collect()
            },
            capabilities: || verdict::CAPABILITIES.to_vec(),
            figures: || [trace::figures::NAMES, &["errors.*", "took.*"]].concat(),
            schema: scenario::schema::schema,
            serve: |scenario, listen| serve::serve(scenario, listen, |line| eprintln!("{line}")),
        }
    }

    /// The standard one with pools of one's own beside those of this crate. An own pool may have the name of one of them,
    /// and stands for it then.
    #[must_use]
    pub fn with(own: Vec<Arc<dyn Adapter>>) -> Engine {
        // Once in a process, and for as long as it lives.
        Engine { own: Vec::leak(own), ..Engine::standard() }
    }

    /// Makes this the process's engine. The first one stays.
    pub(crate) fn install(self) -> Engine {
        *ENGINE.get_or_init(|| self)
    }

    /// The process's engine.
    pub(crate) fn installed() -> Engine {
        *ENGINE.get().expect("main installs it first")
    }

    /// Every pool that can be named, one's own first.
    pub(crate) fn all_pools(&self) -> Vec<Arc<dyn Adapter>> {
        let is_own = |name| self.own.iter().any(|own| own.name() == name);
        let of_the_crate = (self.pools)().into_iter().filter(|adapter| !is_own(adapter.name()));
        self.own.iter().cloned().chain(of_the_crate).collect()
    }

    /// Those that are run in a world when none is named. A published one that can't be run there is left out.
    pub(super) fn default_pools(&self, place: &Place) -> Vec<Arc<dyn Adapter>> {
        if !self.own.is_empty() {
            return self.own.to_vec();
        }
        let runs = |adapter: &Arc<dyn Adapter>| !place.is_virtual() || adapter.needs_real_time().is_none();
        (self.published)().into_iter().filter(runs).collect()
    }

    /// The pool of this name.
    pub(crate) fn pool(&self, name: &str) -> Option<Arc<dyn Adapter>> {
        self.all_pools().into_iter().find(|adapter| adapter.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::RealTime;

    #[test]
    fn a_pool_that_needs_real_time_is_left_out_where_time_is_virtual() {
        let engine = Engine::standard();
        let any = |place: &Place| engine.default_pools(place).iter().any(|pool| pool.needs_real_time().is_some());
        assert!(!any(&Place::Sim) && !any(&Place::Turmoil));
        let real = Place::Postgres(RealTime { url: None, time_scale: 1.0 });
        assert_eq!(any(&real), cfg!(feature = "r2d2"));
        // It can be named anywhere.
        assert_eq!(engine.pool("r2d2").is_some(), cfg!(feature = "r2d2"));
    }
}
