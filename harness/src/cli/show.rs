//! `show`: one run, told as a story, or as its full trace.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::sync::Arc;

use super::ShowArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files::{self, Whole};
use super::job::Job;
use super::outcome::Judged;
use super::pairs::{Plan, options, pools};
use crate::report::Told;

pub(super) fn show(engine: &Engine, args: &ShowArgs) -> Result<Code> {
    let (file, report) = files::read(engine, &args.file)?;
    let Some(file) = file else {
        return Err(Failure::Files(vec![report]));
    };
    let place = args.world.place()?;
    let adapter = pools(engine, std::slice::from_ref(&args.pool), &place)?.remove(0);
    let _kept = place.open()?;
    let seed = args.seed.or_else(|| file.scenario.seeds.first().copied()).unwrap_or(1);
    // Never put in its place: gone when it is dropped.
    let trace = args.trace.then(|| Whole::new(&std::env::temp_dir().join("poolproof-trace.jsonl"))).transpose()?;
    let job = Job {
        file: file.path.clone(),
        text: Arc::clone(&file.text),
        pool: args.pool.clone(),
        seed,
        place: place.clone(),
        trace: trace.as_ref().map(|whole| whole.path().to_owned()),
    };
    let report = one(engine, &job, &Plan { jobs: Some(1), limits: &args.limits, place: &place })?;
    if let Some(bug) = report.bug {
        return Err(Failure::Bug(bug));
    }
    let mut out = anstream::stdout().lock();
    match &trace {
        Some(whole) => {
            let file = File::open(whole.path()).map_err(|error| Failure::io("read", whole.path(), &error))?;
            io::copy(&mut BufReader::new(file), &mut out)?;
        }
        None => write!(out, "{}", report.story)?,
    }
    out.flush()?;
    let judged = Judged::of(&place.scenario(&file.scenario), adapter.name(), adapter.version(), &[report], false);
    Ok(if judged.is_expected() { Code::Expected } else { Code::Unexpected })
}

fn one(engine: &Engine, job: &Job, plan: &Plan<'_>) -> Result<Told> {
    let mut report = None;
    let result = crate::campaign::run_all(
        std::slice::from_ref(job),
        &options(engine, plan),
        |_| (),
        |_, _, done| report = Some(done),
    );
    result.map_err(|error| Failure::sentence(format!("can't start a worker: {error}")))?;
    report.ok_or_else(|| Failure::Bug("a run gave no report".to_owned()))
}
