//! `[server]`, `[standby]` and `[network]`.

use std::time::Duration;

use indexmap::IndexMap;
use toml::de::DeValue;

use crate::scenario::model::{Auth, Cost, Keepalive, Network, Role, Server, Standby};
use crate::scenario::reader::{At, Log, Value};
use crate::scenario::rehearsal::{self, Read};
use crate::scenario::report::Diagnostic;

/// PostgreSQL's own limit (`MAX_BACKENDS`).
const MAX_BACKENDS: u32 = 262_143;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// The server; a part that can't be read keeps its default.
pub(super) fn server(value: Option<Value<'_, '_>>, log: &Log<'_>) -> Server {
    let mut server = Server::default();
    let mistakes = log.count();
    let Some(mut reader) = value.and_then(|v| v.table(log)) else {
        return server;
    };
    if let Some(version) = reader.read("version", |v, log| v.count(log, 15..=17)) {
        server.version = version;
    }
    let slots = reader.read_at("max_connections", |v, log| v.count(log, 1..=MAX_BACKENDS));
    let reserved = reader.read_at("superuser_reserved_connections", |v, log| v.count(log, 0..=MAX_BACKENDS));
    if let Some(slots) = &slots {
        server.max_connections = slots.value;
    }
    if let Some(reserved) = &reserved {
        server.superuser_reserved_connections = reserved.value;
    }
    if server.superuser_reserved_connections >= server.max_connections
        && let Some(place) = reserved.or(slots)
    {
        // PostgreSQL's own words.
        let (reserved, slots) = (server.superuser_reserved_connections, server.max_connections);
        let message =
            format!("superuser_reserved_connections ({reserved}) must be less than max_connections ({slots})");
        log.push(
            Diagnostic::new("scenario::out_of_range", place.span, message)
                .label("a PostgreSQL with these settings doesn't start"),
        );
    }
    let auth = [("trust", Auth::Trust), ("scram-sha-256", Auth::ScramSha256)];
    if let Some(auth) = reader.read("auth", |v, log| v.choice(log, &auth)) {
        server.auth = auth;
    }
    let version = server.version;
    server.settings = reader.read("settings", |v, log| settings(v, log, version)).unwrap_or_default();
    server.roles = reader.read("role", roles).unwrap_or_default();
    server.database_connection_limit =
        reader.read("database_connection_limit", |v, log| v.count(log, 0..=MAX_BACKENDS));
    let sql = reader.read_at("sql", |v, log| v.string(log));
    server.sql = sql.as_ref().map_or("", |sql| sql.value).trim().to_owned();
    server.costs = reader.read("cost", |v, log| v.list(log, |v| cost(v, log))).unwrap_or_default();
    for (key, field) in [
        ("startup_time", &mut server.startup_time),
        ("recovery_time", &mut server.recovery_time),
        ("fork_time", &mut server.fork_time),
    ] {
        if let Some(time) = reader.read(key, |v, log| v.duration(log)) {
            *field = time;
        }
    }
    reader.finish();
    // What a server with other mistakes says would be of no use.
    if let Some(sql) = sql.filter(|_| log.count() == mistakes) {
        rehearsal::sql(log, &server, &sql.span);
    }
    server
}

/// `[server.settings]`: names of `postgresql.conf`.
fn settings(value: &Value<'_, '_>, log: &Log<'_>, version: u32) -> Option<IndexMap<String, String>> {
    let mut settings = IndexMap::new();
    for (name, value) in value.named(log)? {
        let direct = ["max_connections", "superuser_reserved_connections"];
        if direct.contains(&name.value) {
            log.push(
                Diagnostic::new(
                    "scenario::bad_name",
                    name.span.clone(),
                    format!("`{}` doesn't belong here", name.value),
                )
                .label("a key of `[server]`")
                .help(format!("write `{} = …` directly in `[server]`", name.value)),
            );
        }
        let Some(text) = scalar(&value, log) else { continue };
        settings.insert(name.value.to_owned(), text.clone());
        if !direct.contains(&name.value) {
            let name = At { value: name.value.to_owned(), span: name.span };
            let text = At { value: text, span: value.span };
            rehearsal::setting(log, version, &name, Some(&text), Read::Start);
        }
    }
    Some(settings)
}

/// A string, number or truth value as PostgreSQL's text.
pub(super) fn scalar(value: &Value<'_, '_>, log: &Log<'_>) -> Option<String> {
    match value.raw {
        DeValue::Boolean(true) => Some("on".to_owned()),
        DeValue::Boolean(false) => Some("off".to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => value.string(log).map(str::to_owned),
    }
}

/// `[server.role.NAME]`
fn roles(value: &Value<'_, '_>, log: &Log<'_>) -> Option<IndexMap<String, Role>> {
    let mut roles = IndexMap::new();
    for (name, value) in value.named(log)? {
        if name.value.trim().is_empty() {
            log.push(
                Diagnostic::new("scenario::bad_name", name.span.clone(), "a role has a name").label("it is empty"),
            );
        }
        let mut role = Role::default();
        if let Some(mut reader) = value.table(log) {
            role.superuser = reader.read("superuser", |v, log| v.boolean(log)).unwrap_or_default();
            role.connection_limit = reader.read("connection_limit", |v, log| v.count(log, 0..=MAX_BACKENDS));
            role.password = reader.read("password", |v, log| v.words(log)).map(str::to_owned);
            reader.finish();
        }
        roles.insert(name.value.to_owned(), role);
    }
    Some(roles)
}

/// `[[server.cost]]`
fn cost(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Cost> {
    let mut reader = value.table(log)?;
    let like = reader.need("like", |v, log| like(v, log));
    let takes = reader.read("takes", |v, log| v.duration(log));
    let per_row = reader.read("per_row", |v, log| v.duration(log));
    if takes.is_none() && per_row.is_none() && !reader.has("takes") && !reader.has("per_row") {
        // One of them is needed; asking for `takes` names it in the report.
        reader.need("takes", |v, log| v.duration(log));
    }
    reader.finish();
    Some(Cost { like: like?, takes: takes.unwrap_or_default(), per_row: per_row.unwrap_or_default() })
}

/// A LIKE pattern: `%`, `_`, and `\` before a character that means itself.
fn like(value: &Value<'_, '_>, log: &Log<'_>) -> Option<String> {
    let pattern = value.words(log)?;
    if (pattern.len() - pattern.trim_end_matches('\\').len()) % 2 == 1 {
        // The real server's own words, SQLSTATE 22025.
        log.push(
            Diagnostic::new(
                "scenario::bad_pattern",
                value.span.clone(),
                "LIKE pattern must not end with escape character",
            )
            .label("a `\\` at the end"),
        );
        return None;
    }
    if !pattern.contains(['%', '_']) {
        log.push(
            Diagnostic::new("scenario::odd_pattern", value.span.clone(), "this pattern has no wildcard")
                .label("only a statement that is exactly this")
                .help("`%` stands for any text: `UPDATE account%`")
                .warning(),
        );
    }
    Some(pattern.to_owned())
}

/// `[standby]`
pub(super) fn standby(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Standby> {
    let mut standby = Standby { hot_standby: true, promotion_time: MS(500) };
    if let Some(mut reader) = value.table(log) {
        if let Some(hot) = reader.read("hot_standby", |v, log| v.boolean(log)) {
            standby.hot_standby = hot;
        }
        if let Some(time) = reader.read("promotion_time", |v, log| v.duration(log)) {
            standby.promotion_time = time;
        }
        reader.finish();
    }
    // Also a table with mistakes says that there is a standby.
    Some(standby)
}

/// `[network]`
pub(super) fn network(value: Option<Value<'_, '_>>, log: &Log<'_>) -> Network {
    let mut network = Network::default();
    let Some(mut reader) = value.and_then(|v| v.table(log)) else {
        return network;
    };
    if let Some(latency) = reader.read("latency", |v, log| v.duration(log)) {
        network.latency = latency;
    }
    if let Some(jitter) = reader.read("jitter", |v, log| v.duration(log)) {
        network.jitter = jitter;
    }
    network.bandwidth = reader.read("bandwidth", |v, log| v.bandwidth(log));
    network.idle_flow_timeout = reader.read("idle_flow_timeout", |v, log| v.timeout(log)).flatten();
    if let Some(ttl) = reader.read("dns_ttl", |v, log| v.duration(log)) {
        network.dns_ttl = ttl;
    }
    if let Some(mut client) = reader.take("client").and_then(|v| v.table(log)) {
        if let Some(keepalive) = client.read("keepalive", keepalive) {
            network.client.keepalive = keepalive;
        }
        network.client.user_timeout = client.read("user_timeout", |v, log| v.timeout(log)).flatten();
        network.client.connect_timeout = client.read("connect_timeout", |v, log| v.timeout(log)).flatten();
        client.finish();
    }
    reader.finish();
    network
}

/// `false`, or the timers.
fn keepalive(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Option<Keepalive>> {
    if let DeValue::Boolean(on) = value.raw {
        return Some(on.then_some(Keepalive::DEFAULT));
    }
    let mut reader = value.table(log)?;
    let mut keepalive = Keepalive::DEFAULT;
    if let Some(idle) = reader.read("idle", |v, log| v.positive(log)) {
        keepalive.idle = idle;
    }
    if let Some(interval) = reader.read("interval", |v, log| v.positive(log)) {
        keepalive.interval = interval;
    }
    if let Some(count) = reader.read("count", |v, log| v.count(log, 1..=127)) {
        keepalive.count = count;
    }
    reader.finish();
    Some(Some(keepalive))
}
