//! What a fault does, as a sentence for the story.

use std::fmt::Write as _;
use std::time::Duration;

use crate::scenario::model::{
    AtMessage, BackendFilter, Direction, FaultAction, MessagePlace, Misbehaviour, ServerName, StopMode,
};

/// `the connection of dial 2 gets a RST before the app's 3rd message`
fn message(place: MessagePlace, what: AtMessage) -> String {
    let whose = if place.to_server { "app" } else { "server" };
    let moment = if place.after { "after" } else { "before" };
    let what = match what {
        AtMessage::Cut => "gets a RST at both ends".to_owned(),
        AtMessage::Silence => "is forgotten by a firewall".to_owned(),
        AtMessage::Delay(by) => format!("stalls for {}", time(by)),
        AtMessage::Terminate => "has its backend terminated".to_owned(),
        AtMessage::Cancel => "has its backend's statement cancelled".to_owned(),
        AtMessage::Starve => "finds its backend without memory".to_owned(),
    };
    format!("the connection of dial {} {what} {moment} the {whose}'s message {}", place.connection, place.message)
}

/// The sentence told when the fault begins.
#[must_use]
pub fn begin(action: &FaultAction) -> String {
    match action {
        FaultAction::ServerStop { server, mode } => format!("{} stop of {}", stop(*mode), name(*server)),
        FaultAction::ServerStart { server } => format!("start of {}", name(*server)),
        FaultAction::ServerRestart { server, mode, down_for } => {
            format!("{} restart of {}, down for {}", stop(*mode), name(*server), time(*down_for))
        }
        FaultAction::ServerCrashBackend { server, filter } => {
            let one = BackendFilter { count: filter.count.or(Some(1)), ..filter.clone() };
            format!("SIGKILL to {} of {}: the server crashes and recovers", backends(&one), name(*server))
        }
        FaultAction::ServerKill { server, down_for } => {
            format!("SIGKILL to {} and all its backends{}", name(*server), down(*down_for))
        }
        FaultAction::ServerPowerLoss { server, down_for } => {
            format!("{}'s host loses its power, without a FIN{}", name(*server), down(*down_for))
        }
        FaultAction::ServerSlow { server, by, lasts } => {
            format!("every statement on {} takes {} longer{}", name(*server), time(*by), span(*lasts))
        }
        FaultAction::ServerTerminate { server, filter } => {
            format!("pg_terminate_backend for {} of {}", backends(filter), name(*server))
        }
        FaultAction::ServerCancel { server, filter } => {
            format!("pg_cancel_backend for {} of {}", backends(filter), name(*server))
        }
        FaultAction::ServerPromote => "promotion of standby begins".to_owned(),
        FaultAction::ServerSet { server, setting, value } => {
            format!("{} is reloaded with {setting} = {value}", name(*server))
        }
        FaultAction::ServerSql { server, sql, lasts } => {
            let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
            match lasts {
                Some(lasts) => {
                    format!("a DBA's session on {} runs \"{sql}\", and ends after {}", name(*server), time(*lasts))
                }
                None => format!("a DBA's session on {} runs \"{sql}\", and stays", name(*server)),
            }
        }
        FaultAction::ServerOccupy { server, sessions, user, lasts } => {
            format!("another client asks for {sessions} sessions of {} as {user}{}", name(*server), span(*lasts))
        }
        FaultAction::NetLatency { latency, jitter, lasts } => {
            let mut text = format!("latency becomes {}", time(*latency));
            if !jitter.is_zero() {
                let _ = write!(text, " with up to {} of jitter", time(*jitter));
            }
            text + &span(*lasts)
        }
        FaultAction::NetBandwidth { bytes_per_second, lasts } => {
            format!("bandwidth becomes {bytes_per_second} bytes a second{}", span(*lasts))
        }
        FaultAction::NetPartition { app, direction, lasts } => {
            let what = match direction {
                Direction::Both => "segments are lost both ways",
                Direction::ToServer => "segments to the server are lost",
                Direction::ToApp => "segments to the app are lost",
            };
            format!("{what}{}{}", whose(app.as_deref()), span(*lasts))
        }
        FaultAction::NetForget { older_than, app } => {
            format!("a firewall forgets {}{}: silence, no FIN", flows(*older_than), whose(app.as_deref()))
        }
        FaultAction::NetReset { older_than, app } => {
            format!("both ends of {}{} get a RST", flows(*older_than), whose(app.as_deref()))
        }
        FaultAction::NetMessage { place, what } => message(*place, *what),
        FaultAction::NetRefuse { lasts } => format!("connects are refused{}", span(*lasts)),
        FaultAction::NetLoseConnects { lasts } => format!("connects are lost (no answer to a SYN){}", span(*lasts)),
        FaultAction::NetAcceptSilence { lasts } => {
            format!("connects are accepted, and nobody answers{}", span(*lasts))
        }
        FaultAction::NetIdleFlowTimeout { timeout, lasts } => {
            format!("a firewall forgets flows idle for {}{}", time(*timeout), span(*lasts))
        }
        FaultAction::DnsRepoint { to } => format!("the name db now resolves to {}", name(*to)),
        FaultAction::AppKill { app, process, older_than, restart_after } => {
            let age = older_than.map_or(String::new(), |age| format!(" older than {}", time(age)));
            format!("SIGKILL to {}{age}{}", processes(app, *process), again(*restart_after))
        }
        FaultAction::ActorKill { workload, older_than, count } => {
            let age = older_than.map_or(String::new(), |age| format!(" older than {}", time(age)));
            match count {
                Some(1) => format!("one actor of {workload}{age} is killed"),
                Some(count) => format!("{count} actors of {workload}{age} are killed"),
                None => format!("every actor of {workload}{age} is killed"),
            }
        }
        FaultAction::Manager { call, how, lasts } => {
            let how = match how {
                Misbehaviour::Fail => "fails".to_owned(),
                Misbehaviour::Hang => "hangs".to_owned(),
                Misbehaviour::Slow(by) => format!("takes {} longer", time(*by)),
                Misbehaviour::Panic => "panics".to_owned(),
            };
            format!("the manager's {} {how}{}", call.as_str(), span(*lasts))
        }
        FaultAction::AppPowerLoss { app, process, restart_after } => {
            format!("the host of {} loses its power{}", processes(app, *process), again(*restart_after))
        }
    }
}

/// The sentence told when a fault that lasts ends.
#[must_use]
pub fn end(action: &FaultAction) -> String {
    match action {
        FaultAction::ServerSlow { .. } => "statements take their usual time again".to_owned(),
        FaultAction::ServerSql { .. } => "the DBA's session ends".to_owned(),
        FaultAction::ServerOccupy { .. } => "the other client's sessions end".to_owned(),
        FaultAction::NetLatency { .. } => "latency is as before".to_owned(),
        FaultAction::NetBandwidth { .. } => "bandwidth is as before".to_owned(),
        FaultAction::NetPartition { .. } => "segments arrive again".to_owned(),
        FaultAction::NetRefuse { .. } | FaultAction::NetLoseConnects { .. } | FaultAction::NetAcceptSilence { .. } => {
            "connects work again".to_owned()
        }
        FaultAction::Manager { call, .. } => format!("the manager's {} works again", call.as_str()),
        FaultAction::NetIdleFlowTimeout { .. } => "the firewall forgets no more flows".to_owned(),
        other => format!("over: {}", begin(other)),
    }
}

/// What is told when fewer than wanted (`None`: all that there are, at least one) were there to be meant.
#[must_use]
pub fn found(found: usize, wanted: Option<u32>, what: &str) -> Option<String> {
    let plural = if what.ends_with('s') { format!("{what}es") } else { format!("{what}s") };
    match (found, wanted) {
        (0, _) => Some(format!("no such {what} was there")),
        (found, Some(wanted)) if found < wanted as usize => {
            let (were, name) = if found == 1 { ("was", what) } else { ("were", plural.as_str()) };
            Some(format!("only {found} such {name} {were} there"))
        }
        _ => None,
    }
}

/// A duration in its largest whole unit, as scenario files write it.
fn time(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        _ => format!("{ms}ms"),
    }
}

/// A server's name.
#[must_use]
pub fn name(server: ServerName) -> &'static str {
    match server {
        ServerName::Primary => "db",
        ServerName::Standby => "standby",
    }
}

fn stop(mode: StopMode) -> &'static str {
    match mode {
        StopMode::Smart => "smart",
        StopMode::Fast => "fast",
        StopMode::Immediate => "immediate",
    }
}

fn span(lasts: Option<Duration>) -> String {
    lasts.map_or(String::new(), |lasts| format!(" for {}", time(lasts)))
}

fn down(down_for: Option<Duration>) -> String {
    down_for.map_or(String::new(), |d| format!(", back after {}", time(d)))
}

fn again(restart_after: Option<Duration>) -> String {
    restart_after.map_or(String::new(), |d| format!(", started again after {}", time(d)))
}

fn whose(app: Option<&str>) -> String {
    app.map_or(String::new(), |app| format!(" of {app}"))
}

fn flows(older_than: Option<Duration>) -> String {
    older_than.map_or("all flows".to_owned(), |age| format!("flows older than {}", time(age)))
}

fn processes(app: &str, process: Option<u32>) -> String {
    process.map_or(format!("every process of {app}"), |n| format!("process {n} of {app}"))
}

fn backends(filter: &BackendFilter) -> String {
    let mut text = match filter.count {
        Some(1) => "one backend".to_owned(),
        Some(n) => format!("{n} backends"),
        None => "every backend".to_owned(),
    };
    if let Some(state) = &filter.state {
        let _ = write!(text, " that is {state}");
    }
    if let Some(age) = filter.older_than {
        let _ = write!(text, " older than {}", time(age));
    }
    if let Some(app) = &filter.app {
        let _ = write!(text, " of app {app}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_without_a_count_is_of_one_backend() {
        let filter = BackendFilter::default();
        let text = begin(&FaultAction::ServerCrashBackend { server: ServerName::Primary, filter: filter.clone() });
        assert_eq!(text, "SIGKILL to one backend of db: the server crashes and recovers");
        let text = begin(&FaultAction::ServerTerminate { server: ServerName::Primary, filter });
        assert_eq!(text, "pg_terminate_backend for every backend of db");
    }

    #[test]
    fn too_few_are_told() {
        assert_eq!(found(0, None, "actor").as_deref(), Some("no such actor was there"));
        assert_eq!(found(1, Some(3), "process").as_deref(), Some("only 1 such process was there"));
        assert_eq!(found(2, Some(3), "process").as_deref(), Some("only 2 such processes were there"));
        assert_eq!((found(2, None, "actor"), found(3, Some(3), "actor")), (None, None));
    }
}
