//! The processes of the apps: started with a pool each, killed, started again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::pool::{Adapter, Connector};
use crate::scenario::model;
use crate::trace::event::{PoolId, ProcessId};
use crate::trace::{Recorder, What};
use crate::workload::{Launcher, ProcessContext, Processes, Traffic, WorldHooks};
use crate::world::{Machine, World};

/// How long a supervisor waits before it starts a process again whose pool could not be built.
const SUPERVISOR_PAUSE: Duration = Duration::from_secs(1);

/// All processes of a run.
pub struct Apps {
    world: Arc<dyn World>,
    adapter: Arc<dyn Adapter>,
    recorder: Recorder,
    processes: Arc<Processes>,
    hooks: Arc<WorldHooks>,
    /// Who sits in each seat. That changes with each restart, the machine does not.
    seats: Mutex<BTreeMap<(String, u32), Occupant>>,
    /// Restarts that are due or under way.
    restarts: Arc<Restarts>,
    /// No process starts any more.
    frozen: AtomicBool,
}

#[derive(Default)]
struct Restarts {
    pending: AtomicUsize,
    none_left: Notify,
}

/// A restart that is due or under way, until this is dropped.
pub struct Restart(Arc<Restarts>);

impl Drop for Restart {
    fn drop(&mut self) {
        if self.0.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

struct Occupant {
    id: ProcessId,
    since: Instant,
    machine: Arc<dyn Machine>,
    alive: Arc<AtomicBool>,
}

impl Apps {
    /// No process yet.
    #[must_use]
    pub fn new(
        world: Arc<dyn World>,
        adapter: Arc<dyn Adapter>,
        recorder: Recorder,
        processes: Arc<Processes>,
        hooks: Arc<WorldHooks>,
    ) -> Apps {
        let (restarts, frozen) = (Arc::default(), AtomicBool::new(false));
        Apps { world, adapter, recorder, processes, hooks, seats: Mutex::default(), restarts, frozen }
    }

    /// Starts every process of every app, in the order of the file, and waits for their pools.
    pub async fn start_all(&self) {
        let scenario = Arc::clone(self.world.scenario());
        for (app, settings) in &scenario.apps {
            for seat in 0..settings.processes.fixed() {
                self.start(app, seat).await;
            }
        }
    }

    /// Starts a process: builds its pool, again and again as a supervisor would, until that succeeds or the process is
    /// killed.
    pub async fn start(&self, app: &str, seat: u32) -> Option<Arc<ProcessContext>> {
        let settings = self.world.scenario().apps.get(app)?;
        // What comes after the traffic (the probe of capacity, the closing) must find all processes that there will be.
        while !self.frozen.load(Ordering::Relaxed) {
            let id = self.recorder.next_process();
            let alive = Arc::new(AtomicBool::new(true));
            let machine = {
                let mut seats = self.seats.lock();
                let machine = self.world.machine(app, seat);
                let (since, alive) = (Instant::now(), Arc::clone(&alive));
                let occupant = Occupant { id, since, machine: Arc::clone(&machine), alive };
                seats.insert((app.to_owned(), seat), occupant);
                machine
            };
            let name: Arc<str> = Arc::from(app);
            self.recorder.record(What::ProcessStart { process: id, app: Arc::clone(&name), seat });

            let dialer = machine.dialer(Arc::clone(&alive));
            let config = self.world.driver_config(app, &settings.user);
            let (recorder, script) = (self.recorder.clone(), Arc::clone(self.world.script()));
            let connector_for = move |pool: PoolId| {
                let connector = Connector::new(config.clone(), dialer.clone(), recorder.clone(), pool);
                connector.scripted(Arc::clone(&script))
            };

            let pool = self.recorder.next_pool();
            let max_size = settings.pool.max_size;
            self.recorder.record(What::PoolBuilt { pool, process: id, max_size, own: false });
            let built = self.adapter.build(&settings.pool, connector_for(pool)).await;
            if !alive.load(Ordering::Relaxed) {
                return None; // Killed meanwhile; whoever killed it starts the next one.
            }
            match built {
                Ok(handle) => {
                    let process = ProcessContext::new(
                        id,
                        name,
                        seat,
                        Arc::clone(&self.adapter),
                        settings,
                        Box::new(connector_for),
                        Arc::clone(&self.hooks),
                        (pool, handle),
                    );
                    self.processes.started(Arc::clone(&process));
                    return Some(process);
                }
                Err(error) => {
                    self.recorder.record(What::PoolFailed { pool, process: id, message: error.message.into() });
                    self.recorder.record(What::ProcessEnd { process: id });
                    // It is dead already: nobody can kill it during the pause, and start a second one in its seat.
                    self.seats.lock().remove(&(app.to_owned(), seat));
                    if settings.processes == model::Processes::PerRequest {
                        return None; // The request fails; the next one comes with the next process.
                    }
                    tokio::time::sleep(SUPERVISOR_PAUSE).await;
                }
            }
        }
        None
    }

    /// A restart is due: it counts as pending until what this returns is dropped.
    #[must_use]
    pub fn restart_due(&self) -> Restart {
        self.restarts.pending.fetch_add(1, Ordering::AcqRel);
        Restart(Arc::clone(&self.restarts))
    }

    /// Waits until no restart is due or under way.
    pub async fn settled(&self) {
        loop {
            let none_left = self.restarts.none_left.notified();
            if self.restarts.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            none_left.await;
        }
    }

    /// From now on no process starts. One that is still building its pool is killed.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
        let live = self.processes.all();
        let unready: BTreeMap<_, Occupant> = {
            let mut seats = self.seats.lock();
            let all = std::mem::take(&mut *seats).into_iter();
            let (ready, unready) = all.partition(|(_, occupant)| live.iter().any(|process| process.id == occupant.id));
            *seats = ready;
            unready
        };
        for occupant in unready.into_values() {
            occupant.alive.store(false, Ordering::Relaxed);
            occupant.machine.kill_sockets();
            self.recorder.record(What::ProcessEnd { process: occupant.id });
        }
    }

    /// Every process that lives.
    #[must_use]
    pub fn live(&self) -> Vec<Arc<ProcessContext>> {
        self.processes.all()
    }

    /// The seats of an app in which a process is, or one of them (counted from 1, as in the file), if it is at least this
    /// old.
    #[must_use]
    pub fn seats(&self, app: &str, process: Option<u32>, older_than: Option<Duration>) -> Vec<u32> {
        let seats = self.seats.lock();
        let of_app = seats.iter().filter(|((of, seat), occupant)| {
            of == app
                && process.is_none_or(|process| process == seat + 1)
                && older_than.is_none_or(|age| occupant.since.elapsed() >= age)
        });
        of_app.map(|((_, seat), _)| *seat).collect()
    }

    /// SIGKILL: the kernel closes the process's sockets, and nothing of it runs any more. With `power_loss` its host
    /// vanishes instead, without a FIN. Returns whether there was one: a seat that is empty has its restart already, or
    /// will have none.
    pub fn kill(&self, traffic: &Traffic, app: &str, seat: u32, power_loss: bool) -> bool {
        let Some(occupant) = self.seats.lock().remove(&(app.to_owned(), seat)) else { return false };
        occupant.alive.store(false, Ordering::Relaxed);
        // The sockets first: what the pool does when it is dropped must not reach the server.
        if power_loss {
            occupant.machine.power_off();
        } else {
            occupant.machine.kill_sockets();
        }
        if let Some(process) = traffic.abort_process(occupant.id) {
            drop(process.take_memory());
            drop(process.take_shared_pool());
        }
        self.recorder.record(What::ProcessEnd { process: occupant.id });
        true
    }
}

#[async_trait]
impl Launcher for Apps {
    async fn launch(&self, app: &str) -> Option<Arc<ProcessContext>> {
        // The end of the traffic waits for it.
        let _under_way = self.restart_due();
        let seat = {
            let seats = self.seats.lock();
            (0..).find(|seat| !seats.contains_key(&(app.to_owned(), *seat)))?
        };
        self.start(app, seat).await
    }

    fn end(&self, process: &Arc<ProcessContext>) {
        let place = (process.app.to_string(), process.seat);
        let mut seats = self.seats.lock();
        let Some(occupant) = seats.get(&place).filter(|occupant| occupant.id == process.id) else {
            return; // Killed.
        };
        occupant.alive.store(false, Ordering::Relaxed);
        seats.remove(&place);
        drop(seats);
        let _live_no_more = self.processes.ended(process.id);
        if let Some((pool, handle)) = process.take_shared_pool() {
            self.recorder.record(What::PoolDropped { pool });
            drop(handle);
        }
        drop(process.take_memory());
        self.recorder.record(What::ProcessEnd { process: process.id });
    }
}
