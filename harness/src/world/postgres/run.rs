//! One run in the world `postgres`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::event::Observer;
use poolproof_sim::runtime::{self, Failure};
use tokio::time::timeout;

use super::server::ServerError;
use super::world::PostgresWorld;
use super::{Servers, lacks};
use crate::report::Told;
use crate::run::{RunSpec, drive_in, finish, tell, unsupported};
use crate::trace::Recorder;
use crate::trace::recorder::{Options, Watch};
use crate::verdict;
use crate::worker::{Loss, Place};
use crate::world::RealTime;
use crate::world::World as _;
use crate::world::sim::LateObserver;

/// How long a pool may keep the run's thread.
const STALL: Duration = Duration::from_secs(60);
/// How long the servers may take until they are ready.
const READY: Duration = Duration::from_secs(120);

/// Does one run, in real time, on a thread of its own, and judges it. `out` gets the full trace.
#[must_use]
pub fn run(spec: &RunSpec, real: &RealTime, out: Option<Box<dyn io::Write + Send>>) -> Told {
    match Servers::open(real.url.as_deref()) {
        Ok(servers) => run_on(spec, real.time_scale, servers, out),
        Err(error) => tell(spec, Ok(Err(error.to_string()))),
    }
}

/// The same, on a server of these.
#[must_use]
pub fn run_on(spec: &RunSpec, scale: f64, servers: Arc<Servers>, out: Option<Box<dyn io::Write + Send>>) -> Told {
    if let Some(told) = unsupported(spec, pool_lacks(spec), &lacks(&spec.scenario)) {
        return told;
    }
    let observer = Arc::new(LateObserver::<Recorder>::default());
    let moved = spec.clone();
    let started = runtime::start_in_real_time(async move || {
        let watching: Arc<dyn Observer> = observer.clone();
        let made = PostgresWorld::new(&moved.scenario, moved.seed, scale, watching, servers).await;
        let world = match made {
            Ok(world) => world,
            Err(ServerError::Unsupported(reason)) => return Ok(Err(vec![reason])),
            Err(error) => return Err(error.to_string()),
        };
        let lacks = world.unsupported();
        if !lacks.is_empty() {
            return Ok(Err(lacks));
        }
        timeout(READY, world.ready()).await.map_err(|_| "the servers did not start".to_owned())?;
        let capabilities = moved.adapter.capabilities();
        let options = Options { watch: Some(Watch::new(&moved.scenario, capabilities)), out, keep: false };
        let driven = drive_in(world.clone(), &observer, &moved, options).await;
        world.stop_watching();
        finish(driven).map(Ok)
    });
    let ran = started.and_then(|run| run.wait(STALL));
    match ran {
        Ok(Ok(Ok(finish))) => tell(spec, Ok(Ok(finish))),
        Ok(Ok(Err(lacks))) => {
            unsupported(spec, pool_lacks(spec), &lacks).unwrap_or_else(|| Told::bug(spec.seed, "it lacks nothing"))
        }
        Ok(Err(why)) => tell(spec, Ok(Err(why))),
        // Nothing but the pool can keep the thread.
        Err(Failure::Stalled(_)) => {
            Told::lost(spec.seed, &Loss::Stalled(Place { virtual_ms: 0, in_pool: true, acquires: 0 }))
        }
        Err(failure) => tell(spec, Err(failure)),
    }
}

fn pool_lacks(spec: &RunSpec) -> Vec<String> {
    verdict::lacks(&spec.scenario, &spec.adapter.capabilities())
}
