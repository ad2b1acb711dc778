//! Strategies over scenarios, for [proptest](https://docs.rs/proptest): pools' settings, workloads, faults, whole scenarios.
//!
//! What `poolproof search` draws, a test of your own can draw too. Here an application's settings meet any traffic and any
//! faults; what fails is kept as a file, which the suite of [`suite`](mod@crate::suite) runs from then on:
//!
//! ```
//! use poolproof::pool::{self, Adapter as _, PoolSettings};
//! use poolproof::run::{RunSpec, run};
//! use poolproof::verdict::Verdict;
//! use poolproof::{scenario, strategy};
//! use proptest::prelude::*;
//!
//! proptest! {
//!     #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
//!
//!     // #[test]
//!     fn my_settings_hold(drawn in strategy::scenario(pool::reference::Reference.capabilities())) {
//!         let mut scenario = drawn;
//!         scenario.apps["web"].pool = PoolSettings { max_size: 4, ..scenario.apps["web"].pool.clone() };
//!         let (adapter, seed) = (pool::by_name("reference").unwrap(), scenario.seeds[0]);
//!         let told = run(&RunSpec { scenario: scenario.clone().into(), adapter, seed }, None);
//!         if told.report.verdict != Verdict::Pass {
//!             // The last one that is written is the smallest.
//!             std::fs::write("scenarios/regression.toml", scenario::print(&scenario)).unwrap();
//!             return Err(TestCaseError::fail(told.story));
//!         }
//!     }
//! }
//! # my_settings_hold();
//! ```
//!
//! A failing scenario is shrunk by passes that know what a scenario is: fewer callers, faults and settings, rounder times.
//! They are the same that `poolproof search` uses. proptest's own seeds mean nothing any more once a strategy changes; a file
//! does.
//!
//! Every scenario drawn here is a valid file, and fair: what its callers do is not the pool's mistake. It asks only for what
//! the pool's [`Capabilities`] say it can do. With one seed of proptest's generator the scenario is always the same.

mod dice;
mod fair;
mod fault;
mod parts;
mod perturb;
mod pool;
mod scenario;
mod simpler;
mod stage;
mod swarm;
mod tree;
mod workload;

#[cfg(test)]
mod tests;

use indexmap::IndexMap;
use proptest::strategy::Strategy;

pub(crate) use dice::Dice;
pub(crate) use perturb::perturb as perturbed;
/// The release of proptest that these are strategies of.
pub use proptest;
pub(crate) use scenario::scenario as drawn;
pub(crate) use simpler::simpler;
pub use swarm::{Feature, Swarm};
pub use tree::{Drawn, Tree};

use crate::pool::Capabilities;
use crate::scenario::model::{App, Fault, PoolSettings, Processes, Scenario, Workload};
use stage::Stage;

/// Any scenario for a pool that can do this. Its features are drawn first: each scenario has a few of them.
pub fn scenario(capabilities: Capabilities) -> impl Strategy<Value = Scenario> {
    Drawn::new(
        move |dice| {
            let swarm = Swarm::draw(dice, &capabilities);
            scenario::scenario(dice, swarm, &capabilities)
        },
        move |scenario| simpler(scenario, &capabilities),
    )
}

/// Any scenario with these features.
pub fn scenario_with(capabilities: Capabilities, swarm: Swarm) -> impl Strategy<Value = Scenario> {
    Drawn::new(
        move |dice| scenario::scenario(dice, swarm.clone(), &capabilities),
        move |scenario| simpler(scenario, &capabilities),
    )
}

/// Scenarios that differ from this one in a few things: times, sizes, orders, callers, faults.
pub fn near(capabilities: Capabilities, scenario: Scenario) -> impl Strategy<Value = Scenario> {
    Drawn::new(
        move |dice| perturb::perturb(dice, &scenario, None, &capabilities),
        move |scenario| simpler(scenario, &capabilities),
    )
}

/// Features for a pool that can do this.
pub fn swarm(capabilities: Capabilities) -> impl Strategy<Value = Swarm> {
    let fewer = |swarm: &Swarm| {
        let there: Vec<Feature> = Feature::all().filter(|feature| swarm.has(*feature)).collect();
        there.into_iter().map(|feature| swarm.clone().with(feature, 0)).collect()
    };
    Drawn::new(move |dice| Swarm::draw(dice, &capabilities), fewer)
}

/// Settings that a pool of these capabilities can have, at their boundaries.
pub fn pool_settings(capabilities: Capabilities) -> impl Strategy<Value = PoolSettings> {
    let simpler = |settings: &PoolSettings| {
        let default = PoolSettings { max_size: 1, ..PoolSettings::default() };
        let cuts: [fn(&mut PoolSettings, PoolSettings); 7] = [
            |pool, default| pool.min_idle = default.min_idle,
            |pool, default| pool.max_idle = default.max_idle,
            |pool, default| pool.idle_timeout = default.idle_timeout,
            |pool, default| pool.max_lifetime = default.max_lifetime,
            |pool, default| pool.test_on_acquire = default.test_on_acquire,
            |pool, default| pool.reset_on_return = default.reset_on_return,
            |pool, default| pool.acquire_timeout = default.acquire_timeout,
        ];
        let cut = |cut: fn(&mut PoolSettings, PoolSettings)| {
            let mut simpler = settings.clone();
            cut(&mut simpler, default.clone());
            (simpler != *settings).then_some(simpler)
        };
        cuts.into_iter().filter_map(cut).collect()
    };
    let draw = move |dice: &mut Dice| {
        let stage = ground(dice, capabilities);
        pool::settings(dice, &stage)
    };
    Drawn::new(draw, simpler)
}

/// A workload of this app, with one pool of these settings.
pub fn workload(capabilities: Capabilities, app: &str, settings: &PoolSettings) -> impl Strategy<Value = Workload> {
    let (app, settings) = (app.to_owned(), settings.clone());
    let fewer = |workload: &Workload| {
        let without = |place| {
            let mut fewer = workload.clone();
            fewer.steps.remove(place);
            fewer
        };
        if workload.steps.len() < 2 { Vec::new() } else { (0..workload.steps.len()).map(without).collect() }
    };
    let draw = move |dice: &mut Dice| {
        let stage = ground(dice, capabilities).with_pools(std::iter::once(&settings));
        workload::workload(dice, &stage, &app, true)
    };
    Drawn::new(draw, fewer)
}

/// A fault of any kind in a world of these apps and workloads.
pub fn fault(
    capabilities: Capabilities,
    apps: &IndexMap<String, App>,
    workloads: &IndexMap<String, Workload>,
) -> impl Strategy<Value = Fault> {
    let there = |app: &App| app.processes != Processes::PerRequest;
    let apps: Vec<String> = apps.iter().filter(|(_, app)| there(app)).map(|(name, _)| name.clone()).collect();
    let workloads: Vec<String> = workloads.keys().cloned().collect();
    let draw = move |dice: &mut Dice| {
        let stage = ground(dice, capabilities);
        let needs = |feature: Feature| match feature {
            Feature::AppKill => !apps.is_empty(),
            Feature::ActorKill => !workloads.is_empty(),
            _ => true,
        };
        let kinds: Vec<Feature> = Feature::all()
            .filter(|feature| feature.is_fault() && feature.is_for(&capabilities) && needs(*feature))
            .collect();
        let kind = dice.one(&kinds);
        fault::fault(dice, &stage, kind, &apps, &workloads)
    };
    Drawn::new(draw, |_| Vec::new())
}

/// The common ground of a part that is drawn alone.
fn ground(dice: &mut Dice, capabilities: Capabilities) -> Stage {
    let swarm = Swarm::draw(dice, &capabilities).with(Feature::Long, 0);
    Stage::draw(dice, swarm.with(Feature::Write, 0).with(Feature::Dirty, 0), capabilities)
}
