//! Expressions are evaluated here, and what they do to the session and the locks.
//!
//! A statement that has to wait is evaluated again from its start afterwards. What it did or drew meanwhile (a lock taken, a
//! random number, a sleep) is in its [`Journal`] and is not done again.

use std::cmp::Ordering;
use std::time::Duration;

use super::super::error::{PgError, SqlState};
use super::super::locks::{Grant, Hold, Mode, Patience, Tag};
use super::super::settings;
use super::catalog::{Relation, RelationKind};
use super::engine::Engine;
use super::functions::{self, Function};
use super::heap::View;
use super::host::Host;
use super::numeric::Decimal;
use super::pg_catalog;
use super::plan::{Comparison, Expr, Operator, SubqueryUse};
use super::session::Session;
use super::types::Type;
use super::value::{Value, integer_range, out_of_range, text};

/// Why evaluation stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// A lock is to be waited for; the request is in its queue.
    Wait,
    /// It failed.
    Error(Box<PgError>),
}

impl From<PgError> for Stop {
    fn from(error: PgError) -> Stop {
        Stop::Error(Box::new(error))
    }
}

/// A result, unless evaluation stopped.
pub(super) type Flow<T> = Result<T, Stop>;

/// The results of volatile functions, in the order of their calls.
#[derive(Debug, Default)]
pub(super) struct Journal {
    results: Vec<Value>,
    replayed: usize,
    /// How long the statement slept by `pg_sleep`.
    pub(super) slept: Duration,
}

impl Journal {
    /// The statement begins again.
    pub(super) fn rewind(&mut self) {
        self.replayed = 0;
    }
}

/// The row at hand, and those of enclosing queries.
#[derive(Clone, Copy)]
pub(super) struct Env<'e> {
    pub(super) row: &'e [Value],
    pub(super) outer: Option<&'e Env<'e>>,
}

/// What a statement runs with.
pub(super) struct Context<'c> {
    pub(super) engine: &'c mut Engine,
    pub(super) session: &'c mut Session,
    pub(super) host: &'c dyn Host,
    pub(super) parameters: &'c [Value],
    pub(super) view: View,
    pub(super) journal: &'c mut Journal,
    pub(super) rows_read: u64,
    pub(super) notices: &'c mut Vec<PgError>,
}

fn division_by_zero() -> PgError {
    PgError::error(SqlState::DIVISION_BY_ZERO, "division by zero")
}

pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        _ => None,
    }
}

fn boolean(value: Option<bool>) -> Value {
    value.map_or(Value::Null, Value::Bool)
}

fn holds(how: Comparison, order: Ordering) -> bool {
    match how {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterEqual => order.is_ge(),
    }
}

fn compare(how: Comparison, left: &Value, right: &Value) -> Option<bool> {
    (!left.is_null() && !right.is_null()).then(|| holds(how, left.order(right)))
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(value) => *value,
        _ => 0,
    }
}

fn string(value: &Value) -> &str {
    match value {
        Value::Text(value) => value,
        _ => "",
    }
}

fn float(value: &Value) -> f64 {
    value.as_float().unwrap_or(0.0)
}

/// The condition of a lock table's answer.
pub(super) fn deadlock_error(edges: &[super::super::locks::Edge]) -> PgError {
    let lines: Vec<String> = edges.iter().map(ToString::to_string).collect();
    PgError::error(SqlState::DEADLOCK_DETECTED, "deadlock detected")
        .detail(lines.join("\n"))
        .hint("See server log for query details.")
}

/// Converts a value; `limit` and `precision` are those of `varchar(n)` and `numeric(p, s)`.
pub(super) fn convert(
    value: Value,
    from: Type,
    to: Type,
    limit: Option<u32>,
    precision: Option<(u32, u32)>,
    explicit: bool,
) -> Result<Value, PgError> {
    let converted = if from == to { value } else { convert_type(value, from, to)? };
    if let (Some(limit), Value::Text(content)) = (limit, &converted) {
        let limit = limit as usize;
        if let Some((end, _)) = content.char_indices().nth(limit) {
            if !explicit && !content[end..].chars().all(|c| c == ' ') {
                return Err(PgError::error(
                    SqlState::STRING_DATA_RIGHT_TRUNCATION,
                    format!("value too long for type character varying({limit})"),
                ));
            }
            return Ok(text(&content[..end]));
        }
    }
    if let (Some((digits, scale)), Value::Numeric(content)) = (precision, &converted) {
        let rounded = Decimal::parse(content)?.rescale(scale)?;
        let whole_digits = digits.saturating_sub(scale);
        if rounded.mantissa.unsigned_abs() >= 10u128.checked_pow(digits).unwrap_or(u128::MAX) {
            return Err(PgError::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow").detail(
                format!(
                    "A field with precision {digits}, scale {scale} must round to an absolute value less than {}.",
                    if whole_digits == 0 { "1".to_owned() } else { format!("10^{whole_digits}") }
                ),
            ));
        }
        return Ok(Value::Numeric(rounded.to_string().into()));
    }
    Ok(converted)
}

fn convert_type(value: Value, from: Type, to: Type) -> Result<Value, PgError> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    if to.is_text() && from.is_text() {
        return if to == Type::Name || to == Type::Char { Value::decode_text(to, string(&value)) } else { Ok(value) };
    }
    if from.is_text() {
        return Value::decode_text(to, string(&value));
    }
    if to.is_text() {
        if let Value::Bool(value) = value {
            // The cast says true; the output function says t.
            return Ok(text(if value { "true" } else { "false" }));
        }
        return Ok(text(value.to_text(from)));
    }
    match (&value, to) {
        (Value::Bool(value), Type::Int4) => Ok(Value::Int(i64::from(*value))),
        (Value::Int(value), Type::Bool) => Ok(Value::Bool(*value != 0)),
        (Value::Int(number), kind) if kind.is_integer() => {
            let (low, high) = integer_range(kind);
            if (low..=high).contains(number) { Ok(value) } else { Err(out_of_range(kind)) }
        }
        (_, Type::Float8) => Ok(Value::Float(float(&value))),
        #[expect(clippy::cast_possible_truncation, reason = "this is what the cast does")]
        (_, Type::Float4) => Ok(Value::Float(f64::from(float(&value) as f32))),
        (Value::Int(number), Type::Numeric) => Ok(Value::Numeric(number.to_string().into())),
        (Value::Float(number), Type::Numeric) => Ok(Value::Numeric(Decimal::from_float(*number)?.to_string().into())),
        (Value::Numeric(number), kind) if kind.is_integer() => {
            let (low, high) = integer_range(kind);
            match Decimal::parse(number)?.to_int() {
                Some(number) if (low..=high).contains(&number) => Ok(Value::Int(number)),
                _ => Err(out_of_range(kind)),
            }
        }
        (Value::Float(number), kind) if kind.is_integer() => {
            let (low, high) = integer_range(kind);
            let rounded = number.round_ties_even();
            #[expect(clippy::cast_precision_loss, reason = "the limits are powers of two or exact")]
            let fits = rounded >= low as f64 && rounded < high as f64 + 1.0;
            #[expect(clippy::cast_possible_truncation, reason = "checked")]
            if fits { Ok(Value::Int(rounded as i64)) } else { Err(out_of_range(kind)) }
        }
        (Value::Array(_), kind) if kind.element().is_some() => Ok(value),
        (Value::Text(_), Type::Json | Type::Jsonb) => Ok(value),
        _ => Err(PgError::unsupported(format!("the cast from {} to {}", from.name(), to.name()))),
    }
}

fn arithmetic(how: Operator, left: &Value, right: &Value, kind: Type) -> Result<Value, PgError> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => {
            let overflow = || out_of_range(kind);
            let result = match how {
                Operator::Add => a.checked_add(*b),
                Operator::Subtract => a.checked_sub(*b),
                Operator::Multiply => a.checked_mul(*b),
                Operator::Divide if *b == 0 => return Err(division_by_zero()),
                Operator::Remainder if *b == 0 => return Err(division_by_zero()),
                Operator::Divide => a.checked_div(*b),
                Operator::Remainder => Some(a.checked_rem(*b).unwrap_or(0)),
                Operator::BitAnd => Some(a & b),
                Operator::BitOr => Some(a | b),
                Operator::ShiftLeft => Some(a.wrapping_shl(u32::try_from(b & 63).unwrap_or(0))),
                Operator::ShiftRight => Some(a.wrapping_shr(u32::try_from(b & 63).unwrap_or(0))),
            };
            let (low, high) = integer_range(kind);
            match result {
                Some(result) if (low..=high).contains(&result) => Ok(Value::Int(result)),
                _ => Err(overflow()),
            }
        }
        (Value::Timestamptz(a), Value::Timestamptz(b)) => Ok(Value::Interval(a - b)),
        (Value::Timestamptz(a), Value::Interval(b)) => {
            Ok(Value::Timestamptz(if how == Operator::Add { a + b } else { a - b }))
        }
        (Value::Interval(a), Value::Interval(b)) => {
            Ok(Value::Interval(if how == Operator::Add { a + b } else { a - b }))
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "intervals are far below 2^53"
        )]
        (Value::Interval(a), factor) => {
            let factor = float(factor);
            if how == Operator::Divide && factor == 0.0 {
                return Err(division_by_zero());
            }
            let product = if how == Operator::Multiply { *a as f64 * factor } else { *a as f64 / factor };
            Ok(Value::Interval(product.round() as i64))
        }
        (Value::Float(_), _) | (_, Value::Float(_)) => {
            let (a, b) = (float(left), float(right));
            let result = match how {
                Operator::Add => a + b,
                Operator::Subtract => a - b,
                Operator::Multiply => a * b,
                Operator::Divide if b == 0.0 => return Err(division_by_zero()),
                _ => a / b,
            };
            if result.is_infinite() && a.is_finite() && b.is_finite() {
                return Err(PgError::error(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
            }
            Ok(Value::Float(result))
        }
        _ => {
            let (Some(a), Some(b)) = (left.as_decimal(), right.as_decimal()) else {
                return Err(PgError::unsupported("this arithmetic"));
            };
            let result = match how {
                Operator::Add => a.add(b)?,
                Operator::Subtract => a.add(b.negate())?,
                Operator::Multiply => a.multiply(b)?,
                Operator::Divide => a.divide(b)?,
                Operator::Remainder => a.remainder(b)?,
                _ => return Err(PgError::unsupported("bit operators on numeric")),
            };
            Ok(Value::Numeric(result.to_string().into()))
        }
    }
}

/// `a.b` or `b`, as `::regclass` reads it.
pub(super) fn regclass_name(name: &str) -> (Option<String>, String) {
    let part = |part: &str| match part.strip_prefix('"').and_then(|p| p.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => part.to_lowercase(),
    };
    match name.split_once('.') {
        Some((schema, name)) => (Some(part(schema)), part(name)),
        None => (None, part(name)),
    }
}

impl Context<'_> {
    /// The value of an expression.
    pub(super) fn eval(&mut self, expr: &Expr, env: &Env<'_>) -> Flow<Value> {
        Ok(match expr {
            Expr::Const(value, _) => value.clone(),
            Expr::Param(index, _) => self.parameters.get(*index).cloned().unwrap_or(Value::Null),
            Expr::Column { level, index, .. } => {
                let mut env = env;
                for _ in 0..*level {
                    env = env.outer.expect("a column's level exists");
                }
                env.row.get(*index).cloned().unwrap_or(Value::Null)
            }
            Expr::Compare(how, left, right) => {
                // Comparing a column with a value is the hot case: no clones.
                if let (Expr::Column { level: 0, index, .. }, Expr::Const(right, _)) = (&**left, &**right) {
                    return Ok(boolean(env.row.get(*index).and_then(|left| compare(*how, left, right))));
                }
                let left = self.eval(left, env)?;
                let right = self.eval(right, env)?;
                boolean(compare(*how, &left, &right))
            }
            Expr::And(parts) => {
                let mut result = Some(true);
                for part in parts {
                    match truth(&self.eval(part, env)?) {
                        Some(false) => return Ok(Value::Bool(false)),
                        None => result = None,
                        Some(true) => {}
                    }
                }
                boolean(result)
            }
            Expr::Or(parts) => {
                let mut result = Some(false);
                for part in parts {
                    match truth(&self.eval(part, env)?) {
                        Some(true) => return Ok(Value::Bool(true)),
                        None => result = None,
                        Some(false) => {}
                    }
                }
                boolean(result)
            }
            Expr::Not(inner) => boolean(truth(&self.eval(inner, env)?).map(|value| !value)),
            Expr::Negate(inner, kind) => match self.eval(inner, env)? {
                Value::Int(value) => {
                    let negated = value.checked_neg().filter(|v| *v <= integer_range(*kind).1);
                    Value::Int(negated.ok_or_else(|| out_of_range(*kind))?)
                }
                Value::Float(value) => Value::Float(-value),
                Value::Interval(value) => Value::Interval(-value),
                Value::Numeric(value) => Value::Numeric(Decimal::parse(&value)?.negate().to_string().into()),
                other => other,
            },
            Expr::Arithmetic(how, left, right, kind) => {
                let left = self.eval(left, env)?;
                let right = self.eval(right, env)?;
                if left.is_null() || right.is_null() { Value::Null } else { arithmetic(*how, &left, &right, *kind)? }
            }
            Expr::Concat(left, right) => match (self.eval(left, env)?, self.eval(right, env)?) {
                (Value::Text(left), Value::Text(right)) => text(format!("{left}{right}")),
                _ => Value::Null,
            },
            Expr::IsNull(inner, negated) => Value::Bool(self.eval(inner, env)?.is_null() != *negated),
            Expr::IsBool(inner, wanted, negated) => {
                Value::Bool((truth(&self.eval(inner, env)?) == *wanted) != *negated)
            }
            Expr::Distinct(left, right, negated) => {
                let (left, right) = (self.eval(left, env)?, self.eval(right, env)?);
                let same = match (left.is_null(), right.is_null()) {
                    (true, true) => true,
                    (false, false) => left.order(&right).is_eq(),
                    _ => false,
                };
                Value::Bool(same == *negated)
            }
            Expr::InList(tested, items, negated) => {
                let tested = self.eval(tested, env)?;
                let mut found = Some(false);
                for item in items {
                    let item = self.eval(item, env)?;
                    match compare(Comparison::Equal, &tested, &item) {
                        Some(true) => {
                            found = Some(true);
                            break;
                        }
                        None => found = None,
                        Some(false) => {}
                    }
                }
                boolean(found.map(|found| found != *negated))
            }
            Expr::Quantified(how, left, array, any) => {
                let left = self.eval(left, env)?;
                let Value::Array(items) = self.eval(array, env)? else {
                    return Ok(Value::Null);
                };
                let mut result = Some(!*any);
                for item in items.iter() {
                    match compare(*how, &left, item) {
                        Some(value) if value == *any => {
                            result = Some(*any);
                            break;
                        }
                        None => result = None,
                        Some(_) => {}
                    }
                }
                boolean(result)
            }
            Expr::Like { text, pattern, negated, fold } => match (self.eval(text, env)?, self.eval(pattern, env)?) {
                (Value::Text(text), Value::Text(pattern)) => {
                    Value::Bool(functions::like(&text, &pattern, *fold) != *negated)
                }
                _ => Value::Null,
            },
            Expr::Case { operand, arms, otherwise, .. } => {
                let operand = match operand {
                    Some(operand) => Some(self.eval(operand, env)?),
                    None => None,
                };
                for (test, result) in arms {
                    let test = self.eval(test, env)?;
                    let taken = match &operand {
                        Some(operand) => compare(Comparison::Equal, operand, &test) == Some(true),
                        None => truth(&test) == Some(true),
                    };
                    if taken {
                        return self.eval(result, env);
                    }
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise, env)?,
                    None => Value::Null,
                }
            }
            Expr::Cast { expr, kind, limit, precision, explicit } => {
                let value = self.eval(expr, env)?;
                let from = expr.kind();
                if *kind == Type::Regclass && from.is_text() {
                    return self.regclass(&value);
                }
                if from == Type::Regclass && kind.is_text() && !value.is_null() {
                    let name = u32::try_from(int(&value)).ok().and_then(|id| self.engine.catalog.get(id));
                    return Ok(
                        name.map_or_else(|| text(int(&value).to_string()), |found| Value::Text(found.name.clone()))
                    );
                }
                convert(value, from, *kind, *limit, *precision, *explicit)?
            }
            Expr::Coalesce(parts, _) => {
                for part in parts {
                    let value = self.eval(part, env)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Value::Null
            }
            Expr::Array(items, _) => {
                let items: Vec<Value> = items.iter().map(|item| self.eval(item, env)).collect::<Flow<_>>()?;
                Value::Array(items.into())
            }
            Expr::Call(function, arguments, kind) => {
                return self.call(*function, arguments, *kind, env);
            }
            Expr::Aggregate(_) => unreachable!("aggregates were taken out of grouped queries"),
            Expr::Subquery(how, plan, left) => {
                let rows = self.select(&plan.0, Some(env), if *how == SubqueryUse::Exists { Some(1) } else { None })?;
                match how {
                    SubqueryUse::Exists => Value::Bool(!rows.is_empty()),
                    SubqueryUse::Scalar => {
                        if rows.len() > 1 {
                            return Err(PgError::error(
                                SqlState::CARDINALITY_VIOLATION,
                                "more than one row returned by a subquery used as an expression",
                            )
                            .into());
                        }
                        rows.into_iter().next().and_then(|row| row.into_iter().next()).unwrap_or(Value::Null)
                    }
                    SubqueryUse::Array => {
                        Value::Array(rows.into_iter().filter_map(|row| row.into_iter().next()).collect())
                    }
                    SubqueryUse::In { negated } => {
                        let left = self.eval(left.as_ref().expect("IN has a left side"), env)?;
                        let mut found = Some(false);
                        for row in &rows {
                            match compare(Comparison::Equal, &left, &row[0]) {
                                Some(true) => {
                                    found = Some(true);
                                    break;
                                }
                                None => found = None,
                                Some(false) => {}
                            }
                        }
                        boolean(found.map(|found| found != *negated))
                    }
                }
            }
        })
    }

    fn regclass(&mut self, value: &Value) -> Flow<Value> {
        let Value::Text(name) = value else {
            return Ok(Value::Null);
        };
        if let Ok(id) = name.parse::<u32>() {
            return Ok(Value::Int(i64::from(id)));
        }
        match self.find_relation(name) {
            Some(relation) => Ok(Value::Int(i64::from(relation.id))),
            None => {
                let (schema, bare) = regclass_name(name);
                if pg_catalog::has_relation(schema.as_deref(), &bare) {
                    return Err(PgError::unsupported(format!("the catalog {name} as regclass")).into());
                }
                Err(PgError::error(SqlState::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist")).into())
            }
        }
    }

    fn find_relation(&self, name: &str) -> Option<&Relation> {
        let (schema, bare) = regclass_name(name);
        self.engine.catalog.find(&self.session.database, self.session.pid, &bare, schema.as_deref())
    }

    fn call(&mut self, function: Function, arguments: &[Expr], kind: Type, env: &Env<'_>) -> Flow<Value> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.eval(argument, env)?);
        }
        if !function.takes_null() && values.iter().any(Value::is_null) {
            return Ok(Value::Null);
        }
        if !function.is_volatile() {
            return self.compute(function, &values, kind);
        }
        if let Some(result) = self.journal.results.get(self.journal.replayed) {
            self.journal.replayed += 1;
            return Ok(result.clone());
        }
        let result = self.perform(function, &values)?;
        self.journal.results.push(result.clone());
        self.journal.replayed += 1;
        Ok(result)
    }

    /// Functions that only compute.
    fn compute(&mut self, function: Function, values: &[Value], kind: Type) -> Flow<Value> {
        use Function as F;
        let first = || values.first().unwrap_or(&Value::Null);
        let s = |index: usize| values.get(index).map_or("", string);
        let n = |index: usize| values.get(index).map_or(0, int);
        let d = |index: usize| values.get(index).and_then(Value::as_decimal);
        let size = |length: usize| Value::Int(i64::try_from(length).unwrap_or(i64::MAX));
        let chars = |s: &str| -> Vec<char> { s.chars().collect() };
        Ok(match function {
            F::Abs => match first() {
                Value::Int(value) => Value::Int(
                    value.checked_abs().filter(|v| *v <= integer_range(kind).1).ok_or_else(|| out_of_range(kind))?,
                ),
                Value::Float(value) => Value::Float(value.abs()),
                _ => match d(0) {
                    Some(value) if value.mantissa < 0 => Value::Numeric(value.negate().to_string().into()),
                    _ => first().clone(),
                },
            },
            F::Ceil | F::Floor | F::Round | F::Trunc => match first() {
                Value::Float(value) => Value::Float(match function {
                    F::Ceil => value.ceil(),
                    F::Floor => value.floor(),
                    F::Trunc => value.trunc(),
                    _ => value.round_ties_even(),
                }),
                _ => {
                    let value = d(0).unwrap_or(Decimal::from_int(0));
                    let unit = 10i128.checked_pow(value.scale).unwrap_or(i128::MAX);
                    let mantissa = match function {
                        F::Ceil => -(-value.mantissa).div_euclid(unit),
                        F::Floor => value.mantissa.div_euclid(unit),
                        F::Trunc => value.mantissa / unit,
                        _ => value.rescale(0)?.mantissa,
                    };
                    Value::Numeric(Decimal { mantissa, scale: 0 }.to_string().into())
                }
            },
            F::RoundTo => {
                let scale = u32::try_from(n(1)).map_err(|_| PgError::unsupported("round to negative places"))?;
                Value::Numeric(d(0).unwrap_or(Decimal::from_int(0)).rescale(scale)?.to_string().into())
            }
            F::Sign => Value::Float(float(first()).partial_cmp(&0.0).map_or(0.0, |order| f64::from(order as i8))),
            F::Mod => arithmetic(Operator::Remainder, &values[0], &values[1], kind)?,
            F::Power => Value::Float(float(first()).powf(float(&values[1]))),
            F::Sqrt => {
                if float(first()) < 0.0 {
                    return Err(
                        PgError::error(SqlState("2201F"), "cannot take square root of a negative number").into()
                    );
                }
                Value::Float(float(first()).sqrt())
            }
            F::Exp => Value::Float(float(first()).exp()),
            F::Ln => {
                if float(first()) <= 0.0 {
                    return Err(PgError::error(SqlState("2201E"), "cannot take logarithm of a negative number").into());
                }
                Value::Float(float(first()).ln())
            }
            F::Ascii => Value::Int(s(0).chars().next().map_or(0, |c| i64::from(u32::from(c)))),
            F::Chr => {
                let code = u32::try_from(n(0)).ok().filter(|code| *code != 0).and_then(char::from_u32);
                text(
                    code.ok_or_else(|| {
                        PgError::error(SqlState("54000"), "requested character not valid for encoding")
                    })?
                    .to_string(),
                )
            }
            F::Btrim | F::Ltrim | F::Rtrim => {
                let set: Vec<char> = if values.len() > 1 { chars(s(1)) } else { vec![' '] };
                text(match function {
                    F::Ltrim => s(0).trim_start_matches(&set[..]),
                    F::Rtrim => s(0).trim_end_matches(&set[..]),
                    _ => s(0).trim_matches(&set[..]),
                })
            }
            F::Length => size(s(0).chars().count()),
            F::OctetLength => match first() {
                Value::Bytes(bytes) => size(bytes.len()),
                _ => size(s(0).len()),
            },
            F::Lower => text(s(0).to_lowercase()),
            F::Upper => text(s(0).to_uppercase()),
            F::Md5 => text(functions::md5(s(0).as_bytes())),
            F::Replace => text(if s(1).is_empty() { s(0).to_owned() } else { s(0).replace(s(1), s(2)) }),
            F::Repeat => {
                let times = usize::try_from(n(1)).unwrap_or(0);
                if times.saturating_mul(s(0).len()) > 1 << 28 {
                    return Err(PgError::error(SqlState("54000"), "requested length too large").into());
                }
                text(s(0).repeat(times))
            }
            F::Reverse => text(s(0).chars().rev().collect::<String>()),
            F::Left | F::Right => {
                let all = chars(s(0));
                let length = i64::try_from(all.len()).unwrap_or(i64::MAX);
                let take = if n(1) >= 0 { n(1).min(length) } else { (length + n(1)).max(0) };
                let take = usize::try_from(take).unwrap_or(0);
                let part = if function == F::Left { &all[..take] } else { &all[all.len() - take..] };
                text(part.iter().collect::<String>())
            }
            F::Lpad | F::Rpad => {
                let all = chars(s(0));
                let wanted = usize::try_from(n(1)).unwrap_or(0).min(1 << 24);
                let fill = if values.len() > 2 { chars(s(2)) } else { vec![' '] };
                if all.len() >= wanted || fill.is_empty() {
                    text(all[..wanted.min(all.len())].iter().collect::<String>())
                } else {
                    let padding: String = fill.iter().cycle().take(wanted - all.len()).collect();
                    text(if function == F::Lpad { format!("{padding}{}", s(0)) } else { format!("{}{padding}", s(0)) })
                }
            }
            F::RegexpReplace => {
                let flags = if values.len() > 3 { s(3) } else { "" };
                text(super::regex::replace(s(0), s(1), s(2), flags)?)
            }
            F::SplitPart => {
                let parts: Vec<&str> = if s(1).is_empty() { vec![s(0)] } else { s(0).split(s(1)).collect() };
                let count = i64::try_from(parts.len()).unwrap_or(i64::MAX);
                let index = match n(2) {
                    0 => {
                        return Err(PgError::error(
                            SqlState::INVALID_PARAMETER_VALUE,
                            "field position must not be zero",
                        )
                        .into());
                    }
                    index if index > 0 => index - 1,
                    index => count + index,
                };
                text(usize::try_from(index).ok().and_then(|index| parts.get(index)).copied().unwrap_or(""))
            }
            F::Strpos => match s(0).find(s(1)) {
                Some(at) => size(s(0)[..at].chars().count() + 1),
                None => Value::Int(0),
            },
            F::Substring => {
                let start = n(1);
                let end = match values.get(2) {
                    Some(length) if int(length) < 0 => {
                        return Err(PgError::error(SqlState("22011"), "negative substring length not allowed").into());
                    }
                    Some(length) => start.saturating_add(int(length)),
                    None => i64::MAX,
                };
                let skip = usize::try_from((start - 1).max(0)).unwrap_or(usize::MAX);
                let take = usize::try_from((end - start.max(1)).max(0)).unwrap_or(usize::MAX);
                text(s(0).chars().skip(skip).take(take).collect::<String>())
            }
            F::QuoteIdent => {
                let plain = s(0).starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                    && s(0).chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                text(if plain { s(0).to_owned() } else { format!("\"{}\"", s(0).replace('"', "\"\"")) })
            }
            F::QuoteLiteral => text(format!("'{}'", s(0).replace('\'', "''"))),
            F::Concat => text(values.iter().map(string).collect::<String>()),
            F::ConcatWs => match values.split_first() {
                Some((Value::Text(separator), rest)) => {
                    let parts: Vec<&str> = rest.iter().filter(|value| !value.is_null()).map(string).collect();
                    text(parts.join(separator))
                }
                _ => Value::Null,
            },
            F::Greatest | F::Least => {
                let present = values.iter().filter(|value| !value.is_null());
                let best = if function == F::Greatest {
                    present.max_by(|a, b| a.order(b))
                } else {
                    present.min_by(|a, b| a.order(b))
                };
                best.cloned().unwrap_or(Value::Null)
            }
            F::NullIf => {
                if compare(Comparison::Equal, &values[0], &values[1]) == Some(true) {
                    Value::Null
                } else {
                    values[0].clone()
                }
            }
            F::ArrayLength => match (first(), n(1)) {
                (Value::Array(items), 1) if !items.is_empty() => size(items.len()),
                _ => Value::Null,
            },
            F::Cardinality => match first() {
                Value::Array(items) => size(items.len()),
                _ => Value::Null,
            },
            F::DatePart => {
                let us = match values[1] {
                    Value::Timestamptz(us) if s(0) == "epoch" => us + 946_684_800_000_000,
                    Value::Interval(us) if s(0) == "epoch" => us,
                    _ => return Err(PgError::unsupported(format!("extract({})", s(0))).into()),
                };
                let seconds = Decimal { mantissa: i128::from(us), scale: 6 };
                if kind == Type::Numeric {
                    Value::Numeric(seconds.to_string().into())
                } else {
                    Value::Float(seconds.to_float())
                }
            }
            F::Now => Value::Timestamptz(self.session.transaction.start_us),
            F::StatementTimestamp => Value::Timestamptz(self.session.transaction.statement_us),
            F::Version => Value::Text(self.engine.version_text.clone()),
            F::CurrentDatabase => Value::Text(self.session.database.clone()),
            F::CurrentSchema => match self.engine.current_schema(self.session) {
                Some(schema) => text(schema),
                None => Value::Null,
            },
            F::CurrentSchemas => {
                let mut schemas = Vec::new();
                if truth(first()) == Some(true) {
                    schemas.push(text("pg_catalog"));
                }
                schemas.extend(self.engine.current_schema(self.session).map(text));
                Value::Array(schemas.into())
            }
            F::CurrentUser => text(self.session.user()),
            F::SessionUser => text(self.session.session_user()),
            F::CurrentSetting => match self.session.settings.examine(s(0), self.session.superuser()) {
                Ok(value) => text(value),
                Err(error) if error.code == SqlState::UNDEFINED_OBJECT && values.get(1) == Some(&Value::Bool(true)) => {
                    Value::Null
                }
                Err(error) => return Err(error.into()),
            },
            F::BackendPid => Value::Int(i64::from(self.session.pid)),
            F::BlockingPids => {
                let pid = i32::try_from(n(0)).unwrap_or(0);
                let pids = self.engine.locks.blocking(pid);
                Value::Array(pids.into_iter().map(|pid| Value::Int(i64::from(pid))).collect())
            }
            F::InRecovery => Value::Bool(self.host.in_recovery()),
            F::PostmasterStart => {
                let ago = self.host.elapsed().saturating_sub(self.host.postmaster_start());
                Value::Timestamptz(self.host.now_us() - i64::try_from(ago.as_micros()).unwrap_or(0))
            }
            F::CurrentXactId => {
                if self.host.in_recovery() {
                    return Err(PgError::error(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        "cannot assign TransactionIds during recovery",
                    )
                    .into());
                }
                Value::Int(i64::try_from(self.engine.assign_top_xid(self.session)).unwrap_or(i64::MAX))
            }
            F::CurrentXactIdIfAssigned => match self.session.xid() {
                Some(xid) => Value::Int(i64::try_from(xid).unwrap_or(i64::MAX)),
                None => Value::Null,
            },
            F::Currval => {
                let id = u32::try_from(n(0)).unwrap_or(0);
                match self.session.sequences.get(&id) {
                    Some(value) => Value::Int(*value),
                    None => {
                        let name = self.engine.catalog.get(id).map_or_else(String::new, |found| found.name.to_string());
                        return Err(PgError::error(
                            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                            format!("currval of sequence \"{name}\" is not yet defined in this session"),
                        )
                        .into());
                    }
                }
            }
            F::Lastval => match self.session.last_sequence.and_then(|id| self.session.sequences.get(&id)) {
                Some(value) => Value::Int(*value),
                None => {
                    return Err(PgError::error(
                        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
                        "lastval is not yet defined in this session",
                    )
                    .into());
                }
            },
            F::ToRegclass => match self.find_relation(s(0)) {
                Some(relation) => Value::Int(i64::from(relation.id)),
                None => Value::Null,
            },
            F::ToRegtype => Value::decode_text(Type::Regtype, s(0)).unwrap_or(Value::Null),
            F::FormatType => match first() {
                Value::Int(oid) => match u32::try_from(*oid).ok().and_then(Type::from_oid) {
                    Some(kind) => text(kind.name()),
                    None => text("???"),
                },
                _ => Value::Null,
            },
            F::TableIsVisible => {
                let id = u32::try_from(n(0)).unwrap_or(0);
                let pid = self.session.pid;
                self.engine.catalog.get(id).map_or(Value::Null, |relation| Value::Bool(relation.visible(pid)))
            }
            F::TypeIsVisible => Value::Bool(u32::try_from(n(0)).ok().and_then(Type::from_oid).is_some()),
            F::EncodingToChar => text(if n(0) == 6 { "UTF8" } else { "" }),
            F::GetUserById => {
                let found = usize::try_from(n(0) - 10).ok().and_then(|index| self.engine.roles.get(index));
                text(found.map_or_else(|| format!("unknown (OID={})", n(0)), |role| role.name.clone()))
            }
            F::MyTempSchema => Value::Int(0),
            _ => unreachable!("the function is volatile"),
        })
    }

    /// Functions that do something, or give something new each time.
    fn perform(&mut self, function: Function, values: &[Value]) -> Flow<Value> {
        use Function as F;
        let s = |index: usize| values.get(index).map_or("", string);
        let n = |index: usize| values.get(index).map_or(0, int);
        Ok(match function {
            F::Random => Value::Float(self.engine.random()),
            F::ClockTimestamp => {
                let slept = i64::try_from(self.journal.slept.as_micros()).unwrap_or(0);
                Value::Timestamptz(self.host.now_us() + slept)
            }
            F::Sleep => {
                let seconds = float(&values[0]);
                if seconds > 0.0 {
                    self.journal.slept += Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4);
                }
                Value::Void
            }
            F::SleepFor => {
                if let Value::Interval(us) = values[0] {
                    self.journal.slept += Duration::from_micros(u64::try_from(us).unwrap_or(0));
                }
                Value::Void
            }
            F::CancelBackend | F::TerminateBackend => {
                let pid = i32::try_from(n(0)).unwrap_or(0);
                let rows = self.host.activity();
                let Some(row) = rows.iter().find(|row| row.pid == pid) else {
                    self.notices.push(PgError::warning(
                        SqlState::SUCCESSFUL_COMPLETION,
                        format!("PID {pid} is not a PostgreSQL backend process"),
                    ));
                    // PostgreSQL warns with ERRCODE_WARNING.
                    if let Some(notice) = self.notices.last_mut() {
                        notice.code = SqlState("01000");
                    }
                    return Ok(Value::Bool(false));
                };
                if !self.session.superuser() {
                    let owner = row.usename.as_deref().unwrap_or("");
                    if self.engine.role(owner).is_some_and(|role| role.superuser) || row.usename.is_none() {
                        let verb = if function == F::CancelBackend {
                            "cancel superuser query"
                        } else {
                            "terminate superuser process"
                        };
                        return Err(PgError::error(
                            SqlState::INSUFFICIENT_PRIVILEGE,
                            format!("must be a superuser to {verb}"),
                        )
                        .into());
                    }
                    if owner != self.session.user() {
                        return Err(PgError::error(
                            SqlState::INSUFFICIENT_PRIVILEGE,
                            format!(
                                "must be a member of the role whose {} is being {} or member of pg_signal_backend",
                                if function == F::CancelBackend { "query" } else { "process" },
                                if function == F::CancelBackend { "canceled" } else { "terminated" }
                            ),
                        )
                        .into());
                    }
                }
                Value::Bool(if function == F::CancelBackend { self.host.cancel(pid) } else { self.host.terminate(pid) })
            }
            F::SetConfig => {
                let name = match values.first() {
                    Some(Value::Text(name)) => name.clone(),
                    _ => {
                        return Err(PgError::error(SqlState("22004"), "SET requires parameter name").into());
                    }
                };
                let value = match values.get(1) {
                    Some(Value::Text(value)) => Some(value.clone()),
                    _ => None,
                };
                let scope = if values.get(2) == Some(&Value::Bool(true)) {
                    settings::Scope::Local
                } else {
                    settings::Scope::Session
                };
                self.engine.set_setting(self.session, &name, value.as_deref(), scope)?;
                text(self.session.settings.examine(&name, true)?)
            }
            F::Notify => {
                self.engine.notify(self.session, self.host, s(0), s(1))?;
                Value::Void
            }
            F::Nextval => {
                let id = u32::try_from(n(0)).unwrap_or(0);
                self.engine.writable(self.session, self.host, "nextval()", self.is_temporary(id))?;
                let Some(relation) = self.engine.catalog.get_mut(id) else {
                    return Err(PgError::error(
                        SqlState::INTERNAL_ERROR,
                        format!("could not open relation with OID {id}"),
                    )
                    .into());
                };
                let name = relation.name.clone();
                let RelationKind::Sequence(sequence) = &mut relation.kind else {
                    return Err(PgError::error(SqlState("42809"), format!("\"{name}\" is not a sequence")).into());
                };
                if sequence.called {
                    if sequence.last >= sequence.max {
                        return Err(PgError::error(
                            SqlState("2200H"),
                            format!("nextval: reached maximum value of sequence \"{name}\" ({})", sequence.max),
                        )
                        .into());
                    }
                    sequence.last += 1;
                }
                sequence.called = true;
                let value = sequence.last;
                self.session.sequences.insert(id, value);
                self.session.last_sequence = Some(id);
                Value::Int(value)
            }
            F::Setval | F::SetvalCalled => {
                let id = u32::try_from(n(0)).unwrap_or(0);
                self.engine.writable(self.session, self.host, "setval()", self.is_temporary(id))?;
                let called = values.get(2) != Some(&Value::Bool(false));
                let value = n(1);
                let Some(relation) = self.engine.catalog.get_mut(id) else {
                    return Err(PgError::error(
                        SqlState::INTERNAL_ERROR,
                        format!("could not open relation with OID {id}"),
                    )
                    .into());
                };
                let name = relation.name.clone();
                let RelationKind::Sequence(sequence) = &mut relation.kind else {
                    return Err(PgError::error(SqlState("42809"), format!("\"{name}\" is not a sequence")).into());
                };
                if value < 1 || value > sequence.max {
                    return Err(PgError::error(
                        SqlState::NUMERIC_VALUE_OUT_OF_RANGE,
                        format!("setval: value {value} is out of bounds for sequence \"{name}\" (1..{})", sequence.max),
                    )
                    .into());
                }
                sequence.last = value;
                sequence.called = called;
                Value::Int(value)
            }
            F::AdvisoryLock { exclusive, transaction, wait } => {
                let tag = advisory_tag(values);
                let mode = if exclusive { Mode::Exclusive } else { Mode::Share };
                let hold = if transaction { Hold::Transaction } else { Hold::Session };
                let patience = if wait { Patience::Queue } else { Patience::NoWait };
                match self.engine.locks.lock(self.session.pid, tag, mode, hold, patience) {
                    Grant::Granted => {
                        if !transaction {
                            *self.session.advisory.entry((tag, mode)).or_default() += 1;
                        }
                        if wait { Value::Void } else { Value::Bool(true) }
                    }
                    Grant::Refused => Value::Bool(false),
                    Grant::Queued => return Err(Stop::Wait),
                    Grant::Deadlock(edges) => return Err(deadlock_error(&edges[..]).into()),
                }
            }
            F::AdvisoryUnlock { exclusive } => {
                let tag = advisory_tag(values);
                let mode = if exclusive { Mode::Exclusive } else { Mode::Share };
                let held = self.engine.locks.unlock(self.session.pid, tag, mode, Hold::Session);
                if held {
                    let count = self.session.advisory.entry((tag, mode)).or_default();
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.session.advisory.remove(&(tag, mode));
                    }
                } else {
                    let mut warning = PgError::warning(
                        SqlState::SUCCESSFUL_COMPLETION,
                        format!("you don't own a lock of type {}", mode.as_str()),
                    );
                    warning.code = SqlState("01000");
                    self.notices.push(warning);
                }
                Value::Bool(held)
            }
            F::AdvisoryUnlockAll => {
                self.engine.locks.release_session_advisory(self.session.pid);
                self.session.advisory.clear();
                Value::Void
            }
            _ => unreachable!("the function only computes"),
        })
    }

    fn is_temporary(&self, id: u32) -> bool {
        self.engine.catalog.get(id).is_some_and(|relation| relation.temporary.is_some())
    }
}

fn advisory_tag(values: &[Value]) -> Tag {
    match values {
        [one] => Tag::AdvisoryBig(int(one)),
        _ => {
            let part = |index: usize| i32::try_from(values.get(index).map_or(0, int)).unwrap_or(0);
            Tag::AdvisoryPair(part(0), part(1))
        }
    }
}

/// Shared text of a value, for messages.
pub(super) fn shown(value: &Value, kind: Type) -> String {
    if value.is_null() { "null".to_owned() } else { value.to_text(kind) }
}
