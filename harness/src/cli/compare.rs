//! `compare`: pools side by side, scenario by scenario: verdicts, and what a caller would have felt.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::CompareArgs;
use super::engine::Engine;
use super::error::{Code, Failure, Result};
use super::files::{self, ScenarioFile};
use super::outcome::word;
use super::pairs::{Pair, Pairs, Plan, pools};
use super::terminal::{lines, style_of, styled};
use crate::pool::Adapter;
use crate::trace::figures::{Came, Figures};
use crate::verdict::{self, Outcome};
use crate::world::Place;

/// Stands where nothing was measured.
const NOTHING: &str = "–";

/// The outcome of a scenario with a pool that its story is not about.
const OTHER_POOLS: &str = "left out";

/// The whole comparison. Fields are added, never renamed or removed, as long as `format` is 1.
#[derive(Serialize)]
struct Comparison {
    format: u32,
    pools: Vec<Compared>,
    scenarios: Vec<Row>,
    /// Files whose stories are about other pools.
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct Compared {
    name: &'static str,
    version: &'static str,
}

/// One scenario.
#[derive(Serialize)]
struct Row {
    file: String,
    title: String,
    /// One for each pool, in their order.
    cells: Vec<Cell>,
}

/// One scenario with one pool: the worst over its seeds.
#[derive(Serialize)]
struct Cell {
    #[serde(skip)]
    outcome: Outcome,
    #[serde(rename = "outcome")]
    word: &'static str,
    expected: bool,
    violations: Vec<Shown>,
    /// What the scenario needs and the pool can't do.
    lacks: Vec<String>,
    /// From the end of an outage to the last failure that a caller saw, or to the first success if that came later.
    #[serde(rename = "recovery_s", serialize_with = "recovery")]
    recovery: Option<Came>,
    #[serde(rename = "worst_wait_s")]
    worst_wait: Option<f64>,
    connections_opened: Option<f64>,
    /// Failures that callers saw, by kind, in the run that had most.
    errors: Option<BTreeMap<String, u64>>,
    /// Statements a second while the world was faulty, as a share of those while it was not.
    goodput_share: Option<f64>,
    #[serde(skip)]
    reasons: Vec<String>,
    /// The seed that shows why it is not as expected.
    #[serde(skip)]
    seed: u64,
}

/// An invariant that was violated, and where that is explained.
#[derive(Serialize)]
struct Shown {
    invariant: &'static str,
    link: Option<String>,
}

/// Seconds, `"never"`, or nothing where there was no outage.
#[expect(clippy::ref_option, reason = "serde's")]
fn recovery<S: serde::Serializer>(recovery: &Option<Came>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    match recovery {
        Some(Came::After(after)) => serializer.serialize_f64(after.as_secs_f64()),
        Some(Came::Never) => serializer.serialize_str("never"),
        None => serializer.serialize_none(),
    }
}

pub(super) fn compare(engine: &Engine, args: &CompareArgs) -> Result<Code> {
    let files = files::read_all(engine, &args.runs.chosen.paths)?;
    let adapters = pools(engine, &args.runs.chosen.pools.names, &Place::Sim)?;
    let asked = !args.runs.chosen.pools.names.is_empty();
    let (chosen, left_out): (Vec<&ScenarioFile>, Vec<&ScenarioFile>) =
        files.iter().partition(|file| asked || is_about(file, &adapters));
    if chosen.is_empty() {
        return Err(Failure::sentence("these stories are about other pools: name those to compare with --pool"));
    }
    let mut pairs = Pairs::at(Place::Sim);
    let wanted = |file, adapter| asked || is_about(file, std::slice::from_ref(adapter));
    for file in &chosen {
        for adapter in adapters.iter().filter(|adapter| wanted(file, adapter)) {
            pairs.add(file, Arc::clone(adapter), &args.runs.seeds);
        }
    }
    let pairs = pairs.carry_out(engine, &Plan { jobs: args.runs.jobs, limits: &args.limits, place: &Place::Sim })?;
    if let Some(bug) = pairs.iter().flat_map(|pair| &pair.runs).find_map(|told| told.bug.clone()) {
        return Err(Failure::Bug(bug));
    }
    let mut done = pairs.iter();
    let scenarios = chosen.iter().map(|file| {
        let cells = adapters.iter().map(|adapter| {
            let pair = if wanted(file, adapter) { done.next() } else { None };
            pair.map_or_else(Cell::of_other_pools, Cell::of)
        });
        Row { file: file.path.display().to_string(), title: file.scenario.title.clone(), cells: cells.collect() }
    });
    let scenarios = scenarios.collect();
    let comparison = Comparison {
        format: 1,
        pools: adapters.iter().map(|adapter| Compared { name: adapter.name(), version: adapter.version() }).collect(),
        scenarios,
        left_out: left_out.into_iter().map(|file| file.path.display().to_string()).collect(),
    };
    let mut out = anstream::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&comparison).expect("plain data"))?;
    } else if args.markdown {
        write!(out, "{}", comparison.markdown())?;
    } else {
        comparison.print(&mut out)?;
    }
    out.flush()?;
    let expected = comparison.scenarios.iter().flat_map(|row| &row.cells).all(|cell| cell.expected);
    Ok(if expected { Code::Expected } else { Code::Unexpected })
}

/// Whether a scenario's story is about any of these pools. Most are about all.
fn is_about(file: &ScenarioFile, adapters: &[Arc<dyn Adapter>]) -> bool {
    let about = &file.scenario.pools;
    about.is_empty() || adapters.iter().any(|adapter| about.iter().any(|name| name == adapter.name()))
}

impl Row {
    /// The file's name alone.
    fn name(&self) -> &str {
        Path::new(&self.file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&self.file)
    }
}

impl Cell {
    /// The scenario's story is not about this pool: it was not run.
    fn of_other_pools() -> Cell {
        Cell {
            outcome: Outcome::Unsupported,
            word: OTHER_POOLS,
            expected: true,
            violations: Vec::new(),
            lacks: Vec::new(),
            recovery: None,
            worst_wait: None,
            connections_opened: None,
            errors: None,
            goodput_share: None,
            reasons: Vec::new(),
            seed: 1,
        }
    }

    fn of(pair: &Pair<'_>) -> Cell {
        let judged = pair.judged();
        let (scenario, pool, version) = (&pair.file.scenario, pair.adapter.name(), pair.adapter.version());
        let link = |invariant| verdict::known(scenario, pool, version, invariant).map(|known| known.link.clone());
        let violations = judged.violated.iter().map(|&invariant| Shown { invariant, link: link(invariant) });
        let figures = || pair.judged_runs().map(|told| &told.report.figures);
        let errors = figures().map(|figures| {
            let mut errors = figures.errors.clone();
            // Callers see what the pool makes of it.
            errors.remove("dial");
            errors
        });
        let recovery = figures().map(Figures::recovery).filter_map(|recovery| {
            let last_failure = Came::After(recovery.full_capacity?);
            Some(recovery.first_success?.max(last_failure))
        });
        Cell {
            outcome: judged.expectation.outcome,
            word: word(judged.expectation.outcome),
            expected: judged.is_expected(),
            violations: violations.collect(),
            recovery: recovery.max(),
            worst_wait: pair.greatest("wait.worst"),
            connections_opened: pair.greatest("connections_opened"),
            errors: errors.max_by_key(sum),
            goodput_share: figures().filter_map(|figures| figures.goodput_share()).min_by(f64::total_cmp),
            lacks: judged.lacks,
            reasons: judged.expectation.reasons,
            seed: judged.seed,
        }
    }

    /// Recovery, worst wait, connections opened, errors, goodput in an outage; `None` when nothing was run.
    fn figures(&self) -> Option<[String; 5]> {
        let errors = sum(self.errors.as_ref()?);
        let seconds = |figure: Option<f64>| figure.map_or_else(|| NOTHING.to_owned(), |s| format!("{s:.2} s"));
        Some([
            match self.recovery {
                None => NOTHING.to_owned(),
                Some(Came::After(after)) => seconds(Some(after.as_secs_f64())),
                Some(Came::Never) => "never".to_owned(),
            },
            seconds(self.worst_wait),
            self.connections_opened.map_or_else(|| NOTHING.to_owned(), |opened| opened.to_string()),
            errors.to_string(),
            self.goodput_share.map_or_else(|| NOTHING.to_owned(), |share| format!("{:.0} %", share * 100.0)),
        ])
    }

    /// The verdict with what it is about: `known: live-hand-out`.
    fn verdict(&self) -> String {
        let about: Vec<&str> = match self.outcome {
            Outcome::Unsupported => self.lacks.iter().map(String::as_str).collect(),
            _ => self.violations.iter().map(|shown| shown.invariant).collect(),
        };
        if about.is_empty() { self.word.to_owned() } else { format!("{}: {}", self.word, about.join(", ")) }
    }

    /// `timeout 12, broken 3`
    fn kinds(&self) -> String {
        let errors = self.errors.iter().flatten().map(|(kind, count)| format!("{kind} {count}"));
        errors.collect::<Vec<_>>().join(", ")
    }
}

fn sum(errors: &BTreeMap<String, u64>) -> u64 {
    errors.values().sum()
}

impl Comparison {
    /// The verdicts of all, then the figures of each scenario.
    fn print(&self, out: &mut impl Write) -> Result<()> {
        let mut table = plain();
        table.set_header(std::iter::once("").chain(self.pools.iter().map(|pool| pool.name)));
        for row in &self.scenarios {
            table.add_row(std::iter::once(row.name()).chain(row.cells.iter().map(|cell| cell.word)));
        }
        for line in lines(&table) {
            writeln!(out, "{line}")?;
        }
        for row in &self.scenarios {
            writeln!(out, "\n{}: {}", row.name(), row.title)?;
            let mut table = plain();
            let figures = ["recovery", "worst wait", "opened", "errors", "in outage"];
            table.set_header([&["", ""], figures.as_slice(), &[""]].concat());
            for column in 2..7 {
                if let Some(column) = table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            for (pool, cell) in self.pools.iter().zip(&row.cells) {
                let figures = cell.figures().unwrap_or_default();
                let cells = [pool.name.to_owned(), cell.verdict()].into_iter().chain(figures);
                table.add_row(cells.chain([cell.kinds()]));
            }
            for (line, cell) in lines(&table).iter().zip(std::iter::once(None).chain(row.cells.iter().map(Some))) {
                match cell.and_then(|cell| Some((cell, line.split_once(cell.word)?))) {
                    Some((cell, (before, after))) => {
                        writeln!(out, "{before}{}{after}", styled(style_of(cell.outcome), cell.word))?;
                    }
                    None => writeln!(out, "{line}")?,
                }
            }
            for (pool, cell) in self.pools.iter().zip(&row.cells).filter(|(_, cell)| !cell.expected) {
                for reason in &cell.reasons {
                    writeln!(out, "  {}: {reason}", pool.name)?;
                }
                writeln!(out, "  replay: poolproof show {} --pool {} --seed {}", row.file, pool.name, cell.seed)?;
            }
        }
        let versions = self.pools.iter().map(|pool| format!("{} {}", pool.name, pool.version));
        writeln!(out, "\n{}", versions.collect::<Vec<_>>().join(", "))?;
        writeln!(
            out,
            "recovery: from the end of the outage to the last failure that a caller saw; errors: seen by callers"
        )?;
        writeln!(out, "in outage: statements a second while the world was faulty, as a share of the usual")?;
        if !self.left_out.is_empty() {
            writeln!(out, "left out, since they are about other pools: {} files", self.left_out.len())?;
        }
        Ok(())
    }

    /// One table: in a cell the verdict, with links to what explains it, and the figures.
    fn markdown(&self) -> String {
        let mut text = "| scenario |".to_owned();
        for pool in &self.pools {
            let _ = write!(text, " {} {} |", pool.name, pool.version);
        }
        text.push_str("\n| --- |");
        text.push_str(&" --- |".repeat(self.pools.len()));
        text.push('\n');
        for row in &self.scenarios {
            let _ = write!(
                text,
                "| [{}]({} \"{}\") |",
                row.name(),
                row.file,
                row.title.replace('"', "'").replace('|', "/")
            );
            for cell in &row.cells {
                let _ = write!(text, " {} |", cell.markdown(&row.file));
            }
            text.push('\n');
        }
        text
    }
}

impl Cell {
    fn markdown(&self, file: &str) -> String {
        let mut text = match self.outcome {
            Outcome::Unsupported if self.lacks.is_empty() => "a story of other pools".to_owned(),
            Outcome::Unsupported => format!("can't: {}", self.lacks.join(", ")),
            Outcome::Pass | Outcome::Unknown => self.word.to_owned(),
            Outcome::Excused | Outcome::Known | Outcome::Told | Outcome::Failed => {
                let shown = self.violations.iter().map(|Shown { invariant, link }| match link {
                    Some(link) => format!("[{invariant}]({link})"),
                    None => format!("[{invariant}, {}]({file})", self.word),
                });
                shown.collect::<Vec<_>>().join("<br>")
            }
        };
        if let Some(figures) = self.figures() {
            let _ = write!(text, "<br><sub>{}</sub>", figures.join(" · "));
        }
        text
    }
}

/// A table without borders, as wide as it needs to be.
fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}
