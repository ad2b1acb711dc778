//! Whether the steps of workloads make sense in their order, and refer to what exists.
//!
//! A workload is walked as an actor would run it, and only what can't work in any run is a mistake: after an acquire that
//! may have been cancelled or failed, nothing is said about the lease.

use indexmap::IndexMap;

use super::model::{Action, App, Arrive, OnError, Processes};
use super::parse::{Draft, DraftStep};
use super::reader::{At, Log, Span, suggest};
use super::report::Diagnostic;

/// Checks all workloads.
pub(super) fn workloads(log: &Log<'_>, workloads: &IndexMap<String, Draft>, apps: &IndexMap<String, At<App>>) {
    for draft in workloads.values() {
        let mut walk = Walk {
            log,
            lease: if draft.gaps { Lease::Perhaps } else { Lease::Never },
            own_pool: false,
            ended: None,
            carries_on: draft.workload.as_ref().is_none_or(|w| w.on_error == OnError::Continue),
            quiet: false,
        };
        walk.steps(&draft.steps);
        walk.finally(&draft.finally);
        spawns_exist(log, &draft.steps, workloads);
        spawns_exist(log, &draft.finally, workloads);
    }
    for (name, draft) in workloads {
        let spawned = workloads.values().any(|other| spawned(&other.steps).any(|(target, _)| target == name));
        if draft.never() == Some(true) && !spawned {
            log.push(
                Diagnostic::new(
                    "scenario::never_starts",
                    draft.span.clone(),
                    format!("the workload `{name}` never starts"),
                )
                .label("`arrive = \"never\"`, and no workload spawns it")
                .warning(),
            );
        }
    }
    cycles(log, workloads);
    for draft in workloads.values() {
        let app = draft.app.as_ref().and_then(|app| apps.get(&app.value));
        if let Some(arrive) = &draft.arrive
            && let Some(app) = app.filter(|app| app.value.processes == Processes::PerRequest)
            && matches!(arrive.value, Arrive::Workers { .. } | Arrive::Jobs { .. })
        {
            log.push(
                Diagnostic::new("scenario::no_workers", arrive.span.clone(), "a process per request has no workers")
                    .label("nobody is there to start over")
                    .note(app.span.clone(), "its processes come with requests, and go with them"),
            );
        }
    }
    for (name, app) in apps {
        // A workload whose app is misspelt may be this app's.
        let used = workloads.values().any(|draft| match &draft.app {
            Some(app) => app.value == *name || !apps.contains_key(&app.value),
            None => true,
        });
        if !used {
            log.push(
                Diagnostic::new("scenario::unused_app", app.span.clone(), format!("the app `{name}` has no workload"))
                    .label("it does nothing but keep its pool")
                    .warning(),
            );
        }
    }
}

/// Whether the actor holds a lease.
#[derive(Debug, Clone, PartialEq)]
enum Lease {
    /// It never took one.
    Never,
    /// It gave it away in this step.
    Gone { how: &'static str, at: Span },
    /// It took one in this step.
    Held { at: Span },
    /// It is out of the pool since this step.
    Detached { at: Span },
    /// The actor works in its thread's session since this step.
    Session { at: Span },
    /// It depends on the run.
    Perhaps,
}

struct Walk<'l, 't> {
    log: &'l Log<'t>,
    lease: Lease,
    own_pool: bool,
    /// What ended the actor, and where.
    ended: Option<Span>,
    /// Whether it goes on after a failed step (`on_error = "continue"`, or that isn't known).
    carries_on: bool,
    /// In the second round of a repetition, whose steps were judged already.
    quiet: bool,
}

impl Walk<'_, '_> {
    fn push(&self, diagnostic: Diagnostic) {
        if !self.quiet {
            self.log.push(diagnostic);
        }
    }

    fn steps(&mut self, steps: &[DraftStep]) {
        for (index, step) in steps.iter().enumerate() {
            if let Some(panic) = self.ended.clone() {
                self.push(
                    Diagnostic::new("scenario::unreachable", step.span.clone(), "no actor comes to this step")
                        .label("never reached")
                        .note(panic, "the actor ends here"),
                );
                return;
            }
            self.step(step, steps.len() - index - 1);
        }
    }

    fn step(&mut self, draft: &DraftStep, left: usize) {
        let (span, cancelled) = (draft.span.clone(), draft.step.cancel.is_some());
        match &draft.step.action {
            Action::Acquire { .. } => {
                self.not_in_session("`acquire`", &span);
                if let Lease::Held { at } = &self.lease {
                    self.push(
                        Diagnostic::new("scenario::lease", span.clone(), "the actor holds a lease already")
                            .label("a second acquire")
                            .note(at.clone(), "acquired here")
                            .help("an actor holds one lease at a time; `release` first, or use a second workload"),
                    );
                }
                self.lease = if cancelled || self.carries_on { Lease::Perhaps } else { Lease::Held { at: span } };
            }
            Action::Sql(_)
            | Action::Prepared(_)
            | Action::ExpectRow(_)
            | Action::Begin
            | Action::Commit
            | Action::Rollback => self.needs_lease("a statement", &span),
            Action::Session => {
                if let Lease::Held { at } | Lease::Detached { at } = &self.lease {
                    self.push(
                        Diagnostic::new("scenario::lease", span.clone(), "the actor holds a lease already")
                            .label("the session takes one of its own")
                            .note(at.clone(), "acquired here")
                            .help("`release` first"),
                    );
                }
                self.lease = Lease::Session { at: span };
            }
            Action::Flush(_) => self.needs_session("`flush`", &span),
            Action::RemoveSession => {
                self.needs_session("`remove session`", &span);
                self.lease = Lease::Gone { how: "the session was removed here", at: span };
            }
            Action::Lose => {
                self.not_in_session("`lose`", &span);
                self.needs_lease("`lose`", &span);
                self.lease = Lease::Gone { how: "lost here", at: span };
            }
            Action::Release => {
                self.not_in_session("`release`", &span);
                self.needs_lease("`release`", &span);
                self.lease = Lease::Gone { how: "released here", at: span };
            }
            Action::Leak => {
                self.not_in_session("`leak`", &span);
                self.needs_lease("`leak`", &span);
                self.lease = Lease::Gone { how: "leaked here", at: span };
            }
            Action::Invalidate => {
                self.not_in_session("`invalidate`", &span);
                self.needs_lease("`invalidate`", &span);
                self.lease = Lease::Gone { how: "invalidated here", at: span };
            }
            Action::Detach => {
                self.not_in_session("`detach`", &span);
                if let Lease::Detached { at } = &self.lease {
                    self.push(
                        Diagnostic::new("scenario::lease", span.clone(), "the connection is detached already")
                            .label("a second `detach`")
                            .note(at.clone(), "detached here"),
                    );
                }
                self.needs_lease("`detach`", &span);
                self.lease = match self.lease {
                    Lease::Held { .. } | Lease::Detached { .. } => Lease::Detached { at: span },
                    _ => Lease::Perhaps,
                };
            }
            Action::Panic => self.ended = Some(span),
            Action::Abandon { .. } if left == 0 => self.push(
                Diagnostic::new("scenario::no_effect", span, "nothing is left to be abandoned")
                    .label("the last step")
                    .help("`abandon` comes before the steps in whose middle the actor is dropped")
                    .warning(),
            ),
            Action::NewPool => self.own_pool = true,
            Action::DropPool | Action::LosePool => {
                if !self.own_pool {
                    let verb = if draft.step.action == Action::DropPool { "drop" } else { "lose" };
                    let message = format!("the actor has no pool of its own to {verb}");
                    self.push(
                        Diagnostic::new("scenario::own_pool", span, message)
                            .label("needs `new pool` before")
                            .help("the app's pool can be closed (`close pool`), but other actors use it too"),
                    );
                }
                self.own_pool = false;
            }
            Action::Repeat { times, .. } => {
                self.steps(&draft.body);
                if *times > 1 && self.ended.is_none() {
                    self.again(draft);
                }
                if cancelled {
                    self.lease = Lease::Perhaps;
                    self.ended = None;
                }
            }
            Action::While { .. } => {
                // Perhaps not once, perhaps often.
                let before = self.lease.clone();
                self.steps(&draft.body);
                if self.ended.take().is_none() {
                    self.again(draft);
                }
                if cancelled || self.lease != before {
                    self.lease = Lease::Perhaps;
                }
            }
            Action::Put { .. }
            | Action::Take(_)
            | Action::Done(_)
            | Action::Join(_)
            | Action::Kill(_)
            | Action::Collect
            | Action::Allocate { .. }
            | Action::DisposePool
            | Action::Abandon { .. }
            | Action::Hold { .. }
            | Action::ClosePool
            | Action::Resize(_)
            | Action::Status
            | Action::Spawn { .. } => {}
        }
    }

    /// The second round of a repetition: it begins with what the first one left. One mistake says so.
    fn again(&mut self, draft: &DraftStep) {
        let first = draft.body.iter().find(|step| !matches!(step.step.action, Action::Hold { .. } | Action::Status));
        let Some(first) = first else { return };
        match (&first.step.action, &self.lease) {
            (Action::Acquire { .. }, Lease::Held { at }) => self.push(
                Diagnostic::new("scenario::lease", first.span.clone(), "the second round holds a lease already")
                    .label("a second acquire")
                    .note(at.clone(), "acquired in the first round, and not released")
                    .help("end the repetition with `release`"),
            ),
            (
                Action::Sql(_) | Action::Prepared(_) | Action::Begin | Action::Commit | Action::Rollback,
                Lease::Gone { how, at },
            ) => self.push(
                Diagnostic::new("scenario::lease", first.span.clone(), "the second round has no lease")
                    .label("needs a lease")
                    .note(at.clone(), format!("{how} in the first round")),
            ),
            _ => {}
        }
        // What the last round leaves is what a round leaves that begins with the first one's end.
        let quiet = std::mem::replace(&mut self.quiet, true);
        self.steps(&draft.body);
        self.quiet = quiet;
    }

    /// What comes at the end, whatever came before.
    fn finally(&mut self, steps: &[DraftStep]) {
        self.ended = None;
        self.own_pool = true;
        self.carries_on = true;
        self.lease = Lease::Perhaps;
        self.steps(steps);
    }

    fn needs_session(&mut self, what: &str, span: &Span) {
        if !matches!(self.lease, Lease::Session { .. } | Lease::Perhaps) {
            self.push(
                Diagnostic::new("scenario::session", span.clone(), format!("{what} needs a session"))
                    .label("no `session` before"),
            );
            self.lease = Lease::Perhaps;
        }
    }

    fn not_in_session(&mut self, what: &str, span: &Span) {
        if let Lease::Session { at } = &self.lease {
            self.push(
                Diagnostic::new("scenario::session", span.clone(), format!("{what} has no place in a session"))
                    .label("the session takes and returns its connection by itself")
                    .note(at.clone(), "the session begins here")
                    .help("`commit`, `rollback` and `remove session` return it"),
            );
            self.lease = Lease::Perhaps;
        }
    }

    fn needs_lease(&mut self, what: &str, span: &Span) {
        let diagnostic = Diagnostic::new("scenario::lease", span.clone(), format!("{what} needs a lease"));
        match &self.lease {
            Lease::Never => self.push(diagnostic.label("no `acquire` before")),
            Lease::Gone { how, at } => {
                self.push(diagnostic.label("the actor has none any more").note(at.clone(), *how));
            }
            Lease::Held { .. } | Lease::Detached { .. } | Lease::Session { .. } | Lease::Perhaps => return,
        }
        // One mistake is enough for what follows from it.
        self.lease = Lease::Perhaps;
    }
}

/// The workloads that these steps spawn, with the places of the steps.
fn spawned(steps: &[DraftStep]) -> Box<dyn Iterator<Item = (&str, &Span)> + '_> {
    Box::new(steps.iter().flat_map(|draft| -> Box<dyn Iterator<Item = (&str, &Span)>> {
        match &draft.step.action {
            Action::Spawn { workload, .. } => Box::new(std::iter::once((workload.as_str(), &draft.span))),
            _ => spawned(&draft.body),
        }
    }))
}

fn spawns_exist(log: &Log<'_>, steps: &[DraftStep], workloads: &IndexMap<String, Draft>) {
    for (name, span) in spawned(steps) {
        let place = name_in_spawn(log.text, span, name);
        match workloads.get(name) {
            None => log.push(
                Diagnostic::new("scenario::undefined_workload", place, format!("there is no workload `{name}`"))
                    .label("unknown workload")
                    .maybe_help(suggest(name, workloads.keys().map(String::as_str))),
            ),
            Some(target) if target.never() == Some(false) => log.push(
                Diagnostic::new(
                    "scenario::spawn",
                    place,
                    format!("the workload `{name}` arrives by itself, and can't be spawned"),
                )
                .label("needs `arrive = \"never\"`")
                .note(target.span.clone(), "this workload"),
            ),
            Some(_) => {}
        }
    }
}

/// The place of the workload's name in a `spawn` step, or the step.
fn name_in_spawn(text: &str, span: &Span, name: &str) -> Span {
    let raw = text.get(span.clone()).unwrap_or_default();
    let verb = raw.find("spawn").map_or(0, |at| at + "spawn".len());
    let found = raw[verb..].find(name).map(|at| span.start + verb + at);
    found.map_or(span.clone(), |at| at..at + name.len())
}

/// Workloads that spawn each other in a circle would never end.
fn cycles(log: &Log<'_>, workloads: &IndexMap<String, Draft>) {
    for (name, draft) in workloads {
        for (target, span) in spawned(&draft.steps) {
            // Whether `name` can be reached again from the workload that it spawns.
            let mut seen: Vec<&str> = vec![target];
            let mut next = 0;
            while let Some(reached) = seen.get(next).copied() {
                next += 1;
                let Some(reached) = workloads.get(reached) else {
                    continue;
                };
                for (further, _) in spawned(&reached.steps) {
                    if !seen.contains(&further) {
                        seen.push(further);
                    }
                }
            }
            if draft.never() != Some(false) && seen.contains(&name.as_str()) {
                let message = format!("`{name}` spawns itself, directly or by way of `{target}`: it would never end");
                log.push(Diagnostic::new("scenario::spawn_cycle", span.clone(), message).label("closes the circle"));
            }
        }
    }
}
