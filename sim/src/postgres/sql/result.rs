//! What executing a statement gives back.

use std::sync::Arc;
use std::time::Duration;

use super::super::error::PgError;
use super::super::event::Pid;
use super::super::locks::RelationId;
use super::types::Type;
use super::value::Value;

/// How a statement goes on.
#[derive(Debug)]
pub enum Step {
    /// It is complete.
    Done(Output),
    /// It waits for a lock; step again once the session's pid was in [`super::Engine::take_granted`].
    Wait,
    /// It takes this long (`pg_sleep`, a statement's cost); step again afterwards.
    Sleep(Duration),
}

/// What a completed statement returns.
#[derive(Debug)]
pub struct Output {
    /// CommandComplete's tag: `SELECT 1`, `INSERT 0 1`, `BEGIN`.
    pub tag: Arc<str>,
    /// The result set of a statement that returns rows.
    pub rows: Option<Rows>,
    /// NOTICEs and WARNINGs, in order, sent before CommandComplete.
    pub notices: Vec<PgError>,
    /// What the statement fails with after these rows: they are sent, and then this instead of CommandComplete. Call
    /// [`Engine::abort`](super::Engine::abort) as after any other error.
    pub fails: Option<Box<PgError>>,
}

impl Output {
    /// For those who take all rows or none.
    ///
    /// # Errors
    /// What the statement fails with after its rows.
    pub fn whole(self) -> Result<Output, PgError> {
        match self.fails {
            Some(error) => Err(*error),
            None => Ok(self),
        }
    }
}

/// A result set.
#[derive(Debug)]
pub struct Rows {
    /// Its columns.
    pub columns: Arc<[Column]>,
    /// Its rows, each as long as `columns`.
    pub rows: Vec<Vec<Value>>,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are RowDescription's")]
pub struct Column {
    pub name: Arc<str>,
    pub kind: Type,
    /// The type's modifier (`atttypmod`), -1 for none.
    pub modifier: i32,
    /// The table and the number of the column that it shows unchanged.
    pub origin: Option<(RelationId, i16)>,
}

impl Column {
    /// A column that no table has.
    pub(super) fn new(name: impl Into<Arc<str>>, kind: Type) -> Column {
        Column { name: name.into(), kind, modifier: -1, origin: None }
    }

    /// The same result, wherever it comes from (`equalTupleDescs`, as far as clients see it).
    pub(super) fn looks_like(&self, other: &Column) -> bool {
        (&self.name, self.kind, self.modifier) == (&other.name, other.kind, other.modifier)
    }
}

/// What is known of a statement before it runs (ParameterDescription, RowDescription or NoData).
#[derive(Debug, Clone)]
pub struct Description {
    /// The type of each parameter.
    pub parameters: Vec<Type>,
    /// The columns, for a statement that returns rows.
    pub columns: Option<Arc<[Column]>>,
}

/// NotificationResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The listening backend.
    pub to: Pid,
    /// The notifying backend.
    pub from: Pid,
    /// The channel.
    pub channel: String,
    /// The payload.
    pub payload: String,
}

/// A cost that a scenario gives to statements.
#[derive(Debug, Clone, PartialEq)]
pub struct StatementCost {
    /// A LIKE pattern (`%` and `_`), compared without regard to case to the statement's text.
    pub like: String,
    /// How long such a statement takes, once it has its locks.
    pub takes: Duration,
    /// And how much more for each row read.
    pub per_row: Duration,
}
