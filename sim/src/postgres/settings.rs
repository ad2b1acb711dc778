//! Settings: the parameters of `postgresql.conf`, `SET`, `SHOW` and `RESET`.
//!
//! Modelled on guc.c: types, units and limits, who may change what and when, what a transaction undoes, and which changes
//! the client is told of. [`ServerSettings`] is the configuration file, [`Settings`] a session's view of it. All
//! settings of the real server are known by name, default and limits; most of them have no effect here (planner costs,
//! logging, vacuum), as nothing of what they steer is modelled.
//!
//! <https://www.postgresql.org/docs/15/config-setting.html>
//!
//! Left out: `ALTER SYSTEM`, privileges on single parameters (`GRANT SET`), and settings of functions.

mod catalogue;
mod check;
mod options;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod value;

pub use catalogue::Context;
pub use server::ServerSettings;
pub use session::{Mark, Scope, SettingRow, Settings, Source, Startup, Timeouts};
pub use value::Value;

use super::error::{PgError, SqlState};

/// One value of `SET name = a, b` as parsed: its text, without quotes.
///
/// Joins the values to the one string that [`Settings::set`] takes: the elements of a list of identifiers (`search_path`)
/// are quoted where they need it. A setting that is no list takes one value only (22023).
///
/// # Errors
///
/// 22023 `SET name takes only one argument`.
pub fn join_values(name: &str, values: &[&str]) -> Result<String, PgError> {
    // Names are never reused for something else, so that the version doesn't matter here.
    let known = [15, 16, 17].iter().find_map(|&version| catalogue::find(name, version));
    let variable = known.map(|id| &catalogue::CATALOGUE[id]);
    if values.len() > 1 && !variable.is_some_and(|variable| variable.list) {
        return Err(PgError::error(SqlState::INVALID_PARAMETER_VALUE, format!("SET {name} takes only one argument")));
    }
    let quote = variable.is_some_and(|variable| variable.quote);
    let parts = values.iter().map(|value| match quote {
        true => quote_identifier(value),
        false => (*value).to_owned(),
    });
    Ok(parts.collect::<Vec<_>>().join(", "))
}

/// `quote_identifier`, without the list of keywords: those are no schema names that anybody uses.
fn quote_identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match plain {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

/// `unrecognized configuration parameter`, 42704; or 42602 for the name of a custom setting that is none.
fn unrecognized(name: &str) -> PgError {
    PgError::error(SqlState::UNDEFINED_OBJECT, format!("unrecognized configuration parameter \"{name}\""))
}

/// Whether a client may make up a setting of this name: identifiers separated by dots.
///
/// # Errors
///
/// 42704 without a dot; 42602 if a part is no identifier.
fn check_custom_name(name: &str) -> Result<(), PgError> {
    if !name.contains('.') {
        return Err(unrecognized(name));
    }
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii())
    };
    if name.split('.').all(identifier) {
        return Ok(());
    }
    Err(PgError::error(SqlState("42602"), format!("invalid configuration parameter name \"{name}\""))
        .detail("Custom parameter names must be two or more simple identifiers separated by dots."))
}

/// `parameter cannot be changed …`, 55P02.
fn unchangeable(name: &str, how: &str) -> PgError {
    PgError::error(SqlState::CANT_CHANGE_RUNTIME_PARAM, format!("parameter \"{name}\" cannot be {how}"))
}
