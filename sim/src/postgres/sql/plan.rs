//! Plans: statements with all names and types resolved.

use std::sync::Arc;

use super::super::locks::{Mode, RelationId};
use super::functions::Function;
use super::heap::RowLock;
use super::result::Column;
use super::sysviews::View;
use super::types::Type;
use super::value::Value;

/// A plan kept with its statement, and what it was made for.
#[derive(Debug)]
pub(super) struct CachedPlan {
    /// The catalog's version; a session with temporary tables has one of its own.
    pub(super) version: u64,
    pub(super) database: Arc<str>,
    /// The session, when it has temporary tables.
    pub(super) session: Option<super::super::event::Pid>,
    /// Parameter types asked for.
    pub(super) hints: Vec<u32>,
    pub(super) plan: Arc<Plan>,
}

/// A statement that reads or writes rows.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) parameters: Vec<Type>,
    /// What it returns.
    pub(super) columns: Option<Arc<[Column]>>,
    /// The relations to lock before anything is read, in the order of the text, and where they stand there.
    pub(super) locks: Vec<(RelationId, Mode, Option<u32>)>,
    /// Whether its constants or parameters can make it fail before it runs.
    pub(super) folds: bool,
    pub(super) node: Node,
}

/// What it does.
#[derive(Debug)]
pub(super) enum Node {
    Select(Box<Select>),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
}

/// An expression with its type known.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Const(Value, Type),
    Param(usize, Type),
    /// A column of the row at hand (`level` 0) or of an enclosing query's row.
    Column {
        level: usize,
        index: usize,
        kind: Type,
    },
    /// Of a name unresolved in grouped queries, for the message: index into the input row.
    Not(Box<Expr>),
    Negate(Box<Expr>, Type),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Arithmetic(Operator, Box<Expr>, Box<Expr>, Type),
    Concat(Box<Expr>, Box<Expr>),
    IsNull(Box<Expr>, bool),
    /// IS [NOT] TRUE / FALSE / UNKNOWN: the value looked for, negated.
    IsBool(Box<Expr>, Option<bool>, bool),
    Distinct(Box<Expr>, Box<Expr>, bool),
    InList(Box<Expr>, Vec<Expr>, bool),
    /// `= ANY (array)`, `<> ALL (array)`: any?
    Quantified(Comparison, Box<Expr>, Box<Expr>, bool),
    Like {
        text: Box<Expr>,
        pattern: Box<Expr>,
        negated: bool,
        fold: bool,
    },
    Case {
        operand: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
        kind: Type,
    },
    Cast {
        expr: Box<Expr>,
        kind: Type,
        limit: Option<u32>,
        precision: Option<(u32, u32)>,
        explicit: bool,
    },
    Coalesce(Vec<Expr>, Type),
    Array(Vec<Expr>, Type),
    Call(Function, Vec<Expr>, Type),
    /// Collected while a grouped query is bound; replaced by a column before it runs.
    Aggregate(Box<Aggregate>),
    Subquery(SubqueryUse, Arc<SubPlan>, Option<Box<Expr>>),
}

/// How a subquery is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubqueryUse {
    Scalar,
    Exists,
    In { negated: bool },
    Array,
}

/// A subquery inside an expression. Equal only to itself.
#[derive(Debug)]
pub(super) struct SubPlan(pub(super) Select);

impl PartialEq for SubPlan {
    fn eq(&self, other: &SubPlan) -> bool {
        std::ptr::eq(self, other)
    }
}

/// Comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// Arithmetic operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    BitAnd,
    BitOr,
    ShiftLeft,
    ShiftRight,
}

/// Aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AggregateFunction {
    CountRows,
    Count,
    Sum,
    Min,
    Max,
    Avg,
    BoolAnd,
    BoolOr,
    StringAgg,
    ArrayAgg,
}

/// One aggregate of a grouped query.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Aggregate {
    pub(super) function: AggregateFunction,
    pub(super) argument: Option<Expr>,
    pub(super) separator: Option<Expr>,
    pub(super) distinct: bool,
    pub(super) filter: Option<Expr>,
    pub(super) kind: Type,
}

impl Expr {
    pub(super) fn kind(&self) -> Type {
        match self {
            Expr::Const(_, kind)
            | Expr::Param(_, kind)
            | Expr::Column { kind, .. }
            | Expr::Negate(_, kind)
            | Expr::Arithmetic(.., kind)
            | Expr::Case { kind, .. }
            | Expr::Cast { kind, .. }
            | Expr::Coalesce(_, kind)
            | Expr::Array(_, kind)
            | Expr::Call(_, _, kind) => *kind,
            Expr::Concat(..) => Type::Text,
            Expr::Aggregate(aggregate) => aggregate.kind,
            Expr::Subquery(SubqueryUse::Scalar, plan, _) => plan.0.columns[0].kind,
            Expr::Subquery(SubqueryUse::Array, plan, _) => plan.0.columns[0].kind.array().unwrap_or(Type::TextArray),
            _ => Type::Bool,
        }
    }
}

/// Where rows come from.
#[derive(Debug)]
pub(super) enum Source {
    /// One row without columns.
    Nothing,
    Table {
        id: RelationId,
        access: Access,
        width: usize,
    },
    System {
        view: View,
        width: usize,
    },
    Series {
        start: Expr,
        stop: Expr,
        step: Option<Expr>,
    },
    Unnest(Expr),
    /// A function of one row.
    Function(Expr),
    Query(Box<Select>),
    Values {
        rows: Vec<Vec<Expr>>,
        width: usize,
    },
    Join {
        left: Box<Source>,
        right: Box<Source>,
        left_outer: bool,
        on: Option<Expr>,
    },
}

impl Source {
    pub(super) fn width(&self) -> usize {
        match self {
            Source::Nothing => 0,
            Source::Table { width, .. } | Source::System { width, .. } | Source::Values { width, .. } => *width,
            Source::Series { .. } | Source::Unnest(_) | Source::Function(_) => 1,
            Source::Query(select) => select.columns.len(),
            Source::Join { left, right, .. } => left.width() + right.width(),
        }
    }
}

/// How a table's rows are found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Access {
    All,
    /// By equality on all columns of the index at this position.
    Index {
        index: usize,
        key: Vec<Expr>,
    },
}

/// FOR UPDATE and its kin, for one table of FROM.
#[derive(Debug)]
pub(super) struct RowLocking {
    /// The place of the table among the sources of FROM.
    pub(super) source: usize,
    pub(super) id: RelationId,
    /// Where its columns are in the row.
    pub(super) offset: usize,
    pub(super) strength: RowLock,
    pub(super) patience: RowPatience,
}

/// What a locking clause does when a row is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowPatience {
    Wait,
    NoWait,
    SkipLocked,
}

/// One key of ORDER BY: a column of the output row (hidden ones follow the visible ones).
#[derive(Debug)]
pub(super) struct SortKey {
    pub(super) column: usize,
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

/// A query.
#[derive(Debug)]
pub(super) struct Select {
    pub(super) columns: Arc<[Column]>,
    pub(super) source: Source,
    pub(super) filter: Option<Expr>,
    pub(super) grouping: Option<Grouping>,
    /// Visible columns, then hidden ones to sort by.
    pub(super) output: Vec<Expr>,
    pub(super) distinct: bool,
    pub(super) sort: Vec<SortKey>,
    pub(super) limit: Option<Expr>,
    pub(super) offset: Option<Expr>,
    pub(super) locking: Vec<RowLocking>,
    /// UNION and its kin: further parts.
    pub(super) union: Vec<(SetOperation, Select)>,
}

/// UNION, INTERSECT, EXCEPT; `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetOperation {
    Union { all: bool },
    Intersect,
    Except,
}

/// GROUP BY and aggregates. The grouped row is the keys, then the aggregates.
#[derive(Debug)]
pub(super) struct Grouping {
    pub(super) keys: Vec<Expr>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) having: Option<Expr>,
}

/// RETURNING, over the row written.
#[derive(Debug)]
pub(super) struct Returning {
    pub(super) columns: Arc<[Column]>,
    pub(super) output: Vec<Expr>,
}

/// INSERT.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) id: RelationId,
    pub(super) rows: InsertSource,
    pub(super) conflict: Option<Conflict>,
    pub(super) returning: Option<Returning>,
}

/// Where an INSERT's rows come from; each row is as wide as the table.
#[derive(Debug)]
pub(super) enum InsertSource {
    Rows(Vec<Vec<Expr>>),
    /// The query, and for each column of the table an expression over its row.
    Query(Box<Select>, Vec<Expr>),
}

/// DO UPDATE's assignments and WHERE.
pub(super) type ConflictUpdate = (Vec<(usize, Expr)>, Option<Expr>);

/// ON CONFLICT.
#[derive(Debug)]
pub(super) struct Conflict {
    /// The unique indexes it speaks of; empty: any.
    pub(super) indexes: Vec<usize>,
    /// DO UPDATE: assignments over the row there is, followed by the row excluded; None: DO NOTHING.
    pub(super) update: Option<ConflictUpdate>,
}

/// UPDATE.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) id: RelationId,
    /// The target, joined with FROM's sources after it.
    pub(super) target: Target,
    pub(super) assignments: Vec<(usize, Expr)>,
    pub(super) strength: RowLock,
    pub(super) returning: Option<Returning>,
}

/// DELETE.
#[derive(Debug)]
pub(super) struct Delete {
    pub(super) id: RelationId,
    pub(super) target: Target,
    pub(super) returning: Option<Returning>,
}

/// The rows that UPDATE and DELETE are about.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) access: Access,
    /// FROM or USING; its columns follow the target's.
    pub(super) others: Option<Source>,
    pub(super) filter: Option<Expr>,
}
