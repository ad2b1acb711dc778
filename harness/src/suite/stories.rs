//! Reviewed stories: insta's snapshots, one for each case, below one folder.

use std::any::Any;
use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::{Case, Cases};
use crate::pool::{PUBLISHED, published};

/// What the assertion of a snapshot that differs says.
const DIFFERS: &str = "snapshot assertion ";

/// Compares a case's story with the reviewed one. insta prints the difference, and leaves the new story beside it.
pub(super) fn compare(case: &Case, folder: &Path, compare: fn(&str, &str), story: &str) -> Result<(), String> {
    let folder = std::path::absolute(folder.join(case.place())).map_err(|error| error.to_string())?;
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_input_file(case.path());
    settings.set_description(&case.scenario().title);
    let compared = catch_unwind(AssertUnwindSafe(|| settings.bind(|| compare(case.pool(), story))));
    compared.map_err(|panic| text_of(&*panic).lines().next().unwrap_or_default().to_owned())
}

/// A story that differs is told by insta and by the test's own message: no backtrace is wanted of it.
pub(super) fn quiet() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|text| text.starts_with(DIFFERS)) {
            others(panic);
        }
    }));
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

/// A scenario that was renamed or is left out keeps no story, nor does a pool that can't do it any more. The stories of a
/// published pool that this build leaves out are kept.
pub(super) fn have_no_orphans(cases: &Cases, folder: &Path) -> Result<(), String> {
    let supported = cases.iter().filter(|case| case.lacks().is_empty());
    let of_cases: BTreeSet<PathBuf> =
        supported.map(|case| folder.join(case.place()).join(format!("{}.snap", case.pool()))).collect();
    let built = published();
    let is_built = |name: &&str| built.iter().any(|adapter| adapter.name() == *name);
    let left_out: Vec<&str> = PUBLISHED.iter().copied().filter(|name| !is_built(name)).collect();
    let mut orphans = Vec::new();
    find(folder, &mut |path| {
        let left_out = path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|stem| left_out.contains(&stem));
        if !left_out && !of_cases.contains(&path) {
            orphans.push(path.display().to_string());
        }
    })
    .map_err(|error| format!("can't read {}: {error}", folder.display()))?;
    if orphans.is_empty() {
        return Ok(());
    }
    orphans.sort();
    Err(format!("no test makes these any more, remove them: {}", orphans.join(", ")))
}

fn find(folder: &Path, each: &mut impl FnMut(PathBuf)) -> io::Result<()> {
    // Before the first story there is no folder.
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, each)?;
        } else if path.extension().is_some_and(|extension| extension == "snap") {
            each(path);
        }
    }
    Ok(())
}
