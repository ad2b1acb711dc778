//! Every scenario that is drawn, changed or simplified is a file.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::{Dice, Feature, Swarm, drawn, perturbed, simpler};
use crate::pool::{Adapter, Capabilities, reference::Reference};
use crate::scenario::model::Scenario;
use crate::scenario::{Names, check, print};

fn able() -> Capabilities {
    Reference.capabilities()
}

fn draw(seed: u64) -> Scenario {
    let mut dice = Dice::new(seed, "test");
    let swarm = Swarm::draw(&mut dice, &able());
    drawn(&mut dice, swarm, &able())
}

/// The mistakes of the file that is printed; `None` when it reads as the same scenario.
fn mistake(scenario: &Scenario) -> Option<String> {
    let text = print(scenario);
    let checked = check("drawn.toml", &text, &Names::default());
    match checked.scenario {
        Some(read) if read == *scenario => None,
        Some(read) => Some(format!("it reads as something else:\n{text}\n{}", print(&read))),
        None => Some(format!("{:?}\n{text}", miette::Report::new(checked.report))),
    }
}

#[test]
fn what_is_drawn_is_a_file() {
    for seed in 0..400 {
        let scenario = draw(seed);
        assert_eq!(mistake(&scenario), None, "seed {seed}");
    }
    let mut dice = Dice::new(1, "everything");
    for _ in 0..50 {
        let scenario = drawn(&mut dice, Swarm::everything(&able()), &able());
        assert_eq!(mistake(&scenario), None);
    }
}

#[test]
fn a_seed_draws_the_same_again() {
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
}

#[test]
fn what_is_changed_is_a_file_most_often() {
    let mut wrong = 0;
    for seed in 0..200 {
        let mut dice = Dice::new(seed, "change");
        let changed = perturbed(&mut dice, &draw(seed), Some(&draw(seed + 1)), &able());
        wrong += u32::from(mistake(&changed).is_some());
    }
    // Steps may come to stand where they can't: such a change is thrown away.
    assert!(wrong < 20, "{wrong} of 200");
}

#[test]
fn simplifying_comes_to_an_end() {
    let mut scenario = draw(3);
    let mut rounds = 0;
    while let Some(simple) = simpler(&scenario, &able()).into_iter().find(|simple| mistake(simple).is_none()) {
        scenario = simple;
        rounds += 1;
        assert!(rounds < 500, "{}", print(&scenario));
    }
    assert_eq!((scenario.workloads.len(), scenario.faults.len()), (1, 0));
}

#[test]
fn the_first_that_is_simpler_has_one_workload_and_nothing_unusual() {
    let mut dice = Dice::new(1, "everything");
    let scenario = drawn(&mut dice, Swarm::everything(&able()), &able());
    assert!(scenario.workloads.len() > 1 && !scenario.faults.is_empty(), "{}", print(&scenario));
    let first = simpler(&scenario, &able()).swap_remove(0);
    assert_eq!((first.workloads.len(), first.faults.len()), (1, 0));
    assert!(first.workloads.keys().eq(scenario.workloads.keys().take(1)));
    assert_eq!((first.server, first.standby), Default::default());
}

#[test]
fn features_are_told_by_their_names() {
    let swarm = Swarm::none().with(Feature::Cancel, 2).with(Feature::Refuse, 1);
    assert_eq!(swarm.to_string(), "cancel*2 refuse");
    assert_eq!(Swarm::none().to_string(), "plain");
    assert!(Feature::all().enumerate().all(|(place, feature)| feature as usize == place));
    assert!(Swarm::everything(&able()).has(Feature::Check) && !Swarm::everything(&able()).has(Feature::Manager));
}

#[test]
fn a_failing_scenario_shrinks_in_proptests_hands() {
    use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
    let config = Config { failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let strategy = super::scenario_with(able(), Swarm::none().with(Feature::Crowd, 2).with(Feature::Terminate, 2));
    let failed = runner.run(&strategy, |scenario| {
        let is_calm = scenario.faults.is_empty() || scenario.apps["web"].pool.max_size == 1;
        if is_calm { Ok(()) } else { Err(TestCaseError::fail("a fault, and more than one connection")) }
    });
    let TestError::Fail(_, least) = failed.unwrap_err() else { panic!("it is found, and shrinks") };
    assert_eq!((least.workloads.len(), least.faults.len(), least.apps["web"].pool.max_size), (1, 1, 2));
}
