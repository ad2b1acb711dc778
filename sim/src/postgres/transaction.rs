//! The transaction state machine of a backend, after `src/backend/access/transam/xact.c`.
//!
//! A pure machine: it knows which commands are allowed when, what they warn of, and whether work is to be committed or
//! undone; the engine does the work. PostgreSQL's intermediate states (TBLOCK_BEGIN, TBLOCK_END, …) exist because a command
//! there only announces what the end of the statement does; here both are one step.

use super::error::{PgError, SqlState};

/// ReadyForQuery's status byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`
    Idle,
    /// `T`
    InTransaction,
    /// `E`
    Failed,
}

/// Isolation levels; READ UNCOMMITTED behaves as READ COMMITTED, but is shown by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are SQL's")]
pub enum Isolation {
    ReadUncommitted,
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

impl Isolation {
    /// As `transaction_isolation` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Isolation::ReadUncommitted => "read uncommitted",
            Isolation::ReadCommitted => "read committed",
            Isolation::RepeatableRead => "repeatable read",
            Isolation::Serializable => "serializable",
        }
    }

    /// Whether all statements of a transaction share one snapshot.
    #[must_use]
    pub fn one_snapshot(self) -> bool {
        matches!(self, Isolation::RepeatableRead | Isolation::Serializable)
    }
}

/// The options of BEGIN and SET TRANSACTION; `None` is "not said".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// ISOLATION LEVEL
    pub isolation: Option<Isolation>,
    /// READ ONLY, READ WRITE
    pub read_only: Option<bool>,
    /// DEFERRABLE, NOT DEFERRABLE
    pub deferrable: Option<bool>,
}

/// Where a backend is between BEGIN and COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Block {
    /// No transaction (TBLOCK_DEFAULT).
    #[default]
    Idle,
    /// One statement's own transaction (TBLOCK_STARTED).
    Implicit,
    /// The transaction that the statements of one simple query share (TBLOCK_IMPLICIT_INPROGRESS).
    ImplicitBlock,
    /// After BEGIN (TBLOCK_INPROGRESS).
    Explicit,
    /// An explicit block in which a statement failed (TBLOCK_ABORT).
    Failed,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Make its effects durable.
    Commit,
    /// Undo them.
    Rollback,
}

fn no_transaction() -> PgError {
    PgError::warning(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        "there is no transaction in progress",
    )
}

/// 25P01 for a command that needs BEGIN first.
#[must_use]
pub fn only_in_blocks(command: &str) -> PgError {
    PgError::error(
        SqlState::NO_ACTIVE_SQL_TRANSACTION,
        format!("{command} can only be used in transaction blocks"),
    )
}

/// 25P02.
#[must_use]
pub fn transaction_is_aborted() -> PgError {
    PgError::error(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

impl Block {
    /// What ReadyForQuery says.
    #[must_use]
    pub fn status(self) -> TransactionStatus {
        match self {
            Block::Idle | Block::Implicit | Block::ImplicitBlock => TransactionStatus::Idle,
            Block::Explicit => TransactionStatus::InTransaction,
            Block::Failed => TransactionStatus::Failed,
        }
    }

    /// Whether BEGIN was said (`IsTransactionBlock` without the implicit block).
    #[must_use]
    pub fn is_explicit(self) -> bool {
        matches!(self, Block::Explicit | Block::Failed)
    }

    /// BEGIN, which is not run in a failed block. Gives a warning when there is nothing to begin.
    pub fn begin(&mut self) -> Option<PgError> {
        match self {
            Block::Idle | Block::Implicit | Block::ImplicitBlock => {
                *self = Block::Explicit;
                None
            }
            Block::Explicit | Block::Failed => Some(PgError::warning(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "there is already a transaction in progress",
            )),
        }
    }

    /// COMMIT. Gives how the transaction ends, and a warning when no BEGIN preceded.
    ///
    /// # Errors
    /// 25P01 for AND CHAIN outside a block.
    pub fn commit(&mut self, chain: bool) -> Result<(Ending, Option<PgError>), PgError> {
        match self {
            Block::Explicit => Ok((Ending::Commit, None)),
            Block::Failed => Ok((Ending::Rollback, None)),
            _ if chain => Err(only_in_blocks("COMMIT AND CHAIN")),
            _ => Ok((Ending::Commit, Some(no_transaction()))),
        }
    }

    /// ROLLBACK. Gives a warning when no BEGIN preceded; the implicit transaction is undone all the same.
    ///
    /// # Errors
    /// 25P01 for AND CHAIN outside a block.
    pub fn rollback(&mut self, chain: bool) -> Result<Option<PgError>, PgError> {
        match self {
            Block::Explicit | Block::Failed => Ok(None),
            _ if chain => Err(only_in_blocks("ROLLBACK AND CHAIN")),
            _ => Ok(Some(no_transaction())),
        }
    }

    /// Whether SAVEPOINT, RELEASE or ROLLBACK TO (`command`) may run.
    ///
    /// # Errors
    /// 25P01 outside a block.
    pub fn savepoint(self, command: &str) -> Result<(), PgError> {
        if self.is_explicit() {
            Ok(())
        } else {
            Err(only_in_blocks(command))
        }
    }

    /// After an error. Gives whether the whole transaction is over.
    pub fn fail(&mut self) -> bool {
        match self {
            Block::Idle => false,
            Block::Implicit | Block::ImplicitBlock => {
                *self = Block::Idle;
                true
            }
            Block::Explicit | Block::Failed => {
                *self = Block::Failed;
                false
            }
        }
    }
}
