//! The scenario parser against whole files.

#![expect(clippy::unwrap_used, reason = "tests")]

use poolproof::scenario::{Names, check, parse};

const COMPLETE: &str = include_str!("scenario/complete.toml");

#[test]
fn the_complete_file_is_read() {
    let scenario = parse("complete.toml", COMPLETE).unwrap();
    assert_eq!(scenario.seeds, (1..=8).collect::<Vec<u64>>());
    assert_eq!(
        scenario.workloads.keys().collect::<Vec<_>>(),
        ["request", "impatient", "worker", "job", "engine", "nightly"]
    );
    assert_eq!(scenario.faults.len(), 25);
    assert!(
        check("complete.toml", COMPLETE, &Names::default())
            .report
            .diagnostics()
            .is_empty()
    );
}
