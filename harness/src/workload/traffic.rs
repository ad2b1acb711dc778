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
use super::slot::{AbandonTimer, Kill, Slot};
use crate::scenario::model::{Arrive, Scenario};
use crate::trace::event::{ActorEnd, ActorId, ProcessId};
use crate::trace::{Recorder, What};

/// A worker whose actors take no virtual time pauses for a millisecond after so many of them: otherwise time would stand
/// still for ever. A failed one pauses at once, or a closed pool would be asked without end.
const INSTANT_ACTORS: u32 = 1000;
const INSTANT_PAUSE: Duration = Duration::from_millis(1);

/// The traffic of a run. Dropped, it takes all actors with it, without a word in the trace.
pub struct Traffic {
    shared: Arc<Shared>,
}

/// What actors and arrivals share.
pub(super) struct Shared {
    pub(super) seed: u64,
    pub(super) recorder: Recorder,
    /// The text that `on_error = "rollback"` sends.
    pub(super) rollback: Arc<str>,
    programs: Vec<Arc<Program>>,
    /// For each program: how many actors have arrived.
    numbers: Vec<Mutex<u64>>,
    processes: Arc<Processes>,
    origin: Instant,
    stopped: watch::Sender<bool>,
    roster: Mutex<Roster>,
    active: AtomicUsize,
    tasks: AtomicUsize,
    /// The last active actor ended.
    idle: Notify,
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
            recorder,
            rollback: Arc::from("ROLLBACK"),
            numbers: programs.iter().map(|_| Mutex::new(0)).collect(),
            programs,
            processes,
            origin,
            stopped: watch::Sender::new(false),
            roster: Mutex::default(),
            active: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            idle: Notify::new(),
        });
        for (index, program) in shared.programs.iter().enumerate() {
            if let Arrive::Workers { count, pause } = program.arrive {
                let seats = scenario.apps.get(&*program.app).map_or(1, |app| app.processes.max(1));
                for worker in 0..count {
                    Shared::task(&shared, work(Arc::clone(&shared), index, worker % seats, pause));
                }
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
        self.shared.stopped.send_replace(true);
    }

    /// Waits until there is no actor.
    pub async fn drained(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.active_actors() == 0 {
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
        self.shared.kill(Some(process), true);
        context
    }

    /// Ends all actors as killed. What they hold is dropped: their processes live on.
    pub fn abort_all(&self) {
        self.shared.kill(None, true);
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
        self.stop_arrivals();
        self.shared.kill(None, false);
    }
}

impl Shared {
    /// Starts a task of ours.
    fn task(shared: &Arc<Shared>, future: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(shared);
        tokio::spawn(async move {
            let _counted = counted;
            future.await;
        });
    }

    /// Starts an actor of a program as a task of its own, in the process of the spawner if that is of the same app, else
    /// in the one whose turn it is. `None` when no process lives; else its end can be waited for.
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        index: usize,
        spawner: Option<&Arc<ProcessContext>>,
    ) -> Option<oneshot::Receiver<()>> {
        let program = &shared.programs[index];
        let process = match spawner {
            Some(process) if process.app == program.app => Arc::clone(process),
            _ => shared.processes.in_turn(&program.app, *shared.numbers[index].lock())?,
        };
        let (ended, end) = oneshot::channel();
        let slot = Slot::new(shared.recorder.next_thread());
        let registered = Registered::new(shared, Arc::clone(&slot) as Arc<dyn Kill>);
        let arrived = shared.arrive(index, &process);
        let abandon = program.abandons.then(AbandonTimer::default);
        let actor = Actor::new(
            arrived.id,
            arrived.number,
            Arc::clone(program),
            Arc::clone(&process),
            Arc::clone(shared),
            abandon.clone(),
        );
        slot.enter(arrived.id, process, abandon, actor.live());
        let traffic = Arc::clone(shared);
        Shared::task(shared, async move {
            let end = slot.run().await;
            drop(registered);
            if let Some(end) = end {
                traffic.leave(arrived.id, end);
            }
            drop(ended);
        });
        Some(end)
    }

    /// Gives an actor its numbers, and records its arrival.
    fn arrive(&self, index: usize, process: &ProcessContext) -> Arrived {
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

    fn leave(&self, actor: ActorId, end: ActorEnd) {
        self.recorder.record(What::ActorEnd { actor, end });
        if self.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    fn kill(&self, of: Option<ProcessId>, recorded: bool) {
        // Not under the lock: what a dropped actor held may start something.
        let slots: Vec<Arc<dyn Kill>> = self.roster.lock().slots.values().cloned().collect();
        for slot in slots {
            let Some(killed) = slot.kill(of) else {
                continue;
            };
            if !recorded {
                continue;
            }
            if let Some(panic) = killed.panic {
                self.recorder.record(What::TaskPanicked { message: panic.into() });
            }
            self.leave(killed.actor, ActorEnd::Killed);
        }
    }

    fn stopping(&self) -> bool {
        *self.stopped.borrow()
    }
}

#[derive(Clone, Copy)]
struct Arrived {
    id: ActorId,
    number: u64,
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
struct Registered {
    shared: Arc<Shared>,
    place: u64,
}

impl Registered {
    fn new(shared: &Arc<Shared>, slot: Arc<dyn Kill>) -> Registered {
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
    let mut stopped = shared.stopped.subscribe();
    for (at, count) in arrivals {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep_until(shared.origin + at) => {}
        }
        for _ in 0..count {
            let _nobody_waits = Shared::spawn(&shared, index, None);
        }
    }
}

/// One worker of a closed loop: an actor after another, in the process of its seat.
async fn work(shared: Arc<Shared>, index: usize, seat: u32, pause: Duration) {
    let program = Arc::clone(&shared.programs[index]);
    let slot = Slot::new(shared.recorder.next_thread());
    let _registered = Registered::new(&shared, Arc::clone(&slot) as Arc<dyn Kill>);
    let abandon = program.abandons.then(AbandonTimer::default);
    let mut stopped = shared.stopped.subscribe();
    let mut starts = shared.processes.starts();
    let mut process: Option<Arc<ProcessContext>> = None;
    let mut in_this_instant = 0;
    let end_of_work = shared.origin + program.until;
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stopped| *stopped) => return,
        () = tokio::time::sleep_until(shared.origin + program.from) => {}
    }
    let mut now = Instant::now();
    while now < end_of_work && !shared.stopping() {
        if process.as_ref().is_none_or(|process| !process.is_live()) {
            starts.mark_unchanged();
            process = shared.processes.at_seat(&program.app, seat);
        }
        let Some(home) = &process else {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                _ = starts.changed() => {}
            }
            now = Instant::now();
            continue;
        };
        let arrived = shared.arrive(index, home);
        let actor = Actor::new(
            arrived.id,
            arrived.number,
            Arc::clone(&program),
            Arc::clone(home),
            Arc::clone(&shared),
            abandon.clone(),
        );
        slot.enter(arrived.id, Arc::clone(home), abandon.clone(), actor.live());
        let end = slot.run().await;
        if let Some(timer) = &abandon {
            *timer.lock() = None;
        }
        let well = end == Some(ActorEnd::Done);
        if let Some(end) = end {
            shared.leave(arrived.id, end);
        }
        let before = std::mem::replace(&mut now, Instant::now());
        in_this_instant = if now == before { in_this_instant + 1 } else { 0 };
        let pause = if in_this_instant > 0 && (!well || in_this_instant >= INSTANT_ACTORS) {
            pause.max(INSTANT_PAUSE)
        } else {
            pause
        };
        if !pause.is_zero() {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(pause) => {}
            }
            now = Instant::now();
            in_this_instant = 0;
        }
    }
}
