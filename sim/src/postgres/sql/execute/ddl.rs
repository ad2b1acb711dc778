//! CREATE, ALTER, DROP and TRUNCATE, with PostgreSQL's lock modes. What they did is undone by a rollback.
//!
//! Left out (0A000): foreign keys, generated and identity columns, partial and expression indexes, CONCURRENTLY, partitions,
//! inheritance, views, schemas, CASCADE, and the forms of ALTER TABLE other than ADD and DROP COLUMN.

use std::sync::Arc;

use sqlparser::ast;

use super::super::super::error::{PgError, SqlState};
use super::super::super::locks::{Mode, RelationId};
use super::super::bind::{self, object_name};
use super::super::catalog::{Check, Index, Relation, RelationKind, Sequence, Table, TableColumn};
use super::super::engine::{Engine, Undo};
use super::super::eval::{Context, Env, Flow};
use super::super::functions::Function;
use super::super::heap::{Heap, Key, Stamp};
use super::super::host::Host;
use super::super::pg_catalog;
use super::super::plan::{Expr, Node};
use super::super::script::Command;
use super::super::session::Session;
use super::super::types::Type;
use super::super::value::Value;
use super::{Execution, Outcome};

/// What the definitions of columns ask for besides columns.
#[derive(Default)]
struct More {
    keys: Vec<NewIndex>,
    /// The name given, the column it is written at, the condition.
    checks: Vec<(Option<String>, Option<String>, ast::Expr)>,
    /// Id, name and greatest value.
    sequences: Vec<(RelationId, String, i64)>,
}

/// A key to be made an index of.
struct NewIndex {
    name: Option<String>,
    columns: Vec<String>,
    primary: bool,
}

fn notice(message: String, code: SqlState) -> PgError {
    PgError::new(super::super::super::error::Severity::Notice, code, message)
}

fn exists(name: &str) -> PgError {
    PgError::error(SqlState::DUPLICATE_TABLE, format!("relation \"{name}\" already exists"))
}

fn key_columns(columns: &[ast::IndexColumn]) -> Result<Vec<String>, PgError> {
    columns
        .iter()
        .map(|column| match &column.column.expr {
            ast::Expr::Identifier(ident) if column.operator_class.is_none() => Ok(bind::fold(ident)),
            _ => Err(PgError::unsupported("indexes on expressions")),
        })
        .collect()
}

impl Engine {
    pub(super) fn run_ddl(&mut self, host: &dyn Host, session: &mut Session, exec: &mut Execution) -> Flow<Outcome> {
        let statement = exec.statement.clone();
        let outcome = match &statement.command {
            Command::CreateTable(create) => self.create_table(host, session, exec, create),
            Command::CreateIndex(create) => self.create_index(host, session, exec, create),
            Command::AlterTable(alter) => self.alter_table(host, session, exec, alter),
            Command::Drop { tables, if_exists, names, concurrently } => {
                if *concurrently {
                    return Err(PgError::unsupported("DROP INDEX CONCURRENTLY").into());
                }
                self.drop_relations(host, session, exec, *tables, *if_exists, names)
            }
            Command::Truncate(truncate) => self.truncate(host, session, truncate),
            _ => unreachable!("only DDL comes here"),
        };
        if outcome.is_ok() {
            session.transaction.command += 1;
            self.name_temporaries(session);
        }
        outcome
    }

    /// The relation to be changed, locked.
    fn target(&mut self, session: &mut Session, name: &ast::ObjectName, mode: Mode) -> Flow<RelationId> {
        let (schema, bare) = object_name(name)?;
        match self.catalog.find(&session.database, session.pid, &bare, schema.as_deref()).map(|relation| relation.id) {
            Some(id) => {
                self.lock_relation(session, id, mode)?;
                Ok(id)
            }
            None => {
                let shown = schema.as_ref().map_or_else(|| bare.clone(), |schema| format!("{schema}.{bare}"));
                if pg_catalog::has_relation(schema.as_deref(), &bare) {
                    return Err(PgError::unsupported(format!("changing the catalog {shown}")).into());
                }
                Err(PgError::error(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist")).into())
            }
        }
    }

    fn add_relation(&mut self, session: &mut Session, name: &str, temporary: bool, kind: RelationKind, id: RelationId) {
        let xid = self.assign_xid(session);
        self.catalog.add(Relation {
            id,
            name: name.into(),
            database: session.database.clone(),
            temporary: temporary.then_some(session.pid),
            kind,
            made_by: Some((session.pid, xid)),
            dropped_by: None,
        });
        self.log(session.pid, Undo::Made(id));
        session.transaction.made_relations = true;
        session.temporary_tables |= temporary;
    }

    /// Waits for a transaction that makes the same name, so that one of the two fails.
    fn claim_name(&mut self, session: &mut Session, name: &str, temporary: bool) -> Flow<bool> {
        loop {
            let schema = if temporary { Some("pg_temp") } else { Some("public") };
            if self.catalog.find(&session.database, session.pid, name, schema).is_some() {
                return Ok(false);
            }
            match self.catalog.made_elsewhere(&session.database, session.pid, name) {
                Some(xid) if !temporary => self.wait_for(session, xid, None)?,
                _ => return Ok(true),
            }
        }
    }

    fn free_name(&self, session: &Session, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut suffix = 0;
        while self.catalog.find(&session.database, session.pid, &name, None).is_some() {
            suffix += 1;
            name = format!("{wanted}{suffix}");
        }
        name
    }

    fn column(
        &mut self,
        session: &Session,
        text: &str,
        table: &str,
        def: &ast::ColumnDef,
        more: &mut More,
    ) -> Result<TableColumn, PgError> {
        let name = bind::fold(&def.name);
        let serial = match &def.data_type {
            ast::DataType::Custom(name, _) => match object_name(name)?.1.as_str() {
                "serial" | "serial4" => Some(Type::Int4),
                "bigserial" | "serial8" => Some(Type::Int8),
                "smallserial" | "serial2" => Some(Type::Int2),
                _ => None,
            },
            _ => None,
        };
        let (kind, limit, precision) = match serial {
            Some(kind) => (kind, None, None),
            None => bind::type_of(&def.data_type)?,
        };
        let mut column = TableColumn {
            name: name.as_str().into(),
            kind,
            limit,
            precision,
            not_null: serial.is_some(),
            default: None,
            missing: Value::Null,
            dropped: false,
        };
        if serial.is_some() {
            let id = self.catalog.next_id();
            let sequence = self.free_name(session, format!("{table}_{name}_seq"));
            more.sequences.push((id, sequence, super::super::value::integer_range(kind).1));
            let call =
                Expr::Call(Function::Nextval, vec![Expr::Const(Value::Int(i64::from(id)), Type::Regclass)], Type::Int8);
            column.default = Some(if kind == Type::Int8 {
                call
            } else {
                Expr::Cast { expr: Box::new(call), kind, limit: None, precision: None, explicit: false }
            });
        }
        for option in &def.options {
            match &option.option {
                ast::ColumnOption::Null => {}
                ast::ColumnOption::NotNull => column.not_null = true,
                ast::ColumnOption::Default(expr) => {
                    let bound = bind::table_expression(
                        &self.catalog,
                        &session.database,
                        session.pid,
                        text,
                        expr,
                        &[],
                        (&name, kind),
                    )?;
                    column.default = Some(if limit.is_some() || precision.is_some() {
                        Expr::Cast { expr: Box::new(bound), kind, limit, precision, explicit: false }
                    } else {
                        bound
                    });
                }
                ast::ColumnOption::PrimaryKey(_) => {
                    let name_of = option.name.as_ref().map(bind::fold);
                    more.keys.push(NewIndex { name: name_of, columns: vec![name.clone()], primary: true });
                }
                ast::ColumnOption::Unique(_) => {
                    let name_of = option.name.as_ref().map(bind::fold);
                    more.keys.push(NewIndex { name: name_of, columns: vec![name.clone()], primary: false });
                }
                ast::ColumnOption::Check(check) => {
                    more.checks.push((option.name.as_ref().map(bind::fold), Some(name.clone()), (*check.expr).clone()));
                }
                ast::ColumnOption::ForeignKey(_) => {
                    return Err(PgError::unsupported("foreign keys"));
                }
                other => return Err(PgError::unsupported(format!("the column option {other}"))),
            }
        }
        Ok(column)
    }

    fn create_table(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
        create: &ast::CreateTable,
    ) -> Flow<Outcome> {
        if create.like.is_some()
            || create.inherits.is_some()
            || create.partition_by.is_some()
            || create.partition_of.is_some()
            || create.or_replace
            || !matches!(create.table_options, ast::CreateTableOptions::None)
        {
            return Err(PgError::unsupported("this form of CREATE TABLE").into());
        }
        if !matches!(create.on_commit, None | Some(ast::OnCommit::PreserveRows)) {
            return Err(PgError::unsupported("ON COMMIT DROP and DELETE ROWS").into());
        }
        let (schema, name) = object_name(&create.name)?;
        let temporary = create.temporary || schema.as_deref() == Some("pg_temp");
        if schema.as_deref().is_some_and(|schema| schema != "public" && schema != "pg_temp") {
            let schema = schema.unwrap_or_default();
            return Err(
                PgError::error(SqlState::INVALID_SCHEMA_NAME, format!("schema \"{schema}\" does not exist")).into()
            );
        }
        let word = if create.query.is_some() { "CREATE TABLE AS" } else { "CREATE TABLE" };
        self.writable(session, host, word, false)?;
        if !self.claim_name(session, &name, temporary)? {
            if create.if_not_exists {
                exec.notices
                    .push(notice(format!("relation \"{name}\" already exists, skipping"), SqlState::DUPLICATE_TABLE));
                return Ok(Outcome::tag(word));
            }
            return Err(exists(&name).into());
        }
        let text = exec.statement.text.clone();
        let mut rows = None;
        let mut more = More::default();
        let mut columns: Vec<TableColumn> = Vec::new();
        if let Some(query) = &create.query {
            let plan = bind::query_plan(&self.catalog, &session.database, session.pid, &text, query)?;
            for (id, mode, _) in &plan.locks {
                self.lock_relation(session, *id, *mode)?;
            }
            let Node::Select(select) = &plan.node else { unreachable!("it is a query") };
            let view = self.take_view(session);
            let mut context = Context {
                engine: self,
                session,
                host,
                parameters: &[],
                view,
                journal: &mut exec.journal,
                rows_read: 0,
                notices: &mut exec.notices,
            };
            rows = Some(context.select(select, None, None)?);
            for column in select.columns.iter() {
                columns.push(TableColumn {
                    name: column.name.clone(),
                    kind: column.kind,
                    limit: None,
                    precision: None,
                    not_null: false,
                    default: None,
                    missing: Value::Null,
                    dropped: false,
                });
            }
        }
        for def in &create.columns {
            if create.query.is_some() {
                return Err(PgError::unsupported("column names in CREATE TABLE AS").into());
            }
            let column = self.column(session, &text, &name, def, &mut more)?;
            if columns.iter().any(|other| other.name == column.name) {
                return Err(PgError::error(
                    SqlState::DUPLICATE_COLUMN,
                    format!("column \"{}\" specified more than once", column.name),
                )
                .into());
            }
            columns.push(column);
        }
        for constraint in &create.constraints {
            match constraint {
                ast::TableConstraint::PrimaryKey(key) => more.keys.push(NewIndex {
                    name: key.name.as_ref().map(bind::fold),
                    columns: key_columns(&key.columns)?,
                    primary: true,
                }),
                ast::TableConstraint::Unique(key) => more.keys.push(NewIndex {
                    name: key.name.as_ref().map(bind::fold),
                    columns: key_columns(&key.columns)?,
                    primary: false,
                }),
                ast::TableConstraint::Check(check) => {
                    more.checks.push((check.name.as_ref().map(bind::fold), None, (*check.expr).clone()));
                }
                ast::TableConstraint::ForeignKey(_) => {
                    return Err(PgError::unsupported("foreign keys").into());
                }
                _ => return Err(PgError::unsupported("this table constraint").into()),
            }
        }
        let More { keys, checks, sequences } = more;
        if keys.iter().filter(|key| key.primary).count() > 1 {
            return Err(PgError::error(
                SqlState("42P16"),
                format!("multiple primary keys for table \"{name}\" are not allowed"),
            )
            .into());
        }
        let named: Vec<(Arc<str>, Type)> = columns.iter().map(|column| (column.name.clone(), column.kind)).collect();
        let mut made_checks: Vec<Check> = Vec::new();
        for (given, column, expr) in checks {
            let bound = bind::table_expression(
                &self.catalog,
                &session.database,
                session.pid,
                &text,
                &expr,
                &named,
                ("check", Type::Bool),
            )?;
            let wanted = given.unwrap_or_else(|| match column {
                Some(column) => format!("{name}_{column}_check"),
                None => format!("{name}_check"),
            });
            let mut unique = wanted.clone();
            let mut suffix = 0;
            while made_checks.iter().any(|check| *check.name == *unique) {
                suffix += 1;
                unique = format!("{wanted}{suffix}");
            }
            made_checks.push(Check { name: unique.into(), expr: bound });
        }
        // From here on nothing waits.
        let id = self.catalog.next_id();
        let sequence_ids = sequences.iter().map(|(id, ..)| *id).collect();
        let table = Table {
            columns,
            checks: made_checks,
            indexes: Vec::new(),
            heap: Heap::default(),
            unlogged: create.unlogged,
            sequences: sequence_ids,
        };
        for (sequence, sequence_name, max) in sequences {
            let kind = RelationKind::Sequence(Sequence { last: 1, called: false, max });
            self.add_relation(session, &sequence_name, temporary, kind, sequence);
        }
        self.add_relation(session, &name, temporary, RelationKind::Table(Box::new(table)), id);
        self.lock_relation(session, id, Mode::AccessExclusive)?;
        for key in keys {
            self.add_index(session, id, key, true, true)?;
        }
        let Some(rows) = rows else {
            return Ok(Outcome::tag("CREATE TABLE"));
        };
        let count = rows.len() as u64;
        let xid = self.assign_xid(session);
        let stamp = Stamp::Pending { pid: session.pid, xid, command: session.transaction.command };
        for row in rows {
            let tuple = self.catalog.table_mut(id).heap.insert(row.into(), stamp);
            self.log(session.pid, Undo::Version { table: id, tuple });
        }
        Ok(Outcome::new(self.tag("SELECT", count), None))
    }

    fn add_index(
        &mut self,
        session: &mut Session,
        id: RelationId,
        key: NewIndex,
        unique: bool,
        constraint: bool,
    ) -> Result<(), PgError> {
        let relation = self.catalog.get(id).expect("a locked table exists");
        let (table_name, temporary) = (relation.name.to_string(), relation.temporary.is_some());
        let table = self.catalog.table(id);
        let mut positions = Vec::new();
        for column in &key.columns {
            let found = table.columns.iter().position(|other| !other.dropped && *other.name == **column);
            positions.push(found.ok_or_else(|| {
                if constraint {
                    PgError::error(
                        SqlState::UNDEFINED_COLUMN,
                        format!("column \"{column}\" named in key does not exist"),
                    )
                } else {
                    PgError::error(SqlState::UNDEFINED_COLUMN, format!("column \"{column}\" does not exist"))
                }
            })?);
        }
        let name = match key.name {
            Some(name) => name,
            None if key.primary => self.free_name(session, format!("{table_name}_pkey")),
            None => {
                let suffix = if constraint { "key" } else { "idx" };
                self.free_name(session, format!("{table_name}_{}_{suffix}", key.columns.join("_")))
            }
        };
        let index_id = self.catalog.next_id();
        let positions: Arc<[usize]> = positions.into();
        let me = session.pid;
        let table = self.catalog.table_mut(id);
        if key.primary {
            for position in positions.iter() {
                table.columns[*position].not_null = true;
            }
        }
        if unique {
            // Live rows only: what is dead to everybody is no duplicate.
            let mut seen = std::collections::BTreeSet::new();
            for (_, row) in table.heap.iter() {
                let newest = row.newest();
                if newest.ended.is_some_and(|ended| {
                    matches!(ended, Stamp::Committed(_)) || matches!(ended, Stamp::Pending { pid, .. } if pid == me)
                }) {
                    continue;
                }
                let part = |position: &usize| newest.values.get(*position).cloned().unwrap_or(Value::Null);
                let parts: Vec<Value> = positions.iter().map(part).collect();
                let shown: Vec<String> = parts
                    .iter()
                    .zip(positions.iter())
                    .map(|(value, position)| value.to_text(table.columns[*position].kind))
                    .collect();
                let whole = Key::from_values(parts);
                if !whole.has_null() && !seen.insert(whole) {
                    return Err(PgError::error(
                        SqlState::UNIQUE_VIOLATION,
                        format!("could not create unique index \"{name}\""),
                    )
                    .detail(format!(
                        "Key ({})=({}) is duplicated.",
                        key.columns.join(", "),
                        shown.join(", ")
                    )));
                }
            }
        }
        let index = Index {
            id: index_id,
            name: name.as_str().into(),
            columns: positions.clone(),
            unique,
            primary: key.primary,
            constraint,
            dropped: false,
        };
        table.indexes.push(index);
        table.heap.add_index(positions);
        let position = table.indexes.len() - 1;
        self.log(session.pid, Undo::AddedIndex { table: id, position });
        self.add_relation(session, &name, temporary, RelationKind::Index { table: id }, index_id);
        Ok(())
    }

    fn create_index(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
        create: &ast::CreateIndex,
    ) -> Flow<Outcome> {
        if create.concurrently {
            return Err(PgError::unsupported("CREATE INDEX CONCURRENTLY").into());
        }
        if create.predicate.is_some() || !create.include.is_empty() || create.nulls_distinct == Some(false) {
            return Err(PgError::unsupported("partial and covering indexes").into());
        }
        if !matches!(create.using, None | Some(ast::IndexType::BTree)) {
            return Err(PgError::unsupported("index types other than btree").into());
        }
        let columns = key_columns(&create.columns)?;
        let id = self.target(session, &create.table_name, Mode::Share)?;
        let relation = self.catalog.get(id).expect("a locked table exists");
        if relation.table().is_none() {
            let message = format!("cannot create index on relation \"{}\"", relation.name);
            return Err(PgError::error(SqlState("42809"), message).into());
        }
        let temporary = relation.temporary.is_some();
        self.writable(session, host, "CREATE INDEX", false)?;
        let name = match &create.name {
            Some(name) => Some(object_name(name)?.1),
            None => None,
        };
        if let Some(name) = &name
            && !self.claim_name(session, name, temporary)?
        {
            if create.if_not_exists {
                exec.notices
                    .push(notice(format!("relation \"{name}\" already exists, skipping"), SqlState::DUPLICATE_TABLE));
                return Ok(Outcome::tag("CREATE INDEX"));
            }
            return Err(exists(name).into());
        }
        self.add_index(session, id, NewIndex { name, columns, primary: false }, create.unique, false)?;
        Ok(Outcome::tag("CREATE INDEX"))
    }

    fn alter_table(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
        alter: &ast::AlterTable,
    ) -> Flow<Outcome> {
        use ast::AlterTableOperation as O;
        let text = exec.statement.text.clone();
        for operation in &alter.operations {
            if !matches!(operation, O::AddColumn { .. } | O::DropColumn { .. }) {
                return Err(PgError::unsupported(format!("ALTER TABLE … {operation}")).into());
            }
        }
        let (_, bare) = object_name(&alter.name)?;
        if alter.if_exists && self.catalog.find(&session.database, session.pid, &bare, None).is_none() {
            exec.notices
                .push(notice(format!("relation \"{bare}\" does not exist, skipping"), SqlState::SUCCESSFUL_COMPLETION));
            return Ok(Outcome::tag("ALTER TABLE"));
        }
        self.writable(session, host, "ALTER TABLE", false)?;
        let id = self.target(session, &alter.name, Mode::AccessExclusive)?;
        let relation = self.catalog.get(id).expect("a locked table exists");
        if relation.table().is_none() {
            return Err(PgError::unsupported("ALTER TABLE on an index or a sequence").into());
        }
        let table_name = relation.name.to_string();
        for operation in &alter.operations {
            match operation {
                O::AddColumn { if_not_exists, column_def, column_position: None, .. } => {
                    let name = bind::fold(&column_def.name);
                    let there =
                        self.catalog.table(id).columns.iter().any(|column| !column.dropped && *column.name == *name);
                    if there {
                        let message = format!("column \"{name}\" of relation \"{table_name}\" already exists");
                        if *if_not_exists {
                            exec.notices.push(notice(format!("{message}, skipping"), SqlState::DUPLICATE_COLUMN));
                            continue;
                        }
                        return Err(PgError::error(SqlState::DUPLICATE_COLUMN, message).into());
                    }
                    let mut more = More::default();
                    let mut column = self.column(session, &text, &table_name, column_def, &mut more)?;
                    if !more.keys.is_empty() || !more.checks.is_empty() || !more.sequences.is_empty() {
                        return Err(PgError::unsupported("ADD COLUMN with a key, a check or a sequence").into());
                    }
                    if let Some(default) = column.default.clone() {
                        let view = self.take_view(session);
                        let mut context = Context {
                            engine: self,
                            session,
                            host,
                            parameters: &[],
                            view,
                            journal: &mut exec.journal,
                            rows_read: 0,
                            notices: &mut exec.notices,
                        };
                        column.missing = context.eval(&default, &Env { row: &[], outer: None })?;
                    }
                    let _ = self.assign_xid(session);
                    let table = self.catalog.table_mut(id);
                    if column.not_null && column.missing.is_null() && table.heap.iter().next().is_some() {
                        return Err(PgError::error(
                            SqlState::NOT_NULL_VIOLATION,
                            format!("column \"{name}\" of relation \"{table_name}\" contains null values"),
                        )
                        .into());
                    }
                    table.columns.push(column);
                    self.catalog.version += 1;
                    self.log(session.pid, Undo::AddedColumn { table: id });
                    session.transaction.made_relations = true;
                }
                O::DropColumn { column_names, if_exists, drop_behavior, .. } => {
                    if matches!(drop_behavior, Some(ast::DropBehavior::Cascade)) {
                        return Err(PgError::unsupported("DROP COLUMN … CASCADE").into());
                    }
                    for column in column_names {
                        let name = bind::fold(column);
                        let found = self.catalog.table(id).columns.iter().position(|c| !c.dropped && *c.name == *name);
                        let Some(position) = found else {
                            let message = format!("column \"{name}\" of relation \"{table_name}\" does not exist");
                            if *if_exists {
                                exec.notices
                                    .push(notice(format!("{message}, skipping"), SqlState::SUCCESSFUL_COMPLETION));
                                continue;
                            }
                            return Err(PgError::error(SqlState::UNDEFINED_COLUMN, message).into());
                        };
                        let _ = self.assign_xid(session);
                        let pid = session.pid;
                        let table = self.catalog.table_mut(id);
                        table.columns[position].dropped = true;
                        let mut gone = Vec::new();
                        for (at, index) in table.indexes.iter_mut().enumerate() {
                            if !index.dropped && index.columns.contains(&position) {
                                index.dropped = true;
                                gone.push((at, index.id));
                            }
                        }
                        self.log(session.pid, Undo::DroppedColumn { table: id, position });
                        for (at, index) in gone {
                            self.log(session.pid, Undo::DroppedIndex { table: id, position: at });
                            if let Some(relation) = self.catalog.get_mut(index) {
                                relation.dropped_by = Some(pid);
                            }
                            self.log(session.pid, Undo::Dropped(index));
                        }
                        self.catalog.version += 1;
                        session.transaction.made_relations = true;
                    }
                }
                _ => return Err(PgError::unsupported("this form of ALTER TABLE").into()),
            }
        }
        Ok(Outcome::tag("ALTER TABLE"))
    }

    fn mark_dropped(&mut self, session: &mut Session, id: RelationId) {
        if let Some(relation) = self.catalog.get_mut(id) {
            relation.dropped_by = Some(session.pid);
            self.catalog.version += 1;
            self.log(session.pid, Undo::Dropped(id));
            session.transaction.made_relations = true;
        }
    }

    fn drop_relations(
        &mut self,
        host: &dyn Host,
        session: &mut Session,
        exec: &mut Execution,
        tables: bool,
        if_exists: bool,
        names: &[ast::ObjectName],
    ) -> Flow<Outcome> {
        let kind = if tables { "table" } else { "index" };
        let word = if tables { "DROP TABLE" } else { "DROP INDEX" };
        let mut notices = Vec::new();
        let mut ids = Vec::new();
        for name in names {
            let (schema, bare) = object_name(name)?;
            let found = self.catalog.find(&session.database, session.pid, &bare, schema.as_deref());
            let Some(relation) = found else {
                if pg_catalog::has_relation(schema.as_deref(), &bare) {
                    return Err(PgError::unsupported(format!("changing the catalog {bare}")).into());
                }
                if if_exists {
                    notices.push(notice(
                        format!("{kind} \"{bare}\" does not exist, skipping"),
                        SqlState::SUCCESSFUL_COMPLETION,
                    ));
                    continue;
                }
                self.writable(session, host, word, false)?;
                return Err(PgError::error(
                    if tables { SqlState::UNDEFINED_TABLE } else { SqlState::UNDEFINED_OBJECT },
                    format!("{kind} \"{bare}\" does not exist"),
                )
                .into());
            };
            match (&relation.kind, tables) {
                (RelationKind::Table(_), true) | (RelationKind::Index { .. }, false) => {}
                _ => {
                    return Err(PgError::error(
                        SqlState("42809"),
                        format!("\"{bare}\" is not {}", if tables { "a table" } else { "an index" }),
                    )
                    .into());
                }
            }
            // An index is locked after its table.
            if let RelationKind::Index { table } = relation.kind {
                let index_id = relation.id;
                if self.catalog.table(table).indexes.iter().any(|index| index.id == index_id && index.constraint) {
                    let table_name = self.catalog.get(table).map_or_else(String::new, |table| table.name.to_string());
                    return Err(PgError::error(
                        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
                        format!("cannot drop index {bare} because constraint {bare} on table {table_name} requires it"),
                    )
                    .hint(format!("You can drop constraint {bare} on table {table_name} instead."))
                    .into());
                }
                self.lock_relation(session, table, Mode::AccessExclusive)?;
            }
            self.writable(session, host, word, false)?;
            ids.push(self.target(session, name, Mode::AccessExclusive)?);
        }
        exec.notices.extend(notices);
        for id in ids {
            let _ = self.assign_xid(session);
            let related: Vec<RelationId> = match self.catalog.get(id).map(|relation| &relation.kind) {
                Some(RelationKind::Table(table)) => table
                    .indexes
                    .iter()
                    .filter(|i| !i.dropped)
                    .map(|i| i.id)
                    .chain(table.sequences.iter().copied())
                    .collect(),
                Some(RelationKind::Index { table }) => {
                    let table = *table;
                    let place = self.catalog.table(table).indexes.iter().position(|index| index.id == id);
                    if let Some(position) = place {
                        self.catalog.table_mut(table).indexes[position].dropped = true;
                        self.log(session.pid, Undo::DroppedIndex { table, position });
                    }
                    Vec::new()
                }
                _ => Vec::new(),
            };
            for related in related {
                self.mark_dropped(session, related);
            }
            self.mark_dropped(session, id);
        }
        Ok(Outcome::tag(word))
    }

    fn truncate(&mut self, host: &dyn Host, session: &mut Session, truncate: &ast::Truncate) -> Flow<Outcome> {
        if truncate.partitions.is_some() || truncate.if_exists {
            return Err(PgError::unsupported("this form of TRUNCATE").into());
        }
        let mut ids = Vec::new();
        for target in &truncate.table_names {
            let id = self.target(session, &target.name, Mode::AccessExclusive)?;
            let relation = self.catalog.get(id).expect("a locked table exists");
            if relation.table().is_none() {
                return Err(PgError::error(SqlState("42809"), format!("\"{}\" is not a table", relation.name)).into());
            }
            self.writable(session, host, "TRUNCATE TABLE", false)?;
            ids.push(id);
        }
        let restart = matches!(truncate.identity, Some(ast::TruncateIdentityOption::Restart));
        for id in ids {
            let _ = self.assign_xid(session);
            let table = self.catalog.table_mut(id);
            let fresh = table.heap.emptied();
            let old = std::mem::replace(&mut table.heap, fresh);
            let sequences = table.sequences.clone();
            self.log(session.pid, Undo::Truncated { table: id, heap: Box::new(old) });
            if restart {
                for sequence in sequences {
                    if let Some(RelationKind::Sequence(sequence)) = self.catalog.get_mut(sequence).map(|r| &mut r.kind)
                    {
                        sequence.last = 1;
                        sequence.called = false;
                    }
                }
            }
        }
        Ok(Outcome::tag("TRUNCATE TABLE"))
    }
}
