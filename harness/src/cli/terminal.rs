//! What is printed where: results to standard output, everything else to standard error. Colour and progress only where a
//! terminal is; `NO_COLOR` and `CLICOLOR_FORCE` are honoured (anstream).

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::{GraphicalReportHandler, GraphicalTheme};

use super::error::Failure;
use crate::scenario::Report;
use crate::verdict::Outcome;

/// Green.
const GOOD: Style = AnsiColor::Green.on_default();
/// Yellow.
const SO_SO: Style = AnsiColor::Yellow.on_default();
/// Red and bold.
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The style of an outcome.
pub(super) fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Pass => GOOD,
        Outcome::Excused | Outcome::Known | Outcome::Told | Outcome::Unsupported => SO_SO,
        Outcome::Failed | Outcome::Unknown => BAD,
    }
}

/// A text in a style; anstream takes the style out again where it has no place.
pub(super) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// The lines of a table without borders, which begins each with a space.
pub(super) fn lines(table: &Table) -> Vec<String> {
    table.trim_fmt().lines().map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect()
}

/// Shows how many of `total` runs are done, on a terminal.
pub(super) fn progress(total: usize) -> ProgressBar {
    if total < 2 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
    let template = "{bar:30} {pos}/{len} runs, {elapsed} gone, {eta} to go";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// All mistakes of a file, each with its place.
pub(super) fn print_report(report: &Report) {
    use std::io::Write;
    let colours = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let theme = if colours { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
    let mut text = String::new();
    let rendered = handler.render_report(&mut text, report);
    let mut stderr = anstream::stderr().lock();
    // Without a standard error there is nobody to tell.
    let _nobody_reads = match rendered {
        Ok(()) => write!(stderr, "{text}"),
        Err(_) => writeln!(stderr, "{report:?}"),
    };
}

/// Says why a command ended early.
pub(super) fn print_failure(failure: &Failure) {
    use std::io::Write;
    let mut stderr = anstream::stderr().lock();
    let error = styled(BAD, "error");
    let _nobody_reads = match failure {
        Failure::Files(reports) => {
            drop(stderr);
            reports.iter().for_each(print_report);
            return;
        }
        Failure::Sentence(text) => writeln!(stderr, "{error}: {text}"),
        Failure::BrokenPipe => Ok(()),
        Failure::Bug(text) => writeln!(
            stderr,
            "{error}: poolproof has a bug: {text}\n  please report it at {}/issues, with the command, the scenario file \
             and this message",
            env!("CARGO_PKG_REPOSITORY")
        ),
    };
}
