//! Planted bugs: named deviations of the reference pool, each in one place of its code, each a mistake that real pools
//! have made. They prove that an invariant fires, and that a search finds what it looks for.

/// A planted bug. [`Plant::meaning`] says what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "`meaning` documents each, for people who read it in a report, too")]
pub enum Plant {
    DialRace,
    ResizeKeepsExcess,
    ClosingNotCounted,
    LeaseHandedToTwo,
    ReaperClosesLeased,
    LeaseLostOnPanic,
    PermitLostOnFailedDial,
    PermitLostOnCancelledCheck,
    DialWithoutTimeout,
    DetachKeepsPermit,
    ResetWithoutTimeout,
    GrantLostOnCancel,
    WakeToDeadWaiter,
    NoWakeAfterBroken,
    RefillTakesLastSlot,
    TimeoutIgnoredWhileDialling,
    CheckOutsideTimeout,
    CloseNotWoken,
    ResetSkippedAfterError,
    ResetSkippedForWaiter,
    BrokenNotNoticed,
    LifetimeFromLastReturn,
    IdleTimeoutReadOnce,
    LifoWaiters,
    RequeueAtTheBack,
    DialStorm,
    Churn,
    NoBackoff,
    BackoffUnbounded,
    GivesUpOnServer,
    CheckTimeoutReturnsConnection,
    StatusStaleAfterResize,
    StatusCountsBroken,
    CloseForgetsDials,
    ReaperOutlivesPool,
    ResetLeftBehind,
    PanicInReaper,
    PanicOnShrink,
    SpinInAcquire,
    BlockingSleep,
    GrowsWithoutEnd,
    AutocommitOff,
    ResetCommits,
    InvalidatedComesBack,
}

use Plant::*;

/// What the names of planted bugs begin with, as adapters.
const PREFIX: &str = "planted:";

/// Every planted bug: its adapter's name, the invariant that it violates, its meaning.
const TABLE: &[(Plant, &str, &str, &str)] = &[
    (
        DialRace,
        "planted:dial-race",
        "bounded-connections",
        "a second dial that starts beside another finds room for one too many",
    ),
    (
        ResizeKeepsExcess,
        "planted:resize-keeps-excess",
        "bounded-connections",
        "a smaller max_size holds for new dials only: what is open stays",
    ),
    (
        ClosingNotCounted,
        "planted:closing-not-counted",
        "bounded-connections",
        "a connection that was given up is not counted, though its socket is still open (its statement still runs)",
    ),
    (
        LeaseHandedToTwo,
        "planted:lease-handed-to-two",
        "exclusive-lease",
        "when nothing is idle, no room is left and two wait, the connection of a lease is handed out once more",
    ),
    (
        ReaperClosesLeased,
        "planted:reaper-closes-leased",
        "live-hand-out",
        "the reaper closes what is too old also while it is leased, and the pool hands that out once more",
    ),
    (
        LeaseLostOnPanic,
        "planted:lease-lost-on-panic",
        "eventual-release",
        "a lease dropped by a panic is not returned: its connection stays leased for ever",
    ),
    (
        PermitLostOnFailedDial,
        "planted:permit-lost-on-failed-dial",
        "quiescent-capacity",
        "a failed dial keeps its permit: after max_size failures nothing is dialled any more",
    ),
    (
        PermitLostOnCancelledCheck,
        "planted:permit-lost-on-cancelled-check",
        "quiescent-capacity",
        "an acquire cancelled during its check loses the permit of the connection that it checked",
    ),
    (
        DialWithoutTimeout,
        "planted:dial-without-timeout",
        "quiescent-capacity",
        "a dial that nobody answers keeps its permit for ever",
    ),
    (
        DetachKeepsPermit,
        "planted:detach-keeps-permit",
        "quiescent-capacity",
        "a connection that was detached keeps its permit",
    ),
    (
        ResetWithoutTimeout,
        "planted:reset-without-timeout",
        "quiescent-capacity",
        "the reset at the return has no timeout: a connection that is silent is never back",
    ),
    (
        GrantLostOnCancel,
        "planted:grant-lost-on-cancel",
        "no-lost-wakeup",
        "a waiter that is cancelled after it was woken puts its connection back, and wakes nobody",
    ),
    (
        WakeToDeadWaiter,
        "planted:wake-to-dead-waiter",
        "no-lost-wakeup",
        "a cancelled waiter stays in the queue; its wake-up is spent, and the connection goes idle",
    ),
    (
        NoWakeAfterBroken,
        "planted:no-wake-after-broken",
        "no-lost-wakeup",
        "when a connection ends there is room to dial, and nobody is told",
    ),
    (
        RefillTakesLastSlot,
        "planted:refill-takes-last-slot",
        "no-lost-wakeup",
        "a connection dialled while min_idle is not met goes idle, past those who wait for it",
    ),
    (
        TimeoutIgnoredWhileDialling,
        "planted:timeout-ignored-while-dialling",
        "deadline",
        "acquire_timeout is not looked at as long as a dial is under way",
    ),
    (
        CheckOutsideTimeout,
        "planted:check-outside-timeout",
        "deadline",
        "the check before the hand-out is outside acquire_timeout, and has none of its own",
    ),
    (
        CloseNotWoken,
        "planted:close-not-woken",
        "deadline",
        "close is not told when the last connection has ended, and never returns",
    ),
    (
        ResetSkippedAfterError,
        "planted:reset-skipped-after-error",
        "clean-hand-out",
        "the reset sends no ROLLBACK first, and a reset that fails is taken for done",
    ),
    (
        ResetSkippedForWaiter,
        "planted:reset-skipped-for-waiter",
        "clean-hand-out",
        "when somebody waits, a returned connection is handed over without a reset",
    ),
    (
        BrokenNotNoticed,
        "planted:broken-not-noticed",
        "live-hand-out",
        "an idle connection that is known to be broken is handed out",
    ),
    (
        LifetimeFromLastReturn,
        "planted:lifetime-from-last-return",
        "live-hand-out",
        "max_lifetime is counted from the last return: a busy connection lives for ever",
    ),
    (
        IdleTimeoutReadOnce,
        "planted:idle-timeout-read-once",
        "live-hand-out",
        "idle time is looked at by nobody but a reaper that runs once",
    ),
    (LifoWaiters, "planted:lifo-waiters", "bounded-bypass", "the latest waiter is served first"),
    (
        RequeueAtTheBack,
        "planted:requeue-at-the-back",
        "bounded-bypass",
        "a waiter whose connection failed its check starts again at the end of the queue",
    ),
    (
        DialStorm,
        "planted:dial-storm",
        "demand",
        "dials under way are not taken into account: each event dials again for the same waiter",
    ),
    (Churn, "planted:churn", "demand", "every returned connection is closed"),
    (NoBackoff, "planted:no-backoff", "demand", "a failed dial is tried again at once, for every waiter"),
    (BackoffUnbounded, "planted:backoff-unbounded", "recovery", "the pause between failed dials doubles without bound"),
    (
        GivesUpOnServer,
        "planted:gives-up-on-server",
        "recovery",
        "after five failed dials in a row the pool dials no more",
    ),
    (
        CheckTimeoutReturnsConnection,
        "planted:check-timeout-returns-connection",
        "recovery",
        "a connection whose check timed out or was cancelled goes back to the idle ones: a silent one stays for ever",
    ),
    (
        StatusStaleAfterResize,
        "planted:status-stale-after-resize",
        "truthful-status",
        "status reports the max_size that the pool was built with",
    ),
    (
        StatusCountsBroken,
        "planted:status-counts-broken",
        "truthful-status",
        "connections that the server ended stay in the counters",
    ),
    (
        CloseForgetsDials,
        "planted:close-forgets-dials",
        "nothing-left",
        "dials under way go on when the pool is closed or dropped, and their connections stay open",
    ),
    (
        ReaperOutlivesPool,
        "planted:reaper-outlives-pool",
        "nothing-left",
        "the reaper's task goes on when the pool is closed or dropped",
    ),
    (
        ResetLeftBehind,
        "planted:reset-left-behind",
        "nothing-left",
        "a connection that is being reset when the pool is closed becomes idle afterwards, for ever",
    ),
    (PanicInReaper, "planted:panic-in-reaper", "no-panic", "the reaper panics when it empties the pool"),
    (
        PanicOnShrink,
        "planted:panic-on-shrink",
        "no-panic",
        "a resize below the number of leases is an integer underflow at the next event",
    ),
    (
        SpinInAcquire,
        "planted:spin-in-acquire",
        "no-stall",
        "an acquire that has to wait asks again and again instead of sleeping",
    ),
    (BlockingSleep, "planted:blocking-sleep", "no-stall", "an acquire that has to wait blocks its thread for a minute"),
    (
        GrowsWithoutEnd,
        "planted:grows-without-end",
        "no-stall",
        "an acquire that has to wait allocates a MiB at each look, up to 1 GiB, and looks again at once",
    ),
    (
        AutocommitOff,
        "planted:autocommit-off",
        "effects",
        "a lease starts inside a transaction, which the reset rolls back: what was acknowledged is lost",
    ),
    (
        ResetCommits,
        "planted:reset-commits",
        "effects",
        "the reset at the return sends COMMIT where it should send ROLLBACK: what failed half-way is kept",
    ),
    (
        InvalidatedComesBack,
        "planted:invalidated-comes-back",
        "exclusive-lease",
        "a connection that its user invalidates goes back to the pool, which hands it out again",
    ),
];

impl Plant {
    /// Every planted bug, in the order of the invariants that they violate.
    pub fn all() -> impl Iterator<Item = Plant> {
        TABLE.iter().map(|&(plant, ..)| plant)
    }

    fn row(self) -> &'static (Plant, &'static str, &'static str, &'static str) {
        TABLE.iter().find(|(plant, ..)| *plant == self).expect("every plant has a row: a test compares")
    }

    /// Its name: `grant-lost-on-cancel`. The pool is called `planted:` and that.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.adapter_name().strip_prefix(PREFIX).expect("every name in the table has the prefix: a test compares")
    }

    /// The name of its adapter: `planted:grant-lost-on-cancel`.
    #[must_use]
    pub fn adapter_name(self) -> &'static str {
        self.row().1
    }

    /// The invariant that it violates, and by which it must be caught.
    #[must_use]
    pub fn violates(self) -> &'static str {
        self.row().2
    }

    /// What goes wrong, as a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().3
    }
}
