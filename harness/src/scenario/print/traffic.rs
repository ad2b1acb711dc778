//! Workloads and their steps, printed.

use super::{File, key, lines, list, quoted, quoted_duration};
use crate::scenario::model::{Action, Arrive, Cancel, OnError, Step, Workload};
use crate::scenario::units::{print_duration, print_rate};
use std::time::Duration;

pub(super) fn print_workload(file: &mut File, name: &str, workload: &Workload) {
    file.header(&format!("[workload.{}]", key(name)));
    file.line("app", &quoted(&workload.app));
    let arrive = match &workload.arrive {
        Arrive::Never => "\"never\"".to_owned(),
        Arrive::At(times) => format!("{{ at = {} }}", list(times.iter().copied().map(quoted_duration))),
        Arrive::Every(interval) => format!("{{ every = {} }}", quoted_duration(*interval)),
        Arrive::Poisson { per_second } => {
            format!("{{ poisson = \"{}\" }}", print_rate(*per_second))
        }
        Arrive::Burst { count, every: None } => format!("{{ burst = {count} }}"),
        Arrive::Burst { count, every: Some(every) } => {
            format!("{{ burst = {count}, every = {} }}", quoted_duration(*every))
        }
        Arrive::Workers { count, pause } if pause.is_zero() => format!("{{ workers = {count} }}"),
        Arrive::Workers { count, pause } => format!("{{ workers = {count}, pause = {} }}", quoted_duration(*pause)),
        Arrive::Jobs { queue, workers } => format!("{{ jobs = {}, workers = {workers} }}", quoted(queue)),
    };
    file.line("arrive", &arrive);
    file.duration_unless("from", workload.from, Duration::ZERO);
    file.duration_if("until", workload.until);
    match workload.on_error {
        OnError::Stop => {}
        OnError::Continue => file.line("on_error", "\"continue\""),
        OnError::Rollback => file.line("on_error", "\"rollback\""),
    }
    file.line("steps", &lines(workload.steps.iter().map(step)));
    if !workload.finally.is_empty() {
        file.line("finally", &lines(workload.finally.iter().map(step)));
    }
}

/// A step as TOML.
fn step(step: &Step) -> String {
    let cancel = step.cancel.as_ref().map(|cancel| match cancel {
        Cancel::After(time) => format!("after {}", print_duration(*time)),
        Cancel::AtPoll(poll) => format!("at poll {poll}"),
        Cancel::AtWake(wake) => format!("at wake {wake}"),
        Cancel::AtPollOf { actor, poll } => format!("at poll {poll} of actor {actor}"),
        Cancel::AtWakeOf { actor, wake } => format!("at wake {wake} of actor {actor}"),
        Cancel::EveryPoll => "at every poll".to_owned(),
    });
    let text = match &step.action {
        Action::Repeat { times, steps } => {
            return repetition(&format!("repeat = {times}"), cancel.as_deref(), steps);
        }
        Action::While { queue, steps } => {
            return repetition(&format!("while = {}", quoted(queue)), cancel.as_deref(), steps);
        }
        action => action_text(action),
    };
    quoted(&cancel.map_or(text.clone(), |cancel| format!("cancel {cancel}: {text}")))
}

fn repetition(how_often: &str, cancel: Option<&str>, steps: &[Step]) -> String {
    let cancel = cancel.map(|cancel| format!(", cancel = \"{cancel}\"")).unwrap_or_default();
    format!("{{ {how_often}{cancel}, steps = {} }}", list(steps.iter().map(step)))
}

/// A step's action in the language of steps, without its cancellation. A repetition is printed by its first line only.
#[must_use]
pub fn action_text(action: &Action) -> String {
    match action {
        Action::Acquire { deadline: None } => "acquire".to_owned(),
        Action::Acquire { deadline: Some(deadline) } => format!("acquire within {}", print_duration(*deadline)),
        Action::Sql(text) => format!("sql {text}"),
        Action::Prepared(text) => format!("prepared {text}"),
        Action::Begin => "begin".to_owned(),
        Action::Commit => "commit".to_owned(),
        Action::Rollback => "rollback".to_owned(),
        Action::Hold { min, max } if min == max => format!("hold {}", print_duration(*min)),
        Action::Hold { min, max } => {
            format!("hold {}..{}", print_duration(*min), print_duration(*max))
        }
        Action::Release => "release".to_owned(),
        Action::Leak => "leak".to_owned(),
        Action::Abandon { after } => format!("abandon after {}", print_duration(*after)),
        Action::Panic => "panic".to_owned(),
        Action::Detach => "detach".to_owned(),
        Action::Invalidate => "invalidate".to_owned(),
        Action::ClosePool => "close pool".to_owned(),
        Action::NewPool => "new pool".to_owned(),
        Action::DropPool => "drop pool".to_owned(),
        Action::DisposePool => "dispose pool".to_owned(),
        Action::LosePool => "lose pool".to_owned(),
        Action::Lose => "lose".to_owned(),
        Action::Collect => "collect".to_owned(),
        Action::Allocate { min, max } if min == max => format!("allocate {min}"),
        Action::Allocate { min, max } => format!("allocate {min}..{max}"),
        Action::Session => "session".to_owned(),
        Action::Flush(text) => format!("flush {text}"),
        Action::RemoveSession => "remove session".to_owned(),
        Action::ExpectRow(text) => format!("expect row {text}"),
        Action::Put { queue, after, payload } => {
            let after = if after.is_zero() { String::new() } else { format!(" after {}", print_duration(*after)) };
            format!("put {queue}{after} {payload}").trim_end().to_owned()
        }
        Action::Take(queue) => format!("take {queue}"),
        Action::Done(queue) => format!("done {queue}"),
        Action::Join(queue) => format!("join {queue}"),
        Action::Kill(workload) => format!("kill {workload}"),
        Action::While { queue, .. } => format!("while {queue} has jobs"),
        Action::Resize(size) => format!("resize {size}"),
        Action::Status => "status".to_owned(),
        Action::Spawn { workload, wait: false } => format!("spawn {workload}"),
        Action::Spawn { workload, wait: true } => format!("spawn {workload} and wait"),
        Action::Repeat { times, .. } => format!("repeat {times} times"),
    }
}
