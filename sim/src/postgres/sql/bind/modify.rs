//! INSERT, UPDATE and DELETE.

use std::sync::Arc;

use sqlparser::ast::{self, AssignmentTarget, SetExpr, Spanned};

use super::super::super::locks::{Mode, RelationId};
use super::super::catalog::{Table, TableColumn};
use super::super::heap::RowLock;
use super::super::plan::{
    Access, Conflict, Delete, Expr, Insert, InsertSource, Node, Returning, Source, Target, Update,
};
use super::super::result::Column;
use super::super::script::at;
use super::super::value::Value;
use super::{Binder, From, Named, PgError, Scope, SqlState, fold, name_span, object_name};

type Made = (Node, Option<Arc<[Column]>>);

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

fn default_of(column: &TableColumn) -> Expr {
    match &column.default {
        Some(default) if !column.dropped => default.clone(),
        _ => Expr::Const(Value::Null, column.kind),
    }
}

impl<'a> Binder<'a> {
    fn table_of(&self, id: RelationId) -> &'a Table {
        self.catalog.get(id).and_then(super::Relation::table).expect("it was found")
    }

    /// The table's columns as a scope under an alias.
    fn table_scope(&mut self, id: RelationId, alias: &str) -> Scope {
        let table = self.table_of(id);
        let alias: Arc<str> = alias.into();
        let named = |column: Column| {
            let Column { name, kind, modifier, origin } = column;
            Named { table: alias.clone(), name, kind, modifier, origin, merged: false }
        };
        let columns = table.shown(id).into_iter().map(named).collect::<Vec<_>>();
        let width = columns.len();
        Scope { columns, tables: vec![From { alias, id: Some(id), offset: 0, width, view: None }] }
    }

    fn column_index(&self, id: RelationId, name: &ast::ObjectName, relation: &str) -> Result<usize, PgError> {
        let (_, bare) = object_name(name)?;
        let found = self.table_of(id).columns.iter().position(|column| !column.dropped && *column.name == *bare);
        found.ok_or_else(|| {
            let error = PgError::error(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{bare}\" of relation \"{relation}\" does not exist"),
            );
            at(error, self.position(name_span(name)))
        })
    }

    /// The expression as a value for a column, with the column's length and scale.
    fn assign_column(&mut self, expr: Expr, column: &TableColumn) -> Result<Expr, PgError> {
        let value = self.assign(expr, column.kind, &column.name)?;
        if column.limit.is_none() && column.precision.is_none() {
            return Ok(value);
        }
        Ok(Expr::Cast {
            expr: Box::new(value),
            kind: column.kind,
            limit: column.limit,
            precision: column.precision,
            explicit: false,
        })
    }

    fn assignments(
        &mut self,
        id: RelationId,
        relation: &str,
        assignments: &[ast::Assignment],
    ) -> Result<Vec<(usize, Expr)>, PgError> {
        let table = self.table_of(id);
        let mut out: Vec<(usize, Expr)> = Vec::new();
        for assignment in assignments {
            let AssignmentTarget::ColumnName(name) = &assignment.target else {
                return Err(PgError::unsupported("SET (a, b) = …"));
            };
            let index = self.column_index(id, name, relation)?;
            if out.iter().any(|(other, _)| *other == index) {
                return Err(PgError::error(
                    SqlState::SYNTAX_ERROR,
                    format!("multiple assignments to same column \"{}\"", table.columns[index].name),
                ));
            }
            let value = if is_default(&assignment.value) {
                default_of(&table.columns[index])
            } else {
                let bound = self.expr(&assignment.value)?;
                self.assign_column(bound, &table.columns[index])?
            };
            out.push((index, value));
        }
        Ok(out)
    }

    fn returning(&mut self, items: Option<&Vec<ast::SelectItem>>) -> Result<Option<Returning>, PgError> {
        let Some(items) = items else { return Ok(None) };
        self.no_aggregates = Some("RETURNING");
        let output = self.output(items)?;
        Ok(Some(Returning { columns: output.columns.into(), output: output.exprs }))
    }

    pub(super) fn insert(&mut self, insert: &ast::Insert) -> Result<Made, PgError> {
        let ast::TableObject::TableName(name) = &insert.table else {
            return Err(PgError::unsupported("INSERT into this target"));
        };
        if insert.overwrite || insert.or.is_some() || insert.replace_into || !insert.assignments.is_empty() {
            return Err(PgError::unsupported("this form of INSERT"));
        }
        let relation = self.table(name, Mode::RowExclusive)?;
        let id = relation.id;
        let relation_name = relation.name.clone();
        let table = self.table_of(id);
        let targets: Vec<usize> = if insert.columns.is_empty() {
            (0..table.columns.len()).filter(|index| !table.columns[*index].dropped).collect()
        } else {
            let mut targets = Vec::new();
            for column in &insert.columns {
                let index = self.column_index(id, column, &relation_name)?;
                if targets.contains(&index) {
                    let error = PgError::error(
                        SqlState::DUPLICATE_COLUMN,
                        format!("column \"{}\" specified more than once", table.columns[index].name),
                    );
                    return Err(at(error, self.position(name_span(column))));
                }
                targets.push(index);
            }
            targets
        };
        let explicit = !insert.columns.is_empty();
        let check = |given: usize, first_extra: Option<u32>| -> Result<(), PgError> {
            if given > targets.len() {
                let message = "INSERT has more expressions than target columns";
                return Err(at(PgError::error(SqlState::SYNTAX_ERROR, message), first_extra));
            }
            if given < targets.len() && explicit {
                return Err(PgError::error(SqlState::SYNTAX_ERROR, "INSERT has more target columns than expressions"));
            }
            Ok(())
        };
        let rows = match insert.source.as_deref() {
            None => InsertSource::Rows(vec![table.columns.iter().map(default_of).collect()]),
            Some(query) => match query.body.as_ref() {
                SetExpr::Values(values)
                    if query.order_by.is_none() && query.limit_clause.is_none() && query.with.is_none() =>
                {
                    let mut rows = Vec::new();
                    self.scopes.push(Scope::default());
                    self.no_aggregates = Some("VALUES");
                    for row in &values.rows {
                        check(row.len(), row.get(targets.len()).and_then(|expr| self.position(expr.span())))?;
                        let mut bound: Vec<Expr> = table.columns.iter().map(default_of).collect();
                        for (expr, target) in row.iter().zip(&targets) {
                            if !is_default(expr) {
                                let value = self.expr(expr)?;
                                bound[*target] = self.assign_column(value, &table.columns[*target])?;
                            }
                        }
                        rows.push(bound);
                    }
                    self.scopes.pop();
                    self.no_aggregates = None;
                    InsertSource::Rows(rows)
                }
                _ => {
                    let select = self.query(query)?;
                    check(select.columns.len(), None)?;
                    let mut bound: Vec<Expr> = table.columns.iter().map(default_of).collect();
                    for (index, target) in targets.iter().enumerate().take(select.columns.len()) {
                        let column = Expr::Column { level: 0, index, kind: select.columns[index].kind };
                        bound[*target] = self.assign_column(column, &table.columns[*target])?;
                    }
                    InsertSource::Query(Box::new(select), bound)
                }
            },
        };
        let alias = insert.table_alias.as_ref().map_or_else(|| relation_name.to_string(), |alias| fold(&alias.alias));
        let conflict = match &insert.on {
            None => None,
            Some(ast::OnInsert::OnConflict(conflict)) => Some(self.conflict(id, &alias, &relation_name, conflict)?),
            Some(_) => return Err(PgError::unsupported("ON DUPLICATE KEY UPDATE")),
        };
        let scope = self.table_scope(id, &alias);
        self.scopes.push(scope);
        let returning = self.returning(insert.returning.as_ref());
        self.scopes.pop();
        let returning = returning?;
        let columns = returning.as_ref().map(|returning| returning.columns.clone());
        Ok((Node::Insert(Insert { id, rows, conflict, returning }), columns))
    }

    fn conflict(
        &mut self,
        id: RelationId,
        alias: &str,
        relation: &str,
        conflict: &ast::OnConflict,
    ) -> Result<Conflict, PgError> {
        let table = self.table_of(id);
        let unique = || table.indexes.iter().enumerate().filter(|(_, index)| index.unique && !index.dropped);
        let indexes: Vec<usize> = match &conflict.conflict_target {
            None => Vec::new(),
            Some(ast::ConflictTarget::Columns(names)) => {
                let mut wanted = Vec::new();
                for name in names {
                    wanted.push(self.column_index(id, &ast::ObjectName::from(vec![name.clone()]), relation)?);
                }
                wanted.sort_unstable();
                wanted.dedup();
                let found: Vec<usize> = unique()
                    .filter(|(_, index)| {
                        let mut columns = index.columns.to_vec();
                        columns.sort_unstable();
                        columns == wanted
                    })
                    .map(|(at, _)| at)
                    .collect();
                if found.is_empty() {
                    return Err(PgError::error(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        "there is no unique or exclusion constraint matching the ON CONFLICT specification",
                    ));
                }
                found
            }
            Some(ast::ConflictTarget::OnConstraint(name)) => {
                let (_, name) = object_name(name)?;
                match unique().find(|(_, index)| index.constraint && *index.name == *name) {
                    Some((at, _)) => vec![at],
                    None => {
                        return Err(PgError::error(
                            SqlState::UNDEFINED_OBJECT,
                            format!("constraint \"{name}\" for table \"{relation}\" does not exist"),
                        ));
                    }
                }
            }
        };
        let update = match &conflict.action {
            ast::OnConflictAction::DoNothing => None,
            ast::OnConflictAction::DoUpdate(update) => {
                if indexes.is_empty() {
                    return Err(PgError::error(
                        SqlState::SYNTAX_ERROR,
                        "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                    )
                    .hint("For example, ON CONFLICT (column_name)."));
                }
                let mut scope = self.table_scope(id, alias);
                let excluded = self.table_scope(id, "excluded");
                let width = scope.columns.len();
                // A bare name means the target's column.
                scope.columns.extend(excluded.columns.into_iter().map(|column| Named { merged: true, ..column }));
                scope.tables.push(From { alias: "excluded".into(), id: None, offset: width, width, view: None });
                self.scopes.push(scope);
                self.no_aggregates = Some("ON CONFLICT DO UPDATE");
                let assignments = self.assignments(id, relation, &update.assignments)?;
                let condition = match &update.selection {
                    Some(condition) => {
                        let bound = self.expr(condition)?;
                        Some(self.condition(bound, "WHERE")?)
                    }
                    None => None,
                };
                self.scopes.pop();
                self.no_aggregates = None;
                Some((assignments, condition))
            }
        };
        Ok(Conflict { indexes, update })
    }

    /// The single table that UPDATE or DELETE is about, and its scope pushed.
    fn target_table(&mut self, factor: &ast::TableFactor) -> Result<(RelationId, String), PgError> {
        let ast::TableFactor::Table { name, alias, args: None, .. } = factor else {
            return Err(PgError::unsupported("this target of UPDATE or DELETE"));
        };
        let (schema, bare) = object_name(name)?;
        if schema.as_deref() == Some("pg_catalog") || super::super::sysviews::View::find(&bare).is_some() {
            return Err(PgError::unsupported("writing to the catalog"));
        }
        let relation = self.table(name, Mode::RowExclusive)?;
        let (id, relation_name) = (relation.id, relation.name.to_string());
        let alias = alias.as_ref().map_or(bare, |alias| fold(&alias.name));
        let scope = self.table_scope(id, &alias);
        self.scopes.push(scope);
        Ok((id, relation_name))
    }

    /// FROM or USING, and WHERE.
    fn target(
        &mut self,
        id: RelationId,
        others: &[ast::TableWithJoins],
        selection: Option<&ast::Expr>,
    ) -> Result<Target, PgError> {
        let others = if others.is_empty() {
            None
        } else {
            // Its columns are numbered after the target's, so its own expressions cannot be bound here yet.
            let source = self.sources(others, Mode::AccessShare)?;
            if matches!(source, Source::Join { .. }) {
                return Err(PgError::unsupported("joins in UPDATE … FROM and DELETE … USING"));
            }
            Some(source)
        };
        let filter = match selection {
            Some(condition) => {
                self.no_aggregates = Some("WHERE");
                let bound = self.expr(condition)?;
                Some(self.condition(bound, "WHERE")?)
            }
            None => None,
        };
        let access = match (&filter, &others) {
            (Some(filter), None) => self.access(id, filter),
            _ => Access::All,
        };
        Ok(Target { access, others, filter })
    }

    pub(super) fn update(&mut self, update: &ast::Update) -> Result<Made, PgError> {
        if !update.table.joins.is_empty()
            || update.limit.is_some()
            || !update.order_by.is_empty()
            || update.or.is_some()
        {
            return Err(PgError::unsupported("this form of UPDATE"));
        }
        let (id, relation) = self.target_table(&update.table.relation)?;
        let from: &[ast::TableWithJoins] = match &update.from {
            None => &[],
            Some(ast::UpdateTableFromKind::AfterSet(from) | ast::UpdateTableFromKind::BeforeSet(from)) => from,
        };
        let target = self.target(id, from, update.selection.as_ref())?;
        self.no_aggregates = Some("UPDATE");
        let assignments = self.assignments(id, &relation, &update.assignments)?;
        let table = self.table_of(id);
        // As heap_update: the stronger lock when a column of a unique index is assigned to.
        let key = table.indexes.iter().any(|index| {
            index.unique && !index.dropped && index.columns.iter().any(|c| assignments.iter().any(|(a, _)| a == c))
        });
        let strength = if key { RowLock::Update } else { RowLock::NoKeyUpdate };
        let returning = self.returning(update.returning.as_ref())?;
        self.scopes.pop();
        let columns = returning.as_ref().map(|returning| returning.columns.clone());
        Ok((Node::Update(Update { id, target, assignments, strength, returning }), columns))
    }

    pub(super) fn delete(&mut self, delete: &ast::Delete) -> Result<Made, PgError> {
        let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
        let [table] = &from[..] else {
            return Err(PgError::unsupported("DELETE from several tables"));
        };
        if !table.joins.is_empty() || !delete.tables.is_empty() || delete.limit.is_some() || !delete.order_by.is_empty()
        {
            return Err(PgError::unsupported("this form of DELETE"));
        }
        let (id, _) = self.target_table(&table.relation)?;
        let using = delete.using.as_deref().unwrap_or(&[]);
        let target = self.target(id, using, delete.selection.as_ref())?;
        let returning = self.returning(delete.returning.as_ref())?;
        self.scopes.pop();
        let columns = returning.as_ref().map(|returning| returning.columns.clone());
        Ok((Node::Delete(Delete { id, target, returning }), columns))
    }
}
