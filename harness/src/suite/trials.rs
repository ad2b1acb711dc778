//! Cases as tests: named, filtered and listed by libtest-mimic, as `cargo test` and nextest expect it.
//!
//! A test runs all seeds of its scenario, compares them with what the scenario expects, and compares the story of the first
//! seed with the reviewed one, where stories are kept; each can fail on its own. A case that the pool can't do is told as
//! ignored, with what it lacks.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::{Case, Cases, stories};

/// How many reasons of one failure are told.
const TOLD: usize = 8;

/// Runs the tests that the command line's arguments choose.
pub(super) fn run(cases: &Cases) -> ExitCode {
    let arguments = Arguments::from_args();
    stories::quiet();
    let mut trials: Vec<Trial> = cases.iter().map(|case| trial(case.clone(), cases)).collect();
    if let Some(folder) = cases.stories.clone() {
        let cases = cases.clone();
        trials.push(Trial::test("stories_have_no_orphans", move || Ok(stories::have_no_orphans(&cases, &folder)?)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: Case, cases: &Cases) -> Trial {
    let lacks = case.lacks().join(", ");
    if lacks.is_empty() {
        let (folder, compare) = (cases.stories.clone(), cases.compare);
        return Trial::test(case.name(), move || test(&case, folder.as_deref(), compare));
    }
    // With `--include-ignored` it is asked to run all the same, and is ignored then.
    let kind = format!("unsupported: {} lacks {lacks}", case.pool());
    let reason = kind.clone();
    Trial::ignorable_test(case.name(), move || Ok(Completion::ignored_with(reason)))
        .with_kind(kind)
        .with_ignored_flag(true)
}

fn test(case: &Case, folder: Option<&Path>, compare: fn(&str, &str)) -> Result<(), Failed> {
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
    if let (Some(first), Some(folder)) = (runs.first(), folder)
        && let Err(message) = stories::compare(case, folder, compare, &first.story)
    {
        let _ = writeln!(wrong, "the story of seed {} is not the reviewed one: {message}", first.report.seed);
        let _ = writeln!(wrong, "review: cargo insta review");
        let _ = writeln!(wrong, "replay: {}", case.replay(first.report.seed));
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
}
