//! Every scenario file with every published pool is a test of its own: `cargo test server_restart_fast::bb8`.
//!
//! A test runs all seeds of its file, compares them with what the file expects, and compares the story of the first seed
//! with the reviewed one under `snapshots/`; each can fail on its own. A pair that the pool can't do is told as ignored,
//! with what it lacks. CONTRIBUTING.md says how to run and review.

mod cases;

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Completion, Failed, Trial};
use poolproof::pool::{PUBLISHED, published};
use poolproof::suite::Case;

/// Reviewed texts that are not of a run: the diagnostics of scenario files.
const OTHER_SNAPSHOTS: &[&str] = &["scenario"];

/// How many reasons of one failure are told.
const TOLD: usize = 8;

fn main() -> ExitCode {
    quiet_snapshots();
    cases::main(|cases| {
        let mut trials: Vec<Trial> = cases.iter().cloned().map(trial).collect();
        let (of_names, of_snapshots) = (cases.clone(), cases);
        trials.push(Trial::test("names_are_unique", move || names_are_unique(&of_names)));
        trials.push(Trial::test("snapshots_have_no_orphans", move || snapshots_have_no_orphans(&of_snapshots)));
        trials
    })
}

fn name(case: &Case) -> String {
    format!("{}::{}", case.stem(), case.pool())
}

fn trial(case: Case) -> Trial {
    let lacks = case.lacks().join(", ");
    if lacks.is_empty() {
        return Trial::test(name(&case), move || test(&case));
    }
    // With `--include-ignored` it is asked to run all the same, and is ignored then.
    let kind = format!("unsupported: {} lacks {lacks}", case.pool());
    let reason = kind.clone();
    Trial::ignorable_test(name(&case), move || Ok(Completion::ignored_with(reason)))
        .with_kind(kind)
        .with_ignored_flag(true)
}

fn test(case: &Case) -> Result<(), Failed> {
    let runs = case.run(&case.scenario().seeds, |_| None)?;
    let mut wrong = String::new();
    let judgement = case.judge(&runs);
    if !judgement.expectation.outcome.is_expected() {
        let reasons = &judgement.expectation.reasons;
        let _ = writeln!(wrong, "{} does not come out as {} expects:", case.pool(), case.path().display());
        for reason in reasons.iter().take(TOLD) {
            let _ = writeln!(wrong, "  {reason}");
        }
        if reasons.len() > TOLD {
            let _ = writeln!(wrong, "  and {} more", reasons.len() - TOLD);
        }
        let _ = writeln!(wrong, "replay: {}", case.replay(judgement.seed));
    }
    if let Some(first) = runs.first()
        && let Err(message) = compare_story(case, &first.story)
    {
        let _ = writeln!(wrong, "the story of seed {} is not the reviewed one: {message}", first.report.seed);
        let _ = writeln!(wrong, "review: cargo insta review");
        let _ = writeln!(wrong, "replay: {}", case.replay(first.report.seed));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}

/// `snapshots/faults/server_restart_fast` for `scenarios/faults/server_restart_fast.toml`.
fn snapshot_folder(case: &Case) -> PathBuf {
    let path = case.path().with_extension("");
    Path::new("snapshots").join(path.strip_prefix("scenarios").unwrap_or(&path))
}

/// insta prints the difference, and leaves the new story beside the reviewed one.
fn compare_story(case: &Case, story: &str) -> Result<(), String> {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(cases::ROOT).join(snapshot_folder(case)));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(case.path());
    settings.set_description(&case.scenario().title);
    let compared = catch_unwind(AssertUnwindSafe(|| settings.bind(|| insta::assert_snapshot!(case.pool(), story))));
    compared.map_err(|panic| text_of(&*panic).lines().next().unwrap_or_default().to_owned())
}

/// A story that differs is told by insta and by the test's own message: no backtrace is wanted of it.
fn quiet_snapshots() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|text| text.starts_with("snapshot assertion ")) {
            others(panic);
        }
    }));
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// A test's name has no folder in it.
fn names_are_unique(cases: &[Case]) -> Result<(), Failed> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = cases.iter().map(name).filter(|name| !seen.insert(name.clone())).collect();
    if twice.is_empty() {
        return Ok(());
    }
    Err(format!("scenario files of the same name in two folders: {}", Vec::from_iter(twice).join(", ")).into())
}

/// A renamed scenario leaves no story behind, nor does a pool that can't do a scenario any more. The stories of a pool that
/// this build leaves out are kept.
fn snapshots_have_no_orphans(cases: &[Case]) -> Result<(), Failed> {
    let supported = cases.iter().filter(|case| case.lacks().is_empty());
    let of_cases: BTreeSet<PathBuf> =
        supported.map(|case| snapshot_folder(case).join(format!("{}.snap", case.pool()))).collect();
    let built = published();
    let is_built = |name: &&str| built.iter().any(|adapter| adapter.name() == *name);
    let left_out: Vec<&str> = PUBLISHED.iter().copied().filter(|name| !is_built(name)).collect();
    let mut orphans = Vec::new();
    find_snapshots(Path::new("snapshots"), &mut |path| {
        let other = OTHER_SNAPSHOTS.iter().any(|folder| path.starts_with(Path::new("snapshots").join(folder)));
        let left_out = path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| left_out.contains(&stem));
        if !other && !left_out && !of_cases.contains(&path) {
            orphans.push(path.display().to_string());
        }
    })?;
    if orphans.is_empty() {
        return Ok(());
    }
    orphans.sort();
    Err(format!("no test makes these any more, remove them: {}", orphans.join(", ")).into())
}

fn find_snapshots(folder: &Path, each: &mut impl FnMut(PathBuf)) -> Result<(), Failed> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_snapshots(&path, each)?;
        } else if path.extension().is_some_and(|extension| extension == "snap") {
            each(path);
        }
    }
    Ok(())
}
