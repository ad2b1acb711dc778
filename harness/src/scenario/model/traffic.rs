//! Traffic: who arrives when, and what an actor does step by step.

use std::time::Duration;

/// Traffic: actors arrive, each runs the steps once.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The app it belongs to. Actors are spread over its processes in turn.
    pub app: String,
    /// When actors arrive.
    pub arrive: Arrive,
    /// No actor arrives before this. Default 0.
    pub from: Duration,
    /// No actor arrives at or after this; `None` is the end of the fault phase.
    pub until: Option<Duration>,
    /// What an actor does.
    pub steps: Vec<Step>,
    /// What an actor does when a step fails. Default [`OnError::Stop`].
    pub on_error: OnError,
    /// What an actor does at its end, also after a failed step; not when it panics or is killed.
    pub finally: Vec<Step>,
}

/// When actors arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrive {
    /// Only when another workload's `spawn` step says so.
    Never,
    /// At each of these times.
    At(Vec<Duration>),
    /// One each interval, the first at `from`.
    Every(Duration),
    /// At random, this many a second on average.
    Poisson {
        /// Actors a second.
        per_second: f64,
    },
    /// This many at once, at `from`, and again each interval if one is given.
    Burst {
        /// How many at once.
        count: u32,
        /// The interval between bursts.
        every: Option<Duration>,
    },
    /// A closed loop: this many workers, each starting over when it has ended, after a pause.
    Workers {
        /// How many.
        count: u32,
        /// The pause between an actor's end and its worker's next.
        pause: Duration,
    },
    /// One for each job of a queue: this many workers, each taking the next job when it has ended one.
    Jobs {
        /// The queue.
        queue: String,
        /// How many workers.
        workers: u32,
    },
}

/// What an actor does when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It ends, as `?` does in Rust: what it holds is dropped.
    Stop,
    /// It goes on with the next step.
    Continue,
    /// It sends ROLLBACK if it holds a lease in a transaction, then ends.
    Rollback,
}

/// A step of an actor, perhaps to be cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// When its future is dropped before it is complete. A cancelled step is not an error: the actor goes on.
    pub cancel: Option<Cancel>,
}

impl Step {
    /// The steps that it repeats; none if it is no repetition.
    #[must_use]
    pub fn body(&self) -> &[Step] {
        match &self.action {
            Action::Repeat { steps, .. } | Action::While { steps, .. } => steps,
            _ => &[],
        }
    }

    /// The same, to be changed.
    pub fn body_mut(&mut self) -> &mut [Step] {
        match &mut self.action {
            Action::Repeat { steps, .. } | Action::While { steps, .. } => steps,
            _ => &mut [],
        }
    }
}

/// Every step of a list, each before those that it repeats.
pub fn each_step(steps: &[Step], visit: &mut impl FnMut(&Step)) {
    for step in steps {
        visit(step);
        each_step(step.body(), visit);
    }
}

/// The same, to be changed.
pub fn each_step_mut(steps: &mut [Step], visit: &mut impl FnMut(&mut Step)) {
    for step in steps {
        visit(step);
        each_step_mut(step.body_mut(), visit);
    }
}

/// When a step's future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// After a time.
    After(Duration),
    /// Instead of its n-th poll (1 is before the first).
    AtPoll(u32),
    /// When it was woken for the n-th time, without being polled again.
    AtWake(u32),
    /// As [`Cancel::AtPoll`], and only for one actor of the workload.
    AtPollOf {
        /// Its number in its workload, from 1.
        actor: u32,
        /// Which poll.
        poll: u32,
    },
    /// As [`Cancel::AtWake`], and only for one actor of the workload.
    AtWakeOf {
        /// Its number in its workload, from 1.
        actor: u32,
        /// Which wake.
        wake: u32,
    },
    /// At each of its polls in turn: the k-th actor of the workload is cancelled instead of its k-th poll, the wakes
    /// after the polls, and round again.
    EveryPoll,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Takes a lease. It is an error when the actor holds one already.
    Acquire {
        /// The actor's own deadline (`tokio::time::timeout` around the acquire), beside the pool's.
        deadline: Option<Duration>,
    },
    /// Sends a statement by the simple query protocol. `$actor` in the text is the actor's number, `$process` its
    /// process's.
    Sql(String),
    /// Sends a statement by the extended protocol, prepared anew (`Client::query`); the same variables.
    Prepared(String),
    /// `BEGIN`
    Begin,
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// Keeps what it has for a time drawn uniformly.
    Hold {
        /// At least.
        min: Duration,
        /// At most.
        max: Duration,
    },
    /// Returns the lease.
    Release,
    /// Never returns the lease: it is kept for ever.
    Leak,
    /// The actor's task is dropped after this time, in the middle of the steps that follow.
    Abandon {
        /// After this time.
        after: Duration,
    },
    /// Panics, holding what it holds.
    Panic,
    /// Takes the connection out of the pool for good, and keeps using it.
    Detach,
    /// Closes the connection and ends the lease.
    Invalidate,
    /// Closes the pool and waits for that.
    ClosePool,
    /// Builds a pool of the actor's own, used by its later steps; it replaces and drops its former own one.
    NewPool,
    /// Drops the actor's own pool (see [`Action::NewPool`]) without closing it.
    DropPool,
    /// Changes the pool's `max_size`.
    Resize(u32),
    /// Lets go of all connections of the pool, which goes on empty.
    DisposePool,
    /// Loses the actor's own pool in a reference cycle: only the garbage collector drops it.
    LosePool,
    /// Loses the lease in a reference cycle: only the garbage collector returns it.
    Lose,
    /// The process's garbage collector runs.
    Collect,
    /// Allocates a number of objects drawn uniformly, which makes the collector run at its threshold.
    Allocate {
        /// At least.
        min: u32,
        /// At most.
        max: u32,
    },
    /// From here on the actor works in its thread's session.
    Session,
    /// Sends a statement as the session's flush: if it fails, the session refuses work until it is rolled back.
    Flush(String),
    /// Rolls the session back, returns its connection and forgets it.
    RemoveSession,
    /// Sends a query that must return one row.
    ExpectRow(String),
    /// Puts a job in a queue.
    Put {
        /// The queue.
        queue: String,
        /// After this time.
        after: Duration,
        /// What the worker finds as `$payload`, with the variables of statements.
        payload: String,
    },
    /// Waits for a job and takes it.
    Take(String),
    /// The job that was taken is done.
    Done(String),
    /// Waits until no job of the queue is unfinished.
    Join(String),
    /// Kills the actors of a workload that this actor spawned.
    Kill(String),
    /// Does these steps as long as the queue has jobs to take.
    While {
        /// The queue.
        queue: String,
        /// What.
        steps: Vec<Step>,
    },
    /// Reads the pool's own counters into the trace.
    Status,
    /// Starts an actor of another workload (one that has `arrive = "never"`), and perhaps waits for its end.
    Spawn {
        /// The workload.
        workload: String,
        /// Whether to wait for its end.
        wait: bool,
    },
    /// Does these steps this many times.
    Repeat {
        /// How often.
        times: u32,
        /// What.
        steps: Vec<Step>,
    },
}
