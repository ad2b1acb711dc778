//! The same run gives the same trace, byte for byte: every scenario with every published pool is a test of its own.
//!
//! The first seed is run four times: twice at once on two threads of this process, each beside the other (and beside
//! other tests), and in two worker processes, each of its own. The full traces of all four are compared. Debug and
//! release builds are compared by `ci/determinism`.

mod cases;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use poolproof::suite::Case;

/// How many lines before the first difference are told.
const CONTEXT: usize = 4;

fn main() -> ExitCode {
    let cases = match cases::of_this_repository(poolproof::suite!()).start() {
        Ok(cases) => cases,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    let supported = cases.iter().filter(|case| case.lacks().is_empty()).cloned();
    // The pool comes first, so that `cargo test SCENARIO::POOL` means the test of the verdict alone.
    let mut trials: Vec<Trial> = supported
        .map(|case| {
            let name = format!("same_trace::{}::{}", case.pool(), case.stem());
            Trial::test(name, move || same_trace(&case))
        })
        .collect();
    trials.push(Trial::test("a_difference_is_found", a_difference_is_found));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn same_trace(case: &Case) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let seed = case.scenario().seeds.first().copied().unwrap_or(1);
    let trace = |name: &str| folder.path().join(name);
    std::thread::scope(|scope| {
        for name in ["on a thread", "on another thread at the same time"] {
            let path = trace(name);
            scope.spawn(move || drop(case.run_here(seed, Some(path))));
        }
    });
    let workers = ["in a worker process", "in another worker process"];
    for name in workers {
        case.run(&[seed], |_| Some(trace(name)))?;
    }

    let first = trace("on a thread");
    if fs::metadata(&first)?.len() == 0 {
        return Err("the trace is empty".into());
    }
    for other in ["on another thread at the same time"].into_iter().chain(workers) {
        same(&first, &trace(other))?;
    }
    Ok(())
}

fn same(a: &Path, b: &Path) -> Result<(), Failed> {
    if same_bytes(a, b)? { Ok(()) } else { Err(first_difference(a, b)?.into()) }
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool, Failed> {
    let (mut a, mut b) = (BufReader::new(File::open(a)?), BufReader::new(File::open(b)?));
    loop {
        let (left, right) = (a.fill_buf()?, b.fill_buf()?);
        let count = left.len().min(right.len());
        if count == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
        a.consume(count);
        b.consume(count);
    }
}

/// The first line that differs, with those before it.
fn first_difference(a: &Path, b: &Path) -> Result<String, Failed> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (left, right) = (fs::read_to_string(a)?, fs::read_to_string(b)?);
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
    let mut text = format!("the traces differ from line {}:\n", same + 1);
    for line in &left[same.saturating_sub(CONTEXT)..same] {
        let _ = writeln!(text, "  {line}");
    }
    let end = "(the trace ends)";
    let _ = writeln!(text, "- {}\n    {}", left.get(same).unwrap_or(&end), name(a));
    let _ = writeln!(text, "+ {}\n    {}", right.get(same).unwrap_or(&end), name(b));
    Ok(text)
}

/// The comparison itself can fail, and says where.
fn a_difference_is_found() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let [one, two, long] = ["one", "two", "long"].map(|name| folder.path().join(name));
    let line = |time: u32| format!("{{\"at\":{time}}}\n");
    // Longer than a reader's buffer, and different in one byte of the last line.
    let lines: String = (0..2000).map(line).collect();
    fs::write(&one, &lines)?;
    fs::write(&two, lines.replace("1999", "1998"))?;
    fs::write(&long, lines.clone() + &line(2000))?;
    same(&one, &one)?;
    for (other, told) in [(&two, "line 2000"), (&long, "line 2001")] {
        match same(&one, other) {
            Err(failed) if failed.message().is_some_and(|message| message.contains(told)) => {}
            other => return Err(format!("expected a difference at {told}, got {other:?}").into()),
        }
    }
    Ok(())
}
