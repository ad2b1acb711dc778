//! `run`: scenarios × pools × seeds, as a table of outcomes, with every one explained that is not as expected.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files::{self, ScenarioFile, Whole};
use super::job::Job;
use super::outcome::{EXPECTATION, Outcome, Seeded, known};
use super::terminal::{lines, progress, style_of, styled};
use super::{RunArgs, RunLimits};
use crate::campaign::{self, Options};
use crate::pool::Adapter;
use crate::report::{Figures, Finding, Verdict};
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
    runs: Vec<Seeded>,
    /// Whether the seeds are those of the file.
    all_seeds: bool,
}

pub(super) fn run(engine: &Engine, args: &RunArgs) -> Result<Code> {
    let files = files::read_all(engine, &args.paths)?;
    let adapters = pools(engine, &args.pools.names)?;
    let (mut pairs, mut jobs, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for file in &files {
        for adapter in &adapters {
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
    let trace = trace(args, &mut jobs)?;
    let bar = progress(jobs.len());
    let plan = Plan { jobs: args.jobs.map(usize::from), limits: &args.limits };
    let done = campaign::run_all(
        &jobs,
        &options(engine, &plan),
        |count| bar.set_position(count as u64),
        |index, job, report| pairs[places[index]].runs.push(Seeded { seed: job.seed, report }),
    );
    bar.finish_and_clear();
    done.map_err(|error| Failure::sentence(format!("can't start a worker: {error}")))?;
    if let Some(trace) = trace {
        trace.finish()?;
    }
    let results: Vec<(&Pair<'_>, Outcome)> = pairs.iter().map(|pair| (pair, pair.outcome())).collect();
    let mut out = anstream::stdout().lock();
    if args.json {
        print_json(&mut out, &results)?;
    } else {
        print_table(&mut out, &results)?;
        for (pair, outcome) in results.iter().filter(|(_, outcome)| !outcome.is_expected()) {
            explain(&mut out, pair, outcome)?;
        }
        print_sum(&mut out, &results, jobs.len())?;
    }
    out.flush()?;
    drop(out);
    code(&results)
}

/// The pools of these names, or all that are published.
pub(super) fn pools(engine: &Engine, names: &[String]) -> Result<Vec<Arc<dyn Adapter>>> {
    let all = (engine.pools)();
    if names.is_empty() {
        return Ok((engine.published)());
    }
    let mut chosen: Vec<Arc<dyn Adapter>> = Vec::new();
    for name in names {
        let Some(adapter) = all.iter().find(|adapter| adapter.name() == name) else {
            let known: Vec<&str> = all.iter().map(|adapter| adapter.name()).collect();
            let near = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
            let hint = near.filter(|near| strsim::jaro(near, name) > 0.7);
            let hint = hint.map_or_else(String::new, |near| format!(" (did you mean {near}?)"));
            return Err(Failure::sentence(format!("there is no pool {name}{hint}: there are {}", known.join(", "))));
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

/// The file for the full trace of the only run.
fn trace(args: &RunArgs, jobs: &mut [Job]) -> Result<Option<Whole>> {
    let Some(path) = &args.trace else {
        return Ok(None);
    };
    let [job] = jobs else {
        let count = jobs.len();
        return Err(Failure::sentence(format!(
            "--trace is for one run, and these are {count}: choose one with a file, --pool and --seed"
        )));
    };
    let whole = Whole::new(path)?;
    job.trace = Some(whole.path().to_owned());
    Ok(Some(whole))
}

fn code(results: &[(&Pair<'_>, Outcome)]) -> Result<Code> {
    let bug = results.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Unknown { why, bug: true, .. } => Some(why.clone()),
        _ => None,
    });
    match bug {
        Some(why) => Err(Failure::Bug(why)),
        None if results.iter().all(|(_, outcome)| outcome.is_expected()) => Ok(Code::Expected),
        None => Ok(Code::Unexpected),
    }
}

impl Pair<'_> {
    fn outcome(&self) -> Outcome {
        Outcome::of(&self.file.scenario, self.adapter.name(), self.adapter.version(), &self.runs, self.all_seeds)
    }

    /// The figures of the worst run in each respect.
    fn worst(&self) -> Figures {
        let mut worst = Figures::default();
        for Seeded { report, .. } in &self.runs {
            worst.peak_connections = worst.peak_connections.max(report.figures.peak_connections);
            worst.worst_wait_ms = worst.worst_wait_ms.max(report.figures.worst_wait_ms);
            worst.recovery_ms = worst.recovery_ms.max(report.figures.recovery_ms);
        }
        worst
    }
}

fn print_table(out: &mut impl Write, results: &[(&Pair<'_>, Outcome)]) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["scenario", "pool", "verdict", "peak", "worst wait", "recovery"]);
    for column in 3..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let time = |millis: Option<u64>| millis.map_or_else(|| "-".to_owned(), seconds);
    for (pair, outcome) in results {
        let worst = pair.worst();
        table.add_row([
            pair.file.name(),
            pair.adapter.name().to_owned(),
            outcome.word(),
            if matches!(outcome, Outcome::Unsupported { .. }) {
                "-".to_owned()
            } else {
                worst.peak_connections.to_string()
            },
            time(worst.worst_wait_ms),
            time(worst.recovery_ms),
        ]);
    }
    // The table counts a colour's bytes as width: colours come after it.
    for (line, result) in lines(&table).iter().zip(std::iter::once(None).chain(results.iter().map(Some))) {
        match result {
            Some((_, outcome)) => {
                // From the right: a scenario may be called `bypass`.
                let word = outcome.word();
                let (before, after) = line.rsplit_once(&word).unwrap_or((line.as_str(), ""));
                writeln!(out, "{before}{}{after}", styled(style_of(outcome), &word))?;
            }
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

/// `0.250 s`
fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

/// How many findings of one run are told.
const TOLD: usize = 5;

fn explain(out: &mut impl Write, pair: &Pair<'_>, outcome: &Outcome) -> Result<()> {
    let (file, pool) = (pair.file.path.display(), pair.adapter.name());
    let word = styled(style_of(outcome), outcome.word());
    writeln!(out, "\n{} with {pool}: {word}", pair.file.name())?;
    let mut shown = pair.runs.first().map_or(1, |run| run.seed);
    match outcome {
        Outcome::Violated { seed, runs, .. } => {
            shown = *seed;
            let known = known(&pair.file.scenario, pool, pair.adapter.version());
            writeln!(out, "  in {runs} of {} runs, first with seed {seed}:", pair.runs.len())?;
            let run = pair.runs.iter().find(|run| run.seed == *seed);
            let report = run.map(|run| &run.report);
            let findings = report.iter().flat_map(|report| &report.findings);
            let findings: Vec<&Finding> = findings.filter(|finding| !known.contains(&finding.invariant)).collect();
            for Finding { invariant, at_ms, sentence } in findings.iter().take(TOLD) {
                writeln!(out, "  {invariant} at {}: {sentence}", seconds(*at_ms))?;
            }
            if findings.len() > TOLD {
                writeln!(out, "  and {} more", findings.len() - TOLD)?;
            }
            for sentence in report.iter().flat_map(|report| &report.unmet) {
                writeln!(out, "  {EXPECTATION}: {sentence}")?;
            }
        }
        Outcome::Absent { violates } => {
            writeln!(
                out,
                "  the file says that this version of {pool} violates {}, and in no seed it did: if the bug is fixed, \
                 take [[expect.known]] out or narrow its versions",
                violates.join(", ")
            )?;
        }
        Outcome::Unknown { seed, why, .. } => {
            shown = *seed;
            writeln!(out, "  with seed {seed}: {why}")?;
        }
        Outcome::Pass | Outcome::Known { .. } | Outcome::Unsupported { .. } => {}
    }
    writeln!(out, "  replay: poolproof show {file} --pool {pool} --seed {shown}")?;
    Ok(())
}

fn print_sum(out: &mut impl Write, results: &[(&Pair<'_>, Outcome)], runs: usize) -> Result<()> {
    let count = |wanted: fn(&Outcome) -> bool| results.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let pass = count(|outcome| matches!(outcome, Outcome::Pass));
    let known = count(|outcome| matches!(outcome, Outcome::Known { .. }));
    let unsupported = count(|outcome| matches!(outcome, Outcome::Unsupported { .. }));
    let unexpected = count(|outcome| !outcome.is_expected());
    writeln!(
        out,
        "\n{} results of {runs} runs: {pass} pass, {known} known, {unsupported} unsupported, {unexpected} not as expected",
        results.len()
    )?;
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
    expected: bool,
    outcome: &'a Outcome,
    runs: Vec<RunEntry<'a>>,
}

#[derive(Serialize)]
struct RunEntry<'a> {
    seed: u64,
    verdict: &'a Verdict,
    findings: &'a [Finding],
    unmet: &'a [String],
    figures: &'a Figures,
}

impl RunEntry<'_> {
    fn of(Seeded { seed, report }: &Seeded) -> RunEntry<'_> {
        RunEntry {
            seed: *seed,
            verdict: &report.verdict,
            findings: &report.findings,
            unmet: &report.unmet,
            figures: &report.figures,
        }
    }
}

fn print_json(out: &mut impl Write, results: &[(&Pair<'_>, Outcome)]) -> Result<()> {
    let results = results.iter().map(|(pair, outcome)| ResultEntry {
        file: pair.file.path.display().to_string(),
        title: &pair.file.scenario.title,
        pool: pair.adapter.name(),
        version: pair.adapter.version(),
        expected: outcome.is_expected(),
        outcome,
        runs: pair.runs.iter().map(RunEntry::of).collect(),
    });
    let results = results.collect();
    let document = Document { format: 1, results };
    let json = serde_json::to_string_pretty(&document).expect("plain data");
    writeln!(out, "{json}")?;
    Ok(())
}
