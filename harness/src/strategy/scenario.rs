//! Whole scenarios: short, small, and fair to the pool.

use std::time::Duration;

use indexmap::IndexMap;

use super::dice::Dice;
use super::fair::mend;
use super::stage::Stage;
use super::swarm::{Feature, Swarm};
use super::{fault, pool, workload};
use crate::pool::Capabilities;
use crate::scenario::model::{App, Expect, Keepalive, Network, PoolSettings, Processes, Scenario, Server};

/// The names of workloads, in their order.
const WORKLOADS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// How long a scenario's callers and servers may take to heal.
pub(crate) const HEALING: Duration = Duration::from_secs(120);

/// One scenario with these features, for a pool that can do this.
pub(crate) fn scenario(dice: &mut Dice, swarm: Swarm, capabilities: &Capabilities) -> Scenario {
    let stage = Stage::draw(dice, swarm, *capabilities);
    let app = App {
        processes: Processes::Fixed(if stage.swarm.has(Feature::Processes) { 2 } else { 1 }),
        collector: None,
        cooperative: true,
        user: "app".to_owned(),
        pool: pool::settings(dice, &stage),
    };
    let apps = IndexMap::from([("web".to_owned(), app)]);
    let stage = stage.with_pools(apps.values().map(|app| &app.pool));
    let mut workloads = IndexMap::new();
    let others = [Feature::OwnPool, Feature::Resize, Feature::ClosePool];
    let more = u32::from(others.into_iter().any(|feature| stage.swarm.has(feature)));
    let count = dice.weighted(&[(25, 1), (40, 2), (35, 3)]) + more;
    for (place, name) in WORKLOADS.into_iter().take(count as usize).enumerate() {
        workloads.insert(name.to_owned(), workload::workload(dice, &stage, "web", place == 0));
    }
    let names: Vec<String> = workloads.keys().cloned().collect();
    let app_names: Vec<String> = apps.keys().cloned().collect();
    let mut faults = Vec::new();
    for feature in Feature::all().filter(|feature| feature.is_fault() && stage.swarm.has(*feature)) {
        for _ in 0..dice.number(1, stage.strength(feature)) {
            faults.push(fault::fault(dice, &stage, feature, &app_names, &names));
        }
    }
    faults.sort_by_key(|fault| fault.at);
    let (server, network) = (server(dice, &stage, &apps), network(dice, &stage));
    let mut scenario = Scenario {
        title: "Found by search".to_owned(),
        story: format!("Drawn at random: {}.", stage.swarm),
        seeds: vec![u64::from(dice.number(1, 1_000))],
        interleave: None,
        server,
        standby: None,
        network,
        pools: Vec::new(),
        queues: IndexMap::new(),
        apps,
        workloads,
        faults,
        expect: Expect::ending(stage.until, HEALING),
    };
    mend(&mut scenario, capabilities);
    if stage.swarm.has(Feature::Interleave) {
        scenario.interleave = Some(dice.number(1, 1_000).into());
    }
    scenario
}

fn server(dice: &mut Dice, stage: &Stage, apps: &IndexMap<String, App>) -> Server {
    let mut server = Server::default();
    if stage.swarm.has(Feature::SlowFork) {
        server.fork_time = dice.millis(&[20, 50, 200, 500]);
    }
    if stage.swarm.has(Feature::Slots) {
        let size = |app: &App| match app.pool.max_size {
            PoolSettings::UNLIMITED => 10,
            size => size * app.processes.fixed(),
        };
        let wanted: u32 = apps.values().map(size).sum();
        server.max_connections = server.superuser_reserved_connections + dice.number(1, wanted + 1);
    }
    if stage.table {
        server.sql = workload::TABLE.to_owned();
    }
    server
}

fn network(dice: &mut Dice, stage: &Stage) -> Network {
    let mut network = Network::default();
    if stage.swarm.has(Feature::Latency) {
        network.latency = dice.millis(&[5, 20, 50]);
        network.jitter = dice.millis(&[0, 1, 10]);
    }
    if stage.swarm.has(Feature::ClientOptions) {
        if dice.chance(50) {
            let (idle, interval) = (dice.millis(&[1_000, 5_000]), dice.millis(&[500, 1_000]));
            network.client.keepalive = Some(Keepalive { idle, interval, count: dice.number(1, 3) });
        }
        network.client.user_timeout = dice.chance(50).then(|| dice.millis(&[500, 2_000, 10_000]));
        network.client.connect_timeout = dice.chance(50).then(|| dice.millis(&[200, 1_000, 3_000]));
    }
    network
}
