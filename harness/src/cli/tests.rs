//! The command line over an engine whose runs come out as the pool's name says. The test executable is started again, as
//! the command ([`command_entry`]) and as its workers ([`worker_entry`]).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::job::Job;
use super::{Code, Engine, RunRequest, files, seeds};
use crate::campaign::Workers;
use crate::invariant::{self, Violation, Violations, Who};
use crate::pool::{Adapter, Capabilities, Connector, Pool, PoolError, PoolErrorKind};
use crate::report::Told;
use crate::scenario::model::PoolSettings;
use crate::trace::Figures;
use crate::trace::event::ActorId;
use crate::verdict::RunReport;
use crate::worker::{VARIABLE, become_worker_if_asked};

/// The arguments of a command under test, one a line.
const ARGUMENTS: &str = "POOLPROOF_TEST_ARGUMENTS";

struct Named(&'static str);

#[async_trait]
impl Adapter for Named {
    fn name(&self) -> &'static str {
        self.0
    }
    fn version(&self) -> &'static str {
        "1.2.3"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    fn mapping(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
    async fn build(&self, _: &PoolSettings, _: Connector) -> Result<Arc<dyn Pool>, PoolError> {
        Err(PoolError { kind: PoolErrorKind::Other, message: "there is no such pool".into() })
    }
}

fn pools(names: &[&'static str]) -> Vec<Arc<dyn Adapter>> {
    names.iter().map(|name| Arc::new(Named(name)) as Arc<dyn Adapter>).collect()
}

/// Runs come out by the pool's name.
fn pretend(request: RunRequest<'_>) -> Told {
    let seed = request.seed;
    if let Some(mut trace) = request.trace {
        writeln!(trace, "{{\"seed\":{seed}}}").unwrap();
    }
    let mut figures = Figures::default();
    figures.peaks.connections = u32::try_from(seed).unwrap();
    figures.waits.add(Duration::from_millis(seed * 10));
    let mut violations = Violations::default();
    let report = match request.adapter.name() {
        "limited" => RunReport::unsupported(seed, vec!["close".to_owned()]),
        "puzzling" => RunReport::unknown(seed, "the server did not start"),
        "spinning" => loop {
            std::hint::spin_loop();
        },
        "aborting" => std::process::abort(),
        "buggy" => panic!("a bug of the harness"),
        name => {
            if name == "leaky" || (name == "flaky" && seed == 2) {
                let (meta, at) = (&invariant::eventual_release::META, Duration::from_millis(1500));
                violations.push(Violation::new(meta, at, Who::Actor(ActorId(3)), "its lease did not come back"));
            }
            RunReport::judged(seed, &violations, figures, Vec::new())
        }
    };
    Told { report, story: format!("the story of seed {seed}\n"), bug: None }
}

fn engine() -> Engine {
    Engine {
        run: pretend,
        workers: || Workers::Executable { program: std::env::current_exe().unwrap(), arguments: entry("worker_entry") },
        own: &[],
        pools: || pools(&["steady", "flaky", "leaky", "limited", "puzzling", "spinning", "aborting", "buggy"]),
        published: || pools(&["steady", "limited"]),
        invariants: || {
            let name = |name| super::Named { name, meaning: "Something holds." };
            vec![name("eventual-release"), name("no-stall")]
        },
        capabilities: || vec!["close"],
        figures: || vec!["peak_connections"],
        schema: || "{}".to_owned(),
        serve: |_, _| Ok(()),
    }
}

fn entry(test: &str) -> Vec<OsString> {
    let test = format!("cli::tests::{test}");
    [test.as_str(), "--exact", "--nocapture"].map(OsString::from).to_vec()
}

#[test]
fn worker_entry() {
    if std::env::var_os(VARIABLE).is_some() {
        engine().install();
        become_worker_if_asked::<Job>();
    }
}

#[test]
fn command_entry() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else {
        return;
    };
    let arguments = ["poolproof"].into_iter().chain(arguments.lines());
    let code = super::run(engine(), arguments.map(OsString::from));
    std::process::exit(code as i32);
}

const SCENARIO: &str = r#"
title = "A scenario"
story = "Something happens."
seeds = [1, 2, 3]

[app.web]

[workload.request]
app = "web"
arrive = { at = ["1s"] }
steps = ["acquire", "release"]

[expect]
until = "5s"
"#;

const KNOWN: &str = r#"
[[expect.known]]
pool = "POOL"
versions = "<=1.2.3"
violates = "eventual-release"
link = "https://example.org/1"
"#;

/// Runs a command on a folder with `a.toml`, and gives its exit code and what it printed after the test harness's own
/// lines.
fn command(scenario: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    command_in(folder.path(), scenario, arguments)
}

fn command_in(folder: &Path, scenario: &str, arguments: &[&str]) -> (i32, String, String) {
    std::fs::write(folder.join("a.toml"), scenario).unwrap();
    let output: Output = Command::new(std::env::current_exe().unwrap())
        .args(entry("command_entry"))
        .current_dir(folder)
        .env(ARGUMENTS, arguments.join("\n"))
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.split_once("running 1 test\n").map_or("", |(_, text)| text);
    (output.status.code().unwrap(), text.to_owned(), String::from_utf8(output.stderr).unwrap())
}

fn run(scenario: &str, pool: &str) -> (i32, String, String) {
    command(scenario, &["run", "a.toml", "--pool", pool, "--stall-after", "1"])
}

#[test]
fn all_as_expected() {
    let (code, out, err) = command(SCENARIO, &["run", "a.toml"]);
    assert_eq!((code, err.as_str()), (0, ""));
    insta::assert_snapshot!(out, @r"
    scenario  pool     verdict             peak  worst wait  recovery
    a         steady   pass                   3     0.030 s         -
    a         limited  unsupported: close     -           -         -

    6 runs of 2 pairs of scenario and pool: 1 pass, 1 unsupported
    ");
}

#[test]
fn a_violation_is_explained_with_its_replay() {
    let (code, out, _) = run(SCENARIO, "flaky");
    assert_eq!(code, 1);
    insta::assert_snapshot!(out, @r"
    scenario  pool   verdict                   peak  worst wait  recovery
    a         flaky  FAILED: eventual-release     3     0.030 s         -

    a with flaky: FAILED: eventual-release
      seed 2: violates eventual-release at 1.500 s, actor 3: its lease did not come back
      replay: poolproof show a.toml --pool flaky --seed 2

    3 runs of 1 pair of scenario and pool: 1 FAILED
    ");
}

#[test]
fn a_known_bug_must_show() {
    let known = |pool: &str| SCENARIO.to_owned() + &KNOWN.replace("POOL", pool);
    let (code, out, _) = run(&known("flaky"), "flaky");
    assert_eq!(code, 0);
    assert!(out.contains("flaky  known: eventual-release"), "{out}");
    let (code, out, _) = run(&known("steady"), "steady");
    assert_eq!(code, 1);
    assert!(out.contains("the known bug eventual-release (https://example.org/1) did not show with any seed"), "{out}");
    // One seed alone need not show it.
    let (code, ..) = command(&known("steady"), &["run", "a.toml", "--pool", "steady", "--seed", "1"]);
    assert_eq!(code, 0);
    // Another version does not have it.
    let (code, out, _) = run(&known("leaky").replace("<=1.2.3", "<1.2.3"), "leaky");
    assert_eq!(code, 1);
    assert!(out.contains("FAILED: eventual-release") && out.contains("seed 3: violates eventual-release"), "{out}");
}

#[test]
fn a_hostile_pool_ends_as_a_verdict_and_the_others_go_on() {
    let pools = ["--pool", "spinning", "--pool", "aborting", "--pool", "steady"];
    let arguments = [&["run", "a.toml", "--seed", "1", "--stall-after", "1", "--jobs", "2"][..], &pools].concat();
    let (code, out, _) = command(SCENARIO, &arguments);
    assert_eq!(code, 1);
    assert!(out.contains("spinning  FAILED: no-stall"), "{out}");
    assert!(out.contains("no-stall at 0.000 s, run: the pool kept the thread"), "{out}");
    assert!(out.contains("the process ended by signal 6 (SIGABRT)"), "{out}");
    assert!(out.contains("steady    pass"), "{out}");
}

#[test]
fn no_verdict_is_not_as_expected_and_a_bug_is_ours() {
    let (code, out, _) = run(SCENARIO, "puzzling");
    assert_eq!(code, 1);
    assert!(out.contains("seed 1: the server did not start"), "{out}");
    let (code, out, err) = run(SCENARIO, "buggy");
    assert_eq!(code, Code::Bug as i32);
    assert!(out.contains("UNKNOWN") && err.contains("poolproof has a bug: a bug of the harness"), "{out}{err}");
    assert!(err.contains("/issues"), "{err}");
}

#[test]
fn json_is_the_same_for_any_number_of_jobs() {
    let json = |jobs| command(SCENARIO, &["run", "a.toml", "--seeds", "1..4", "--json", "--jobs", jobs]);
    let (code, one, _) = json("1");
    assert_eq!(code, 0);
    assert_eq!(one, json("3").1);
    let document: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(document["format"], 1);
    assert_eq!(document["results"][0]["runs"].as_array().unwrap().len(), 4);
    assert_eq!(document["results"][0]["runs"][3]["figures"]["wait.worst"], 0.04);
    assert_eq!(document["results"][1]["outcome"], "unsupported");
}

#[test]
fn a_trace_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["run", "a.toml", "--pool", "steady", "--seed", "7", "--trace", "t.jsonl"];
    assert_eq!(command_in(folder.path(), SCENARIO, &arguments).0, 0);
    assert_eq!(std::fs::read_to_string(folder.path().join("t.jsonl")).unwrap(), "{\"seed\":7}\n");
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.toml", "t.jsonl"]);
}

#[test]
fn a_folder_takes_the_trace_of_every_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("traces")).unwrap();
    let arguments = ["run", "a.toml", "--pool", "steady", "--seeds", "1..2", "--jobs", "2", "--trace", "traces"];
    assert_eq!(command_in(folder.path(), SCENARIO, &arguments).0, 0);
    for seed in 1..=2 {
        let text = std::fs::read_to_string(folder.path().join(format!("traces/a.steady.{seed}.jsonl"))).unwrap();
        assert_eq!(text, format!("{{\"seed\":{seed}}}\n"));
    }
    assert_eq!(std::fs::read_dir(folder.path().join("traces")).unwrap().count(), 2);
}

#[test]
fn show_tells_the_story_or_the_trace() {
    let show = |more: &[&str]| command(SCENARIO, &[&["show", "a.toml", "--pool", "leaky"][..], more].concat());
    assert_eq!(show(&["--seed", "7"]), (1, "the story of seed 7\n".to_owned(), String::new()));
    assert_eq!(show(&[]).1, "the story of seed 1\n", "the file's first");
    assert_eq!(show(&["--trace"]).1, "{\"seed\":1}\n");
}

#[test]
fn seeds_are_written_with_both_ends() {
    assert_eq!(seeds("1..4"), Ok(1..=4));
    assert_eq!(seeds("1..=4"), Ok(1..=4));
    for wrong in ["", "1", "4..1", "a..b", "1...4", "-1..4"] {
        assert!(seeds(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_worker_needs_some_memory() {
    assert_eq!(["0", "256", "4096"].map(super::memory), [Ok(0), Ok(256), Ok(4096)]);
    for wrong in ["1", "255", "-1", "much", ""] {
        assert!(super::memory(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_worker_that_comes_late_makes_no_trace_anew() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join(".t.jsonl.1.tmp");
    assert_eq!(files::open(&gone).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert!(!gone.exists());
}

#[test]
fn a_comparison_sets_pools_side_by_side() {
    let scenario = format!("{SCENARIO}{}", KNOWN.replace("POOL", "leaky"));
    let pools = ["--pool", "steady", "--pool", "leaky", "--pool", "limited"];
    let (code, out, _) = command(&scenario, &[["compare", "a.toml"].as_slice(), &pools].concat());
    assert_eq!(code, 0, "{out}");
    let line =
        |begin: &str| out.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{begin}: {out}"));
    assert_eq!(line("a ").split_whitespace().collect::<Vec<_>>(), ["a", "pass", "known", "unsupported"]);
    assert!(line("leaky").contains("known: eventual-release"), "{out}");
    assert!(line("steady").contains("0.03 s"), "the worst wait of all seeds: {out}");

    let (code, out, _) = command(&scenario, &[["compare", "a.toml", "--markdown"].as_slice(), &pools].concat());
    assert_eq!(code, 0);
    assert!(out.contains("| [eventual-release](https://example.org/1)<br><sub>"), "{out}");
    assert!(out.contains(" can't: close |"), "{out}");

    let (code, out, _) = command(&scenario, &[["compare", "a.toml", "--json"].as_slice(), &pools].concat());
    assert_eq!(code, 0);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let cells = &json["scenarios"][0]["cells"];
    assert_eq!(cells[1]["violations"][0]["link"], "https://example.org/1");
    assert_eq!(cells[2]["lacks"][0], "close");
    assert_eq!(cells[0]["worst_wait_s"], 0.03);
}

#[test]
fn a_comparison_says_what_is_not_as_expected() {
    let (code, out, _) = command(SCENARIO, &["compare", "a.toml", "--pool", "leaky"]);
    assert_eq!(code, 1);
    assert!(out.contains("\n  leaky: seed 1: violates eventual-release at 1.500 s"), "{out}");
    assert!(out.contains("\n  replay: poolproof show a.toml --pool leaky --seed 1\n"), "{out}");
    let about = SCENARIO.replace("seeds = [1, 2, 3]", "seeds = [1]\npools = [\"flaky\"]");
    let (code, _, err) = command(&about, &["compare", "a.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("these stories are about other pools"), "{err}");
}

#[test]
fn what_is_no_file_is_written_to_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let null = std::fs::canonicalize("/dev/null").unwrap();
    std::os::unix::fs::symlink(&null, folder.path().join("null")).unwrap();
    std::fs::write(folder.path().join("real"), "").unwrap();
    std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
    for (target, kept) in [("null", ""), ("link", "{\"seed\":1}\n")] {
        let arguments = ["run", "a.toml", "--pool", "steady", "--seed", "1", "--trace", target];
        let (code, _, err) = command_in(folder.path(), SCENARIO, &arguments);
        assert_eq!(code, 0, "{err}");
        assert!(
            std::fs::symlink_metadata(folder.path().join(target)).unwrap().is_symlink(),
            "{target} is a link still"
        );
        assert_eq!(std::fs::read_to_string(folder.path().join(target)).unwrap(), kept);
    }
}

#[test]
fn a_run_that_stalls_keeps_its_trace() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["run", "a.toml", "--pool", "spinning", "--seed", "7", "--stall-after", "1", "--trace", "t.jsonl"];
    let (code, out, _) = command_in(folder.path(), SCENARIO, &arguments);
    assert_eq!(code, 1, "{out}");
    assert_eq!(std::fs::read_to_string(folder.path().join("t.jsonl")).unwrap(), "{\"seed\":7}\n");
}

#[test]
fn a_file_that_is_no_text_is_one_mistake_among_others() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("b.toml"), b"title = \"A\"\nstory = \"\xff\"\n").unwrap();
    let (code, _, err) = command_in(folder.path(), &SCENARIO.replace("until", "untill"), &["check", "."]);
    assert_eq!(code, 2);
    assert!(err.contains("untill") && err.contains("byte 21 of the file begins no character"), "{err}");
    assert!(err.contains("b.toml:2:10"), "{err}");
}
