//! `run`: scenarios × pools × seeds, as a table of outcomes, with every one explained that is not as expected.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files::{self, ScenarioFile, Whole};
use super::job::Job;
use super::outcome::{Judged, word};
use super::terminal::{lines, progress, style_of, styled};
use super::{RunArgs, RunLimits};
use crate::campaign::{self, Options};
use crate::pool::{Adapter, PUBLISHED};
use crate::report::Told;
use crate::scenario::model::Scenario;
use crate::trace::figures::NAMES;
use crate::verdict::{Outcome, Verdict};
use crate::worker::Limits;

/// How runs are carried out.
pub(super) struct Plan<'a> {
    pub(super) jobs: Option<usize>,
    pub(super) limits: &'a RunLimits,
}

/// A scenario with a pool.
struct Pair<'a> {
    file: &'a ScenarioFile,
    adapter: &'a Arc<dyn Adapter>,
    runs: Vec<Told>,
    /// Whether the seeds are those of the file.
    all_seeds: bool,
}

pub(super) fn run(engine: &Engine, args: &RunArgs) -> Result<Code> {
    let files = files::read_all(engine, &args.paths)?;
    let adapters = files.iter().map(|file| pools_of(engine, &args.pools.names, &file.scenario));
    let adapters = adapters.collect::<Result<Vec<_>>>()?;
    let (mut pairs, mut jobs, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (file, adapters) in files.iter().zip(&adapters) {
        for adapter in adapters {
            let (seeds, all_seeds) = seeds(args, file);
            for seed in seeds {
                places.push(pairs.len());
                jobs.push(Job {
                    file: file.path.clone(),
                    text: file.text.to_string(),
                    pool: adapter.name().to_owned(),
                    seed,
                    trace: None,
                });
            }
            pairs.push(Pair { file, adapter, runs: Vec::new(), all_seeds });
        }
    }
    let traces = traces(args, &mut jobs)?;
    let bar = progress(jobs.len());
    let plan = Plan { jobs: args.jobs.map(usize::from), limits: &args.limits };
    let done = campaign::run_all(
        &jobs,
        &options(engine, &plan),
        |count| bar.set_position(count as u64),
        |index, _, told| pairs[places[index]].runs.push(told),
    );
    bar.finish_and_clear();
    done.map_err(|error| Failure::sentence(format!("can't start a worker: {error}")))?;
    for trace in traces {
        trace.finish()?;
    }
    let results: Vec<(&Pair<'_>, Judged)> = pairs.iter().map(|pair| (pair, pair.judged())).collect();
    let mut out = anstream::stdout().lock();
    if args.json {
        print_json(&mut out, &results)?;
    } else {
        print_table(&mut out, &results)?;
        for (pair, judged) in results.iter().filter(|(_, judged)| !judged.is_expected()) {
            explain(&mut out, pair, judged)?;
        }
        print_sum(&mut out, &results, jobs.len())?;
    }
    out.flush()?;
    drop(out);
    if let Some(bug) = results.iter().find_map(|(_, judged)| judged.bug.clone()) {
        return Err(Failure::Bug(bug));
    }
    let expected = results.iter().all(|(_, judged)| judged.is_expected());
    Ok(if expected { Code::Expected } else { Code::Unexpected })
}

/// The pools to run a file with: those that were asked for, those that its story is about, or all that are published.
pub(crate) fn pools_of(engine: &Engine, asked: &[String], scenario: &Scenario) -> Result<Vec<Arc<dyn Adapter>>> {
    pools(engine, if asked.is_empty() { &scenario.pools } else { asked })
}

/// The pools of these names, or all that are published.
pub(super) fn pools(engine: &Engine, names: &[String]) -> Result<Vec<Arc<dyn Adapter>>> {
    let all = engine.all_pools();
    if names.is_empty() {
        return Ok(engine.default_pools());
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

pub(super) fn options(engine: &Engine, plan: &Plan<'_>) -> Options {
    let RunLimits { stall_after, memory } = *plan.limits;
    let stall = Duration::from_secs(stall_after);
    let default = Options::default();
    Options {
        jobs: plan.jobs.unwrap_or(default.jobs),
        place: (engine.workers)(),
        limits: Limits { stall, total: stall * 20, memory: (memory > 0).then_some(memory << 20) },
        ..default
    }
}

/// The seeds to run a file with, and whether they are all of its own.
fn seeds(args: &RunArgs, file: &ScenarioFile) -> (Vec<u64>, bool) {
    if let Some(seed) = args.seed {
        return (vec![seed], false);
    }
    match &args.seeds {
        Some(seeds) => (seeds.clone().collect(), false),
        None => (file.scenario.seeds.clone(), true),
    }
}

/// The files for full traces: of the only run, or in a folder of every run.
fn traces(args: &RunArgs, jobs: &mut [Job]) -> Result<Vec<Whole>> {
    let Some(path) = &args.trace else {
        return Ok(Vec::new());
    };
    if path.is_dir() {
        return traces_in(path, jobs);
    }
    let [job] = jobs else {
        let count = jobs.len();
        return Err(Failure::sentence(format!(
            "--trace FILE is for one run, and these are {count}: choose one with a file, --pool and --seed, or name a folder"
        )));
    };
    let whole = Whole::new(path)?;
    job.trace = Some(whole.path().to_owned());
    Ok(vec![whole])
}

/// `server_restart_fast.bb8.7.jsonl` for each run.
fn traces_in(folder: &Path, jobs: &mut [Job]) -> Result<Vec<Whole>> {
    let mut names = BTreeSet::new();
    let mut wholes = Vec::new();
    for job in jobs {
        let stem = job.file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}.{}.{}.jsonl", job.pool.replace(':', "-"), job.seed);
        let whole = Whole::new(&folder.join(&name))?;
        if !names.insert(name) {
            return Err(Failure::sentence(format!("two files are called {stem}: their traces would be one")));
        }
        job.trace = Some(whole.path().to_owned());
        wholes.push(whole);
    }
    Ok(wholes)
}

impl Pair<'_> {
    fn judged(&self) -> Judged {
        Judged::of(&self.file.scenario, self.adapter.name(), self.adapter.version(), &self.runs, self.all_seeds)
    }

    /// The worst of a figure over all seeds; `None` where it was not measured.
    fn worst(&self, figure: &str) -> Option<f64> {
        let figures =
            self.runs.iter().filter(|told| was_judged(told)).filter_map(|told| told.report.figures.get(figure));
        figures.max_by(f64::total_cmp)
    }
}

fn was_judged(told: &Told) -> bool {
    matches!(told.report.verdict, Verdict::Pass | Verdict::Violations(_))
}

fn print_table(out: &mut impl Write, results: &[(&Pair<'_>, Judged)]) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["scenario", "pool", "verdict", "peak", "worst wait", "recovery"]);
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (pair, judged) in results {
        let figure = |name: &str, show: fn(f64) -> String| pair.worst(name).map_or_else(|| "-".to_owned(), show);
        table.add_row([
            pair.file.name(),
            pair.adapter.name().to_owned(),
            judged.words(),
            figure("peak_connections", |count| format!("{count}")),
            figure("wait.worst", |seconds| format!("{seconds:.3} s")),
            figure("recovery.first_success", |seconds| format!("{seconds:.3} s")),
        ]);
    }
    // The table would count a colour's bytes as width: colours come after it.
    for (line, result) in lines(&table).iter().zip(std::iter::once(None).chain(results.iter().map(Some))) {
        match result {
            Some((_, judged)) => {
                // From the right: a scenario may be called `bypass`.
                let words = judged.words();
                let (before, after) = line.rsplit_once(&words).unwrap_or((line.as_str(), ""));
                writeln!(out, "{before}{}{after}", styled(style_of(judged.expectation.outcome), &words))?;
            }
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// How many reasons of one result are told.
const TOLD: usize = 8;

fn explain(out: &mut impl Write, pair: &Pair<'_>, judged: &Judged) -> Result<()> {
    let (file, pool) = (pair.file.path.display(), pair.adapter.name());
    let words = styled(style_of(judged.expectation.outcome), judged.words());
    writeln!(out, "\n{} with {pool}: {words}", pair.file.name())?;
    let reasons = &judged.expectation.reasons;
    for reason in reasons.iter().take(TOLD) {
        writeln!(out, "  {reason}")?;
    }
    if reasons.len() > TOLD {
        writeln!(out, "  and {} more", reasons.len() - TOLD)?;
    }
    writeln!(out, "  replay: poolproof show {file} --pool {pool} --seed {}", judged.seed)?;
    Ok(())
}

fn print_sum(out: &mut impl Write, results: &[(&Pair<'_>, Judged)], runs: usize) -> Result<()> {
    let count = |outcome| results.iter().filter(|(_, judged)| judged.expectation.outcome == outcome).count();
    let all = [
        Outcome::Pass,
        Outcome::Excused,
        Outcome::Known,
        Outcome::Told,
        Outcome::Unsupported,
        Outcome::Failed,
        Outcome::Unknown,
    ];
    let counts = all.map(|outcome| (count(outcome), word(outcome)));
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let word = if runs == 1 { "run" } else { "runs" };
    writeln!(out, "\n{runs} {word}: {}", counts.collect::<Vec<_>>().join(", "))?;
    Ok(())
}

/// The results as JSON. Fields are added, never renamed or removed, as long as `format` is 1.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    results: Vec<ResultEntry<'a>>,
}

#[derive(Serialize)]
struct ResultEntry<'a> {
    file: String,
    title: &'a str,
    pool: &'static str,
    version: &'static str,
    outcome: &'static str,
    expected: bool,
    reasons: &'a [String],
    notes: &'a [String],
    runs: Vec<RunEntry<'a>>,
}

#[derive(Serialize)]
struct RunEntry<'a> {
    seed: u64,
    verdict: &'a Verdict,
    violations: &'a BTreeMap<&'static str, u64>,
    figures: BTreeMap<&'static str, f64>,
    errors: &'a BTreeMap<String, u64>,
}

impl RunEntry<'_> {
    fn of(Told { report, .. }: &Told) -> RunEntry<'_> {
        let figures = NAMES.iter().filter_map(|&name| Some((name, report.figures.get(name)?)));
        RunEntry {
            seed: report.seed,
            verdict: &report.verdict,
            violations: &report.counts,
            figures: figures.collect(),
            errors: &report.figures.errors,
        }
    }
}

fn print_json(out: &mut impl Write, results: &[(&Pair<'_>, Judged)]) -> Result<()> {
    let results = results.iter().map(|(pair, judged)| ResultEntry {
        file: pair.file.path.display().to_string(),
        title: &pair.file.scenario.title,
        pool: pair.adapter.name(),
        version: pair.adapter.version(),
        outcome: word(judged.expectation.outcome),
        expected: judged.is_expected(),
        reasons: &judged.expectation.reasons,
        notes: &judged.expectation.notes,
        runs: pair.runs.iter().map(RunEntry::of).collect(),
    });
    let document = Document { format: 1, results: results.collect() };
    let json = serde_json::to_string_pretty(&document).expect("plain data");
    writeln!(out, "{json}")?;
    Ok(())
}
