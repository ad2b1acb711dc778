//! The parts of a scenario that can be changed one by one: its steps, its times, its numbers.

use std::time::Duration;

use crate::scenario::model::{
    Action, Arrive, AtMessage, Cancel, FaultAction, Misbehaviour, Scenario, Step, each_step_mut,
};

/// Whether any step of a list, those of repetitions included, is such a one.
pub(super) fn any_step(steps: &[Step], is: &impl Fn(&Step) -> bool) -> bool {
    steps.iter().any(|step| is(step) || any_step(step.body(), is))
}

/// What a time is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// A moment of the run.
    Moment,
    /// How long something lasts.
    Length,
}

/// Every time of a scenario, its end left out, in an order that depends on the scenario alone.
pub(super) fn each_time(scenario: &mut Scenario, visit: &mut impl FnMut(Time, &mut Duration)) {
    for app in scenario.apps.values_mut() {
        let pool = &mut app.pool;
        for time in [&mut pool.acquire_timeout, &mut pool.idle_timeout, &mut pool.max_lifetime] {
            time.iter_mut().for_each(|time| visit(Time::Length, time));
        }
    }
    for workload in scenario.workloads.values_mut() {
        match &mut workload.arrive {
            Arrive::At(times) => times.iter_mut().for_each(|time| visit(Time::Moment, time)),
            Arrive::Every(every) | Arrive::Burst { every: Some(every), .. } => visit(Time::Length, every),
            Arrive::Workers { pause, .. } => visit(Time::Length, pause),
            Arrive::Never | Arrive::Poisson { .. } | Arrive::Burst { every: None, .. } | Arrive::Jobs { .. } => {}
        }
        if !matches!(workload.arrive, Arrive::At(_)) {
            visit(Time::Moment, &mut workload.from);
        }
        workload.until.iter_mut().for_each(|until| visit(Time::Moment, until));
        each_step_mut(&mut workload.steps, &mut |step| {
            if let Some(Cancel::After(after)) = &mut step.cancel {
                visit(Time::Length, after);
            }
            match &mut step.action {
                Action::Acquire { deadline: Some(deadline) } => visit(Time::Length, deadline),
                Action::Abandon { after } => visit(Time::Length, after),
                Action::Hold { min, max } => {
                    let same = min == max;
                    visit(Time::Length, min);
                    if same {
                        *max = *min;
                    } else {
                        visit(Time::Length, max);
                    }
                }
                _ => {}
            }
        });
    }
    for fault in &mut scenario.faults {
        visit(Time::Moment, &mut fault.at);
        fault.every.iter_mut().for_each(|every| visit(Time::Length, every));
        if let Some(lasts) = lasts(&mut fault.action) {
            visit(Time::Length, lasts);
        }
    }
    visit(Time::Length, &mut scenario.server.fork_time);
    visit(Time::Length, &mut scenario.network.latency);
}

/// How long a fault lasts, if it says so.
pub(super) fn lasts(action: &mut FaultAction) -> Option<&mut Duration> {
    match action {
        FaultAction::ServerRestart { down_for, .. } => Some(down_for),
        FaultAction::ServerKill { down_for, .. } | FaultAction::ServerPowerLoss { down_for, .. } => down_for.as_mut(),
        FaultAction::ServerSlow { lasts, .. }
        | FaultAction::ServerSql { lasts, .. }
        | FaultAction::ServerOccupy { lasts, .. }
        | FaultAction::NetLatency { lasts, .. }
        | FaultAction::NetBandwidth { lasts, .. }
        | FaultAction::NetPartition { lasts, .. }
        | FaultAction::NetRefuse { lasts }
        | FaultAction::NetLoseConnects { lasts }
        | FaultAction::NetAcceptSilence { lasts }
        | FaultAction::NetIdleFlowTimeout { lasts, .. } => lasts.as_mut(),
        FaultAction::Manager { how: Misbehaviour::Slow(by), .. }
        | FaultAction::NetMessage { what: AtMessage::Delay(by), .. } => Some(by),
        FaultAction::Manager { lasts, .. } => lasts.as_mut(),
        FaultAction::AppKill { restart_after, .. } | FaultAction::AppPowerLoss { restart_after, .. } => {
            restart_after.as_mut()
        }
        _ => None,
    }
}

/// Every small number of a scenario, each with the least that it may be.
pub(super) fn each_number(scenario: &mut Scenario, visit: &mut impl FnMut(u32, &mut u32)) {
    for app in scenario.apps.values_mut() {
        visit(1, &mut app.pool.max_size);
        visit(0, &mut app.pool.min_idle);
    }
    for workload in scenario.workloads.values_mut() {
        match &mut workload.arrive {
            Arrive::Burst { count, .. } | Arrive::Workers { count, .. } => visit(1, count),
            _ => {}
        }
        each_step_mut(&mut workload.steps, &mut |step| {
            if let Some(Cancel::AtPoll(number) | Cancel::AtWake(number)) = &mut step.cancel {
                visit(1, number);
            }
            match &mut step.action {
                Action::Resize(size) => visit(1, size),
                Action::Repeat { times, .. } => visit(1, times),
                _ => {}
            }
        });
    }
}
