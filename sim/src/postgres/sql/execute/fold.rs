//! Whether a query fails in the planner already, which evaluates constant expressions once (`eval_const_expressions`).
//!
//! A failing constant therefore is an error without RowDescription, where the same error in a row comes after it. Only
//! asked of a query that has failed. Left out: such a constant fails here when a row needs it, and there always.

use super::super::eval::{Context, Env, Stop};
use super::super::functions::Function;
use super::super::plan::{Expr, Select, Source};
use super::super::value::Value;

/// What the planner makes of an expression.
enum Folded {
    /// It is known only when it runs.
    Unknown,
    Constant(Value),
    Fails,
}

impl Context<'_> {
    /// Whether an expression of the query, or of a subquery in FROM, is constant and fails.
    pub(super) fn fails_to_plan(&mut self, select: &Select) -> bool {
        let fails = |context: &mut Self, exprs: &[Expr]| exprs.iter().any(|expr| context.fails(expr));
        fails(self, &select.output)
            || select.filter.as_ref().is_some_and(|filter| self.fails(filter))
            || select.grouping.as_ref().is_some_and(|grouping| {
                fails(self, &grouping.keys) || grouping.having.as_ref().is_some_and(|having| self.fails(having))
            })
            || self.source_fails_to_plan(&select.source)
            || select.union.iter().any(|(_, other)| self.fails_to_plan(other))
    }

    fn source_fails_to_plan(&mut self, source: &Source) -> bool {
        match source {
            Source::Query(select) => self.fails_to_plan(select),
            Source::Values { rows, .. } => rows.iter().flatten().any(|expr| self.fails(expr)),
            Source::Join { left, right, on, .. } => {
                self.source_fails_to_plan(left)
                    || self.source_fails_to_plan(right)
                    || on.as_ref().is_some_and(|on| self.fails(on))
            }
            _ => false,
        }
    }

    fn fails(&mut self, expr: &Expr) -> bool {
        matches!(self.fold(expr), Folded::Fails)
    }

    fn fold(&mut self, expr: &Expr) -> Folded {
        let parts: Vec<&Expr> = match expr {
            Expr::Const(value, _) => return Folded::Constant(value.clone()),
            Expr::Param(..) | Expr::Column { .. } | Expr::Aggregate(_) | Expr::Subquery(..) => return Folded::Unknown,
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
                if operand.as_ref().is_some_and(|operand| self.fails(operand))
                    || arms.first().is_some_and(|(test, _)| self.fails(test))
                {
                    return Folded::Fails;
                }
                return Folded::Unknown;
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
                Folded::Fails => return Folded::Fails,
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
                Folded::Fails => return Folded::Fails,
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
            Err(Stop::Error(_)) => Folded::Fails,
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
            | Function::Repeat
            | Function::Right
            | Function::Round
            | Function::RoundTo
            | Function::Rpad
    )
}
