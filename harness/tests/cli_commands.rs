//! The executable, from outside: exit codes, what is printed where, and what is left on disk.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const GOOD: &str = r#"
title = "Quiet"
story = "Nothing happens."
seeds = [1]

[app.web]

[workload.request]
app = "web"
arrive = { at = ["1s"] }
steps = ["acquire", "release"]

[expect]
until = "5s"
"#;

fn poolproof(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_poolproof"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("CLICOLOR_FORCE")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_and_version_are_asked_for_and_all_else_is_wrong() {
    let folder = folder_with(&[]);
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["run", "--help"], 0),
        (&[], 2),
        (&["ruin"], 2),
        (&["run", "--seed", "x"], 2),
        (&["run", "--seed", "1", "--seeds", "1..2"], 2),
        (&["run", "--seeds", "5..2"], 2),
        (&["run", "--jobs", "0"], 2),
        (&["list", "colours"], 2),
    ] {
        let output = poolproof(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn help_names_every_command_and_the_exit_codes() {
    let output = poolproof(tempfile::tempdir().unwrap().path(), &["--help"]);
    insta::assert_snapshot!("help", out(&output));
    let output = poolproof(tempfile::tempdir().unwrap().path(), &["run", "--help"]);
    insta::assert_snapshot!("help_run", out(&output));
}

#[test]
fn what_is_not_there_is_one_clear_sentence() {
    let folder = folder_with(&[("a.toml", GOOD), ("empty/readme.md", "")]);
    for (arguments, sentence) in [
        (&["run"][..], "error: can't read scenarios: no such file or directory\n"),
        (&["check", "b.toml"], "error: can't read b.toml: no such file or directory\n"),
        (&["check", "empty"], "error: there is no scenario file (.toml) in empty\n"),
        (
            &["run", "a.toml", "--pool", "bb9"],
            "error: there is no pool bb9 (did you mean bb8?); `poolproof list pools` names all\n",
        ),
        (
            &["show", "a.toml", "--pool", "nothing"],
            "error: there is no pool nothing; `poolproof list pools` names all\n",
        ),
        (
            &["serve", "a.toml", "--listen", "0.0.0.0:5433"],
            "error: 0.0.0.0 is not a loopback address: the simulated server asks nobody",
        ),
        (
            &["run", "a.toml", "--trace", "t.jsonl"],
            "error: --trace FILE is for one run, and these are 7: choose one with a file, --pool and --seed, or name a folder that exists\n",
        ),
    ] {
        let output = poolproof(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(err(&output).starts_with(sentence), "{}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
    }
}

#[test]
fn check_reports_every_mistake_of_every_file() {
    let bad = GOOD.replace("until", "untill").replace("\"1s\"", "\"1\"");
    let folder =
        folder_with(&[("scenarios/a.toml", GOOD), ("scenarios/deep/b.toml", &bad), ("scenarios/.c.toml", "x")]);
    let output = poolproof(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(out(&output), "1 of 2 files with mistakes\n");
    let told = err(&output);
    assert!(told.contains("untill") && told.contains("b.toml"), "{told}");
    assert!(!told.contains('\u{1b}'), "no colour without a terminal");
    let output = poolproof(folder.path(), &["check", "scenarios/a.toml"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "1 file without a mistake\n"));
    let output = poolproof(folder.path(), &["run"]);
    assert_eq!(output.status.code(), Some(2), "nothing is run when a file is wrong");
}

#[test]
fn a_new_file_is_right_and_nothing_is_overwritten() {
    let folder = folder_with(&[]);
    let output = poolproof(folder.path(), &["new", "my-restart"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "wrote my-restart.toml\nrun it with: poolproof run my-restart.toml\n");
    let text = fs::read_to_string(folder.path().join("my-restart.toml")).unwrap();
    assert!(text.contains("title = \"my restart\""));
    assert_eq!(poolproof(folder.path(), &["check", "my-restart.toml"]).status.code(), Some(0));
    fs::write(folder.path().join("my-restart.toml"), "mine").unwrap();
    let output = poolproof(folder.path(), &["new", "my-restart.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(err(&output), "error: my-restart.toml is there already, and is not overwritten\n");
    assert_eq!(fs::read_to_string(folder.path().join("my-restart.toml")).unwrap(), "mine");
    assert_eq!(poolproof(folder.path(), &["new", "a\"b"]).status.code(), Some(2));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["my-restart.toml"], "no temporary file is left");
}

#[test]
fn lists_are_for_people_and_for_tools() {
    let folder = folder_with(&[]);
    for (what, word) in [("steps", "acquire within DURATION"), ("faults", "server.restart"), ("pools", "bb8 0.9")] {
        let output = poolproof(folder.path(), &["list", what]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains(word), "{}", out(&output));
        let output = poolproof(folder.path(), &["list", what, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
        assert!(json.as_array().unwrap().len() > 1);
    }
    // A planted bug says what it is, instead of the reference pool's mapping over and over.
    let output = out(&poolproof(folder.path(), &["list", "pools"]));
    let churn = output.lines().find(|line| line.starts_with("planted:churn")).unwrap();
    assert!(
        churn.ends_with("reference with a bug that violates demand: every returned connection is closed"),
        "{churn}"
    );
    assert_eq!(output.matches("shorter by up to a tenth").count(), 1);
}

#[test]
fn a_reader_who_goes_away_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_poolproof"))
        .args(["list", "pools"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(err(&output), "");
}

#[test]
#[cfg(unix)]
fn ctrl_c_leaves_no_half_written_file() {
    use rustix::process::{Pid, Signal, kill_process};
    // Busy for much longer than this test.
    let busy = GOOD.replace("at = [\"1s\"]", "workers = 100").replace("until = \"5s\"", "until = \"10h\"");
    let folder = folder_with(&[("a.toml", &busy)]);
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_poolproof"))
            .args(["run", "a.toml", "--pool", "reference", "--trace", "t.jsonl"])
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        // The trace is under way, beside its place.
        while names().len() == 1 {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(names(), ["a.toml"]);
    }
}

#[test]
fn a_new_file_has_a_name_that_a_shell_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(poolproof(folder.path(), &["new", ".toml"]).status.code(), Some(2));
    let output = poolproof(folder.path(), &["new", "it's mine"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(out(&output).ends_with("poolproof run 'it'\\''s mine.toml'\n"), "{}", out(&output));
}

#[test]
fn the_starter_file_comes_out_as_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(poolproof(folder.path(), &["new", "mine"]).status.code(), Some(0));
    let output = poolproof(folder.path(), &["run", "mine.toml", "--seeds", "1..=2"]);
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
}

#[test]
fn a_load_that_is_too_large_accuses_nobody() {
    let folder = folder_with(&[("big.toml", &GOOD.replace("{ at = [\"1s\"] }", "{ burst = 1000000 }"))]);
    let run = |limits: &[&str]| {
        let arguments = [&["run", "big.toml", "--pool", "reference"][..], limits].concat();
        let output = poolproof(folder.path(), &arguments);
        (output.status.code(), out(&output))
    };
    let (code, text) = run(&["--stall-after", "1"]);
    assert!(code == Some(1) && text.contains("UNKNOWN") && text.contains("--stall-after"), "{text}");
    let (code, text) = run(&["--memory", "300"]);
    assert!(code == Some(1) && text.contains("UNKNOWN") && text.contains("--memory"), "{text}");
    assert_eq!(run(&["--memory", "1"]).0, Some(2));
}
