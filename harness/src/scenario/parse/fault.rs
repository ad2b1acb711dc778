//! `[[fault]]`: what is done, when, and to whom.

use std::time::Duration;

use indexmap::IndexMap;

use super::server::scalar;
use super::traffic::{check_app, check_role};
use crate::scenario::model::{
    App, AtMessage, BackendFilter, Direction, Fault, FaultAction, ManagerCall, MessagePlace, Misbehaviour, Processes,
    ServerName, StopMode,
};
use crate::scenario::reader::{At, Log, Reader, Value, nearest, suggest};
use crate::scenario::rehearsal::{self, Read};
use crate::scenario::report::Diagnostic;

/// One kind of fault, for `poolproof list faults` and for suggestions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultKind {
    /// What `do` says.
    pub name: &'static str,
    /// The keys it needs.
    pub needs: &'static [&'static str],
    /// The keys it may have.
    pub takes: &'static [&'static str],
    /// What it does, in one sentence.
    pub meaning: &'static str,
}

/// All kinds of faults.
pub const FAULTS: &[FaultKind] = &[
    FaultKind {
        name: "server.stop",
        needs: &[],
        takes: &["server", "mode"],
        meaning: "Stops the server: smart, fast (the default) or immediate.",
    },
    FaultKind { name: "server.start", needs: &[], takes: &["server"], meaning: "Starts a server that was stopped." },
    FaultKind {
        name: "server.restart",
        needs: &["down_for"],
        takes: &["server", "mode"],
        meaning: "Stops the server, and starts it a time after it is down.",
    },
    FaultKind {
        name: "server.crash_backend",
        needs: &[],
        takes: &["server", "app", "state", "older_than", "count"],
        meaning: "Kills one backend with SIGKILL: all others end, and the server recovers.",
    },
    FaultKind {
        name: "server.kill",
        needs: &[],
        takes: &["server", "down_for"],
        meaning: "Kills the whole server with SIGKILL; the kernel closes its sockets.",
    },
    FaultKind {
        name: "server.power_loss",
        needs: &[],
        takes: &["server", "down_for"],
        meaning: "The server's host vanishes without a FIN, and boots again after `down_for`.",
    },
    FaultKind {
        name: "server.slow",
        needs: &["by"],
        takes: &["server", "for"],
        meaning: "Every statement takes this much longer.",
    },
    FaultKind {
        name: "server.terminate",
        needs: &[],
        takes: &["server", "app", "state", "older_than", "count"],
        meaning: "Ends sessions as pg_terminate_backend does.",
    },
    FaultKind {
        name: "server.cancel",
        needs: &[],
        takes: &["server", "app", "state", "older_than", "count"],
        meaning: "Cancels the statements of sessions as pg_cancel_backend does.",
    },
    FaultKind { name: "server.promote", needs: &[], takes: &[], meaning: "The standby becomes a primary." },
    FaultKind {
        name: "server.set",
        needs: &["setting", "value"],
        takes: &["server"],
        meaning: "Reloads the configuration with a changed setting; running sessions see it, too, unless they set it themselves.",
    },
    FaultKind {
        name: "server.sql",
        needs: &["sql"],
        takes: &["server", "for"],
        meaning: "The DBA runs statements in a session of their own, held open for a time. That one of them fails is a mistake of the \
                  scenario, unless the world is why: a timeout, a deadlock, the server's end.",
    },
    FaultKind {
        name: "server.occupy",
        needs: &["sessions"],
        takes: &["server", "user", "for"],
        meaning: "Another client opens this many sessions and keeps them.",
    },
    FaultKind {
        name: "net.latency",
        needs: &["latency"],
        takes: &["jitter", "for"],
        meaning: "The network becomes slower.",
    },
    FaultKind {
        name: "net.bandwidth",
        needs: &["bandwidth"],
        takes: &["for"],
        meaning: "The network becomes narrower.",
    },
    FaultKind {
        name: "net.partition",
        needs: &[],
        takes: &["app", "direction", "for"],
        meaning: "Segments are lost; they are sent again with backoff, and arrive after the healing.",
    },
    FaultKind {
        name: "net.forget",
        needs: &[],
        takes: &["older_than", "app"],
        meaning: "Existing flows are dropped silently for ever, new ones work: a firewall lost its table.",
    },
    FaultKind {
        name: "net.reset",
        needs: &[],
        takes: &["older_than", "app"],
        meaning: "Both ends of existing flows get a RST.",
    },
    FaultKind {
        name: "net.message",
        needs: &["connection", "direction", "message", "what"],
        takes: &["moment", "by"],
        meaning: "Befalls one connection at one of its protocol messages, if that comes at this time or later.",
    },
    FaultKind { name: "net.refuse", needs: &[], takes: &["for"], meaning: "Connects are refused (a RST)." },
    FaultKind {
        name: "net.lose_connects",
        needs: &[],
        takes: &["for"],
        meaning: "Connects are lost (no answer to a SYN).",
    },
    FaultKind {
        name: "net.accept_silence",
        needs: &[],
        takes: &["for"],
        meaning: "Connects are accepted, and nobody ever answers.",
    },
    FaultKind {
        name: "net.idle_flow_timeout",
        needs: &["timeout"],
        takes: &["for"],
        meaning: "A firewall forgets flows that are idle for longer than this.",
    },
    FaultKind {
        name: "dns.repoint",
        needs: &["to"],
        takes: &[],
        meaning: "The name `db` resolves to another server from now on.",
    },
    FaultKind {
        name: "app.kill",
        needs: &["app"],
        takes: &["process", "older_than", "restart_after"],
        meaning: "Kills a process of an app with SIGKILL; the kernel closes its sockets.",
    },
    FaultKind {
        name: "app.power_loss",
        needs: &["app"],
        takes: &["process", "restart_after"],
        meaning: "The host of an app's process vanishes without a FIN.",
    },
    FaultKind {
        name: "actor.kill",
        needs: &["workload"],
        takes: &["older_than", "count"],
        meaning: "Kills actors of a workload, the oldest first: what they hold is dropped, their processes live on.",
    },
    FaultKind {
        name: "manager.fail",
        needs: &["call"],
        takes: &["for"],
        meaning: "A method of the manager of a pool of resources fails.",
    },
    FaultKind {
        name: "manager.hang",
        needs: &["call"],
        takes: &["for"],
        meaning: "The method does not return until this is over, and fails then.",
    },
    FaultKind {
        name: "manager.slow",
        needs: &["call", "by"],
        takes: &["for"],
        meaning: "The method takes this much longer.",
    },
    FaultKind { name: "manager.panic", needs: &["call"], takes: &["for"], meaning: "The method panics." },
];

/// What faults refer to.
pub(super) struct World<'a> {
    pub(super) apps: &'a IndexMap<String, At<App>>,
    pub(super) workloads: &'a [&'a str],
    pub(super) standby: bool,
    /// The servers' major version.
    pub(super) version: u32,
    pub(super) roles: &'a [&'a str],
    pub(super) until: Option<Duration>,
}

/// A fault that is being read.
struct Keys<'r, 'v, 'i, 'l> {
    reader: &'r mut Reader<'v, 'i, 'l>,
    world: &'r World<'r>,
}

pub(super) fn fault(value: &Value<'_, '_>, log: &Log<'_>, world: &World<'_>) -> Option<Fault> {
    let mut reader = value.table(log)?;
    let at = reader.need_at("at", |v, log| v.duration(log));
    if let (Some(at), Some(until)) = (&at, world.until)
        && at.value >= until
    {
        log.push(
            Diagnostic::new("scenario::out_of_order", at.span.clone(), "this fault comes after the end")
                .label(format!("`until` in `[expect]` is {}", crate::scenario::units::print_duration(until))),
        );
    }
    let every = reader.read("every", |v, log| v.positive(log));
    let kind = reader.need("do", |v, log| {
        let name = v.string(log)?;
        let found = FAULTS.iter().find(|kind| kind.name == name);
        if found.is_none() {
            log.push(
                Diagnostic::new("scenario::unknown_fault", v.span.clone(), format!("there is no fault `{name}`"))
                    .label("unknown fault")
                    .maybe_help(near_fault(name)),
            );
        }
        found
    });
    let Some(kind) = kind else {
        // Without its kind nothing is known of the other keys, except those of no kind at all.
        for known in FAULTS.iter().flat_map(|kind| kind.needs.iter().chain(kind.takes)) {
            reader.take(known);
        }
        reader.finish();
        return None;
    };
    let action = action(kind.name, &mut Keys { reader: &mut reader, world });
    reader.finish();
    Some(Fault { at: at?.value, every, action: action? })
}

fn near_fault(name: &str) -> Option<String> {
    let names = FAULTS.iter().map(|kind| kind.name);
    // `restart` is meant as `server.restart`.
    let same_verb = names.clone().find(|known| known.split_once('.').is_some_and(|(_, verb)| verb == name));
    let near = same_verb.or_else(|| nearest(name, names.clone()));
    match near {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => suggest("", names),
    }
}

/// Reads the keys of a kind. Every key is read before any is found missing, so that all mistakes are reported.
fn action(kind: &str, keys: &mut Keys<'_, '_, '_, '_>) -> Option<FaultAction> {
    Some(match kind {
        "server.stop" => FaultAction::ServerStop { server: keys.server(), mode: keys.mode() },
        "server.start" => FaultAction::ServerStart { server: keys.server() },
        "server.restart" => {
            let (server, mode, down_for) = (keys.server(), keys.mode(), keys.need_time("down_for"));
            FaultAction::ServerRestart { server, mode, down_for: down_for? }
        }
        "server.crash_backend" => FaultAction::ServerCrashBackend { server: keys.server(), filter: keys.filter() },
        "server.kill" => FaultAction::ServerKill { server: keys.server(), down_for: keys.time("down_for") },
        "server.power_loss" => FaultAction::ServerPowerLoss { server: keys.server(), down_for: keys.time("down_for") },
        "server.slow" => {
            let (server, by, lasts) = (keys.server(), keys.need_positive("by"), keys.lasts());
            FaultAction::ServerSlow { server, by: by?, lasts }
        }
        "server.terminate" => FaultAction::ServerTerminate { server: keys.server(), filter: keys.filter() },
        "server.cancel" => FaultAction::ServerCancel { server: keys.server(), filter: keys.filter() },
        "server.promote" => {
            if !keys.world.standby {
                let span = keys.reader.span.clone();
                keys.no_standby(span);
            }
            FaultAction::ServerPromote
        }
        "server.set" => {
            let server = keys.server();
            let setting = keys.reader.need_at("setting", |v, log| v.string(log).map(str::to_owned));
            let value = keys.reader.need_at("value", |v, log| scalar(v, log));
            if let Some(name) = &setting {
                rehearsal::setting(keys.reader.log, keys.world.version, name, value.as_ref(), Read::Reload);
            }
            FaultAction::ServerSet { server, setting: setting?.value, value: value?.value }
        }
        "server.sql" => {
            let server = keys.server();
            let sql = keys.reader.need_at("sql", |v, log| v.words(log).map(|sql| sql.trim().to_owned()));
            if let Some(sql) = &sql {
                rehearsal::syntax(keys.reader.log, sql);
            }
            let lasts = keys.lasts();
            FaultAction::ServerSql { server, sql: sql?.value, lasts }
        }
        "server.occupy" => {
            let server = keys.server();
            let sessions = keys.reader.need("sessions", |v, log| v.count(log, 1..=10_000));
            let user = keys.reader.read_at("user", |v, log| v.words(log));
            if let Some(user) = &user {
                check_role(keys.reader.log, user.value, &user.span, keys.world.roles);
            }
            let lasts = keys.lasts();
            FaultAction::ServerOccupy {
                server,
                sessions: sessions?,
                user: user.map_or("app", |user| user.value).to_owned(),
                lasts,
            }
        }
        "net.latency" => {
            let (latency, jitter, lasts) = (keys.need_time("latency"), keys.time("jitter"), keys.lasts());
            FaultAction::NetLatency { latency: latency?, jitter: jitter.unwrap_or_default(), lasts }
        }
        "net.bandwidth" => {
            let bandwidth = keys.reader.need("bandwidth", |v, log| v.bandwidth(log));
            let lasts = keys.lasts();
            FaultAction::NetBandwidth { bytes_per_second: bandwidth?, lasts }
        }
        "net.partition" => {
            let directions =
                [("both", Direction::Both), ("to-server", Direction::ToServer), ("to-app", Direction::ToApp)];
            FaultAction::NetPartition {
                app: keys.app(),
                direction: keys
                    .reader
                    .read("direction", |v, log| v.choice(log, &directions))
                    .unwrap_or(Direction::Both),
                lasts: keys.lasts(),
            }
        }
        "net.forget" => FaultAction::NetForget { older_than: keys.positive("older_than"), app: keys.app() },
        "net.reset" => FaultAction::NetReset { older_than: keys.positive("older_than"), app: keys.app() },
        "net.message" => keys.message()?,
        "net.refuse" => FaultAction::NetRefuse { lasts: keys.lasts() },
        "net.lose_connects" => FaultAction::NetLoseConnects { lasts: keys.lasts() },
        "net.accept_silence" => FaultAction::NetAcceptSilence { lasts: keys.lasts() },
        "net.idle_flow_timeout" => {
            let (timeout, lasts) = (keys.need_positive("timeout"), keys.lasts());
            FaultAction::NetIdleFlowTimeout { timeout: timeout?, lasts }
        }
        "dns.repoint" => {
            let to = keys.reader.need_at("to", |v, log| v.choice(log, &SERVERS))?;
            keys.exists(&to);
            FaultAction::DnsRepoint { to: to.value }
        }
        "app.kill" => {
            let (app, process, restart_after) = keys.process();
            let older_than = keys.positive("older_than");
            FaultAction::AppKill { app: app?, process, older_than, restart_after }
        }
        "app.power_loss" => {
            let (app, process, restart_after) = keys.process();
            FaultAction::AppPowerLoss { app: app?, process, restart_after }
        }
        "actor.kill" => {
            let workload = keys.workload();
            let older_than = keys.positive("older_than");
            let count = keys.reader.read("count", |v, log| v.count(log, 1..=100_000));
            FaultAction::ActorKill { workload: workload?, older_than, count }
        }
        "manager.fail" => keys.manager(Some(Misbehaviour::Fail))?,
        "manager.hang" => keys.manager(Some(Misbehaviour::Hang))?,
        "manager.slow" => {
            let by = keys.need_positive("by");
            keys.manager(by.map(Misbehaviour::Slow))?
        }
        "manager.panic" => keys.manager(Some(Misbehaviour::Panic))?,
        _ => unreachable!("{kind} is in FAULTS but isn't read"),
    })
}

const SERVERS: [(&str, ServerName); 2] = [("db", ServerName::Primary), ("standby", ServerName::Standby)];

impl Keys<'_, '_, '_, '_> {
    fn server(&mut self) -> ServerName {
        let Some(server) = self.reader.read_at("server", |v, log| v.choice(log, &SERVERS)) else {
            return ServerName::Primary;
        };
        self.exists(&server);
        server.value
    }

    fn exists(&self, server: &At<ServerName>) {
        if server.value == ServerName::Standby && !self.world.standby {
            self.no_standby(server.span.clone());
        }
    }

    fn workload(&mut self) -> Option<String> {
        let workload = self.reader.need_at("workload", |v, log| v.words(log))?;
        let known = self.world.workloads;
        if !known.contains(&workload.value) {
            self.reader.log.push(
                Diagnostic::new(
                    "scenario::undefined_workload",
                    workload.span,
                    format!("there is no workload `{}`", workload.value),
                )
                .label("unknown workload")
                .maybe_help(suggest(workload.value, known.iter().copied())),
            );
        }
        Some(workload.value.to_owned())
    }

    fn no_standby(&self, span: crate::scenario::reader::Span) {
        self.reader.log.push(
            Diagnostic::new("scenario::undefined_standby", span, "there is no standby")
                .label("needs a standby")
                .help("a standby is defined by a `[standby]` table, which may be empty"),
        );
    }

    fn mode(&mut self) -> StopMode {
        let modes = [("smart", StopMode::Smart), ("fast", StopMode::Fast), ("immediate", StopMode::Immediate)];
        self.reader.read("mode", |v, log| v.choice(log, &modes)).unwrap_or(StopMode::Fast)
    }

    fn time(&mut self, key: &'static str) -> Option<Duration> {
        self.reader.read(key, |v, log| v.duration(log))
    }

    fn need_time(&mut self, key: &'static str) -> Option<Duration> {
        self.reader.need(key, |v, log| v.duration(log))
    }

    fn positive(&mut self, key: &'static str) -> Option<Duration> {
        self.reader.read(key, |v, log| v.positive(log))
    }

    fn need_positive(&mut self, key: &'static str) -> Option<Duration> {
        self.reader.need(key, |v, log| v.positive(log))
    }

    fn manager(&mut self, how: Option<Misbehaviour>) -> Option<FaultAction> {
        let calls = [ManagerCall::Connect, ManagerCall::Check, ManagerCall::Reset].map(|call| (call.as_str(), call));
        let call = self.reader.need("call", |v, log| v.choice(log, &calls));
        let lasts = self.lasts();
        Some(FaultAction::Manager { call: call?, how: how?, lasts })
    }

    /// A message, and what befalls its connection there.
    fn message(&mut self) -> Option<FaultAction> {
        const MOST: u32 = 1_000_000;
        let reader = &mut *self.reader;
        let connection = reader.need("connection", |v, log| v.count(log, 1..=MOST));
        let to_server = reader.need("direction", |v, log| v.choice(log, &[("to-server", true), ("to-app", false)]));
        let message = reader.need("message", |v, log| v.count(log, 1..=MOST));
        let after = reader.read("moment", |v, log| v.choice(log, &[("before", false), ("after", true)]));
        let by = reader.read_at("by", |v, log| v.positive(log));
        let whats = AtMessage::ALL.map(|what| (what.as_str(), what));
        let what = match (reader.need("what", |v, log| v.choice(log, &whats))?, by) {
            (AtMessage::Delay(_), Some(by)) => AtMessage::Delay(by.value),
            (AtMessage::Delay(_), None) => {
                let missing = Diagnostic::new("scenario::missing_key", reader.span.clone(), "`by` is missing");
                reader.log.push(missing.label("how long is the delay?"));
                return None;
            }
            (what, by) => {
                if let Some(by) = by {
                    let wrong = Diagnostic::new("scenario::bad_value", by.span, "`by` is for `what = \"delay\"`");
                    reader.log.push(wrong.label("nothing is delayed here"));
                }
                what
            }
        };
        let place = MessagePlace {
            connection: connection?,
            to_server: to_server?,
            message: message?,
            after: after.unwrap_or(false),
        };
        Some(FaultAction::NetMessage { place, what })
    }

    fn lasts(&mut self) -> Option<Duration> {
        self.positive("for")
    }

    fn app(&mut self) -> Option<String> {
        let app = self.reader.read_at("app", |v, log| v.words(log))?;
        check_app(self.reader.log, app.value, &app.span, self.world.apps.keys().map(String::as_str));
        Some(app.value.to_owned())
    }

    fn filter(&mut self) -> BackendFilter {
        const STATES: [(&str, &str); 4] = [
            ("idle", "idle"),
            ("active", "active"),
            ("idle in transaction", "idle in transaction"),
            ("idle in transaction (aborted)", "idle in transaction (aborted)"),
        ];
        BackendFilter {
            app: self.app(),
            state: self.reader.read("state", |v, log| v.choice(log, &STATES)).map(str::to_owned),
            older_than: self.positive("older_than"),
            count: self.reader.read("count", |v, log| v.count(log, 1..=262_143)),
        }
    }

    /// The keys of a fault of an app: which process of it, and when a new one starts.
    fn process(&mut self) -> (Option<String>, Option<u32>, Option<Duration>) {
        let app = self.reader.need_at("app", |v, log| v.words(log));
        let mut processes = Processes::Fixed(1000);
        if let Some(app) = &app {
            check_app(self.reader.log, app.value, &app.span, self.world.apps.keys().map(String::as_str));
            if let Some(app) = self.world.apps.get(app.value) {
                processes = app.value.processes;
            }
        }
        let process = self.reader.read("process", |v, log| match processes {
            Processes::Fixed(processes) => v.count(log, 1..=processes),
            Processes::PerRequest => {
                log.push(
                    Diagnostic::new(
                        "scenario::bad_value",
                        v.span.clone(),
                        "a process that comes with a request has no number",
                    )
                    .label("which one is meant?")
                    .help(
                        "all processes of the app are meant without `process`; `app.kill` may choose by `older_than`",
                    ),
                );
                None
            }
        });
        let restart_after = self.time("restart_after");
        (app.map(|app| app.value.to_owned()), process, restart_after)
    }
}
