//! A worker: one actor after another, in the process of its seat. To the pool it is a thread, whose sessions outlive an
//! actor.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::actor::Actor;
use super::jobs::{Held, next_job};
use super::process::ProcessContext;
use super::program::Program;
use super::queue::{Job, Queue};
use super::slot::{AbandonTimer, Kill, Slot};
use super::traffic::{Registered, Shared, Stage, closed};
use crate::pool::Caller;
use crate::trace::event::ActorEnd;

/// A worker whose actors take no virtual time pauses for a millisecond after so many of them: otherwise time would stand
/// still for ever. A failed one pauses at once, or a closed pool would be asked without end.
const INSTANT_ACTORS: u32 = 1000;
const INSTANT_PAUSE: Duration = Duration::from_millis(1);

/// One worker of a workload.
pub(super) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    program: Arc<Program>,
    thread: Caller,
    seat: u32,
    home: Option<Arc<ProcessContext>>,
    stage: watch::Receiver<Stage>,
    starts: watch::Receiver<u64>,
}

impl Worker {
    /// The worker of this number, in its seat.
    pub(super) fn new(shared: &Arc<Shared>, index: usize, worker: u32, seats: u32) -> Worker {
        Worker {
            shared: Arc::clone(shared),
            index,
            program: shared.program(index),
            thread: shared.recorder.next_thread(),
            seat: worker % seats,
            home: None,
            stage: shared.stage(),
            starts: shared.starts(),
        }
    }

    /// The process in its seat; waits for one if there is none. `None` when the traffic has stopped meanwhile.
    async fn home(&mut self) -> Option<Arc<ProcessContext>> {
        loop {
            if self.home.as_ref().is_none_or(|process| !process.is_live()) {
                self.starts.mark_unchanged();
                self.home = self.shared.at_seat(&self.program.app, self.seat);
            }
            if let Some(home) = &self.home {
                return Some(Arc::clone(home));
            }
            tokio::select! {
                biased;
                () = closed(&mut self.stage) => return None,
                _ = self.starts.changed() => {}
            }
        }
    }

    /// Waits for the workload's begin. Says whether it comes.
    async fn begins(&mut self) -> bool {
        tokio::select! {
            biased;
            () = closed(&mut self.stage) => false,
            () = tokio::time::sleep_until(self.shared.at(self.program.from)) => true,
        }
    }

    /// A closed loop: starts over when an actor has ended, after a pause.
    pub(super) async fn loop_of_actors(mut self, pause: Duration) {
        let end_of_work = self.shared.at(self.program.until);
        let slot = Slot::new(self.thread);
        let timer = self.program.abandons.then(AbandonTimer::default);
        let _registered = Registered::new(&self.shared, Arc::clone(&slot) as Arc<dyn Kill>);
        if !self.begins().await {
            return;
        }
        let mut now = Instant::now();
        let mut in_this_instant = 0;
        while now < end_of_work && *self.stage.borrow() == Stage::Open {
            let Some(home) = self.home().await else { return };
            now = Instant::now();
            if now >= end_of_work {
                return;
            }
            let arrived = self.shared.arrive(self.index, &home);
            let actor = Actor::new(arrived, Arc::clone(&self.program), Arc::clone(&home), Arc::clone(&self.shared));
            let actor = actor.with_timer(timer.clone()).of_worker(self.thread, None);
            slot.enter(arrived.id, &self.program.name, home, timer.clone(), actor.live());
            let end = slot.run().await;
            clear(timer.as_ref());
            let well = end == Some(ActorEnd::Done);
            if let Some(end) = end {
                self.shared.leave(arrived.id, end);
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
                    () = closed(&mut self.stage) => return,
                    () = tokio::time::sleep(pause) => {}
                }
                now = Instant::now();
                in_this_instant = 0;
            }
        }
    }

    /// An actor for each job of a queue, as long as jobs come: also those that are left when nobody arrives any more.
    pub(super) async fn loop_of_jobs(mut self, place: usize) {
        let slot = Slot::new(self.thread);
        let timer = self.program.abandons.then(AbandonTimer::default);
        let _registered = Registered::new(&self.shared, Arc::clone(&slot) as Arc<dyn Kill>);
        if !self.begins().await {
            return;
        }
        while let Some((home, queue, job)) = self.job(place).await {
            let arrived = self.shared.arrive(self.index, &home);
            queue.taken(&self.shared.recorder, &job, arrived.id);
            let held = Held { queue, job, by_arrival: true, failed: false };
            let actor = Actor::new(arrived, Arc::clone(&self.program), Arc::clone(&home), Arc::clone(&self.shared));
            let actor = actor.with_timer(timer.clone()).of_worker(self.thread, Some(held));
            slot.enter(arrived.id, &self.program.name, home, timer.clone(), actor.live());
            let end = slot.run().await;
            clear(timer.as_ref());
            if let Some(end) = end {
                self.shared.leave(arrived.id, end);
            }
        }
    }

    /// The next job, and a process to do it in.
    async fn job(&mut self, place: usize) -> Option<(Arc<ProcessContext>, Arc<Queue>, Job)> {
        loop {
            let home = self.home().await?;
            let queue = self.shared.queues.reach(place, &home);
            let job = next_job(&self.shared, &queue).await?;
            if home.is_live() {
                return Some((home, queue, job));
            }
            // It died while the worker waited.
            queue.untake(job);
        }
    }
}

fn clear(timer: Option<&AbandonTimer>) {
    if let Some(timer) = timer {
        *timer.lock() = None;
    }
}
