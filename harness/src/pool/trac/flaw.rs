//! Deliberate mistakes of the models. The comparison with the records of the real pools must notice each.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// 1.6: the connection returned last is lent first.
    LifoForFifo,
    /// 1.6: nobody pings a connection before it is lent again.
    NoPing,
    /// 1.6: a connect that fails wakes a waiter.
    FailedConnectWakes,
    /// A returned connection is not rolled back.
    NoRollback,
    /// 2006: a return counts for the thread that took the connection, whoever does it.
    AnybodyReturns,
    /// 2006: a rollback that fails frees the connection's place.
    FailedRollbackFrees,
}

impl Flaw {
    /// All of them.
    pub const ALL: &[Flaw] = &[
        Flaw::LifoForFifo,
        Flaw::NoPing,
        Flaw::FailedConnectWakes,
        Flaw::NoRollback,
        Flaw::AnybodyReturns,
        Flaw::FailedRollbackFrees,
    ];
}
