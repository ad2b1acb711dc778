//! `poolproof search`, from outside: what it finds is a file that shows it again, and it goes on where it was.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolproof"));
    command.args(arguments).current_dir(folder).env("COLUMNS", "100");
    command
}

fn poolproof(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The only file in a search's `found`.
fn found(state: &Path) -> PathBuf {
    let entries = fs::read_dir(state.join("found")).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    let [file] = files.as_slice() else { panic!("one file, not {files:?}") };
    file.clone()
}

/// Lines that say something and are not the story's.
fn lines_besides_story(text: &str) -> usize {
    let (before, rest) = text.split_once("story = \"\"\"").unwrap();
    let (_, after) = rest.split_once("\n\"\"\"\n").unwrap();
    let says = |line: &&str| !line.is_empty() && !line.starts_with('#');
    before.lines().filter(says).count() + after.lines().filter(says).count()
}

#[test]
fn what_is_found_is_a_file_that_shows_it_again() {
    for pool in ["planted:churn", "planted:permit-lost-on-failed-dial", "planted:wake-to-dead-waiter"] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["search", "--pool", pool, "--runs", "3000", "--jobs", "1", "--first", "--state", "state"];
        let searched = poolproof(folder.path(), &arguments);
        assert_eq!(searched.status.code(), Some(1), "{pool}: {}", text(&searched));
        let file = found(&folder.path().join("state"));
        let written = fs::read_to_string(&file).unwrap();
        assert!(lines_besides_story(&written) <= 25, "{written}");
        let file = file.to_str().unwrap();
        // Each in a fresh process: it shows, as the file says; it does not show without the bug; and it is a file.
        for arguments in [&["run", file, "--pool", pool][..], &["run", file, "--pool", "reference"], &["check", file]] {
            let again = poolproof(folder.path(), arguments);
            assert_eq!(again.status.code(), Some(0), "{arguments:?}: {}\n{written}", text(&again));
        }
        let shown = poolproof(folder.path(), &["run", file, "--pool", pool]);
        assert!(text(&shown).contains("1 known"), "{}", text(&shown));
    }
}

fn results(state: &Path) -> Vec<String> {
    fs::read_to_string(state.join("results.jsonl")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn a_killed_search_goes_on_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let search = |state: &str| -> Vec<String> {
        let arguments =
            ["search", "--pool", "reference", "--runs", "192", "--jobs", "1", "--seed", "3", "--state", state];
        arguments.map(str::to_owned).to_vec()
    };
    let arguments = |state: &str| -> Vec<String> { search(state) };
    let run = |state: &str| {
        let arguments = arguments(state);
        command(folder.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let whole = run("whole").output().unwrap();
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));

    let killed = folder.path().join("killed");
    let mut child = run("killed").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while results(&killed).len() < 32 && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let at_the_kill = results(&killed).len();
    assert!((32..192).contains(&at_the_kill), "{at_the_kill}");
    let resumed = run("killed").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed));
    assert!(text(&resumed).contains(&format!("({} now", 192 - at_the_kill)), "{}", text(&resumed));
    assert_eq!(results(&killed), results(&folder.path().join("whole")));
    let corpus = |state: &str| fs::read_to_string(folder.path().join(state).join("corpus.jsonl")).unwrap();
    assert_eq!(corpus("killed"), corpus("whole"));
}

#[test]
fn two_jobs_do_each_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["search", "--pool", "reference", "--runs", "96", "--jobs", "2", "--state", "state", "--strategy", "plain"];
    let searched = poolproof(folder.path(), &arguments);
    assert_eq!(searched.status.code(), Some(0), "{}", text(&searched));
    let number = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["run"].as_u64().unwrap();
    let mut runs: Vec<u64> = results(&folder.path().join("state")).iter().map(number).collect();
    runs.sort_unstable();
    assert_eq!(runs, (0..96).collect::<Vec<u64>>());
}

#[test]
fn a_hanging_pool_costs_its_runs_and_not_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let pool = "planted:spin-in-acquire";
    let arguments = ["search", "--pool", pool, "--runs", "64", "--jobs", "1", "--first", "--stall-after", "2"];
    let searched = poolproof(folder.path(), &[&arguments[..], &["--shrink-runs", "300", "--state", "state"]].concat());
    assert_eq!(searched.status.code(), Some(1), "{}", text(&searched));
    let written = fs::read_to_string(found(&folder.path().join("state"))).unwrap();
    assert!(written.contains("violates = \"no-stall\""), "{written}");
    assert!(written.contains("story = \"The run never came to its end: no-stall at "), "{written}");
    // Each cut that holds costs a worker: the first has to cut nearly all.
    assert!(written.lines().count() <= 25, "{written}");
}

#[test]
fn what_makes_no_sense_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, sentence) in [
        (&["search"][..], "error: which pool? Name it with --pool\n"),
        (&["search", "--pool", "bb9"], "error: there is no pool bb9"),
        (&["search", "--pool", "reference", "--demand", "nothing"], "error: there is no mark nothing"),
        (&["search", "--pool", "reference", "--from", "a.toml"], "error: can't read a.toml"),
    ] {
        let output = poolproof(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(String::from_utf8_lossy(&output.stderr).starts_with(sentence), "{}", text(&output));
    }
    let first = ["search", "--pool", "reference", "--runs", "16", "--jobs", "1", "--state", "s"];
    assert_eq!(poolproof(folder.path(), &first).status.code(), Some(0));
    let other = ["search", "--pool", "reference", "--runs", "16", "--seed", "2", "--state", "s"];
    let output = poolproof(folder.path(), &other);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("is of another search"), "{}", text(&output));
}

#[test]
fn a_search_from_a_file_begins_with_it_and_stays_near_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/planted/cancelled_waiters.toml");
    let arguments = ["search", "--pool", "planted:grant-lost-on-cancel", "--from", file, "--runs", "64", "--jobs", "1"];
    let searched = poolproof(folder.path(), &[&arguments[..], &["--first", "--state", "s"]].concat());
    assert_eq!(searched.status.code(), Some(1), "{}", text(&searched));
    assert!(results(&folder.path().join("s"))[0].contains("\"features\":\"given\""));
    assert!(fs::read_to_string(found(&folder.path().join("s"))).unwrap().contains("cancel at wake 1: acquire"));
}
