//! Queries are read from their sources: rows by index or by scan, nested-loop joins, groups, sorting, and row locks.
//!
//! What needs no collecting is streamed: a row is filtered, computed and locked before the next one is looked at, so that
//! an error, or LIMIT, ends the query behind the rows before it. A join's pairs are made before any of them is filtered.
//!
//! As in PostgreSQL, rows are locked after sorting and before LIMIT. A row that changed between the snapshot and its lock is
//! read anew and must pass WHERE again (EvalPlanQual); a join's ON is not checked again.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use super::super::super::error::{PgError, SqlState};
use super::super::super::locks::{Mode, RelationId, Tag, TupleId};
use super::super::engine::Undo;
use super::super::eval::{Context, Env, Flow, Stop, truth};
use super::super::heap::{Key, Locker, RowLock, Stamp};
use super::super::numeric::Decimal;
use super::super::plan::{
    Access, Aggregate, AggregateFunction, Expr, Grouping, RowPatience, Select, SetOperation, Source,
};
use super::super::session::Doing;
use super::super::types::Type;
use super::super::value::{Value, text};

/// A row's values, shared with the heap where possible.
#[derive(Debug, Clone)]
pub(super) enum Values {
    Shared(Arc<[Value]>),
    Owned(Vec<Value>),
}

impl Deref for Values {
    type Target = [Value];
    fn deref(&self) -> &[Value] {
        match self {
            Values::Shared(values) => values,
            Values::Owned(values) => values,
        }
    }
}

/// A row of FROM, with the heap's rows it was made of (when they are to be locked).
#[derive(Debug, Clone)]
pub(super) struct Tuple {
    pub(super) values: Values,
    ids: Vec<(usize, TupleId)>,
}

/// Where a query's rows go: OFFSET skips the first, LIMIT lets no more in.
struct Sink<'a> {
    skip: usize,
    room: usize,
    rows: &'a mut Vec<Vec<Value>>,
}

impl Sink<'_> {
    fn push(&mut self, row: Vec<Value>) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if self.room > 0 {
            self.room -= 1;
            self.rows.push(row);
        }
    }
}

/// The answer to a request for a row lock.
#[derive(Debug)]
pub(super) enum RowOutcome {
    /// Locked; it is what the snapshot shows.
    Same,
    /// Locked; it changed since, to this.
    Changed(Arc<[Value]>),
    /// Deleted since, or changed by this same statement.
    Gone,
    /// SKIP LOCKED.
    Skipped,
}

/// Rows under an index key or all, visible to the statement.
impl Context<'_> {
    /// The table's visible rows.
    pub(super) fn table_rows(
        &mut self,
        id: RelationId,
        access: &Access,
        outer: Option<&Env<'_>>,
    ) -> Flow<Vec<(TupleId, Values)>> {
        let key = match access {
            Access::All => None,
            Access::Index { index, key } => {
                let env = Env { row: &[], outer };
                let key = match &key[..] {
                    [one] => Key::One(self.eval(one, &env)?),
                    many => Key::from_values(many.iter().map(|part| self.eval(part, &env)).collect::<Flow<Vec<_>>>()?),
                };
                if key.has_null() {
                    return Ok(Vec::new());
                }
                Some((*index, key))
            }
        };
        let view = self.view;
        let table = self.engine.catalog.table(id);
        let width = table.columns.len();
        let pad = |values: &Arc<[Value]>| {
            if values.len() == width {
                return Values::Shared(values.clone());
            }
            // The row is older than the table's last columns.
            let mut padded = values.to_vec();
            padded.extend(table.columns[values.len()..].iter().map(|column| column.missing.clone()));
            Values::Owned(padded)
        };
        let mut found = Vec::new();
        match key {
            Some((index, key)) => {
                for tuple in table.heap.indexes[index].1.get(&key) {
                    if let Some(version) = table.heap.row(*tuple).and_then(|row| row.visible(view)) {
                        found.push((*tuple, pad(&version.values)));
                    }
                }
            }
            None => {
                for (tuple, row) in table.heap.iter() {
                    if let Some(version) = row.visible(view) {
                        found.push((tuple, pad(&version.values)));
                    }
                }
            }
        }
        self.rows_read += found.len() as u64;
        Ok(found)
    }

    /// A row of the table as it is now, padded to the table's width.
    pub(super) fn padded(&self, id: RelationId, values: &Arc<[Value]>) -> Values {
        let table = self.engine.catalog.table(id);
        if values.len() == table.columns.len() {
            return Values::Shared(values.clone());
        }
        let mut padded = values.to_vec();
        padded.extend(table.columns[values.len()..].iter().map(|column| column.missing.clone()));
        Values::Owned(padded)
    }

    pub(super) fn scan(
        &mut self,
        source: &Source,
        outer: Option<&Env<'_>>,
        ids: bool,
        leaf: &mut usize,
    ) -> Flow<Vec<Tuple>> {
        let place = *leaf;
        if !matches!(source, Source::Join { .. }) {
            *leaf += 1;
        }
        let owned = |values: Vec<Value>| Tuple { values: Values::Owned(values), ids: Vec::new() };
        let env = Env { row: &[], outer };
        Ok(match source {
            Source::Nothing => vec![owned(Vec::new())],
            Source::Table { id, access, .. } => self
                .table_rows(*id, access, outer)?
                .into_iter()
                .map(|(tuple, values)| Tuple { values, ids: if ids { vec![(place, tuple)] } else { Vec::new() } })
                .collect(),
            Source::System { view, .. } => {
                let rows = view.rows(self.engine, self.session, self.host);
                self.rows_read += rows.len() as u64;
                rows.into_iter().map(owned).collect()
            }
            Source::Series { start, stop, step } => {
                let bounds = (self.eval(start, &env)?, self.eval(stop, &env)?);
                let step = match step {
                    Some(step) => self.eval(step, &env)?,
                    None => Value::Int(1),
                };
                let ((Value::Int(start), Value::Int(stop)), Value::Int(step)) = (bounds, step) else {
                    return Ok(Vec::new());
                };
                if step == 0 {
                    return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, "step size cannot equal zero").into());
                }
                let mut rows = Vec::new();
                let mut at = start;
                while (step > 0 && at <= stop) || (step < 0 && at >= stop) {
                    rows.push(owned(vec![Value::Int(at)]));
                    match at.checked_add(step) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
                self.rows_read += rows.len() as u64;
                rows
            }
            Source::Unnest(array) => match self.eval(array, &env)? {
                Value::Array(items) => items.iter().map(|item| owned(vec![item.clone()])).collect(),
                _ => Vec::new(),
            },
            Source::Function(call) => vec![owned(vec![self.eval(call, &env)?])],
            Source::Query(select) => self.select(select, outer, None)?.into_iter().map(owned).collect(),
            Source::Values { rows, .. } => {
                let mut out = Vec::with_capacity(rows.len());
                for row in rows {
                    out.push(owned(row.iter().map(|expr| self.eval(expr, &env)).collect::<Flow<_>>()?));
                }
                out
            }
            Source::Join { left, right, left_outer, on } => {
                let width = right.width();
                let lefts = self.scan(left, outer, ids, leaf)?;
                let rights = self.scan(right, outer, ids, leaf)?;
                let mut out = Vec::new();
                for left in &lefts {
                    let mut matched = false;
                    for right in &rights {
                        let mut row = Vec::with_capacity(left.values.len() + width);
                        row.extend_from_slice(&left.values);
                        row.extend_from_slice(&right.values);
                        if let Some(on) = on
                            && truth(&self.eval(on, &Env { row: &row, outer })?) != Some(true)
                        {
                            continue;
                        }
                        matched = true;
                        let ids = left.ids.iter().chain(&right.ids).copied().collect();
                        out.push(Tuple { values: Values::Owned(row), ids });
                    }
                    if *left_outer && !matched {
                        let mut row = left.values.to_vec();
                        row.resize(row.len() + width, Value::Null);
                        out.push(Tuple { values: Values::Owned(row), ids: left.ids.clone() });
                    }
                }
                out
            }
        })
    }

    pub(super) fn project(&mut self, output: &[Expr], row: &[Value]) -> Flow<Vec<Value>> {
        let env = Env { row, outer: None };
        self.project_in(output, &env)
    }

    fn project_in(&mut self, output: &[Expr], env: &Env<'_>) -> Flow<Vec<Value>> {
        let mut row = Vec::with_capacity(output.len());
        for expr in output {
            row.push(self.eval(expr, env)?);
        }
        Ok(row)
    }

    fn count(&mut self, expr: Option<&Expr>, outer: Option<&Env<'_>>, clause: &str) -> Flow<Option<usize>> {
        let Some(expr) = expr else { return Ok(None) };
        match self.eval(expr, &Env { row: &[], outer })? {
            Value::Int(count) => match usize::try_from(count) {
                Ok(count) => Ok(Some(count)),
                Err(_) => {
                    let code = if clause == "LIMIT" { "2201W" } else { "2201X" };
                    Err(PgError::error(SqlState(code), format!("{clause} must not be negative")).into())
                }
            },
            _ => Ok(None),
        }
    }

    /// The rows of a query. `enough`: how many the caller wants at most.
    pub(in super::super) fn select(
        &mut self,
        select: &Select,
        outer: Option<&Env<'_>>,
        enough: Option<usize>,
    ) -> Flow<Vec<Vec<Value>>> {
        let mut rows = Vec::new();
        self.select_into(select, outer, enough, &mut rows)?;
        Ok(rows)
    }

    /// Appends the rows of a query. After an error those are there that PostgreSQL's executor returned before it: all
    /// before the failing one, or none where it collects its input first (sorting, grouping, DISTINCT, UNION). Nothing
    /// is evaluated beyond the last row that is wanted.
    pub(in super::super) fn select_into(
        &mut self,
        select: &Select,
        outer: Option<&Env<'_>>,
        enough: Option<usize>,
        out: &mut Vec<Vec<Value>>,
    ) -> Flow<()> {
        let offset = self.count(select.offset.as_ref(), outer, "OFFSET")?.unwrap_or(0);
        let limit = self.count(select.limit.as_ref(), outer, "LIMIT")?;
        let most = match (limit, enough) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let appends = |(operation, _): &(SetOperation, Select)| *operation == SetOperation::Union { all: true };
        let streams =
            select.grouping.is_none() && select.sort.is_empty() && !select.distinct && select.union.iter().all(appends);
        if streams {
            let mut sink = Sink { skip: offset, room: most.unwrap_or(usize::MAX), rows: out };
            self.stream(select, outer, &mut sink)
        } else {
            let last = most.map(|most| most.saturating_add(offset));
            let rows = self.collect(select, outer, last)?;
            out.extend(rows.into_iter().skip(offset));
            Ok(())
        }
    }

    /// Row by row, from the source to the sink.
    fn stream(&mut self, select: &Select, outer: Option<&Env<'_>>, sink: &mut Sink<'_>) -> Flow<()> {
        if sink.room == 0 {
            return Ok(());
        }
        let visible = select.columns.len();
        let locks = !select.locking.is_empty();
        // The error of a source that streams, after the rows that it gave before.
        let mut end = Ok(());
        let tuples = match &select.source {
            Source::Nothing if select.filter.is_none() && select.union.is_empty() => {
                let row = self.project_in(&select.output, &Env { row: &[], outer })?;
                sink.push(row);
                return Ok(());
            }
            Source::Table { id, access: access @ Access::Index { .. }, .. } if !locks => {
                let found = self.table_rows(*id, access, outer)?;
                // The hot case: one row by its key, without lists of rows in between.
                if let ([(_, values)], true) = (&found[..], select.union.is_empty()) {
                    let env = Env { row: values, outer };
                    if self.passes(select.filter.as_ref(), &env)? {
                        sink.push(self.project_in(&select.output, &env)?);
                    }
                    return Ok(());
                }
                found.into_iter().map(|(_, values)| Tuple { values, ids: Vec::new() }).collect()
            }
            Source::Query(inner) => {
                let mut rows = Vec::new();
                end = self.select_into(inner, outer, None, &mut rows);
                if matches!(end, Err(Stop::Wait)) {
                    return end;
                }
                rows.into_iter().map(|row| Tuple { values: Values::Owned(row), ids: Vec::new() }).collect()
            }
            source => self.scan(source, outer, locks, &mut 0)?,
        };
        for tuple in tuples {
            if sink.room == 0 {
                return Ok(());
            }
            let env = Env { row: &tuple.values, outer };
            if !self.passes(select.filter.as_ref(), &env)? {
                continue;
            }
            let mut row = self.project_in(&select.output, &env)?;
            if locks {
                match self.lock_tuple(select, tuple, outer)? {
                    None => continue,
                    Some(None) => {}
                    Some(Some(changed)) => row = changed,
                }
            }
            row.truncate(visible);
            sink.push(row);
        }
        for (_, other) in &select.union {
            if sink.room == 0 {
                return Ok(());
            }
            end?;
            let mut rows = Vec::new();
            end = self.select_into(other, outer, Some(sink.skip.saturating_add(sink.room)), &mut rows);
            rows.into_iter().for_each(|row| sink.push(row));
        }
        if sink.room == 0 { Ok(()) } else { end }
    }

    fn passes(&mut self, filter: Option<&Expr>, env: &Env<'_>) -> Flow<bool> {
        match filter {
            Some(filter) => Ok(truth(&self.eval(filter, env)?) == Some(true)),
            None => Ok(true),
        }
    }

    /// The first `last` rows of a query that collects its input before it returns anything.
    fn collect(&mut self, select: &Select, outer: Option<&Env<'_>>, last: Option<usize>) -> Flow<Vec<Vec<Value>>> {
        let visible = select.columns.len();
        let mut tuples = self.scan(&select.source, outer, !select.locking.is_empty(), &mut 0)?;
        if let Some(filter) = &select.filter {
            let mut kept = Vec::with_capacity(tuples.len().min(16));
            for tuple in tuples {
                if truth(&self.eval(filter, &Env { row: &tuple.values, outer })?) == Some(true) {
                    kept.push(tuple);
                }
            }
            tuples = kept;
        }
        if let Some(grouping) = &select.grouping {
            tuples = self.group(grouping, tuples, outer)?;
        }
        let mut rows: Vec<(Vec<Value>, Tuple)> = Vec::with_capacity(tuples.len());
        for tuple in tuples {
            let row = self.project_in(&select.output, &Env { row: &tuple.values, outer })?;
            rows.push((row, tuple));
        }
        for (operation, other) in &select.union {
            let others = self.select(other, outer, None)?;
            combine(*operation, &mut rows, others);
        }
        if select.distinct {
            distinct(&mut rows);
        }
        if !select.sort.is_empty() {
            rows.sort_by(|(a, _), (b, _)| {
                for key in &select.sort {
                    let (x, y) = (&a[key.column], &b[key.column]);
                    let order = match (x.is_null(), y.is_null()) {
                        (true, true) => Ordering::Equal,
                        (true, false) => {
                            if key.nulls_first {
                                Ordering::Less
                            } else {
                                Ordering::Greater
                            }
                        }
                        (false, true) => {
                            if key.nulls_first {
                                Ordering::Greater
                            } else {
                                Ordering::Less
                            }
                        }
                        _ => {
                            if key.descending {
                                y.order(x)
                            } else {
                                x.order(y)
                            }
                        }
                    };
                    if order.is_ne() {
                        return order;
                    }
                }
                Ordering::Equal
            });
        }
        let mut out = Vec::new();
        for (mut row, tuple) in rows {
            if last.is_some_and(|last| out.len() >= last) {
                break;
            }
            if !select.locking.is_empty() {
                match self.lock_tuple(select, tuple, outer)? {
                    None => continue,
                    Some(None) => {}
                    Some(Some(changed)) => row = changed,
                }
            }
            row.truncate(visible);
            out.push(row);
        }
        Ok(out)
    }

    /// Locks the rows that an output row was made of. None: the row drops out; Some(Some(…)): it changed to this.
    fn lock_tuple(
        &mut self,
        select: &Select,
        mut tuple: Tuple,
        outer: Option<&Env<'_>>,
    ) -> Flow<Option<Option<Vec<Value>>>> {
        let mut changed = false;
        for locking in &select.locking {
            let Some((_, id)) = tuple.ids.iter().find(|(source, _)| *source == locking.source) else {
                continue;
            };
            match self.lock_row(locking.id, *id, locking.strength, locking.patience, Doing::Locking)? {
                RowOutcome::Same => {}
                RowOutcome::Gone | RowOutcome::Skipped => return Ok(None),
                RowOutcome::Changed(values) => {
                    changed = true;
                    let values = self.padded(locking.id, &values);
                    let mut row = tuple.values.to_vec();
                    row[locking.offset..locking.offset + values.len()].clone_from_slice(&values);
                    tuple.values = Values::Owned(row);
                }
            }
        }
        if !changed {
            return Ok(Some(None));
        }
        let env = Env { row: &tuple.values, outer };
        if let Some(filter) = &select.filter
            && truth(&self.eval(filter, &env)?) != Some(true)
        {
            return Ok(None);
        }
        Ok(Some(Some(self.project_in(&select.output, &env)?)))
    }

    /// Takes a row lock, waiting for those who hold one that conflicts, first come first served.
    pub(super) fn lock_row(
        &mut self,
        id: RelationId,
        tuple: TupleId,
        strength: RowLock,
        patience: RowPatience,
        doing: impl Fn(RelationId, TupleId) -> Doing,
    ) -> Flow<RowOutcome> {
        loop {
            let me = self.session.pid;
            let Some(row) = self.engine.catalog.table(id).heap.row(tuple) else {
                return Ok(RowOutcome::Gone);
            };
            let in_the_way = row.lockers.iter().find(|l| l.pid != me && l.strength.conflicts(strength)).copied();
            if let Some(Locker { xid, .. }) = in_the_way {
                // One of several lockers already: it does not queue behind those who wait for it.
                let is_locker = row.lockers.iter().any(|locker| locker.pid == me);
                match patience {
                    RowPatience::SkipLocked => return Ok(RowOutcome::Skipped),
                    RowPatience::NoWait => {
                        let name = &self.engine.catalog.get(id).expect("a locked table exists").name;
                        return Err(PgError::error(
                            SqlState::LOCK_NOT_AVAILABLE,
                            format!("could not obtain lock on row in relation \"{name}\""),
                        )
                        .into());
                    }
                    RowPatience::Wait => {}
                }
                // The lock on the tuple keeps the place in the queue while the transaction ahead is waited for.
                let mode = match strength {
                    RowLock::KeyShare => Mode::AccessShare,
                    RowLock::Share => Mode::RowShare,
                    RowLock::NoKeyUpdate => Mode::Exclusive,
                    RowLock::Update => Mode::AccessExclusive,
                };
                let tag = Tag::Tuple(id, tuple);
                let doing = doing(id, tuple);
                if matches!(doing, Doing::Updating(..) | Doing::Deleting(..)) {
                    // `heap_update` and `heap_delete` begin with it.
                    self.engine.assign_xid(self.session);
                }
                if !is_locker && self.session.row_queue != Some((tag, mode)) {
                    self.engine.leave_row_queue(self.session);
                    self.engine.lock(me, tag, mode)?;
                    self.session.row_queue = Some((tag, mode));
                }
                self.engine.wait_for(self.session, xid, Some(doing))?;
                continue;
            }
            // What others are about to write is not there yet; a lock may go along with it (FOR KEY SHARE).
            let theirs = |stamp: Stamp| matches!(stamp, Stamp::Pending { pid, .. } if pid != me);
            let Some(newest) = row.versions.iter().rev().find(|version| !theirs(version.made)) else {
                return Ok(RowOutcome::Gone);
            };
            let ended = newest.ended.filter(|ended| !theirs(*ended));
            let snapshot = self.view.snapshot;
            let outcome = match (newest.made, ended) {
                (_, Some(_)) => RowOutcome::Gone,
                (Stamp::Committed(number), None) if number > snapshot => RowOutcome::Changed(newest.values.clone()),
                (Stamp::Pending { command, .. }, None) if command >= self.view.command => RowOutcome::Gone,
                _ => RowOutcome::Same,
            };
            if self.session.transaction.isolation.one_snapshot() {
                let concurrent = match (&outcome, ended) {
                    (RowOutcome::Changed(_), _) => Some("update"),
                    (RowOutcome::Gone, Some(Stamp::Committed(_))) => Some("delete"),
                    _ => None,
                };
                if let Some(what) = concurrent {
                    return Err(PgError::error(
                        SqlState::SERIALIZATION_FAILURE,
                        format!("could not serialize access due to concurrent {what}"),
                    )
                    .into());
                }
            }
            if matches!(outcome, RowOutcome::Same | RowOutcome::Changed(_)) {
                let held = row.lockers.iter().any(|locker| locker.pid == me && locker.strength >= strength);
                if !held {
                    let xid = self.engine.assign_xid(self.session);
                    let row = self.engine.catalog.table_mut(id).heap.row_mut(tuple).expect("it was just seen");
                    row.lockers.push(Locker { pid: me, xid, strength });
                    self.engine.log(self.session.pid, Undo::Lock { table: id, tuple, xid, strength });
                }
            }
            self.engine.leave_row_queue(self.session);
            return Ok(outcome);
        }
    }

    fn group(&mut self, grouping: &Grouping, tuples: Vec<Tuple>, outer: Option<&Env<'_>>) -> Flow<Vec<Tuple>> {
        let mut groups: Vec<(Vec<Value>, Vec<Tuple>)> = Vec::new();
        if grouping.keys.is_empty() {
            groups.push((Vec::new(), tuples));
        } else {
            let mut places: BTreeMap<Key, usize> = BTreeMap::new();
            for tuple in tuples {
                let key = self.project_in(&grouping.keys, &Env { row: &tuple.values, outer })?;
                let next = groups.len();
                let place = *places.entry(Key::from_values(key.clone())).or_insert(next);
                if place == next {
                    groups.push((key, Vec::new()));
                }
                groups[place].1.push(tuple);
            }
        }
        let mut out = Vec::new();
        for (mut row, members) in groups {
            for aggregate in &grouping.aggregates {
                let value = self.aggregate(aggregate, &members, outer)?;
                row.push(value);
            }
            if let Some(having) = &grouping.having
                && truth(&self.eval(having, &Env { row: &row, outer })?) != Some(true)
            {
                continue;
            }
            out.push(Tuple { values: Values::Owned(row), ids: Vec::new() });
        }
        Ok(out)
    }

    fn aggregate(&mut self, aggregate: &Aggregate, members: &[Tuple], outer: Option<&Env<'_>>) -> Flow<Value> {
        use AggregateFunction as F;
        let mut values = Vec::new();
        let mut separator = None;
        for member in members {
            let env = Env { row: &member.values, outer };
            if let Some(filter) = &aggregate.filter
                && truth(&self.eval(filter, &env)?) != Some(true)
            {
                continue;
            }
            let value = match &aggregate.argument {
                Some(argument) => self.eval(argument, &env)?,
                None => Value::Int(1),
            };
            if separator.is_none()
                && let Some(expr) = &aggregate.separator
            {
                separator = Some(self.eval(expr, &env)?);
            }
            if value.is_null() && aggregate.function != F::ArrayAgg {
                continue;
            }
            values.push(value);
        }
        if aggregate.distinct {
            values.sort_by(Value::order);
            values.dedup_by(|a, b| a.order(b).is_eq());
        }
        let count = i64::try_from(values.len()).unwrap_or(i64::MAX);
        if matches!(aggregate.function, F::CountRows | F::Count) {
            return Ok(Value::Int(count));
        }
        if values.is_empty() {
            return Ok(Value::Null);
        }
        Ok(match aggregate.function {
            F::Min => values.into_iter().min_by(Value::order).unwrap_or(Value::Null),
            F::Max => values.into_iter().max_by(Value::order).unwrap_or(Value::Null),
            F::BoolAnd => Value::Bool(values.iter().all(|value| truth(value) == Some(true))),
            F::BoolOr => Value::Bool(values.iter().any(|value| truth(value) == Some(true))),
            F::ArrayAgg => Value::Array(values.into()),
            F::StringAgg => {
                let separator = match &separator {
                    Some(Value::Text(separator)) => separator.to_string(),
                    _ => String::new(),
                };
                let parts: Vec<&str> = values.iter().map(|v| if let Value::Text(t) = v { &**t } else { "" }).collect();
                text(parts.join(&separator))
            }
            F::Sum | F::Avg => match aggregate.kind {
                Type::Int8 => {
                    let sum: i128 = values.iter().map(|v| if let Value::Int(v) = v { i128::from(*v) } else { 0 }).sum();
                    Value::Int(i64::try_from(sum).map_err(|_| super::super::value::out_of_range(Type::Int8))?)
                }
                Type::Interval => {
                    Value::Interval(values.iter().map(|v| if let Value::Interval(v) = v { *v } else { 0 }).sum())
                }
                Type::Float4 | Type::Float8 => {
                    let sum: f64 = values.iter().filter_map(Value::as_float).sum();
                    #[expect(clippy::cast_precision_loss, reason = "as PostgreSQL divides")]
                    Value::Float(if aggregate.function == F::Avg { sum / count as f64 } else { sum })
                }
                _ => {
                    let mut sum = Decimal::from_int(0);
                    for value in &values {
                        if let Some(value) = value.as_decimal() {
                            sum = sum.add(value)?;
                        }
                    }
                    if aggregate.function == F::Avg {
                        sum = sum.divide(Decimal::from_int(count))?;
                    }
                    Value::Numeric(sum.to_string().into())
                }
            },
            F::CountRows | F::Count => unreachable!("answered above"),
        })
    }
}

fn distinct(rows: &mut Vec<(Vec<Value>, Tuple)>) {
    let mut seen: BTreeMap<Key, ()> = BTreeMap::new();
    rows.retain(|(row, _)| seen.insert(Key::Many(row.clone().into()), ()).is_none());
}

fn combine(operation: SetOperation, rows: &mut Vec<(Vec<Value>, Tuple)>, others: Vec<Vec<Value>>) {
    let made = |row: Vec<Value>| (row, Tuple { values: Values::Owned(Vec::new()), ids: Vec::new() });
    match operation {
        SetOperation::Union { all } => {
            rows.extend(others.into_iter().map(made));
            if !all {
                distinct(rows);
            }
        }
        SetOperation::Intersect | SetOperation::Except => {
            let others: BTreeMap<Key, ()> = others.into_iter().map(|row| (Key::Many(row.into()), ())).collect();
            let wanted = operation == SetOperation::Intersect;
            rows.retain(|(row, _)| others.contains_key(&Key::Many(row.clone().into())) == wanted);
            distinct(rows);
        }
    }
}
