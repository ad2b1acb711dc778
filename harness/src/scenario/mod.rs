//! Scenario files: the model, the parser with its diagnostics, the JSON Schema.

#[cfg(test)]
mod arbitrary;
pub mod built_in;
mod jobs;
pub mod model;
mod parse;
mod print;
mod reader;
pub(crate) mod rehearsal;
pub mod report;
#[cfg(feature = "postgres")]
mod scale;
pub mod schema;
mod semantics;
pub mod settings;
mod step_kinds;
mod steps;
mod units;

pub use parse::{Checked, FAULTS, FaultKind, Names, check, parse, parse_with};
pub use print::{action_text, comparison, fault_name, print};
pub use report::{Diagnostic, Report, Severity};
pub use step_kinds::{STEPS, StepKind};
pub(crate) use steps::can_wait;

/// A duration as files write it: `250ms`, `10m`.
///
/// # Errors
/// How it is written.
pub(crate) fn duration(text: &str) -> Result<std::time::Duration, String> {
    units::duration(text).map_err(|malformed| malformed.help)
}
