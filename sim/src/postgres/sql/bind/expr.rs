//! Expressions.

use sqlparser::ast::{self, BinaryOperator, FunctionArg, FunctionArgExpr, FunctionArguments, Spanned, UnaryOperator};
use sqlparser::tokenizer::Span;
use std::sync::Arc;

use super::super::functions::{self, Function};
use super::super::numeric::Decimal;
use super::super::pg_catalog;
use super::super::plan::{Aggregate, AggregateFunction, Comparison, Expr, Operator, SubPlan, SubqueryUse};
use super::super::script::at;
use super::super::types::Type;
use super::super::value::{Value, text};
use super::{Binder, Context, From, PgError, SqlState, fold, object_name, type_of};

const HINT: &str = "No operator matches the given name and argument types. You might need to add explicit type casts.";
const FUNCTION_HINT: &str =
    "No function matches the given name and argument types. You might need to add explicit type casts.";

fn no_operator(left: Type, symbol: &str, right: Type) -> PgError {
    PgError::error(
        SqlState::UNDEFINED_FUNCTION,
        format!("operator does not exist: {} {symbol} {}", left.name(), right.name()),
    )
    .hint(HINT)
}

fn comparison(op: &BinaryOperator) -> Option<(Comparison, &'static str)> {
    Some(match op {
        BinaryOperator::Eq => (Comparison::Equal, "="),
        BinaryOperator::NotEq => (Comparison::NotEqual, "<>"),
        BinaryOperator::Lt => (Comparison::Less, "<"),
        BinaryOperator::LtEq => (Comparison::LessEqual, "<="),
        BinaryOperator::Gt => (Comparison::Greater, ">"),
        BinaryOperator::GtEq => (Comparison::GreaterEqual, ">="),
        _ => return None,
    })
}

fn operator(op: &BinaryOperator) -> Option<(Operator, &'static str)> {
    Some(match op {
        BinaryOperator::Plus => (Operator::Add, "+"),
        BinaryOperator::Minus => (Operator::Subtract, "-"),
        BinaryOperator::Multiply => (Operator::Multiply, "*"),
        BinaryOperator::Divide => (Operator::Divide, "/"),
        BinaryOperator::Modulo => (Operator::Remainder, "%"),
        BinaryOperator::BitwiseAnd => (Operator::BitAnd, "&"),
        BinaryOperator::BitwiseOr => (Operator::BitOr, "|"),
        BinaryOperator::PGBitwiseShiftLeft => (Operator::ShiftLeft, "<<"),
        BinaryOperator::PGBitwiseShiftRight => (Operator::ShiftRight, ">>"),
        _ => return None,
    })
}

fn compared_as(kind: Type) -> Type {
    if kind == Type::Varchar { Type::Text } else { kind }
}

/// Whether values of the two types have an order among each other.
fn comparable(left: Type, right: Type) -> bool {
    let class = |kind: Type| match kind {
        kind if kind.numeric_rank().is_some() => 1,
        Type::Oid | Type::Regclass | Type::Regtype => 2,
        Type::Text | Type::Varchar | Type::Name | Type::Char | Type::Unknown => 3,
        kind => 10 + kind as i32,
    };
    let (a, b) = (class(left), class(right));
    if matches!(left, Type::Json) {
        return false;
    }
    a == b || (a == 1 && b == 2 && left.is_integer()) || (a == 2 && b == 1 && right.is_integer())
}

/// 0A000 for a column that a real server's catalog has, and this one's has not.
fn lacks_column(from: &From, name: &str) -> Result<(), PgError> {
    match from.view {
        Some(view) if pg_catalog::has_column(view.name(), name) => {
            Err(PgError::unsupported(format!("the column {}.{name}", view.name())))
        }
        _ => Ok(()),
    }
}

impl Binder<'_> {
    /// An expression; what is unknown stays so.
    pub(super) fn expr(&mut self, expr: &ast::Expr) -> Result<Expr, PgError> {
        use ast::Expr as A;
        match expr {
            A::Value(value) => self.literal(&value.value, value.span),
            A::Nested(inner) => self.expr(inner),
            A::Identifier(ident) => self.column(None, ident),
            A::CompoundIdentifier(parts) => {
                let (name, table) = parts.split_last().expect("a compound name has parts");
                self.column(table.last(), name)
            }
            A::IsNull(inner) => Ok(Expr::IsNull(Box::new(self.expr(inner)?), false)),
            A::IsNotNull(inner) => Ok(Expr::IsNull(Box::new(self.expr(inner)?), true)),
            A::IsTrue(inner) => self.is_bool(inner, Some(true), false),
            A::IsNotTrue(inner) => self.is_bool(inner, Some(true), true),
            A::IsFalse(inner) => self.is_bool(inner, Some(false), false),
            A::IsNotFalse(inner) => self.is_bool(inner, Some(false), true),
            A::IsUnknown(inner) => self.is_bool(inner, None, false),
            A::IsNotUnknown(inner) => self.is_bool(inner, None, true),
            A::IsDistinctFrom(left, right) | A::IsNotDistinctFrom(left, right) => {
                let (left, right) = (self.expr(left)?, self.expr(right)?);
                let (left, right) = self.comparands(left, right, "=")?;
                let negated = matches!(expr, A::IsNotDistinctFrom(..));
                Ok(Expr::Distinct(Box::new(left), Box::new(right), negated))
            }
            A::UnaryOp { op, expr } => self.unary(*op, expr),
            A::BinaryOp { left, op, right } => self.binary(left, op, right),
            A::Between { expr, negated, low, high } => {
                let tested = self.expr(expr)?;
                let (low, high) = (self.expr(low)?, self.expr(high)?);
                let (first, low) = self.comparands(tested.clone(), low, ">=")?;
                let (second, high) = self.comparands(tested, high, "<=")?;
                let both = Expr::And(vec![
                    Expr::Compare(Comparison::GreaterEqual, Box::new(first), Box::new(low)),
                    Expr::Compare(Comparison::LessEqual, Box::new(second), Box::new(high)),
                ]);
                Ok(if *negated { Expr::Not(Box::new(both)) } else { both })
            }
            A::InList { expr, list, negated } if matches!(**expr, A::Tuple(_)) => {
                let mut any = Vec::new();
                for item in list {
                    any.push(self.rows_equal(expr, item)?);
                }
                let any = Expr::Or(any);
                Ok(if *negated { Expr::Not(Box::new(any)) } else { any })
            }
            A::InList { expr, list, negated } => {
                let mut exprs = vec![self.expr(expr)?];
                for item in list {
                    exprs.push(self.expr(item)?);
                }
                // Each item is compared with the expression on its own.
                let tested = exprs.remove(0);
                let mut tested = tested;
                let mut items = Vec::new();
                for item in exprs {
                    let (left, item) = self.comparands(tested, item, "=")?;
                    tested = left;
                    items.push(item);
                }
                Ok(Expr::InList(Box::new(tested), items, *negated))
            }
            A::InSubquery { expr, subquery, negated } => {
                let left = self.expr(expr)?;
                let plan = self.subquery(subquery)?;
                if plan.columns.len() != 1 {
                    return Err(PgError::error(SqlState::SYNTAX_ERROR, "subquery has too many columns"));
                }
                let right = plan.columns[0].kind;
                let left = if left.kind() == Type::Unknown {
                    self.coerce(left, right, Context::Implicit)?
                        .ok_or_else(|| no_operator(Type::Unknown, "=", right))?
                } else {
                    left
                };
                if !comparable(left.kind(), right) {
                    return Err(no_operator(left.kind(), "=", right));
                }
                let how = SubqueryUse::In { negated: *negated };
                Ok(Expr::Subquery(how, Arc::new(SubPlan(plan)), Some(Box::new(left))))
            }
            A::Exists { subquery, negated } => {
                let plan = self.subquery(subquery)?;
                let exists = Expr::Subquery(SubqueryUse::Exists, Arc::new(SubPlan(plan)), None);
                Ok(if *negated { Expr::Not(Box::new(exists)) } else { exists })
            }
            A::Subquery(query) => {
                let plan = self.subquery(query)?;
                if plan.columns.len() != 1 {
                    return Err(PgError::error(SqlState::SYNTAX_ERROR, "subquery must return only one column"));
                }
                Ok(Expr::Subquery(SubqueryUse::Scalar, Arc::new(SubPlan(plan)), None))
            }
            A::AnyOp { left, compare_op, right, .. } => self.quantified(left, compare_op, right, true),
            A::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, false),
            A::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, false)
            }
            A::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated, true)
            }
            A::Cast { expr, data_type, kind: ast::CastKind::Cast | ast::CastKind::DoubleColon, .. } => {
                let inner = self.expr(expr)?;
                self.cast(inner, type_of(data_type)?)
            }
            A::TypedString(typed) => {
                let inner = self.literal(&typed.value.value, typed.value.span)?;
                self.cast(inner, type_of(&typed.data_type)?)
            }
            A::Interval(interval) => {
                let inner = self.expr(&interval.value)?;
                match (&inner, &interval.leading_field) {
                    (Expr::Const(Value::Text(_), _), None) => self.cast(inner, (Type::Interval, None, None)),
                    _ => Err(PgError::unsupported("intervals with fields")),
                }
            }
            A::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            A::Array(array) => {
                let mut items = Vec::new();
                for item in &array.elem {
                    items.push(self.expr(item)?);
                }
                let (items, element) = self.unify(items, "ARRAY")?;
                let kind =
                    element.array().ok_or_else(|| PgError::unsupported(format!("arrays of {}", element.name())))?;
                Ok(Expr::Array(items, kind))
            }
            A::Function(function) => self.function(function),
            A::Ceil { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                let argument = self.expr(expr)?;
                self.call("ceil", vec![argument], Span::empty())
            }
            A::Floor { expr, field: ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) } => {
                let argument = self.expr(expr)?;
                self.call("floor", vec![argument], Span::empty())
            }
            A::Position { expr, r#in } => {
                let (needle, hay) = (self.expr(expr)?, self.expr(r#in)?);
                self.call("strpos", vec![hay, needle], Span::empty())
            }
            A::Substring { expr, substring_from, substring_for, .. } => {
                let mut arguments = vec![self.expr(expr)?];
                match substring_from {
                    Some(from) => arguments.push(self.expr(from)?),
                    None => arguments.push(Expr::Const(Value::Int(1), Type::Int4)),
                }
                if let Some(length) = substring_for {
                    arguments.push(self.expr(length)?);
                }
                self.call("substring", arguments, Span::empty())
            }
            A::Trim { trim_where, trim_what, expr, trim_characters: None } => {
                let name = match trim_where {
                    Some(ast::TrimWhereField::Leading) => "ltrim",
                    Some(ast::TrimWhereField::Trailing) => "rtrim",
                    _ => "btrim",
                };
                let mut arguments = vec![self.expr(expr)?];
                if let Some(what) = trim_what {
                    arguments.push(self.expr(what)?);
                }
                self.call(name, arguments, Span::empty())
            }
            A::Extract { field, expr, .. } => {
                let argument = self.expr(expr)?;
                let field = Expr::Const(text(field.to_string().to_lowercase()), Type::Text);
                self.call("extract", vec![field, argument], Span::empty())
            }
            A::Collate { collation, .. } => Err(PgError::unsupported(format!("COLLATE {collation}"))),
            other => {
                let mut shown = other.to_string();
                if let Some((end, _)) = shown.char_indices().nth(60) {
                    shown.truncate(end);
                }
                Err(PgError::unsupported(format!("the expression {shown}")))
            }
        }
    }

    fn literal(&mut self, value: &ast::Value, span: Span) -> Result<Expr, PgError> {
        Ok(match value {
            ast::Value::Number(number, false) => {
                if let Ok(int) = number.parse::<i64>() {
                    let kind = if i32::try_from(int).is_ok() { Type::Int4 } else { Type::Int8 };
                    Expr::Const(Value::Int(int), kind)
                } else {
                    Expr::Const(Value::Numeric(Decimal::parse(number)?.to_string().into()), Type::Numeric)
                }
            }
            ast::Value::SingleQuotedString(string)
            | ast::Value::EscapedStringLiteral(string)
            | ast::Value::UnicodeStringLiteral(string)
            | ast::Value::NationalStringLiteral(string) => {
                self.literals.push((string.clone(), self.position(span)));
                Expr::Const(text(string.as_str()), Type::Unknown)
            }
            ast::Value::DollarQuotedString(string) => Expr::Const(text(string.value.as_str()), Type::Unknown),
            ast::Value::Boolean(value) => Expr::Const(Value::Bool(*value), Type::Bool),
            ast::Value::Null => Expr::Const(Value::Null, Type::Unknown),
            ast::Value::Placeholder(name) => self.parameter(name, span)?,
            other => return Err(PgError::unsupported(format!("the literal {other}"))),
        })
    }

    fn column(&mut self, table: Option<&ast::Ident>, ident: &ast::Ident) -> Result<Expr, PgError> {
        let name = fold(ident);
        let table_name = table.map(fold);
        let span = table.map_or(ident.span, |table| table.span);
        for (level, scope) in self.scopes.iter().rev().enumerate() {
            let mut matches = scope.columns.iter().enumerate().filter(|(_, column)| {
                *column.name == *name
                    && match &table_name {
                        Some(table) => *column.table == **table,
                        None => !column.merged,
                    }
            });
            if let Some((index, column)) = matches.next() {
                if matches.next().is_some() {
                    let error =
                        PgError::error(SqlState::AMBIGUOUS_COLUMN, format!("column reference \"{name}\" is ambiguous"));
                    return Err(at(error, self.position(span)));
                }
                let (kind, depth) = (column.kind, self.scopes.len() - 1 - level);
                self.references.push((depth, index, self.position(span)));
                return Ok(Expr::Column { level, index, kind });
            }
            if let Some(table) = &table_name
                && let Some(from) = scope.tables.iter().find(|from| *from.alias == **table)
            {
                lacks_column(from, &name)?;
                let error = PgError::error(SqlState::UNDEFINED_COLUMN, format!("column {table}.{name} does not exist"));
                return Err(at(error, self.position(span)));
            }
        }
        if table_name.is_none() && ident.quote_style.is_none() {
            // SQL's functions without parentheses, where sqlparser takes them for names.
            match name.as_str() {
                "current_user" | "session_user" | "user" | "current_role" | "current_catalog" | "current_schema"
                | "current_timestamp" => {
                    return self.call(&name, Vec::new(), span);
                }
                _ => {}
            }
        }
        if let Some(table) = table_name {
            let error =
                PgError::error(SqlState::UNDEFINED_TABLE, format!("missing FROM-clause entry for table \"{table}\""));
            return Err(at(error, self.position(span)));
        }
        for from in self.scopes.iter().rev().flat_map(|scope| &scope.tables) {
            lacks_column(from, &name)?;
        }
        let error = PgError::error(SqlState::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist"));
        Err(at(error, self.position(span)))
    }

    fn is_bool(&mut self, inner: &ast::Expr, wanted: Option<bool>, negated: bool) -> Result<Expr, PgError> {
        let inner = self.expr(inner)?;
        let name = match wanted {
            Some(true) => "IS TRUE",
            Some(false) => "IS FALSE",
            None => "IS UNKNOWN",
        };
        Ok(Expr::IsBool(Box::new(self.condition(inner, name)?), wanted, negated))
    }

    fn unary(&mut self, op: UnaryOperator, inner: &ast::Expr) -> Result<Expr, PgError> {
        match op {
            UnaryOperator::Not => {
                let inner = self.expr(inner)?;
                Ok(Expr::Not(Box::new(self.condition(inner, "NOT")?)))
            }
            UnaryOperator::Minus | UnaryOperator::Plus => {
                // -2147483648 and -9223372036854775808 are their types' own.
                if let (UnaryOperator::Minus, ast::Expr::Value(value)) = (op, inner)
                    && let ast::Value::Number(number, false) = &value.value
                    && let Ok(int) = format!("-{number}").parse::<i64>()
                {
                    let kind = if i32::try_from(-i128::from(int)).is_ok() { Type::Int4 } else { Type::Int8 };
                    return Ok(Expr::Const(Value::Int(int), kind));
                }
                let inner = self.expr(inner)?;
                let kind = inner.kind();
                if kind.numeric_rank().is_none() && kind != Type::Interval {
                    let symbol = if op == UnaryOperator::Minus { "-" } else { "+" };
                    return Err(PgError::error(
                        SqlState::UNDEFINED_FUNCTION,
                        format!("operator does not exist: {symbol} {}", kind.name()),
                    )
                    .hint(HINT));
                }
                Ok(if op == UnaryOperator::Minus { Expr::Negate(Box::new(inner), kind) } else { inner })
            }
            _ => Err(PgError::unsupported(format!("the operator {op}"))),
        }
    }

    /// Both sides of a comparison, where one may decide the other's type.
    fn comparands(&mut self, left: Expr, right: Expr, symbol: &str) -> Result<(Expr, Expr), PgError> {
        let (left_kind, right_kind) = (left.kind(), right.kind());
        let (left, right) = match (left_kind, right_kind) {
            (Type::Unknown, Type::Unknown) => (self.settle(left)?, self.settle(right)?),
            // There is no operator of varchar: it is compared as text.
            (Type::Unknown, kind) => (
                self.coerce(left, compared_as(kind), Context::Implicit)?
                    .ok_or_else(|| no_operator(left_kind, symbol, kind))?,
                right,
            ),
            (kind, Type::Unknown) => {
                let right = self.coerce(right, compared_as(kind), Context::Implicit)?;
                (left, right.ok_or_else(|| no_operator(kind, symbol, right_kind))?)
            }
            _ => (left, right),
        };
        if !comparable(left.kind(), right.kind()) {
            return Err(no_operator(left.kind(), symbol, right.kind()));
        }
        Ok((left, right))
    }

    fn binary(&mut self, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Result<Expr, PgError> {
        if let BinaryOperator::And | BinaryOperator::Or = op {
            let name = if *op == BinaryOperator::And { "AND" } else { "OR" };
            let mut parts = Vec::new();
            for side in [left, right] {
                let bound = self.expr(side)?;
                match (self.condition(bound, name)?, op) {
                    (Expr::And(inner), BinaryOperator::And) | (Expr::Or(inner), BinaryOperator::Or) => {
                        parts.extend(inner)
                    }
                    (other, _) => parts.push(other),
                }
            }
            return Ok(if *op == BinaryOperator::And { Expr::And(parts) } else { Expr::Or(parts) });
        }
        if let (ast::Expr::Tuple(_), ast::Expr::Tuple(_), BinaryOperator::Eq | BinaryOperator::NotEq) =
            (left, right, op)
        {
            let equal = self.rows_equal(left, right)?;
            return Ok(if *op == BinaryOperator::Eq { equal } else { Expr::Not(Box::new(equal)) });
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        if let Some((comparison, symbol)) = comparison(op) {
            let (left, right) = self.comparands(left, right, symbol)?;
            return Ok(Expr::Compare(comparison, Box::new(left), Box::new(right)));
        }
        if *op == BinaryOperator::StringConcat {
            let textual = |kind: Type| kind.is_text();
            if !textual(left.kind()) && !textual(right.kind()) {
                return Err(no_operator(left.kind(), "||", right.kind()));
            }
            let (left_kind, right_kind) = (left.kind(), right.kind());
            let error = || no_operator(left_kind, "||", right_kind);
            let left = self.coerce(left, Type::Text, Context::Assignment)?.ok_or_else(error)?;
            let right = self.coerce(right, Type::Text, Context::Assignment)?.ok_or_else(error)?;
            return Ok(Expr::Concat(Box::new(left), Box::new(right)));
        }
        let Some((operator, symbol)) = operator(op) else {
            return Err(PgError::unsupported(format!("the operator {op}")));
        };
        self.arithmetic(operator, symbol, left, right)
    }

    /// `(a, b) = (c, d)`
    fn rows_equal(&mut self, left: &ast::Expr, right: &ast::Expr) -> Result<Expr, PgError> {
        let (ast::Expr::Tuple(left), ast::Expr::Tuple(right)) = (left, right) else {
            return Err(PgError::unsupported("comparing a row with what is no list of values"));
        };
        if left.len() != right.len() {
            let error = PgError::error(SqlState::SYNTAX_ERROR, "unequal number of entries in row expressions");
            return Err(at(error, left.last().and_then(|last| self.source.behind(last.span().end))));
        }
        let mut all = Vec::new();
        for (left, right) in left.iter().zip(right) {
            let (left, right) = (self.expr(left)?, self.expr(right)?);
            let (left, right) = self.comparands(left, right, "=")?;
            all.push(Expr::Compare(Comparison::Equal, Box::new(left), Box::new(right)));
        }
        Ok(Expr::And(all))
    }

    fn arithmetic(&mut self, operator: Operator, symbol: &str, left: Expr, right: Expr) -> Result<Expr, PgError> {
        use Type::{Interval, Timestamptz, Unknown};
        let (left_kind, right_kind) = (left.kind(), right.kind());
        let error = || no_operator(left_kind, symbol, right_kind);
        let make = |left, right, kind| Ok(Expr::Arithmetic(operator, Box::new(left), Box::new(right), kind));
        match (left_kind, right_kind) {
            (Unknown, Unknown) => {
                Err(PgError::error(SqlState("42725"), format!("operator is not unique: unknown {symbol} unknown"))
                    .hint("Could not choose a best candidate operator. You might need to add explicit type casts."))
            }
            (Timestamptz, Interval) if matches!(operator, Operator::Add | Operator::Subtract) => {
                make(left, right, Timestamptz)
            }
            (Interval, Timestamptz) if operator == Operator::Add => make(right, left, Timestamptz),
            (Timestamptz, Timestamptz) if operator == Operator::Subtract => make(left, right, Interval),
            (Timestamptz, Unknown) if matches!(operator, Operator::Add | Operator::Subtract) => {
                // As PostgreSQL: `now() - '…'` takes a timestamp, `now() + '…'` an interval.
                let (kind, result) =
                    if operator == Operator::Add { (Interval, Timestamptz) } else { (Timestamptz, Interval) };
                let right = self.coerce(right, kind, Context::Implicit)?.ok_or_else(error)?;
                make(left, right, result)
            }
            (Interval, Interval) if matches!(operator, Operator::Add | Operator::Subtract) => {
                make(left, right, Interval)
            }
            (Interval, kind)
                if kind.numeric_rank().is_some() && matches!(operator, Operator::Multiply | Operator::Divide) =>
            {
                make(left, right, Interval)
            }
            (kind, Interval) if kind.numeric_rank().is_some() && operator == Operator::Multiply => {
                make(right, left, Interval)
            }
            (kind, Unknown) if kind.numeric_rank().is_some() => {
                let right = self.coerce(right, kind, Context::Implicit)?.ok_or_else(error)?;
                make(left, right, kind)
            }
            (Unknown, kind) if kind.numeric_rank().is_some() => {
                let left = self.coerce(left, kind, Context::Implicit)?.ok_or_else(error)?;
                make(left, right, kind)
            }
            _ => {
                let (Some(a), Some(b)) = (left_kind.numeric_rank(), right_kind.numeric_rank()) else {
                    return Err(error());
                };
                let whole =
                    matches!(operator, Operator::BitAnd | Operator::BitOr | Operator::ShiftLeft | Operator::ShiftRight);
                let mut kind = if a >= b { left_kind } else { right_kind };
                if whole && kind.numeric_rank().is_some_and(|rank| rank > 3) {
                    return Err(error());
                }
                if kind == Type::Float4 && left_kind != right_kind {
                    kind = Type::Float8;
                }
                if operator == Operator::Remainder && kind.numeric_rank().is_some_and(|rank| rank > 4) {
                    return Err(error());
                }
                let left = self.coerce(left, kind, Context::Implicit)?.ok_or_else(error)?;
                let right = self.coerce(right, kind, Context::Implicit)?.ok_or_else(error)?;
                make(left, right, kind)
            }
        }
    }

    fn quantified(
        &mut self,
        left: &ast::Expr,
        op: &BinaryOperator,
        right: &ast::Expr,
        any: bool,
    ) -> Result<Expr, PgError> {
        let Some((how, symbol)) = comparison(op) else {
            return Err(PgError::unsupported(format!("{op} ANY")));
        };
        if let ast::Expr::Subquery(query) = right {
            return match (how, any) {
                (Comparison::Equal, true) | (Comparison::NotEqual, false) => self.expr(&ast::Expr::InSubquery {
                    expr: Box::new(left.clone()),
                    subquery: query.clone(),
                    negated: !any,
                }),
                _ => Err(PgError::unsupported(format!("{op} ANY (subquery)"))),
            };
        }
        let mut left = self.expr(left)?;
        let mut array = self.expr(right)?;
        if left.kind() == Type::Unknown {
            left = match array.kind().element() {
                Some(element) => self.coerce(left, element, Context::Implicit)?.expect("unknown becomes anything"),
                None => self.settle(left)?,
            };
        }
        if array.kind() == Type::Unknown {
            let kind =
                left.kind().array().ok_or_else(|| PgError::unsupported(format!("arrays of {}", left.kind().name())))?;
            array = self.coerce(array, kind, Context::Implicit)?.expect("unknown becomes anything");
        }
        let Some(element) = array.kind().element() else {
            return Err(PgError::error(SqlState("42809"), "op ANY/ALL (array) requires array on right side"));
        };
        if !comparable(left.kind(), element) {
            return Err(no_operator(left.kind(), symbol, element));
        }
        Ok(Expr::Quantified(how, Box::new(left), Box::new(array), any))
    }

    fn like(&mut self, text: &ast::Expr, pattern: &ast::Expr, negated: bool, fold: bool) -> Result<Expr, PgError> {
        let (text, pattern) = (self.expr(text)?, self.expr(pattern)?);
        let symbol = if fold { "~~*" } else { "~~" };
        let (left, right) = (text.kind(), pattern.kind());
        let error = || no_operator(left, symbol, right);
        let text = self.coerce(text, Type::Text, Context::Implicit)?.ok_or_else(error)?;
        let pattern = self.coerce(pattern, Type::Text, Context::Implicit)?.ok_or_else(error)?;
        Ok(Expr::Like { text: Box::new(text), pattern: Box::new(pattern), negated, fold })
    }

    pub(super) fn cast(&mut self, inner: Expr, (kind, limit, precision): super::TypeSpec) -> Result<Expr, PgError> {
        let from = inner.kind();
        let converted = self.coerce(inner, kind, Context::Explicit)?.ok_or_else(|| {
            PgError::error(SqlState("42846"), format!("cannot cast type {} to {}", from.name(), kind.name()))
        })?;
        if limit.is_none() && precision.is_none() {
            return Ok(converted);
        }
        Ok(Expr::Cast { expr: Box::new(converted), kind, limit, precision, explicit: true })
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Expr, PgError> {
        let mut operand = match operand {
            Some(operand) => {
                let bound = self.expr(operand)?;
                Some(self.settle(bound)?)
            }
            None => None,
        };
        let mut tests = Vec::new();
        let mut results = Vec::new();
        for arm in conditions {
            let test = self.expr(&arm.condition)?;
            tests.push(match operand.take() {
                Some(tested) => {
                    let (tested, test) = self.comparands(tested, test, "=")?;
                    operand = Some(tested);
                    test
                }
                None => self.condition(test, "CASE/WHEN")?,
            });
            results.push(self.expr(&arm.result)?);
        }
        let has_else = otherwise.is_some();
        if let Some(otherwise) = otherwise {
            results.push(self.expr(otherwise)?);
        }
        let (mut results, kind) = self.unify(results, "CASE")?;
        let otherwise = if has_else { results.pop().map(Box::new) } else { None };
        Ok(Expr::Case {
            operand: operand.map(Box::new),
            arms: tests.into_iter().zip(results).collect(),
            otherwise,
            kind,
        })
    }

    fn subquery(&mut self, query: &ast::Query) -> Result<super::super::plan::Select, PgError> {
        let saved = self.no_aggregates.take();
        let plan = self.query(query);
        self.no_aggregates = saved;
        plan
    }

    fn function(&mut self, function: &ast::Function) -> Result<Expr, PgError> {
        let (schema, name) = object_name(&function.name)?;
        let span = super::name_span(&function.name);
        if function.over.is_some() || !function.within_group.is_empty() || function.null_treatment.is_some() {
            return Err(PgError::unsupported("window functions"));
        }
        if schema.is_some_and(|schema| schema != "pg_catalog") {
            return Err(self.no_function(&name, &[], span));
        }
        let list = match &function.args {
            FunctionArguments::None => &[][..],
            FunctionArguments::Subquery(query) if name == "array" => {
                let plan = self.subquery(query)?;
                return Ok(Expr::Subquery(SubqueryUse::Array, Arc::new(SubPlan(plan)), None));
            }
            FunctionArguments::Subquery(_) => {
                return Err(PgError::unsupported("functions of subqueries"));
            }
            FunctionArguments::List(list) => {
                if !list.clauses.is_empty() {
                    return Err(PgError::unsupported(format!("clauses in the arguments of {name}")));
                }
                &list.args[..]
            }
        };
        let distinct = matches!(&function.args, FunctionArguments::List(list)
            if list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct));
        if let Some(aggregate) = functions::aggregate(&name) {
            return self.aggregate(aggregate, &name, list, distinct, function.filter.as_deref(), span);
        }
        if distinct || function.filter.is_some() {
            return Err(PgError::error(
                SqlState("42809"),
                format!("DISTINCT specified, but {name} is not an aggregate function"),
            ));
        }
        let mut arguments = Vec::new();
        for argument in list {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(self.expr(expr)?),
                _ => return Err(PgError::unsupported(format!("named arguments of {name}"))),
            }
        }
        self.call(&name, arguments, span)
    }

    fn aggregate(
        &mut self,
        function: AggregateFunction,
        name: &str,
        list: &[FunctionArg],
        distinct: bool,
        filter: Option<&ast::Expr>,
        span: Span,
    ) -> Result<Expr, PgError> {
        if let Some(clause) = self.no_aggregates {
            let error =
                PgError::error(SqlState::GROUPING_ERROR, format!("aggregate functions are not allowed in {clause}"));
            return Err(at(error, self.position(span)));
        }
        self.no_aggregates = Some("aggregate function calls");
        let result = self.aggregate_call(function, name, list, distinct, filter, span);
        self.no_aggregates = None;
        result
    }

    fn aggregate_call(
        &mut self,
        mut function: AggregateFunction,
        name: &str,
        list: &[FunctionArg],
        distinct: bool,
        filter: Option<&ast::Expr>,
        span: Span,
    ) -> Result<Expr, PgError> {
        use AggregateFunction as F;
        let filter = match filter {
            Some(filter) => {
                let bound = self.expr(filter)?;
                Some(self.condition(bound, "FILTER")?)
            }
            None => None,
        };
        let mut arguments = Vec::new();
        for argument in list {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => arguments.push(self.expr(expr)?),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if function == F::Count && list.len() == 1 => {
                    function = F::CountRows;
                }
                _ => return Err(PgError::unsupported(format!("such arguments of {name}"))),
            }
        }
        let expected = match function {
            F::CountRows => 0,
            F::StringAgg => 2,
            _ => 1,
        };
        if arguments.len() != expected {
            return Err(self.no_function(name, &arguments, span));
        }
        let separator = if function == F::StringAgg { arguments.pop() } else { None };
        let separator = match separator {
            Some(separator) => self.coerce(separator, Type::Text, Context::Implicit)?,
            None => None,
        };
        let mut argument = arguments.pop();
        if let Some(unknown) = argument.take() {
            argument = Some(self.settle(unknown)?);
        }
        let argument_kind = argument.as_ref().map_or(Type::Int8, Expr::kind);
        let kind = match (function, argument_kind) {
            (F::CountRows | F::Count, _) => Type::Int8,
            (F::Sum, Type::Int2 | Type::Int4) => Type::Int8,
            (F::Sum | F::Avg, Type::Int8 | Type::Numeric) => Type::Numeric,
            (F::Avg, Type::Int2 | Type::Int4) => Type::Numeric,
            (F::Sum, Type::Float4) => Type::Float4,
            (F::Sum | F::Avg, Type::Float8 | Type::Float4) => Type::Float8,
            (F::Sum, Type::Interval) => Type::Interval,
            (F::Min | F::Max, kind) if !matches!(kind, Type::Bool | Type::Json | Type::Jsonb | Type::Bytea) => {
                if kind == Type::Varchar { Type::Text } else { kind }
            }
            (F::BoolAnd | F::BoolOr, Type::Bool) => Type::Bool,
            (F::StringAgg, kind) if kind.is_text() => Type::Text,
            (F::ArrayAgg, kind) => {
                kind.array().ok_or_else(|| PgError::unsupported(format!("arrays of {}", kind.name())))?
            }
            _ => {
                return Err(self.no_function(name, &argument.into_iter().collect::<Vec<_>>(), span));
            }
        };
        Ok(Expr::Aggregate(Box::new(Aggregate { function, argument, separator, distinct, filter, kind })))
    }

    /// There is no such function; or there is none here, and a real server has one that takes these arguments.
    fn no_function(&self, name: &str, arguments: &[Expr], span: Span) -> PgError {
        let fits = |(argument, wanted): (&Expr, Option<&str>)| match (argument.kind(), wanted) {
            (Type::Unknown, _) | (_, None) => true,
            (kind, Some(wanted)) => match Type::from_name(wanted) {
                Some(wanted) => kind == wanted || super::castable(kind, wanted, Context::Implicit),
                None => wanted.starts_with("any") && (!wanted.ends_with("array") || kind.element().is_some()),
            },
        };
        let elsewhere = pg_catalog::overloads(name)
            .filter_map(|overload| overload.takes(arguments.len()))
            .any(|types| arguments.iter().zip(types).all(fits));
        if elsewhere {
            return PgError::unsupported(format!("the function {name}"));
        }
        let kinds: Vec<&str> = arguments.iter().map(|argument| argument.kind().name()).collect();
        let error = PgError::error(
            SqlState::UNDEFINED_FUNCTION,
            format!("function {name}({}) does not exist", kinds.join(", ")),
        )
        .hint(FUNCTION_HINT);
        at(error, self.position(span))
    }

    /// A call of an ordinary function: the signature that needs the fewest casts.
    pub(super) fn call(&mut self, name: &str, arguments: Vec<Expr>, span: Span) -> Result<Expr, PgError> {
        match name {
            "coalesce" | "greatest" | "least" if !arguments.is_empty() => {
                let (arguments, kind) = self.unify(arguments, &name.to_uppercase())?;
                return Ok(match name {
                    "coalesce" => Expr::Coalesce(arguments, kind),
                    "greatest" => Expr::Call(Function::Greatest, arguments, kind),
                    _ => Expr::Call(Function::Least, arguments, kind),
                });
            }
            "nullif" if arguments.len() == 2 => {
                let mut arguments = arguments.into_iter();
                let (Some(left), Some(right)) = (arguments.next(), arguments.next()) else {
                    unreachable!("two arguments");
                };
                let (left, right) = self.comparands(left, right, "=")?;
                let kind = left.kind();
                return Ok(Expr::Call(Function::NullIf, vec![left, right], kind));
            }
            "concat" | "concat_ws" => {
                let mut settled = Vec::new();
                for argument in arguments {
                    let argument = self.settle(argument)?;
                    settled.push(
                        self.coerce(argument, Type::Text, Context::Explicit)?
                            .ok_or_else(|| PgError::unsupported(format!("{name} of such arguments")))?,
                    );
                }
                let function = if name == "concat" { Function::Concat } else { Function::ConcatWs };
                return Ok(Expr::Call(function, settled, Type::Text));
            }
            "pg_typeof" if arguments.len() == 1 => {
                return Ok(Expr::Const(Value::Int(i64::from(arguments[0].kind().oid())), Type::Regtype));
            }
            "array_length" | "cardinality" if arguments.first().is_some_and(|a| a.kind().element().is_some()) => {
                let function = if name == "cardinality" { Function::Cardinality } else { Function::ArrayLength };
                return Ok(Expr::Call(function, arguments, Type::Int4));
            }
            _ => {}
        }
        let mut best: Option<(usize, &functions::Signature)> = None;
        for signature in functions::signatures(name) {
            if signature.arguments.len() != arguments.len() {
                continue;
            }
            let mut casts = 0;
            let fits = arguments.iter().zip(signature.arguments).all(|(argument, wanted)| {
                let kind = argument.kind();
                if kind == *wanted {
                    return true;
                }
                casts += if kind == Type::Unknown { 1 } else { 10 };
                super::castable(kind, *wanted, Context::Implicit)
            });
            // Among equals the later signature is PostgreSQL's preferred one (float8, text).
            if fits && best.is_none_or(|(fewest, _)| casts <= fewest) {
                best = Some((casts, signature));
            }
        }
        let Some((_, signature)) = best else {
            return Err(self.no_function(name, &arguments, span));
        };
        let mut converted = Vec::with_capacity(arguments.len());
        for (argument, kind) in arguments.into_iter().zip(signature.arguments) {
            converted
                .push(self.coerce(argument, *kind, Context::Implicit)?.expect("it was checked that the cast exists"));
        }
        Ok(Expr::Call(signature.function, converted, signature.result))
    }
}
