//! `run`: scenarios × pools × seeds, as a table of outcomes, with every one explained that is not as expected.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::RunArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files::{self, Whole};
use super::job::Job;
use super::outcome::{Judged, word};
use super::pairs::{Pair, Pairs, Plan, pools_of};
use super::terminal::{lines, style_of, styled};
use crate::report::Told;
use crate::trace::figures::NAMES;
use crate::verdict::{Outcome, Verdict};

pub(super) fn run(engine: &Engine, args: &RunArgs) -> Result<Code> {
    let files = files::read_all(engine, &args.paths)?;
    let mut pairs = Pairs::default();
    for file in &files {
        for adapter in pools_of(engine, &args.pools.names, &file.scenario)? {
            pairs.add(file, adapter, &args.seeds);
        }
    }
    let runs = pairs.jobs.len();
    let traces = traces(args, &mut pairs.jobs)?;
    let pairs = pairs.carry_out(engine, &Plan { jobs: args.jobs, limits: &args.limits })?;
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
        print_sum(&mut out, &results, runs)?;
    }
    out.flush()?;
    drop(out);
    if let Some(bug) = results.iter().find_map(|(_, judged)| judged.bug.clone()) {
        return Err(Failure::Bug(bug));
    }
    let expected = results.iter().all(|(_, judged)| judged.is_expected());
    Ok(if expected { Code::Expected } else { Code::Unexpected })
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
        let figure = |name: &str, show: fn(f64) -> String| pair.greatest(name).map_or_else(|| "-".to_owned(), show);
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
