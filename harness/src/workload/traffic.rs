//! All traffic of a run: starts the actors of every workload when they arrive, counts them, and kills them.
//!
//! An actor that arrives while no process of its app lives is lost, as a request is without a process to take it. Workers
//! belong to a process's seat and wait for the next process in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::actor::Actor;
use super::arrival::Arrivals;
use super::process::{ProcessContext, Processes};
use super::program::{self, Program};
use super::queue::Queues;
use super::slot::{AbandonTimer, Kill, Killed, Slot};
use super::worker_loop::Worker;
use crate::interleave::Order;
use crate::scenario::model::{self, Arrive, Scenario};
use crate::trace::event::{ActorEnd, ActorId, ProcessId};
use crate::trace::{Recorder, What};
use crate::worker::progress::our_task;

/// The traffic of a run. Dropped, it takes all actors with it, without a word in the trace.
pub struct Traffic {
    shared: Arc<Shared>,
}

/// What actors and arrivals share.
pub(super) struct Shared {
    pub(super) seed: u64,
    /// Another order among what is ready at the same time.
    pub(super) interleave: Option<Order>,
    pub(super) recorder: Recorder,
    /// The text that `on_error = "rollback"` sends.
    pub(super) rollback: Arc<str>,
    /// The text with which a session begins.
    pub(super) begin: Arc<str>,
    pub(super) queues: Queues,
    /// Whether the processes of each program's app come with requests.
    per_request: Vec<bool>,
    programs: Vec<Arc<Program>>,
    /// For each program: how many actors have arrived.
    numbers: Vec<Mutex<u64>>,
    processes: Arc<Processes>,
    origin: Instant,
    stage: watch::Sender<Stage>,
    roster: Mutex<Roster>,
    active: AtomicUsize,
    tasks: AtomicUsize,
    /// The last active actor ended.
    idle: Notify,
}

/// How far the traffic has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Actors arrive.
    Open,
    /// Nobody arrives; those that are there may end, and jobs that are there are done.
    Stopped,
    /// Nobody may go on.
    Over,
}

/// An actor that was spawned.
pub(super) struct Spawned {
    /// Comes when it has ended.
    pub(super) end: oneshot::Receiver<()>,
    /// Where it lives; `None` while its process is still starting.
    pub(super) slot: Option<Arc<dyn Kill>>,
}

#[derive(Default)]
struct Roster {
    last_slot: u64,
    /// Every slot that may hold an actor, in the order in which they were made.
    slots: BTreeMap<u64, Arc<dyn Kill>>,
}

impl Traffic {
    /// Starts the traffic of a scenario. Its times count from `origin`, the run's start. Call it inside the run's runtime,
    /// when the processes that live from the start are in the table.
    #[must_use]
    pub fn start(
        scenario: &Scenario,
        seed: u64,
        recorder: Recorder,
        processes: Arc<Processes>,
        origin: Instant,
    ) -> Traffic {
        let programs = program::programs(scenario);
        let shared = Arc::new(Shared {
            seed,
            interleave: Order::of(scenario, seed),
            recorder,
            rollback: Arc::from("ROLLBACK"),
            begin: Arc::from("BEGIN"),
            queues: Queues::new(scenario.queues.iter()),
            per_request: programs
                .iter()
                .map(|program| {
                    let app = scenario.apps.get(&*program.app);
                    app.is_some_and(|app| app.processes == model::Processes::PerRequest)
                })
                .collect(),
            numbers: programs.iter().map(|_| Mutex::new(0)).collect(),
            programs,
            processes,
            origin,
            stage: watch::Sender::new(Stage::Open),
            roster: Mutex::default(),
            active: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            idle: Notify::new(),
        });
        for (index, program) in shared.programs.iter().enumerate() {
            let seats = scenario.apps.get(&*program.app).map_or(1, |app| app.processes.fixed().max(1));
            match &program.arrive {
                Arrive::Workers { count, pause } => {
                    for worker in 0..*count {
                        let worker = Worker::new(&shared, index, worker, seats);
                        Shared::task(&shared, worker.loop_of_actors(*pause));
                    }
                }
                Arrive::Jobs { queue, workers } => {
                    let queue = scenario.queues.get_index_of(queue).expect("the parser resolved the queue's name");
                    for worker in 0..*workers {
                        let worker = Worker::new(&shared, index, worker, seats);
                        Shared::task(&shared, worker.loop_of_jobs(queue));
                    }
                }
                _ => {}
            }
            let until = program.until;
            if let Some(arrivals) = Arrivals::new(&program.arrive, program.from, until, seed, &program.name) {
                Shared::task(&shared, admit(Arc::clone(&shared), index, arrivals));
            }
        }
        Traffic { shared }
    }

    /// From now on nobody arrives, except those that an actor which is still there spawns.
    pub fn stop_arrivals(&self) {
        self.shared.advance(Stage::Stopped);
    }

    /// Waits until there is no actor, and no job that one could still take.
    pub async fn drained(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.active_actors() == 0 && self.shared.queues.are_empty() {
                return;
            }
            idle.await;
        }
    }

    /// SIGKILL for the actors of a process: they are dropped before this returns, and nobody arrives there any more. The
    /// process's sockets are the caller's to kill, before; its pools and leaked leases are the caller's to drop, after,
    /// from what this returns.
    pub fn abort_process(&self, process: ProcessId) -> Option<Arc<ProcessContext>> {
        let context = self.shared.processes.ended(process);
        if let Some(context) = &context {
            context.set_killed();
        }
        self.shared.kill(Some(process), Some(&ActorEnd::Killed));
        self.shared.queues.process_ended(process, &self.shared.recorder);
        context
    }

    /// Gives all actors up that are still there. What they hold is dropped: their processes live on.
    pub fn give_up(&self) {
        self.shared.advance(Stage::Over);
        self.shared.recorder.give_up();
        self.shared.kill(None, Some(&ActorEnd::GivenUp));
    }

    /// Kills actors of a workload, the oldest first: those that are at least this old, and no more than so many. What they
    /// hold is dropped: their processes live on. Gives how many there were.
    pub fn kill_actors(&self, workload: &str, older_than: Option<Duration>, count: Option<u32>) -> usize {
        let slots: Vec<Arc<dyn Kill>> = self.shared.roster.lock().slots.values().cloned().collect();
        let mut found: Vec<(ActorId, Arc<dyn Kill>)> = slots
            .into_iter()
            .filter_map(|slot| {
                let seen = slot.seen()?;
                let old = older_than.is_none_or(|age| seen.since.elapsed() >= age);
                (*seen.workload == *workload && old).then_some((seen.actor, slot))
            })
            .collect();
        found.sort_by_key(|(actor, _)| *actor);
        found.truncate(count.map_or(usize::MAX, |count| count as usize));
        for (_, slot) in &found {
            self.shared.stop(&**slot);
        }
        found.len()
    }

    /// Actors that have arrived and not ended.
    #[must_use]
    pub fn active_actors(&self) -> usize {
        self.shared.active.load(Ordering::Acquire)
    }

    /// Tasks of the runtime that are the traffic's own.
    #[must_use]
    pub fn own_tasks(&self) -> usize {
        self.shared.tasks.load(Ordering::Acquire)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // An actor holds the traffic, and the traffic its slot: without this neither would go.
        self.shared.advance(Stage::Over);
        self.shared.kill(None, None);
    }
}

impl Shared {
    /// Starts a task of ours.
    pub(super) fn task(shared: &Arc<Shared>, future: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(shared);
        tokio::spawn(async move {
            let _counted = counted;
            our_task(future).await;
        });
    }

    /// Starts an actor of a program as a task of its own, in the process of the spawner if that is of the same app, else
    /// in one that comes with it, or in the one whose turn it is. `None` when no process lives.
    pub(super) fn spawn(shared: &Arc<Shared>, index: usize, spawner: Option<&Arc<ProcessContext>>) -> Option<Spawned> {
        let program = &shared.programs[index];
        let process = match spawner {
            Some(process) if process.app == program.app => Arc::clone(process),
            _ if shared.per_request[index] => return Some(Shared::request(shared, index)),
            _ => shared.processes.in_turn(&program.app, *shared.numbers[index].lock())?,
        };
        Some(Shared::spawn_in(shared, index, process))
    }

    /// An actor with a process of its own, which ends with it.
    fn request(shared: &Arc<Shared>, index: usize) -> Spawned {
        let (ended, end) = oneshot::channel();
        let traffic = Arc::clone(shared);
        Shared::task(shared, async move {
            let Some(launcher) = traffic.processes.launcher() else { return };
            if let Some(process) = launcher.launch(&traffic.programs[index].app).await {
                // An error is an end too: the actor's task is gone.
                let _ended = Shared::spawn_in(&traffic, index, Arc::clone(&process)).end.await;
                launcher.end(&process);
                traffic.queues.process_ended(process.id, &traffic.recorder);
            }
            drop(ended);
        });
        Spawned { end, slot: None }
    }

    fn spawn_in(shared: &Arc<Shared>, index: usize, process: Arc<ProcessContext>) -> Spawned {
        let program = &shared.programs[index];
        let (ended, end) = oneshot::channel();
        let slot = Slot::new(shared.recorder.next_thread());
        let registered = Registered::new(shared, Arc::clone(&slot) as Arc<dyn Kill>);
        let arrived = shared.arrive(index, &process);
        let abandon = program.abandons.then(AbandonTimer::default);
        let actor = Actor::new(arrived, Arc::clone(program), Arc::clone(&process), Arc::clone(shared));
        slot.enter(arrived.id, &program.name, process, abandon.clone(), actor.with_timer(abandon).live());
        let kill = Arc::clone(&slot) as Arc<dyn Kill>;
        let traffic = Arc::clone(shared);
        Shared::task(shared, async move {
            let end = slot.run().await;
            drop(registered);
            if let Some(end) = end {
                traffic.leave(arrived.id, end);
            }
            drop(ended);
        });
        Spawned { end, slot: Some(kill) }
    }

    pub(super) fn program(&self, index: usize) -> Arc<Program> {
        Arc::clone(&self.programs[index])
    }

    /// This long after the start of the run.
    pub(super) fn at(&self, time: Duration) -> Instant {
        self.origin + time
    }

    pub(super) fn at_seat(&self, app: &str, seat: u32) -> Option<Arc<ProcessContext>> {
        self.processes.at_seat(app, seat)
    }

    /// Changes with each start of a process.
    pub(super) fn starts(&self) -> watch::Receiver<u64> {
        self.processes.starts()
    }

    /// Gives an actor its numbers, and records its arrival.
    pub(super) fn arrive(&self, index: usize, process: &ProcessContext) -> Arrived {
        let number = {
            let mut number = self.numbers[index].lock();
            *number += 1;
            *number
        };
        let id = self.recorder.next_actor();
        self.active.fetch_add(1, Ordering::AcqRel);
        let workload = Arc::clone(&self.programs[index].name);
        self.recorder.record(What::ActorStart { actor: id, workload, process: process.id });
        Arrived { id, number }
    }

    pub(super) fn leave(&self, actor: ActorId, end: ActorEnd) {
        self.recorder.record(What::ActorEnd { actor, end });
        if self.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
        if self.stopping() {
            // It may have been the last that could put a job.
            self.queues.wake_all();
        }
    }

    /// Kills the actor in a slot: what it holds is dropped, its process lives on.
    pub(super) fn stop(&self, slot: &dyn Kill) {
        if let Some(killed) = slot.kill(None) {
            self.killed(killed, ActorEnd::Stopped);
        }
    }

    fn killed(&self, killed: Killed, end: ActorEnd) {
        if let Some(panic) = killed.panic {
            self.recorder.record(What::TaskPanicked { message: panic.into() });
        }
        self.leave(killed.actor, end);
    }

    /// Drops all actors (of this process), and records that they ended so.
    fn kill(&self, of: Option<ProcessId>, recorded: Option<&ActorEnd>) {
        // Not under the lock: what a dropped actor held may start something.
        let slots: Vec<Arc<dyn Kill>> = self.roster.lock().slots.values().cloned().collect();
        for slot in slots {
            if let Some(killed) = slot.kill(of)
                && let Some(end) = recorded
            {
                self.killed(killed, end.clone());
            }
        }
    }

    fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let further = *stage < to;
            *stage = (*stage).max(to);
            further
        });
        self.queues.wake_all();
    }

    fn stopping(&self) -> bool {
        *self.stage.borrow() != Stage::Open
    }

    /// How far the traffic has come, and when that changes.
    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether there will be no job any more: nobody arrives, no queue has one, and whoever is there waits for one.
    pub(super) fn no_more_jobs(&self) -> bool {
        self.stopping() && self.queues.are_empty() && self.active.load(Ordering::Acquire) <= self.queues.takers()
    }
}

/// An actor's numbers.
#[derive(Clone, Copy)]
pub(super) struct Arrived {
    pub(super) id: ActorId,
    pub(super) number: u64,
}

/// Counts a task while it is alive.
struct Counted(Arc<Shared>);

impl Counted {
    fn new(shared: &Arc<Shared>) -> Counted {
        shared.tasks.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A slot in the roster, for as long as this lives.
pub(super) struct Registered {
    shared: Arc<Shared>,
    place: u64,
}

impl Registered {
    pub(super) fn new(shared: &Arc<Shared>, slot: Arc<dyn Kill>) -> Registered {
        let mut roster = shared.roster.lock();
        roster.last_slot += 1;
        let place = roster.last_slot;
        roster.slots.insert(place, slot);
        drop(roster);
        Registered { shared: Arc::clone(shared), place }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let slot = self.shared.roster.lock().slots.remove(&self.place);
        // After the lock: the slot may hold an actor.
        drop(slot);
    }
}

/// Lets the actors of an open workload in.
async fn admit(shared: Arc<Shared>, index: usize, arrivals: Arrivals) {
    let mut stage = shared.stage();
    for (at, count) in arrivals {
        tokio::select! {
            biased;
            () = closed(&mut stage) => return,
            () = tokio::time::sleep_until(shared.origin + at) => {}
        }
        for _ in 0..count {
            let _nobody_waits = Shared::spawn(&shared, index, None);
        }
    }
}

/// Waits until nobody arrives any more.
pub(super) async fn closed(stage: &mut watch::Receiver<Stage>) {
    // An error is the end of the traffic.
    let _ended = stage.wait_for(|stage| *stage != Stage::Open).await;
}
