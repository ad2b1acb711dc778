//! The same scenarios in both simulated worlds: on poolproof's network, and on turmoil's.
//!
//! `agree::FOLDER/SCENARIO::POOL` runs a scenario's first seed with a pool in both worlds and compares what they came to
//! ([`agreement`]). `known.toml` lists where they are known to differ, and who is right by the kernel's behaviour; each must show
//! exactly so. A chosen few are run by `cargo test`; `cargo test --test worlds -- --include-ignored` runs all that turmoil can
//! express, and tells how many agree. `same_trace::…` sees to it that a run on turmoil is as reproducible as any.
//! `turmoil::…` shows without poolproof what ARCHITECTURE.md says of turmoil.

#![expect(clippy::unwrap_used, reason = "tests")]

mod agreement;
mod known;
mod same_trace;
mod upstream;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use poolproof::pool::{self, Adapter};
use poolproof::run::RunSpec;
use poolproof::scenario::model::Scenario;
use poolproof::scenario::parse;
use poolproof::verdict;
use poolproof::world::turmoil;

use agreement::Tally;
use known::Known;

/// The folders whose scenarios are compared. Those of the last are for the faults that the others don't have.
const FOLDERS: [(&str, &str); 4] = [
    ("faults", "../scenarios/faults"),
    ("lifecycle", "../scenarios/lifecycle"),
    ("seeds", "../scenarios/seeds"),
    ("worlds", "tests/worlds/scenarios"),
];

/// The pools they are compared with; a story that is about others is compared with those.
const POOLS: [&str; 3] = ["bb8", "deadpool", "reference"];

/// What `cargo test` compares: what turmoil can express of each kind, short ones.
const CHOSEN: [&str; 12] = [
    "faults/connect_lost::bb8",
    "faults/connect_refused::deadpool",
    "faults/server_crash::bb8",
    "faults/server_restart_fast::reference",
    "lifecycle/close_in_every_state::deadpool",
    "worlds/app_power_loss::reference",
    "worlds/failover::bb8",
    "worlds/latency::deadpool",
    "worlds/partition::bb8",
    "worlds/server_killed::deadpool",
    "worlds/server_power_loss::deadpool",
    "worlds/signals::reference",
];

/// A scenario with a pool.
#[derive(Clone)]
pub(crate) struct Case {
    /// `faults/server_crash`
    pub(crate) place: String,
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) adapter: Arc<dyn Adapter>,
}

impl Case {
    pub(crate) fn name(&self) -> String {
        format!("{}::{}", self.place, self.adapter.name())
    }

    pub(crate) fn spec(&self) -> RunSpec {
        let seed = self.scenario.seeds.first().copied().unwrap_or(1);
        RunSpec { scenario: Arc::clone(&self.scenario), adapter: Arc::clone(&self.adapter), seed }
    }
}

fn main() -> ExitCode {
    let cases = cases();
    if same_trace::is_asked(&cases) {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let known = Arc::new(Known::read());
    let tally = Arc::new(Tally::default());
    let mut trials = upstream::trials();
    trials.extend(same_trace::trials(&cases));
    trials.push(Trial::test("known_differences_name_cases", {
        let (known, names) = (Arc::clone(&known), cases.iter().map(Case::name).collect());
        move || known.check(names)
    }));
    let (mut expressible, mut left_out, mut chosen) = (0, 0, 0);
    for case in cases {
        if !turmoil::lacks(&case.scenario).is_empty() {
            left_out += 1;
            continue;
        }
        expressible += 1;
        let is_chosen = CHOSEN.contains(&&*case.name());
        chosen += usize::from(is_chosen);
        let (known, tally) = (Arc::clone(&known), Arc::clone(&tally));
        let name = format!("agree::{}", case.name());
        trials.push(Trial::test(name, move || agreement::agree(&case, &known, &tally)).with_ignored_flag(!is_chosen));
    }
    trials.push(Trial::test("the_chosen_are_there", move || match chosen == CHOSEN.len() {
        true => Ok(()),
        false => Err(format!("{chosen} of {} cases are there, and can be expressed", CHOSEN.len()).into()),
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        println!("worlds: {expressible} cases that turmoil can express, {left_out} that it can't; {tally}");
    }
    conclusion.exit_code()
}

/// Every scenario with each pool that it is compared with, if the pool can do what it needs.
fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut cases = Vec::new();
    for (folder, path) in FOLDERS {
        let mut files: Vec<_> = fs::read_dir(root.join(path)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        for path in files {
            let stem = path.file_stem().unwrap().to_string_lossy();
            let text = fs::read_to_string(&path).unwrap();
            let scenario =
                Arc::new(parse(&path.display().to_string(), &text).unwrap_or_else(|error| panic!("{error:?}")));
            for pool in pools(&scenario) {
                let adapter = pool::by_name(pool).unwrap();
                if verdict::lacks(&scenario, &adapter.capabilities()).is_empty() {
                    let scenario = Arc::clone(&scenario);
                    cases.push(Case { place: format!("{folder}/{stem}"), scenario, adapter });
                }
            }
        }
    }
    cases
}

fn pools(scenario: &Scenario) -> Vec<&str> {
    let named = |pool: &&str| scenario.pools.is_empty() || scenario.pools.iter().any(|named| named == *pool);
    let common: Vec<&str> = POOLS.into_iter().filter(named).collect();
    if common.is_empty() { scenario.pools.iter().map(String::as_str).collect() } else { common }
}
