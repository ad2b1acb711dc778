//! Scenario files: the model, the parser with its diagnostics, the JSON Schema.

#[cfg(test)]
mod arbitrary;
pub mod model;
mod parse;
mod print;
mod reader;
pub mod report;
pub mod schema;
mod semantics;
mod steps;
mod units;

pub use parse::{Checked, FAULTS, FaultKind, Names, check, parse, parse_with};
pub use print::{action_text, comparison, fault_name, print};
pub use report::{Diagnostic, Report, Severity};
pub use steps::{STEPS, StepKind};
