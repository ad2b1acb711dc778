//! `search`: what nobody wrote a scenario for.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::pairs::pools;
use super::terminal::{lines, progress};
use super::{SearchArgs, files};
use crate::campaign::Options;
use crate::pool::Adapter;
use crate::pool::reference::Plant;
use crate::search::campaign::{News, Plan, Summary, search as carry_out};
use crate::search::interrupt::stop_on_signals;
use crate::search::source::Random;
use crate::search::state::Subject;
use crate::search::{marks, table};
use crate::worker::Limits;

/// What is searched when neither a number of runs nor a time is given.
const RUNS: u64 = 10_000;

pub(super) fn search(engine: &Engine, args: &SearchArgs) -> Result<Code> {
    let options = options(engine, args);
    if args.table {
        return print_table(engine, args, options);
    }
    let Some(name) = &args.pool else {
        return Err(Failure::sentence("which pool? Name it with --pool"));
    };
    let pool = pools(engine, std::slice::from_ref(name))?.remove(0);
    let all = marks::all(&pool.capabilities());
    if let Some(unknown) = args.demand.iter().find(|mark| !all.contains(*mark) && !mark.starts_with("saw/")) {
        return Err(Failure::sentence(format!(
            "there is no mark {unknown}; --marks lists those that were never reached"
        )));
    }
    let from = args.from.as_ref().map(|path| files::read_all(engine, std::slice::from_ref(path))).transpose()?;
    let from = from.and_then(|files| files.into_iter().next()).map(|file| file.text);
    let state = args.state.clone().unwrap_or_else(|| PathBuf::from(format!("search-{}", name.replace(':', "-"))));
    let subject = Subject {
        format: 1,
        pool: name.clone(),
        version: pool.version().to_owned(),
        seed: args.seed,
        strategy: args.strategy,
        from: from.clone(),
    };
    let plan = Plan {
        innocent: name.starts_with("planted:").then(|| "reference".to_owned()),
        pool: Arc::clone(&pool),
        subject,
        runs: args.runs.or(args.time.is_none().then_some(RUNS)),
        time: args.time,
        state: Some(state.clone()),
        options,
        shrink_runs: args.shrink_runs,
        first_only: args.first,
    };
    let source = Box::new(Random { seed: args.seed, guidance: args.strategy, from });
    let stop = stop_on_signals();
    let summary = carry_out(&plan, source, &stop, &mut teller()).map_err(Failure::Sentence)?;
    if let Some(bug) = &summary.bug {
        return Err(Failure::Bug(bug.clone()));
    }
    print_summary(&summary, &*pool, args, &all)?;
    let demanded = args.demand.iter().all(|mark| summary.corpus.marks.contains_key(mark));
    let clean = summary.found.iter().all(|found| found.known.is_some());
    Ok(if clean && demanded { Code::Expected } else { Code::Unexpected })
}

fn options(engine: &Engine, args: &SearchArgs) -> Options {
    let stall = Duration::from_secs(args.stall_after);
    let default = Options::default();
    Options {
        jobs: args.jobs.map_or(default.jobs, usize::from),
        place: (engine.workers)(),
        limits: Limits { stall, total: stall * 20, memory: (args.memory > 0).then_some(args.memory << 20) },
        // A run here takes about a millisecond: a new process would cost more than the runs that it does.
        runs_per_worker: if cfg!(tokio_unstable) { 4096 } else { default.runs_per_worker },
    }
}

/// Tells on standard error how it goes on.
fn teller() -> impl FnMut(&News<'_>) + Send {
    const EVERY: Duration = Duration::from_secs(10);
    let (started, is_terminal) = (Instant::now(), std::io::stderr().is_terminal());
    let mut last = Instant::now();
    move |news| match news {
        News::Found(found) => {
            let known = found.known.as_ref().map_or_else(String::new, |file| format!(" (known: {file})"));
            eprintln!("found {}{known}: {}", found.name, found.sentence);
        }
        News::Progress { runs, of, marks, findings } if is_terminal && last.elapsed() >= EVERY => {
            last = Instant::now();
            let of = of.map_or_else(String::new, |of| format!(" of {of}"));
            eprintln!("{} s: {runs}{of} runs, {marks} marks, {findings} findings", started.elapsed().as_secs());
        }
        News::Progress { .. } => {}
    }
}

fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn print_summary(
    summary: &Summary,
    pool: &dyn Adapter,
    args: &SearchArgs,
    all: &std::collections::BTreeSet<String>,
) -> Result<()> {
    let mut out = anstream::stdout().lock();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = summary.runs_now as f64 / summary.took.as_secs_f64().max(0.001);
    let ends: Vec<String> = summary.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
    writeln!(
        out,
        "{}: {} ({} now, in {:.1} s: {rate:.0} a second): {}",
        pool.name(),
        counted(summary.runs, "run"),
        summary.runs_now,
        summary.took.as_secs_f64(),
        ends.join(", ")
    )?;
    if let Some(why) = &summary.gave_up {
        writeln!(out, "given up: {why}")?;
    }
    let reached = summary.corpus.marks.keys().filter(|mark| all.contains(*mark)).count();
    writeln!(
        out,
        "marks: {reached} of {} reached, {} inputs kept{}",
        all.len(),
        summary.corpus.kept.len(),
        growth(summary)
    )?;
    for (place, found) in summary.found.iter().enumerate() {
        let known = found.known.as_ref().map_or_else(String::new, |file| format!("known: {file}. "));
        writeln!(
            out,
            "\n{}: {known}seen {}, first in run {}; {} lines after {}\n  {}\n  mechanism: {}",
            found.name,
            counted(found.count, "time"),
            found.first,
            found.lines,
            counted(found.shrunk_in.into(), "run"),
            found.sentence,
            found.fingerprint
        )?;
        if let Some(path) = summary.paths.get(place) {
            writeln!(out, "  replay: poolproof show {} --pool {}", path.display(), pool.name())?;
        }
    }
    if summary.found.is_empty() {
        writeln!(out, "nothing was found")?;
    }
    for mark in args.demand.iter().filter(|mark| !summary.corpus.marks.contains_key(*mark)) {
        writeln!(out, "demanded and never reached: {mark}")?;
    }
    if args.marks {
        writeln!(out, "\nnever reached:")?;
        for mark in all.iter().filter(|mark| !summary.corpus.marks.contains_key(*mark)) {
            writeln!(out, "  {mark}")?;
        }
    }
    out.flush()?;
    Ok(())
}

/// `: 120 after 10 runs, 300 after 100, 412 after 1000`
fn growth(summary: &Summary) -> String {
    let by = |runs: u64| summary.corpus.marks.values().filter(|first| **first < runs).count();
    let stops = std::iter::successors(Some(10), |stop| Some(stop * 10)).take_while(|stop| *stop < summary.runs);
    let told: Vec<String> = stops.map(|stop| format!("{} after {stop}", by(stop))).collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}

fn print_table(engine: &Engine, args: &SearchArgs, options: Options) -> Result<Code> {
    let names: Vec<String> = match &args.pool {
        Some(name) => vec![name.clone()],
        None => Plant::all().map(|plant| plant.adapter_name().to_owned()).collect(),
    };
    let seeds: Vec<u64> = (args.seed..).take(args.seeds.into()).collect();
    let runs = args.runs.unwrap_or(5_000);
    let jobs = options.jobs;
    let searches = names.len() * seeds.len() * 2;
    let filled = table::Table { pools: pools(engine, &names)?, seeds, runs, jobs, options };
    let bar = progress(searches);
    let stop = stop_on_signals();
    let rows = filled.fill(&stop, &|| bar.inc(1)).map_err(Failure::Sentence)?;
    bar.finish_and_clear();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["pool", "guided", "worst", "plain", "worst", "found by"]);
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let number = |count: Option<u64>| count.map_or_else(|| format!(">{runs}"), |count| count.to_string());
    for row in &rows {
        let (guided, plain) = (table::median_and_worst(&row.guided), table::median_and_worst(&row.plain));
        let cells = [guided.0, guided.1, plain.0, plain.1].map(number);
        let [guided, worst, plain, plain_worst] = cells;
        table.add_row([row.pool.to_owned(), guided, worst, plain, plain_worst, row.invariants.join(", ")]);
    }
    let mut out = anstream::stdout().lock();
    for line in lines(&table) {
        writeln!(out, "{line}")?;
    }
    if stop.load(std::sync::atomic::Ordering::Relaxed) {
        writeln!(out, "\nstopped before its end: what is not there may not have been tried")?;
    }
    let missed = rows.iter().filter(|row| row.guided.contains(&None)).count();
    writeln!(
        out,
        "\nmedian and worst runs to the first finding, over {} seeds; {missed} not always found",
        args.seeds
    )?;
    Ok(if missed == 0 { Code::Expected } else { Code::Unexpected })
}
