//! `[app.NAME]` and `[workload.NAME]`.

use std::time::Duration;

use indexmap::IndexMap;
use toml::de::DeValue;

use super::arrive::{arrive, never_starts};
use super::plain_name;
use crate::scenario::model::{
    Action, App, Arrive, Cancel, Collector, OnError, Order, PoolSettings, Processes, Reset, Step, Workload,
};
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
        let mut app = App {
            processes: Processes::Fixed(1),
            collector: None,
            cooperative: true,
            user: "app".to_owned(),
            pool: PoolSettings::default(),
        };
        if let Some(mut reader) = value.table(log) {
            if let Some(processes) = reader.read("processes", processes) {
                app.processes = processes;
            }
            app.collector = reader.read("collector", collector).flatten();
            app.cooperative = reader.read("cooperative", |v, log| v.boolean(log)).unwrap_or(true);
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

/// `2`, or `"per request"`.
fn processes(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Processes> {
    match value.raw {
        DeValue::String(_) => value.choice(log, &[("per request", Processes::PerRequest)]),
        _ => value.count(log, 1..=1000).map(Processes::Fixed),
    }
}

/// `{ threshold = 700 }`, or `"never"`.
fn collector(value: &Value<'_, '_>, log: &Log<'_>) -> Option<Option<Collector>> {
    if let DeValue::String(_) = value.raw {
        return value.choice(log, &[("never", None)]);
    }
    let mut reader = value.table(log)?;
    let threshold = reader.need("threshold", |v, log| v.count(log, 1..=steps::MOST));
    let acquire = reader.read("acquire", |v, log| v.count(log, 0..=steps::MOST)).unwrap_or_default();
    reader.finish();
    Some(threshold.map(|threshold| Collector { threshold, acquire }))
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
    /// What it does at the end, as far as that could be read.
    pub(in crate::scenario) finally: Vec<DraftStep>,
    /// When its actors arrive, if that could be read.
    pub(in crate::scenario) arrive: Option<At<Arrive>>,
    /// Where its app is named, and the name.
    pub(in crate::scenario) app: Option<At<String>>,
    /// The workload, if all of it could be read.
    pub(in crate::scenario) workload: Option<Workload>,
}

impl Draft {
    /// Whether only other workloads start its actors, if that is known.
    pub(in crate::scenario) fn never(&self) -> Option<bool> {
        self.arrive.as_ref().map(|arrive| arrive.value == Arrive::Never)
    }
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
    let mut draft =
        Draft { span, steps: Vec::new(), gaps: false, finally: Vec::new(), arrive: None, app: None, workload: None };
    let Some(mut reader) = value.table(log) else {
        return draft;
    };
    draft.app = reader.need_at("app", |v, log| v.words(log).map(str::to_owned));
    if let Some(app) = &draft.app {
        check_app(log, &app.value, &app.span, apps.iter().copied());
    }
    draft.arrive = reader.need_at("arrive", arrive);
    let from = reader.read_at("from", |v, log| v.duration(log));
    let until = reader.read_at("until", |v, log| v.positive(log));
    let before = log.count();
    let steps = reader.need_at("steps", |v, log| steps_of(v, log, 0));
    draft.gaps = log.count() > before;
    let choices = [("stop", OnError::Stop), ("continue", OnError::Continue), ("rollback", OnError::Rollback)];
    let on_error = reader.read("on_error", |v, log| v.choice(log, &choices)).unwrap_or(OnError::Stop);
    draft.finally = reader.read("finally", |v, log| steps_of(v, log, 0)).unwrap_or_default();
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
    never_starts(log, draft.arrive.as_ref(), from.as_ref(), until.as_ref(), end);
    if let (Some(app), Some(arrive)) = (&draft.app, &draft.arrive) {
        draft.workload = Some(Workload {
            app: app.value.clone(),
            arrive: arrive.value.clone(),
            from: from.map(|from| from.value).unwrap_or_default(),
            until: until.map(|until| until.value),
            steps: draft.steps.iter().map(|draft| draft.step.clone()).collect(),
            on_error,
            finally: draft.finally.iter().map(|draft| draft.step.clone()).collect(),
        });
    }
    draft
}

/// Whether the array in the file is empty, rather than full of mistakes that are reported already.
fn value_is_empty_array(log: &Log<'_>, span: &Span) -> bool {
    log.text.get(span.clone()).is_some_and(|raw| !raw.contains(['"', '\'', '{']))
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
    // As often as a number says, or as long as a queue has jobs.
    let queue = reader.read("while", |v, log| v.words(log).map(str::to_owned));
    if queue.is_some()
        && let Some(repeat) = reader.take("repeat")
    {
        log.push(
            Diagnostic::new("scenario::bad_value", repeat.key_span, "a repetition has either `repeat` or `while`")
                .label("not both"),
        );
    }
    let times = match &queue {
        Some(_) => None,
        None => reader.need("repeat", |v, log| v.count(log, 1..=steps::MOST)),
    };
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
    let steps = body.iter().map(|draft| draft.step.clone()).collect();
    let action = match queue {
        Some(queue) => Action::While { queue, steps },
        None => Action::Repeat { times: times?, steps },
    };
    Some(DraftStep { span: value.span.clone(), step: Step { action, cancel }, body })
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
    const KNOWN: [&str; 4] = ["actor", "process", "n", "payload"];
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
                .help("the variables are `$actor`, `$process`, `$n` and `$payload`")
                .warning(),
            );
        }
    }
}
