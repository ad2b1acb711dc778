//! A run on turmoil is a pure function of scenario, pool and seed: its traces are compared, byte for byte, in one process
//! (two at once) and with another one's.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use poolproof::world::turmoil;

use crate::Case;

/// Names a case and a file, for a process that is to write this case's trace there and nothing else.
const ASKED: [&str; 2] = ["POOLPROOF_WORLDS_CASE", "POOLPROOF_WORLDS_TRACE"];

/// Each has another way to draw on chance: hash maps and `select!` of pools, jittered arrivals, kills, crashes.
const COMPARED: [&str; 3] =
    ["faults/server_crash::bb8", "worlds/server_killed::deadpool", "faults/app_killed::reference"];

/// Whether this process is such a one; then it has done its work.
pub(crate) fn is_asked(cases: &[Case]) -> bool {
    let [Ok(name), Ok(path)] = ASKED.map(std::env::var) else { return false };
    write(cases.iter().find(|case| case.name() == name).unwrap(), Path::new(&path));
    true
}

fn write(case: &Case, path: &Path) {
    let told = turmoil::run(&case.spec(), Some(Box::new(BufWriter::new(File::create(path).unwrap()))));
    assert_eq!(told.bug, None);
}

pub(crate) fn trials(cases: &[Case]) -> Vec<Trial> {
    let compared = COMPARED.into_iter().map(|name| {
        let case = cases.iter().find(|case| case.name() == name).cloned();
        Trial::test(format!("same_trace::{name}"), move || compare(&case.ok_or("there is no such case")?))
    });
    compared.collect()
}

fn compare(case: &Case) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let paths = ["one", "two", "three"].map(|name| folder.path().join(name));
    std::thread::scope(|scope| {
        for path in &paths[..2] {
            scope.spawn(|| write(case, path));
        }
    });
    let mut other = Command::new(std::env::current_exe()?);
    other.env(ASKED[0], case.name()).env(ASKED[1], &paths[2]);
    if !other.status()?.success() {
        return Err("the other process failed".into());
    }
    let [one, two, three] = paths.map(|path| fs::read_to_string(path).unwrap());
    if one.lines().count() < 100 {
        return Err(format!("the trace is short:\n{one}").into());
    }
    for (other, whose) in [(two, "a second thread's"), (three, "another process's")] {
        if one != other {
            let different = one.lines().zip(other.lines()).enumerate().find(|(_, (a, b))| a != b);
            return Err(format!("{whose} trace differs: {different:?}").into());
        }
    }
    in_order(&one)
}

/// Hosts take turns, and yet nothing is told before what happened earlier.
fn in_order(trace: &str) -> Result<(), Failed> {
    let mut last = 0.0;
    for line in trace.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        let Some(at) = event["at"].as_str().and_then(|at| at.parse::<f64>().ok()) else {
            return Err(format!("an event without a time: {line}").into());
        };
        if at < last {
            return Err(format!("it is told after {last}: {line}").into());
        }
        last = at;
    }
    Ok(())
}
