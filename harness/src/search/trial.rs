//! What a worker is asked by a search: inputs to be made, run and looked at; and what it answers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::marks;
use super::mechanism::Mechanism;
use super::tell;
use crate::census::{self, Census};
use crate::cli::Engine;
use crate::invariant::{Violation, Violations};
use crate::pool::{Adapter, Capabilities};
use crate::report::Told;
use crate::run::{RunSpec, drive};
use crate::scenario::model::Scenario;
use crate::scenario::{Names, check, print};
use crate::strategy::{Dice, Feature, Swarm, drawn, perturbed};
use crate::trace::event::Event;
use crate::trace::recorder::{Options, Watch};
use crate::verdict::{self, Verdict};
use crate::worker::{Loss, Work};

/// How an input comes about. It is made where it is run, and made again where it is wanted: a recipe is smaller than a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Recipe {
    /// Drawn anew, with a few features or with a bit of everything.
    Drawn {
        /// Of the draw.
        seed: u64,
        /// Whether features are drawn first.
        swarm: bool,
    },
    /// Another one, with a few changes.
    Changed {
        /// Of the changes.
        seed: u64,
        /// The file that is changed.
        file: Arc<str>,
        /// One that parts may be taken from.
        other: Option<Arc<str>>,
    },
    /// A neighbour of a file, as a file, and what is changed in it.
    Neighbour {
        /// Its text.
        file: Arc<str>,
        /// What is changed.
        name: String,
    },
    /// A file as it is; its first seed is the run's.
    Given(Arc<str>),
}

/// In so many of a hundred drawn inputs what is ready at the same time comes in another order.
const ANOTHER_ORDER: u32 = 20;

/// A scenario and what is to be said of how it came about.
pub(crate) struct Made {
    /// What is run.
    pub(crate) scenario: Scenario,
    /// `crowd cancel*2`, `changed`, `given`
    pub(crate) features: String,
}

impl Recipe {
    /// Makes the input, for a pool that can do this. Every input is printed and read again, so that each is a file.
    ///
    /// # Errors
    /// What the reader of scenario files has against it.
    pub(crate) fn make(&self, capabilities: &Capabilities) -> Result<Made, String> {
        let (scenario, features) = match self {
            Recipe::Drawn { seed, swarm } => {
                let mut dice = Dice::new(*seed, "drawn input");
                let swarm = if *swarm {
                    // From a stream of its own: what else is drawn does not depend on it.
                    let order = Dice::new(*seed, "another order").chance(ANOTHER_ORDER);
                    Swarm::draw(&mut dice, capabilities).with(Feature::Interleave, u8::from(order))
                } else {
                    Swarm::everything(capabilities)
                };
                let features = swarm.to_string();
                (drawn(&mut dice, swarm, capabilities), features)
            }
            Recipe::Changed { seed, file, other } => {
                let other = other.as_ref().map(|other| read(other)).transpose()?;
                let mut dice = Dice::new(*seed, "changed input");
                (perturbed(&mut dice, &read(file)?, other.as_ref(), capabilities), "changed".to_owned())
            }
            Recipe::Neighbour { file, name } => return Ok(Made { scenario: read(file)?, features: name.clone() }),
            Recipe::Given(text) => return Ok(Made { scenario: read(text)?, features: "given".to_owned() }),
        };
        Ok(Made { scenario: read(&print(&scenario))?, features })
    }
}

/// Reads a file's text.
pub(crate) fn read(text: &str) -> Result<Scenario, String> {
    let checked = check("input.toml", text, &Names::default());
    checked.scenario.ok_or_else(|| format!("{:?}", checked.report))
}

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// The pool's name.
    pub(crate) pool: String,
    /// What is run, one after another.
    pub(crate) inputs: Vec<Recipe>,
    /// What for.
    pub(crate) aim: Aim,
}

/// What a trial is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Aim {
    /// To see what each comes to.
    Look,
    /// To find the first that shows this [key](Mechanism::key), and does not violate anything with another pool.
    FirstWith {
        /// What it must show.
        key: String,
        /// The pool that it must be innocent with.
        innocent: Option<String>,
    },
    /// To count the places of the only one, at which neighbours may differ from it.
    Count,
    /// To tell what happens.
    Tell {
        /// The violation that the story leads to.
        key: String,
    },
}

/// What comes of a trial.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// What each input came to.
    Looked(Vec<Seen>),
    /// The place of the first that shows what was sought, and how many were run.
    First(Option<usize>, u32),
    /// What happens, a sentence a line, and what the run came to.
    Told(Vec<String>, Seen),
    /// The places of the input.
    Counted(Places),
    /// The worker was lost over one of them.
    Lost(Box<Seen>),
}

impl Answer {
    /// What a run that was to be told came to, and what happens in it; nothing is told of a lost one.
    pub(super) fn told(self) -> Option<(Vec<String>, Seen)> {
        match self {
            Answer::Told(story, seen) => Some((story, seen)),
            Answer::Lost(seen) => Some((Vec::new(), *seen)),
            Answer::Looked(_) | Answer::First(..) | Answer::Counted(_) => None,
        }
    }
}

/// The places of a run at which neighbours of its scenario may differ from it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Places {
    /// Workload, place of the step, number of the actor, wakes: see [`census::Census::steps`].
    pub(crate) steps: Vec<(String, u32, u64, u32)>,
    /// Dial, whether to the server, whole messages.
    pub(crate) messages: Vec<(u32, bool, u32)>,
    /// The milliseconds of the fault phase at which anything happened.
    pub(crate) instants: Vec<u64>,
}

/// What one input came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// How the run ended.
    pub(crate) end: End,
    /// Of each violated invariant the first violation, the earliest first.
    pub(crate) breaches: Vec<Breach>,
    /// Marks that this worker has not told of before.
    pub(crate) marks: Vec<String>,
    /// What the input is made of.
    pub(crate) features: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// Every invariant held.
    Pass,
    /// Not every one.
    Violated,
    /// Nothing can be said of it: the pool can't do it, or the machine.
    Unknown(String),
    /// No file could be made of it.
    Invalid(String),
    /// poolproof has a bug.
    Bug(String),
}

/// Where an invariant broke.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Breach {
    /// How it came about.
    pub(crate) mechanism: Mechanism,
    /// The violation, as it is told.
    pub(crate) sentence: String,
}

impl Seen {
    fn ended(end: End, features: &str) -> Seen {
        Seen { end, breaches: Vec::new(), marks: Vec::new(), features: features.to_owned() }
    }

    /// Whether it shows this key.
    pub(crate) fn shows(&self, key: &str) -> bool {
        self.breaches.iter().any(|breach| breach.mechanism.key() == key)
    }
}

impl Work for Trial {
    type Report = Answer;

    const KIND: &'static str = "search";

    fn run(&self) -> Answer {
        let engine = Engine::installed();
        let Some(adapter) = engine.pool(&self.pool) else {
            let bug = End::Bug(format!("the worker knows no pool {}", self.pool));
            return Answer::Looked(self.inputs.iter().map(|_| Seen::ended(bug.clone(), "")).collect());
        };
        match &self.aim {
            Aim::Look => {
                let mut seen: Vec<Seen> = self.inputs.iter().map(|recipe| look(recipe, &adapter)).collect();
                tell_new_marks(&mut seen);
                Answer::Looked(seen)
            }
            Aim::FirstWith { key, innocent } => {
                let innocent = innocent.as_ref().and_then(|name| engine.pool(name));
                let mut runs = 0;
                let first = self.inputs.iter().position(|recipe| {
                    runs += 1;
                    if !look(recipe, &adapter).shows(key) {
                        return false;
                    }
                    innocent.as_ref().is_none_or(|innocent| {
                        runs += 1;
                        look(recipe, innocent).end == End::Pass
                    })
                });
                Answer::First(first, runs)
            }
            Aim::Count => match self.inputs.first().map(|recipe| count_places(recipe, &adapter)) {
                Some(Ok(places)) => Answer::Counted(places),
                Some(Err(end)) => Answer::Lost(Box::new(Seen::ended(end, ""))),
                None => Answer::Looked(Vec::new()),
            },
            Aim::Tell { key } => match self.inputs.first() {
                Some(recipe) => told(recipe, &adapter, key),
                None => Answer::Looked(Vec::new()),
            },
        }
    }

    fn lost(&self, loss: &Loss) -> Answer {
        let told = Told::lost(0, loss);
        let end = match (&told.bug, &told.report.verdict) {
            (Some(bug), _) => End::Bug(bug.clone()),
            (None, Verdict::Violations(_)) => End::Violated,
            (None, Verdict::Unknown { reason }) => End::Unknown(reason.clone()),
            (None, _) => End::Unknown("it was lost".to_owned()),
        };
        let violations = match &told.report.verdict {
            Verdict::Violations(list) => list.as_slice(),
            _ => &[],
        };
        let breaches = violations.iter().map(|violation| Breach {
            mechanism: Mechanism::of(violation, &[], None),
            sentence: violation.to_string(),
        });
        Answer::Lost(Box::new(Seen { breaches: breaches.collect(), ..Seen::ended(end, "") }))
    }
}

/// Only what is new to this process is told: the campaign keeps what it was told.
fn tell_new_marks(all: &mut [Seen]) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    for seen in all {
        seen.marks.retain(|mark| told.insert(mark.clone()));
    }
}

/// A run, and all that happened in it.
struct Ran {
    violations: Violations,
    events: Vec<Event>,
    /// Why nothing can be said of it.
    unknown: Option<String>,
}

fn run(scenario: &Arc<Scenario>, adapter: &Arc<dyn Adapter>) -> Result<Ran, String> {
    drive_through(scenario, adapter, false).map(|(ran, _)| ran)
}

/// Drives a scenario through, and takes a census of it if that is wanted.
fn drive_through(scenario: &Arc<Scenario>, adapter: &Arc<dyn Adapter>, counts: bool) -> Result<(Ran, Census), String> {
    let spec = RunSpec {
        scenario: Arc::clone(scenario),
        adapter: Arc::clone(adapter),
        seed: scenario.seeds.first().copied().unwrap_or(1),
    };
    let capabilities = adapter.capabilities();
    let ran = poolproof_sim::runtime::run(spec.seed, async move || {
        let options = Options { watch: Some(Watch::new(&spec.scenario, capabilities)), out: None, keep: true };
        if counts {
            census::begin();
        }
        let driven = drive(&spec, options).await?;
        let census = census::take();
        let events = driven.recorder.take_events();
        let finished = driven.recorder.finish().map_err(|error| error.to_string())?;
        Ok::<_, String>((events, finished, driven.mistakes, census))
    });
    match ran {
        Ok(Ok((events, Some(finished), mistakes, census))) => {
            let lacks = finished.figures.refused.not_supported();
            let unknown = if mistakes.is_empty() { lacks } else { Some(mistakes.join("; ")) };
            Ok((Ran { violations: finished.violations, events, unknown }, census))
        }
        Ok(Ok((_, None, ..))) => Err("the run was not watched".to_owned()),
        Ok(Err(reason)) => {
            let ran = Ran { violations: Violations::default(), events: Vec::new(), unknown: Some(reason) };
            Ok((ran, Census::default()))
        }
        Err(failure) => Err(failure.to_string()),
    }
}

/// Runs a scenario, and counts its places.
pub(super) fn count_places(recipe: &Recipe, adapter: &Arc<dyn Adapter>) -> Result<Places, End> {
    let made = recipe.make(&adapter.capabilities()).map_err(End::Invalid)?;
    let lacks = verdict::lacks_in_virtual_time(&made.scenario, &**adapter);
    if !lacks.is_empty() {
        return Err(End::Unknown(format!("it lacks {}", lacks.join(", "))));
    }
    let scenario = Arc::new(made.scenario);
    let until = scenario.expect.until;
    let (ran, census) = drive_through(&scenario, adapter, true).map_err(End::Bug)?;
    if let Some(why) = ran.unknown {
        return Err(End::Unknown(why));
    }
    let in_time = ran.events.iter().map(|event| event.at).take_while(|at| *at < until);
    let instants: BTreeSet<u64> = in_time.map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)).collect();
    let steps = census.steps.into_iter();
    Ok(Places {
        steps: steps.map(|((workload, place, actor), (_, wakes))| (workload, place, actor, wakes)).collect(),
        messages: census.messages.into_iter().map(|((dial, to_server), count)| (dial, to_server, count)).collect(),
        instants: instants.into_iter().collect(),
    })
}

fn look(recipe: &Recipe, adapter: &Arc<dyn Adapter>) -> Seen {
    look_closely(recipe, adapter).0
}

/// What an input comes to, with the scenario and the run.
fn look_closely(recipe: &Recipe, adapter: &Arc<dyn Adapter>) -> (Seen, Option<(Arc<Scenario>, Ran)>) {
    let made = match recipe.make(&adapter.capabilities()) {
        Ok(made) => made,
        Err(wrong) => return (Seen::ended(End::Invalid(wrong), "invalid"), None),
    };
    let Made { scenario, features } = made;
    let lacks = verdict::lacks_in_virtual_time(&scenario, &**adapter);
    if !lacks.is_empty() {
        return (Seen::ended(End::Unknown(format!("it lacks {}", lacks.join(", "))), &features), None);
    }
    let scenario = Arc::new(scenario);
    let ran = match run(&scenario, adapter) {
        Ok(ran) => ran,
        Err(bug) => return (Seen::ended(End::Bug(bug), &features), None),
    };
    if let Some(reason) = &ran.unknown {
        return (Seen::ended(End::Unknown(reason.clone()), &features), None);
    }
    let breaches = breaches(&ran, &scenario);
    let end = if breaches.is_empty() { End::Pass } else { End::Violated };
    let marks = marks::reached(&ran.events, &scenario).into_iter().collect();
    (Seen { end, breaches, marks, features }, Some((scenario, ran)))
}

/// The first violation of each invariant that the scenario does not excuse, the earliest first.
fn breaches(ran: &Ran, scenario: &Scenario) -> Vec<Breach> {
    let excused = |violation: &Violation| {
        scenario.expect.excuses.iter().any(|excuse| excuse.pool.is_none() && excuse.invariant == violation.invariant)
            || scenario.expect.violations.iter().any(|declared| declared.invariant == violation.invariant)
    };
    let mut firsts: Vec<&Violation> = Vec::new();
    for violation in ran.violations.list().iter().filter(|violation| !excused(violation)) {
        if !firsts.iter().any(|first| first.invariant == violation.invariant) {
            firsts.push(violation);
        }
    }
    firsts.sort_by_key(|violation| violation.at);
    let breach = |violation: &&Violation| Breach {
        mechanism: Mechanism::of(violation, &ran.events, Some(scenario)),
        sentence: violation.to_string(),
    };
    firsts.iter().map(breach).collect()
}

fn told(recipe: &Recipe, adapter: &Arc<dyn Adapter>, key: &str) -> Answer {
    let (seen, ran) = look_closely(recipe, adapter);
    let lines = ran.and_then(|(scenario, ran)| {
        let place = seen.breaches.iter().position(|breach| breach.mechanism.key() == key)?;
        let invariant = seen.breaches[place].mechanism.invariant.as_str();
        let violation = ran.violations.list().iter().find(|violation| violation.invariant == invariant)?;
        Some(tell::story(violation, &ran.events, &scenario))
    });
    Answer::Told(lines.unwrap_or_default(), seen)
}
