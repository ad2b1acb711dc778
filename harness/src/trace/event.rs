//! The events of a run.

use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::event::{Pid, ServerEvent, SessionReport};
use serde::{Deserialize, Serialize};

use crate::pool::{PoolErrorKind, Status};

/// An actor, numbered from 1 in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActorId(pub u32);

/// A process of an app, numbered from 1 over all apps in the order of the file; a restarted process is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

/// A pool instance, numbered from 1 in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolId(pub u32);

/// A dial and the connection that comes of it, numbered from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnId(pub u32);

/// A job of a queue, numbered from 1 over all queues in the order in which they were put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u32);

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobChange {
    /// It was put in the queue; it can be taken after a time.
    Put {
        /// What its worker finds.
        payload: Arc<str>,
        /// After this time.
        after: Duration,
    },
    /// A worker took it.
    Taken,
    /// It is done, and all steps of its worker succeeded.
    Done,
    /// It was marked as done though a step of its worker failed.
    DoneBadly,
    /// Its worker failed; it is put again after a time.
    Retried {
        /// After this time.
        after: Duration,
        /// How often it was put again, this time included.
        attempt: u32,
    },
    /// Its worker failed for the last time: it is given up.
    Failed,
    /// Its worker is gone; another one will take it.
    Redelivered,
    /// Its worker is gone, or the process in whose memory it was: nobody will do it, and nobody knows.
    Lost,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Virtual time since the start of the run.
    pub at: Duration,
    /// Its number, from 1.
    pub seq: u64,
    /// What happened.
    pub what: What,
}

/// How an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorEnd {
    /// All its steps were done.
    Done,
    /// A step failed.
    Failed,
    /// It was dropped in the middle (`abandon`).
    Abandoned,
    /// It panicked.
    Panicked(String),
    /// Its process was killed.
    Killed,
    /// It was killed, and its process lives on.
    Stopped,
    /// Healing is over, and poolproof gave it up: what it waited for did not come.
    GivenUp,
}

/// How a statement of an actor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlResult {
    /// The server acknowledged it.
    Ok,
    /// The server refused it, with this SQLSTATE.
    Error(String),
    /// The connection broke, with the driver's text.
    Broken(String),
    /// The actor gave up waiting.
    Cancelled,
}

/// How an acquire ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Acquired {
    /// A lease on this connection, whose session was in this state at the hand-out. `session` is `None` when the server
    /// no longer has such a backend.
    Lease {
        /// The connection.
        conn: ConnId,
        /// Its backend.
        pid: Pid,
        /// The session at this moment, as the server sees it.
        session: Option<SessionReport>,
        /// Bytes that the client's end had received and not yet read.
        unread: u64,
    },
    /// The pool's error.
    Error {
        /// Its kind.
        kind: PoolErrorKind,
        /// Its text.
        message: Arc<str>,
    },
    /// The actor's own deadline passed.
    Deadline,
    /// The scenario cancelled it.
    Cancelled,
    /// Healing is over, and poolproof gave it up.
    GivenUp,
    /// The pool panicked inside it.
    Panicked(String),
}

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Traffic and faults.
    Fault,
    /// Faults have ended, no actor arrives; those that are there may end.
    Healing,
    /// Every actor has ended; `max_size` acquires at once must succeed.
    Capacity,
    /// The pools are closed (or dropped where they can't be closed).
    Closing,
    /// All is judged.
    End,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The run enters a phase.
    Phase(Phase),
    /// A process of an app starts.
    ProcessStart {
        /// Which.
        process: ProcessId,
        /// The app's name.
        app: Arc<str>,
        /// Its place among the app's processes, from 0. A restarted process has its predecessor's.
        seat: u32,
    },
    /// A process ends (killed, or the run is over).
    ProcessEnd {
        /// Which.
        process: ProcessId,
    },
    /// A pool is being built; its first dials may follow at once. [`What::PoolFailed`] takes it back.
    PoolBuilt {
        /// Which.
        pool: PoolId,
        /// In which process.
        process: ProcessId,
        /// Its bound.
        max_size: u32,
        /// Whether it is an actor's own (`new pool`).
        own: bool,
    },
    /// A pool could not be built.
    PoolFailed {
        /// Which.
        pool: PoolId,
        /// In which process.
        process: ProcessId,
        /// The pool's error.
        message: Arc<str>,
    },
    /// A pool lets go of all its connections, and goes on empty: none of them comes back to it.
    PoolDisposed {
        /// Which.
        pool: PoolId,
    },
    /// `max_size` was changed.
    PoolResized {
        /// Which.
        pool: PoolId,
        /// The new bound.
        max_size: u32,
    },
    /// Close was called.
    PoolClosing {
        /// Which.
        pool: PoolId,
    },
    /// Close returned.
    PoolClosed {
        /// Which.
        pool: PoolId,
    },
    /// Close was dropped before it returned: whoever called it waits no more.
    PoolCloseCancelled {
        /// Which.
        pool: PoolId,
    },
    /// The last handle to the pool was dropped by poolproof.
    PoolDropped {
        /// Which.
        pool: PoolId,
    },
    /// An actor lost its own pool in a reference cycle.
    PoolLost {
        /// Whose.
        actor: ActorId,
        /// Which.
        pool: PoolId,
    },
    /// The pool's own counters, read beside the truth.
    PoolStatus {
        /// Which.
        pool: PoolId,
        /// Its claim.
        status: Status,
    },
    /// The connector starts to dial for a pool.
    Dial {
        /// The dial.
        conn: ConnId,
        /// The pool.
        pool: PoolId,
    },
    /// The dial failed.
    DialFailed {
        /// The dial.
        conn: ConnId,
        /// The driver's text.
        message: Arc<str>,
        /// The SQLSTATE, if a server answered.
        code: Option<String>,
    },
    /// The pool dropped the dial before it was done.
    DialDropped {
        /// The dial.
        conn: ConnId,
    },
    /// The connection is ready for queries.
    Connected {
        /// The dial.
        conn: ConnId,
        /// Its backend.
        pid: Pid,
    },
    /// The driver saw the connection break: from here on its client is known to be closed.
    ConnBroken {
        /// The connection.
        conn: ConnId,
        /// The driver's text.
        message: Arc<str>,
    },
    /// The pool dropped the connection: its client is gone, Terminate was sent.
    ConnClosed {
        /// The connection.
        conn: ConnId,
    },
    /// An actor arrives.
    ActorStart {
        /// Which.
        actor: ActorId,
        /// Its workload's name.
        workload: Arc<str>,
        /// Its process.
        process: ProcessId,
    },
    /// An actor ended; whatever it held is dropped.
    ActorEnd {
        /// Which.
        actor: ActorId,
        /// How.
        end: ActorEnd,
    },
    /// An actor calls acquire.
    AcquireStart {
        /// Which.
        actor: ActorId,
        /// The pool.
        pool: PoolId,
    },
    /// An actor's acquire ended.
    AcquireEnd {
        /// Which.
        actor: ActorId,
        /// The pool.
        pool: PoolId,
        /// How.
        result: Acquired,
    },
    /// An actor sends a statement.
    SqlStart {
        /// Which.
        actor: ActorId,
        /// On which connection.
        conn: ConnId,
        /// Its text.
        text: Arc<str>,
    },
    /// The statement ended, for the actor.
    SqlEnd {
        /// Which.
        actor: ActorId,
        /// On which connection.
        conn: ConnId,
        /// How.
        result: SqlResult,
    },
    /// The lease was dropped: the connection is the pool's again.
    Released {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// The actor leaks its lease, on purpose.
    Leaked {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// The actor lost its lease in a reference cycle: it is returned when the collector runs.
    Lost {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// The actor ended, and its thread's session keeps the connection.
    Kept {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// An actor found the connection that its thread's session keeps.
    Resumed {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// The garbage collector of a process ran; what it found is returned and dropped next.
    Collected {
        /// Which.
        process: ProcessId,
        /// Leases that it found.
        leases: u32,
        /// Pools that it found.
        pools: u32,
        /// Whether a step asked for it; it runs by itself at its threshold.
        asked: bool,
    },
    /// The garbage collector ran inside an acquire, found a lost lease, and waits for the lock that the acquire holds.
    Deadlocked {
        /// Whose acquire.
        actor: ActorId,
        /// Whose lock.
        pool: PoolId,
    },
    /// Something failed on the application's side, before or after the database.
    Raised {
        /// Which.
        actor: ActorId,
        /// The error's class, as its library names it.
        class: &'static str,
        /// Its text.
        message: Arc<str>,
    },
    /// A job was put, taken, done …
    Job {
        /// Its queue's name.
        queue: Arc<str>,
        /// Which.
        job: JobId,
        /// Who did it; nobody in particular when a process died.
        actor: Option<ActorId>,
        /// What.
        change: JobChange,
        /// Jobs of the queue that are put and not done, this one included if it isn't.
        unfinished: u32,
    },
    /// An actor waits until a queue has no unfinished job, or its waiting is over.
    Join {
        /// Which.
        actor: ActorId,
        /// The queue's name.
        queue: Arc<str>,
        /// Jobs that are put and not done.
        unfinished: u32,
        /// Whether the waiting is over.
        over: bool,
    },
    /// An actor can't go on: its process's only thread is blocked in another one's statement.
    ThreadBlocked {
        /// Who can't.
        actor: ActorId,
    },
    /// It can go on.
    ThreadFree {
        /// Who.
        actor: ActorId,
    },
    /// The actor took the connection out of the pool.
    Detached {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// The actor had its connection closed, and its lease with it.
    Invalidated {
        /// Which.
        actor: ActorId,
        /// Which connection.
        conn: ConnId,
    },
    /// A detached connection was dropped.
    DetachedDropped {
        /// Which connection.
        conn: ConnId,
    },
    /// A step was cancelled by the scenario.
    StepCancelled {
        /// Which.
        actor: ActorId,
        /// The step, as in the file.
        step: Arc<str>,
    },
    /// A fault begins.
    FaultBegin {
        /// Its place in the file, from 0.
        index: usize,
        /// What it does, as a sentence.
        text: Arc<str>,
    },
    /// What came of a fault, where its beginning does not say it.
    FaultEffect {
        /// Its place in the file, from 0; `None` for what the healing does.
        fault: Option<usize>,
        /// What, as a sentence.
        text: Arc<str>,
    },
    /// A fault that lasts ends.
    FaultEnd {
        /// Its place in the file, from 0.
        index: usize,
        /// What ended, as a sentence.
        text: Arc<str>,
    },
    /// A server says something.
    Server {
        /// `db` or `standby`.
        server: Arc<str>,
        /// What.
        event: ServerEvent,
    },
    /// The run's own thread saw a panic outside every actor (in a task that a pool spawned).
    TaskPanicked {
        /// The panic's message and place.
        message: Arc<str>,
    },
    /// Tasks alive that are not poolproof's, counted when every pool is gone.
    TasksLeft {
        /// How many.
        count: u32,
    },
}
