//! Settings back at their defaults: of the server, the network, pools and faults.

use super::Cuts;
use crate::scenario::model::{Direction, FaultAction, PoolSettings, Reset, StopMode};
use crate::scenario::model::{Network, Scenario, Server};
use crate::strategy::parts::lasts;

/// Server and network as they are where nothing is said of them.
pub(super) fn usual_environment(scenario: &mut Scenario) {
    scenario.interleave = None;
    scenario.network = Network::default();
    scenario.server = Server::default();
    scenario.standby = None;
    scenario.queues.clear();
}

/// Pools that say nothing but their size.
pub(super) fn usual_pools(scenario: &mut Scenario) {
    for app in scenario.apps.values_mut() {
        app.pool = PoolSettings { max_size: app.pool.max_size, ..PoolSettings::default() };
    }
}

pub(super) fn environment(cuts: &mut Cuts<'_>) {
    cuts.add(|s| s.interleave = None);
    cuts.add(|s| s.network = Network::default());
    cuts.add(|s| s.network.client = Network::default().client);
    cuts.add(|s| s.network.jitter = Network::default().jitter);
    cuts.add(|s| s.network.latency = Network::default().latency);
    cuts.add(|s| s.network.client.keepalive = Network::default().client.keepalive);
    cuts.add(|s| s.network.client.user_timeout = None);
    cuts.add(|s| s.network.client.connect_timeout = None);
    cuts.add(|s| s.network.idle_flow_timeout = None);
    cuts.add(|s| s.server = Server::default());
    cuts.add(|s| s.server.sql.clear());
    cuts.add(|s| s.server.max_connections = Server::default().max_connections);
    cuts.add(|s| s.server.fork_time = Server::default().fork_time);
    cuts.add(|s| s.server.settings.clear());
    cuts.add(|s| s.server.costs.clear());
    cuts.add(|s| s.standby = None);
    cuts.add(|s| s.queues.clear());
}

pub(super) fn pools(cuts: &mut Cuts<'_>) {
    let default = PoolSettings::default();
    for name in cuts.of.apps.keys() {
        let mut cut = |change: fn(&mut PoolSettings, &PoolSettings)| {
            cuts.add(|s| change(&mut s.apps[name].pool, &default));
        };
        cut(|pool, default| pool.min_idle = default.min_idle);
        cut(|pool, default| pool.max_idle = default.max_idle);
        cut(|pool, default| pool.idle_timeout = default.idle_timeout);
        cut(|pool, default| pool.max_lifetime = default.max_lifetime);
        cut(|pool, default| pool.test_on_acquire = default.test_on_acquire);
        cut(|pool, default| pool.reset_on_return = default.reset_on_return);
        cut(|pool, default| pool.order = default.order);
        cut(|pool, default| pool.acquire_timeout = default.acquire_timeout);
        cut(|pool, _| pool.max_size = 1);
        cut(|pool, _| pool.max_size = pool.max_size.min(2));
        cut(|pool, _| {
            if pool.reset_on_return == Reset::Discard {
                pool.reset_on_return = Reset::Rollback;
            }
        });
    }
}

pub(super) fn faults(cuts: &mut Cuts<'_>) {
    for (place, fault) in cuts.of.faults.iter().enumerate() {
        cuts.add(|s| s.faults[place].every = None);
        match &fault.action {
            FaultAction::ServerStop { .. } | FaultAction::ServerRestart { .. } => cuts.add(|s| {
                if let FaultAction::ServerStop { mode, .. } | FaultAction::ServerRestart { mode, .. } =
                    &mut s.faults[place].action
                {
                    *mode = StopMode::Fast;
                }
            }),
            FaultAction::NetPartition { .. } => cuts.add(|s| {
                if let FaultAction::NetPartition { direction, .. } = &mut s.faults[place].action {
                    *direction = Direction::Both;
                }
            }),
            FaultAction::ServerTerminate { .. }
            | FaultAction::ServerCancel { .. }
            | FaultAction::ServerCrashBackend { .. } => cuts.add(|s| {
                if let FaultAction::ServerTerminate { filter, .. }
                | FaultAction::ServerCancel { filter, .. }
                | FaultAction::ServerCrashBackend { filter, .. } = &mut s.faults[place].action
                {
                    *filter = Default::default();
                }
            }),
            _ => {}
        }
        cuts.add(|s| {
            if let Some(lasts) = lasts(&mut s.faults[place].action) {
                *lasts /= 2;
            }
        });
    }
}
