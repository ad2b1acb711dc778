//! Heavyweight locks: relation, tuple, transaction id and advisory locks, their queues, and deadlock detection.
//!
//! <https://www.postgresql.org/docs/15/explicit-locking.html>, and `src/backend/storage/lmgr/README` of PostgreSQL.
//!
//! [`LockTable`] is PostgreSQL's shared lock table without the sharing: pure, synchronous and deterministic. It knows no
//! time: who waits for `deadlock_timeout` or `lock_timeout` calls [`LockTable::deadlock`] or [`LockTable::give_up`] when
//! the timer fires. Left out: virtual transaction ids, page, extension and predicate locks (no statement of the simulated
//! server waits for them), lock groups of parallel workers, and autovacuum's politeness.

mod deadlock;
#[cfg(test)]
mod naive;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;

use super::event::Pid;

pub(in crate::postgres) use table::FixedHasher;
pub use table::{LockTable, Mark};

/// The object id of the one database, as it appears in a lock's description and in `pg_database`.
pub const DATABASE_OID: u32 = 5;

/// Rows a page in the `ctid`s that [`ctid`] makes up: what fits in 8 kB for a row of two small columns.
const ROWS_PER_PAGE: u64 = 226;

/// The `ctid` shown for a row: page from 0, line from 1.
#[must_use]
pub fn ctid(tuple: TupleId) -> (u64, u64) {
    (tuple / ROWS_PER_PAGE, tuple % ROWS_PER_PAGE + 1)
}

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

impl Mode {
    /// All modes, weakest first.
    pub const ALL: [Mode; 8] = [
        Mode::AccessShare,
        Mode::RowShare,
        Mode::RowExclusive,
        Mode::ShareUpdateExclusive,
        Mode::Share,
        Mode::ShareRowExclusive,
        Mode::Exclusive,
        Mode::AccessExclusive,
    ];

    /// Whether two sessions may not hold `self` and `other` on one object at the same time; symmetric.
    #[must_use]
    pub fn conflicts(self, other: Mode) -> bool {
        self.conflict_mask() & other.bit() != 0
    }

    /// The name in `pg_locks.mode` and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::AccessShare => "AccessShareLock",
            Mode::RowShare => "RowShareLock",
            Mode::RowExclusive => "RowExclusiveLock",
            Mode::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            Mode::Share => "ShareLock",
            Mode::ShareRowExclusive => "ShareRowExclusiveLock",
            Mode::Exclusive => "ExclusiveLock",
            Mode::AccessExclusive => "AccessExclusiveLock",
        }
    }

    /// A bit of its own.
    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The bits of the modes it conflicts with: `LockConflicts` of lock.c.
    fn conflict_mask(self) -> u8 {
        const ACCESS_SHARE: u8 = 1;
        const ROW_EXCLUSIVE: u8 = 1 << 2;
        const SHARE_UPDATE_EXCLUSIVE: u8 = 1 << 3;
        const SHARE: u8 = 1 << 4;
        const SHARE_ROW_EXCLUSIVE: u8 = 1 << 5;
        const EXCLUSIVE: u8 = 1 << 6;
        const ACCESS_EXCLUSIVE: u8 = 1 << 7;
        const STRONG: u8 = SHARE_ROW_EXCLUSIVE | EXCLUSIVE | ACCESS_EXCLUSIVE;
        match self {
            Mode::AccessShare => ACCESS_EXCLUSIVE,
            Mode::RowShare => EXCLUSIVE | ACCESS_EXCLUSIVE,
            Mode::RowExclusive => SHARE | STRONG,
            Mode::ShareUpdateExclusive => SHARE_UPDATE_EXCLUSIVE | SHARE | STRONG,
            Mode::Share => ROW_EXCLUSIVE | SHARE_UPDATE_EXCLUSIVE | STRONG,
            Mode::ShareRowExclusive => ROW_EXCLUSIVE | SHARE_UPDATE_EXCLUSIVE | SHARE | STRONG,
            Mode::Exclusive => !ACCESS_SHARE,
            Mode::AccessExclusive => !0,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
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

impl Tag {
    /// Whether it is an advisory lock, which only the client gives a meaning.
    #[must_use]
    pub fn is_advisory(self) -> bool {
        matches!(self, Tag::AdvisoryBig(_) | Tag::AdvisoryPair(..))
    }
}

/// As in the server's log and in a deadlock's DETAIL (`DescribeLockTag` of lmgr.c).
impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Tag::Relation(relation) => write!(f, "relation {relation} of database {DATABASE_OID}"),
            Tag::Tuple(relation, tuple) => {
                let (page, line) = ctid(tuple);
                write!(f, "tuple ({page},{line}) of relation {relation} of database {DATABASE_OID}")
            }
            Tag::Transaction(xid) => write!(f, "transaction {xid}"),
            Tag::AdvisoryBig(key) => {
                let (high, low) = ((key >> 32) as u32, key as u32);
                write!(f, "advisory lock [{DATABASE_OID},{high},{low},1]")
            }
            Tag::AdvisoryPair(first, second) => {
                let (first, second) = (first as u32, second as u32);
                write!(f, "advisory lock [{DATABASE_OID},{first},{second},2]")
            }
        }
    }
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Held (again).
    Granted,
    /// In the queue; the pid appears in [`LockTable::take_granted`] when its turn has come.
    Queued,
    /// Not to be had now, and [`Patience::NoWait`] was asked for.
    Refused,
    /// Waiting would be a deadlock with another waiter for the same object, each holding what the other one wants (two
    /// sessions that share a lock and both ask for a stronger one). PostgreSQL sees this before it waits and fails with
    /// 40P01 at once, without `deadlock_timeout`. Nothing is queued.
    Deadlock(Box<[Edge; 2]>),
}

/// One edge of a deadlock, as in the error's DETAIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// A line of the DETAIL; the lines of one deadlock are joined by newlines.
impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Process {} waits for {} on {}; blocked by process {}.",
            self.waiter, self.mode, self.tag, self.blocker
        )
    }
}

/// A row of `pg_locks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
