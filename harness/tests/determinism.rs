//! The same run gives the same trace, byte for byte: every scenario with every published pool is a test of its own.
//!
//! The first seed is run four times: twice at once on two threads of this process, each beside the other (and beside
//! other tests), and twice one after the other in a worker process. The full traces of all four are compared. Debug and
//! release builds are compared by `ci/determinism`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use poolproof::cli::Engine;
use poolproof::suite::{Case, Suite};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// How many lines before the first difference are told.
const CONTEXT: usize = 4;

fn main() -> ExitCode {
    let suite = Suite::start(Engine::standard());
    let arguments = Arguments::from_args();
    if let Err(error) = std::env::set_current_dir(ROOT) {
        eprintln!("can't go to {ROOT}: {error}");
        return ExitCode::FAILURE;
    }
    let cases = match suite.cases(Path::new("scenarios")) {
        Ok(cases) => cases,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    let supported = cases.into_iter().filter(|case| case.lacks().is_empty());
    // The pool comes first, so that `cargo test SCENARIO::POOL` means the test of the verdict alone.
    let trials = supported.map(|case| {
        let name = format!("same_trace::{}::{}", case.pool(), case.stem());
        Trial::test(name, move || same_trace(&case))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
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
    let in_worker = ["first in a worker process", "second in a worker process"];
    case.run(&[seed, seed], |place| Some(trace(in_worker[place])))?;

    let first = trace("on a thread");
    if fs::metadata(&first)?.len() == 0 {
        return Err("the trace is empty".into());
    }
    for other in ["on another thread at the same time"].into_iter().chain(in_worker) {
        let other = trace(other);
        if !same_bytes(&first, &other)? {
            return Err(first_difference(&first, &other)?.into());
        }
    }
    Ok(())
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
fn first_difference(a: &PathBuf, b: &PathBuf) -> Result<String, Failed> {
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
