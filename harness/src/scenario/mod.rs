//! Scenario files: the model, the parser with its diagnostics, the JSON Schema.

pub mod model;
mod parse;
mod reader;
pub mod report;
mod semantics;
mod steps;
mod units;

pub use parse::{Checked, FAULTS, FaultKind, Names, check, parse, parse_with};
pub use report::{Diagnostic, Report, Severity};
pub use steps::{STEPS, StepKind};
