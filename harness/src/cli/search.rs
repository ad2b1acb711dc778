//! `search`: what nobody wrote a scenario for.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::pairs::{limits, pools};
use super::terminal::{lines, progress};
use super::{SearchArgs, files};
use crate::campaign::Options;
use crate::pool::Adapter;
use crate::pool::reference::Plant;
use crate::search::campaign::{News, Plan, Summary, search as carry_out};
use crate::search::neighbours::{Every, Neighbours, Wanted};
use crate::search::source::{Random, Source};
use crate::search::state::Subject;
use crate::search::{marks, table};
use crate::signals::asked_to_end;
use crate::world::Place;

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
    let pool = pools(engine, std::slice::from_ref(name), &Place::Sim)?.remove(0);
    if let Some(why) = pool.needs_real_time() {
        return Err(Failure::sentence(format!("{name} can't be searched with, which takes virtual time: {why}")));
    }
    let all = marks::all(&pool.capabilities());
    if let Some(unknown) = args.demand.iter().find(|mark| !all.contains(*mark) && !mark.starts_with("saw/")) {
        return Err(Failure::sentence(format!(
            "there is no mark {unknown}; --marks lists those that were never reached"
        )));
    }
    let from = args.from.as_ref().map(|path| files::read_all(engine, std::slice::from_ref(path))).transpose()?;
    let from = from.and_then(|files| files.into_iter().next()).map(|file| file.text);
    let wanted = wanted(engine, args)?;
    let (from, neighbours) = match wanted {
        Some((file, wanted)) => (Some(file), Some(wanted)),
        None => (from, None),
    };
    let state = args.state.clone().unwrap_or_else(|| default_state(name, args.file.as_deref()));
    let seed = args.seed.unwrap_or(1);
    let subject = Subject {
        format: 1,
        pool: name.clone(),
        version: pool.version().to_owned(),
        seed,
        strategy: args.strategy,
        from: from.clone(),
        neighbours: neighbours.clone(),
    };
    let plan = Plan {
        innocent: name.starts_with("planted:").then(|| "reference".to_owned()),
        pool: Arc::clone(&pool),
        subject,
        // All neighbours are run, unless it is said otherwise.
        runs: args.runs.or((args.time.is_none() && neighbours.is_none()).then_some(RUNS)),
        time: args.time,
        state: Some(state.clone()),
        options,
        shrink_runs: args.shrink_runs,
        first_only: args.first,
    };
    let stop = asked_to_end();
    let source: Box<dyn Source> = match (&neighbours, from) {
        (Some(wanted), Some(file)) => {
            let all = Neighbours::of(&file, wanted, name, &plan.options).map_err(Failure::Sentence)?;
            for line in &all.told {
                eprintln!("{line}");
            }
            Box::new(all)
        }
        (_, from) => Box::new(Random { seed, guidance: args.strategy, from }),
    };
    let summary = carry_out(&plan, source, &stop, &mut teller()).map_err(Failure::Sentence)?;
    if let Some(bug) = &summary.bug {
        return Err(Failure::Bug(bug.clone()));
    }
    print_summary(&summary, &*pool, args, &all)?;
    let demanded = args.demand.iter().all(|mark| summary.corpus.marks.contains_key(mark));
    let clean = summary.found.iter().all(|found| found.known.is_some());
    Ok(if clean && demanded { Code::Expected } else { Code::Unexpected })
}

/// The file whose neighbours are wanted, and which.
fn wanted(engine: &Engine, args: &SearchArgs) -> Result<Option<(Arc<str>, Wanted)>> {
    let Some(path) = &args.file else { return Ok(None) };
    let kinds =
        [(args.every_poll, Every::Poll), (args.every_moment, Every::Moment), (args.every_message, Every::Message)];
    let every: Vec<Every> = kinds.into_iter().filter_map(|(wanted, every)| wanted.then_some(every)).collect();
    if every.is_empty() && args.interleavings == 0 {
        let sentence =
            "which neighbours? Name them with --every-poll, --every-moment, --every-message or --interleavings";
        return Err(Failure::sentence(sentence));
    }
    let files = files::read_all(engine, std::slice::from_ref(path))?;
    let [file] = files.as_slice() else {
        return Err(Failure::sentence(format!("{} is not one file", path.display())));
    };
    let seeds = args.seed.map_or_else(|| file.scenario.seeds.clone(), |seed| vec![seed]);
    let most = usize::try_from(args.most).unwrap_or(usize::MAX);
    Ok(Some((Arc::clone(&file.text), Wanted { every, interleavings: args.interleavings, seeds, most })))
}

/// `search-bb8`, `search-bb8-server_crash`
fn default_state(pool: &str, file: Option<&Path>) -> PathBuf {
    let pool = pool.replace(':', "-");
    let stem = file.and_then(Path::file_stem).map(|stem| format!("-{}", stem.to_string_lossy())).unwrap_or_default();
    PathBuf::from(format!("search-{pool}{stem}"))
}

fn options(engine: &Engine, args: &SearchArgs) -> Options {
    let default = Options::default();
    Options {
        jobs: args.jobs.map_or(default.jobs, usize::from),
        place: (engine.workers)(),
        limits: limits(args.stall_after, args.memory),
        // A run here takes about a millisecond: a new process would cost more than the runs that it does.
        runs_per_worker: if cfg!(tokio_unstable) { 4096 } else { default.runs_per_worker },
    }
}

/// Tells on standard error how it goes on.
fn teller() -> impl FnMut(&News<'_>) + Send {
    const EVERY: Duration = Duration::from_secs(10);
    let (started, is_terminal) = (Instant::now(), std::io::stderr().is_terminal());
    let mut last = Instant::now();
    // What was done before this part of the search, once something is known.
    let mut before = None;
    move |news| match news {
        News::Found(found) => {
            let known = found.known.as_ref().map_or_else(String::new, |file| format!(" (known: {file})"));
            eprintln!("found {}{known}: {}", found.name, found.sentence);
        }
        News::Progress { runs, of, marks, findings } => {
            let now = (started.elapsed(), *runs);
            let (since, done) = *before.get_or_insert(now);
            if is_terminal && last.elapsed() >= EVERY {
                last = Instant::now();
                let left = left(now.0 - since, runs - done, of.map(|of| of.saturating_sub(*runs)));
                let of = of.map_or_else(String::new, |of| format!(" of {of}"));
                let seconds = now.0.as_secs();
                eprintln!("{seconds} s: {runs}{of} runs{left}, {marks} marks, {findings} findings");
            }
        }
    }
}

/// ` (820 a second, about 14 s left)`: from the rate so far, once there is one.
fn left(took: Duration, done: u64, still: Option<u64>) -> String {
    if done == 0 || took.is_zero() {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    let (rate, still) = (done as f64 / took.as_secs_f64(), still.map(|still| still as f64));
    let left = still.map_or_else(String::new, |still| format!(", about {:.0} s left", still / rate));
    format!(" ({rate:.0} a second{left})")
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
    let seeds: Vec<u64> = (args.seed.unwrap_or(1)..).take(args.seeds.into()).collect();
    let runs = args.runs.unwrap_or(5_000);
    let jobs = options.jobs;
    let searches = names.len() * seeds.len() * 2;
    let filled = table::Table { pools: pools(engine, &names, &Place::Sim)?, seeds, runs, jobs, options };
    let bar = progress(searches);
    let stop = asked_to_end();
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
