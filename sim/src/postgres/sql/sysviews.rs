//! `pg_catalog`: the tables and views that pools, drivers and people at a prompt look at. Columns that nothing here has a
//! meaning for are left out, so that a query for one fails instead of getting an invented answer.

use super::super::event::{BackendState, Pid};
use super::super::locks::{LockRow, Mode, Tag, ctid};
use super::catalog::{Relation, RelationKind, modifier};
use super::engine::Engine;
use super::host::{ActivityRow, Host};
use super::session::Session;
use super::types::Type;
use super::value::{Value, text};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    StatActivity,
    Locks,
    Settings,
    Database,
    Roles,
    Class,
    Namespace,
    TypeTable,
    Range,
    Enum,
    Attribute,
    Index,
    Tables,
    PreparedStatements,
    PreparedXacts,
    Cursors,
}

const NAMES: [(&str, View); 16] = [
    ("pg_stat_activity", View::StatActivity),
    ("pg_locks", View::Locks),
    ("pg_settings", View::Settings),
    ("pg_database", View::Database),
    ("pg_roles", View::Roles),
    ("pg_class", View::Class),
    ("pg_namespace", View::Namespace),
    ("pg_type", View::TypeTable),
    ("pg_range", View::Range),
    ("pg_enum", View::Enum),
    ("pg_attribute", View::Attribute),
    ("pg_index", View::Index),
    ("pg_tables", View::Tables),
    ("pg_prepared_statements", View::PreparedStatements),
    ("pg_prepared_xacts", View::PreparedXacts),
    ("pg_cursors", View::Cursors),
];

/// `pg_namespace.oid`.
const PG_CATALOG: i64 = 11;
const PUBLIC: i64 = 2200;
/// The namespace of all temporary tables, as far as its oid goes.
const PG_TEMP: i64 = 16_383;
/// `pg_database.oid` of the first database; the others follow. The lock table names this one.
const FIRST_DATABASE: i64 = 5;

fn number(value: impl Into<i64>) -> Value {
    Value::Int(value.into())
}

fn optional(value: Option<impl Into<std::sync::Arc<str>>>) -> Value {
    value.map_or(Value::Null, text)
}

impl View {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, view)| *view == self).map_or("", |(name, _)| name)
    }

    pub(super) fn find(name: &str) -> Option<View> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, view)| *view)
    }

    pub(super) fn columns(self) -> &'static [(&'static str, Type)] {
        use Type::{
            Bool, Char, Inet, Int2, Int2Array, Int4, Name, Oid, RegtypeArray, Text, TextArray, Timestamptz, Xid,
        };
        match self {
            View::StatActivity => &[
                ("datid", Oid),
                ("datname", Name),
                ("pid", Int4),
                ("leader_pid", Int4),
                ("usesysid", Oid),
                ("usename", Name),
                ("application_name", Text),
                ("client_addr", Inet),
                ("client_hostname", Text),
                ("client_port", Int4),
                ("backend_start", Timestamptz),
                ("xact_start", Timestamptz),
                ("query_start", Timestamptz),
                ("state_change", Timestamptz),
                ("wait_event_type", Text),
                ("wait_event", Text),
                ("state", Text),
                ("backend_xid", Xid),
                ("backend_xmin", Xid),
                ("query", Text),
                ("backend_type", Text),
            ],
            View::Locks => &[
                ("locktype", Text),
                ("database", Oid),
                ("relation", Oid),
                ("page", Int4),
                ("tuple", Int2),
                ("virtualxid", Text),
                ("transactionid", Xid),
                ("classid", Oid),
                ("objid", Oid),
                ("objsubid", Int2),
                ("virtualtransaction", Text),
                ("pid", Int4),
                ("mode", Text),
                ("granted", Bool),
                ("fastpath", Bool),
            ],
            View::Settings => &[
                ("name", Text),
                ("setting", Text),
                ("unit", Text),
                ("category", Text),
                ("short_desc", Text),
                ("context", Text),
                ("vartype", Text),
                ("source", Text),
                ("min_val", Text),
                ("max_val", Text),
                ("enumvals", TextArray),
                ("boot_val", Text),
                ("reset_val", Text),
            ],
            View::Database => &[
                ("oid", Oid),
                ("datname", Name),
                ("encoding", Int4),
                ("datistemplate", Bool),
                ("datallowconn", Bool),
                ("datconnlimit", Int4),
            ],
            View::Roles => {
                &[("rolname", Name), ("rolsuper", Bool), ("rolcanlogin", Bool), ("rolconnlimit", Int4), ("oid", Oid)]
            }
            View::Class => &[
                ("oid", Oid),
                ("relname", Name),
                ("relnamespace", Oid),
                ("relkind", Char),
                ("relpersistence", Char),
                ("relnatts", Int2),
                ("relhasindex", Bool),
            ],
            View::Namespace => &[("oid", Oid), ("nspname", Name)],
            View::TypeTable => &[
                ("oid", Oid),
                ("typname", Name),
                ("typnamespace", Oid),
                ("typlen", Int2),
                ("typtype", Char),
                ("typdelim", Char),
                ("typrelid", Oid),
                ("typelem", Oid),
                ("typarray", Oid),
                ("typbasetype", Oid),
            ],
            View::Range => &[("rngtypid", Oid), ("rngsubtype", Oid)],
            View::Enum => &[("oid", Oid), ("enumtypid", Oid), ("enumsortorder", Type::Float4), ("enumlabel", Name)],
            View::Attribute => &[
                ("attrelid", Oid),
                ("attname", Name),
                ("atttypid", Oid),
                ("attlen", Int2),
                ("attnum", Int2),
                ("atttypmod", Int4),
                ("attnotnull", Bool),
                ("atthasdef", Bool),
                ("attisdropped", Bool),
            ],
            View::Index => &[
                ("indexrelid", Oid),
                ("indrelid", Oid),
                ("indnatts", Int2),
                ("indisunique", Bool),
                ("indisprimary", Bool),
                ("indkey", Int2Array),
            ],
            View::Tables => &[("schemaname", Name), ("tablename", Name), ("tableowner", Name), ("hasindexes", Bool)],
            View::PreparedStatements => &[
                ("name", Text),
                ("statement", Text),
                ("prepare_time", Timestamptz),
                ("parameter_types", RegtypeArray),
                ("from_sql", Bool),
            ],
            View::PreparedXacts => {
                &[("transaction", Xid), ("gid", Text), ("prepared", Timestamptz), ("owner", Name), ("database", Name)]
            }
            View::Cursors => &[("name", Text), ("is_holdable", Bool)],
        }
    }

    pub(super) fn rows(self, engine: &Engine, session: &Session, host: &dyn Host) -> Vec<Vec<Value>> {
        match self {
            View::StatActivity => activity(engine, session, host),
            View::Locks => locks(engine, session, host),
            View::Settings => session
                .settings
                .all(session.superuser())
                .into_iter()
                .map(|row| {
                    vec![
                        text(row.name),
                        text(row.setting),
                        optional(row.unit),
                        text(row.category),
                        text(row.short_desc),
                        text(row.context),
                        text(row.vartype),
                        text(row.source),
                        optional(row.min_val),
                        optional(row.max_val),
                        row.enumvals.map_or(Value::Null, |values| Value::Array(values.into_iter().map(text).collect())),
                        optional(row.boot_val),
                        text(row.reset_val),
                    ]
                })
                .collect(),
            View::Database => engine
                .databases
                .iter()
                .enumerate()
                .map(|(index, (name, limit))| {
                    vec![
                        number(FIRST_DATABASE + i64::try_from(index).unwrap_or(0)),
                        text(name.as_str()),
                        number(6),
                        Value::Bool(false),
                        Value::Bool(true),
                        number(*limit),
                    ]
                })
                .collect(),
            View::Roles => engine
                .roles
                .iter()
                .enumerate()
                .map(|(index, role)| {
                    vec![
                        text(role.name.as_str()),
                        Value::Bool(role.superuser),
                        Value::Bool(true),
                        number(role.connection_limit),
                        number(10 + i64::try_from(index).unwrap_or(0)),
                    ]
                })
                .collect(),
            View::Class => {
                // Other sessions' temporary tables have rows, too.
                let committed = |relation: &&Relation| {
                    relation.database == session.database
                        && (relation.visible(session.pid)
                            || (relation.temporary.is_some() && relation.made_by.is_none()))
                };
                engine.catalog.iter().filter(committed).map(class).collect()
            }
            View::Namespace => [(PG_CATALOG, "pg_catalog"), (PUBLIC, "public"), (PG_TEMP, "pg_temp_1")]
                .into_iter()
                .map(|(oid, name)| vec![number(oid), text(name)])
                .collect(),
            View::TypeTable => Type::all()
                .map(|kind| {
                    vec![
                        number(kind.oid()),
                        text(kind.internal_name()),
                        number(PG_CATALOG),
                        number(kind.size()),
                        text(if matches!(kind, Type::Void | Type::Unknown) { "p" } else { "b" }),
                        text(","),
                        number(0),
                        number(kind.element().map_or(0, Type::oid)),
                        number(kind.array_oid()),
                        number(0),
                    ]
                })
                .collect(),
            // Two-phase commit is not supported: no transaction is prepared.
            View::Range | View::Enum | View::PreparedXacts => Vec::new(),
            View::Attribute => visible(engine, session).flat_map(attributes).collect(),
            View::Index => visible(engine, session).flat_map(indexes).collect(),
            View::Tables => visible(engine, session)
                .filter_map(|relation| {
                    let table = relation.table()?;
                    let schema = if relation.temporary.is_some() { "pg_temp_1" } else { "public" };
                    let owner = engine.roles.first().map_or("", |role| &role.name);
                    let indexed = table.indexes.iter().any(|index| !index.dropped);
                    Some(vec![text(schema), Value::Text(relation.name.clone()), text(owner), Value::Bool(indexed)])
                })
                .collect(),
            View::PreparedStatements => session
                .prepared
                .iter()
                .map(|(name, prepared)| {
                    let statement = Value::Text(prepared.statement.text.clone());
                    let types = prepared.parameters.iter().map(|kind| number(kind.oid())).collect();
                    let (time, from_sql) = (Value::Timestamptz(prepared.prepared_us), Value::Bool(prepared.from_sql));
                    vec![text(name.as_str()), statement, time, Value::Array(types), from_sql]
                })
                .collect(),
            View::Cursors => session
                .cursors
                .iter()
                .map(|(name, cursor)| vec![text(name.as_str()), Value::Bool(cursor.hold)])
                .collect(),
        }
    }
}

fn visible<'e>(engine: &'e Engine, session: &'e Session) -> impl Iterator<Item = &'e Relation> {
    engine.catalog.iter().filter(|relation| relation.database == session.database && relation.visible(session.pid))
}

/// All backends; of those of other roles only a superuser sees what they do.
fn activity(engine: &Engine, session: &Session, host: &dyn Host) -> Vec<Vec<Value>> {
    // The world's epoch as a timestamp.
    let epoch = host.now_us() - i64::try_from(host.elapsed().as_micros()).unwrap_or(0);
    let time = |at: std::time::Duration| Value::Timestamptz(epoch + i64::try_from(at.as_micros()).unwrap_or(0));
    let position = |name: &Option<String>, mut names: Box<dyn Iterator<Item = &str> + '_>, first: i64| {
        let name = name.as_deref()?;
        names.position(|other| other == name).map(|index| first + i64::try_from(index).unwrap_or(0))
    };
    host.activity()
        .into_iter()
        .map(|row| {
            // The session layer learns of this session's own transaction when its statement waits or ends.
            let own = (row.pid == session.pid).then(|| session.transaction_start()).flatten();
            let database =
                position(&row.datname, Box::new(engine.databases.iter().map(|(n, _)| n.as_str())), FIRST_DATABASE);
            let role = position(&row.usename, Box::new(engine.roles.iter().map(|role| role.name.as_str())), 10);
            let all = session.current_superuser || row.usename.as_deref() == Some(session.current_user.as_str());
            let or_null = |value: Value| if all { value } else { Value::Null };
            let query = if all { Value::Text(row.query) } else { text("<insufficient privilege>") };
            vec![
                database.map_or(Value::Null, Value::Int),
                optional(row.datname),
                number(row.pid),
                Value::Null,
                role.map_or(Value::Null, Value::Int),
                optional(row.usename),
                text(row.application_name),
                or_null(optional(row.client_addr.map(|address| address.ip().to_string()))),
                Value::Null,
                or_null(row.client_addr.map_or(Value::Null, |address| number(address.port()))),
                or_null(time(row.backend_start)),
                or_null(own.or(row.xact_start).map_or(Value::Null, time)),
                or_null(row.query_start.map_or(Value::Null, time)),
                or_null(row.state_change.map_or(Value::Null, time)),
                or_null(optional(row.wait_event_type)),
                or_null(optional(row.wait_event)),
                or_null(optional(row.state.map(|state| state.as_str()))),
                row.backend_xid.map_or(Value::Null, |xid| Value::Int(i64::try_from(xid).unwrap_or(0))),
                Value::Null,
                query,
                or_null(text(row.backend_type)),
            ]
        })
        .collect()
}

/// The lock table's rows, and the lock that each transaction holds on its own virtual id until it ends or fails.
fn locks(engine: &Engine, session: &Session, host: &dyn Host) -> Vec<Vec<Value>> {
    let in_transaction = |row: &ActivityRow| {
        (row.xact_start.is_some() && row.state != Some(BackendState::IdleInTransactionAborted))
            || row.pid == session.pid
    };
    let activity = host.activity();
    let own_ids = activity.iter().filter(|row| in_transaction(row)).map(|row| {
        let mut columns = vec![Value::Null; View::Locks.columns().len()];
        let id = virtual_transaction(row.pid);
        for (at, value) in [
            (0, text("virtualxid")),
            (5, text(id.as_str())),
            (10, text(id.as_str())),
            (11, number(row.pid)),
            (12, text(Mode::Exclusive.as_str())),
            (13, Value::Bool(true)),
            (14, Value::Bool(true)),
        ] {
            columns[at] = value;
        }
        columns
    });
    own_ids.chain(engine.locks.rows().iter().map(lock)).collect()
}

fn virtual_transaction(pid: Pid) -> String {
    format!("{pid}/1")
}

fn lock(row: &LockRow) -> Vec<Value> {
    let database = number(FIRST_DATABASE);
    // locktype, database, relation, page, tuple, transactionid, classid, objid, objsubid
    let none = || Value::Null;
    let (kind, database, relation, page, tuple, xid, class, object, sub) = match row.tag {
        Tag::Relation(id) => ("relation", database, number(id), none(), none(), none(), none(), none(), none()),
        Tag::Tuple(id, tuple) => {
            let (page, line) = ctid(tuple);
            let page = number(i64::try_from(page).unwrap_or(0));
            let line = number(i64::try_from(line).unwrap_or(0));
            ("tuple", database, number(id), page, line, none(), none(), none(), none())
        }
        Tag::Transaction(xid) => {
            let xid = number(i64::try_from(xid).unwrap_or(0));
            ("transactionid", none(), none(), none(), none(), xid, none(), none(), none())
        }
        Tag::AdvisoryBig(key) => {
            let key = key.cast_unsigned();
            let (high, low) = (i64::try_from(key >> 32).unwrap_or(0), i64::try_from(key & 0xffff_ffff).unwrap_or(0));
            ("advisory", database, none(), none(), none(), none(), number(high), number(low), number(1))
        }
        Tag::AdvisoryPair(a, b) => {
            let (a, b) = (number(a.cast_unsigned()), number(b.cast_unsigned()));
            ("advisory", database, none(), none(), none(), none(), a, b, number(2))
        }
    };
    vec![
        text(kind),
        database,
        relation,
        page,
        tuple,
        Value::Null,
        xid,
        class,
        object,
        sub,
        text(virtual_transaction(row.pid)),
        number(row.pid),
        text(row.mode.as_str()),
        Value::Bool(row.granted),
        Value::Bool(false),
    ]
}

fn class(relation: &Relation) -> Vec<Value> {
    let (kind, columns, indexed, unlogged) = match &relation.kind {
        RelationKind::Table(table) => {
            ("r", table.columns.len(), table.indexes.iter().any(|index| !index.dropped), table.unlogged)
        }
        RelationKind::Index { .. } => ("i", 0, false, false),
        RelationKind::Sequence(_) => ("S", 3, false, false),
    };
    let persistence = match (relation.temporary, unlogged) {
        (Some(_), _) => "t",
        (None, true) => "u",
        (None, false) => "p",
    };
    vec![
        number(relation.id),
        Value::Text(relation.name.clone()),
        number(if relation.temporary.is_some() { PG_TEMP } else { PUBLIC }),
        text(kind),
        text(persistence),
        number(i64::try_from(columns).unwrap_or(0)),
        Value::Bool(indexed),
    ]
}

fn attributes(relation: &Relation) -> Vec<Vec<Value>> {
    let Some(table) = relation.table() else {
        return Vec::new();
    };
    table
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let place = i64::try_from(index + 1).unwrap_or(0);
            let name = if column.dropped {
                text(format!("........pg.dropped.{place}........"))
            } else {
                Value::Text(column.name.clone())
            };
            vec![
                number(relation.id),
                name,
                number(if column.dropped { 0 } else { column.kind.oid() }),
                number(column.kind.size()),
                number(place),
                number(modifier(column.limit, column.precision)),
                Value::Bool(column.not_null),
                Value::Bool(column.default.is_some()),
                Value::Bool(column.dropped),
            ]
        })
        .collect()
}

fn indexes(relation: &Relation) -> Vec<Vec<Value>> {
    let Some(table) = relation.table() else {
        return Vec::new();
    };
    table
        .indexes
        .iter()
        .filter(|index| !index.dropped)
        .map(|index| {
            let keys = index.columns.iter().map(|column| number(i64::try_from(column + 1).unwrap_or(0))).collect();
            vec![
                number(index.id),
                number(relation.id),
                number(i64::try_from(index.columns.len()).unwrap_or(0)),
                Value::Bool(index.unique),
                Value::Bool(index.primary),
                Value::Array(keys),
            ]
        })
        .collect()
}
