//! Scenarios with pools, over seeds: what `run` prints and `compare` sets side by side.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::error::{Failure, Result};
use super::files::{ScenarioFile, Whole};
use super::job::Job;
use super::outcome::Judged;
use super::terminal::progress;
use super::{RunLimits, Seeds};
use crate::campaign::{self, Options, Workers};
use crate::pool::{Adapter, PUBLISHED};
use crate::report::Told;
use crate::scenario::built_in;
use crate::scenario::model::Scenario;
use crate::verdict::Verdict;
use crate::worker::Limits;
use crate::world::Place;

/// So many runs at once for each core, where time is real.
const REAL_AT_ONCE: usize = 4;

/// How runs are carried out.
pub(super) struct Plan<'a> {
    pub(super) jobs: Option<u16>,
    pub(super) limits: &'a RunLimits,
    pub(super) place: &'a Place,
}

/// A scenario with a pool.
pub(super) struct Pair<'a> {
    pub(super) file: &'a ScenarioFile,
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) runs: Vec<Told>,
    /// The world.
    pub(super) place: Place,
    /// Whether the seeds are those of the file.
    all_seeds: bool,
}

/// Runs to be done: each a job, and the place of its pair.
#[derive(Default)]
pub(super) struct Pairs<'a> {
    place: Place,
    pairs: Vec<Pair<'a>>,
    jobs: Vec<Job>,
    places: Vec<usize>,
    /// The file of each run's trace; empty when none is wanted.
    traces: Vec<Option<Whole>>,
}

impl<'a> Pairs<'a> {
    /// None yet, in this world.
    pub(super) fn at(place: Place) -> Pairs<'a> {
        Pairs { place, ..Pairs::default() }
    }

    /// One more: the scenario with the pool, for each seed that was asked for.
    pub(super) fn add(&mut self, file: &'a ScenarioFile, adapter: Arc<dyn Adapter>, asked: &Seeds) {
        let (seeds, all_seeds) = asked.of(&file.scenario, &self.place);
        self.add_with(file, adapter, &seeds, all_seeds);
    }

    /// One more, for these seeds; `all_seeds`: they are those of the file.
    pub(super) fn add_with(
        &mut self,
        file: &'a ScenarioFile,
        adapter: Arc<dyn Adapter>,
        seeds: &[u64],
        all_seeds: bool,
    ) {
        for &seed in seeds {
            self.places.push(self.pairs.len());
            self.jobs.push(Job {
                file: file.path.clone(),
                text: Arc::clone(&file.text),
                pool: adapter.name().to_owned(),
                seed,
                place: self.place.clone(),
                trace: None,
            });
        }
        self.pairs.push(Pair { file, adapter, runs: Vec::new(), place: self.place.clone(), all_seeds });
    }

    /// How many runs these are.
    pub(super) fn runs(&self) -> usize {
        self.jobs.len()
    }

    /// Asks for full traces: in this file when there is one run, in this folder for each.
    pub(super) fn trace(&mut self, path: &Path) -> Result<()> {
        let places = if path.is_dir() {
            trace_names(&self.jobs)?.into_iter().map(|name| path.join(name)).collect()
        } else if self.jobs.len() == 1 {
            vec![path.to_owned()]
        } else {
            return Err(Failure::sentence(format!(
                "--trace FILE is for one run, and these are {}: choose one with a file, --pool and --seed, or name a folder \
                 that exists",
                self.jobs.len()
            )));
        };
        for (job, place) in self.jobs.iter_mut().zip(places) {
            let whole = Whole::new(&place)?;
            job.trace = Some(whole.path().to_owned());
            self.traces.push(Some(whole));
        }
        Ok(())
    }

    /// Does all runs. A trace takes its place as soon as its run is over.
    pub(super) fn carry_out(mut self, engine: &Engine, plan: &Plan<'_>) -> Result<Vec<Pair<'a>>> {
        let bar = progress(self.jobs.len());
        let mut unplaced = None;
        let done = campaign::run_all(
            &self.jobs,
            &options(engine, plan),
            |count| bar.set_position(count as u64),
            |index, _, mut told| {
                if let Some(trace) = self.traces.get_mut(index).and_then(Option::take)
                    && let Err(failure) = trace.finish()
                {
                    unplaced.get_or_insert(failure);
                }
                // Thousands of them are more than anybody reads: `show` tells one.
                told.story = String::new();
                self.pairs[self.places[index]].runs.push(told);
            },
        );
        bar.finish_and_clear();
        done.map_err(|error| Failure::sentence(format!("can't start a worker: {error}")))?;
        unplaced.map_or(Ok(self.pairs), Err)
    }
}

/// `server_restart_fast.bb8.7.jsonl` for each run.
fn trace_names(jobs: &[Job]) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for job in jobs {
        let stem = job.file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}.{}.{}.jsonl", job.pool.replace(':', "-"), job.seed);
        if !names.insert(name.clone()) {
            return Err(Failure::sentence(format!("two files are called {stem}: their traces would be one")));
        }
        all.push(name);
    }
    Ok(all)
}

impl Pair<'_> {
    /// The scenario as it was run.
    pub(super) fn scenario(&self) -> Cow<'_, Scenario> {
        self.place.scenario(&self.file.scenario)
    }

    pub(super) fn judged(&self) -> Judged {
        Judged::of(&self.scenario(), self.adapter.name(), self.adapter.version(), &self.runs, self.all_seeds)
    }

    /// The runs that came to a verdict.
    pub(super) fn judged_runs(&self) -> impl Iterator<Item = &Told> {
        self.runs.iter().filter(|told| matches!(told.report.verdict, Verdict::Pass | Verdict::Violations(_)))
    }

    /// The greatest of a figure over all seeds; `None` where it was not measured.
    pub(super) fn greatest(&self, figure: &str) -> Option<f64> {
        self.judged_runs().filter_map(|told| told.report.figures.get(figure)).max_by(f64::total_cmp)
    }
}

impl Seeds {
    /// The seeds to run a scenario with, and whether they are all of its own.
    fn of(&self, scenario: &Scenario, place: &Place) -> (Vec<u64>, bool) {
        if let Some(seed) = self.seed {
            return (vec![seed], false);
        }
        match &self.seeds {
            Some(seeds) => (seeds.clone().collect(), false),
            // There no run is a function of its seed: more of them are more of the same.
            None if !place.is_virtual() => (scenario.seeds.first().copied().into_iter().collect(), false),
            None => (scenario.seeds.clone(), matches!(place, Place::Sim)),
        }
    }
}

/// The pools to run a file with: those that were asked for, those that its story is about, or all that are published. A file
/// that is shipped names published pools; where there are pools of one's own, it is run with these all the same.
pub(crate) fn pools_of(
    engine: &Engine,
    asked: &[String],
    file: &ScenarioFile,
    place: &Place,
) -> Result<Vec<Arc<dyn Adapter>>> {
    let is_ones_own = !engine.own.is_empty() && file.path.starts_with(built_in::FOLDER);
    pools(engine, if asked.is_empty() && !is_ones_own { &file.scenario.pools } else { asked }, place)
}

/// The pools of these names, or all that are published and can be run in this world.
pub(super) fn pools(engine: &Engine, names: &[String], place: &Place) -> Result<Vec<Arc<dyn Adapter>>> {
    let all = engine.all_pools();
    if names.is_empty() {
        return Ok(engine.default_pools(place));
    }
    let mut chosen: Vec<Arc<dyn Adapter>> = Vec::new();
    for name in names {
        let Some(adapter) = all.iter().find(|adapter| adapter.name() == name) else {
            if PUBLISHED.contains(&name.as_str()) {
                let sentence = format!("this build has no {name}: its cargo feature {name} is off");
                return Err(Failure::sentence(sentence));
            }
            let known: Vec<&str> = all.iter().map(|adapter| adapter.name()).collect();
            let near = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
            let hint = near.filter(|near| strsim::jaro(near, name) > 0.7);
            let hint = hint.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            return Err(Failure::sentence(format!("there is no pool {name}{hint}; `poolproof list pools` names all")));
        };
        if !chosen.iter().any(|other| other.name() == name) {
            chosen.push(Arc::clone(adapter));
        }
    }
    Ok(chosen)
}

/// Of a run that may stand still for so many seconds, and have so many MiB; 0 is no limit.
pub(super) fn limits(stall_after: u64, memory: u64) -> Limits {
    let stall = Duration::from_secs(stall_after);
    Limits { stall, total: stall * 20, memory: (memory > 0).then_some(memory << 20) }
}

pub(super) fn options(engine: &Engine, plan: &Plan<'_>) -> Options {
    let RunLimits { stall_after, memory } = *plan.limits;
    let default = Options::default();
    // In real time runs mostly wait; and what they started must be stopped by whoever hears Ctrl-C.
    let (place, jobs) = match plan.place {
        Place::Sim | Place::Turmoil => ((engine.workers)(), default.jobs),
        Place::Postgres(_) => (Workers::Here, default.jobs * REAL_AT_ONCE),
    };
    Options { jobs: plan.jobs.map_or(jobs, usize::from), place, limits: limits(stall_after, memory), ..default }
}
