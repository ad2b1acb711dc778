//! Queries: FROM, WHERE, GROUP BY, the output list, ORDER BY, LIMIT, locking clauses, UNION.

use std::sync::Arc;

use sqlparser::ast::{self, SelectItem, SetExpr, TableFactor};

use super::super::super::locks::Mode;
use super::super::catalog::modifier;
use super::super::heap::RowLock;
use super::super::plan::{
    Access, Aggregate, Expr, Grouping, RowLocking, RowPatience, Select, SetOperation, SortKey, Source,
};
use super::super::result::Column;
use super::super::script::{KEY_SHARE, NO_KEY, at};
use super::super::sysviews;
use super::super::types::Type;
use super::set_returning;
use super::{Binder, Context, From, Named, PgError, Scope, SqlState, fold, name_span, object_name};

/// The name PostgreSQL gives to an output column without AS (`FigureColname`).
fn figure_name(expr: &ast::Expr) -> Option<String> {
    figure(expr).map(|(name, _)| name)
}

/// The name, and whether it is a good one, which a cast keeps.
fn figure(expr: &ast::Expr) -> Option<(String, bool)> {
    use ast::Expr as A;
    let good = |name: &str| Some((name.to_owned(), true));
    let type_name = |data_type: &ast::DataType| {
        let kind = super::type_of(data_type).ok()?.0;
        Some((kind.element().unwrap_or(kind).internal_name().to_owned(), false))
    };
    match expr {
        A::Identifier(ident) => Some((fold(ident), true)),
        A::CompoundIdentifier(parts) => Some((fold(parts.last()?), true)),
        A::Nested(inner) | A::Collate { expr: inner, .. } => figure(inner),
        A::Function(function) => Some((object_name(&function.name).ok()?.1, true)),
        A::Cast { expr, data_type, .. } => figure(expr).filter(|(_, good)| *good).or_else(|| type_name(data_type)),
        A::TypedString(typed) => type_name(&typed.data_type),
        A::Interval(_) => Some(("interval".to_owned(), false)),
        A::Case { else_result, .. } => else_result
            .as_deref()
            .and_then(figure)
            .filter(|(_, good)| *good)
            .or_else(|| Some(("case".to_owned(), false))),
        A::Array(_) => good("array"),
        A::Exists { .. } => good("exists"),
        A::Extract { .. } => good("extract"),
        A::Substring { shorthand: true, .. } => good("substr"),
        A::Substring { .. } => good("substring"),
        A::Position { .. } => good("position"),
        A::Ceil { .. } => good("ceil"),
        A::Floor { .. } => good("floor"),
        A::Trim { trim_where, .. } => good(match trim_where {
            Some(ast::TrimWhereField::Leading) => "ltrim",
            Some(ast::TrimWhereField::Trailing) => "rtrim",
            _ => "btrim",
        }),
        A::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::ExprWithAlias { alias, .. } => Some((fold(alias), true)),
                SelectItem::UnnamedExpr(expr) => figure(expr),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// What the output list of a query or RETURNING became.
pub(super) struct Output {
    pub(super) columns: Vec<Column>,
    pub(super) exprs: Vec<Expr>,
}

/// Applies `change` to the parts of an expression, at this query's level.
pub(super) fn map_children(expr: Expr, change: &mut dyn FnMut(Expr) -> Result<Expr, PgError>) -> Result<Expr, PgError> {
    let mut one = |expr: Box<Expr>| -> Result<Box<Expr>, PgError> { Ok(Box::new(change(*expr)?)) };
    Ok(match expr {
        Expr::Const(..) | Expr::Param(..) | Expr::Column { .. } | Expr::Aggregate(_) => expr,
        Expr::Not(a) => Expr::Not(one(a)?),
        Expr::Negate(a, kind) => Expr::Negate(one(a)?, kind),
        Expr::Compare(how, a, b) => Expr::Compare(how, one(a)?, one(b)?),
        Expr::Arithmetic(how, a, b, kind) => Expr::Arithmetic(how, one(a)?, one(b)?, kind),
        Expr::Concat(a, b) => Expr::Concat(one(a)?, one(b)?),
        Expr::IsNull(a, negated) => Expr::IsNull(one(a)?, negated),
        Expr::IsBool(a, wanted, negated) => Expr::IsBool(one(a)?, wanted, negated),
        Expr::Distinct(a, b, negated) => Expr::Distinct(one(a)?, one(b)?, negated),
        Expr::Quantified(how, a, b, any) => Expr::Quantified(how, one(a)?, one(b)?, any),
        Expr::Like { text, pattern, negated, fold } => {
            Expr::Like { text: one(text)?, pattern: one(pattern)?, negated, fold }
        }
        Expr::Cast { expr, kind, limit, precision, explicit } => {
            Expr::Cast { expr: one(expr)?, kind, limit, precision, explicit }
        }
        Expr::And(parts) => Expr::And(parts.into_iter().map(change).collect::<Result<_, _>>()?),
        Expr::Or(parts) => Expr::Or(parts.into_iter().map(change).collect::<Result<_, _>>()?),
        Expr::Coalesce(parts, kind) => Expr::Coalesce(parts.into_iter().map(change).collect::<Result<_, _>>()?, kind),
        Expr::Array(parts, kind) => Expr::Array(parts.into_iter().map(change).collect::<Result<_, _>>()?, kind),
        Expr::Call(function, parts, kind) => {
            Expr::Call(function, parts.into_iter().map(change).collect::<Result<_, _>>()?, kind)
        }
        Expr::InList(a, parts, negated) => {
            let a = one(a)?;
            Expr::InList(a, parts.into_iter().map(change).collect::<Result<_, _>>()?, negated)
        }
        Expr::Case { operand, arms, otherwise, kind } => {
            let operand = operand.map(&mut one).transpose()?;
            let otherwise = otherwise.map(&mut one).transpose()?;
            let mut changed = Vec::new();
            for (test, result) in arms {
                changed.push((change(test)?, change(result)?));
            }
            Expr::Case { operand, arms: changed, otherwise, kind }
        }
        Expr::Subquery(how, plan, left) => Expr::Subquery(how, plan, left.map(one).transpose()?),
    })
}

/// Whether an expression names a column of its own query's row.
pub(super) fn uses_row(expr: &Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |part| found |= matches!(part, Expr::Column { level: 0, .. } | Expr::Subquery(..)));
    found
}

/// Calls `look` with the expression and all its parts.
pub(in super::super) fn visit(expr: &Expr, look: &mut dyn FnMut(&Expr)) {
    look(expr);
    let _ = map_children(expr.clone(), &mut |child| {
        visit(&child, look);
        Ok(child)
    });
}

fn has_aggregate(expr: &Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |part| found |= matches!(part, Expr::Aggregate(_)));
    found
}

/// The parts of a conjunction.
fn conjuncts(filter: &Expr) -> Vec<&Expr> {
    match filter {
        Expr::And(parts) => parts.iter().flat_map(conjuncts).collect(),
        other => vec![other],
    }
}

impl Binder<'_> {
    /// A query with all its clauses.
    pub(super) fn query(&mut self, query: &ast::Query) -> Result<Select, PgError> {
        if query.fetch.is_some() || !query.pipe_operators.is_empty() || query.for_clause.is_some() {
            return Err(PgError::unsupported("FETCH FIRST in queries"));
        }
        let outer_ctes = self.ctes.len();
        if let Some(with) = &query.with {
            if with.recursive {
                return Err(PgError::unsupported("WITH RECURSIVE"));
            }
            for cte in &with.cte_tables {
                if matches!(*cte.query.body, SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_)) {
                    return Err(PgError::unsupported("data-modifying statements in WITH"));
                }
                if !cte.alias.columns.is_empty() {
                    return Err(PgError::unsupported("column names in WITH"));
                }
                self.ctes.push((fold(&cte.alias.name), (*cte.query).clone()));
            }
        }
        let result = self.query_body(query);
        self.ctes.truncate(outer_ctes);
        result
    }

    fn query_body(&mut self, query: &ast::Query) -> Result<Select, PgError> {
        let order: &[ast::OrderByExpr] = match query.order_by.as_ref().map(|order| &order.kind) {
            None => &[],
            Some(ast::OrderByKind::Expressions(order)) => order,
            Some(ast::OrderByKind::All(_)) => return Err(PgError::unsupported("ORDER BY ALL")),
        };
        let mut select = self.set_expr(&query.body, order, &query.locks)?;
        match &query.limit_clause {
            None => {}
            Some(ast::LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                select.limit = limit.as_ref().map(|limit| self.row_count(limit, "LIMIT")).transpose()?;
                select.offset = offset.as_ref().map(|offset| self.row_count(&offset.value, "OFFSET")).transpose()?;
            }
            Some(_) => return Err(PgError::unsupported("LIMIT n, m")),
        }
        Ok(select)
    }

    fn row_count(&mut self, expr: &ast::Expr, clause: &str) -> Result<Expr, PgError> {
        self.scopes.push(Scope::default());
        let bound = self.expr(expr);
        self.scopes.pop();
        let bound = bound?;
        let from = bound.kind();
        self.coerce(bound, Type::Int8, Context::Assignment)?.ok_or_else(|| {
            PgError::error(
                SqlState::DATATYPE_MISMATCH,
                format!("argument of {clause} must be type bigint, not type {}", from.name()),
            )
        })
    }

    fn set_expr(
        &mut self,
        body: &SetExpr,
        order: &[ast::OrderByExpr],
        locks: &[ast::LockClause],
    ) -> Result<Select, PgError> {
        match body {
            SetExpr::Select(select) => self.select(select, order, locks),
            SetExpr::Values(values) => self.values(values, order),
            SetExpr::Query(inner) if order.is_empty() && locks.is_empty() => self.query(inner),
            SetExpr::SetOperation { left, op, set_quantifier, right } if locks.is_empty() => {
                let operation = match (op, set_quantifier) {
                    (ast::SetOperator::Union, ast::SetQuantifier::All) => SetOperation::Union { all: true },
                    (ast::SetOperator::Union, _) => SetOperation::Union { all: false },
                    (ast::SetOperator::Intersect, ast::SetQuantifier::None) => SetOperation::Intersect,
                    (ast::SetOperator::Except, ast::SetQuantifier::None) => SetOperation::Except,
                    _ => return Err(PgError::unsupported("this set operation")),
                };
                let left = self.set_expr(left, &[], &[])?;
                let right = self.set_expr(right, &[], &[])?;
                self.set_operation(left, operation, right, order)
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) => {
                Err(PgError::unsupported("WITH before INSERT, UPDATE and DELETE"))
            }
            _ => Err(PgError::unsupported("this form of query")),
        }
    }

    fn set_operation(
        &mut self,
        left: Select,
        operation: SetOperation,
        right: Select,
        order: &[ast::OrderByExpr],
    ) -> Result<Select, PgError> {
        let name = match operation {
            SetOperation::Union { .. } => "UNION",
            SetOperation::Intersect => "INTERSECT",
            SetOperation::Except => "EXCEPT",
        };
        if left.columns.len() != right.columns.len() {
            return Err(PgError::error(
                SqlState::SYNTAX_ERROR,
                format!("each {name} query must have the same number of columns"),
            ));
        }
        // Both parts are read as subqueries whose columns are cast to the common types.
        let mut columns = Vec::new();
        let mut casts = (Vec::new(), Vec::new());
        for (index, (a, b)) in left.columns.iter().zip(right.columns.iter()).enumerate() {
            let exprs =
                vec![Expr::Column { level: 0, index, kind: a.kind }, Expr::Column { level: 0, index, kind: b.kind }];
            let (exprs, kind) = self.unify(exprs, name)?;
            let mut exprs = exprs.into_iter();
            casts.0.extend(exprs.next());
            casts.1.extend(exprs.next());
            columns.push(Column::new(a.name.clone(), kind));
        }
        let columns: Arc<[Column]> = columns.into();
        let wrap = |select: Select, output: Vec<Expr>, columns: &Arc<[Column]>| Select {
            columns: columns.clone(),
            source: Source::Query(Box::new(select)),
            filter: None,
            grouping: None,
            output,
            distinct: false,
            sort: Vec::new(),
            limit: None,
            offset: None,
            locking: Vec::new(),
            union: Vec::new(),
        };
        let mut first = wrap(left, casts.0, &columns);
        first.union.push((operation, wrap(right, casts.1, &columns)));
        if order.is_empty() {
            return Ok(first);
        }
        // ORDER BY names output columns only.
        let output = columns
            .iter()
            .enumerate()
            .map(|(index, column)| Expr::Column { level: 0, index, kind: column.kind })
            .collect();
        let mut sorted = wrap(first, output, &columns);
        for key in order {
            let column = self.output_column(&key.expr, &columns)?.ok_or_else(|| {
                PgError::error(SqlState::FEATURE_NOT_SUPPORTED, "invalid UNION/INTERSECT/EXCEPT ORDER BY clause")
            })?;
            sorted.sort.push(sort_key(column, key)?);
        }
        Ok(sorted)
    }

    fn values(&mut self, values: &ast::Values, order: &[ast::OrderByExpr]) -> Result<Select, PgError> {
        let rows = self.value_rows(values)?;
        let width = rows.first().map_or(0, Vec::len);
        let mut columns_of: Vec<Vec<Expr>> = vec![Vec::new(); width];
        for row in rows {
            if row.len() != width {
                return Err(PgError::error(SqlState::SYNTAX_ERROR, "VALUES lists must all be the same length"));
            }
            for (column, expr) in columns_of.iter_mut().zip(row) {
                column.push(expr);
            }
        }
        let mut columns = Vec::new();
        let mut unified = Vec::new();
        for (index, column) in columns_of.into_iter().enumerate() {
            let (exprs, kind) = self.unify(column, "VALUES")?;
            columns.push(Column::new(format!("column{}", index + 1), kind));
            unified.push(exprs.into_iter());
        }
        let count = values.rows.len();
        let rows = (0..count).map(|_| unified.iter_mut().filter_map(Iterator::next).collect()).collect();
        let columns: Arc<[Column]> = columns.into();
        let mut sort = Vec::new();
        for key in order {
            let column = self.output_column(&key.expr, &columns)?;
            sort.push(sort_key(column.ok_or_else(|| PgError::unsupported("ORDER BY expressions over VALUES"))?, key)?);
        }
        let output = columns
            .iter()
            .enumerate()
            .map(|(index, column)| Expr::Column { level: 0, index, kind: column.kind })
            .collect();
        Ok(Select {
            columns,
            source: Source::Values { rows, width },
            filter: None,
            grouping: None,
            output,
            distinct: false,
            sort,
            limit: None,
            offset: None,
            locking: Vec::new(),
            union: Vec::new(),
        })
    }

    pub(super) fn value_rows(&mut self, values: &ast::Values) -> Result<Vec<Vec<Expr>>, PgError> {
        self.scopes.push(Scope::default());
        let mut rows = Vec::new();
        for row in &values.rows {
            let mut bound = Vec::new();
            for expr in row.iter() {
                if matches!(expr, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
                {
                    self.scopes.pop();
                    return Err(PgError::error(SqlState::SYNTAX_ERROR, "DEFAULT is not allowed in this context"));
                }
                match self.expr(expr) {
                    Ok(expr) => bound.push(expr),
                    Err(error) => {
                        self.scopes.pop();
                        return Err(error);
                    }
                }
            }
            rows.push(bound);
        }
        self.scopes.pop();
        Ok(rows)
    }

    /// FROM's sources, joined; their columns go to the innermost scope.
    pub(super) fn sources(&mut self, from: &[ast::TableWithJoins], mode: Mode) -> Result<Source, PgError> {
        let mut source: Option<Source> = None;
        for item in from {
            let next = self.joined(item, mode)?;
            source = Some(match source {
                None => next,
                Some(left) => Source::Join { left: Box::new(left), right: Box::new(next), left_outer: false, on: None },
            });
        }
        Ok(source.unwrap_or(Source::Nothing))
    }

    fn joined(&mut self, item: &ast::TableWithJoins, mode: Mode) -> Result<Source, PgError> {
        use ast::{JoinConstraint as C, JoinOperator as J};
        let start = self.scopes.last().map_or(0, |scope| scope.columns.len());
        let mut left = self.table_factor(&item.relation, mode)?;
        for join in &item.joins {
            let middle = self.scope().columns.len();
            let right = self.table_factor(&join.relation, mode)?;
            let (left_outer, constraint) = match &join.join_operator {
                J::Join(constraint) | J::Inner(constraint) => (false, constraint),
                J::Left(constraint) | J::LeftOuter(constraint) => (true, constraint),
                J::CrossJoin(constraint) => (false, constraint),
                _ => return Err(PgError::unsupported("RIGHT, FULL and other outer joins")),
            };
            let on = match constraint {
                C::None => None,
                C::On(condition) => {
                    let bound = self.expr(condition)?;
                    Some(self.condition(bound, "JOIN/ON")?)
                }
                C::Using(names) => {
                    let mut parts = Vec::new();
                    for name in names {
                        let (_, name) = object_name(name)?;
                        let scope = self.scope();
                        let find = |from: usize, to: usize| {
                            (from..to).find(|at| *scope.columns[*at].name == *name && !scope.columns[*at].merged)
                        };
                        let (Some(a), Some(b)) = (find(start, middle), find(middle, scope.columns.len())) else {
                            return Err(PgError::error(
                                SqlState::UNDEFINED_COLUMN,
                                format!("column \"{name}\" specified in USING clause does not exist in both tables"),
                            ));
                        };
                        let column = |index: usize| Expr::Column { level: 0, index, kind: scope.columns[index].kind };
                        parts.push(Expr::Compare(
                            super::super::plan::Comparison::Equal,
                            Box::new(column(a)),
                            Box::new(column(b)),
                        ));
                        self.scope().columns[b].merged = true;
                    }
                    Some(Expr::And(parts))
                }
                C::Natural => return Err(PgError::unsupported("NATURAL JOIN")),
            };
            left = Source::Join { left: Box::new(left), right: Box::new(right), left_outer, on };
        }
        Ok(left)
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("a query has a scope")
    }

    /// Makes a source's columns known under its alias.
    fn declare(
        &mut self,
        alias: Option<&ast::TableAlias>,
        name: &str,
        id: Option<super::RelationId>,
        columns: Vec<Column>,
        single: bool,
    ) -> Result<(), PgError> {
        let shown: Arc<str> = alias.map_or_else(|| name.into(), |alias| fold(&alias.name).into());
        let position = alias.and_then(|alias| self.position(alias.name.span));
        let scope = self.scope();
        if scope.tables.iter().any(|from| from.alias == shown) {
            let error = PgError::error(SqlState("42712"), format!("table name \"{shown}\" specified more than once"));
            return Err(at(error, position));
        }
        let (offset, width) = (scope.columns.len(), columns.len());
        scope.tables.push(From { alias: shown.clone(), id, offset, width, view: None });
        let renamed: Vec<Arc<str>> = alias
            .map(|alias| alias.columns.iter().map(|column| fold(&column.name).into()).collect())
            .unwrap_or_default();
        for (index, column) in columns.into_iter().enumerate() {
            let name = match renamed.get(index) {
                Some(renamed) => renamed.clone(),
                // A function of one column is named after its alias.
                None if single => shown.clone(),
                None => column.name,
            };
            let Column { kind, modifier, origin, .. } = column;
            scope.columns.push(Named { table: shown.clone(), name, kind, modifier, origin, merged: false });
        }
        Ok(())
    }

    fn table_factor(&mut self, factor: &TableFactor, mode: Mode) -> Result<Source, PgError> {
        match factor {
            TableFactor::Table { name, alias, args: None, sample: None, .. } => {
                let (schema, bare) = object_name(name)?;
                if schema.is_none()
                    && let Some(at) = self.ctes.iter().rposition(|(cte, _)| *cte == bare)
                {
                    let query = self.ctes[at].1.clone();
                    // A CTE sees only those before it.
                    let later = self.ctes.split_off(at);
                    let scopes = std::mem::take(&mut self.scopes);
                    let plan = self.query(&query);
                    self.scopes = scopes;
                    self.ctes.extend(later);
                    let plan = plan?;
                    let columns = plan.columns.to_vec();
                    self.declare(alias.as_ref(), &bare, None, columns, false)?;
                    return Ok(Source::Query(Box::new(plan)));
                }
                if schema.as_deref().is_none_or(|schema| schema == "pg_catalog")
                    && let Some(view) = sysviews::View::find(&bare)
                {
                    let columns: Vec<Column> =
                        view.columns().iter().map(|(name, kind)| Column::new(*name, *kind)).collect();
                    let width = columns.len();
                    self.declare(alias.as_ref(), &bare, None, columns, false)?;
                    if let Some(from) = self.scope().tables.last_mut() {
                        from.view = Some(view);
                    }
                    return Ok(Source::System { view, width });
                }
                let relation = self.table(name, mode)?;
                let id = relation.id;
                let table = relation.table().expect("it was checked to be a table");
                let width = table.columns.len();
                let columns = table.shown(id);
                self.declare(alias.as_ref(), &bare, Some(id), columns, false)?;
                Ok(Source::Table { id, access: Access::All, width })
            }
            TableFactor::Table { name, alias, args: Some(args), .. } => {
                let (_, bare) = object_name(name)?;
                let mut exprs = Vec::new();
                for argument in &args.args {
                    match argument {
                        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => exprs.push(self.expr(expr)?),
                        _ => return Err(PgError::unsupported(format!("such arguments of {bare}"))),
                    }
                }
                let (source, kind) = self.table_function(&bare, exprs, name_span(name))?;
                self.declare(alias.as_ref(), &bare, None, vec![Column::new(bare.as_str(), kind)], true)?;
                Ok(source)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset: false, with_ordinality: false, .. }
                if array_exprs.len() == 1 =>
            {
                let array = self.expr(&array_exprs[0])?;
                let (source, kind) = self.table_function("unnest", vec![array], sqlparser::tokenizer::Span::empty())?;
                self.declare(alias.as_ref(), "unnest", None, vec![Column::new("unnest", kind)], true)?;
                Ok(source)
            }
            TableFactor::Derived { lateral: false, subquery, alias, .. } => {
                let Some(alias) = alias else {
                    return Err(PgError::error(SqlState::SYNTAX_ERROR, "subquery in FROM must have an alias")
                        .hint("For example, FROM (SELECT ...) [AS] foo."));
                };
                // Its own scope replaces ours: it does not see its neighbours.
                let ours = self.scopes.pop();
                let plan = self.query(subquery);
                self.scopes.extend(ours);
                let plan = plan?;
                let columns = plan.columns.to_vec();
                self.declare(Some(alias), "", None, columns, false)?;
                Ok(Source::Query(Box::new(plan)))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, mode),
            _ => Err(PgError::unsupported("this item in FROM")),
        }
    }

    /// A set-returning function.
    fn table_function(
        &mut self,
        name: &str,
        mut arguments: Vec<Expr>,
        span: sqlparser::tokenizer::Span,
    ) -> Result<(Source, Type), PgError> {
        match (name, arguments.len()) {
            ("generate_series", 2 | 3) => {
                let (mut arguments, mut kind) = {
                    let interval = arguments.len() == 3
                        && arguments.iter().take(2).any(|argument| argument.kind() == Type::Timestamptz);
                    if interval {
                        return Err(PgError::unsupported("generate_series of timestamps"));
                    }
                    self.unify(arguments, "generate_series")?
                };
                if !matches!(kind, Type::Int4 | Type::Int8) {
                    if kind == Type::Int2 || kind == Type::Text {
                        kind = Type::Int4;
                    } else {
                        return Err(PgError::unsupported(format!("generate_series of {}", kind.name())));
                    }
                    let mut cast = Vec::new();
                    for argument in arguments {
                        cast.push(self.coerce(argument, kind, Context::Explicit)?.expect("checked"));
                    }
                    arguments = cast;
                }
                let step = if arguments.len() == 3 { arguments.pop() } else { None };
                let stop = arguments.pop().expect("two arguments");
                let start = arguments.pop().expect("two arguments");
                Ok((Source::Series { start, stop, step }, kind))
            }
            ("unnest", 1) => {
                let array = arguments.remove(0);
                let element = array.kind().element().ok_or_else(|| PgError::unsupported("unnest of this type"))?;
                Ok((Source::Unnest(array), element))
            }
            _ => {
                let call = self.call(name, arguments, span)?;
                let kind = call.kind();
                Ok((Source::Function(call), kind))
            }
        }
    }

    fn select(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        locks: &[ast::LockClause],
    ) -> Result<Select, PgError> {
        if select.into.is_some()
            || select.qualify.is_some()
            || !select.named_window.is_empty()
            || !select.lateral_views.is_empty()
            || !select.sort_by.is_empty()
            || select.top.is_some()
        {
            return Err(PgError::unsupported("SELECT INTO, WINDOW and other clauses of SELECT"));
        }
        let moved = set_returning::moved_to_from(select);
        self.scopes.push(Scope::default());
        let saved = self.no_aggregates.take();
        let mut result = self.select_in_scope(moved.as_ref().unwrap_or(select), order, locks);
        if moved.is_some() && result.as_ref().is_ok_and(|select| select.grouping.is_some()) {
            result = Err(PgError::unsupported("set-returning functions beside aggregates"));
        }
        self.no_aggregates = saved;
        self.scopes.pop();
        result
    }

    fn select_in_scope(
        &mut self,
        select: &ast::Select,
        order: &[ast::OrderByExpr],
        locks: &[ast::LockClause],
    ) -> Result<Select, PgError> {
        self.no_aggregates = Some("FROM");
        let mode = if locks.is_empty() { Mode::AccessShare } else { Mode::RowShare };
        let mut source = self.sources(&select.from, mode)?;
        self.no_aggregates = Some("WHERE");
        let filter = match &select.selection {
            Some(condition) => {
                let bound = self.expr(condition)?;
                Some(self.condition(bound, "WHERE")?)
            }
            None => None,
        };
        self.no_aggregates = None;
        // A set-returning function alone in the output list is the same as in FROM.
        let series = match (&source, &select.projection[..]) {
            (Source::Nothing, [SelectItem::UnnamedExpr(ast::Expr::Function(function))])
            | (Source::Nothing, [SelectItem::ExprWithAlias { expr: ast::Expr::Function(function), .. }]) => {
                let (_, name) = object_name(&function.name)?;
                matches!(name.as_str(), "generate_series" | "unnest").then_some((name, function))
            }
            _ => None,
        };
        let mut output = if let Some((name, function)) = series {
            let mut arguments = Vec::new();
            if let ast::FunctionArguments::List(list) = &function.args {
                for argument in &list.args {
                    if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) = argument {
                        arguments.push(self.expr(expr)?);
                    }
                }
            }
            let (made, kind) = self.table_function(&name, arguments, name_span(&function.name))?;
            source = made;
            let shown = match &select.projection[0] {
                SelectItem::ExprWithAlias { alias, .. } => fold(alias),
                _ => name,
            };
            Output { columns: vec![Column::new(shown, kind)], exprs: vec![Expr::Column { level: 0, index: 0, kind }] }
        } else {
            self.output(&select.projection)?
        };
        // GROUP BY.
        let mut keys = Vec::new();
        match &select.group_by {
            ast::GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => {
                for expr in exprs {
                    keys.push(self.group_key(expr, &output)?);
                }
            }
            _ => return Err(PgError::unsupported("GROUP BY ALL and grouping sets")),
        }
        let having = match &select.having {
            Some(having) => {
                let bound = self.expr(having)?;
                Some(self.condition(bound, "HAVING")?)
            }
            None => None,
        };
        // ORDER BY: output columns, or hidden ones.
        let visible = output.columns.len();
        let mut sort = Vec::new();
        for key in order {
            let column = match self.output_column(&key.expr, &output.columns)? {
                Some(column) => column,
                None => {
                    let bound = self.expr(&key.expr)?;
                    let bound = self.settle(bound)?;
                    match output.exprs.iter().position(|expr| *expr == bound) {
                        Some(at) => at,
                        None => {
                            output.exprs.push(bound);
                            output.exprs.len() - 1
                        }
                    }
                }
            };
            sort.push(sort_key(column, key)?);
        }
        let distinct = match &select.distinct {
            None | Some(ast::Distinct::All) => false,
            Some(ast::Distinct::Distinct) => true,
            Some(ast::Distinct::On(_)) => return Err(PgError::unsupported("DISTINCT ON")),
        };
        if distinct && output.exprs.len() > visible {
            return Err(PgError::error(
                SqlState::INVALID_COLUMN_REFERENCE,
                "for SELECT DISTINCT, ORDER BY expressions must appear in select list",
            ));
        }
        // Aggregates are taken out of the expressions, which are then about the grouped row.
        let grouped = !keys.is_empty() || having.is_some() || output.exprs.iter().any(has_aggregate);
        let grouping = if grouped {
            let mut aggregates = Vec::new();
            let mut exprs = Vec::new();
            for expr in output.exprs {
                exprs.push(self.regroup(expr, &keys, &mut aggregates)?);
            }
            output.exprs = exprs;
            let having = having.map(|having| self.regroup(having, &keys, &mut aggregates)).transpose()?;
            Some(Grouping { keys, aggregates, having })
        } else {
            None
        };
        let by = grouping.as_ref().is_some_and(|grouping: &Grouping| !grouping.keys.is_empty());
        let locking = self.locking(locks, by, grouped, distinct)?;
        if let (Source::Table { id, access, .. }, Some(filter)) = (&mut source, &filter) {
            *access = self.access(*id, filter);
        }
        Ok(Select {
            columns: output.columns.into(),
            source,
            filter,
            grouping,
            output: output.exprs,
            distinct,
            sort,
            limit: None,
            offset: None,
            locking,
            union: Vec::new(),
        })
    }

    /// An index of the table whose columns the filter equates with values known before its rows are read.
    pub(super) fn access(&self, id: super::RelationId, filter: &Expr) -> Access {
        let Some(table) = self.catalog.get(id).and_then(super::Relation::table) else {
            return Access::All;
        };
        let parts = conjuncts(filter);
        let value_for = |column: usize| {
            parts.iter().find_map(|part| {
                let Expr::Compare(super::super::plan::Comparison::Equal, a, b) = part else { return None };
                let is_column = |expr: &Expr| matches!(expr, Expr::Column { level: 0, index, .. } if *index == column);
                let volatile = |expr: &Expr| {
                    let mut found = false;
                    visit(expr, &mut |part| {
                        found |= matches!(part, Expr::Call(function, ..) if function.is_volatile())
                    });
                    found
                };
                match (is_column(a), is_column(b)) {
                    (true, false) if !uses_row(b) && !volatile(b) => Some((**b).clone()),
                    (false, true) if !uses_row(a) && !volatile(a) => Some((**a).clone()),
                    _ => None,
                }
            })
        };
        for (position, index) in table.indexes.iter().enumerate() {
            if index.dropped {
                continue;
            }
            let key: Option<Vec<Expr>> = index.columns.iter().map(|column| value_for(*column)).collect();
            if let Some(key) = key {
                return Access::Index { index: position, key };
            }
        }
        Access::All
    }

    pub(super) fn output(&mut self, items: &[SelectItem]) -> Result<Output, PgError> {
        let mut columns = Vec::new();
        let mut exprs = Vec::new();
        for item in items {
            let (name, expr) = match item {
                SelectItem::UnnamedExpr(expr) => {
                    (figure_name(expr).unwrap_or_else(|| "?column?".to_owned()), self.expr(expr)?)
                }
                SelectItem::ExprWithAlias { expr, alias } => (fold(alias), self.expr(expr)?),
                SelectItem::Wildcard(_) => {
                    let scope = self.scopes.last().expect("a query has a scope");
                    if scope.tables.is_empty() {
                        return Err(PgError::error(
                            SqlState::SYNTAX_ERROR,
                            "SELECT * with no tables specified is not valid",
                        ));
                    }
                    for (index, column) in scope.columns.iter().enumerate() {
                        if !column.name.is_empty() && !column.merged {
                            columns.push(column.shown());
                            exprs.push(Expr::Column { level: 0, index, kind: column.kind });
                        }
                    }
                    continue;
                }
                SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                    let (_, table) = object_name(name)?;
                    let scope = self.scopes.last().expect("a query has a scope");
                    let Some(from) = scope.tables.iter().find(|from| *from.alias == *table) else {
                        let error = PgError::error(
                            SqlState::UNDEFINED_TABLE,
                            format!("missing FROM-clause entry for table \"{table}\""),
                        );
                        return Err(at(error, self.position(name_span(name))));
                    };
                    for index in from.offset..from.offset + from.width {
                        let column = &scope.columns[index];
                        if !column.name.is_empty() {
                            columns.push(column.shown());
                            exprs.push(Expr::Column { level: 0, index, kind: column.kind });
                        }
                    }
                    continue;
                }
                _ => return Err(PgError::unsupported("this form of output column")),
            };
            let expr = self.settle(expr)?;
            columns.push(self.shown(name, &expr));
            exprs.push(expr);
        }
        Ok(Output { columns, exprs })
    }

    /// An output column, with what RowDescription tells of where it comes from (`markTargetListOrigins`).
    fn shown(&self, name: String, expr: &Expr) -> Column {
        let mut column = Column::new(name, expr.kind());
        match expr {
            Expr::Column { level, index, .. } => {
                let named = &self.scopes[self.scopes.len() - 1 - level].columns[*index];
                (column.modifier, column.origin) = (named.modifier, named.origin);
            }
            Expr::Cast { limit, precision, .. } => column.modifier = modifier(*limit, *precision),
            _ => {}
        }
        column
    }

    /// The output column that an ORDER BY item names or counts.
    fn output_column(&mut self, expr: &ast::Expr, columns: &[Column]) -> Result<Option<usize>, PgError> {
        match expr {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(number, _) => {
                    let position: usize = number.parse().unwrap_or(0);
                    if position == 0 || position > columns.len() {
                        let error = PgError::error(
                            SqlState::INVALID_COLUMN_REFERENCE,
                            format!("ORDER BY position {number} is not in select list"),
                        );
                        return Err(at(error, self.position(value.span)));
                    }
                    Ok(Some(position - 1))
                }
                _ => Ok(None),
            },
            ast::Expr::Identifier(ident) => {
                let name = fold(ident);
                Ok(columns.iter().position(|column| *column.name == *name))
            }
            _ => Ok(None),
        }
    }

    fn group_key(&mut self, expr: &ast::Expr, output: &Output) -> Result<Expr, PgError> {
        if let ast::Expr::Value(value) = expr
            && let ast::Value::Number(number, _) = &value.value
        {
            let position: usize = number.parse().unwrap_or(0);
            return match output.exprs.get(position.wrapping_sub(1)) {
                Some(expr) => Ok(expr.clone()),
                None => Err(at(
                    PgError::error(
                        SqlState::INVALID_COLUMN_REFERENCE,
                        format!("GROUP BY position {number} is not in select list"),
                    ),
                    self.position(value.span),
                )),
            };
        }
        // An input column is preferred to an output name.
        self.no_aggregates = Some("GROUP BY");
        let bound = self.expr(expr);
        self.no_aggregates = None;
        match (bound, expr) {
            (Err(error), ast::Expr::Identifier(ident)) if error.code == SqlState::UNDEFINED_COLUMN => {
                let name = fold(ident);
                let found = output.columns.iter().position(|column| *column.name == *name);
                found.map(|at| output.exprs[at].clone()).ok_or(error)
            }
            (bound, _) => {
                let bound = bound?;
                self.settle(bound)
            }
        }
    }

    /// The expression over the grouped row.
    fn regroup(&mut self, expr: Expr, keys: &[Expr], aggregates: &mut Vec<Aggregate>) -> Result<Expr, PgError> {
        if let Some(index) = keys.iter().position(|key| *key == expr) {
            return Ok(Expr::Column { level: 0, index, kind: expr.kind() });
        }
        match expr {
            Expr::Aggregate(aggregate) => {
                let kind = aggregate.kind;
                let at = match aggregates.iter().position(|other| *other == *aggregate) {
                    Some(at) => at,
                    None => {
                        aggregates.push(*aggregate);
                        aggregates.len() - 1
                    }
                };
                Ok(Expr::Column { level: 0, index: keys.len() + at, kind })
            }
            Expr::Column { level: 0, index, .. } => {
                let scope = self.scopes.last().expect("a query has a scope");
                let column = &scope.columns[index];
                let depth = self.scopes.len() - 1;
                let reference = self.references.iter().find(|(at, of, _)| (*at, *of) == (depth, index));
                let error = PgError::error(
                    SqlState::GROUPING_ERROR,
                    format!(
                        "column \"{}.{}\" must appear in the GROUP BY clause or be used in an aggregate function",
                        column.table, column.name
                    ),
                );
                Err(at(error, reference.and_then(|(.., position)| *position)))
            }
            Expr::Subquery(_, ref plan, _) if correlated(&plan.0) => {
                Err(PgError::unsupported("correlated subqueries in grouped queries"))
            }
            other => map_children(other, &mut |child| self.regroup(child, keys, aggregates)),
        }
    }

    fn locking(
        &mut self,
        locks: &[ast::LockClause],
        by: bool,
        grouped: bool,
        distinct: bool,
    ) -> Result<Vec<RowLocking>, PgError> {
        let mut out: Vec<RowLocking> = Vec::new();
        for clause in locks {
            let parts: Vec<ast::Ident> = clause.of.as_ref().map_or_else(Vec::new, |name| {
                name.0
                    .iter()
                    .filter_map(|part| match part {
                        ast::ObjectNamePart::Identifier(ident) => Some(ident.clone()),
                        ast::ObjectNamePart::Function(_) => None,
                    })
                    .collect()
            });
            let marker = parts.first().map(|ident| ident.value.clone());
            let (strength, name, parts) = match (marker.as_deref(), &clause.lock_type) {
                (Some(NO_KEY), _) => (RowLock::NoKeyUpdate, "NO KEY UPDATE", &parts[1..]),
                (Some(KEY_SHARE), _) => (RowLock::KeyShare, "KEY SHARE", &parts[1..]),
                (_, ast::LockType::Update) => (RowLock::Update, "UPDATE", &parts[..]),
                (_, ast::LockType::Share) => (RowLock::Share, "SHARE", &parts[..]),
            };
            for (wrong, clause) in
                [(by, "GROUP BY clause"), (grouped, "aggregate functions"), (distinct, "DISTINCT clause")]
            {
                if wrong {
                    return Err(PgError::error(
                        SqlState::FEATURE_NOT_SUPPORTED,
                        format!("FOR {name} is not allowed with {clause}"),
                    ));
                }
            }
            let patience = match clause.nonblock {
                None => RowPatience::Wait,
                Some(ast::NonBlock::Nowait) => RowPatience::NoWait,
                Some(ast::NonBlock::SkipLocked) => RowPatience::SkipLocked,
            };
            let wanted = parts.last().map(fold);
            let scope = self.scopes.last().expect("a query has a scope");
            if let Some(wanted) = &wanted
                && !scope.tables.iter().any(|from| *from.alias == **wanted)
            {
                let error = PgError::error(
                    SqlState::UNDEFINED_TABLE,
                    format!("relation \"{wanted}\" in FOR {name} clause not found in FROM clause"),
                );
                return Err(at(error, parts.last().and_then(|ident| self.position(ident.span))));
            }
            for (source, from) in scope.tables.iter().enumerate() {
                if wanted.as_ref().is_some_and(|wanted| *from.alias != **wanted) {
                    continue;
                }
                let Some(id) = from.id else { continue };
                match out.iter_mut().find(|other| other.source == source) {
                    Some(other) => other.strength = other.strength.max(strength),
                    None => out.push(RowLocking { source, id, offset: from.offset, strength, patience }),
                }
            }
        }
        Ok(out)
    }
}

/// Whether a subquery names columns of an enclosing row.
fn correlated(select: &Select) -> bool {
    let mut found = false;
    let mut look = |expr: &Expr| {
        visit(expr, &mut |part| found |= matches!(part, Expr::Column { level, .. } if *level > 0));
    };
    select.output.iter().for_each(&mut look);
    select.filter.iter().for_each(&mut look);
    found
}

fn sort_key(column: usize, key: &ast::OrderByExpr) -> Result<SortKey, PgError> {
    let descending = match &key.options.sort {
        None | Some(ast::OrderBySort::Asc) => false,
        Some(ast::OrderBySort::Desc) => true,
        Some(_) => return Err(PgError::unsupported("ORDER BY … USING")),
    };
    Ok(SortKey { column, descending, nulls_first: key.options.nulls_first.unwrap_or(descending) })
}
