//! The command line: what it takes, one file for each command.
//!
//! Exit codes: 0 all is as expected, 1 something is not, 2 the command or a file is wrong, 3 poolproof has a bug.

mod agree;
mod check;
mod compare;
mod engine;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod job;
mod list;
mod new;
pub(crate) mod outcome;
pub(crate) mod pairs;
mod run;
mod schema;
mod search;
mod serve;
mod show;
mod start;
mod terminal;
mod world;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use engine::{Engine, Named, RunRequest};
pub use error::Code;
pub use start::{main, run};
use world::{World, with_worlds};

/// Fault-injection test harness and deterministic simulator for database connection pools.
///
/// Runs real pools in virtual time against a simulated PostgreSQL and network that fail on script, and judges them by what
/// the server saw.
#[derive(Debug, Parser)]
#[command(name = "poolproof", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  poolproof run                                     every scenario in ./scenarios against every pool
  poolproof run scenarios/faults --pool bb8         one folder, one pool
  poolproof show scenarios/faults/server_crash.toml --pool bb8 --seed 7
  poolproof new my-restart                          a file to start from

Exit codes:
  0  all results are as expected
  1  some result is not
  2  the command or a scenario file is wrong
  3  poolproof has a bug";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios against pools, and judge them
    Run(RunArgs),
    /// Set pools side by side: what each scenario does to each
    Compare(CompareArgs),
    /// Compare the simulated world with a real PostgreSQL, or with turmoil
    Agree(AgreeArgs),
    /// Look for what no scenario shows, and write a file for each thing found
    Search(SearchArgs),
    /// Read scenario files, and report every mistake in them
    Check(CheckArgs),
    /// Tell the story of one run
    Show(ShowArgs),
    /// List what scenarios and commands can name
    List(ListArgs),
    /// Print the JSON Schema of scenario files, for editors
    Schema,
    /// Write a scenario file to start from
    New(NewArgs),
    /// Serve a scenario's simulated server in real time, for psql or any driver
    Serve(ServeArgs),
}

#[derive(Debug, Args)]
#[command(after_help = with_worlds("\
Examples:
  poolproof run scenarios/faults/server_restart_fast.toml --pool bb8 --seed 7 --trace a.jsonl
  poolproof run --seeds 1..1000 --jobs 2 --json > results.json
  poolproof run scenarios/faults --pool bb8 --world postgres --time-scale 0.2"))]
struct RunArgs {
    #[command(flatten)]
    runs: Runs,
    /// Write the full trace as JSON lines; a folder takes those of all runs
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    world: World,
    #[command(flatten)]
    limits: RunLimits,
}

/// What is run: scenarios with pools, over seeds.
#[derive(Debug, Args)]
struct Runs {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    seeds: Seeds,
    /// Runs at once [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
}

/// Scenarios with pools.
#[derive(Debug, Args)]
struct Chosen {
    /// Scenario files, and folders with them
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    pools: Pools,
}

#[derive(Debug, Args)]
struct Pools {
    /// Only this pool; may be given again
    #[arg(long = "pool", value_name = "POOL")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
struct Seeds {
    /// This seed instead of those of each file
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// These seeds instead of those of each file: 1..100 or 1..=100, both ends included
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<RangeInclusive<u64>>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  poolproof compare scenarios/faults
  poolproof compare scenarios --pool bb8 --pool deadpool --markdown > pools.md

A cell's figures are the worst over its seeds.")]
struct CompareArgs {
    #[command(flatten)]
    runs: Runs,
    /// Print the comparison as JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print the comparison as one Markdown table
    #[arg(long)]
    markdown: bool,
    #[command(flatten)]
    limits: RunLimits,
}

#[derive(Debug, Args)]
#[command(after_help = with_worlds("\
Examples:
  poolproof agree scenarios/faults --world postgres --time-scale 0.2
  poolproof agree scenarios/faults --pool bb8 --world turmoil"))]
struct AgreeArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Runs at once in the other world [default: one for each core, or four where they mostly wait]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    world: World,
    #[command(flatten)]
    limits: RunLimits,
}

#[derive(Debug, Args)]
struct RunLimits {
    /// Give a run up when virtual time has stood still for so many seconds of wall-clock time
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    stall_after: u64,
    /// Memory that a worker may have, in MiB; 0 is no limit
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = memory)]
    memory: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  poolproof search --pool bb8 --time 10m
  poolproof search --pool bb8 --from scenarios/faults/server_crash.toml --runs 5000
  poolproof search --pool reference --runs 1000 --demand dial-failed/waiters --marks
  poolproof search scenarios/faults/thread_churn.toml --every-poll --pool bb8
  poolproof search --table --seeds 5               how soon planted bugs are found

The folder of --state has everything: started again with the same pool and seed, a search goes on where it was. Exit code
1 says that something was found that is not known, or that a demanded mark was never reached.")]
struct SearchArgs {
    /// A scenario file whose neighbours are run, each once: see --every-poll, --every-moment, --every-message
    #[arg(value_name = "FILE", conflicts_with_all = ["from", "table"])]
    file: Option<PathBuf>,
    /// Neighbours of FILE: each step of each actor cancelled at each of its polls
    #[arg(long, requires = "file")]
    every_poll: bool,
    /// Neighbours of FILE: one more fault of each kind at each instant of the run, and a millisecond later
    #[arg(long, requires = "file")]
    every_moment: bool,
    /// Neighbours of FILE: before and after each protocol message the connection cut, silenced, delayed, or its backend
    /// terminated, cancelled or without memory
    #[arg(long, requires = "file")]
    every_message: bool,
    /// FILE and its neighbours in so many other orders of what is ready at the same time
    #[arg(long, value_name = "N", requires = "file", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    interleavings: u32,
    /// The most neighbours of one kind, for each seed and order; where there are more, so many are taken, evenly
    #[arg(long, value_name = "N", requires = "file", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    most: u32,
    /// The pool
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// End after so many runs, those of earlier parts included [default: 10000, unless --time is given]
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// End after this time: 30s, 10m, 2h
    #[arg(long, value_name = "DURATION", value_parser = time)]
    time: Option<Duration>,
    /// Runs at once; with one, a search is the same each time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Start from this scenario file instead of nothing: what is run are changes of it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The seed from which everything is drawn [default: 1]; with FILE the only seed of its runs [default: the file's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where results and findings are kept [default: search-POOL]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How inputs are drawn
    #[arg(long, value_enum, default_value_t = crate::search::source::Guidance::Guided)]
    strategy: crate::search::source::Guidance,
    /// End with the first finding
    #[arg(long)]
    first: bool,
    /// The most runs that a finding is shrunk in
    #[arg(long, value_name = "N", default_value_t = 2000)]
    shrink_runs: u32,
    /// List the marks that were never reached
    #[arg(long)]
    marks: bool,
    /// Fail if this mark is never reached; may be given again
    #[arg(long, value_name = "MARK")]
    demand: Vec<String>,
    /// Print how soon each planted bug is found, guided and plain
    #[arg(long, conflicts_with_all = ["time", "from", "state", "first", "marks", "demand"])]
    table: bool,
    /// Seeds of the table's searches, from --seed on
    #[arg(long, value_name = "N", default_value_t = 5, requires = "table", value_parser = clap::value_parser!(u16).range(1..))]
    seeds: u16,
    /// Give a run up when virtual time has stood still for so many seconds of wall-clock time
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    stall_after: u64,
    /// Memory that a worker may have, in MiB; 0 is no limit
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = memory)]
    memory: u64,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Scenario files, and folders with them
    #[arg(default_value = "scenarios")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = with_worlds("\
Example:
  poolproof show scenarios/faults/server_restart_fast.toml --pool bb8 --seed 7"))]
struct ShowArgs {
    /// The scenario file
    file: PathBuf,
    /// The pool
    #[arg(long)]
    pool: String,
    /// The seed [default: the file's first]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The full trace as JSON lines instead of the story
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    world: World,
    #[command(flatten)]
    limits: RunLimits,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// What to list
    what: Listed,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Listed {
    /// The pools, with their versions and how the common settings are mapped to theirs
    Pools,
    /// The invariants that every run is judged by
    Invariants,
    /// What an actor can do
    Steps,
    /// What can be done to servers, network and apps
    Faults,
}

#[derive(Debug, Args)]
struct NewArgs {
    /// The scenario's name: it becomes NAME.toml
    name: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  poolproof serve scenarios/faults/slow_server.toml --listen 127.0.0.1:5433 &
  psql -h 127.0.0.1 -p 5433 -U app app")]
struct ServeArgs {
    /// The scenario file
    file: PathBuf,
    /// Where to listen: a loopback address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5433")]
    listen: SocketAddr,
}

/// As many seeds as one command takes: its runs' reports are kept to its end.
const SEEDS: u64 = 10_000;
/// Less than this and a worker can't even start its threads.
const LEAST_MEMORY: u64 = 256;

fn time(text: &str) -> Result<Duration, String> {
    crate::scenario::duration(text)
}

fn memory(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(mib) if mib == 0 || mib >= LEAST_MEMORY => Ok(mib),
        Ok(_) => Err(format!("poolproof itself needs {LEAST_MEMORY} MiB")),
        Err(_) => Err("expected a whole number of MiB".to_owned()),
    }
}

/// Both ends included, however it is written: `1..100` means a hundred seeds to everybody but a Rust programmer.
fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let expected = || "expected two whole numbers, as in 1..100".to_owned();
    let (first, last) = text.split_once("..").ok_or_else(expected)?;
    let last = last.strip_prefix('=').unwrap_or(last);
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| expected());
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("there is no seed from {first} to {last}"));
    }
    if last - first >= SEEDS {
        return Err(format!("more than {SEEDS} seeds: take them in several commands"));
    }
    Ok(first..=last)
}
