//! What every scenario of this module keeps to, however it came about: that it is a valid file, and fair to the pool.

use std::time::Duration;

use super::parts::{any_step, each_time, lasts};
use crate::pool::Capabilities;
use crate::scenario::model::{Action, Arrive, FaultAction, PoolSettings, Reset, Scenario, Step};

const MS: Duration = Duration::from_millis(1);

/// Mends what a change may have broken: names that lead nowhere, bounds that are the wrong way round, a transaction that
/// nobody cleans up.
pub(super) fn mend(scenario: &mut Scenario, capabilities: &Capabilities) {
    drop_what_leads_nowhere(scenario);
    let until = whole(scenario.expect.until).max(MS);
    scenario.expect.until = until;
    // A file's times are whole milliseconds.
    each_time(scenario, &mut |_, time| *time = whole(*time));
    let before_end = |time: &mut Duration| *time = (*time).min(until - MS);
    for workload in scenario.workloads.values_mut() {
        before_end(&mut workload.from);
        workload.until = workload.until.filter(|until| *until > workload.from);
        match &mut workload.arrive {
            Arrive::At(times) => {
                times.iter_mut().for_each(before_end);
                times.sort_unstable();
                (workload.from, workload.until) = (Duration::ZERO, None);
            }
            Arrive::Every(every) | Arrive::Burst { every: Some(every), .. } => *every = (*every).max(MS),
            _ => {}
        }
    }
    let most_often = whole(until / REPEATS).max(MS);
    for fault in &mut scenario.faults {
        before_end(&mut fault.at);
        fault.every = fault.every.filter(|every| !every.is_zero()).map(|every| every.max(most_often));
        if let Some(lasts) = lasts(&mut fault.action) {
            *lasts = (*lasts).max(MS);
        }
    }
    few_enough(scenario);
    one_at_a_time(scenario);
    time_for_a_dial(scenario);
    for app in scenario.apps.values_mut() {
        let pool = &mut app.pool;
        pool.max_size = pool.max_size.max(1);
        // A connection that is too old as soon as it is there is dialled again and again, by any pool.
        pool.idle_timeout = pool.idle_timeout.map(|time| time.max(LEAST_AGE));
        pool.max_lifetime = pool.max_lifetime.map(|time| time.max(LEAST_AGE));
        pool.max_idle = pool.max_idle.filter(|most| *most <= pool.max_size);
        pool.min_idle = pool.min_idle.min(pool.max_size).min(pool.max_idle.unwrap_or(PoolSettings::UNLIMITED));
    }
    clean_up(scenario, capabilities);
    let server = &mut scenario.server;
    server.max_connections = server.max_connections.max(server.superuser_reserved_connections + 1);
}

/// The shortest life of a connection.
const LEAST_AGE: Duration = Duration::from_millis(200);

/// Faults that make no sense at the same time: a server that is down or starting is not stopped, killed or cut off once
/// more. And who takes connections out of the pool for good takes the server's slots: where these are few, any pool dials in
/// vain.
fn one_at_a_time(scenario: &mut Scenario) {
    let again = scenario.server.startup_time + scenario.server.recovery_time + Duration::from_secs(2);
    scenario.faults.sort_by_key(|fault| fault.at);
    let mut up_at = Duration::ZERO;
    scenario.faults.retain_mut(|fault| {
        let down_for = match &fault.action {
            FaultAction::ServerRestart { down_for, .. } => *down_for,
            FaultAction::ServerKill { down_for, .. } | FaultAction::ServerPowerLoss { down_for, .. } => {
                down_for.unwrap_or(Duration::MAX)
            }
            FaultAction::ServerStop { .. } => Duration::MAX,
            FaultAction::ServerCrashBackend { .. } => Duration::ZERO,
            FaultAction::AppPowerLoss { .. } => {
                fault.every = None;
                return true;
            }
            _ => return true,
        };
        fault.every = None;
        let is_up = fault.at >= up_at;
        if is_up {
            up_at = fault.at.saturating_add(down_for).saturating_add(again);
        }
        is_up
    });
    let detaches = |step: &Step| step.action == Action::Detach;
    if scenario.workloads.values().any(|workload| any_step(&workload.steps, &detaches)) {
        scenario.server.max_connections = scenario.server.max_connections.max(100);
        scenario.faults.retain(|fault| !matches!(fault.action, FaultAction::ServerOccupy { .. }));
    }
}

/// The most actors that a workload may start, and the most times that a fault comes again, about: a run is to be short.
const REPEATS: u32 = 250;

/// Arrivals that are no more than [`REPEATS`].
fn few_enough(scenario: &mut Scenario) {
    let end = scenario.expect.until;
    for workload in scenario.workloads.values_mut() {
        let span = workload.until.unwrap_or(end).min(end).saturating_sub(workload.from);
        match &mut workload.arrive {
            Arrive::Every(every) => *every = whole(*every).max(whole(span / REPEATS)).max(MS),
            Arrive::Burst { count, every } => {
                *count = (*count).min(REPEATS);
                *every = every.map(|every| every.max(whole(span * *count / REPEATS)).max(MS));
            }
            Arrive::Workers { count, pause } => {
                *count = (*count).min(REPEATS);
                *pause = (*pause).max(whole(span * *count / REPEATS));
            }
            Arrive::Poisson { per_second } => {
                *per_second = per_second.min(f64::from(REPEATS) / span.as_secs_f64().max(0.001));
            }
            Arrive::At(_) | Arrive::Never | Arrive::Jobs { .. } => {}
        }
    }
}

/// Who waits for less than a dial takes can't be served by any pool: a dial is some round trips and the server's own time.
fn time_for_a_dial(scenario: &mut Scenario) {
    let Scenario { network, server, apps, .. } = scenario;
    network.latency = network.latency.min(Duration::from_millis(100));
    network.jitter = network.jitter.min(Duration::from_millis(100));
    server.fork_time = server.fork_time.min(Duration::from_secs(1));
    let dial = (network.latency + network.jitter) * 12 + server.fork_time + Duration::from_millis(50);
    for app in apps.values_mut() {
        let pool = &mut app.pool;
        // After a failed dial a pool may dial one after another.
        let all = dial * (pool.max_size.min(100) + 1);
        pool.acquire_timeout = pool.acquire_timeout.map(|timeout| timeout.max(all));
    }
    let client = &mut network.client;
    client.connect_timeout = client.connect_timeout.map(|timeout| timeout.max(dial));
}

fn whole(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Faults of what is not there, and apps without a workload.
fn drop_what_leads_nowhere(scenario: &mut Scenario) {
    let Scenario { apps, workloads, faults, .. } = scenario;
    workloads.retain(|_, workload| apps.contains_key(&workload.app) && !workload.steps.is_empty());
    if apps.len() > 1 {
        apps.retain(|name, _| workloads.values().any(|workload| workload.app == *name));
    }
    faults.retain(|fault| match &fault.action {
        FaultAction::ActorKill { workload, .. } => workloads.contains_key(workload),
        FaultAction::AppKill { app, .. } | FaultAction::AppPowerLoss { app, .. } => apps.contains_key(app),
        _ => true,
    });
}

/// Where a workload begins transactions, its pool cleans up after it, or it begins none.
fn clean_up(scenario: &mut Scenario, capabilities: &Capabilities) {
    let Scenario { apps, workloads, .. } = scenario;
    let is_of_transactions = |step: &Step| matches!(step.action, Action::Begin | Action::Commit | Action::Rollback);
    for workload in workloads.values_mut() {
        let Some(app) = apps.get_mut(&workload.app) else { continue };
        let cleans = matches!(app.pool.reset_on_return, Reset::Rollback | Reset::Discard);
        if cleans || !any_step(&workload.steps, &is_of_transactions) {
            continue;
        }
        if capabilities.reset_rollback {
            app.pool.reset_on_return = Reset::Rollback;
        } else if capabilities.reset_discard {
            app.pool.reset_on_return = Reset::Discard;
        } else {
            workload.steps.retain(|step| !is_of_transactions(step));
        }
    }
}
