//! `run`: scenarios × pools × seeds, as a table of outcomes, with every one explained that is not as expected.

use std::collections::BTreeMap;
use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::RunArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files;
use super::outcome::{Judged, word};
use super::pairs::{Pair, Pairs, Plan, pools_of};
use super::terminal::{lines, style_of, styled};
use crate::report::Told;
use crate::trace::figures::NAMES;
use crate::verdict::{Outcome, Verdict};

pub(super) fn run(engine: &Engine, args: &RunArgs) -> Result<Code> {
    let files = files::read_all(engine, &args.runs.chosen.paths)?;
    let place = args.world.place()?;
    let _kept = place.open()?;
    let mut pairs = Pairs::at(place.clone());
    for file in &files {
        for adapter in pools_of(engine, &args.runs.chosen.pools.names, file, &place)? {
            pairs.add(file, adapter, &args.runs.seeds);
        }
    }
    let runs = pairs.runs();
    if let Some(path) = &args.trace {
        pairs.trace(path)?;
    }
    let pairs = pairs.carry_out(engine, &Plan { jobs: args.runs.jobs, limits: &args.limits, place: &place })?;
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
        let figure = |name: &str, show: fn(f64) -> String| match pair.greatest(name) {
            _ if pair.judged_runs().any(|told| told.report.figures.never(name)) => "never".to_owned(),
            Some(figure) => show(figure),
            None => "-".to_owned(),
        };
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
    writeln!(out, "  replay: poolproof show {file} --pool {pool} --seed {}{}", judged.seed, pair.place.words())?;
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
    let some = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let counts = counts.collect::<Vec<_>>().join(", ");
    // What is counted are pairs, each with some runs.
    writeln!(out, "\n{} of {} of scenario and pool: {counts}", some(runs, "run"), some(results.len(), "pair"))?;
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
