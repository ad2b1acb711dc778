//! Scenario files: the model, the parser with its diagnostics, the JSON Schema.

pub mod model;
