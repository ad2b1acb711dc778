//! What was found: one finding for each bug, as far as that can be told, with its smallest witness.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// A bug that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// The name of its file.
    pub(crate) name: String,
    /// The invariant.
    pub(crate) invariant: String,
    /// The violation of its witness, in one sentence.
    pub(crate) sentence: String,
    /// What a violation of the same kind shows: see [`super::mechanism::Mechanism::key`].
    pub(crate) key: String,
    /// Everything that its witness shows.
    pub(crate) shows: BTreeSet<String>,
    /// What tells it from others: see [`super::mechanism::Mechanism::fingerprint`].
    pub(crate) fingerprint: String,
    /// The input that showed it first.
    pub(crate) first: u64,
    /// How many inputs showed it.
    pub(crate) count: u64,
    /// How many runs its witness was shrunk in.
    pub(crate) shrunk_in: u32,
    /// The lines of its file, besides its story.
    pub(crate) lines: usize,
    /// The file of a bug that is known and looks the same.
    pub(crate) known: Option<String>,
    /// Its file's text.
    pub(crate) file: String,
}

/// All findings of a search.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: Vec<Found>,
    /// How often witnesses were shrunk, by key.
    shrunk: std::collections::BTreeMap<String, u32>,
}

/// So many witnesses of one key are shrunk: the same violation may have several causes.
const WITNESSES: u32 = 3;

impl Findings {
    /// Those of an earlier part of the search.
    pub(crate) fn new(all: Vec<Found>) -> Findings {
        let mut shrunk = std::collections::BTreeMap::new();
        for found in &all {
            *shrunk.entry(found.key.clone()).or_default() += 1;
        }
        Findings { all, shrunk }
    }

    /// Every one, in the order in which they were found.
    pub(crate) fn all(&self) -> &[Found] {
        &self.all
    }

    /// An input shows these keys, the earliest first. Gives the one whose witness is worth shrinking, if any.
    pub(crate) fn suspect<'a>(&mut self, keys: &[&'a str]) -> Option<&'a str> {
        let spent = |key: &str| self.shrunk.get(key).is_some_and(|shrunk| *shrunk >= WITNESSES);
        if let Some(key) = keys.iter().find(|key| spent(key)) {
            // One of its violations is explained: the others are likely its consequences.
            let known = self.all.iter_mut().find(|found| found.key == **key || found.shows.contains(*key));
            if let Some(found) = known {
                found.count += 1;
            }
            return None;
        }
        let key = keys.first()?;
        *self.shrunk.entry((*key).to_owned()).or_default() += 1;
        Some(key)
    }

    /// A witness that was shrunk. Gives the finding's place if it is new, or the smallest so far.
    pub(crate) fn add(&mut self, mut new: Found) -> Option<usize> {
        let same = self.all.iter().position(|found| {
            let consequence = found.shows.contains(&new.key) || new.shows.contains(&found.key);
            found.fingerprint == new.fingerprint || consequence && involved(found) == involved(&new)
        });
        let Some(place) = same else {
            new.name = self.free_name(&new.name);
            self.all.push(new);
            return Some(self.all.len() - 1);
        };
        let found = &mut self.all[place];
        found.count += new.count;
        if new.lines >= found.lines {
            return None;
        }
        *found = Found { name: found.name.clone(), first: found.first.min(new.first), count: found.count, ..new };
        Some(place)
    }

    fn free_name(&self, name: &str) -> String {
        let is_free = |name: &String| !self.all.iter().any(|found| found.name == *name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
    }

    /// The finding at a place gets its file, which has its name in it.
    pub(crate) fn write(&mut self, place: usize, file: impl FnOnce(&str) -> String) -> &Found {
        let found = &mut self.all[place];
        found.file = file(&found.name);
        found
    }
}

/// The part of a fingerprint that says what else happened.
fn involved(found: &Found) -> &str {
    found.fingerprint.strip_prefix(&found.key).unwrap_or(&found.fingerprint)
}

/// The list of findings, to which their files link.
pub(super) fn readme(all: &[Found]) -> String {
    let mut text = String::from("# Found by search\n");
    for found in all {
        let Found { name, sentence, first, count, fingerprint, .. } = found;
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        let _ = write!(
            text,
            "\n## {name}\n\n{sentence}\n\nSeen {times}, first in run {first}. Mechanism: {fingerprint}.\n"
        );
        if let Some(known) = &found.known {
            let _ = write!(text, "\nIt looks like the known bug of {known}.\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(key: &str, involved: &str, lines: usize) -> Found {
        Found {
            name: "a".to_owned(),
            invariant: "demand".to_owned(),
            sentence: "it".to_owned(),
            key: key.to_owned(),
            shows: BTreeSet::from([key.to_owned()]),
            fingerprint: format!("{key} ({involved})"),
            first: 1,
            count: 1,
            shrunk_in: 1,
            lines,
            known: None,
            file: String::new(),
        }
    }

    #[test]
    fn one_mechanism_is_one_finding_and_keeps_its_smallest_witness() {
        let mut findings = Findings::default();
        assert_eq!(findings.add(found("k", "a failed dial", 20)), Some(0));
        assert_eq!(findings.add(found("k", "a failed dial", 25)), None);
        assert_eq!(findings.add(found("k", "a failed dial", 15)), Some(0));
        assert_eq!(findings.add(found("k", "a resize", 15)), Some(1));
        let names: Vec<_> =
            findings.all().iter().map(|found| (found.name.as_str(), found.count, found.lines)).collect();
        assert_eq!(names, [("a", 3, 15), ("a-2", 1, 15)]);
    }

    #[test]
    fn what_is_explained_is_counted_and_not_shrunk_again() {
        let mut findings = Findings::default();
        for _ in 0..WITNESSES {
            assert_eq!(findings.suspect(&["k", "other"]), Some("k"));
        }
        findings.add(found("k", "nothing", 9));
        assert_eq!(findings.suspect(&["other", "k"]), None);
        assert_eq!(findings.all().first().map(|found| found.count), Some(2));
        assert_eq!(findings.suspect(&["other"]), Some("other"));
    }
}
