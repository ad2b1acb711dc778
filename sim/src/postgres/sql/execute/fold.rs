//! Whether a query fails in the planner already, which evaluates constant expressions once (`eval_const_expressions`).
//!
//! A failing constant therefore is an error without RowDescription, where the same error in a row comes after it; in the
//! extended protocol Bind fails with it, and a parameter is a constant there. Of a simple query it is only asked when that
//! has failed. Left out: such a constant of a simple query fails here when a row needs it, and there always; and the
//! generic plan that a prepared statement may get after five executions, which knows no parameters.

use super::super::bind::visit;
use super::super::eval::{Context, Env, Stop};
use super::super::functions::Function;
use super::super::plan::{Expr, InsertSource, Node, Select, Source};
use super::super::value::Value;
use super::PgError;

/// What the planner makes of an expression.
enum Folded {
    /// It is known only when it runs.
    Unknown,
    Constant(Value),
    Fails(Box<PgError>),
}

impl Node {
    /// Whether it has a constant expression that could fail: with nothing computed there is nothing to fold.
    pub(in super::super) fn can_fail_to_plan(&self) -> bool {
        let computes = |expr: &Expr| {
            let mut found = false;
            visit(expr, &mut |part| {
                found |= matches!(part, Expr::Arithmetic(..) | Expr::Negate(..) | Expr::Cast { .. } | Expr::Call(..));
            });
            found
        };
        match self {
            Node::Select(select) => select.output.iter().chain(&select.filter).any(computes),
            Node::Insert(insert) => match &insert.rows {
                InsertSource::Rows(rows) => rows.iter().flatten().any(computes),
                InsertSource::Query(select, _) => select.output.iter().chain(&select.filter).any(computes),
            },
            Node::Update(update) => update.assignments.iter().any(|(_, expr)| computes(expr)),
            Node::Delete(_) => false,
        }
    }
}

impl Context<'_> {
    /// The error of a constant expression of the statement.
    pub(super) fn node_fails_to_plan(&mut self, node: &Node) -> Option<Box<PgError>> {
        match node {
            Node::Select(select) => self.fails_to_plan(select),
            Node::Insert(insert) => match &insert.rows {
                InsertSource::Rows(rows) => rows.iter().flatten().find_map(|expr| self.fails(expr)),
                InsertSource::Query(select, _) => self.fails_to_plan(select),
            },
            Node::Update(update) => update.assignments.iter().find_map(|(_, expr)| self.fails(expr)),
            Node::Delete(_) => None,
        }
    }

    /// The error of a constant expression of the query, or of a subquery in FROM.
    pub(super) fn fails_to_plan(&mut self, select: &Select) -> Option<Box<PgError>> {
        let of_exprs = select.output.iter().chain(&select.filter).find_map(|expr| self.fails(expr));
        of_exprs
            .or_else(|| {
                let grouping = select.grouping.as_ref()?;
                grouping.keys.iter().chain(&grouping.having).find_map(|expr| self.fails(expr))
            })
            .or_else(|| self.source_fails_to_plan(&select.source))
            .or_else(|| select.union.iter().find_map(|(_, other)| self.fails_to_plan(other)))
    }

    fn source_fails_to_plan(&mut self, source: &Source) -> Option<Box<PgError>> {
        match source {
            Source::Query(select) => self.fails_to_plan(select),
            Source::Values { rows, .. } => rows.iter().flatten().find_map(|expr| self.fails(expr)),
            Source::Join { left, right, on, .. } => self
                .source_fails_to_plan(left)
                .or_else(|| self.source_fails_to_plan(right))
                .or_else(|| on.as_ref().and_then(|on| self.fails(on))),
            _ => None,
        }
    }

    fn fails(&mut self, expr: &Expr) -> Option<Box<PgError>> {
        match self.fold(expr) {
            Folded::Fails(error) => Some(error),
            _ => None,
        }
    }

    fn fold(&mut self, expr: &Expr) -> Folded {
        let parts: Vec<&Expr> = match expr {
            Expr::Const(value, _) => return Folded::Constant(value.clone()),
            // A plan of its own is made for the values (a custom plan).
            Expr::Param(index, _) => {
                return Folded::Constant(self.parameters.get(*index).cloned().unwrap_or(Value::Null));
            }
            Expr::Column { .. } | Expr::Aggregate(_) | Expr::Subquery(..) => return Folded::Unknown,
            // What comes after the part that decides is not looked at.
            Expr::And(parts) => return self.fold_until(parts, expr, &Value::Bool(false)),
            Expr::Or(parts) => return self.fold_until(parts, expr, &Value::Bool(true)),
            Expr::Coalesce(parts, _) => {
                for part in parts {
                    match self.fold(part) {
                        Folded::Constant(Value::Null) => (),
                        other => return other,
                    }
                }
                return Folded::Constant(Value::Null);
            }
            Expr::Case { operand, arms, .. } => {
                let first = operand.as_deref().into_iter().chain(arms.first().map(|(test, _)| test));
                let failed = first.into_iter().find_map(|expr| self.fails(expr));
                return failed.map_or(Folded::Unknown, Folded::Fails);
            }
            Expr::Not(a) | Expr::Negate(a, _) | Expr::IsNull(a, _) | Expr::IsBool(a, ..) => vec![a],
            Expr::Cast { expr, .. } => vec![expr],
            Expr::Compare(_, a, b)
            | Expr::Arithmetic(_, a, b, _)
            | Expr::Concat(a, b)
            | Expr::Distinct(a, b, _)
            | Expr::Quantified(_, a, b, _) => vec![a, b],
            Expr::Like { text, pattern, .. } => vec![text, pattern],
            Expr::InList(tested, items, _) => std::iter::once(&**tested).chain(items).collect(),
            Expr::Array(parts, _) | Expr::Call(_, parts, _) => parts.iter().collect(),
        };
        let mut constant = !matches!(expr, Expr::Call(function, ..) if !is_immutable(*function));
        for part in parts {
            match self.fold(part) {
                Folded::Fails(error) => return Folded::Fails(error),
                Folded::Unknown => constant = false,
                Folded::Constant(_) => (),
            }
        }
        if constant { self.evaluate(expr) } else { Folded::Unknown }
    }

    fn fold_until(&mut self, parts: &[Expr], whole: &Expr, decides: &Value) -> Folded {
        let mut constant = true;
        for part in parts {
            match self.fold(part) {
                Folded::Fails(error) => return Folded::Fails(error),
                Folded::Unknown => constant = false,
                Folded::Constant(value) if value == *decides => return Folded::Constant(value),
                Folded::Constant(_) => (),
            }
        }
        if constant { self.evaluate(whole) } else { Folded::Unknown }
    }

    fn evaluate(&mut self, expr: &Expr) -> Folded {
        match self.eval(expr, &Env { row: &[], outer: None }) {
            Ok(value) => Folded::Constant(value),
            Err(Stop::Error(error)) => Folded::Fails(error),
            Err(Stop::Wait) => Folded::Unknown,
        }
    }
}

/// `provolatile = 'i'`, of those functions that can fail.
fn is_immutable(function: Function) -> bool {
    matches!(
        function,
        Function::Abs
            | Function::Ascii
            | Function::Chr
            | Function::Exp
            | Function::Left
            | Function::Length
            | Function::Ln
            | Function::Lpad
            | Function::Mod
            | Function::OctetLength
            | Function::Power
            | Function::RegexpReplace
            | Function::Repeat
            | Function::Right
            | Function::Round
            | Function::RoundTo
            | Function::Rpad
    )
}
