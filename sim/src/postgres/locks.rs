//! Heavyweight locks: relation, tuple, transaction id and advisory locks, their queues, and deadlock detection.
//!
//! <https://www.postgresql.org/docs/15/explicit-locking.html>, and `src/backend/storage/lmgr/README` of PostgreSQL.

use super::event::Pid;

/// A relation's object id.
pub type RelationId = u32;
/// A transaction id; the simulator never wraps around.
pub type Xid = u64;
/// A row's place in its relation, stable over its versions.
pub type TupleId = u64;

/// Table-level lock modes, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are PostgreSQL's")]
pub enum Mode {
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

/// What is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tag {
    /// `relation`
    Relation(RelationId),
    /// `tuple`: held for the moment in which its holder waits for the row's locker, so that waiters queue.
    Tuple(RelationId, TupleId),
    /// `transactionid`: every transaction that wrote holds its own exclusively; to wait for it is to ask for Share.
    Transaction(Xid),
    /// `advisory`, of one bigint key.
    AdvisoryBig(i64),
    /// `advisory`, of two int keys.
    AdvisoryPair(i32, i32),
}

/// How long a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hold {
    /// To the end of the transaction.
    Transaction,
    /// To the end of the session, or an explicit unlock.
    Session,
}

/// What to do when a lock is not to be had at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Patience {
    /// Join the queue.
    Queue,
    /// NOWAIT, SKIP LOCKED, `pg_try_advisory_lock`.
    NoWait,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grant {
    /// Held (again).
    Granted,
    /// In the queue; the pid appears in [`LockTable::take_granted`] when its turn has come.
    Queued,
    /// Not to be had now, and [`Patience::NoWait`] was asked for.
    Refused,
}

/// One edge of a deadlock, as in the error's DETAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who waits.
    pub waiter: Pid,
    /// In which mode.
    pub mode: Mode,
    /// For what.
    pub tag: Tag,
    /// For whom.
    pub blocker: Pid,
}

/// A row of `pg_locks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRow {
    /// What.
    pub tag: Tag,
    /// Who.
    pub pid: Pid,
    /// In which mode.
    pub mode: Mode,
    /// Held, or waited for.
    pub granted: bool,
}
