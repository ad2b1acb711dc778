//! `arrive = …`: when a workload's actors arrive.

use std::time::Duration;

use toml::de::DeValue;

use crate::scenario::model::Arrive;
use crate::scenario::reader::{At, Log, Value};
use crate::scenario::report::Diagnostic;
use crate::scenario::steps;

/// Warns of traffic that never comes, and refuses times that make no sense together.
pub(super) fn never_starts(
    log: &Log<'_>,
    arrive: Option<&At<Arrive>>,
    from: Option<&At<Duration>>,
    until: Option<&At<Duration>>,
    end: Option<Duration>,
) {
    let start = from.map(|from| from.value).unwrap_or_default();
    if let Some(until) = until.filter(|until| until.value <= start) {
        let mut diagnostic =
            Diagnostic::new("scenario::out_of_order", until.span.clone(), "the workload ends before it begins")
                .label("must be later than `from`");
        if let Some(from) = from {
            diagnostic = diagnostic.note(from.span.clone(), "it begins here");
        }
        log.push(diagnostic);
        return;
    }
    let Some(end) = end else { return };
    if let Some(from) = from.filter(|from| from.value >= end) {
        log.push(
            Diagnostic::new("scenario::never_starts", from.span.clone(), "this workload never starts")
                .label("at or after the end (`until` in `[expect]`)")
                .warning(),
        );
    }
    if let Some(At { value: Arrive::At(times), span }) = arrive {
        let (first, last) = (start, until.map_or(end, |until| until.value.min(end)));
        if times.iter().any(|at| *at < first || *at >= last) {
            log.push(
                Diagnostic::new("scenario::never_starts", span.clone(), "some of these actors never start")
                    .label("a time outside of `from` and `until`")
                    .warning(),
            );
        }
    }
}

pub(super) fn arrive(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Arrive> {
    const HELP: &str = "it is \"never\", { every = \"5s\" }, { at = [\"1s\"] }, { poisson = \"80/s\" }, \
                        { burst = 50, every = \"10s\" }, { workers = 20, pause = \"10ms\" } or \
                        { jobs = \"QUEUE\", workers = 4 }";
    let wrong = |message: &str, label: &str| {
        log.push(Diagnostic::new("scenario::bad_value", value.span.clone(), message).label(label).help(HELP));
    };
    match value.raw {
        DeValue::String(text) if text == "never" => return Some(Arrive::Never),
        DeValue::Table(_) => {}
        _ => {
            wrong("this is no arrival", "expected \"never\" or a table");
            return None;
        }
    }
    let mut reader = value.table(log)?;
    const KINDS: [&str; 4] = ["at", "poisson", "burst", "workers"];
    let mut kinds: Vec<&str> = KINDS.into_iter().filter(|kind| reader.has(kind)).collect();
    if reader.has("jobs") {
        // Jobs have workers, too.
        kinds.retain(|kind| *kind != "workers");
        kinds.push("jobs");
    }
    if kinds.is_empty() && reader.has("every") {
        kinds.push("every");
    }
    let [kind] = kinds[..] else {
        if kinds.is_empty() {
            for kind in KINDS.into_iter().chain(["every", "pause", "jobs"]) {
                reader.take(kind);
            }
            // An unknown key is the mistake, if there is one.
            if !reader.finish() {
                wrong("how actors arrive is missing", "no arrival");
            }
        } else {
            wrong("actors arrive in one way", &format!("choose one of {}", kinds.join(", ")));
        }
        return None;
    };
    let arrive = match kind {
        "at" => {
            let times = reader.read("at", |v, log| v.list(log, |v| v.duration(log)))?;
            if times.is_empty() {
                wrong("no time is given", "at least one time");
            }
            Arrive::At(times)
        }
        "poisson" => Arrive::Poisson { per_second: reader.read("poisson", |v, log| v.rate(log)).unwrap_or_default() },
        "burst" => Arrive::Burst {
            count: reader.read("burst", |v, log| v.count(log, 1..=steps::MOST)).unwrap_or_default(),
            every: reader.read("every", |v, log| v.positive(log)),
        },
        "workers" => Arrive::Workers {
            count: reader.read("workers", |v, log| v.count(log, 1..=100_000)).unwrap_or_default(),
            pause: reader.read("pause", |v, log| v.duration(log)).unwrap_or_default(),
        },
        "jobs" => Arrive::Jobs {
            queue: reader.read("jobs", |v, log| v.words(log).map(str::to_owned))?,
            workers: reader.need("workers", |v, log| v.count(log, 1..=100_000)).unwrap_or_default(),
        },
        _ => Arrive::Every(reader.read("every", |v, log| v.positive(log)).unwrap_or_default()),
    };
    reader.finish();
    Some(arrive)
}
