//! A scenario as a canonical file: what differs from a default, in the order of the format's documentation.
//!
//! `parse(print(s)) == s` for every scenario that the parser can yield.

use std::fmt::Write as _;
use std::time::Duration;

use super::model::{
    Acknowledge, App, AtMessage, Auth, BackendFilter, Bound, BoundValue, Collector, Comparison, Direction, Expect,
    Fault, FaultAction, FigureUnit, Keepalive, Misbehaviour, Network, Operator, Order, PoolSettings, Processes, Queue,
    Reset, Role, Scenario, Server, ServerName, Standby, StopMode,
};
use super::units::{print_bandwidth, print_duration};

mod traffic;

pub use traffic::action_text;

/// The path from a file in `scenarios/` or a folder beside it to the schema.
const SCHEMA: &str = "#:schema ../scenario.schema.json";

/// Prints a scenario as a file.
#[must_use]
pub fn print(scenario: &Scenario) -> String {
    let mut file = File { text: format!("{SCHEMA}\n") };
    file.string("title", &scenario.title);
    file.string("story", &scenario.story);
    file.line("seeds", &seeds(&scenario.seeds));
    if let Some(interleave) = scenario.interleave {
        file.line("interleave", &interleave.to_string());
    }
    if !scenario.pools.is_empty() {
        file.line("pools", &list(scenario.pools.iter().map(|pool| quoted(pool))));
    }
    server(&mut file, &scenario.server);
    if let Some(standby) = &scenario.standby {
        print_standby(&mut file, standby);
    }
    network(&mut file, &scenario.network);
    for (name, app) in &scenario.apps {
        print_app(&mut file, name, app);
    }
    for (name, queue) in &scenario.queues {
        print_queue(&mut file, name, queue);
    }
    for (name, workload) in &scenario.workloads {
        traffic::print_workload(&mut file, name, workload);
    }
    for fault in &scenario.faults {
        print_fault(&mut file, fault);
    }
    expect(&mut file, &scenario.expect);
    file.text
}

/// A file that is being written.
struct File {
    text: String,
}

impl File {
    fn header(&mut self, header: &str) {
        let _ = write!(self.text, "\n{header}\n");
    }

    fn line(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.text, "{key} = {value}");
    }

    fn string(&mut self, key: &str, value: &str) {
        self.line(key, &long_string(value));
    }

    fn duration(&mut self, key: &str, value: Duration) {
        self.line(key, &quoted_duration(value));
    }

    fn duration_unless(&mut self, key: &str, value: Duration, default: Duration) {
        if value != default {
            self.duration(key, value);
        }
    }

    fn duration_if(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.duration(key, value);
        }
    }

    fn number_unless(&mut self, key: &str, value: u32, default: u32) {
        if value != default {
            self.line(key, &value.to_string());
        }
    }

    fn number_if(&mut self, key: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.line(key, &value.to_string());
        }
    }
}

fn quoted_duration(value: Duration) -> String {
    format!("\"{}\"", print_duration(value))
}

/// A basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        escape(&mut quoted, c);
    }
    quoted.push('"');
    quoted
}

fn escape(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\t' => out.push_str("\\t"),
        c if c.is_control() => {
            let _ = write!(out, "\\u{:04X}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// A basic string, over several lines if the text has them.
fn long_string(text: &str) -> String {
    if !text.contains('\n') {
        return quoted(text);
    }
    let mut long = String::from("\"\"\"\n");
    for c in text.chars() {
        match c {
            '\n' => long.push('\n'),
            c => escape(&mut long, c),
        }
    }
    // The parser trims the texts that have lines.
    long.push_str("\n\"\"\"");
    long
}

/// A key, quoted if it must be.
fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare { name.to_owned() } else { quoted(name) }
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}

/// A list with a line for each item.
fn lines(items: impl IntoIterator<Item = String>) -> String {
    let mut text = String::from("[\n");
    for item in items {
        let _ = writeln!(text, "  {item},");
    }
    text.push(']');
    text
}

fn seeds(seeds: &[u64]) -> String {
    match seeds {
        [first, .., last] if seeds.len() > 2 && seeds.windows(2).all(|pair| pair[0] + 1 == pair[1]) => {
            format!("\"{first}..={last}\"")
        }
        _ => list(seeds.iter().map(u64::to_string)),
    }
}

fn server(file: &mut File, server: &Server) {
    file.header("[server]");
    let default = Server::default();
    file.number_unless("version", server.version, default.version);
    file.number_unless("max_connections", server.max_connections, default.max_connections);
    let reserved = default.superuser_reserved_connections;
    file.number_unless("superuser_reserved_connections", server.superuser_reserved_connections, reserved);
    if server.auth == Auth::ScramSha256 {
        file.line("auth", "\"scram-sha-256\"");
    }
    file.number_if("database_connection_limit", server.database_connection_limit);
    file.duration_unless("startup_time", server.startup_time, default.startup_time);
    file.duration_unless("recovery_time", server.recovery_time, default.recovery_time);
    file.duration_unless("fork_time", server.fork_time, default.fork_time);
    if !server.sql.is_empty() {
        file.string("sql", &server.sql);
    }
    if !server.settings.is_empty() {
        file.header("[server.settings]");
        for (name, value) in &server.settings {
            file.line(&key(name), &quoted(value));
        }
    }
    for (name, role) in &server.roles {
        print_role(file, name, role);
    }
    for cost in &server.costs {
        file.header("[[server.cost]]");
        file.line("like", &quoted(&cost.like));
        file.duration("takes", cost.takes);
        file.duration_unless("per_row", cost.per_row, Duration::ZERO);
    }
}

fn print_role(file: &mut File, name: &str, role: &Role) {
    file.header(&format!("[server.role.{}]", key(name)));
    if role.superuser {
        file.line("superuser", "true");
    }
    file.number_if("connection_limit", role.connection_limit);
    if let Some(password) = &role.password {
        file.line("password", &quoted(password));
    }
}

fn print_standby(file: &mut File, standby: &Standby) {
    file.header("[standby]");
    if !standby.hot_standby {
        file.line("hot_standby", "false");
    }
    file.duration_unless("promotion_time", standby.promotion_time, Duration::from_millis(500));
}

fn network(file: &mut File, network: &Network) {
    file.header("[network]");
    let default = Network::default();
    file.duration_unless("latency", network.latency, default.latency);
    file.duration_unless("jitter", network.jitter, default.jitter);
    if let Some(bandwidth) = network.bandwidth {
        file.line("bandwidth", &quoted(&print_bandwidth(bandwidth)));
    }
    file.duration_if("idle_flow_timeout", network.idle_flow_timeout);
    file.duration_unless("dns_ttl", network.dns_ttl, default.dns_ttl);
    let client = &network.client;
    if *client == default.client {
        return;
    }
    file.header("[network.client]");
    match &client.keepalive {
        keepalive if *keepalive == default.client.keepalive => {}
        Some(Keepalive { idle, interval, count }) => {
            let (idle, interval) = (quoted_duration(*idle), quoted_duration(*interval));
            file.line("keepalive", &format!("{{ idle = {idle}, interval = {interval}, count = {count} }}"));
        }
        None => file.line("keepalive", "false"),
    }
    file.duration_if("user_timeout", client.user_timeout);
    file.duration_if("connect_timeout", client.connect_timeout);
}

fn print_app(file: &mut File, name: &str, app: &App) {
    file.header(&format!("[app.{}]", key(name)));
    match app.processes {
        Processes::Fixed(processes) => file.number_unless("processes", processes, 1),
        Processes::PerRequest => file.line("processes", "\"per request\""),
    }
    if let Some(Collector { threshold, acquire }) = app.collector {
        let acquire = if acquire == 0 { String::new() } else { format!(", acquire = {acquire}") };
        file.line("collector", &format!("{{ threshold = {threshold}{acquire} }}"));
    }
    if !app.cooperative {
        file.line("cooperative", "false");
    }
    if app.user != "app" {
        file.line("user", &quoted(&app.user));
    }
    let default = PoolSettings::default();
    if app.pool == default {
        return;
    }
    let pool = &app.pool;
    file.header(&format!("[app.{}.pool]", key(name)));
    match pool.max_size {
        PoolSettings::UNLIMITED => file.line("max_size", "\"unlimited\""),
        max_size => file.number_unless("max_size", max_size, default.max_size),
    }
    file.number_unless("min_idle", pool.min_idle, default.min_idle);
    file.number_if("max_idle", pool.max_idle);
    match pool.acquire_timeout {
        None => file.line("acquire_timeout", "\"never\""),
        timeout if timeout == default.acquire_timeout => {}
        timeout => file.duration_if("acquire_timeout", timeout),
    }
    file.duration_if("idle_timeout", pool.idle_timeout);
    file.duration_if("max_lifetime", pool.max_lifetime);
    if pool.test_on_acquire {
        file.line("test_on_acquire", "true");
    }
    match pool.reset_on_return {
        Reset::None => {}
        Reset::Rollback => file.line("reset_on_return", "\"rollback\""),
        Reset::Commit => file.line("reset_on_return", "\"commit\""),
        Reset::Discard => file.line("reset_on_return", "\"discard\""),
    }
    match pool.order {
        None => {}
        Some(Order::Fifo) => file.line("order", "\"fifo\""),
        Some(Order::Lifo) => file.line("order", "\"lifo\""),
    }
}

fn print_queue(file: &mut File, name: &str, queue: &Queue) {
    file.header(&format!("[queue.{}]", key(name)));
    app_name(file, queue.app.as_deref());
    if queue.acknowledge == Acknowledge::Late {
        file.line("acknowledge", "\"late\"");
    }
    file.number_unless("max_retries", queue.max_retries, 0);
    file.duration_unless("countdown", queue.countdown, Duration::ZERO);
}

fn print_fault(file: &mut File, fault: &Fault) {
    file.header("[[fault]]");
    file.duration("at", fault.at);
    file.duration_if("every", fault.every);
    file.line("do", &quoted(fault_name(&fault.action)));
    match &fault.action {
        FaultAction::ServerStop { server, mode } => {
            server_name(file, *server);
            stop_mode(file, *mode);
        }
        FaultAction::ServerStart { server } => server_name(file, *server),
        FaultAction::ServerRestart { server, mode, down_for } => {
            server_name(file, *server);
            stop_mode(file, *mode);
            file.duration("down_for", *down_for);
        }
        FaultAction::ServerCrashBackend { server, filter: backends }
        | FaultAction::ServerTerminate { server, filter: backends }
        | FaultAction::ServerCancel { server, filter: backends } => {
            server_name(file, *server);
            filter(file, backends);
        }
        FaultAction::ServerKill { server, down_for } | FaultAction::ServerPowerLoss { server, down_for } => {
            server_name(file, *server);
            file.duration_if("down_for", *down_for);
        }
        FaultAction::ServerSlow { server, by, lasts } => {
            server_name(file, *server);
            file.duration("by", *by);
            file.duration_if("for", *lasts);
        }
        FaultAction::ServerPromote => {}
        FaultAction::ServerSet { server, setting, value } => {
            server_name(file, *server);
            file.line("setting", &quoted(setting));
            file.line("value", &quoted(value));
        }
        FaultAction::ServerSql { server, sql, lasts } => {
            server_name(file, *server);
            file.string("sql", sql);
            file.duration_if("for", *lasts);
        }
        FaultAction::ServerOccupy { server, sessions, user, lasts } => {
            server_name(file, *server);
            file.line("sessions", &sessions.to_string());
            if user != "app" {
                file.line("user", &quoted(user));
            }
            file.duration_if("for", *lasts);
        }
        FaultAction::NetLatency { latency, jitter, lasts } => {
            file.duration("latency", *latency);
            file.duration_unless("jitter", *jitter, Duration::ZERO);
            file.duration_if("for", *lasts);
        }
        FaultAction::NetBandwidth { bytes_per_second, lasts } => {
            file.line("bandwidth", &quoted(&print_bandwidth(*bytes_per_second)));
            file.duration_if("for", *lasts);
        }
        FaultAction::NetPartition { app, direction, lasts } => {
            app_name(file, app.as_deref());
            match direction {
                Direction::Both => {}
                Direction::ToServer => file.line("direction", "\"to-server\""),
                Direction::ToApp => file.line("direction", "\"to-app\""),
            }
            file.duration_if("for", *lasts);
        }
        FaultAction::NetForget { older_than, app } | FaultAction::NetReset { older_than, app } => {
            file.duration_if("older_than", *older_than);
            app_name(file, app.as_deref());
        }
        FaultAction::NetMessage { place, what } => {
            file.number_if("connection", Some(place.connection));
            file.line("direction", if place.to_server { "\"to-server\"" } else { "\"to-app\"" });
            file.number_if("message", Some(place.message));
            if place.after {
                file.line("moment", "\"after\"");
            }
            file.line("what", &quoted(what.as_str()));
            if let AtMessage::Delay(by) = what {
                file.duration("by", *by);
            }
        }
        FaultAction::NetRefuse { lasts }
        | FaultAction::NetLoseConnects { lasts }
        | FaultAction::NetAcceptSilence { lasts } => file.duration_if("for", *lasts),
        FaultAction::NetIdleFlowTimeout { timeout, lasts } => {
            file.duration("timeout", *timeout);
            file.duration_if("for", *lasts);
        }
        FaultAction::DnsRepoint { to } => {
            file.line("to", if *to == ServerName::Standby { "\"standby\"" } else { "\"db\"" });
        }
        FaultAction::AppKill { app, process, older_than, restart_after } => {
            app_name(file, Some(app));
            file.number_if("process", *process);
            file.duration_if("older_than", *older_than);
            file.duration_if("restart_after", *restart_after);
        }
        FaultAction::AppPowerLoss { app, process, restart_after } => {
            app_name(file, Some(app));
            file.number_if("process", *process);
            file.duration_if("restart_after", *restart_after);
        }
        FaultAction::ActorKill { workload, older_than, count } => {
            file.line("workload", &quoted(workload));
            file.duration_if("older_than", *older_than);
            file.number_if("count", *count);
        }
        FaultAction::Manager { call, how, lasts } => {
            file.line("call", &quoted(call.as_str()));
            if let Misbehaviour::Slow(by) = how {
                file.duration("by", *by);
            }
            file.duration_if("for", *lasts);
        }
    }
}

/// What a file's `do` says for this fault: `server.restart`.
#[must_use]
pub fn fault_name(action: &FaultAction) -> &'static str {
    match action {
        FaultAction::ServerStop { .. } => "server.stop",
        FaultAction::ServerStart { .. } => "server.start",
        FaultAction::ServerRestart { .. } => "server.restart",
        FaultAction::ServerCrashBackend { .. } => "server.crash_backend",
        FaultAction::ServerKill { .. } => "server.kill",
        FaultAction::ServerPowerLoss { .. } => "server.power_loss",
        FaultAction::ServerSlow { .. } => "server.slow",
        FaultAction::ServerTerminate { .. } => "server.terminate",
        FaultAction::ServerCancel { .. } => "server.cancel",
        FaultAction::ServerPromote => "server.promote",
        FaultAction::ServerSet { .. } => "server.set",
        FaultAction::ServerSql { .. } => "server.sql",
        FaultAction::ServerOccupy { .. } => "server.occupy",
        FaultAction::NetLatency { .. } => "net.latency",
        FaultAction::NetBandwidth { .. } => "net.bandwidth",
        FaultAction::NetPartition { .. } => "net.partition",
        FaultAction::NetForget { .. } => "net.forget",
        FaultAction::NetReset { .. } => "net.reset",
        FaultAction::NetMessage { .. } => "net.message",
        FaultAction::NetRefuse { .. } => "net.refuse",
        FaultAction::NetLoseConnects { .. } => "net.lose_connects",
        FaultAction::NetAcceptSilence { .. } => "net.accept_silence",
        FaultAction::NetIdleFlowTimeout { .. } => "net.idle_flow_timeout",
        FaultAction::DnsRepoint { .. } => "dns.repoint",
        FaultAction::AppKill { .. } => "app.kill",
        FaultAction::AppPowerLoss { .. } => "app.power_loss",
        FaultAction::ActorKill { .. } => "actor.kill",
        FaultAction::Manager { how: Misbehaviour::Fail, .. } => "manager.fail",
        FaultAction::Manager { how: Misbehaviour::Hang, .. } => "manager.hang",
        FaultAction::Manager { how: Misbehaviour::Slow(_), .. } => "manager.slow",
        FaultAction::Manager { how: Misbehaviour::Panic, .. } => "manager.panic",
    }
}

fn server_name(file: &mut File, server: ServerName) {
    if server == ServerName::Standby {
        file.line("server", "\"standby\"");
    }
}

fn stop_mode(file: &mut File, mode: StopMode) {
    let mode = match mode {
        StopMode::Smart => "smart",
        StopMode::Fast => "fast",
        StopMode::Immediate => "immediate",
    };
    file.line("mode", &quoted(mode));
}

fn app_name(file: &mut File, app: Option<&str>) {
    if let Some(app) = app {
        file.line("app", &quoted(app));
    }
}

fn filter(file: &mut File, filter: &BackendFilter) {
    app_name(file, filter.app.as_deref());
    if let Some(state) = &filter.state {
        file.line("state", &quoted(state));
    }
    file.duration_if("older_than", filter.older_than);
    file.number_if("count", filter.count);
}

fn expect(file: &mut File, expect: &Expect) {
    file.header("[expect]");
    file.duration("until", expect.until);
    file.duration_unless("healing", expect.healing, Duration::from_secs(120));
    if !expect.bounds.is_empty() {
        file.line("holds", &lines(expect.bounds.iter().map(|bound| quoted(&print_bound(bound)))));
    }
    if !expect.needs.is_empty() {
        file.line("needs", &list(expect.needs.iter().map(|need| quoted(need))));
    }
    if !expect.figures.is_empty() {
        file.header("[expect.figures]");
        for (name, figure) in &expect.figures {
            file.line(&key(name), &quoted(&comparison(figure)));
        }
    }
    for check in &expect.sql {
        file.header("[[expect.sql]]");
        file.string("query", &check.query);
        file.line("equals", &quoted(&check.equals));
    }
    for excuse in &expect.excuses {
        file.header("[[expect.excuse]]");
        file.line("invariant", &quoted(&excuse.invariant));
        if let Some(pool) = &excuse.pool {
            file.line("pool", &quoted(pool));
        }
        file.string("why", &excuse.why);
    }
    for known in &expect.known {
        file.header("[[expect.known]]");
        file.line("pool", &quoted(&known.pool));
        file.line("versions", &quoted(&known.versions));
        file.line("violates", &quoted(&known.violates));
        file.line("link", &quoted(&known.link));
    }
    for declared in &expect.violations {
        file.header("[[expect.violation]]");
        file.line("invariant", &quoted(&declared.invariant));
        if let Some(pool) = &declared.pool {
            file.line("pool", &quoted(pool));
        }
        file.string("because", &declared.because);
    }
    for error in &expect.errors {
        file.header("[[expect.error]]");
        file.string("text", &error.text);
        compared_if(file, "count", error.count.as_ref());
        compared_if(file, "first", error.first.as_ref());
    }
}

fn compared_if(file: &mut File, name: &str, compared: Option<&Comparison>) {
    if let Some(compared) = compared {
        file.line(name, &quoted(&comparison(compared)));
    }
}

fn print_bound(bound: &Bound) -> String {
    let name = &bound.invariant;
    match bound.value {
        BoundValue::Within(time) => format!("{name} within {}", print_duration(time)),
        BoundValue::AtMost(count) => format!("{name} at most {count}"),
    }
}

/// A comparison as a file writes it: `<= 20`, `>= 95%`, `< 2s`.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let operator = match comparison.operator {
        Operator::Equal => "=",
        Operator::AtMost => "<=",
        Operator::AtLeast => ">=",
        Operator::Below => "<",
        Operator::Above => ">",
    };
    let value = comparison.value;
    match comparison.unit {
        FigureUnit::Count => format!("{operator} {value}"),
        FigureUnit::Seconds => {
            format!("{operator} {}", print_duration(Duration::from_millis((value * 1000.0).round() as u64)))
        }
        FigureUnit::Share => {
            // The shortest number of percent that is this share again.
            let percent = (0..17)
                .map(|digits| format!("{:.digits$}", value * 100.0))
                .find(|text| text.parse::<f64>().is_ok_and(|percent| percent / 100.0 == value));
            format!("{operator} {}%", percent.unwrap_or_else(|| (value * 100.0).to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::arbitrary;
    use crate::scenario::parse::{Names, check};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_printed_scenario_is_the_same_scenario(scenario in arbitrary::scenario()) {
            let text = print(&scenario);
            let checked = check("printed.toml", &text, &Names::default());
            prop_assert_eq!(checked.scenario.as_ref(), Some(&scenario), "{:?}\n{}", checked.report, text);
            prop_assert_eq!(print(&checked.scenario.unwrap()), text);
        }
    }
}
