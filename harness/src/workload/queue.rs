//! Queues of jobs: what one actor puts, another takes.
//!
//! Modelled: an in-process queue that counts its unfinished jobs (`JoinableQueue`: put, get, task_done, join), which is gone
//! with its process, and a broker between apps, which is not; a job is acknowledged when it is taken (early, Celery's
//! default) or when it is done (late); a job whose actor failed comes again after a countdown, so many times. First in,
//! first out. Left out: priorities, bounded queues, results, visibility timeouts: a broker knows at once that a worker is
//! gone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::process::ProcessContext;
use crate::scenario::model::{self, Acknowledge};
use crate::trace::event::{ActorId, JobChange, JobId, ProcessId};
use crate::trace::{Recorder, What};

/// All queues of a run.
pub(super) struct Queues {
    settings: Vec<(Arc<str>, model::Queue)>,
    /// Those of brokers; `None` for those that are in the memory of processes.
    brokers: Vec<Option<Arc<Queue>>>,
    /// All that there are, those of processes included.
    all: Mutex<Vec<Arc<Queue>>>,
    /// Actors that wait for a job.
    takers: AtomicUsize,
}

impl Queues {
    pub(super) fn new<'q>(queues: impl Iterator<Item = (&'q String, &'q model::Queue)>) -> Queues {
        let settings: Vec<_> = queues.map(|(name, queue)| (Arc::from(name.as_str()), queue.clone())).collect();
        let broker = |(name, settings): &(Arc<str>, model::Queue)| {
            settings.app.is_none().then(|| Queue::new(Arc::clone(name), settings, None))
        };
        let brokers: Vec<_> = settings.iter().map(broker).collect();
        let all = Mutex::new(brokers.iter().flatten().cloned().collect());
        Queues { settings, brokers, all, takers: AtomicUsize::new(0) }
    }

    /// The queue that this process reaches by this place in the file.
    pub(super) fn reach(&self, place: usize, process: &ProcessContext) -> Arc<Queue> {
        match &self.brokers[place] {
            Some(broker) => Arc::clone(broker),
            None => process.queue(place, || {
                let (name, settings) = &self.settings[place];
                let queue = Queue::new(Arc::clone(name), settings, Some(process.id));
                self.all.lock().push(Arc::clone(&queue));
                queue
            }),
        }
    }

    /// Everybody who waits for a queue looks again.
    pub(super) fn wake_all(&self) {
        for queue in self.all.lock().iter() {
            queue.changed.notify_waiters();
        }
    }

    /// Whether no queue has a job to take, now or later.
    pub(super) fn are_empty(&self) -> bool {
        self.all.lock().iter().all(|queue| {
            let state = queue.state.lock();
            state.ready.is_empty() && state.delayed == 0
        })
    }

    /// How many actors wait for a job.
    pub(super) fn takers(&self) -> usize {
        self.takers.load(Ordering::Acquire)
    }

    /// An actor waits for a job, until what this returns is dropped.
    pub(super) fn taker(&self) -> Taker<'_> {
        self.takers.fetch_add(1, Ordering::AcqRel);
        // One that waits may be the last that could have put a job.
        self.wake_all();
        Taker(self)
    }

    /// A process is gone, and with it what its own queues held.
    pub(super) fn process_ended(&self, process: ProcessId, recorder: &Recorder) {
        let of_it: Vec<Arc<Queue>> = {
            let mut all = self.all.lock();
            let of_it = all.iter().filter(|queue| queue.process == Some(process)).cloned().collect();
            all.retain(|queue| queue.process != Some(process));
            of_it
        };
        for queue in of_it {
            let left = std::mem::take(&mut queue.state.lock().ready);
            for job in left {
                queue.record(recorder, &job, None, JobChange::Lost);
            }
        }
    }
}

/// An actor that waits for a job.
pub(super) struct Taker<'q>(&'q Queues);

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        self.0.takers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One queue.
pub(super) struct Queue {
    pub(super) name: Arc<str>,
    acknowledge: Acknowledge,
    max_retries: u32,
    countdown: Duration,
    /// In whose memory it is; `None`: a broker's.
    process: Option<ProcessId>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Job>,
    /// Put, and waiting for their time.
    delayed: u32,
    unfinished: u32,
    /// Who waits for a job, in the order of their coming.
    waiting: BTreeSet<u64>,
    last_ticket: u64,
}

/// A place among those who wait for a job: first come, first served.
pub(super) struct Ticket<'q> {
    queue: &'q Queue,
    number: u64,
}

impl Ticket<'_> {
    /// The next job, if there is one and nobody came before. Nobody is told yet who takes it: see [`Queue::taken`].
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.queue.state.lock();
        if state.waiting.first() != Some(&self.number) {
            return None;
        }
        state.ready.pop_front()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().waiting.remove(&self.number);
        // It is another one's turn.
        self.queue.changed.notify_waiters();
    }
}

/// A job.
pub(super) struct Job {
    id: JobId,
    pub(super) payload: Arc<str>,
    /// How often it was put again.
    attempt: u32,
}

impl Queue {
    fn new(name: Arc<str>, settings: &model::Queue, process: Option<ProcessId>) -> Arc<Queue> {
        Arc::new(Queue {
            name,
            acknowledge: settings.acknowledge,
            max_retries: settings.max_retries,
            countdown: settings.countdown,
            process,
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    fn record(&self, recorder: &Recorder, job: &Job, actor: Option<ActorId>, change: JobChange) {
        let unfinished = self.state.lock().unfinished;
        recorder.record(What::Job { queue: Arc::clone(&self.name), job: job.id, actor, change, unfinished });
    }

    /// A new job. It can be taken at once, or it is to be [`released`](Queue::release) after its time.
    pub(super) fn put(&self, recorder: &Recorder, actor: ActorId, payload: Arc<str>, after: Duration) -> Option<Job> {
        let job = Job { id: recorder.next_job(), payload: Arc::clone(&payload), attempt: 0 };
        self.state.lock().unfinished += 1;
        self.record(recorder, &job, Some(actor), JobChange::Put { payload, after });
        self.add(job, after)
    }

    fn add(&self, job: Job, after: Duration) -> Option<Job> {
        if after.is_zero() {
            self.state.lock().ready.push_back(job);
            self.changed.notify_waiters();
            return None;
        }
        self.state.lock().delayed += 1;
        Some(job)
    }

    /// The time of a delayed job has come.
    pub(super) fn release(&self, job: Job) {
        let mut state = self.state.lock();
        state.delayed -= 1;
        state.ready.push_back(job);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Whether there is a job to take.
    pub(super) fn has_jobs(&self) -> bool {
        !self.state.lock().ready.is_empty()
    }

    /// Jobs that are put and not done.
    pub(super) fn unfinished(&self) -> u32 {
        self.state.lock().unfinished
    }

    /// A place among those who wait for a job, until it is dropped.
    pub(super) fn wait(&self) -> Ticket<'_> {
        let mut state = self.state.lock();
        state.last_ticket += 1;
        let number = state.last_ticket;
        state.waiting.insert(number);
        Ticket { queue: self, number }
    }

    /// Puts a job back that was not taken after all.
    pub(super) fn untake(&self, job: Job) {
        self.state.lock().ready.push_front(job);
        self.changed.notify_waiters();
    }

    /// Something about the queue changes.
    pub(super) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// An actor has the job.
    pub(super) fn taken(&self, recorder: &Recorder, job: &Job, actor: ActorId) {
        self.record(recorder, job, Some(actor), JobChange::Taken);
    }

    /// The job is finished, well or badly.
    pub(super) fn finish(&self, recorder: &Recorder, job: &Job, actor: ActorId, change: JobChange) {
        self.state.lock().unfinished -= 1;
        self.record(recorder, job, Some(actor), change);
        self.changed.notify_waiters();
    }

    /// The job's actor failed: it comes again, if it may. Gives the job back if it is to be released after a time, and
    /// that time.
    pub(super) fn retry(
        &self,
        recorder: &Recorder,
        mut job: Job,
        actor: ActorId,
    ) -> Result<Option<(Job, Duration)>, Job> {
        if job.attempt >= self.max_retries {
            return Err(job);
        }
        job.attempt += 1;
        let (after, attempt) = (self.countdown, job.attempt);
        self.record(recorder, &job, Some(actor), JobChange::Retried { after, attempt });
        Ok(self.add(job, after).map(|job| (job, after)))
    }

    /// The job's actor is gone without a word. `killed`: its process, too.
    pub(super) fn worker_gone(&self, recorder: &Recorder, job: Job, actor: ActorId, killed: bool) {
        let lives = self.process.is_none() || !killed;
        if self.acknowledge == Acknowledge::Late && lives {
            self.record(recorder, &job, Some(actor), JobChange::Redelivered);
            self.untake(job);
        } else {
            self.record(recorder, &job, Some(actor), JobChange::Lost);
        }
    }
}
