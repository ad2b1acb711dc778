//! INSERT, UPDATE and DELETE: first all changes are computed and the rows to be changed are locked, then they are applied
//! one by one; a change that has to wait for a unique key is taken up where it stopped.

use std::sync::Arc;

use super::super::super::error::{ObjectFields, PgError, SqlState};
use super::super::super::locks::{RelationId, TupleId};
use super::super::engine::Undo;
use super::super::eval::{Context, Env, Flow, shown, truth};
use super::super::heap::{RowLock, Stamp, key_of};
use super::super::plan::{Conflict, InsertSource, Node, Returning, RowPatience, Target};
use super::super::session::Doing;
use super::super::value::Value;
use super::select::{RowOutcome, Values};

/// One change to be applied.
#[derive(Debug)]
pub(in super::super) enum Change {
    Insert(Vec<Value>),
    /// The row, its new values, and for RETURNING the whole row (the target's columns are replaced).
    Update(TupleId, Arc<[Value]>, Vec<Value>),
    Delete(TupleId, Vec<Value>),
}

pub(super) fn returning(node: &Node) -> Option<&Returning> {
    match node {
        Node::Insert(insert) => insert.returning.as_ref(),
        Node::Update(update) => update.returning.as_ref(),
        Node::Delete(delete) => delete.returning.as_ref(),
        Node::Select(_) => None,
    }
}

impl Context<'_> {
    /// What the statement is going to do.
    pub(super) fn changes(&mut self, node: &Node) -> Flow<Vec<Change>> {
        match node {
            Node::Insert(insert) => {
                let mut changes = Vec::new();
                match &insert.rows {
                    InsertSource::Rows(rows) => {
                        for row in rows {
                            changes.push(Change::Insert(self.project(row, &[])?));
                        }
                    }
                    InsertSource::Query(select, columns) => {
                        for row in self.select(select, None, None)? {
                            changes.push(Change::Insert(self.project(columns, &row)?));
                        }
                    }
                }
                Ok(changes)
            }
            Node::Update(update) => {
                let targets = self.targets(update.id, &update.target, update.strength, Doing::Updating)?;
                let width = self.engine.catalog.table(update.id).columns.len();
                let mut changes = Vec::with_capacity(targets.len());
                for (tuple, row) in targets {
                    let env = Env { row: &row, outer: None };
                    let mut whole = row.to_vec();
                    for (column, expr) in &update.assignments {
                        let value = self.eval(expr, &env)?;
                        whole[*column] = value;
                    }
                    let (values, whole) = if update.returning.is_none() && whole.len() == width {
                        (Arc::from(whole), Vec::new())
                    } else {
                        (Arc::from(&whole[..width]), whole)
                    };
                    changes.push(Change::Update(tuple, values, whole));
                }
                Ok(changes)
            }
            Node::Delete(delete) => {
                let targets = self.targets(delete.id, &delete.target, RowLock::Update, Doing::Deleting)?;
                Ok(targets.into_iter().map(|(tuple, row)| Change::Delete(tuple, row.to_vec())).collect())
            }
            Node::Select(_) => unreachable!("a query changes nothing"),
        }
    }

    /// The rows to change, locked, as they are now; each once.
    fn targets(
        &mut self,
        id: RelationId,
        target: &Target,
        strength: RowLock,
        doing: impl Fn(RelationId, TupleId) -> Doing,
    ) -> Flow<Vec<(TupleId, Values)>> {
        let candidates = self.table_rows(id, &target.access, None)?;
        let others = match &target.others {
            None => None,
            Some(source) => Some(self.scan(source, None, false, &mut 0)?),
        };
        let mut out = Vec::with_capacity(candidates.len().min(16));
        for (tuple, values) in candidates {
            let Some(matched) = self.matches(target, &values, others.as_deref())? else {
                continue;
            };
            match self.lock_row(id, tuple, strength, RowPatience::Wait, &doing)? {
                RowOutcome::Same => out.push((tuple, matched)),
                RowOutcome::Gone | RowOutcome::Skipped => {}
                RowOutcome::Changed(values) => {
                    let values = self.padded(id, &values);
                    if let Some(matched) = self.matches(target, &values, others.as_deref())? {
                        out.push((tuple, matched));
                    }
                }
            }
        }
        Ok(out)
    }

    /// The row joined with the first of the others that passes WHERE.
    fn matches(
        &mut self,
        target: &Target,
        values: &Values,
        others: Option<&[super::select::Tuple]>,
    ) -> Flow<Option<Values>> {
        let Some(others) = others else {
            let passes = match &target.filter {
                Some(filter) => truth(&self.eval(filter, &Env { row: values, outer: None })?) == Some(true),
                None => true,
            };
            return Ok(passes.then(|| values.clone()));
        };
        for other in others {
            let mut row = values.to_vec();
            row.extend_from_slice(&other.values);
            let passes = match &target.filter {
                Some(filter) => truth(&self.eval(filter, &Env { row: &row, outer: None })?) == Some(true),
                None => true,
            };
            if passes {
                return Ok(Some(Values::Owned(row)));
            }
        }
        Ok(None)
    }

    /// Lets a change take effect. Gives the row for RETURNING, or None when ON CONFLICT passed it over.
    pub(super) fn apply(&mut self, node: &Node, change: &Change) -> Flow<Option<Vec<Value>>> {
        match (node, change) {
            (Node::Insert(insert), Change::Insert(values)) => self.insert(insert.id, values, insert.conflict.as_ref()),
            (Node::Update(update), Change::Update(tuple, values, whole)) => {
                self.update(update.id, *tuple, values.clone())?;
                Ok(Some(whole.clone()))
            }
            (Node::Delete(delete), Change::Delete(tuple, row)) => {
                let stamp = self.stamp();
                let heap = &mut self.engine.catalog.table_mut(delete.id).heap;
                heap.delete(*tuple, stamp);
                self.engine.log(self.session.pid, Undo::Delete { table: delete.id, tuple: *tuple });
                Ok(Some(row.clone()))
            }
            _ => unreachable!("a change belongs to its statement"),
        }
    }

    fn stamp(&mut self) -> Stamp {
        let xid = self.engine.assign_xid(self.session);
        Stamp::Pending { pid: self.session.pid, xid, command: self.view.command }
    }

    fn insert(&mut self, id: RelationId, values: &[Value], conflict: Option<&Conflict>) -> Flow<Option<Vec<Value>>> {
        self.check_row(id, values)?;
        if conflict.is_none() {
            // `heap_insert` begins with it; ON CONFLICT looks at the indexes before.
            self.engine.assign_xid(self.session);
        }
        loop {
            let only = match conflict {
                Some(conflict) if !conflict.indexes.is_empty() => Some(&conflict.indexes[..]),
                _ => None,
            };
            // What ON CONFLICT speaks of comes first; other indexes fail as ever.
            let arbiter = match conflict {
                Some(_) => self.duplicate(id, values, None, only, true)?,
                None => None,
            };
            let Some((_, there)) = arbiter else { break };
            let Some(Conflict { update: Some((assignments, condition)), .. }) = conflict else {
                self.serializable(id, there)?;
                return Ok(None);
            };
            let key = self.engine.catalog.table(id).indexes.iter().any(|index| {
                index.unique && !index.dropped && index.columns.iter().any(|c| assignments.iter().any(|(a, _)| a == c))
            });
            let strength = if key { RowLock::Update } else { RowLock::NoKeyUpdate };
            let outcome = self.lock_row(id, there, strength, RowPatience::Wait, Doing::Locking)?;
            let current = match outcome {
                RowOutcome::Same => {
                    let row = self.engine.catalog.table(id).heap.row(there).expect("just locked");
                    row.newest().values.clone()
                }
                RowOutcome::Changed(values) => values,
                RowOutcome::Skipped => return Ok(None),
                RowOutcome::Gone => {
                    let mine = self.engine.catalog.table(id).heap.row(there).is_some_and(|row| {
                        matches!(row.newest().made, Stamp::Pending { pid, .. } if pid == self.session.pid)
                            && row.newest().ended.is_none()
                    });
                    if mine {
                        return Err(PgError::error(
                            SqlState::CARDINALITY_VIOLATION,
                            "ON CONFLICT DO UPDATE command cannot affect row a second time",
                        )
                        .hint("Ensure that no rows proposed for insertion within the same command have duplicate constrained values.")
                        .into());
                    }
                    // It was deleted while we waited: try again.
                    continue;
                }
            };
            let mut row = self.padded(id, &current).to_vec();
            let width = row.len();
            row.extend_from_slice(values);
            let env = Env { row: &row, outer: None };
            if let Some(condition) = condition
                && truth(&self.eval(condition, &env)?) != Some(true)
            {
                return Ok(None);
            }
            let mut changed = row[..width].to_vec();
            for (column, expr) in assignments {
                changed[*column] = self.eval(expr, &env)?;
            }
            self.update(id, there, Arc::from(&changed[..]))?;
            return Ok(Some(changed));
        }
        if let Some((index, _)) = self.duplicate(id, values, None, None, false)? {
            return Err(self.duplicate_key(id, index, values).into());
        }
        let stamp = self.stamp();
        let tuple = self.engine.catalog.table_mut(id).heap.insert(values.into(), stamp);
        self.engine.log(self.session.pid, Undo::Version { table: id, tuple });
        Ok(Some(values.to_vec()))
    }

    /// ON CONFLICT DO NOTHING over a row that a repeatable-read snapshot does not see.
    fn serializable(&self, id: RelationId, tuple: TupleId) -> Flow<()> {
        if !self.session.transaction.isolation.one_snapshot() {
            return Ok(());
        }
        let unseen =
            self.engine.catalog.table(id).heap.row(tuple).is_some_and(
                |row| matches!(row.newest().made, Stamp::Committed(number) if number > self.view.snapshot),
            );
        if unseen {
            return Err(PgError::error(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .into());
        }
        Ok(())
    }

    fn update(&mut self, id: RelationId, tuple: TupleId, values: Arc<[Value]>) -> Flow<()> {
        self.check_row(id, &values)?;
        if let Some((index, _)) = self.duplicate(id, &values, Some(tuple), None, false)? {
            return Err(self.duplicate_key(id, index, &values).into());
        }
        let stamp = self.stamp();
        self.engine.catalog.table_mut(id).heap.update(tuple, values, stamp);
        self.engine.log(self.session.pid, Undo::Version { table: id, tuple });
        Ok(())
    }

    /// A live row with the same key in a unique index; waits for transactions that may yet make or remove one.
    fn duplicate(
        &mut self,
        id: RelationId,
        values: &[Value],
        own: Option<TupleId>,
        only: Option<&[usize]>,
        arbiter: bool,
    ) -> Flow<Option<(usize, TupleId)>> {
        'again: loop {
            let me = self.session.pid;
            let table = self.engine.catalog.table(id);
            for (position, index) in table.indexes.iter().enumerate() {
                if !index.unique || index.dropped || only.is_some_and(|only| !only.contains(&position)) {
                    continue;
                }
                let key = key_of(&index.columns, values);
                if key.has_null() {
                    continue;
                }
                for tuple in table.heap.indexes[position].1.get(&key) {
                    if own == Some(*tuple) {
                        continue;
                    }
                    let Some(row) = table.heap.row(*tuple) else {
                        continue;
                    };
                    for version in &row.versions {
                        if key_of(&index.columns, &version.values) != key {
                            continue;
                        }
                        let pending = match (version.made, version.ended) {
                            (Stamp::Pending { pid, xid, .. }, None) if pid != me => Some(xid),
                            (_, Some(Stamp::Pending { pid, xid, .. })) if pid != me => Some(xid),
                            (_, Some(_)) => continue,
                            (_, None) => return Ok(Some((position, *tuple))),
                        };
                        if let Some(xid) = pending {
                            let doing = match arbiter {
                                true => Doing::Inserting(id, *tuple, None),
                                false => Doing::Inserting(id, table.heap.next_id(), Some(position)),
                            };
                            self.engine.wait_for(self.session, xid, Some(doing))?;
                            continue 'again;
                        }
                    }
                }
            }
            return Ok(None);
        }
    }

    fn object(&self, id: RelationId, constraint: Option<&str>, column: Option<&str>) -> Option<Box<ObjectFields>> {
        let relation = self.engine.catalog.get(id)?;
        let schema =
            if relation.temporary.is_some() { format!("pg_temp_{}", self.session.pid) } else { "public".to_owned() };
        Some(Box::new(ObjectFields {
            schema,
            table: relation.name.to_string(),
            column: column.map(str::to_owned),
            constraint: constraint.map(str::to_owned),
        }))
    }

    fn duplicate_key(&self, id: RelationId, index: usize, values: &[Value]) -> PgError {
        let table = self.engine.catalog.table(id);
        let index = &table.indexes[index];
        let names: Vec<&str> = index.columns.iter().map(|column| &*table.columns[*column].name).collect();
        let parts: Vec<String> =
            index.columns.iter().map(|column| shown(&values[*column], table.columns[*column].kind)).collect();
        let mut error = PgError::error(
            SqlState::UNIQUE_VIOLATION,
            format!("duplicate key value violates unique constraint \"{}\"", index.name),
        )
        .detail(format!("Key ({})=({}) already exists.", names.join(", "), parts.join(", ")));
        error.object = self.object(id, Some(&index.name), None);
        error
    }

    /// NOT NULL and CHECK.
    fn check_row(&mut self, id: RelationId, values: &[Value]) -> Flow<()> {
        let table = self.engine.catalog.table(id);
        let failing = || {
            let parts: Vec<String> = table
                .columns
                .iter()
                .zip(values)
                .filter(|(column, _)| !column.dropped)
                .map(|(column, value)| {
                    let mut part = shown(value, column.kind);
                    if part.len() > 64 {
                        let mut end = 64;
                        while !part.is_char_boundary(end) {
                            end -= 1;
                        }
                        part.truncate(end);
                        part.push_str("...");
                    }
                    part
                })
                .collect();
            format!("Failing row contains ({}).", parts.join(", "))
        };
        let name = || self.engine.catalog.get(id).expect("a locked table exists").name.clone();
        for (column, value) in table.columns.iter().zip(values) {
            if column.not_null && !column.dropped && value.is_null() {
                let mut error = PgError::error(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                        column.name,
                        name()
                    ),
                )
                .detail(failing());
                error.object = self.object(id, None, Some(&column.name));
                return Err(error.into());
            }
        }
        if table.checks.is_empty() {
            return Ok(());
        }
        let (name, detail) = (name(), failing());
        let checks = table.checks.clone();
        for check in checks {
            let passes = truth(&self.eval(&check.expr, &Env { row: values, outer: None })?);
            if passes == Some(false) {
                let mut error = PgError::error(
                    SqlState::CHECK_VIOLATION,
                    format!("new row for relation \"{name}\" violates check constraint \"{}\"", check.name),
                )
                .detail(detail);
                error.object = self.object(id, Some(&check.name), None);
                return Err(error.into());
            }
        }
        Ok(())
    }
}
