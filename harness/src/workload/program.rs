//! A workload made ready to run: names resolved to places, texts prepared once, so that a step costs no more than what it
//! does.

use std::collections::BTreeSet;
use std::ops::RangeFrom;
use std::sync::Arc;
use std::time::Duration;

use crate::scenario::model::{Action, Arrive, Cancel, FaultAction, OnError, Scenario, Step, Workload, each_step};
use crate::scenario::{action_text, can_wait};

/// A workload, ready to run.
pub(super) struct Program {
    pub(super) name: Arc<str>,
    pub(super) app: Arc<str>,
    pub(super) arrive: Arrive,
    pub(super) from: Duration,
    pub(super) until: Duration,
    pub(super) on_error: OnError,
    pub(super) steps: Box<[Code]>,
    /// What it does at its end.
    pub(super) finally: Box<[Code]>,
    /// Whether an actor of it may be abandoned, and needs a timer for that.
    pub(super) abandons: bool,
}

/// A step.
pub(super) struct Code {
    pub(super) op: Op,
    /// Its place among the workload's steps, those of repetitions behind their repetition and those of `finally` at the
    /// end, from 0.
    pub(super) place: u32,
    /// Whether it may have to wait.
    pub(super) can_wait: bool,
    /// When it is cancelled, with the step's text for the trace.
    pub(super) cancel: Option<(Cancel, Arc<str>)>,
}

/// What a step does; see [`Action`].
pub(super) enum Op {
    Acquire { deadline: Option<Duration> },
    Sql { text: Template, prepared: bool, effect: Effect },
    Hold { min: Duration, max: Duration },
    ExpectRow { text: Template },
    Flush { text: Template },
    Session,
    RemoveSession,
    Release,
    Leak,
    Lose,
    Collect,
    Allocate { min: u32, max: u32 },
    Put { queue: usize, after: Duration, payload: Template },
    Take { queue: usize },
    Done { queue: usize },
    Join { queue: usize },
    While { queue: usize, steps: Box<[Code]> },
    Kill { program: usize },
    Abandon { after: Duration },
    Panic,
    Detach,
    Invalidate,
    ClosePool,
    NewPool,
    DropPool,
    DisposePool,
    LosePool,
    Resize(u32),
    Status,
    Spawn { program: usize, wait: bool },
    Repeat { times: u32, steps: Box<[Code]> },
}

/// What a statement does to the transaction, as an application that wrote it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It opens one.
    Begins,
    /// It ends one.
    Ends,
    /// Neither.
    Keeps,
}

/// All workloads of a scenario, in the order of the file.
pub(super) fn programs(scenario: &Scenario) -> Vec<Arc<Program>> {
    let compile = |(name, workload): (&String, &Workload)| {
        let mut places = 0..;
        let steps = codes(&workload.steps, scenario, &mut places);
        Arc::new(Program {
            name: Arc::from(name.as_str()),
            app: Arc::from(workload.app.as_str()),
            arrive: workload.arrive.clone(),
            from: workload.from,
            until: workload.until.unwrap_or(scenario.expect.until),
            on_error: workload.on_error,
            abandons: abandons(&steps),
            steps,
            finally: codes(&workload.finally, scenario, &mut places),
        })
    };
    scenario.workloads.iter().map(compile).collect()
}

/// What a pool must be able to do for the scenario's steps to make sense, by the names of [`Capabilities`]' fields.
///
/// [`Capabilities`]: crate::pool::Capabilities
#[must_use]
pub fn needs(scenario: &Scenario) -> BTreeSet<&'static str> {
    let mut needs = BTreeSet::new();
    let mut add = |step: &Step| {
        needs.extend(match step.action {
            Action::ClosePool => Some("close"),
            Action::Resize(_) => Some("resize"),
            Action::Detach => Some("detach"),
            Action::Invalidate => Some("invalidate"),
            Action::DisposePool => Some("dispose"),
            _ => None,
        });
    };
    for workload in scenario.workloads.values() {
        each_step(&workload.steps, &mut add);
        each_step(&workload.finally, &mut add);
    }
    if scenario.faults.iter().any(|fault| matches!(fault.action, FaultAction::Manager { .. })) {
        needs.insert("manager");
    }
    needs
}

fn codes(steps: &[Step], scenario: &Scenario, places: &mut RangeFrom<u32>) -> Box<[Code]> {
    let code = |step: &Step| Code {
        place: places.next().expect("they don't end"),
        op: op(&step.action, scenario, places),
        can_wait: can_wait(&step.action),
        cancel: step.cancel.map(|cancel| (cancel, Arc::from(step_text(&step.action)))),
    };
    steps.iter().map(code).collect()
}

fn op(action: &Action, scenario: &Scenario, places: &mut RangeFrom<u32>) -> Op {
    let queue = |name: &str| scenario.queues.get_index_of(name).expect("the parser resolved the queue's name");
    let workload = |name: &str| scenario.workloads.get_index_of(name).expect("the parser resolved the workload's name");
    let simple = |text: &str| Op::Sql { text: Template::new(text), prepared: false, effect: Effect::of(text) };
    match action {
        Action::Acquire { deadline } => Op::Acquire { deadline: *deadline },
        Action::Sql(text) => simple(text),
        Action::Prepared(text) => Op::Sql { text: Template::new(text), prepared: true, effect: Effect::of(text) },
        Action::Begin => simple("BEGIN"),
        Action::Commit => simple("COMMIT"),
        Action::Rollback => simple("ROLLBACK"),
        Action::Hold { min, max } => Op::Hold { min: *min, max: *max },
        Action::ExpectRow(text) => Op::ExpectRow { text: Template::new(text) },
        Action::Flush(text) => Op::Flush { text: Template::new(text) },
        Action::Session => Op::Session,
        Action::RemoveSession => Op::RemoveSession,
        Action::Lose => Op::Lose,
        Action::Collect => Op::Collect,
        Action::Allocate { min, max } => Op::Allocate { min: *min, max: *max },
        Action::Put { queue: name, after, payload } => {
            Op::Put { queue: queue(name), after: *after, payload: Template::new(payload) }
        }
        Action::Take(name) => Op::Take { queue: queue(name) },
        Action::Done(name) => Op::Done { queue: queue(name) },
        Action::Join(name) => Op::Join { queue: queue(name) },
        Action::While { queue: name, steps } => Op::While { queue: queue(name), steps: codes(steps, scenario, places) },
        Action::Kill(name) => Op::Kill { program: workload(name) },
        Action::DisposePool => Op::DisposePool,
        Action::LosePool => Op::LosePool,
        Action::Release => Op::Release,
        Action::Leak => Op::Leak,
        Action::Abandon { after } => Op::Abandon { after: *after },
        Action::Panic => Op::Panic,
        Action::Detach => Op::Detach,
        Action::Invalidate => Op::Invalidate,
        Action::ClosePool => Op::ClosePool,
        Action::NewPool => Op::NewPool,
        Action::DropPool => Op::DropPool,
        Action::Resize(max_size) => Op::Resize(*max_size),
        Action::Status => Op::Status,
        Action::Spawn { workload: name, wait } => Op::Spawn { program: workload(name), wait: *wait },
        Action::Repeat { times, steps } => Op::Repeat { times: *times, steps: codes(steps, scenario, places) },
    }
}

fn abandons(steps: &[Code]) -> bool {
    steps.iter().any(|code| match &code.op {
        Op::Abandon { .. } => true,
        Op::Repeat { steps, .. } | Op::While { steps, .. } => abandons(steps),
        _ => false,
    })
}

impl Effect {
    /// By the first word of each statement. A `;` inside quotes splits what is one statement, whose second half begins
    /// with no transaction command unless someone wants to be clever.
    fn of(text: &str) -> Effect {
        text.split(';').fold(Effect::Keeps, |effect, statement| {
            let words: Vec<String> = statement.split_whitespace().map(str::to_ascii_lowercase).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["begin", ..] | ["start", "transaction", ..] => Effect::Begins,
                ["rollback", "to", ..] => effect,
                // The next transaction begins at once.
                ["commit" | "end" | "rollback" | "abort", .., "and", "chain"] => Effect::Begins,
                ["commit" | "end" | "rollback" | "abort", ..] => Effect::Ends,
                _ => effect,
            }
        })
    }
}

/// A statement's text with the actor's own numbers in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Template {
    /// It has none.
    Fixed(Arc<str>),
    /// It has some.
    Parts(Box<[Part]>),
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<str>),
    Actor,
    Process,
    Number,
    Payload,
}

/// The values of the variables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'v> {
    /// `$actor`: the actor's number in the run.
    pub(super) actor: u32,
    /// `$process`: its process's number in the run.
    pub(super) process: u32,
    /// `$n`: its number in its workload.
    pub(super) number: u64,
    /// `$payload`: its job's; empty without a job.
    pub(super) payload: &'v str,
}

impl Template {
    fn new(text: &str) -> Template {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let name = &rest[dollar + 1..];
            let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
            let part = match &name[..end] {
                "actor" => Some(Part::Actor),
                "process" => Some(Part::Process),
                "n" => Some(Part::Number),
                "payload" => Some(Part::Payload),
                // `$1`, `$$`, `$tag$`: PostgreSQL's own.
                _ => None,
            };
            match part {
                Some(part) => {
                    literal.push_str(&rest[..dollar]);
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal).into()));
                    }
                    parts.push(part);
                    rest = &name[end..];
                }
                None => {
                    literal.push_str(&rest[..=dollar]);
                    rest = name;
                }
            }
        }
        if parts.is_empty() {
            return Template::Fixed(Arc::from(text));
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Template::Parts(parts.into())
    }

    /// The text for one actor.
    pub(super) fn fill(&self, values: Values<'_>) -> Arc<str> {
        use std::fmt::Write;
        match self {
            Template::Fixed(text) => Arc::clone(text),
            Template::Parts(parts) => {
                let mut text = String::with_capacity(64);
                for part in parts {
                    let written = match part {
                        Part::Text(literal) => text.write_str(literal),
                        Part::Actor => write!(text, "{}", values.actor),
                        Part::Process => write!(text, "{}", values.process),
                        Part::Number => write!(text, "{}", values.number),
                        Part::Payload => text.write_str(values.payload),
                    };
                    written.expect("a String takes everything");
                }
                Arc::from(text)
            }
        }
    }
}

/// A step in words for the trace: without the times and ranges that a file gives it.
fn step_text(action: &Action) -> String {
    match action {
        Action::Acquire { .. } => "acquire".to_owned(),
        Action::Hold { .. } => "hold".to_owned(),
        Action::Spawn { workload, .. } => format!("spawn {workload}"),
        Action::Repeat { times, .. } => format!("repeat {times}"),
        other => action_text(other),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const VALUES: Values<'static> = Values { actor: 12, process: 3, number: 7, payload: "x y" };

    /// A scenario with these workloads, each a list of steps in TOML.
    fn with_steps(workloads: &[&str]) -> Scenario {
        let mut text = String::from("title = \"A test\"\nstory = \"A test.\"\n[app.web]\n[expect]\nuntil = \"1s\"\n");
        for (number, steps) in workloads.iter().enumerate() {
            let workload =
                format!("[workload.w{number}]\napp = \"web\"\narrive = {{ every = \"1s\" }}\nsteps = {steps}\n");
            text.push_str(&workload);
        }
        crate::scenario::parse("a test", &text).unwrap()
    }

    #[test]
    fn steps_need_what_the_pool_is_asked_to_do() {
        let needs_of = |workloads: &[&str]| Vec::from_iter(needs(&with_steps(workloads)));
        assert!(
            needs_of(&[r#"["acquire", "sql SELECT 1", "hold 1s", "release", "new pool", "drop pool"]"#]).is_empty()
        );
        assert_eq!(needs_of(&[r#"["close pool"]"#]), ["close"]);
        assert_eq!(needs_of(&[r#"["resize 3"]"#]), ["resize"]);
        assert_eq!(needs_of(&[r#"["acquire", "detach"]"#]), ["detach"]);
        assert_eq!(needs_of(&[r#"["acquire", "invalidate"]"#]), ["invalidate"]);
        // Also inside a repetition, behind a `cancel`, in a later workload, and each once.
        let nested =
            r#"[{ repeat = 2, steps = ["acquire", { repeat = 2, steps = ["resize 2", "resize 3"] }, "release"] }]"#;
        assert_eq!(needs_of(&[r#"["acquire", "release"]"#, nested]), ["resize"]);
        assert_eq!(needs_of(&[r#"["cancel after 1ms: close pool"]"#, r#"["acquire", "detach"]"#]), ["close", "detach"]);
    }

    /// A need that [`crate::verdict::can`] does not know would make every pool unsupported.
    #[test]
    fn needs_are_capabilities() {
        let steps = r#"["acquire", "invalidate", "acquire", "resize 2", "detach", "dispose pool", "close pool"]"#;
        let needs = needs(&with_steps(&[steps]));
        assert_eq!(needs.len(), 5);
        assert!(needs.iter().all(|need| crate::verdict::CAPABILITIES.contains(need)), "{needs:?}");
    }

    #[test]
    fn variables_are_filled_in_and_postgres_own_dollars_stay() {
        let fill = |text| Template::new(text).fill(VALUES).to_string();
        assert_eq!(fill("SELECT $actor, $process, $n"), "SELECT 12, 3, 7");
        assert_eq!(fill("$actor$n"), "127");
        assert_eq!(fill("mail '$payload'"), "mail 'x y'");
        assert_eq!(fill("SELECT $1, $$x$$, $name, $actors"), "SELECT $1, $$x$$, $name, $actors");
        assert_eq!(fill("at the end $"), "at the end $");
        assert_eq!(fill("ä$n ö"), "ä7 ö");
    }

    #[test]
    fn a_text_without_variables_is_shared() {
        let template = Template::new("SELECT $1");
        assert!(matches!(template, Template::Fixed(_)));
        assert!(Arc::ptr_eq(&template.fill(VALUES), &template.fill(VALUES)));
    }

    #[test]
    fn the_effect_on_the_transaction_is_that_of_the_last_command() {
        for (text, effect) in [
            ("begin", Effect::Begins),
            ("START TRANSACTION READ ONLY", Effect::Begins),
            ("COMMIT", Effect::Ends),
            ("BEGIN; SELECT 1; END", Effect::Ends),
            ("BEGIN; SAVEPOINT a; ROLLBACK TO a", Effect::Begins),
            ("COMMIT AND CHAIN", Effect::Begins),
            ("rollback work and chain;", Effect::Begins),
            ("COMMIT AND NO CHAIN", Effect::Ends),
            ("COMMIT AND CHAIN; COMMIT", Effect::Ends),
            ("SELECT 1", Effect::Keeps),
            ("", Effect::Keeps),
        ] {
            assert_eq!(Effect::of(text), effect, "{text}");
        }
    }
}
