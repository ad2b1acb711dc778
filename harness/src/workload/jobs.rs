//! What an actor does with jobs: it puts them, takes them, and answers for the one that it has, however it ends.

use std::sync::Arc;
use std::time::Duration;

use super::actor::{Actor, Failed, StepResult};
use super::queue::{Job, Queue};
use super::traffic::{Shared, Stage};
use crate::trace::What;
use crate::trace::event::{ActorEnd, JobChange};

/// A job that an actor has.
pub(super) struct Held {
    pub(super) queue: Arc<Queue>,
    pub(super) job: Job,
    /// Whether the actor is there for it alone: then its end is the job's.
    pub(super) by_arrival: bool,
    /// Whether a step failed since it was taken.
    pub(super) failed: bool,
}

/// Waits for the next job; `None` when there will be none any more.
pub(super) async fn next_job(shared: &Shared, queue: &Queue) -> Option<Job> {
    let mut stage = shared.stage();
    let ticket = queue.wait();
    loop {
        // Made before the look: what changes in between is noticed.
        let changed = queue.changed();
        if *stage.borrow() == Stage::Over {
            return None;
        }
        if let Some(job) = ticket.next() {
            return Some(job);
        }
        if shared.no_more_jobs() {
            return None;
        }
        tokio::select! {
            biased;
            () = changed => {}
            _ = stage.changed() => {}
        }
    }
}

/// Lets a job that was put for later be taken when its time has come.
pub(super) fn release_later(shared: &Arc<Shared>, queue: Arc<Queue>, job: Job, after: Duration) {
    let mut stage = shared.stage();
    Shared::task(shared, async move {
        tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage == Stage::Over) => {}
            () = tokio::time::sleep(after) => queue.release(job),
        }
    });
}

impl Actor {
    fn queue(&self, place: usize) -> Arc<Queue> {
        self.traffic.queues.reach(place, &self.process)
    }

    pub(super) fn put(&mut self, place: usize, after: Duration, payload: Arc<str>) {
        let queue = self.queue(place);
        if let Some(job) = queue.put(&self.traffic.recorder, self.id, payload, after) {
            release_later(&self.traffic, queue, job, after);
        }
    }

    /// Waits for a job. When there will be none any more the step fails, and so the actor's loop ends.
    pub(super) async fn take(&mut self, place: usize) -> StepResult {
        if self.held.is_some() {
            return Err(Failed);
        }
        let queue = self.queue(place);
        let waiting = self.traffic.queues.taker();
        let job = next_job(&self.traffic, &queue).await;
        drop(waiting);
        let job = job.ok_or(Failed)?;
        queue.taken(&self.traffic.recorder, &job, self.id);
        self.held = Some(Held { queue, job, by_arrival: false, failed: false });
        Ok(())
    }

    pub(super) fn job_done(&mut self, place: usize) -> StepResult {
        let queue = self.queue(place);
        match self.held.take_if(|held| Arc::ptr_eq(&held.queue, &queue)) {
            Some(held) => {
                self.finish(&held);
                Ok(())
            }
            None => Err(Failed),
        }
    }

    fn finish(&self, held: &Held) {
        let change = if held.failed { JobChange::DoneBadly } else { JobChange::Done };
        held.queue.finish(&self.traffic.recorder, &held.job, self.id, change);
    }

    pub(super) async fn join(&mut self, place: usize) {
        let queue = self.queue(place);
        let told =
            |over| What::Join { actor: self.id, queue: Arc::clone(&queue.name), unfinished: queue.unfinished(), over };
        self.traffic.recorder.record(told(false));
        loop {
            let changed = queue.changed();
            if queue.unfinished() == 0 {
                break;
            }
            changed.await;
        }
        self.traffic.recorder.record(told(true));
    }

    pub(super) fn has_jobs(&self, place: usize) -> bool {
        self.queue(place).has_jobs()
    }

    /// Kills the actors of a program that this one spawned.
    pub(super) fn kill_spawned(&mut self, program: usize) {
        for (spawned, slot) in std::mem::take(&mut self.spawned) {
            if spawned == program {
                self.traffic.stop(&*slot);
            } else {
                self.spawned.push((spawned, slot));
            }
        }
    }

    /// The actor's steps are over: what becomes of its job.
    pub(super) fn answer_for_job(&mut self, end: &ActorEnd) {
        let Some(held) = self.held.take() else { return };
        if *end == ActorEnd::Done {
            if held.by_arrival {
                self.finish(&held);
            }
            // Else it forgot to say so: nobody will.
            return;
        }
        let Held { queue, job, by_arrival, .. } = held;
        match queue.retry(&self.traffic.recorder, job, self.id) {
            Ok(None) => {}
            Ok(Some((job, after))) => release_later(&self.traffic, queue, job, after),
            Err(job) if by_arrival => queue.finish(&self.traffic.recorder, &job, self.id, JobChange::Failed),
            Err(job) => queue.worker_gone(&self.traffic.recorder, job, self.id, false),
        }
    }

    /// The actor is dropped in the middle.
    pub(super) fn leave_job(&mut self) {
        if let Some(Held { queue, job, .. }) = self.held.take() {
            queue.worker_gone(&self.traffic.recorder, job, self.id, self.process.is_killed());
        }
    }
}
