//! Fewer apps, callers, arrivals and steps.

use std::time::Duration;

use super::Cuts;
use crate::scenario::model::{Action, Arrive, Cancel, OnError, Processes, Step};

pub(super) fn apps_and_workloads(cuts: &mut Cuts<'_>) {
    let scenario = cuts.of;
    for app in scenario.apps.keys() {
        cuts.add(|s| s.workloads.retain(|_, workload| workload.app != *app));
    }
    for name in scenario.workloads.keys() {
        cuts.add(|s| drop(s.workloads.shift_remove(name)));
    }
    for app in scenario.apps.keys() {
        cuts.add(|s| s.apps[app].processes = Processes::Fixed(1));
    }
    merged(cuts);
}

/// Two workloads whose actors do the same, and come at given times, are one.
fn merged(cuts: &mut Cuts<'_>) {
    let all: Vec<_> = cuts.of.workloads.iter().collect();
    for (place, (first, one)) in all.iter().enumerate() {
        for (second, other) in &all[place + 1..] {
            let (Arrive::At(_), Arrive::At(times)) = (&one.arrive, &other.arrive) else { continue };
            if (&one.app, &one.steps, one.on_error) != (&other.app, &other.steps, other.on_error) {
                continue;
            }
            cuts.add(|s| {
                s.workloads.shift_remove(*second);
                if let Arrive::At(own) = &mut s.workloads[*first].arrive {
                    own.extend(times);
                }
            });
        }
    }
}

pub(super) fn steps(cuts: &mut Cuts<'_>) {
    let scenario = cuts.of;
    for (name, workload) in &scenario.workloads {
        for (place, step) in workload.steps.iter().enumerate() {
            if workload.steps.len() > 1 {
                cuts.add(|s| drop(s.workloads[name].steps.remove(place)));
            }
            if let Action::Repeat { steps, .. } = &step.action {
                cuts.add(|s| drop(s.workloads[name].steps.splice(place..=place, steps.iter().cloned())));
            }
            for simpler in simpler_step(step) {
                cuts.add(|s| s.workloads[name].steps[place] = simpler);
            }
        }
        cuts.add(|s| s.workloads[name].on_error = OnError::Stop);
        cuts.add(|s| s.workloads[name].finally.clear());
    }
}

/// The same step, with less to it.
fn simpler_step(step: &Step) -> Vec<Step> {
    let action = |action| Step { action, cancel: step.cancel };
    let mut found = Vec::new();
    match step.cancel {
        None => {}
        Some(Cancel::EveryPoll) => {
            let wakes = (1..=3).map(|wake| Some(Cancel::AtWake(wake)));
            let polls = (1..=4).map(|poll| Some(Cancel::AtPoll(poll)));
            let instead = std::iter::once(None).chain(wakes).chain(polls);
            found.extend(instead.map(|cancel| Step { action: step.action.clone(), cancel }));
        }
        Some(Cancel::AtPollOf { poll, .. }) => {
            let instead = [None, Some(Cancel::AtPoll(poll))];
            found.extend(instead.map(|cancel| Step { action: step.action.clone(), cancel }));
        }
        Some(Cancel::AtWakeOf { wake, .. }) => {
            let instead = [None, Some(Cancel::AtWake(wake))];
            found.extend(instead.map(|cancel| Step { action: step.action.clone(), cancel }));
        }
        Some(_) => found.push(Step { action: step.action.clone(), cancel: None }),
    }
    match &step.action {
        Action::Acquire { deadline: Some(_) } => found.push(action(Action::Acquire { deadline: None })),
        Action::Prepared(text) => found.push(action(Action::Sql(text.clone()))),
        Action::Sql(text) if text != "SELECT 1" => found.push(action(Action::Sql("SELECT 1".to_owned()))),
        Action::Hold { min, max } if min != max => found.push(action(Action::Hold { min: *max, max: *max })),
        Action::Repeat { times, steps } if *times > 2 => {
            found.push(action(Action::Repeat { times: times / 2, steps: steps.clone() }));
        }
        _ => {}
    }
    found
}

pub(super) fn arrivals(cuts: &mut Cuts<'_>) {
    let scenario = cuts.of;
    for (name, workload) in &scenario.workloads {
        let mut instead = |arrive: Arrive| cuts.add(|s| s.workloads[name].arrive = arrive);
        let from = workload.from;
        match &workload.arrive {
            Arrive::At(times) => {
                if times.len() > 2 {
                    instead(Arrive::At(times[..times.len() / 2].to_vec()));
                    instead(Arrive::At(times[times.len() / 2..].to_vec()));
                }
                for place in 0..if times.len() > 1 { times.len() } else { 0 } {
                    let mut fewer = times.clone();
                    fewer.remove(place);
                    instead(Arrive::At(fewer));
                }
            }
            Arrive::Every(every) => {
                instead(Arrive::At(vec![from]));
                instead(Arrive::At(vec![from, from + *every]));
                if *every * 2 < scenario.expect.until {
                    instead(Arrive::Every(*every * 2));
                }
            }
            Arrive::Burst { count, every } => {
                instead(Arrive::At(vec![from]));
                if every.is_some() {
                    instead(Arrive::Burst { count: *count, every: None });
                }
                instead(Arrive::Burst { count: (count / 2).max(1), every: *every });
            }
            Arrive::Workers { count, pause } => {
                instead(Arrive::At(vec![from]));
                instead(Arrive::Burst { count: *count, every: None });
                instead(Arrive::Workers { count: (count / 2).max(1), pause: *pause });
            }
            Arrive::Poisson { per_second } => {
                instead(Arrive::Every(Duration::from_secs_f64(1.0 / per_second.max(0.001))))
            }
            Arrive::Never | Arrive::Jobs { .. } => {}
        }
        cuts.add(|s| s.workloads[name].until = None);
        if !from.is_zero() && !matches!(workload.arrive, Arrive::At(_)) {
            cuts.add(|s| s.workloads[name].from = Duration::ZERO);
        }
    }
}
