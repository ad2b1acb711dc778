//! The world on turmoil 0.7: the same servers, pools, drivers and faults over another network, to check ours against.
//!
//! turmoil gives each of its hosts a tokio runtime, and each a turn of one tick (1 ms) after another. A stream of its can be
//! written, closed and dropped in its host's turn only, and pools do so wherever they run: so the whole run, with all apps, is
//! one host (`apps`), and each server is one (`db-1`, `db-2`). It takes its turn first: what it sends with a latency of 1 ms
//! is answered 2 ms later, as on our network.
//!
//! Time: all runtimes' clocks begin at the same instant, and std's clock follows the one whose turn it is
//! ([`poolproof_sim::runtime::run_foreign`]). Entropy and turmoil's own generator, which seeds the runtimes', come from the
//! run's seed.
//!
//! | fault | on turmoil |
//! | --- | --- |
//! | of servers | the same servers do the same; a stopped one has no listener, so that connects are refused |
//! | partition, both ways | `hold`, and `release` at its end: TCP would send again, turmoil would not |
//! | power loss of a server | its link holds what comes, and loses what leaves (`partition_oneway`) |
//! | refused, lost, unanswered connects | no listener; one that does not accept; one whose streams nobody reads |
//! | kill of a process | its streams are closed |
//! | power loss of an app's machine | its streams are kept, and neither read nor closed |
//! | RST of a middlebox | turmoil has none: both programs are told by their sockets (`flow`) |
//! | latency | `set_link_latency`; jitter is distributed as turmoil does |
//! | name re-pointed | by our own table: turmoil's names mean one host for ever |
//! | all else | [`lacks`] says why not |
//!
//! A panic in a task that a pool spawned, or of turmoil's own (a full backlog, no port left), ends the run as `unknown`: with
//! `--cfg tokio_unstable` turmoil shuts a host down whose task panics.

mod flow;
mod limits;
mod machine;
mod site;
#[cfg(test)]
mod tests;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use poolproof_sim::runtime::{self, Failure, panic_text};
use tokio::sync::{SetOnce, watch};

pub use limits::lacks;
use site::Site;
use world::TurmoilWorld;

use super::servers::{boot_bound, host};
use super::sim::LateObserver;
use super::{PortMode, World as _};
use crate::report::Told;
use crate::run::{Finish, RunSpec, drive_in, finish, tell, unsupported};
use crate::scenario::model::{Scenario, ServerName};
use crate::trace::recorder::{Options, Watch};
use crate::verdict::{RunReport, lacks_in_virtual_time};
use crate::worker::progress;

/// turmoil's host of all apps, and of the run.
const APPS: &str = "apps";

/// How long a host's turn is: turmoil's default.
const TICK: Duration = Duration::from_millis(1);

/// How many connects may wait at a listener, and how many unread messages at a stream: as much as the simulated network's
/// backlog.
const CAPACITY: usize = 4096;

/// After so many ticks without an event the worker's watchdog is told that time moves.
const TICKS_TOLD: u64 = 1024;

/// Where each server's host waits for what it runs.
type Doors = BTreeMap<ServerName, Arc<SetOnce<(Arc<Site>, watch::Receiver<PortMode>)>>>;

/// The latency and jitter that links shall have from the next tick on: turmoil sets them from outside its hosts only.
type LinkOrders = Arc<Mutex<Option<(Duration, Duration)>>>;

/// How the run came out, once it has.
type Outcome = Rc<RefCell<Option<Result<Result<Finish, String>, Failure>>>>;

/// turmoil's simulation of one run.
struct Simulation {
    sim: ::turmoil::Sim<'static>,
    servers: Vec<ServerName>,
    orders: LinkOrders,
    outcome: Outcome,
}

/// Does one run on turmoil's network, on a thread of its own, and judges it, as [`crate::run::run`] does on ours. `out` gets
/// the full trace.
#[must_use]
pub fn run(spec: &RunSpec, out: Option<Box<dyn io::Write + Send>>) -> Told {
    let pool_lacks = lacks_in_virtual_time(&spec.scenario, &*spec.adapter);
    if let Some(told) = unsupported(spec, pool_lacks, &lacks(&spec.scenario)) {
        return told;
    }
    let moved = spec.clone();
    match runtime::run_foreign(spec.seed, move || build(moved, out), play) {
        Ok(Ok(ran)) => tell(spec, ran),
        Ok(Err(reason)) => {
            let story = format!("{reason}\n");
            Told { report: RunReport::unknown(spec.seed, reason), story, bug: None }
        }
        Err(failure) => Told::bug(spec.seed, failure.to_string()),
    }
}

/// The hosts, each with what it runs.
fn build(spec: RunSpec, out: Option<Box<dyn io::Write + Send>>) -> Simulation {
    let network = &spec.scenario.network;
    let mut sim = ::turmoil::Builder::new()
        .tick_duration(TICK)
        .simulation_duration(Duration::MAX)
        .min_message_latency(network.latency)
        .max_message_latency(network.latency + network.jitter)
        .tcp_capacity(CAPACITY)
        // A refused or abandoned connect keeps its port for ever.
        .ephemeral_ports(1025..=u16::MAX)
        .rng_seed(spec.seed)
        .build();
    let (servers, outcome, orders) = (server_names(&spec.scenario), Outcome::default(), LinkOrders::default());
    let doors: Doors = servers.iter().map(|name| (*name, Arc::default())).collect();
    let at_doors = doors.clone();
    let (came, ordered) = (Rc::clone(&outcome), Arc::clone(&orders));
    sim.client(APPS, async move {
        // A panic in here is poolproof's own; it would shut the host down.
        let driven = AssertUnwindSafe(drive(spec, out, at_doors, ordered)).catch_unwind().await;
        let driven = driven.map_err(|payload| Failure::Panicked(panic_text(payload.as_ref())));
        *came.borrow_mut() = Some(driven);
        Ok(())
    });
    for (name, door) in doors {
        sim.host(host(name), move || {
            let door = Arc::clone(&door);
            async move {
                let (site, modes) = door.wait().await.clone();
                site.keep_port(modes).await;
                Ok(())
            }
        });
    }
    Simulation { sim, servers, orders, outcome }
}

fn server_names(scenario: &Scenario) -> Vec<ServerName> {
    let standby = scenario.standby.as_ref().map(|_| ServerName::Standby);
    std::iter::once(ServerName::Primary).chain(standby).collect()
}

/// The run itself, in the apps' host.
async fn drive(
    spec: RunSpec,
    out: Option<Box<dyn io::Write + Send>>,
    doors: Doors,
    orders: LinkOrders,
) -> Result<Finish, String> {
    let scenario = &spec.scenario;
    let observer = Arc::new(LateObserver::default());
    let world = TurmoilWorld::new(scenario, spec.seed, observer.clone(), &doors, orders)?;
    let ready = tokio::time::timeout(boot_bound(scenario), world.ready()).await;
    ready.map_err(|_| "the servers did not start".to_owned())?;
    let watch = Some(Watch::new(scenario, spec.adapter.capabilities()));
    finish(drive_in(world, &observer, &spec, Options { watch, out, keep: false }).await)
}

/// Lets the hosts take turns until the run is over. A reason if that can't go on.
fn play(simulation: Simulation) -> Result<Result<Result<Finish, String>, Failure>, String> {
    let Simulation { mut sim, servers, orders, outcome } = simulation;
    let mut ticks = 0_u64;
    let ended = loop {
        // What a panic leaves half done is not used again.
        match catch_unwind(AssertUnwindSafe(|| sim.step())) {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => break Ok(()),
            Ok(Err(error)) => break Err(error.to_string()),
            Err(payload) => break Err(panic_text(payload.as_ref())),
        }
        if let Some((latency, jitter)) = orders.lock().take() {
            for server in &servers {
                sim.set_link_latency(APPS, host(*server), latency);
                sim.set_link_max_message_latency(APPS, host(*server), latency + jitter);
            }
        }
        ticks += 1;
        if ticks.is_multiple_of(TICKS_TOLD) {
            progress::at(sim.elapsed());
        }
    };
    let at = sim.elapsed();
    let first_panic = runtime::take_first_panic();
    // After a panic the end of the tasks may panic as well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(sim)));
    let outcome = outcome.borrow_mut().take();
    match (ended, outcome) {
        (Ok(()), Some(outcome)) => Ok(outcome),
        (Ok(()), None) => Err("turmoil ended before the run".to_owned()),
        (Err(error), _) => Err(format!("turmoil gave the run up after {at:?}: {}", first_panic.unwrap_or(error))),
    }
}
