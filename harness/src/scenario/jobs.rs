//! Whether the queues that workloads name exist, can be reached, and are used in an order that makes sense; and whether
//! the actors that a step kills can be there.

use indexmap::IndexMap;

use super::model::{Action, Arrive, Queue};
use super::parse::{Draft, DraftStep};
use super::reader::{At, Log, Span, suggest};
use super::report::Diagnostic;

/// Checks all workloads.
pub(super) fn queues(log: &Log<'_>, workloads: &IndexMap<String, Draft>, queues: &IndexMap<String, At<Queue>>) {
    for draft in workloads.values() {
        let mut check = Check { log, draft, workloads, queues, taken: Vec::new(), spawned: Vec::new() };
        let of_arrival = draft.arrive.as_ref().and_then(|arrive| match &arrive.value {
            Arrive::Jobs { queue, .. } => Some((queue.as_str(), &arrive.span)),
            _ => None,
        });
        if let Some((queue, span)) = of_arrival {
            check.exists(queue, span);
        }
        check.steps(&draft.steps, of_arrival);
        check.steps(&draft.finally, of_arrival);
    }
    for (name, queue) in queues {
        let used = |draft: &Draft| {
            let by_arrival = matches!(
                draft.arrive.as_ref().map(|arrive| &arrive.value),
                Some(Arrive::Jobs { queue, .. }) if queue == name
            );
            by_arrival || takes(&draft.steps, name)
        };
        if !workloads.values().any(used) {
            log.push(
                Diagnostic::new(
                    "scenario::unused_queue",
                    queue.span.clone(),
                    format!("nobody takes jobs of the queue `{name}`"),
                )
                .label("its jobs are never done")
                .help(format!(
                    "a workload takes them by `arrive = {{ jobs = \"{name}\", workers = 4 }}` or by `take {name}`"
                ))
                .warning(),
            );
        }
    }
}

fn takes(steps: &[DraftStep], queue: &str) -> bool {
    steps.iter().any(|draft| match &draft.step.action {
        Action::Take(name) => name == queue,
        _ => takes(&draft.body, queue),
    })
}

struct Check<'c, 't> {
    log: &'c Log<'t>,
    draft: &'c Draft,
    workloads: &'c IndexMap<String, Draft>,
    queues: &'c IndexMap<String, At<Queue>>,
    taken: Vec<String>,
    spawned: Vec<String>,
}

impl Check<'_, '_> {
    fn steps(&mut self, steps: &[DraftStep], of_arrival: Option<(&str, &Span)>) {
        for draft in steps {
            let span = &draft.span;
            match &draft.step.action {
                Action::Put { queue, .. } | Action::Join(queue) | Action::While { queue, .. } => {
                    self.exists(queue, &self.place(span, queue));
                }
                Action::Take(queue) => {
                    self.exists(queue, &self.place(span, queue));
                    if let Some((_, arrival)) = of_arrival {
                        self.log.push(
                            Diagnostic::new("scenario::job", span.clone(), "the actor has a job already")
                                .label("a second job")
                                .note(arrival.clone(), "it arrives with one"),
                        );
                    }
                    self.taken.push(queue.clone());
                }
                Action::Done(queue) => {
                    self.exists(queue, &self.place(span, queue));
                    self.done(queue, span, of_arrival);
                }
                Action::Spawn { workload, .. } => self.spawned.push(workload.clone()),
                Action::Kill(workload) => self.kill(workload, span),
                _ => {}
            }
            self.steps(&draft.body, of_arrival);
        }
    }

    fn done(&self, queue: &str, span: &Span, of_arrival: Option<(&str, &Span)>) {
        let diagnostic = |message: &str| Diagnostic::new("scenario::job", span.clone(), message);
        if let Some((_, arrival)) = of_arrival {
            self.log.push(
                diagnostic("the job is done when its actor ends")
                    .label("needs no `done`")
                    .note(arrival.clone(), "the actor arrives with its job"),
            );
        } else if !self.taken.iter().any(|taken| taken == queue) {
            self.log.push(diagnostic("the actor has no job of this queue").label(format!("no `take {queue}` before")));
        }
    }

    fn kill(&self, workload: &str, span: &Span) {
        let place = self.place(span, workload);
        if !self.workloads.contains_key(workload) {
            self.log.push(
                Diagnostic::new("scenario::undefined_workload", place, format!("there is no workload `{workload}`"))
                    .label("unknown workload")
                    .maybe_help(suggest(workload, self.workloads.keys().map(String::as_str))),
            );
        } else if !self.spawned.iter().any(|spawned| spawned == workload) {
            self.log.push(
                Diagnostic::new("scenario::job", place, format!("the actor has not spawned any `{workload}`"))
                    .label(format!("no `spawn {workload}` before"))
                    .help("an actor kills those that it spawned; the fault `actor.kill` kills any"),
            );
        }
    }

    /// The queue exists, and is not in the memory of another app.
    fn exists(&self, queue: &str, place: &Span) {
        let Some(found) = self.queues.get(queue) else {
            self.log.push(
                Diagnostic::new("scenario::undefined_queue", place.clone(), format!("there is no queue `{queue}`"))
                    .label("unknown queue")
                    .help(
                        suggest(queue, self.queues.keys().map(String::as_str))
                            .unwrap_or_else(|| format!("a queue is defined by `[queue.{queue}]`")),
                    ),
            );
            return;
        };
        if let (Some(owner), Some(app)) = (&found.value.app, &self.draft.app)
            && *owner != app.value
        {
            self.log.push(
                Diagnostic::new(
                    "scenario::out_of_reach",
                    place.clone(),
                    format!("the queue `{queue}` is in the memory of the app `{owner}`"),
                )
                .label(format!("`{}` can't reach it", app.value))
                .note(found.span.clone(), "defined here")
                .help("without `app` it is a broker's, which every app reaches"),
            );
        }
    }

    /// The place of a name in a step, or the step.
    fn place(&self, span: &Span, name: &str) -> Span {
        let raw = self.log.text.get(span.clone()).unwrap_or_default();
        let after_verb = raw.find(char::is_whitespace).unwrap_or(0);
        match raw[after_verb..].find(name) {
            Some(at) if raw.starts_with(['"', '\'']) => {
                let start = span.start + after_verb + at;
                start..start + name.len()
            }
            _ => span.clone(),
        }
    }
}
