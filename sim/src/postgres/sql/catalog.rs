//! Relations and their names: tables, indexes and sequences, a namespace a database, temporary ones a namespace a session.
//!
//! A relation made or dropped by a running transaction is marked with its backend until the commit; nobody else sees the
//! former, and everybody else still finds the latter (and then waits for its lock).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::event::Pid;
use super::super::locks::{RelationId, Xid};
use super::heap::Heap;
use super::plan::Expr;
use super::result::Column;
use super::types::Type;
use super::value::Value;

/// A column of a table. Its position never changes; a dropped one keeps its place, as in `pg_attribute`.
#[derive(Debug, Clone)]
pub(super) struct TableColumn {
    pub(super) name: Arc<str>,
    pub(super) kind: Type,
    /// `varchar(n)`.
    pub(super) limit: Option<u32>,
    /// `numeric(p, s)`.
    pub(super) precision: Option<(u32, u32)>,
    pub(super) not_null: bool,
    pub(super) default: Option<Expr>,
    /// What rows older than the column have.
    pub(super) missing: Value,
    pub(super) dropped: bool,
}

/// CHECK.
#[derive(Debug, Clone)]
pub(super) struct Check {
    pub(super) name: Arc<str>,
    pub(super) expr: Expr,
}

/// An index; its entries are in the heap, at the same position.
#[derive(Debug, Clone)]
pub(super) struct Index {
    pub(super) id: RelationId,
    pub(super) name: Arc<str>,
    pub(super) columns: Arc<[usize]>,
    pub(super) unique: bool,
    pub(super) primary: bool,
    /// PRIMARY KEY or UNIQUE, not CREATE INDEX.
    pub(super) constraint: bool,
    /// Dropped: the place stays, so that positions hold.
    pub(super) dropped: bool,
}

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) columns: Vec<TableColumn>,
    pub(super) checks: Vec<Check>,
    pub(super) indexes: Vec<Index>,
    pub(super) heap: Heap,
    pub(super) unlogged: bool,
    /// Sequences of serial columns, dropped with it.
    pub(super) sequences: Vec<RelationId>,
}

impl Table {
    /// Its columns as a query over it shows them. A dropped one keeps its place under a name that SQL text cannot have.
    pub(super) fn shown(&self, id: RelationId) -> Vec<Column> {
        let shown = |(index, column): (usize, &TableColumn)| Column {
            name: if column.dropped { "".into() } else { column.name.clone() },
            kind: column.kind,
            modifier: modifier(column.limit, column.precision),
            origin: i16::try_from(index + 1).ok().map(|number| (id, number)),
        };
        self.columns.iter().enumerate().map(shown).collect()
    }
}

/// `atttypmod` of `varchar(n)` and `numeric(p, s)`; -1 for a type without limits.
pub(super) fn modifier(limit: Option<u32>, precision: Option<(u32, u32)>) -> i32 {
    let modifier = match (limit, precision) {
        (Some(limit), _) => limit.saturating_add(4),
        (None, Some((precision, scale))) => ((precision << 16) | scale) + 4,
        (None, None) => return -1,
    };
    i32::try_from(modifier).unwrap_or(-1)
}

/// A sequence. Its value is not undone by ROLLBACK.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub(super) last: i64,
    pub(super) called: bool,
    pub(super) max: i64,
}

/// What a relation is.
#[derive(Debug, Clone)]
pub(super) enum RelationKind {
    Table(Box<Table>),
    Index { table: RelationId },
    Sequence(Sequence),
}

/// A row of `pg_class`.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    pub(super) id: RelationId,
    pub(super) name: Arc<str>,
    pub(super) database: Arc<str>,
    /// A temporary relation's session.
    pub(super) temporary: Option<Pid>,
    pub(super) kind: RelationKind,
    /// Made by a running transaction.
    pub(super) made_by: Option<(Pid, Xid)>,
    /// Dropped by a running transaction.
    pub(super) dropped_by: Option<Pid>,
}

impl Relation {
    pub(super) fn visible(&self, pid: Pid) -> bool {
        self.made_by.is_none_or(|(by, _)| by == pid)
            && self.dropped_by != Some(pid)
            && self.temporary.is_none_or(|owner| owner == pid)
    }

    pub(super) fn table(&self) -> Option<&Table> {
        match &self.kind {
            RelationKind::Table(table) => Some(table),
            _ => None,
        }
    }
}

/// The relations of the cluster.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    relations: BTreeMap<RelationId, Relation>,
    names: BTreeMap<Arc<str>, Vec<RelationId>>,
    next: RelationId,
    /// Grows with each change, so that plans know when they are stale.
    pub(super) version: u64,
}

impl Catalog {
    pub(super) fn new() -> Catalog {
        // FirstNormalObjectId.
        Catalog { next: 16_384, ..Catalog::default() }
    }

    pub(super) fn next_id(&mut self) -> RelationId {
        self.next += 1;
        self.next - 1
    }

    pub(super) fn add(&mut self, relation: Relation) {
        self.version += 1;
        self.names.entry(relation.name.clone()).or_default().push(relation.id);
        self.relations.insert(relation.id, relation);
    }

    pub(super) fn remove(&mut self, id: RelationId) -> Option<Relation> {
        self.version += 1;
        let relation = self.relations.remove(&id)?;
        if let Some(ids) = self.names.get_mut(&relation.name) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.names.remove(&relation.name);
            }
        }
        Some(relation)
    }

    pub(super) fn get(&self, id: RelationId) -> Option<&Relation> {
        self.relations.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: RelationId) -> Option<&mut Relation> {
        self.relations.get_mut(&id)
    }

    /// A table that is known to be one.
    pub(super) fn table(&self, id: RelationId) -> &Table {
        self.relations.get(&id).and_then(Relation::table).expect("a locked table exists")
    }

    /// As [`Catalog::table`].
    pub(super) fn table_mut(&mut self, id: RelationId) -> &mut Table {
        match self.relations.get_mut(&id).map(|relation| &mut relation.kind) {
            Some(RelationKind::Table(table)) => table,
            _ => panic!("a locked table exists"),
        }
    }

    /// As [`Catalog::table_mut`], for cleaning up after what may be gone.
    pub(super) fn heap_mut(&mut self, id: RelationId) -> Option<&mut Heap> {
        match self.relations.get_mut(&id).map(|relation| &mut relation.kind) {
            Some(RelationKind::Table(table)) => Some(&mut table.heap),
            _ => None,
        }
    }

    /// The relation that a name means to a session: its temporary one first.
    pub(super) fn find(&self, database: &str, pid: Pid, name: &str, schema: Option<&str>) -> Option<&Relation> {
        let candidates = self.names.get(name)?.iter().filter_map(|id| self.relations.get(id));
        let mut found: Option<&Relation> = None;
        for relation in candidates {
            let wanted = match schema {
                None => true,
                Some("public") => relation.temporary.is_none(),
                Some("pg_temp") => relation.temporary.is_some(),
                Some(_) => false,
            };
            if wanted && &*relation.database == database && relation.visible(pid) {
                if relation.temporary.is_some() {
                    return Some(relation);
                }
                found = Some(relation);
            }
        }
        found
    }

    /// A relation of this name and persistence that another running transaction made: who to wait for.
    pub(super) fn made_elsewhere(&self, database: &str, pid: Pid, name: &str) -> Option<Xid> {
        self.names.get(name)?.iter().filter_map(|id| self.relations.get(id)).find_map(|relation| {
            let (by, xid) = relation.made_by?;
            (by != pid && &*relation.database == database && relation.temporary.is_none()).then_some(xid)
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Relation> {
        self.relations.values()
    }

    /// The ids of a session's temporary relations.
    pub(super) fn temporaries(&self, pid: Pid) -> Vec<RelationId> {
        self.relations.values().filter(|relation| relation.temporary == Some(pid)).map(|relation| relation.id).collect()
    }

    pub(super) fn ids(&self) -> Vec<RelationId> {
        self.relations.keys().copied().collect()
    }
}
