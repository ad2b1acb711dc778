//! Faults of every kind, at every phase.

use std::time::Duration;

use super::dice::Dice;
use super::stage::Stage;
use super::swarm::Feature;
use crate::scenario::model::{
    BackendFilter, Direction, Fault, FaultAction, ManagerCall, Misbehaviour, ServerName, StopMode,
};

const PRIMARY: ServerName = ServerName::Primary;

/// A fault of this feature. `apps` and `workloads` are the names in the scenario.
pub(super) fn fault(dice: &mut Dice, stage: &Stage, feature: Feature, apps: &[String], workloads: &[String]) -> Fault {
    let at = stage.moment(dice);
    let every = dice.chance(10).then(|| stage.until / dice.number(3, 6));
    // It ends before the traffic does, most often.
    let lasts = |dice: &mut Dice| if dice.chance(90) { Some(lasting(dice, stage)) } else { None };
    let action = match feature {
        Feature::Stop => FaultAction::ServerStop { server: PRIMARY, mode: mode(dice) },
        Feature::Restart => {
            FaultAction::ServerRestart { server: PRIMARY, mode: mode(dice), down_for: lasting(dice, stage) }
        }
        Feature::Crash if dice.chance(60) => FaultAction::ServerCrashBackend {
            server: PRIMARY,
            filter: BackendFilter { count: Some(1), ..filter(dice) },
        },
        Feature::Crash => FaultAction::ServerKill { server: PRIMARY, down_for: Some(lasting(dice, stage)) },
        Feature::PowerLoss => FaultAction::ServerPowerLoss { server: PRIMARY, down_for: Some(lasting(dice, stage)) },
        Feature::Slow => {
            FaultAction::ServerSlow { server: PRIMARY, by: dice.millis(&[10, 100, 1_000, 5_000]), lasts: lasts(dice) }
        }
        Feature::Terminate => FaultAction::ServerTerminate { server: PRIMARY, filter: filter(dice) },
        Feature::CancelBackend => FaultAction::ServerCancel { server: PRIMARY, filter: filter(dice) },
        Feature::Occupy => {
            let (sessions, lasts) = (dice.number(90, 97), lasts(dice));
            FaultAction::ServerOccupy { server: PRIMARY, sessions, user: "app".to_owned(), lasts }
        }
        Feature::NetSlow if dice.chance(70) => FaultAction::NetLatency {
            latency: dice.millis(&[5, 20, 100, 1_000]),
            jitter: dice.millis(&[0, 0, 5, 50]),
            lasts: lasts(dice),
        },
        Feature::NetSlow => {
            FaultAction::NetBandwidth { bytes_per_second: u64::from(dice.number(1, 20)) * 1_000, lasts: lasts(dice) }
        }
        Feature::Partition => FaultAction::NetPartition {
            app: None,
            direction: dice.one(&[Direction::Both, Direction::ToServer, Direction::ToApp]),
            lasts: lasts(dice),
        },
        Feature::Forget => FaultAction::NetForget { older_than: None, app: None },
        Feature::NetReset => FaultAction::NetReset { older_than: None, app: None },
        Feature::Refuse => FaultAction::NetRefuse { lasts: lasts(dice) },
        Feature::LoseConnects => FaultAction::NetLoseConnects { lasts: lasts(dice) },
        Feature::AcceptSilence => FaultAction::NetAcceptSilence { lasts: lasts(dice) },
        Feature::AppKill => {
            let (app, restart_after) = (dice.one(apps), Some(lasting(dice, stage)));
            if dice.chance(70) {
                FaultAction::AppKill { app, process: None, older_than: None, restart_after }
            } else {
                FaultAction::AppPowerLoss { app, process: None, restart_after }
            }
        }
        Feature::ActorKill => {
            let (workload, count) = (dice.one(workloads), dice.chance(60).then(|| dice.number(1, 2)));
            FaultAction::ActorKill { workload, older_than: None, count }
        }
        Feature::Manager => FaultAction::Manager {
            call: dice.one(&[ManagerCall::Connect, ManagerCall::Check, ManagerCall::Reset]),
            how: manager(dice, stage),
            lasts: lasts(dice),
        },
        // The features that are no faults.
        _ => FaultAction::NetReset { older_than: None, app: None },
    };
    Fault { at, every, action }
}

fn mode(dice: &mut Dice) -> StopMode {
    dice.one(&[StopMode::Smart, StopMode::Fast, StopMode::Immediate])
}

fn manager(dice: &mut Dice, stage: &Stage) -> Misbehaviour {
    let slow = Misbehaviour::Slow(stage.stretch(dice).max(Duration::from_millis(1)));
    dice.one(&[Misbehaviour::Fail, Misbehaviour::Hang, slow])
}

/// How long a fault lasts.
fn lasting(dice: &mut Dice, stage: &Stage) -> Duration {
    if stage.is_long() {
        dice.millis(&[500, 2_000, 5_000, 10_000, 20_000, 30_000])
    } else {
        dice.millis(&[10, 50, 100, 300, 500, 1_000, 2_000])
    }
}

fn filter(dice: &mut Dice) -> BackendFilter {
    let state =
        dice.weighted(&[(50, None), (25, Some("idle")), (15, Some("active")), (10, Some("idle in transaction"))]);
    let count = dice.chance(50).then(|| dice.number(1, 2));
    BackendFilter { app: None, state: state.map(str::to_owned), older_than: None, count }
}
