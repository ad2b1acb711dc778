//! Deliberate mistakes of the models. No pool has them: the comparison with the records of the real library must notice each,
//! or a match would mean nothing.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The connection returned last is handed out first.
    LifoForFifo,
    /// The overflow counter starts one too high.
    CounterOffByOne,
    /// `dispose()` closes connections that are checked out.
    DisposeClosesCheckedOut,
    /// A disconnect closes only the connection that saw it.
    NoSoftInvalidation,
    /// An overflow connection is kept when it comes back.
    OverflowKept,
    /// A failed connect counts as a connection.
    FailedConnectCounts,
    /// A returned connection is not rolled back.
    NoReset,
    /// A connection is recycled when it comes back, not when it is next checked out.
    RecycleAtCheckin,
    /// `pre_ping` pings nobody.
    NoPing,
    /// `checkin` is told before `reset`.
    CheckinBeforeReset,
    /// `detach` keeps the connection's place taken.
    DetachKeepsPlace,
    /// A fairy that was lost is never found.
    LostIsLost,
}

impl Flaw {
    /// All of them.
    pub const ALL: &[Flaw] = &[
        Flaw::LifoForFifo,
        Flaw::CounterOffByOne,
        Flaw::DisposeClosesCheckedOut,
        Flaw::NoSoftInvalidation,
        Flaw::OverflowKept,
        Flaw::FailedConnectCounts,
        Flaw::NoReset,
        Flaw::RecycleAtCheckin,
        Flaw::NoPing,
        Flaw::CheckinBeforeReset,
        Flaw::DetachKeepsPlace,
        Flaw::LostIsLost,
    ];
}
