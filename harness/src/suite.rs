//! Scenario files as the tests of a test executable: every file with every published pool is a [`Case`], whose runs are
//! done by worker processes of that same executable.
//!
//! It stands on what the command line uses for `run`: the same files, the same workers, the same judgement. Left out: how
//! tests are named, filtered and told; that is `harness/tests/scenarios.rs`, on libtest-mimic.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::campaign::{self, Options};
use crate::cli::Engine;
use crate::cli::files::{self, ScenarioFile};
use crate::cli::job::Job;
use crate::cli::outcome::Judged;
use crate::cli::pairs::pools_of;
use crate::pool::Adapter;
use crate::report::Told;
use crate::scenario::model::Scenario;
use crate::verdict::{self, Expectation};
use crate::worker::{Work, become_worker_if_asked};

/// What the cases of a test executable stand on.
#[derive(Clone, Copy)]
pub struct Suite {
    engine: Engine,
}

impl Suite {
    /// Call it first in `main`: when this process is a worker, it works here, and ends.
    #[must_use]
    pub fn start(engine: Engine) -> Suite {
        let engine = engine.install();
        become_worker_if_asked::<Job>();
        Suite { engine }
    }

    /// Every scenario file below a folder with the pools that its story is about, or with every published one, in the
    /// order of the files' paths.
    ///
    /// # Errors
    /// Text for people: the folder can't be read, or files have mistakes, each told with its place.
    pub fn cases(&self, folder: &Path) -> Result<Vec<Case>, String> {
        let files = files::read_all(&self.engine, &[folder.to_owned()]).map_err(|failure| failure.to_string())?;
        let mut cases = Vec::new();
        for file in files {
            let pools = pools_of(&self.engine, &[], &file.scenario).map_err(|failure| failure.to_string())?;
            cases.extend(pools.into_iter().map(|adapter| Case { engine: self.engine, file: file.clone(), adapter }));
        }
        Ok(cases)
    }
}

/// A scenario file with a pool.
#[derive(Clone)]
pub struct Case {
    engine: Engine,
    file: ScenarioFile,
    adapter: Arc<dyn Adapter>,
}

/// All seeds of a case, compared with what the scenario expects.
pub struct Judgement {
    /// How they came out, and why.
    pub expectation: Expectation,
    /// The first seed that shows why it is not as expected.
    pub seed: u64,
}

impl Case {
    /// The scenario's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The file's name without its extension: the scenario's name in tests.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("scenario")
    }

    /// The scenario.
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
        verdict::lacks(&self.file.scenario, &self.adapter.capabilities())
    }

    /// The command that tells one run's story.
    #[must_use]
    pub fn replay(&self, seed: u64) -> String {
        let (file, pool) = (self.file.path.display(), self.pool());
        format!("cargo run --release -- show {file} --pool {pool} --seed {seed}")
    }

    /// Runs these seeds in one worker process, one after another. Each run's full trace is written where `trace` says
    /// for its place in `seeds`.
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

    /// Compares the runs of the file's seeds with what it expects.
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
        Job { file, text, pool, seed, trace }
    }
}
