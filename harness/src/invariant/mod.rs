//! The invariants: one file each, judged in every run from the run's events.
