//! Set-returning functions in an output list: `SELECT generate_series(1, 3)`.
//!
//! Where a query has no FROM and one such call, it is the query over that function in FROM: the other columns are computed
//! once a row either way. Whatever else there is (several of them, a FROM of its own) stays unsupported.

use sqlparser::ast::{self, FunctionArguments, SelectItem, TableFactor};

use super::object_name;

/// The same query with its call in FROM, if it has just one and nothing there.
pub(super) fn moved_to_from(select: &ast::Select) -> Option<ast::Select> {
    if !select.from.is_empty() || select.selection.is_some() {
        return None;
    }
    let mut projection = select.projection.clone();
    let mut calls = Vec::new();
    for item in &mut projection {
        if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
            take_calls(expr, &mut calls);
        }
    }
    let [call] = <[ast::Function; 1]>::try_from(calls).ok()?;
    let FunctionArguments::List(list) = call.args else { return None };
    let relation = TableFactor::Table {
        name: call.name,
        alias: None,
        args: Some(ast::TableFunctionArgs { args: list.args, settings: None }),
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    let from = vec![ast::TableWithJoins { relation, joins: Vec::new() }];
    Some(ast::Select { projection, from, ..select.clone() })
}

/// Takes the calls out of an expression; a column of the function's name stands in the place of each.
fn take_calls(expr: &mut ast::Expr, calls: &mut Vec<ast::Function>) {
    use ast::Expr as A;
    match expr {
        A::Function(call) => {
            let Ok((_, name)) = object_name(&call.name) else { return };
            let plain = call.over.is_none() && call.filter.is_none() && call.within_group.is_empty();
            if plain && matches!(name.as_str(), "generate_series" | "unnest") {
                calls.push(call.clone());
                *expr = A::Identifier(ast::Ident::new(name));
            }
        }
        A::Cast { expr, .. } | A::Nested(expr) | A::UnaryOp { expr, .. } => take_calls(expr, calls),
        A::BinaryOp { left, right, .. } => {
            take_calls(left, calls);
            take_calls(right, calls);
        }
        _ => {}
    }
}
