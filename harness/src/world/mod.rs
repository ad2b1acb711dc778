//! Where a scenario runs.
