//! Parse analysis: names and types are resolved, and a plan comes out. After `src/backend/parser`.
//!
//! An unquoted literal and a parameter without a declared type are of type `unknown` until what they meet decides.

mod expr;
mod modify;
mod query;
mod set_returning;

pub(super) use query::visit;

use std::sync::Arc;

use sqlparser::ast::{self, DataType};
use sqlparser::tokenizer::Span;

use super::super::error::{PgError, SqlState};
use super::super::event::Pid;
use super::super::locks::{Mode, RelationId};
use super::catalog::{Catalog, Relation, RelationKind};
use super::eval::regclass_name;
use super::pg_catalog;
use super::plan::{Expr, Plan};
use super::result::Column;
use super::script::{Command, Source, Statement, at};
use super::sysviews::View;
use super::types::Type;
use super::value::Value;

/// How freely a value may be turned into another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Context {
    Implicit,
    Assignment,
    Explicit,
}

/// A column that expressions can name.
#[derive(Debug, Clone)]
struct Named {
    table: Arc<str>,
    name: Arc<str>,
    kind: Type,
    modifier: i32,
    origin: Option<(RelationId, i16)>,
    /// Merged by USING into an earlier column: only reachable with its table's name.
    merged: bool,
}

impl Named {
    fn shown(&self) -> Column {
        Column { name: self.name.clone(), kind: self.kind, modifier: self.modifier, origin: self.origin }
    }
}

/// A table of FROM.
#[derive(Debug, Clone)]
struct From {
    alias: Arc<str>,
    /// None for what cannot be locked.
    id: Option<RelationId>,
    offset: usize,
    width: usize,
    /// The part of the system catalog that it is.
    view: Option<View>,
}

/// The names that one query level offers.
#[derive(Debug, Clone, Default)]
struct Scope {
    columns: Vec<Named>,
    tables: Vec<From>,
}

/// Makes the plan of one statement.
pub(super) struct Binder<'a> {
    catalog: &'a Catalog,
    database: &'a str,
    pid: Pid,
    source: Source<'a>,
    parameters: Vec<Type>,
    scopes: Vec<Scope>,
    locks: Vec<(RelationId, Mode, Option<u32>)>,
    /// Quoted literals whose type is open, and where they stand.
    literals: Vec<(String, Option<u32>)>,
    /// References to columns: the depth of their scope, their index in it, and where they stand.
    references: Vec<(usize, usize, Option<u32>)>,
    ctes: Vec<(String, ast::Query)>,
    /// Whether aggregates are allowed here; otherwise where we are, for the message.
    no_aggregates: Option<&'static str>,
}

/// A plan for a statement that has one.
///
/// # Errors
/// What parse analysis finds wrong, with positions.
pub(super) fn plan(
    catalog: &Catalog,
    database: &str,
    pid: Pid,
    statement: &Statement,
    hints: &[u32],
) -> Result<Plan, PgError> {
    let mut binder = Binder::new(catalog, database, pid, &statement.text, hints)?;
    let (node, columns) = match &statement.command {
        Command::Select(query) => {
            let select = binder.query(query)?;
            let columns = select.columns.clone();
            (super::plan::Node::Select(Box::new(select)), Some(columns))
        }
        Command::Insert(insert) => binder.insert(insert)?,
        Command::Update(update) => binder.update(update)?,
        Command::Delete(delete) => binder.delete(delete)?,
        _ => unreachable!("utility commands have no plan"),
    };
    if let Some(index) = binder.parameters.iter().position(|kind| *kind == Type::Unknown) {
        return Err(PgError::error(
            SqlState::INDETERMINATE_DATATYPE,
            format!("could not determine data type of parameter ${}", index + 1),
        ));
    }
    let folds = node.can_fail_to_plan();
    Ok(Plan { parameters: binder.parameters, columns, locks: binder.locks, folds, node })
}

/// An expression over a table's columns, for a column of a name and a type: DEFAULT, CHECK.
pub(super) fn table_expression(
    catalog: &Catalog,
    database: &str,
    pid: Pid,
    text: &str,
    expr: &ast::Expr,
    columns: &[(Arc<str>, Type)],
    (column, kind): (&str, Type),
) -> Result<Expr, PgError> {
    let mut binder = Binder::new(catalog, database, pid, text, &[])?;
    let named = columns
        .iter()
        .map(|(name, kind)| {
            let (name, kind) = (name.clone(), *kind);
            Named { table: "".into(), name, kind, modifier: -1, origin: None, merged: false }
        })
        .collect();
    binder.scopes.push(Scope { columns: named, tables: Vec::new() });
    binder.no_aggregates = Some("DEFAULT expressions");
    let bound = binder.expr(expr)?;
    binder.assign(bound, kind, column)
}

/// Expressions without columns, given types: the arguments of EXECUTE.
pub(super) fn arguments(
    catalog: &Catalog,
    database: &str,
    pid: Pid,
    text: &str,
    exprs: &[ast::Expr],
    kinds: &[Type],
) -> Result<Vec<Expr>, PgError> {
    let mut binder = Binder::new(catalog, database, pid, text, &[])?;
    binder.scopes.push(Scope::default());
    binder.no_aggregates = Some("EXECUTE parameters");
    let mut out = Vec::new();
    for (index, (expr, kind)) in exprs.iter().zip(kinds).enumerate() {
        let bound = binder.expr(expr)?;
        let from = bound.kind();
        out.push(binder.coerce(bound, *kind, Context::Assignment)?.ok_or_else(|| {
            PgError::error(
                SqlState::DATATYPE_MISMATCH,
                format!(
                    "parameter ${} of type {} cannot be coerced to the expected type {}",
                    index + 1,
                    from.name(),
                    kind.name()
                ),
            )
            .hint("You will need to rewrite or cast the expression.")
        })?);
    }
    Ok(out)
}

/// The name of an object as (schema, name), folded.
pub(super) fn object_name(name: &ast::ObjectName) -> Result<(Option<String>, String), PgError> {
    let mut parts = Vec::new();
    for part in &name.0 {
        match part {
            ast::ObjectNamePart::Identifier(ident) => parts.push(fold(ident)),
            ast::ObjectNamePart::Function(_) => {
                return Err(PgError::unsupported("names made by functions"));
            }
        }
    }
    match parts.len() {
        1 => Ok((None, parts.remove(0))),
        2 => Ok((Some(parts.remove(0)), parts.remove(0))),
        3 => Ok((Some(parts.remove(1)), parts.remove(1))),
        _ => Err(PgError::error(
            SqlState::SYNTAX_ERROR,
            format!("improper qualified name (too many dotted names): {}", parts.join(".")),
        )),
    }
}

/// Where a name stands in the text.
pub(super) fn name_span(name: &ast::ObjectName) -> Span {
    match name.0.first() {
        Some(ast::ObjectNamePart::Identifier(ident)) => ident.span,
        _ => Span::empty(),
    }
}

/// An identifier, folded to lower case unless quoted.
pub(super) fn fold(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// A type with the limits it was written with.
pub(super) type TypeSpec = (Type, Option<u32>, Option<(u32, u32)>);

/// The type that SQL text names.
///
/// # Errors
/// 0A000 for types this server has not; 42704 for types that PostgreSQL has not.
pub(super) fn type_of(data_type: &DataType) -> Result<TypeSpec, PgError> {
    use ast::{ArrayElemTypeDef, CharacterLength, ExactNumberInfo, TimezoneInfo};
    let plain = |kind| Ok((kind, None, None));
    match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => plain(Type::Int2),
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => plain(Type::Int4),
        DataType::BigInt(None) | DataType::Int8(None) => plain(Type::Int8),
        DataType::Bool | DataType::Boolean => plain(Type::Bool),
        DataType::Float4 | DataType::Real => plain(Type::Float4),
        DataType::Float8 | DataType::DoublePrecision | DataType::Float(ExactNumberInfo::None) => plain(Type::Float8),
        DataType::Text => plain(Type::Text),
        DataType::Varchar(length) | DataType::CharacterVarying(length) | DataType::CharVarying(length) => {
            match length {
                None => plain(Type::Varchar),
                Some(CharacterLength::IntegerLength { length, .. }) => {
                    Ok((Type::Varchar, Some(u32::try_from(*length).unwrap_or(u32::MAX)), None))
                }
                Some(_) => Err(PgError::unsupported(format!("type {data_type}"))),
            }
        }
        DataType::Numeric(info) | DataType::Decimal(info) | DataType::Dec(info) => match info {
            ExactNumberInfo::None => plain(Type::Numeric),
            ExactNumberInfo::Precision(precision) => {
                Ok((Type::Numeric, None, Some((u32::try_from(*precision).unwrap_or(1000), 0))))
            }
            ExactNumberInfo::PrecisionAndScale(precision, scale) => Ok((
                Type::Numeric,
                None,
                Some((u32::try_from(*precision).unwrap_or(1000), u32::try_from(*scale).unwrap_or(0))),
            )),
        },
        DataType::Timestamp(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => plain(Type::Timestamptz),
        DataType::Interval { fields: None, precision: None } => plain(Type::Interval),
        DataType::Bytea => plain(Type::Bytea),
        DataType::JSON => plain(Type::Json),
        DataType::JSONB => plain(Type::Jsonb),
        DataType::Regclass => plain(Type::Regclass),
        DataType::Char(None) if data_type.to_string().starts_with('"') => plain(Type::Char),
        DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) => {
            let (element, ..) = type_of(inner)?;
            match element.array() {
                Some(kind) => plain(kind),
                None => Err(PgError::unsupported(format!("type {data_type}"))),
            }
        }
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let (_, name) = object_name(name)?;
            match Type::from_name(&name) {
                Some(Type::Unknown | Type::Void) | None => {}
                Some(kind) => return plain(kind),
            }
            const KNOWN: [&str; 22] = [
                "serial",
                "bigserial",
                "smallserial",
                "money",
                "macaddr",
                "cidr",
                "point",
                "line",
                "lseg",
                "box",
                "path",
                "polygon",
                "circle",
                "tsvector",
                "tsquery",
                "xml",
                "bpchar",
                "timetz",
                "regproc",
                "regrole",
                "pg_lsn",
                "timestamp",
            ];
            if KNOWN.contains(&name.as_str()) {
                return Err(PgError::unsupported(format!("type {name}")));
            }
            Err(super::utility::no_such_type(&name))
        }
        _ => Err(PgError::unsupported(format!("type {data_type}"))),
    }
}

/// Whether a cast exists, and in which context it is applied.
fn castable(from: Type, to: Type, context: Context) -> bool {
    use Type::{Bool, Float4, Float8, Int2, Int4, Int8, Interval, Json, Jsonb, Name, Numeric, Oid, Regclass, Regtype};
    use Type::{Text, Unknown, Varchar};
    if from == to || from == Unknown {
        return true;
    }
    if let (Some(a), Some(b)) = (from.numeric_rank(), to.numeric_rank()) {
        return a < b || context >= Context::Assignment;
    }
    match (from, to) {
        (Int2 | Int4 | Int8, Oid | Regclass | Regtype) | (Regclass | Regtype, Oid) => true,
        (Oid, Regclass | Regtype) => true,
        (Oid | Regclass | Regtype, Int8 | Int4) => context >= Context::Assignment,
        (Varchar | Name, Text) | (Text | Name, Varchar) => true,
        (Text | Varchar, Name) => true,
        (Text | Varchar, Regclass) => true,
        (Int4, Bool) | (Bool, Int4) => context == Context::Explicit,
        (Json, Jsonb) | (Jsonb, Json) => context >= Context::Assignment,
        (_, Text | Varchar) => context >= Context::Assignment,
        (Text | Varchar, _) => context == Context::Explicit,
        (Type::NameArray, Type::TextArray) => true,
        (Type::Int4Array, Type::Int8Array) | (Type::Int2Array, Type::Int4Array) => true,
        (Type::Int4Array | Type::Int8Array, Type::OidArray) => true,
        (Type::Xid, Type::Xid8) | (Type::Xid8, Type::Xid) => context == Context::Explicit,
        (Float8 | Float4 | Numeric, Interval) => false,
        _ => false,
    }
}

impl<'a> Binder<'a> {
    fn new(
        catalog: &'a Catalog,
        database: &'a str,
        pid: Pid,
        text: &'a str,
        hints: &[u32],
    ) -> Result<Binder<'a>, PgError> {
        let mut parameters = Vec::new();
        for oid in hints {
            parameters.push(match *oid {
                0 => Type::Unknown,
                oid => Type::from_oid(oid).ok_or_else(|| PgError::unsupported(format!("the type with oid {oid}")))?,
            });
        }
        Ok(Binder {
            catalog,
            database,
            pid,
            source: Source::new(text),
            parameters,
            scopes: Vec::new(),
            locks: Vec::new(),
            literals: Vec::new(),
            references: Vec::new(),
            ctes: Vec::new(),
            no_aggregates: None,
        })
    }

    fn position(&self, span: Span) -> Option<u32> {
        self.source.position(span.start)
    }

    /// The relation that a name means, to be locked in `mode`.
    fn relation(&mut self, name: &ast::ObjectName, mode: Mode) -> Result<&'a Relation, PgError> {
        let (schema, bare) = object_name(name)?;
        let found = self.catalog.find(self.database, self.pid, &bare, schema.as_deref());
        let Some(relation) = found else {
            let shown = schema.as_ref().map_or_else(|| bare.clone(), |schema| format!("{schema}.{bare}"));
            if pg_catalog::has_relation(schema.as_deref(), &bare) {
                return Err(PgError::unsupported(format!("the catalog {shown}")));
            }
            let error = PgError::error(SqlState::UNDEFINED_TABLE, format!("relation \"{shown}\" does not exist"));
            return Err(at(error, self.position(name_span(name))));
        };
        let position = self.position(name_span(name));
        match self.locks.iter_mut().find(|(id, ..)| *id == relation.id) {
            Some((_, held, _)) => *held = (*held).max(mode),
            None => self.locks.push((relation.id, mode, position)),
        }
        Ok(relation)
    }

    /// As [`Binder::relation`], and it is a table.
    fn table(&mut self, name: &ast::ObjectName, mode: Mode) -> Result<&'a Relation, PgError> {
        let relation = self.relation(name, mode)?;
        match relation.kind {
            RelationKind::Table(_) => Ok(relation),
            RelationKind::Index { .. } => {
                let error = PgError::error(SqlState("42809"), format!("\"{}\" is an index", relation.name));
                Err(at(error, self.position(name_span(name))))
            }
            RelationKind::Sequence(_) => Err(PgError::unsupported("reading or writing a sequence as a table")),
        }
    }

    fn parameter(&mut self, name: &str, span: Span) -> Result<Expr, PgError> {
        let number: usize = name.strip_prefix('$').and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if number == 0 || number > 65_535 {
            let error = PgError::error(SqlState::UNDEFINED_PARAMETER, format!("there is no parameter {name}"));
            return Err(at(error, self.position(span)));
        }
        while self.parameters.len() < number {
            self.parameters.push(Type::Unknown);
        }
        Ok(Expr::Param(number - 1, self.parameters[number - 1]))
    }

    /// The expression as `kind`, or None when there is no such cast in this context.
    fn coerce(&mut self, expr: Expr, kind: Type, context: Context) -> Result<Option<Expr>, PgError> {
        let from = expr.kind();
        if from == kind {
            return Ok(Some(expr));
        }
        match expr {
            Expr::Const(Value::Null, _) => return Ok(Some(Expr::Const(Value::Null, kind))),
            Expr::Const(Value::Text(text), Type::Unknown) if kind != Type::Regclass => {
                let value = Value::decode_text(kind, &text);
                let value = value.map_err(|error| at(error, self.literal_position(&text)))?;
                return Ok(Some(Expr::Const(value, kind)));
            }
            Expr::Const(Value::Text(name), Type::Unknown) => {
                let found = match name.parse::<u32>() {
                    Ok(id) => Some(id),
                    Err(_) => {
                        let (schema, bare) = regclass_name(&name);
                        let found = self.catalog.find(self.database, self.pid, &bare, schema.as_deref());
                        found.map(|relation| relation.id)
                    }
                };
                let Some(id) = found else {
                    let (schema, bare) = regclass_name(&name);
                    if pg_catalog::has_relation(schema.as_deref(), &bare) {
                        return Err(PgError::unsupported(format!("the catalog {name} as regclass")));
                    }
                    let error =
                        PgError::error(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"));
                    return Err(at(error, self.literal_position(&name)));
                };
                return Ok(Some(Expr::Const(Value::Int(id.into()), kind)));
            }
            Expr::Param(index, Type::Unknown) => {
                // The first use decided, if there was one.
                if self.parameters[index] == Type::Unknown {
                    self.parameters[index] = kind;
                }
                let decided = Expr::Param(index, self.parameters[index]);
                return if decided.kind() == kind { Ok(Some(decided)) } else { self.coerce(decided, kind, context) };
            }
            _ => {}
        }
        if !castable(from, kind, context) {
            return Ok(None);
        }
        Ok(Some(Expr::Cast {
            expr: Box::new(expr),
            kind,
            limit: None,
            precision: None,
            explicit: context == Context::Explicit,
        }))
    }

    /// Where a quoted literal stands; of several that are equal, the last one so far.
    fn literal_position(&self, text: &str) -> Option<u32> {
        self.literals.iter().rev().find(|(literal, _)| literal == text).and_then(|(_, position)| *position)
    }

    /// The expression as a value for a column.
    fn assign(&mut self, expr: Expr, kind: Type, column: &str) -> Result<Expr, PgError> {
        let from = expr.kind();
        self.coerce(expr, kind, Context::Assignment)?.ok_or_else(|| {
            PgError::error(
                SqlState::DATATYPE_MISMATCH,
                format!("column \"{column}\" is of type {} but expression is of type {}", kind.name(), from.name()),
            )
            .hint("You will need to rewrite or cast the expression.")
        })
    }

    /// The expression as a boolean for WHERE and its kin.
    fn condition(&mut self, expr: Expr, clause: &str) -> Result<Expr, PgError> {
        let from = expr.kind();
        self.coerce(expr, Type::Bool, Context::Implicit)?.ok_or_else(|| {
            PgError::error(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {clause} must be type boolean, not type {}", from.name()),
            )
        })
    }

    /// What `unknown` becomes when nothing decides.
    fn settle(&mut self, expr: Expr) -> Result<Expr, PgError> {
        if expr.kind() == Type::Unknown {
            return Ok(self.coerce(expr, Type::Text, Context::Implicit)?.expect("anything unknown can be text"));
        }
        Ok(expr)
    }

    /// Expressions that must have one type: CASE, COALESCE, VALUES, UNION (`select_common_type`).
    fn unify(&mut self, exprs: Vec<Expr>, context: &str) -> Result<(Vec<Expr>, Type), PgError> {
        let mut common = Type::Unknown;
        for expr in &exprs {
            let kind = expr.kind();
            if kind == Type::Unknown || kind == common {
                continue;
            }
            if common == Type::Unknown
                || (castable(common, kind, Context::Implicit) && !castable(kind, common, Context::Implicit))
            {
                common = kind;
            } else if !castable(kind, common, Context::Implicit) {
                return Err(PgError::error(
                    SqlState::DATATYPE_MISMATCH,
                    format!("{context} types {} and {} cannot be matched", common.name(), kind.name()),
                ));
            }
        }
        if common == Type::Unknown {
            common = Type::Text;
        }
        let mut out = Vec::with_capacity(exprs.len());
        for expr in exprs {
            out.push(self.coerce(expr, common, Context::Implicit)?.ok_or_else(|| {
                PgError::error(SqlState::DATATYPE_MISMATCH, format!("{context} could not convert to {}", common.name()))
            })?);
        }
        Ok((out, common))
    }
}

/// The plan of a query that is part of another command (CREATE TABLE AS).
pub(super) fn query_plan(
    catalog: &Catalog,
    database: &str,
    pid: Pid,
    text: &str,
    query: &ast::Query,
) -> Result<Plan, PgError> {
    let mut binder = Binder::new(catalog, database, pid, text, &[])?;
    let select = binder.query(query)?;
    let columns = Some(select.columns.clone());
    Ok(Plan {
        parameters: binder.parameters,
        columns,
        locks: binder.locks,
        folds: false,
        node: super::plan::Node::Select(Box::new(select)),
    })
}
