//! The kinds of steps, for `poolproof list steps`, scenarios/README.md and suggestions.

/// One kind of step, for `poolproof list steps` and for suggestions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepKind {
    /// How it is written.
    pub form: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
}

/// All kinds of steps.
pub const STEPS: &[StepKind] = &[
    StepKind {
        form: "acquire",
        meaning: "Takes a connection from the pool, and waits for it as long as the pool lets it.",
    },
    StepKind {
        form: "acquire within DURATION",
        meaning: "The same, given up by the caller after a time (a timeout around the acquire).",
    },
    StepKind {
        form: "sql STATEMENT",
        meaning: "Sends a statement by the simple query protocol; $actor, $process and $n (the actor's number in its workload) are numbers, $payload is the job's.",
    },
    StepKind { form: "prepared STATEMENT", meaning: "Prepares a statement and executes it (the extended protocol)." },
    StepKind {
        form: "expect row STATEMENT",
        meaning: "Sends a query that must return exactly one row; otherwise the step fails with NoResultFound.",
    },
    StepKind { form: "begin", meaning: "Sends BEGIN." },
    StepKind { form: "commit", meaning: "Sends COMMIT." },
    StepKind { form: "rollback", meaning: "Sends ROLLBACK." },
    StepKind {
        form: "hold DURATION",
        meaning: "Keeps what it has for a time; `hold 5ms..20ms` draws the time from a range.",
    },
    StepKind { form: "release", meaning: "Returns the connection to the pool." },
    StepKind { form: "leak", meaning: "Forgets the lease: the connection is never returned." },
    StepKind {
        form: "lose",
        meaning: "Loses the lease in a reference cycle: it is returned when the garbage collector runs, not before.",
    },
    StepKind {
        form: "abandon after DURATION",
        meaning: "The actor's task is dropped after this time, in the middle of the steps that follow.",
    },
    StepKind { form: "panic", meaning: "Panics, holding what it holds." },
    StepKind { form: "detach", meaning: "Takes the connection out of the pool for good, and keeps using it." },
    StepKind {
        form: "invalidate",
        meaning: "Closes the connection and ends the lease: its place in the pool is free (SQLAlchemy's `invalidate()`).",
    },
    StepKind { form: "close pool", meaning: "Closes the pool and waits for that." },
    StepKind { form: "new pool", meaning: "Builds a pool of the actor's own, which its later steps use." },
    StepKind { form: "drop pool", meaning: "Drops the actor's own pool without closing it." },
    StepKind {
        form: "dispose pool",
        meaning: "Lets go of all connections of the pool, which goes on empty (SQLAlchemy's `engine.dispose()`).",
    },
    StepKind {
        form: "lose pool",
        meaning: "Loses the actor's own pool in a reference cycle: it is dropped when the garbage collector runs.",
    },
    StepKind { form: "collect", meaning: "Runs the process's garbage collector (`gc.collect()`)." },
    StepKind {
        form: "allocate COUNT",
        meaning: "Allocates objects, or `allocate 100..300` of them: at the app's threshold the collector runs.",
    },
    StepKind {
        form: "session",
        meaning: "From here on the actor works in its thread's session (SQLAlchemy's `scoped_session`).",
    },
    StepKind {
        form: "flush STATEMENT",
        meaning: "Sends it as the session's flush: if it fails, the session refuses work until it is rolled back.",
    },
    StepKind { form: "remove session", meaning: "Rolls the session back, returns its connection, forgets it." },
    StepKind {
        form: "put QUEUE PAYLOAD",
        meaning: "Puts a job in a queue, `put QUEUE after 5s PAYLOAD` later; a worker finds the payload as $payload.",
    },
    StepKind { form: "take QUEUE", meaning: "Waits for a job of the queue and takes it." },
    StepKind { form: "done QUEUE", meaning: "The job that was taken is done (`task_done()`)." },
    StepKind { form: "join QUEUE", meaning: "Waits until no job of the queue is unfinished." },
    StepKind { form: "kill WORKLOAD", meaning: "Kills the actors of a workload that this actor spawned." },
    StepKind { form: "resize COUNT", meaning: "Changes the pool's max_size." },
    StepKind { form: "status", meaning: "Reads the pool's own counters into the trace." },
    StepKind {
        form: "spawn WORKLOAD",
        meaning: "Starts an actor of another workload; `spawn WORKLOAD and wait` waits for its end.",
    },
    StepKind { form: "{ repeat = COUNT, steps = [...] }", meaning: "Does these steps this many times." },
    StepKind {
        form: "{ while = QUEUE, steps = [...] }",
        meaning: "Does these steps as long as the queue has jobs to take (`while not queue.empty()`).",
    },
    StepKind {
        form: "cancel after DURATION: STEP",
        meaning: "Drops the step's future after a time; the actor goes on.",
    },
    StepKind {
        form: "cancel at poll COUNT: STEP",
        meaning: "Drops the step's future instead of polling it for the n-th time; `cancel at poll 2 of actor 3` only that of the \
                  workload's third actor.",
    },
    StepKind {
        form: "cancel at wake COUNT: STEP",
        meaning: "Drops the step's future when it was woken for the n-th time, before it is polled again; `of actor 3` as \
                  above.",
    },
    StepKind {
        form: "cancel at every poll: STEP",
        meaning: "The k-th actor drops it instead of the k-th poll, then at each wake, and round again.",
    },
];

/// The first words of steps.
pub(super) const VERBS: [&str; 33] = [
    "acquire",
    "sql",
    "prepared",
    "expect",
    "begin",
    "commit",
    "rollback",
    "hold",
    "release",
    "leak",
    "lose",
    "abandon",
    "panic",
    "detach",
    "invalidate",
    "close",
    "new",
    "drop",
    "dispose",
    "collect",
    "allocate",
    "session",
    "flush",
    "remove",
    "put",
    "take",
    "done",
    "join",
    "kill",
    "resize",
    "status",
    "spawn",
    "cancel",
];
