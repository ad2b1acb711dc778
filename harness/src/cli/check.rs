//! `check`: reads scenario files, and reports every mistake in them.

use std::io::Write;

use super::CheckArgs;
use super::engine::Engine;
use super::error::{Code, Result};
use super::files;
use super::terminal::print_report;

pub(super) fn check(engine: &Engine, args: &CheckArgs) -> Result<Code> {
    let paths = files::find(&args.paths)?;
    let (mut wrong, mut warned) = (0, 0);
    for path in &paths {
        let (_, report) = files::read(engine, path)?;
        if report.has_errors() {
            wrong += 1;
        } else if !report.diagnostics().is_empty() {
            warned += 1;
        }
        if !report.diagnostics().is_empty() {
            print_report(&report);
        }
    }
    let mut out = anstream::stdout().lock();
    let count = |count: usize| {
        if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
    };
    let all = count(paths.len());
    match (wrong, warned) {
        (0, 0) => writeln!(out, "{all} without a mistake")?,
        (0, warned) => writeln!(out, "{all} without a mistake, {warned} with warnings")?,
        (wrong, _) => writeln!(out, "{wrong} of {all} with mistakes")?,
    }
    Ok(if wrong == 0 { Code::Expected } else { Code::Wrong })
}
