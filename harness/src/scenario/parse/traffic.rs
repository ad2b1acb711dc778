//! `[app.NAME]` and `[workload.NAME]`.

use std::time::Duration;

use indexmap::IndexMap;
use toml::de::DeValue;

use super::plain_name;
use crate::scenario::model::{Action, App, Arrive, Cancel, OnError, Order, PoolSettings, Reset, Step, Workload};
use crate::scenario::reader::{At, Log, Reader, Span, Value, inside, suggest};
use crate::scenario::report::Diagnostic;
use crate::scenario::steps::{self, Wrong};

/// Roles that every server has.
pub(super) const DEFAULT_ROLES: [&str; 2] = ["app", "postgres"];

/// Says that a role doesn't exist.
pub(super) fn check_role(log: &Log<'_>, role: &str, span: &Span, roles: &[&str]) {
    if !roles.contains(&role) && !DEFAULT_ROLES.contains(&role) {
        let known: Vec<&str> = DEFAULT_ROLES.iter().chain(roles).copied().collect();
        log.push(
            Diagnostic::new("scenario::undefined_role", span.clone(), format!("there is no role `{role}`"))
                .label("unknown role")
                .help(
                    suggest(role, known).unwrap_or_default()
                        + &format!("; a role is defined by `[server.role.{role}]`"),
                ),
        );
    }
}

/// Says that an app doesn't exist.
pub(super) fn check_app<'n>(log: &Log<'_>, app: &str, span: &Span, apps: impl IntoIterator<Item = &'n str> + Clone) {
    if !apps.clone().into_iter().any(|known| known == app) {
        log.push(
            Diagnostic::new("scenario::undefined_app", span.clone(), format!("there is no app `{app}`"))
                .label("unknown app")
                .maybe_help(suggest(app, apps)),
        );
    }
}

pub(super) fn apps(value: &Value<'_, '_>, log: &Log<'_>, roles: &[&str]) -> Option<IndexMap<String, At<App>>> {
    let mut apps = IndexMap::new();
    for (name, value) in value.named(log)? {
        plain_name(log, "an app", name.value, &name.span);
        let mut app = App { processes: 1, user: "app".to_owned(), pool: PoolSettings::default() };
        if let Some(mut reader) = value.table(log) {
            if let Some(processes) = reader.read("processes", |v, log| v.count(log, 1..=1000)) {
                app.processes = processes;
            }
            if let Some(user) = reader.read_at("user", |v, log| v.words(log)) {
                check_role(log, user.value, &user.span, roles);
                app.user = user.value.to_owned();
            }
            if let Some(pool) = reader.take("pool").and_then(|v| v.table(log)) {
                app.pool = pool_settings(pool);
            }
            reader.finish();
        }
        let span = name.span;
        apps.insert(name.value.to_owned(), At { value: app, span });
    }
    Some(apps)
}

fn pool_settings(mut reader: Reader<'_, '_, '_>) -> PoolSettings {
    const MOST: u32 = 10_000;
    let mut pool = PoolSettings::default();
    let max_size =
        reader.read_at("max_size", |v, log| v.count_or(log, 1..=MOST, ("unlimited", PoolSettings::UNLIMITED)));
    if let Some(max_size) = &max_size {
        pool.max_size = max_size.value;
    }
    let mut bound = Bound { key: "max_size", value: pool.max_size, place: max_size.map(|at| at.span) };
    if let Some(max_idle) = reader.read_at("max_idle", |v, log| v.count(log, 0..=MOST)) {
        bound.check(reader.log, "max_idle", &max_idle);
        pool.max_idle = Some(max_idle.value);
        bound = Bound { key: "max_idle", value: max_idle.value, place: Some(max_idle.span) };
    }
    if let Some(min_idle) = reader.read_at("min_idle", |v, log| v.count(log, 0..=MOST)) {
        bound.check(reader.log, "min_idle", &min_idle);
        pool.min_idle = min_idle.value;
    }
    if let Some(timeout) = reader.read("acquire_timeout", |v, log| v.timeout(log)) {
        pool.acquire_timeout = timeout;
    }
    pool.idle_timeout = reader.read("idle_timeout", |v, log| v.timeout(log)).flatten();
    pool.max_lifetime = reader.read("max_lifetime", |v, log| v.timeout(log)).flatten();
    pool.test_on_acquire = reader.read("test_on_acquire", |v, log| v.boolean(log)).unwrap_or_default();
    let resets =
        [("none", Reset::None), ("rollback", Reset::Rollback), ("commit", Reset::Commit), ("discard", Reset::Discard)];
    if let Some(reset) = reader.read("reset_on_return", |v, log| v.choice(log, &resets)) {
        pool.reset_on_return = reset;
    }
    pool.order = reader.read("order", |v, log| v.choice(log, &[("fifo", Order::Fifo), ("lifo", Order::Lifo)]));
    reader.finish();
    pool
}

/// What another number of the same table may not exceed.
struct Bound {
    key: &'static str,
    value: u32,
    /// Where it stands; `None` for a default.
    place: Option<Span>,
}

impl Bound {
    fn check(&self, log: &Log<'_>, key: &str, number: &At<u32>) {
        let Bound { key: bound, value, place } = self;
        if number.value <= *value {
            return;
        }
        let message = format!("`{key}` is larger than `{bound}`, which is {value}");
        let mut diagnostic =
            Diagnostic::new("scenario::out_of_range", number.span.clone(), message).label(format!("at most {value}"));
        if let Some(place) = place {
            diagnostic = diagnostic.note(place.clone(), "the bound");
        }
        log.push(diagnostic);
    }
}

/// A workload as it was read, with the places of its steps.
pub(in crate::scenario) struct Draft {
    /// The place of its name.
    pub(in crate::scenario) span: Span,
    /// Its steps, as far as they could be read.
    pub(in crate::scenario) steps: Vec<DraftStep>,
    /// Whether there is something wrong with some of them: what is missing may be what a later one needs.
    pub(in crate::scenario) gaps: bool,
    /// Whether it has `arrive = "never"`, if that could be read.
    pub(in crate::scenario) never: Option<bool>,
    /// Where its app is named, and the name.
    pub(in crate::scenario) app: Option<At<String>>,
    /// The workload, if all of it could be read.
    pub(in crate::scenario) workload: Option<Workload>,
}

/// A step with its place.
pub(in crate::scenario) struct DraftStep {
    /// Its place in the file.
    pub(in crate::scenario) span: Span,
    /// The step; the steps of a repetition are in `body`.
    pub(in crate::scenario) step: Step,
    /// The steps of a repetition.
    pub(in crate::scenario) body: Vec<DraftStep>,
}

pub(super) fn workloads(
    value: &Value<'_, '_>,
    log: &Log<'_>,
    apps: &[&str],
    end: Option<Duration>,
) -> Option<IndexMap<String, Draft>> {
    let mut workloads = IndexMap::new();
    for (name, value) in value.named(log)? {
        plain_name(log, "a workload", name.value, &name.span);
        workloads.insert(name.value.to_owned(), workload(&value, log, apps, end, name.span));
    }
    Some(workloads)
}

fn workload(value: &Value<'_, '_>, log: &Log<'_>, apps: &[&str], end: Option<Duration>, span: Span) -> Draft {
    let mut draft = Draft { span, steps: Vec::new(), gaps: false, never: None, app: None, workload: None };
    let Some(mut reader) = value.table(log) else {
        return draft;
    };
    draft.app = reader.need_at("app", |v, log| v.words(log).map(str::to_owned));
    if let Some(app) = &draft.app {
        check_app(log, &app.value, &app.span, apps.iter().copied());
    }
    let arrive = reader.need_at("arrive", arrive);
    draft.never = arrive.as_ref().map(|arrive| arrive.value == Arrive::Never);
    let from = reader.read_at("from", |v, log| v.duration(log));
    let until = reader.read_at("until", |v, log| v.positive(log));
    let before = log.count();
    let steps = reader.need_at("steps", |v, log| steps_of(v, log, 0));
    draft.gaps = log.count() > before;
    let choices = [("stop", OnError::Stop), ("continue", OnError::Continue), ("rollback", OnError::Rollback)];
    let on_error = reader.read("on_error", |v, log| v.choice(log, &choices)).unwrap_or(OnError::Stop);
    reader.finish();

    if let Some(steps) = steps {
        if steps.value.is_empty() && value_is_empty_array(log, &steps.span) {
            log.push(
                Diagnostic::new("scenario::empty", steps.span, "a workload without steps does nothing")
                    .label("at least one step"),
            );
        }
        draft.steps = steps.value;
    }
    never_starts(log, arrive.as_ref(), from.as_ref(), until.as_ref(), end);
    if let (Some(app), Some(arrive)) = (&draft.app, arrive) {
        draft.workload = Some(Workload {
            app: app.value.clone(),
            arrive: arrive.value,
            from: from.map(|from| from.value).unwrap_or_default(),
            until: until.map(|until| until.value),
            steps: draft.steps.iter().map(|draft| draft.step.clone()).collect(),
            on_error,
        });
    }
    draft
}

/// Whether the array in the file is empty, rather than full of mistakes that are reported already.
fn value_is_empty_array(log: &Log<'_>, span: &Span) -> bool {
    log.text.get(span.clone()).is_some_and(|raw| !raw.contains(['"', '\'', '{']))
}

/// Warns of traffic that never comes, and refuses times that make no sense together.
fn never_starts(
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

fn arrive(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Arrive> {
    const HELP: &str = "it is \"never\", { every = \"5s\" }, { at = [\"1s\"] }, { poisson = \"80/s\" }, \
                        { burst = 50, every = \"10s\" } or { workers = 20, pause = \"10ms\" }";
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
    if kinds.is_empty() && reader.has("every") {
        kinds.push("every");
    }
    let [kind] = kinds[..] else {
        if kinds.is_empty() {
            for kind in KINDS.into_iter().chain(["every", "pause"]) {
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
        _ => Arrive::Every(reader.read("every", |v, log| v.positive(log)).unwrap_or_default()),
    };
    reader.finish();
    Some(arrive)
}

/// Repetitions in repetitions, at most.
const DEEPEST: usize = 8;

fn steps_of(value: &Value<'_, '_>, log: &Log<'_>, depth: usize) -> Option<Vec<DraftStep>> {
    value.list(log, |v| step(v, log, depth))
}

fn step(value: &Value<'_, '_>, log: &Log<'_>, depth: usize) -> Option<DraftStep> {
    let span = value.span.clone();
    match value.raw {
        DeValue::String(text) => match steps::step(text) {
            Ok(step) => {
                variables(log, text, &span);
                Some(DraftStep { span, step, body: Vec::new() })
            }
            Err(wrong) => {
                push_wrong(log, "scenario::bad_step", text, &span, wrong);
                None
            }
        },
        DeValue::Table(_) => repetition(value, log, depth),
        _ => {
            log.push(
                Diagnostic::new("scenario::wrong_type", span, "a step is a string or a repetition")
                    .label("expected a step")
                    .help("like \"acquire\", or { repeat = 3, steps = [\"acquire\", \"release\"] }"),
            );
            None
        }
    }
}

fn repetition(value: &Value<'_, '_>, log: &Log<'_>, depth: usize) -> Option<DraftStep> {
    if depth >= DEEPEST {
        log.push(
            Diagnostic::new("scenario::too_deep", value.span.clone(), "too many repetitions inside each other")
                .label(format!("at most {DEEPEST}")),
        );
        return None;
    }
    let mut reader = value.table(log)?;
    reader.span = value.span.clone();
    let times = reader.need("repeat", |v, log| v.count(log, 1..=steps::MOST));
    let body = reader.need_at("steps", |v, log| steps_of(v, log, depth + 1));
    let cancel = reader.read("cancel", cancel);
    reader.finish();
    let body = body?;
    if body.value.is_empty() && value_is_empty_array(log, &body.span) {
        log.push(
            Diagnostic::new("scenario::empty", body.span, "a repetition without steps does nothing")
                .label("at least one step"),
        );
    }
    let body = body.value;
    Some(DraftStep {
        span: value.span.clone(),
        step: Step {
            action: Action::Repeat { times: times?, steps: body.iter().map(|draft| draft.step.clone()).collect() },
            cancel,
        },
        body,
    })
}

/// `"after 10ms"`: when a repetition is cancelled.
fn cancel(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Cancel> {
    let text = value.string(log)?;
    match steps::cancel(text) {
        Ok(cancel) => Some(cancel),
        Err(wrong) => {
            push_wrong(log, "scenario::bad_step", text, &value.span, wrong);
            None
        }
    }
}

/// Logs what is wrong in a text, at its place in the file.
pub(super) fn push_wrong(log: &Log<'_>, code: &'static str, text: &str, span: &Span, wrong: Wrong) {
    let place = inside(log.text, span, text, wrong.span.start, wrong.span.end);
    log.push(Diagnostic::new(code, place, wrong.message).label(wrong.label).maybe_help(wrong.help));
}

/// Warns of `$names` that no variable has. `$1` and `$tag$ … $tag$` are PostgreSQL's own.
fn variables(log: &Log<'_>, text: &str, span: &Span) {
    const KNOWN: [&str; 3] = ["actor", "process", "n"];
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..length];
        let quote = rest[length..].starts_with('$') || text[..at].matches('$').count() % 2 == 1;
        if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !KNOWN.contains(&name) && !quote {
            log.push(
                Diagnostic::new(
                    "scenario::unknown_variable",
                    inside(log.text, span, text, at, at + 1 + length),
                    format!("`${name}` is no variable"),
                )
                .label("sent to the server as it is")
                .help("the variables are `$actor`, `$process` and `$n`")
                .warning(),
            );
        }
    }
}
