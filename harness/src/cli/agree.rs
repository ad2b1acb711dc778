//! `agree`: the same scenarios in the simulated world and in another one, and whether both tell the same.

use std::io::Write;
use std::sync::Arc;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::AgreeArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files;
use super::outcome::word;
use super::pairs::{Pair, Pairs, Plan, pools_of};
use super::terminal::{lines, style_of, styled};
use crate::agreement::{self, Agreement, Difference, Known, RealTerms, SEEDS, SEEDS_WHERE_IT_DIFFERS, TRIES};
use crate::verdict::{Outcome, RunReport};
use crate::world::Place;

/// So many pairs at once when they are run again.
const AT_ONCE_AGAIN: u16 = 2;

/// The whole comparison. Fields are added, never renamed or removed, as long as `format` is 1.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    world: &'static str,
    results: Vec<Entry<'a>>,
}

/// One scenario with one pool.
#[derive(Serialize)]
struct Entry<'a> {
    file: String,
    scenario: String,
    pool: &'static str,
    /// `agrees`, `differs`, `known` or `unsupported`.
    agreement: &'static str,
    sim: String,
    other: String,
    differences: &'a [Difference],
    reasons: Vec<String>,
}

struct Compared<'a> {
    sim: &'a Pair<'a>,
    other: &'a Pair<'a>,
    agreement: Agreement,
    /// The reasons of the differences, where every one is known.
    known: Option<Vec<String>>,
}

pub(super) fn agree(engine: &Engine, args: &AgreeArgs) -> Result<Code> {
    let place = args.world.place()?;
    if place == Place::Sim {
        return Err(Failure::sentence("the simulated world agrees with itself: --world postgres or --world turmoil"));
    }
    let _kept = place.open()?;
    let files = files::read_all(engine, &args.chosen.paths)?;
    let (mut sim, mut other) = (Pairs::at(Place::Sim), Pairs::at(place.clone()));
    for file in &files {
        // What can't be run in the simulated world has nothing to agree with.
        for adapter in pools_of(engine, &args.chosen.pools.names, file, &Place::Sim)? {
            let first = file.scenario.seeds.first().copied().unwrap_or(1);
            let mut seeds = file.scenario.seeds.clone();
            seeds.extend((1..=SEEDS).filter(|seed| !file.scenario.seeds.contains(seed)));
            sim.add_with(file, adapter.clone(), &seeds, true);
            other.add_with(file, adapter, &[first], false);
        }
    }
    let mut sim = sim.carry_out(engine, &Plan { jobs: None, limits: &args.limits, place: &Place::Sim })?;
    let mut other = other.carry_out(engine, &Plan { jobs: args.jobs, limits: &args.limits, place: &place })?;
    let known = agreement::known();
    look_closer(engine, args, &mut sim, &other, &known)?;
    if !place.is_virtual() {
        for _ in 1..TRIES {
            if !try_again(engine, args, &sim, &mut other, &known)? {
                break;
            }
        }
    }
    if let Some(bug) = sim.iter().chain(&other).flat_map(|pair| &pair.runs).find_map(|told| told.bug.clone()) {
        return Err(Failure::Bug(bug));
    }
    let compared: Vec<Compared<'_>> = sim.iter().zip(&other).map(|(sim, other)| compare(sim, other, &known)).collect();
    let mut out = anstream::stdout().lock();
    if args.json {
        print_json(&mut out, &compared, &place)?;
    } else {
        print_table(&mut out, &compared, &place)?;
    }
    out.flush()?;
    let agrees = compared.iter().all(|one| !matches!(one.word(), Word::Differs));
    Ok(if agrees { Code::Expected } else { Code::Unexpected })
}

/// The places of the pairs that differ.
fn differing(sim: &[Pair<'_>], other: &[Pair<'_>], known: &[Known]) -> Vec<usize> {
    let differs = |(sim, other)| matches!(compare(sim, other, known).word(), Word::Differs);
    let pairs = sim.iter().zip(other).enumerate();
    pairs.filter(|(_, pair)| differs(*pair)).map(|(index, _)| index).collect()
}

/// Where a pair differs, the simulated world shows what it can with more seeds.
fn look_closer<'a>(
    engine: &Engine,
    args: &AgreeArgs,
    sim: &mut [Pair<'a>],
    other: &[Pair<'a>],
    known: &[Known],
) -> Result<()> {
    let closer = differing(sim, other, known);
    let more = |done: &[u64]| (1..=SEEDS_WHERE_IT_DIFFERS).filter(|seed| !done.contains(seed)).collect();
    let plan = Plan { jobs: None, limits: &args.limits, place: &Place::Sim };
    let more = run_again(engine, &plan, sim, &closer, more)?;
    for (index, pair) in closer.into_iter().zip(more) {
        sim[index].runs.extend(pair.runs);
    }
    Ok(())
}

/// Runs the pairs that differ once more; false if there are none.
fn try_again<'a>(
    engine: &Engine,
    args: &AgreeArgs,
    sim: &[Pair<'a>],
    other: &mut [Pair<'a>],
    known: &[Known],
) -> Result<bool> {
    let again = differing(sim, other, known);
    let Some(first) = again.first() else { return Ok(false) };
    let place = other[*first].place.clone();
    eprintln!("{} differ, and are run again, {AT_ONCE_AGAIN} at once", again.len());
    let jobs = Some(args.jobs.unwrap_or(AT_ONCE_AGAIN).min(AT_ONCE_AGAIN));
    let done = run_again(engine, &Plan { jobs, limits: &args.limits, place: &place }, other, &again, <[u64]>::to_vec)?;
    for (index, pair) in again.into_iter().zip(done) {
        other[index] = pair;
    }
    Ok(true)
}

/// Runs some of these pairs with other seeds, or the same; `seeds` is given those that were run.
fn run_again<'a>(
    engine: &Engine,
    plan: &Plan<'_>,
    pairs: &[Pair<'a>],
    which: &[usize],
    seeds: impl Fn(&[u64]) -> Vec<u64>,
) -> Result<Vec<Pair<'a>>> {
    let mut again = Pairs::at(plan.place.clone());
    for pair in which.iter().map(|index| &pairs[*index]) {
        let done: Vec<u64> = pair.runs.iter().map(|told| told.report.seed).collect();
        again.add_with(pair.file, Arc::clone(&pair.adapter), &seeds(&done), false);
    }
    again.carry_out(engine, plan)
}

fn compare<'a>(sim: &'a Pair<'a>, other: &'a Pair<'a>, known: &[Known]) -> Compared<'a> {
    let reports = |pair: &Pair<'_>| pair.runs.iter().map(|told| told.report.clone()).collect::<Vec<RunReport>>();
    let place = &other.place;
    let real = (!place.is_virtual()).then(|| RealTerms::new(&other.file.scenario, place.time_scale()));
    let agreement = agreement::compare(&reports(sim), &reports(other), real);
    let reason = |difference: &Difference| {
        let (world, pool) = (other.place.name(), other.adapter.name());
        let scenario = other.file.path.file_stem().unwrap_or_default().to_string_lossy();
        agreement::known_as(known, world, &scenario, pool, difference).map(|known| known.reason.clone())
    };
    let known = match &agreement {
        Agreement::Differs(differences) => differences.iter().map(reason).collect(),
        Agreement::Agrees | Agreement::Unsupported(_) => None,
    };
    Compared { sim, other, agreement, known }
}

#[derive(Clone, Copy)]
enum Word {
    Agrees,
    Known,
    Unsupported,
    Differs,
}

impl Compared<'_> {
    fn word(&self) -> Word {
        match (&self.agreement, &self.known) {
            (Agreement::Agrees, _) => Word::Agrees,
            (Agreement::Unsupported(_), _) => Word::Unsupported,
            (Agreement::Differs(_), Some(_)) => Word::Known,
            (Agreement::Differs(_), None) => Word::Differs,
        }
    }

    fn differences(&self) -> &[Difference] {
        match &self.agreement {
            Agreement::Differs(differences) => differences,
            Agreement::Agrees | Agreement::Unsupported(_) => &[],
        }
    }

    fn reasons(&self) -> Vec<String> {
        match &self.agreement {
            Agreement::Unsupported(needs) => needs.clone(),
            Agreement::Agrees | Agreement::Differs(_) => self.known.clone().unwrap_or_default(),
        }
    }
}

impl Word {
    fn as_str(self) -> &'static str {
        match self {
            Word::Agrees => "agrees",
            Word::Known => "known",
            Word::Unsupported => "unsupported",
            Word::Differs => "DIFFERS",
        }
    }

    fn outcome(self) -> Outcome {
        match self {
            Word::Agrees => Outcome::Pass,
            Word::Known => Outcome::Known,
            Word::Unsupported => Outcome::Unsupported,
            Word::Differs => Outcome::Failed,
        }
    }
}

/// What a pair came to in its world, in a few words.
fn came_to(pair: &Pair<'_>) -> String {
    let mut violated: Vec<&str> = pair.judged_runs().flat_map(|told| told.report.counts.keys().copied()).collect();
    violated.sort_unstable();
    violated.dedup();
    if violated.is_empty() { word(pair.judged().expectation.outcome).to_owned() } else { violated.join(", ") }
}

fn print_table(out: &mut impl Write, compared: &[Compared<'_>], place: &Place) -> Result<()> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["", "scenario", "pool", "sim", place.name(), "peak", "recovery"]);
    for one in compared {
        let both = |figure: &dyn Fn(&Pair<'_>) -> String| {
            let (sim, other) = (figure(one.sim), figure(one.other));
            if sim == other { sim } else { format!("{sim} / {other}") }
        };
        let unsupported = matches!(one.word(), Word::Unsupported);
        let other = if unsupported { one.reasons().join("; ") } else { came_to(one.other) };
        let number =
            |pair: &Pair<'_>| pair.greatest("peak_connections").map_or("-".to_owned(), |peak| peak.to_string());
        let seconds = |pair: &Pair<'_>| {
            let first = pair.greatest("recovery.first_success");
            first.map_or("-".to_owned(), |seconds| format!("{:.1} s", seconds / pair.place.time_scale()))
        };
        table.add_row([
            one.word().as_str().to_owned(),
            one.sim.file.name(),
            one.sim.adapter.name().to_owned(),
            came_to(one.sim),
            other,
            if unsupported { "-".to_owned() } else { both(&number) },
            if unsupported { "-".to_owned() } else { both(&seconds) },
        ]);
    }
    for (line, one) in lines(&table).iter().zip(std::iter::once(None).chain(compared.iter().map(Some))) {
        match one {
            Some(one) => {
                let word = one.word();
                let rest = line.strip_prefix(word.as_str()).unwrap_or(line);
                writeln!(out, "{}{rest}", styled(style_of(word.outcome()), word.as_str()))?;
            }
            None => writeln!(out, "{line}")?,
        }
    }
    for one in compared.iter().filter(|one| !one.differences().is_empty()) {
        let (file, pool) = (one.sim.file.path.display(), one.sim.adapter.name());
        writeln!(out, "\n{file} with {pool}: {}", one.word().as_str())?;
        for difference in one.differences() {
            writeln!(out, "  {difference}")?;
        }
        for reason in one.reasons() {
            writeln!(out, "  known: {reason}")?;
        }
        let seed = one.other.runs.first().map_or(1, |told| told.report.seed);
        writeln!(out, "  see: poolproof show {file} --pool {pool} --seed {seed}{}", place.words())?;
    }
    let count = |wanted: fn(Word) -> bool| compared.iter().filter(|one| wanted(one.word())).count();
    let agree = count(|word| matches!(word, Word::Agrees));
    let known = count(|word| matches!(word, Word::Known));
    let differ = count(|word| matches!(word, Word::Differs));
    let unsupported = count(|word| matches!(word, Word::Unsupported));
    writeln!(
        out,
        "\n{} pairs of scenario and pool in sim and {}: {agree} agree, {known} differ as known, {differ} differ, {unsupported} \
         unsupported",
        compared.len(),
        place.name()
    )?;
    Ok(())
}

fn print_json(out: &mut impl Write, compared: &[Compared<'_>], place: &Place) -> Result<()> {
    let results = compared.iter().map(|one| Entry {
        file: one.sim.file.path.display().to_string(),
        scenario: one.sim.file.name(),
        pool: one.sim.adapter.name(),
        agreement: match one.word() {
            Word::Differs => "differs",
            word => word.as_str(),
        },
        sim: came_to(one.sim),
        other: came_to(one.other),
        differences: one.differences(),
        reasons: one.reasons(),
    });
    let document = Document { format: 1, world: place.name(), results: results.collect() };
    writeln!(out, "{}", serde_json::to_string_pretty(&document).expect("plain data"))?;
    Ok(())
}
