//! A scenario with a pool, run and judged.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::campaign::{self, Options};
use crate::cli::Engine;
use crate::cli::files::ScenarioFile;
use crate::cli::job::Job;
use crate::cli::outcome::Judged;
use crate::pool::Adapter;
use crate::report::Told;
use crate::scenario::model::Scenario;
use crate::verdict::{self, Expectation};
use crate::worker::Work;
use crate::world::Place;

/// A scenario file with a pool.
#[derive(Clone)]
pub struct Case {
    pub(super) engine: Engine,
    pub(super) file: ScenarioFile,
    pub(super) place: PathBuf,
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) test: &'static str,
}

/// All seeds of a case, compared with what the scenario expects.
pub struct Judgement {
    /// How they came out, and why.
    pub expectation: Expectation,
    /// The first seed that shows why it is not as expected.
    pub seed: u64,
}

impl Case {
    /// The test's name: `server_crash::bb8`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}::{}", self.stem(), self.pool())
    }

    /// The scenario's file; `built-in/…` is inside the crate.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The file's place below the folder that was given, without its extension: `faults/server_crash`.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The file's name without its extension: the scenario's name in tests.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("scenario")
    }

    /// The scenario, as it is run with this pool.
    #[must_use]
    pub fn scenario(&self) -> &Scenario {
        &self.file.scenario
    }

    /// The pool's name.
    #[must_use]
    pub fn pool(&self) -> &'static str {
        self.adapter.name()
    }

    /// What the scenario needs and the pool can't do; empty when the case can be run.
    #[must_use]
    pub fn lacks(&self) -> Vec<String> {
        verdict::lacks_in_virtual_time(&self.file.scenario, &*self.adapter)
    }

    /// The command that tells one run's story.
    #[must_use]
    pub fn replay(&self, seed: u64) -> String {
        let (test, file, pool) =
            (self.test.split("::").next().unwrap_or_default(), self.file.path.display(), self.pool());
        format!("cargo test --test {test} -- poolproof show {file} --pool {pool} --seed {seed}")
    }

    /// Runs these seeds in worker processes, one after another. Each run's full trace is written where `trace` says for its
    /// place in `seeds`.
    ///
    /// # Errors
    /// The worker could not be started, or poolproof itself has a bug, as a sentence.
    pub fn run(&self, seeds: &[u64], trace: impl Fn(usize) -> Option<PathBuf>) -> Result<Vec<Told>, String> {
        let jobs: Vec<Job> = seeds.iter().enumerate().map(|(place, &seed)| self.job(seed, trace(place))).collect();
        let options = Options { jobs: 1, place: (self.engine.workers)(), ..Options::default() };
        let mut all = Vec::new();
        campaign::run_all(&jobs, &options, |_| (), |_, _, told| all.push(told))
            .map_err(|error| format!("can't start a worker: {error}"))?;
        match all.iter().find_map(|told| told.bug.as_ref()) {
            Some(bug) => Err(format!("poolproof has a bug: {bug}")),
            None => Ok(all),
        }
    }

    /// Runs one seed on a thread of this process. Nothing limits it.
    #[must_use]
    pub fn run_here(&self, seed: u64, trace: Option<PathBuf>) -> Told {
        self.job(seed, trace).run()
    }

    /// Compares the runs of the scenario's seeds with what it expects.
    #[must_use]
    pub fn judge(&self, runs: &[Told]) -> Judgement {
        let judged = Judged::of(&self.file.scenario, self.adapter.name(), self.adapter.version(), runs, true);
        Judgement { expectation: judged.expectation, seed: judged.seed }
    }

    fn job(&self, seed: u64, trace: Option<PathBuf>) -> Job {
        let (file, text, pool) = (self.file.path.clone(), Arc::clone(&self.file.text), self.pool().to_owned());
        if let Some(path) = &trace {
            // Where it can't be made, the run says so.
            let _told_by_the_run = File::create(path);
        }
        Job { file, text, pool, seed, place: Place::Sim, trace }
    }
}
