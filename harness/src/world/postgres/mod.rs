//! The world `postgres`: real time, a real server, real sockets, and between them a proxy that applies the network's faults and
//! sees what is said.
//!
//! What the simulated world has and this one has not is told before a run, by [`lacks`] and by the server that is found: such a
//! run is `unsupported`, with the reason.

pub mod proxy;
mod run;
pub mod server;
mod servers;
mod world;

pub use run::{run, run_on};
pub use servers::Servers;
pub use world::PostgresWorld;

use std::time::Duration;

use crate::scenario::fault_name;
use crate::scenario::model::{FaultAction, Scenario};

/// How long a run's traffic may last: nobody waits for hours of idleness.
pub const LONGEST: Duration = Duration::from_mins(5);

/// What of a scenario no real server and no proxy can do, a reason each; the scenario's times are real ones.
#[must_use]
pub fn lacks(scenario: &Scenario) -> Vec<String> {
    let mut reasons = Vec::new();
    if scenario.expect.until > LONGEST {
        let (takes, longest) = (scenario.expect.until.as_secs().div_ceil(60), LONGEST.as_secs() / 60);
        reasons.push(format!("{takes} minutes of real time, where {longest} are the most (a smaller --time-scale)"));
    }
    let mut lacks = |reason: &str| {
        if !reasons.iter().any(|known| known == reason) {
            reasons.push(reason.to_owned());
        }
    };
    for fault in &scenario.faults {
        match &fault.action {
            FaultAction::ServerSlow { .. } => lacks("a real server that is slower for a while (server.slow)"),
            FaultAction::NetMessage { .. } => {
                lacks("a look at protocol messages, as the simulated world has (net.message)")
            }
            FaultAction::ServerStop { .. }
            | FaultAction::ServerStart { .. }
            | FaultAction::ServerRestart { .. }
            | FaultAction::ServerCrashBackend { .. }
            | FaultAction::ServerKill { .. }
            | FaultAction::ServerPowerLoss { .. }
            | FaultAction::ServerTerminate { .. }
            | FaultAction::ServerCancel { .. }
            | FaultAction::ServerPromote
            | FaultAction::ServerSet { .. }
            | FaultAction::ServerSql { .. }
            | FaultAction::ServerOccupy { .. }
            | FaultAction::NetLatency { .. }
            | FaultAction::NetBandwidth { .. }
            | FaultAction::NetPartition { .. }
            | FaultAction::NetForget { .. }
            | FaultAction::NetReset { .. }
            | FaultAction::NetRefuse { .. }
            | FaultAction::NetLoseConnects { .. }
            | FaultAction::NetAcceptSilence { .. }
            | FaultAction::NetIdleFlowTimeout { .. }
            | FaultAction::DnsRepoint { .. }
            | FaultAction::AppKill { .. }
            | FaultAction::ActorKill { .. }
            | FaultAction::Manager { .. }
            | FaultAction::AppPowerLoss { .. } => {}
        }
    }
    reasons
}

/// What needs control of a server that is known by its URL only.
#[must_use]
pub(crate) fn lacks_control(scenario: &Scenario) -> Vec<String> {
    let needs = |action: &FaultAction| action.is_of_a_servers_life() || matches!(action, FaultAction::ServerSet { .. });
    let faults = scenario.faults.iter().filter(|fault| needs(&fault.action));
    let mut reasons: Vec<String> =
        faults.map(|fault| format!("control of the server ({})", fault_name(&fault.action))).collect();
    reasons.dedup();
    reasons
}
