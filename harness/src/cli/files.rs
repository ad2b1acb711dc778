//! Scenario files found and read, and files written whole or not at all.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use super::engine::Engine;
use super::error::{Failure, Result};
use crate::pool::PUBLISHED;
use crate::scenario::model::Scenario;
use crate::scenario::{Checked, Names, Report, built_in, check};
use crate::signals::before_the_end;

/// A scenario file that was read.
#[derive(Debug, Clone)]
pub(crate) struct ScenarioFile {
    /// As the user would name it.
    pub(crate) path: PathBuf,
    pub(crate) text: Arc<str>,
    pub(crate) scenario: Arc<Scenario>,
}

impl ScenarioFile {
    /// The file's name without its extension, and the folders below the one that was given.
    pub(super) fn name(&self) -> String {
        let path = self.path.with_extension("");
        path.display().to_string()
    }
}

/// All scenario files at these paths: folders are searched, in the order of their entries' names. A path that begins with
/// `built-in` leads into the crate.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let no_file = || Failure::sentence(format!("there is no scenario file (.toml) in {}", path.display()));
        if let Some(files) = built_in::find(path) {
            if files.is_empty() {
                return Err(no_file());
            }
            found.extend(files);
            continue;
        }
        let meta = fs::metadata(path).map_err(|error| Failure::io("read", path, &error))?;
        if meta.is_dir() {
            let before = found.len();
            search(path, &mut found)?;
            if found.len() == before {
                return Err(no_file());
            }
        } else {
            found.push(path.clone());
        }
    }
    // The same file by two ways is one file; its first place counts.
    let mut seen = BTreeSet::new();
    found.retain(|path| seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())));
    Ok(found)
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |error: io::Error| Failure::io("read", folder, &error);
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            search(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads a file, and gives its scenario unless it has errors, with what there is to say of it.
pub(super) fn read(engine: &Engine, path: &Path) -> Result<(Option<ScenarioFile>, Report)> {
    let name = path.display().to_string();
    let text = match built_in::text(path) {
        Some(text) => text.to_owned(),
        None => match text_of(path)? {
            Ok(text) => text,
            Err(report) => return Ok((None, report)),
        },
    };
    let Checked { scenario, report } = parse(engine, &name, &text);
    let file = scenario.map(|scenario| ScenarioFile {
        path: path.to_owned(),
        text: Arc::from(text),
        scenario: Arc::new(scenario),
    });
    Ok((file, report))
}

/// A file's text, or the place where it is none.
pub(crate) fn text_of(path: &Path) -> Result<std::result::Result<String, Report>> {
    let bytes = fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    Ok(String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Report::not_utf8(&path.display().to_string(), &String::from_utf8_lossy(error.as_bytes()), at)
    }))
}

/// Reads a scenario's text, with the names that this process knows. A file may speak of a published pool that this build
/// leaves out.
pub(super) fn parse(engine: &Engine, name: &str, text: &str) -> Checked {
    let pools = engine.all_pools();
    let pools: Vec<&str> = pools.iter().map(|adapter| adapter.name()).chain(PUBLISHED.iter().copied()).collect();
    let invariants: Vec<&str> = (engine.invariants)().iter().map(|named| named.name).collect();
    let (capabilities, figures) = ((engine.capabilities)(), (engine.figures)());
    let names = Names { invariants: &invariants, pools: &pools, capabilities: &capabilities, figures: &figures };
    check(name, text, &names)
}

/// Reads files of which every one must be right.
pub(crate) fn read_all(engine: &Engine, paths: &[PathBuf]) -> Result<Vec<ScenarioFile>> {
    let (mut files, mut wrong) = (Vec::new(), Vec::new());
    for path in find(paths)? {
        match read(engine, &path)? {
            (Some(file), _) => files.push(file),
            (None, report) => wrong.push(report),
        }
    }
    if wrong.is_empty() { Ok(files) } else { Err(Failure::Files(wrong)) }
}

/// The temporary names of files that are not whole yet. A signal removes them.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what is not whole; nobody begins another any more.
fn remove_unfinished() {
    let unfinished = unfinished();
    for path in &*unfinished {
        let _gone_already = fs::remove_file(path);
    }
    // Held until the process is gone.
    std::mem::forget(unfinished);
}

/// A file that takes its place only when it is whole: until then it has another name, beside it. What is there and is no
/// file (a device, a pipe) is written to as it is.
pub(super) struct Whole {
    target: PathBuf,
    /// The other name; `None` for what is written to as it is.
    temporary: Option<PathBuf>,
}

impl Whole {
    pub(super) fn new(target: &Path) -> Result<Whole> {
        // A link stays one: what it leads to is replaced.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            return Ok(Whole { target, temporary: None });
        }
        let Some(name) = target.file_name() else {
            return Err(Failure::sentence(format!("{} is not a file's name", target.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(hidden);
        static HEARD: Once = Once::new();
        HEARD.call_once(|| before_the_end(remove_unfinished));
        let created = {
            let mut unfinished = unfinished();
            unfinished.insert(temporary.clone());
            File::create(&temporary)
        };
        let whole = Whole { target, temporary: Some(temporary) };
        created.map_err(|error| Failure::io("write", &whole.target, &error))?;
        Ok(whole)
    }

    /// Where to write.
    pub(super) fn path(&self) -> &Path {
        self.temporary.as_ref().unwrap_or(&self.target)
    }

    /// It is whole: puts it in its place, over what is there.
    pub(super) fn finish(mut self) -> Result<()> {
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.target).map_err(|error| Failure::io("write", &self.target, &error))?;
            unfinished().remove(temporary);
            self.temporary = None;
        }
        Ok(())
    }

    /// It is whole: puts it in its place, unless something is there.
    pub(super) fn finish_new(self) -> Result<()> {
        // A hard link fails when the name is taken, in one step.
        match fs::hard_link(self.path(), &self.target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(taken(&self.target)),
            Err(error) => Err(Failure::io("write", &self.target, &error)),
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _gone_already = fs::remove_file(temporary);
            unfinished().remove(temporary);
        }
    }
}

fn taken(target: &Path) -> Failure {
    Failure::sentence(format!("{} is there already, and is not overwritten", target.display()))
}

/// Opens a file that is there, to write it anew. It makes none: after a signal nothing comes back.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::options().write(true).truncate(true).open(path)
}

/// Writes a new file, or nothing.
pub(super) fn write_new(target: &Path, text: &str) -> Result<()> {
    if target.symlink_metadata().is_ok() {
        return Err(taken(target));
    }
    let whole = Whole::new(target)?;
    let written = open(whole.path()).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| Failure::io("write", target, &error))?;
    whole.finish_new()
}
