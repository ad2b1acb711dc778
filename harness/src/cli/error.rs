//! Why a command ends early, and the exit code that says so.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use miette::{GraphicalReportHandler, GraphicalTheme};

use crate::scenario::Report;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    /// All is as expected.
    Expected,
    /// Something is not as expected.
    Unexpected,
    /// The command or a file is wrong.
    Wrong,
    /// poolproof has a bug.
    Bug,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Scenario files with mistakes.
    Files(Vec<Report>),
    /// One clear sentence.
    Sentence(String),
    /// Nobody reads what is printed any more (`| head`): not an error.
    BrokenPipe,
    /// poolproof's own fault.
    Bug(String),
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(super) fn sentence(text: impl Into<String>) -> Failure {
        Failure::Sentence(text.into())
    }

    /// `can't read scenarios/a.toml: permission denied`
    pub(super) fn io(verb: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::Sentence(format!("can't {verb} {}: {}", path.display(), Lower(error)))
    }
}

/// What goes wrong without more words is a write to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::BrokenPipe
        } else {
            Failure::Sentence(format!("can't write the output: {}", Lower(&error)))
        }
    }
}

/// For those who have no terminal to print it on: mistakes in files with their places, without colours.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Files(reports) => {
                let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_links(false);
                reports.iter().try_for_each(|report| handler.render_report(f, report))
            }
            Failure::Sentence(text) => f.write_str(text),
            Failure::BrokenPipe => f.write_str("nobody reads the output"),
            Failure::Bug(what) => write!(f, "poolproof has a bug: {what}"),
        }
    }
}

/// The operating system's text, without its number.
struct Lower<'a>(&'a io::Error);

impl fmt::Display for Lower<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut characters = text.chars();
        characters.next().map_or(Ok(()), |first| write!(f, "{}{}", first.to_lowercase(), characters.as_str()))
    }
}
