//! What a simulated server says to a file before any run: to its settings, and to the statements that make its data.

use poolproof_sim::postgres::config as pg;
use poolproof_sim::postgres::error::{PgError, SqlState};
use poolproof_sim::postgres::server::Server as SimServer;
use poolproof_sim::postgres::settings::ServerSettings;
use poolproof_sim::postgres::sql::{StatementCost, check_syntax};

use super::model::{Auth, Server};
use super::reader::{At, Log, Span, nearest};
use super::report::Diagnostic;

/// The name of the server's host, and of the server.
pub(crate) const NAME: &str = "db";

/// The server's configuration as the scenario has it.
pub(crate) fn config(server: &Server, seed: u64) -> pg::Config {
    let defaults = pg::Config::default();
    let mut roles = defaults.roles;
    for (name, role) in &server.roles {
        roles.retain(|other| other.name != *name);
        roles.push(pg::Role {
            name: name.clone(),
            superuser: role.superuser,
            connection_limit: role.connection_limit,
            password: role.password.clone(),
        });
    }
    pg::Config {
        name: NAME.to_owned(),
        version: match server.version {
            16 => pg::Version::V16,
            17 => pg::Version::V17,
            _ => pg::Version::V15,
        },
        max_connections: server.max_connections,
        superuser_reserved_connections: server.superuser_reserved_connections,
        auth: match server.auth {
            Auth::Trust => pg::Auth::Trust,
            Auth::ScramSha256 => pg::Auth::ScramSha256,
        },
        roles,
        databases: vec![
            // The first one is that of the scenario's `sql` and of its checks.
            pg::Database { name: "app".to_owned(), connection_limit: server.database_connection_limit },
            pg::Database { name: "postgres".to_owned(), connection_limit: None },
        ],
        settings: server.settings.clone(),
        costs: server
            .costs
            .iter()
            .map(|cost| StatementCost { like: cost.like.clone(), takes: cost.takes, per_row: cost.per_row })
            .collect(),
        initial_sql: server.sql.clone(),
        startup_time: server.startup_time,
        recovery_time: server.recovery_time,
        fork_time: server.fork_time,
        seed,
        unix_time: poolproof_sim::clock::EPOCH_UNIX,
        ..defaults
    }
}

/// Runs the server's `sql` on a server of its own, made for this.
pub(super) fn sql(log: &Log<'_>, server: &Server, span: &Span) {
    // Passwords are hashed at the cost of a millisecond each, and play no part here.
    let server = Server { auth: Auth::Trust, ..server.clone() };
    if let Err(error) = SimServer::new(config(&server, 0), None) {
        refused(log, &server.sql, span, &error);
    }
}

/// Whether a server would run these statements at all, whatever its tables.
pub(super) fn syntax(log: &Log<'_>, sql: &At<String>) {
    if let Err(error) = check_syntax(&sql.value) {
        refused(log, &sql.value, &sql.span, &error);
    }
}

/// The server refuses a statement of a text.
fn refused(log: &Log<'_>, sql: &str, span: &Span, error: &PgError) {
    log.push(
        Diagnostic::new("scenario::sql", place(log.text, span, sql, error.position), error.message.to_string())
            .label(format!("SQLSTATE {}", error.code))
            .maybe_help(error.hint.as_deref().or(error.detail.as_deref()).map(str::to_owned)),
    );
}

/// The place in the file of the word at a position of a text; the whole text where an escape hides it.
fn place(file: &str, span: &Span, text: &str, position: Option<u32>) -> Span {
    let found = || {
        let start = span.start + file.get(span.clone())?.find(text)?;
        let at = usize::try_from(position?).ok()?.checked_sub(1)?;
        let (offset, _) = text.char_indices().nth(at)?;
        let word = text[offset..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum();
        let first = text[offset..].chars().next().map_or(1, char::len_utf8);
        let length = std::cmp::max(word, first);
        Some(start + offset..start + offset + length)
    };
    found().unwrap_or_else(|| span.clone())
}

/// When a setting is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// At the server's start.
    Start,
    /// At a reload of a running server.
    Reload,
}

/// Whether a server of this version takes the value of a setting. Without a value only its name is looked at.
pub(super) fn setting(log: &Log<'_>, version: u32, name: &At<String>, value: Option<&At<String>>, read: Read) {
    let mut settings = ServerSettings::new(version);
    let result = match value {
        None => settings.get(&name.value).map(drop),
        Some(value) if read == Read::Start => settings.set(&name.value, &value.value),
        Some(value) => settings.reload(&name.value, &value.value),
    };
    let Err(error) = result else { return };
    let message = error.message.to_string();
    log.push(match (error.code, value) {
        (SqlState::UNDEFINED_OBJECT, None) if name.value.contains('.') => return,
        (SqlState::UNDEFINED_OBJECT, _) => Diagnostic::new("scenario::unknown_setting", name.span.clone(), message)
            .label(format!("not a setting of PostgreSQL {version}"))
            .maybe_help(nearest(&name.value, settings.names()).map(|near| format!("did you mean `{near}`?"))),
        (SqlState::CANT_CHANGE_RUNTIME_PARAM, _) => {
            let help = match read {
                Read::Start => "PostgreSQL itself sets it",
                Read::Reload => "a reload would leave it as it is; set it in `[server]` or `[server.settings]`",
            };
            Diagnostic::new("scenario::bad_setting", name.span.clone(), message).label("can't be set here").help(help)
        }
        (SqlState::INVALID_PARAMETER_VALUE | SqlState::FEATURE_NOT_SUPPORTED, Some(value)) => {
            Diagnostic::new("scenario::bad_value", value.span.clone(), message)
                .label(format!("not a value of `{}`", name.value))
                .maybe_help(error.hint.as_deref().or(error.detail.as_deref()).map(str::to_owned))
        }
        _ => Diagnostic::new("scenario::bad_setting", name.span.clone(), message)
            .label("no server would take it")
            .maybe_help(error.detail.as_deref().map(str::to_owned)),
    });
}
