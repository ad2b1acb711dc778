//! What a real server answered, kept as text: `records/MAJOR/FAMILY.txt`, and the differences that are known.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use similar::{ChangeTag, TextDiff};

/// The situations of a family and what was seen in each.
pub(crate) type Record = BTreeMap<String, String>;

fn path(folder: &Path, family: &str) -> PathBuf {
    folder.join(format!("{family}.txt"))
}

/// A family's record; empty when there is none.
pub(crate) fn read(folder: &Path, family: &str) -> Record {
    let text = fs::read_to_string(path(folder, family)).unwrap_or_default();
    let mut record = Record::new();
    for part in text.split("\n== ").skip(1) {
        if let Some((name, seen)) = part.split_once('\n') {
            record.insert(name.trim().to_owned(), format!("{}\n", seen.trim_end()));
        }
    }
    record
}

/// Writes a family's record.
pub(crate) fn write(folder: &Path, family: &str, version: &str, record: &Record) -> std::io::Result<()> {
    let mut text = format!("{version}, observed by FIDELITY_RECORD=1 cargo test -p poolproof-sim --test fidelity\n");
    for (name, seen) in record {
        let _ = write!(text, "\n== {name}\n{seen}");
    }
    fs::create_dir_all(folder)?;
    fs::write(path(folder, family), text)
}

/// The lines that only one side has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) record: Vec<String>,
    pub(crate) seen: Vec<String>,
}

impl Difference {
    pub(crate) fn between(record: &str, seen: &str) -> Difference {
        let mut difference = Difference::default();
        for change in TextDiff::from_lines(record, seen).iter_all_changes() {
            let line = change.value().trim().to_owned();
            match change.tag() {
                ChangeTag::Delete => difference.record.push(line),
                ChangeTag::Insert => difference.seen.push(line),
                ChangeTag::Equal => {}
            }
        }
        difference
    }

    pub(crate) fn is_none(&self) -> bool {
        self.record.is_empty() && self.seen.is_empty()
    }
}

/// For people: `-` is the record's, `+` is what was seen now.
pub(crate) fn unified(record: &str, seen: &str) -> String {
    TextDiff::from_lines(record, seen).unified_diff().context_radius(4).header("record", "seen").to_string()
}

/// `known.toml`: where the simulated server is known to differ.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownDifferences {
    #[serde(default)]
    pub(crate) difference: Vec<KnownDifference>,
}

/// One of them. It must show exactly as it is written down: what was mended has to go from the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownDifference {
    /// `FAMILY::SITUATION`
    pub(crate) situation: String,
    /// Why it is so.
    pub(crate) reason: String,
    /// What it can do to a verdict.
    pub(crate) effect: String,
    /// The lines of the record that the simulation does not have.
    pub(crate) real: Vec<String>,
    /// The lines of the simulation that the record does not have.
    pub(crate) simulated: Vec<String>,
}

impl KnownDifferences {
    pub(crate) fn read(path: &Path) -> Result<KnownDifferences, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(crate) fn of(&self, situation: &str) -> Option<&KnownDifference> {
        self.difference.iter().find(|known| known.situation == situation)
    }
}
