//! A scenario in shorter (or longer) time: what it says of durations and rates, multiplied, for worlds in which time is real.
//!
//! Counts, sizes and orders stay. What an invariant allows in time is multiplied, and widened by [`SLACK`]: a real machine is
//! late now and then, and what a server and a kernel need for a dial or a start does not shrink. An expected figure in seconds is
//! widened the same way. What invariants allow by default is not multiplied at all.

use std::time::Duration;

use regex_lite::{Captures, Regex};

use super::model::{
    Action, App, Arrive, AtMessage, Bound, BoundValue, Cancel, Comparison, ErrorCheck, Expect, Fault, FaultAction,
    FigureUnit, Keepalive, Misbehaviour, Network, Operator, PoolSettings, Queue, Scenario, Server, SocketOptions, Step,
    Workload,
};

/// How much later than it should something may happen in real time.
const SLACK: Duration = Duration::from_secs(1);

/// What a round trip may take longer, on a busy machine.
const LATENESS: Duration = Duration::from_millis(250);

/// The settings of PostgreSQL that are times, and what a number without a unit means.
const TIMES: [(&str, Unit); 9] = [
    ("statement_timeout", Unit::Milliseconds),
    ("lock_timeout", Unit::Milliseconds),
    ("idle_in_transaction_session_timeout", Unit::Milliseconds),
    ("idle_session_timeout", Unit::Milliseconds),
    ("transaction_timeout", Unit::Milliseconds),
    ("deadlock_timeout", Unit::Milliseconds),
    ("tcp_user_timeout", Unit::Milliseconds),
    ("client_connection_check_interval", Unit::Milliseconds),
    ("authentication_timeout", Unit::Seconds),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Milliseconds,
    Seconds,
}

impl Scenario {
    /// The same story told in `scale` times the time, with assertions as wide as real time needs.
    ///
    /// # Panics
    /// If `scale` is not a positive, finite number.
    #[must_use]
    pub fn in_real_time(&self, scale: f64) -> Scenario {
        assert!(scale.is_finite() && scale > 0.0, "a scale is a positive number");
        let mut scenario = self.clone();
        Scale(scale).scenario(&mut scenario);
        scenario
    }
}

struct Scale(f64);

impl Scale {
    fn scenario(&self, scenario: &mut Scenario) {
        let Scenario {
            title: _,
            story: _,
            seeds: _,
            interleave: _,
            server,
            standby,
            network,
            pools: _,
            queues,
            apps,
            workloads,
            faults,
            expect,
        } = scenario;
        self.server(server);
        if let Some(standby) = standby {
            self.time(&mut standby.promotion_time);
        }
        self.network(network);
        for Queue { app: _, acknowledge: _, max_retries: _, countdown } in queues.values_mut() {
            self.time(countdown);
        }
        for App { processes: _, collector: _, cooperative: _, user: _, pool } in apps.values_mut() {
            self.pool(pool);
        }
        for workload in workloads.values_mut() {
            self.workload(workload);
        }
        for Fault { at, every, action } in faults {
            self.time(at);
            self.maybe(every);
            self.fault(action);
        }
        self.expect(expect);
    }

    fn time(&self, time: &mut Duration) {
        *time = time.mul_f64(self.0);
    }

    fn maybe(&self, time: &mut Option<Duration>) {
        if let Some(time) = time {
            self.time(time);
        }
    }

    fn server(&self, server: &mut Server) {
        let Server {
            version: _,
            max_connections: _,
            superuser_reserved_connections: _,
            auth: _,
            settings,
            roles: _,
            database_connection_limit: _,
            sql,
            costs,
            startup_time,
            recovery_time,
            fork_time,
        } = server;
        for (name, value) in settings {
            self.setting(name, value);
        }
        self.sql(sql);
        for cost in costs {
            self.time(&mut cost.takes);
            self.time(&mut cost.per_row);
        }
        for time in [startup_time, recovery_time, fork_time] {
            self.time(time);
        }
    }

    fn network(&self, network: &mut Network) {
        let Network { latency, jitter, bandwidth, idle_flow_timeout, dns_ttl, client } = network;
        for time in [latency, jitter, dns_ttl] {
            self.time(time);
        }
        if let Some(bandwidth) = bandwidth {
            self.rate(bandwidth);
        }
        self.maybe(idle_flow_timeout);
        let SocketOptions { keepalive, user_timeout, connect_timeout } = client;
        if let Some(Keepalive { idle, interval, count: _ }) = keepalive {
            self.time(idle);
            self.time(interval);
        }
        self.maybe(user_timeout);
        self.maybe(connect_timeout);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of bytes, to the next whole one"
    )]
    fn rate(&self, per_second: &mut u64) {
        *per_second = ((*per_second as f64 / self.0).round() as u64).max(1);
    }

    fn pool(&self, pool: &mut PoolSettings) {
        let PoolSettings {
            max_size: _,
            min_idle: _,
            max_idle: _,
            acquire_timeout,
            idle_timeout,
            max_lifetime,
            test_on_acquire: _,
            reset_on_return: _,
            order: _,
        } = pool;
        for time in [acquire_timeout, idle_timeout, max_lifetime] {
            self.maybe(time);
        }
    }

    fn workload(&self, workload: &mut Workload) {
        let Workload { app: _, arrive, from, until, steps, on_error: _, finally } = workload;
        match arrive {
            Arrive::Never | Arrive::Jobs { .. } | Arrive::Burst { count: _, every: None } => {}
            Arrive::At(times) => times.iter_mut().for_each(|time| self.time(time)),
            Arrive::Every(time)
            | Arrive::Burst { count: _, every: Some(time) }
            | Arrive::Workers { count: _, pause: time } => {
                self.time(time);
            }
            Arrive::Poisson { per_second } => *per_second /= self.0,
        }
        self.time(from);
        self.maybe(until);
        self.steps(steps);
        self.steps(finally);
    }

    fn steps(&self, steps: &mut [Step]) {
        for Step { action, cancel } in steps {
            match cancel {
                Some(Cancel::After(time)) => self.time(time),
                Some(
                    Cancel::AtPoll(_)
                    | Cancel::AtWake(_)
                    | Cancel::AtPollOf { .. }
                    | Cancel::AtWakeOf { .. }
                    | Cancel::EveryPoll,
                )
                | None => {}
            }
            match action {
                Action::Acquire { deadline } => self.maybe(deadline),
                Action::Sql(sql) | Action::Prepared(sql) | Action::Flush(sql) | Action::ExpectRow(sql) => self.sql(sql),
                Action::Hold { min, max } => {
                    self.time(min);
                    self.time(max);
                }
                Action::Abandon { after } => self.time(after),
                Action::Put { queue: _, after, payload } => {
                    self.time(after);
                    // It may be a statement. A number is one of seconds only where a statement says so.
                    self.sql(payload);
                }
                Action::While { queue: _, steps } | Action::Repeat { times: _, steps } => self.steps(steps),
                Action::Begin
                | Action::Commit
                | Action::Rollback
                | Action::Release
                | Action::Leak
                | Action::Panic
                | Action::Detach
                | Action::Invalidate
                | Action::ClosePool
                | Action::NewPool
                | Action::DropPool
                | Action::Resize(_)
                | Action::DisposePool
                | Action::LosePool
                | Action::Lose
                | Action::Collect
                | Action::Allocate { .. }
                | Action::Session
                | Action::RemoveSession
                | Action::Take(_)
                | Action::Done(_)
                | Action::Join(_)
                | Action::Kill(_)
                | Action::Status
                | Action::Spawn { .. } => {}
            }
        }
    }

    fn fault(&self, action: &mut FaultAction) {
        match action {
            FaultAction::NetMessage { place: _, what: AtMessage::Delay(by) } => self.time(by),
            FaultAction::NetMessage { .. }
            | FaultAction::ServerStop { .. }
            | FaultAction::ServerStart { .. }
            | FaultAction::ServerPromote
            | FaultAction::DnsRepoint { .. } => {}
            FaultAction::ServerRestart { server: _, mode: _, down_for } => self.time(down_for),
            FaultAction::ServerCrashBackend { server: _, filter }
            | FaultAction::ServerTerminate { server: _, filter }
            | FaultAction::ServerCancel { server: _, filter } => self.maybe(&mut filter.older_than),
            FaultAction::ServerKill { server: _, down_for } | FaultAction::ServerPowerLoss { server: _, down_for } => {
                self.maybe(down_for);
            }
            FaultAction::ServerSlow { server: _, by, lasts } => {
                self.time(by);
                self.maybe(lasts);
            }
            FaultAction::ServerSet { server: _, setting, value } => self.setting(setting, value),
            FaultAction::ServerSql { server: _, sql, lasts } => {
                self.sql(sql);
                self.maybe(lasts);
            }
            FaultAction::ServerOccupy { server: _, sessions: _, user: _, lasts }
            | FaultAction::NetPartition { app: _, direction: _, lasts }
            | FaultAction::NetRefuse { lasts }
            | FaultAction::NetLoseConnects { lasts }
            | FaultAction::NetAcceptSilence { lasts } => self.maybe(lasts),
            FaultAction::NetLatency { latency, jitter, lasts } => {
                self.time(latency);
                self.time(jitter);
                self.maybe(lasts);
            }
            FaultAction::NetBandwidth { bytes_per_second, lasts } => {
                self.rate(bytes_per_second);
                self.maybe(lasts);
            }
            FaultAction::NetForget { older_than, app: _ } | FaultAction::NetReset { older_than, app: _ } => {
                self.maybe(older_than);
            }
            FaultAction::NetIdleFlowTimeout { timeout, lasts } => {
                self.time(timeout);
                self.maybe(lasts);
            }
            FaultAction::AppKill { app: _, process: _, older_than, restart_after } => {
                self.maybe(older_than);
                self.maybe(restart_after);
            }
            FaultAction::ActorKill { workload: _, older_than, count: _ } => self.maybe(older_than),
            FaultAction::Manager { call: _, how, lasts } => {
                if let Misbehaviour::Slow(by) = how {
                    self.time(by);
                }
                self.maybe(lasts);
            }
            FaultAction::AppPowerLoss { app: _, process: _, restart_after } => self.maybe(restart_after),
        }
    }

    fn expect(&self, expect: &mut Expect) {
        let Expect {
            until,
            healing,
            bounds,
            excuses: _,
            known: _,
            violations: _,
            errors,
            sql: _,
            needs: _,
            figures,
            lateness,
        } = expect;
        *lateness = LATENESS;
        self.time(until);
        // What has to end in it includes what does not shrink.
        *healing = healing.mul_f64(self.0) + SLACK * 10;
        for Bound { invariant: _, value } in bounds {
            match value {
                BoundValue::Within(time) => *time = time.mul_f64(self.0) + SLACK,
                BoundValue::AtMost(_) => {}
            }
        }
        for ErrorCheck { text: _, count: _, first } in errors {
            if let Some(first) = first {
                self.comparison(first);
            }
        }
        for comparison in figures.values_mut() {
            self.comparison(comparison);
        }
    }

    fn comparison(&self, comparison: &mut Comparison) {
        if comparison.unit != FigureUnit::Seconds {
            return;
        }
        comparison.value *= self.0;
        match comparison.operator {
            Operator::AtMost | Operator::Below => comparison.value += SLACK.as_secs_f64(),
            Operator::AtLeast | Operator::Above => comparison.value -= SLACK.as_secs_f64(),
            Operator::Equal => {}
        }
    }

    fn setting(&self, name: &str, value: &mut String) {
        let Some((_, unit)) = TIMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else { return };
        if let Some(scaled) = self.setting_value(value, *unit) {
            *value = scaled;
        }
    }

    /// A value of a setting that is a time, in whole milliseconds (or seconds, which is all that `authentication_timeout` takes).
    fn setting_value(&self, value: &str, unit: Unit) -> Option<String> {
        let value = value.trim().trim_matches('\'').trim();
        let digits = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
        let (count, given) = value.split_at(digits);
        let count: f64 = count.parse().ok()?;
        let milliseconds = match (given.trim(), unit) {
            ("ms", _) | ("", Unit::Milliseconds) => count,
            ("s", _) | ("", Unit::Seconds) => count * 1e3,
            ("min", _) => count * 60e3,
            ("h", _) => count * 3_600e3,
            ("d", _) => count * 86_400e3,
            ("us", _) => count / 1e3,
            _ => return None,
        };
        let scaled = milliseconds * self.0;
        Some(match unit {
            // Zero switches it off, and may not become or cease to be.
            _ if milliseconds == 0.0 => "0".to_owned(),
            Unit::Milliseconds => format!("{}ms", scaled.round().max(1.0)),
            Unit::Seconds => format!("{}s", (scaled / 1e3).round().max(1.0)),
        })
    }

    /// `pg_sleep(2)`, `pg_sleep($payload)`, and settings of times in `SET` and `set_config`.
    fn sql(&self, sql: &mut String) {
        if self.0 == 1.0 {
            return;
        }
        let sleep = pattern(r"(?i)(pg_sleep\s*\(\s*)([0-9.]+)(\s*\))");
        let slept = sleep.replace_all(sql, |found: &Captures<'_>| {
            let scaled =
                found[2].parse::<f64>().map_or_else(|_| found[2].to_owned(), |seconds| number(seconds * self.0));
            format!("{}{scaled}{}", &found[1], &found[3])
        });
        let sleep = pattern(r"(?i)(pg_sleep\s*\(\s*)(\$[a-z]+)(\s*\))");
        let factor = number(self.0);
        let slept = sleep
            .replace_all(&slept, |found: &Captures<'_>| format!("{}{} * {factor}{}", &found[1], &found[2], &found[3]));
        let names = TIMES.map(|(name, _)| name).join("|");
        let set = pattern(&format!(r"(?i)\b({names})(\s*(?:=|\bto\b)\s*)('[^']*'|[0-9]+)"));
        let set = set.replace_all(&slept, |found: &Captures<'_>| {
            let mut value = found[3].trim_matches('\'').to_owned();
            self.setting(&found[1], &mut value);
            format!("{}{}'{value}'", &found[1], &found[2])
        });
        *sql = set.into_owned();
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("it is written in this file")
}

/// Without an exponent, and no more digits than microseconds need.
fn number(seconds: f64) -> String {
    let text = format!("{seconds:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn scaled(text: &str, scale: f64) -> Scenario {
        let text = format!("title = \"A test\"\nstory = \"A test.\"\n{text}");
        crate::scenario::parse("a test", &text).unwrap().in_real_time(scale)
    }

    const FILE: &str = r#"
[server]
settings = { statement_timeout = "20s", work_mem = "4MB", authentication_timeout = "1min", lock_timeout = "0" }
[app.web]
pool = { max_size = 3, acquire_timeout = "5s" }
[workload.request]
app = "web"
arrive = { poisson = "4/s" }
steps = ["acquire within 1s", "sql SELECT pg_sleep(2)", "sql SET statement_timeout = '10s'", "hold 10ms..20ms", "release"]
[[fault]]
at = "10s"
do = "net.bandwidth"
bandwidth = "1kB/s"
for = "4s"
[expect]
until = "30s"
healing = "20s"
holds = ["recovery within 10s"]
"#;

    #[test]
    fn times_shrink_and_counts_stay() {
        let scenario = scaled(FILE, 0.1);
        let web = &scenario.apps["web"].pool;
        assert_eq!((web.max_size, web.acquire_timeout), (3, Some(Duration::from_millis(500))));
        let workload = &scenario.workloads["request"];
        assert_eq!(workload.arrive, Arrive::Poisson { per_second: 40.0 });
        let actions: Vec<&Action> = workload.steps.iter().map(|step| &step.action).collect();
        let ms = Duration::from_millis;
        assert_eq!(*actions[0], Action::Acquire { deadline: Some(ms(100)) });
        assert_eq!(*actions[1], Action::Sql("SELECT pg_sleep(0.2)".to_owned()));
        assert_eq!(*actions[2], Action::Sql("SET statement_timeout = '1000ms'".to_owned()));
        assert_eq!(*actions[3], Action::Hold { min: ms(1), max: ms(2) });
        assert_eq!(scenario.faults[0].at, ms(1000));
        let lasts = Some(ms(400));
        assert_eq!(scenario.faults[0].action, FaultAction::NetBandwidth { bytes_per_second: 10_000, lasts });
        assert_eq!((scenario.expect.until, scenario.expect.healing), (ms(3000), ms(12_000)));
        assert_eq!(scenario.expect.bounds[0].value, BoundValue::Within(ms(2000)));
        let settings: Vec<&str> = scenario.server.settings.values().map(String::as_str).collect();
        assert_eq!(settings, ["2000ms", "4MB", "6s", "0"]);
    }

    #[test]
    fn a_payload_is_a_time_where_it_is_slept() {
        let scenario = scaled(
            r#"
[queue.mail]
[app.web]
[workload.request]
app = "web"
arrive = { every = "1s" }
steps = ["put mail 2", "put mail SELECT pg_sleep(2)"]
[workload.worker]
app = "web"
arrive = { jobs = "mail", workers = 1 }
steps = ["acquire", "sql SELECT name FROM users WHERE id = $payload", "sql SELECT pg_sleep( $payload )", "release"]
[expect]
until = "30s"
"#,
            0.25,
        );
        let put = |steps: &[Step]| match &steps[0].action {
            Action::Put { payload, .. } => payload.clone(),
            other => panic!("{other:?}"),
        };
        let steps = |name: &str| scenario.workloads[name].steps.clone();
        assert_eq!(put(&steps("request")), "2", "it may be the name of a row");
        assert_eq!(put(&steps("request")[1..]), "SELECT pg_sleep(0.5)");
        let worker = steps("worker");
        assert_eq!(worker[1].action, Action::Sql("SELECT name FROM users WHERE id = $payload".to_owned()));
        assert_eq!(worker[2].action, Action::Sql("SELECT pg_sleep( $payload * 0.25 )".to_owned()));
    }

    #[test]
    fn in_the_same_time_only_assertions_are_wider() {
        let (scaled, parsed) = (
            scaled(FILE, 1.0),
            crate::scenario::parse("a test", &format!("title = \"A test\"\nstory = \"A test.\"\n{FILE}")).unwrap(),
        );
        assert_eq!(
            (&scaled.workloads, &scaled.faults, &scaled.apps),
            (&parsed.workloads, &parsed.faults, &parsed.apps)
        );
        assert_eq!(scaled.expect.bounds[0].value, BoundValue::Within(Duration::from_secs(11)));
    }
}
