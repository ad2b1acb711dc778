//! Changes to a scenario that is there: its times, sizes and orders, faults and callers more or fewer.

use std::time::Duration;

use super::dice::Dice;
use super::fair::mend;
use super::parts::{Time, each_number, each_time};
use super::stage::Stage;
use super::swarm::{Feature, Swarm};
use super::{fault, pool, workload};
use crate::pool::Capabilities;
use crate::scenario::can_wait;
use crate::scenario::model::{Action, Cancel, Reset, Scenario};

/// The most workloads and faults that a changed scenario has.
const MOST: usize = 6;

/// A scenario with a few changes. `other` is one that workloads and faults may be taken from.
pub(crate) fn perturb(
    dice: &mut Dice,
    scenario: &Scenario,
    other: Option<&Scenario>,
    capabilities: &Capabilities,
) -> Scenario {
    let mut changed = scenario.clone();
    let swarm = Swarm::everything(capabilities).with(Feature::Long, u8::from(is_long(scenario)));
    for _ in 0..dice.weighted(&[(40, 1), (30, 2), (20, 3), (10, 6)]) {
        let stage = stage(&changed, &swarm, capabilities, dice);
        match dice.weighted(&[(35, 0), (15, 1), (10, 2), (15, 3), (10, 4), (10, 5), (5, 6), (10, 7)]) {
            0 => time(dice, &mut changed, &stage),
            1 => number(dice, &mut changed),
            2 => setting(dice, &mut changed, &stage),
            3 => faults(dice, &mut changed, &stage),
            4 => callers(dice, &mut changed, &stage),
            5 => steps(dice, &mut changed, &stage),
            6 => changed.seeds = vec![u64::from(dice.number(1, 1_000))],
            _ => from_another(dice, &mut changed, other),
        }
        mend(&mut changed, capabilities);
    }
    changed
}

fn is_long(scenario: &Scenario) -> bool {
    scenario.expect.until > Duration::from_secs(30)
}

/// The common ground of a scenario that is there.
fn stage(scenario: &Scenario, swarm: &Swarm, capabilities: &Capabilities, dice: &mut Dice) -> Stage {
    let unit = if is_long(scenario) { dice.millis(&[1_000, 5_000]) } else { dice.millis(&[50, 100, 500]) };
    let stage = Stage {
        swarm: swarm.clone(),
        capabilities: *capabilities,
        until: scenario.expect.until,
        unit: unit.min(scenario.expect.until),
        reset: Reset::None,
        max_size: 1,
        table: scenario.server.sql.contains("TABLE note"),
    };
    let mut stage = stage.with_pools(scenario.apps.values().map(|app| &app.pool));
    stage.max_size = stage.max_size.min(10);
    if !stage.table {
        stage.swarm = stage.swarm.with(Feature::Write, 0).with(Feature::Dirty, 0);
    }
    stage
}

/// One time changes: often to another one's, so that two things meet.
fn time(dice: &mut Dice, scenario: &mut Scenario, stage: &Stage) {
    let mut all = Vec::new();
    each_time(scenario, &mut |time, value| all.push((time, *value)));
    let (chosen, other) = (dice.place(all.len()), dice.place(all.len()));
    let Some(&(kind, value)) = all.get(chosen) else { return };
    let near = Duration::from_millis(dice.number(1, 6).into());
    let new = match dice.number(0, 6) {
        0 | 1 => all[other].1,
        2 => value + near,
        3 => value.saturating_sub(near),
        4 => value / 2,
        5 => value * 2,
        _ if kind == Time::Moment => stage.moment(dice),
        _ => stage.stretch(dice),
    };
    let new = if kind == Time::Length { new.max(Duration::from_millis(1)) } else { new };
    let mut place = 0;
    each_time(scenario, &mut |_, value| {
        if place == chosen {
            *value = new;
        }
        place += 1;
    });
}

fn number(dice: &mut Dice, scenario: &mut Scenario) {
    let mut count = 0;
    each_number(scenario, &mut |_, _| count += 1);
    let (chosen, up) = (dice.place(count), dice.chance(50));
    let mut place = 0;
    each_number(scenario, &mut |least, number| {
        if place == chosen {
            *number = if up { number.saturating_add(1).min(1_000) } else { number.saturating_sub(1).max(least) };
        }
        place += 1;
    });
}

/// One setting of a pool becomes what another pool might have.
fn setting(dice: &mut Dice, scenario: &mut Scenario, stage: &Stage) {
    let app = dice.place(scenario.apps.len());
    let drawn = pool::settings(dice, stage);
    let Some((_, app)) = scenario.apps.get_index_mut(app) else { return };
    let pool = &mut app.pool;
    match dice.number(0, 6) {
        0 => pool.acquire_timeout = drawn.acquire_timeout,
        1 => pool.idle_timeout = if pool.idle_timeout.is_some() { None } else { drawn.idle_timeout },
        2 => pool.max_lifetime = if pool.max_lifetime.is_some() { None } else { drawn.max_lifetime },
        3 => pool.test_on_acquire ^= drawn.test_on_acquire,
        4 => pool.reset_on_return = drawn.reset_on_return,
        5 => pool.min_idle = drawn.min_idle,
        _ => pool.max_size = drawn.max_size,
    }
}

fn faults(dice: &mut Dice, scenario: &mut Scenario, stage: &Stage) {
    let len = scenario.faults.len();
    match dice.number(0, 3) {
        0 if len > 0 => drop(scenario.faults.remove(dice.place(len))),
        1 if len > 0 && len < MOST => {
            let mut again = scenario.faults[dice.place(len)].clone();
            again.at = stage.moment(dice);
            scenario.faults.push(again);
        }
        _ if len < MOST => {
            let kinds: Vec<Feature> =
                Feature::all().filter(|feature| feature.is_fault() && stage.swarm.has(*feature)).collect();
            let apps: Vec<String> = scenario.apps.keys().cloned().collect();
            let workloads: Vec<String> = scenario.workloads.keys().cloned().collect();
            let feature = dice.one(&kinds);
            scenario.faults.push(fault::fault(dice, stage, feature, &apps, &workloads));
        }
        _ => {}
    }
}

/// A name that no workload has.
fn free_name(scenario: &Scenario) -> String {
    (1..).map(|number| format!("more{number}")).find(|name| !scenario.workloads.contains_key(name)).unwrap_or_default()
}

fn callers(dice: &mut Dice, scenario: &mut Scenario, stage: &Stage) {
    let len = scenario.workloads.len();
    let chosen = dice.place(len);
    match dice.number(0, 3) {
        0 if len > 1 => drop(scenario.workloads.shift_remove_index(chosen)),
        1 if len < MOST => {
            let mut again = scenario.workloads[chosen].clone();
            again.from += Duration::from_millis(dice.number(0, 5).into());
            let name = free_name(scenario);
            scenario.workloads.insert(name, again);
        }
        2 => {
            let drawn = workload::workload(dice, stage, "", true);
            let workload = &mut scenario.workloads[chosen];
            (workload.arrive, workload.from, workload.until) = (drawn.arrive, drawn.from, drawn.until);
        }
        _ if len < MOST => {
            let apps: Vec<String> = scenario.apps.keys().cloned().collect();
            let drawn = {
                let app = dice.one(&apps);
                workload::workload(dice, stage, &app, false)
            };
            let name = free_name(scenario);
            scenario.workloads.insert(name, drawn);
        }
        _ => {}
    }
}

/// One step of one workload: cancelled or not, gone, or another's.
fn steps(dice: &mut Dice, scenario: &mut Scenario, stage: &Stage) {
    let chosen = dice.place(scenario.workloads.len());
    let workload = &mut scenario.workloads[chosen];
    let place = dice.place(workload.steps.len());
    match dice.number(0, 4) {
        0 if workload.steps.len() > 1 => drop(workload.steps.remove(place)),
        1 => {
            // What stands before an acquire, or after the lease's end, is no valid file, and is not run.
            let drawn = workload::workload(dice, stage, "", true);
            let step = dice.one(&drawn.steps);
            if !matches!(step.action, Action::Acquire { .. } | Action::Repeat { .. }) {
                workload.steps.insert((place + 1).min(workload.steps.len()), step);
            }
        }
        _ => {
            let step = &mut workload.steps[place];
            step.cancel = match step.cancel {
                Some(Cancel::AtWake(wake)) if dice.chance(30) => Some(Cancel::AtPoll(wake + 1)),
                Some(_) if dice.chance(50) => None,
                _ if can_wait(&step.action) => Some(workload::cancel(dice, stage)),
                _ => None,
            };
        }
    }
}

/// A workload or a fault of another scenario comes over.
fn from_another(dice: &mut Dice, scenario: &mut Scenario, other: Option<&Scenario>) {
    let Some(other) = other else { return };
    if dice.chance(50) && !other.faults.is_empty() && scenario.faults.len() < MOST {
        scenario.faults.push(dice.one(&other.faults));
    } else if !other.workloads.is_empty() && scenario.workloads.len() < MOST {
        let mut guest = other.workloads[dice.place(other.workloads.len())].clone();
        let Some(app) = scenario.apps.keys().next() else { return };
        guest.app.clone_from(app);
        if scenario.server.sql.is_empty() {
            scenario.server.sql.clone_from(&other.server.sql);
        }
        let name = free_name(scenario);
        scenario.workloads.insert(name, guest);
    }
}
