//! A search's folder, from which it goes on after an end of any kind.
//!
//! - `search.json`: what is searched. It is written first, and never changed.
//! - `results.jsonl`: a line for each run, in the order in which they ended.
//! - `corpus.jsonl`: the inputs that reached something new, with the marks.
//! - `findings.json`: what was found, written anew with each finding.
//! - `found/`: a scenario file for each finding, and `README.md`, which lists them.
//!
//! Lines are written when they are whole. What a kill leaves half-written at a file's end is cut off at the next start, and
//! the runs that have no line are done again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::findings::Found;
use super::neighbours::Wanted;
use super::source::{Corpus, Guidance};

/// What is searched: a folder is of one search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Of the folder's files. Fields are added, never renamed or removed, as long as it is 1.
    pub(crate) format: u32,
    /// The pool's name.
    pub(crate) pool: String,
    /// Its version.
    pub(crate) version: String,
    /// The search's seed.
    pub(crate) seed: u64,
    /// How inputs are drawn.
    pub(crate) strategy: Guidance,
    /// The file that it starts from.
    pub(crate) from: Option<Arc<str>>,
    /// Which neighbours of that file are searched, all of them and nothing else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) neighbours: Option<Wanted>,
}

/// A line of `results.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResultLine {
    /// The input's number, from 0.
    pub(crate) run: u64,
    /// The features that were drawn, `changed` or `given`.
    pub(crate) features: String,
    /// The input that it was made from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) from: Option<u64>,
    /// `pass`, `violated`, `unknown`, `invalid` or `bug`.
    pub(crate) end: String,
    /// Why, where it is neither of the first two.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) why: Option<String>,
    /// The invariants that were violated.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(crate) violates: Vec<String>,
    /// How many marks nobody had reached before.
    #[serde(skip_serializing_if = "is_none", default)]
    pub(crate) marks: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A line of `corpus.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct CorpusLine {
    run: u64,
    marks: Vec<String>,
    file: Arc<str>,
}

/// What a folder says of the search so far.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    /// The number after the last that has a result.
    pub(crate) next: u64,
    /// Numbers before it that have none.
    pub(crate) gaps: VecDeque<u64>,
    /// Results, by how runs ended.
    pub(crate) ends: std::collections::BTreeMap<String, u64>,
    /// What was kept.
    pub(crate) corpus: Corpus,
    /// What was found.
    pub(crate) found: Vec<Found>,
}

/// A search's folder.
pub(crate) struct Folder {
    root: PathBuf,
    results: File,
    corpus: File,
}

impl Folder {
    /// Opens a folder, or makes it.
    ///
    /// # Errors
    /// What can't be read or written, and that the folder is of another search, as a sentence.
    pub(crate) fn open(root: &Path, subject: &Subject) -> Result<(Folder, SoFar), String> {
        let failed = |path: &Path, error: io::Error| format!("can't use {}: {error}", path.display());
        fs::create_dir_all(root.join("found")).map_err(|error| failed(root, error))?;
        let path = root.join("search.json");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let there: Subject = serde_json::from_str(&text)
                    .map_err(|error| format!("{} is not what a search writes: {error}", path.display()))?;
                if there != *subject {
                    return Err(format!(
                        "{} is of another search (pool {} {}, seed {}): name another folder with --state",
                        root.display(),
                        there.pool,
                        there.version,
                        there.seed
                    ));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_whole(&path, &json(subject)).map_err(|error| failed(&path, error))?;
            }
            Err(error) => return Err(failed(&path, error)),
        }
        let mut so_far = SoFar::default();
        let path = root.join("results.jsonl");
        let mut done = std::collections::BTreeSet::new();
        let results = append(&path, |line: ResultLine| {
            *so_far.ends.entry(line.end).or_default() += 1;
            done.insert(line.run);
            // Only what stands alone is kept: memory does not grow with the runs.
            while done.remove(&so_far.next) {
                so_far.next += 1;
            }
        })
        .map_err(|error| failed(&path, error))?;
        if let Some(&last) = done.last() {
            so_far.gaps = (so_far.next..last).filter(|number| !done.contains(number)).collect();
            so_far.next = last + 1;
        }
        let path = root.join("corpus.jsonl");
        let corpus = append(&path, |line: CorpusLine| {
            // A run without a result is done again, and tells then what it reaches.
            let has_result = line.run < so_far.next && !so_far.gaps.contains(&line.run);
            if has_result && !so_far.corpus.kept.iter().any(|(run, _)| *run == line.run) {
                for mark in line.marks {
                    so_far.corpus.marks.entry(mark).or_insert(line.run);
                }
                so_far.corpus.kept.push((line.run, line.file));
            }
        })
        .map_err(|error| failed(&path, error))?;
        let path = root.join("findings.json");
        match fs::read_to_string(&path) {
            Ok(text) => {
                so_far.found = serde_json::from_str(&text)
                    .map_err(|error| format!("{} is not what a search writes: {error}", path.display()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path, error)),
        }
        Ok((Folder { root: root.to_owned(), results, corpus }, so_far))
    }

    /// An input that reached these marks first.
    pub(crate) fn keep(&mut self, run: u64, marks: &[String], file: &Arc<str>) -> io::Result<()> {
        let line = CorpusLine { run, marks: marks.to_vec(), file: Arc::clone(file) };
        self.corpus.write_all(line_of(&line).as_bytes())
    }

    /// What runs came to.
    pub(crate) fn results(&mut self, lines: &[ResultLine]) -> io::Result<()> {
        let text: String = lines.iter().map(line_of).collect();
        self.results.write_all(text.as_bytes())
    }

    /// Everything that was found, with the file of the one that is new or smaller than before.
    pub(crate) fn found(&mut self, all: &[Found], new: &Found) -> io::Result<()> {
        write_whole(&self.root.join("found").join(format!("{}.toml", new.name)), &new.file)?;
        write_whole(&self.root.join("found").join("README.md"), &super::findings::readme(all))?;
        write_whole(&self.root.join("findings.json"), &json(&all))
    }

    /// Where a finding's file is.
    pub(crate) fn path_of(&self, found: &Found) -> PathBuf {
        self.root.join("found").join(format!("{}.toml", found.name))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}

fn line_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data") + "\n"
}

/// Opens a file of lines, reads what is whole of it, cuts off what is not, and goes on behind it.
fn append<T: DeserializeOwned>(path: &Path, mut each: impl FnMut(T)) -> io::Result<File> {
    let file = File::options().read(true).append(true).create(true).open(path)?;
    let mut reader = BufReader::new(&file);
    let (mut line, mut whole) = (Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let Some(value) = line.strip_suffix(b"\n").and_then(|line| serde_json::from_slice::<T>(line).ok()) else {
            break;
        };
        each(value);
        whole += read as u64;
    }
    drop(reader);
    file.set_len(whole)?;
    Ok(file)
}

/// Writes a file that is there whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().unwrap_or_default());
    hidden.push(".tmp");
    let temporary = path.with_file_name(hidden);
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn subject(pool: &str) -> Subject {
        Subject {
            format: 1,
            pool: pool.to_owned(),
            version: "1.0.0".to_owned(),
            seed: 1,
            strategy: Guidance::Guided,
            from: None,
            neighbours: None,
        }
    }

    fn line(run: u64) -> ResultLine {
        let (features, end) = ("plain".to_owned(), "pass".to_owned());
        ResultLine { run, features, from: None, end, why: None, violates: Vec::new(), marks: 0 }
    }

    #[test]
    fn a_search_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (mut state, so_far) = Folder::open(folder.path(), &subject("a")).unwrap();
        assert_eq!((so_far.next, so_far.gaps.len()), (0, 0));
        state.results(&[line(0), line(1), line(4), line(3)]).unwrap();
        state.keep(1, &["dial/room".to_owned()], &Arc::from("a file")).unwrap();
        state.keep(5, &["dial/full".to_owned()], &Arc::from("without a result")).unwrap();
        // A kill in the middle of a line.
        state.results.write_all(b"{\"run\":5,\"feat").unwrap();
        drop(state);
        for _ in 0..2 {
            let (_, so_far) = Folder::open(folder.path(), &subject("a")).unwrap();
            assert_eq!((so_far.next, so_far.gaps), (5, VecDeque::from([2])));
            assert_eq!(so_far.ends["pass"], 4);
            assert_eq!(so_far.corpus.kept, [(1, Arc::from("a file"))]);
            assert_eq!(so_far.corpus.marks["dial/room"], 1);
        }
        let error = Folder::open(folder.path(), &subject("b")).err().unwrap();
        assert!(error.contains("is of another search (pool a 1.0.0, seed 1)"), "{error}");
    }
}
