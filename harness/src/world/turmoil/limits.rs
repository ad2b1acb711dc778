//! What of a scenario turmoil can't express: then a run would say more of turmoil than of a pool.

use std::time::Duration;

use super::TICK;
use crate::scenario::model::{Direction, FaultAction, Scenario};

/// When Linux gives up a SYN (`tcp_syn_retries` = 6).
const SYN_GIVES_UP: Duration = Duration::from_secs(127);

/// When Linux gives up data that nobody acknowledges (`tcp_retries2` = 15).
const DATA_GIVES_UP: Duration = Duration::from_secs(924);

/// What the scenario needs of a network and turmoil 0.7 doesn't have, a sentence each with the reason. Empty when a run there
/// means something.
#[must_use]
pub fn lacks(scenario: &Scenario) -> Vec<String> {
    let mut lacks = Vec::new();
    let network = &scenario.network;
    if network.latency < TICK {
        lacks.push("turmoil moves messages once a tick of 1 ms: a shorter latency can't be had".to_owned());
    }
    if network.bandwidth.is_some() {
        lacks.push(BANDWIDTH.to_owned());
    }
    if network.idle_flow_timeout.is_some() {
        lacks.push(FLOWS.to_owned());
    }
    if scenario.server.settings.get("client_connection_check_interval").is_some_and(|value| value != "0") {
        lacks.push(HANGUP.to_owned());
    }
    for fault in &scenario.faults {
        lacks.extend(lack(scenario, fault.at, &fault.action));
    }
    let mut known = Vec::new();
    lacks.retain(|lack| !known.contains(lack) && (known.push(lack.clone()), true).1);
    lacks
}

const BANDWIDTH: &str = "turmoil's links have no bandwidth";
const FLOWS: &str = "turmoil's links know hosts, not flows: one can't be forgotten on the way while others live";
const MESSAGES: &str = "only the simulated world looks at protocol messages";
const HANGUP: &str =
    "turmoil tells of a FIN only when all before it was read: client_connection_check_interval finds nothing";

fn lack(scenario: &Scenario, at: Duration, action: &FaultAction) -> Option<String> {
    let to_the_end = scenario.expect.until.saturating_sub(at);
    match action {
        FaultAction::NetBandwidth { .. } => Some(BANDWIDTH.to_owned()),
        FaultAction::NetMessage { .. } => Some(MESSAGES.to_owned()),
        FaultAction::NetForget { .. } | FaultAction::NetIdleFlowTimeout { .. } => Some(FLOWS.to_owned()),
        FaultAction::NetLatency { latency, .. } if *latency < TICK => {
            Some("turmoil moves messages once a tick of 1 ms: a shorter latency can't be had".to_owned())
        }
        FaultAction::ServerSet { setting, .. } if setting == "client_connection_check_interval" => {
            Some(HANGUP.to_owned())
        }
        FaultAction::NetPartition { direction: Direction::ToServer | Direction::ToApp, .. } => Some(
            "turmoil drops for good what it partitions one way, and its SYN-ACK is no message, which passes all the same"
                .to_owned(),
        ),
        FaultAction::NetPartition { app: Some(app), .. } if scenario.apps.keys().any(|other| other != app) => Some(
            "a stream of turmoil's is written and closed in its host's turn only, and a pool does so in the run's: all apps \
             are one host, and can't be partitioned one by one"
                .to_owned(),
        ),
        FaultAction::NetPartition { .. } if scenario.faults.iter().any(|fault| is_visit(&fault.action)) => Some(
            "all clients are one of turmoil's hosts: a partition of the apps would cut off the DBA and the others, too"
                .to_owned(),
        ),
        FaultAction::NetPartition { lasts, .. } => silence(scenario, lasts.unwrap_or(to_the_end)),
        FaultAction::ServerPowerLoss { down_for, .. } => silence(scenario, down_for.unwrap_or(to_the_end)),
        FaultAction::NetLoseConnects { lasts } => silent_connects(scenario, lasts.unwrap_or(to_the_end)),
        FaultAction::AppPowerLoss { .. } => silent_servers(scenario, to_the_end),
        _ => None,
    }
}

/// Sessions of others than the apps.
fn is_visit(action: &FaultAction) -> bool {
    matches!(action, FaultAction::ServerSql { .. } | FaultAction::ServerOccupy { .. })
}

/// Nothing gets through in either direction for so long.
fn silence(scenario: &Scenario, lasts: Duration) -> Option<String> {
    let client = &scenario.network.client;
    let keepalive = client.keepalive.as_ref().map(|keepalive| keepalive.idle + keepalive.interval * keepalive.count);
    let data = [keepalive, client.user_timeout].into_iter().flatten().fold(DATA_GIVES_UP, Duration::min);
    let gives_up = |after: Duration| (lasts >= after).then(|| for_ever("a client's stream", after));
    gives_up(data).or_else(|| silent_connects(scenario, lasts)).or_else(|| silent_servers(scenario, lasts))
}

/// Connects get no answer for so long.
fn silent_connects(scenario: &Scenario, lasts: Duration) -> Option<String> {
    let client = &scenario.network.client;
    let gives_up = client.user_timeout.map_or(SYN_GIVES_UP, |timeout| timeout.min(SYN_GIVES_UP));
    // The driver's own timer works everywhere.
    let given_up_before = client.connect_timeout.is_some_and(|timeout| timeout <= gives_up);
    (lasts >= gives_up && !given_up_before).then(|| for_ever("a connect", gives_up))
}

/// Servers hear nothing of their clients for so long.
fn silent_servers(scenario: &Scenario, lasts: Duration) -> Option<String> {
    if scenario.server.settings.keys().any(|name| name.starts_with("tcp_")) {
        return Some(
            "turmoil's streams have no keepalive and no TCP_USER_TIMEOUT: the server's settings do nothing".to_owned(),
        );
    }
    (lasts >= DATA_GIVES_UP).then(|| for_ever("a server's stream", DATA_GIVES_UP))
}

fn for_ever(what: &str, after: Duration) -> String {
    format!(
        "turmoil has no timer under its streams (retransmission, keepalive, TCP_USER_TIMEOUT): {what} would wait for ever \
         where the kernel gives up after {after:?}"
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn of(network: &str, faults: &str) -> Vec<String> {
        let text = format!(
            "title = \"A test\"\nstory = \"A test.\"\n{network}\n[app.web]\n[app.other]\n[workload.request]\napp = \"web\"\n\
             arrive = {{ every = \"1s\" }}\nsteps = [\"acquire\", \"sql SELECT 1\", \"release\"]\n{faults}\n\
             [expect]\nuntil = \"10m\"\n"
        );
        lacks(&crate::scenario::parse("a test", &text).unwrap())
    }

    fn fault(rest: &str) -> String {
        format!("[[fault]]\nat = \"5s\"\ndo = {rest}")
    }

    #[test]
    fn what_there_is_is_not_lacked() {
        for rest in [
            "\"server.restart\"\nmode = \"fast\"\ndown_for = \"3s\"",
            "\"server.power_loss\"\ndown_for = \"20s\"",
            "\"net.partition\"\nfor = \"20s\"",
            "\"net.reset\"",
            "\"net.refuse\"\nfor = \"2m\"",
            "\"net.lose_connects\"\nfor = \"2m\"",
            "\"app.power_loss\"\napp = \"web\"",
        ] {
            assert_eq!(of("", &fault(rest)), Vec::<String>::new(), "{rest}");
        }
    }

    #[test]
    fn each_lack_is_told_once_with_its_reason() {
        let [user_timeout, connect_timeout] =
            ["user_timeout = \"4s\"", "connect_timeout = \"2s\""].map(|line| format!("[network.client]\n{line}"));
        for (network, fault, told) in [
            ("[network]\nlatency = \"0s\"", String::new(), "tick of 1 ms"),
            ("[network]\nbandwidth = \"1MiB/s\"", fault("\"net.bandwidth\"\nbandwidth = \"1MiB/s\""), "no bandwidth"),
            ("", fault("\"net.forget\""), "not flows"),
            ("", fault("\"net.partition\"\ndirection = \"to-server\"\nfor = \"1s\""), "SYN-ACK"),
            ("", fault("\"net.partition\"\napp = \"web\"\nfor = \"1s\""), "all apps are one host"),
            ("", fault("\"net.partition\"\nfor = \"3m\""), "a connect would wait for ever"),
            ("", fault("\"net.lose_connects\"\nfor = \"3m\""), "a connect would wait for ever"),
            (
                &*user_timeout,
                fault("\"server.power_loss\"\ndown_for = \"20s\""),
                "a client's stream would wait for ever",
            ),
        ] {
            let lacks = of(network, &fault);
            assert!(lacks.len() == 1 && lacks[0].contains(told), "{fault}: {lacks:?}");
        }
        // The driver gives a connect up by itself.
        assert_eq!(of(&connect_timeout, &fault("\"net.lose_connects\"\nfor = \"3m\"")), Vec::<String>::new());
    }
}
