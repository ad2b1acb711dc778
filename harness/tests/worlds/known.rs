//! `known.toml`: where the worlds are known to differ.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::Failed;

/// The file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    #[serde(default)]
    difference: Vec<Difference>,
}

/// Cases that differ for one reason.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// `faults/server_crash::bb8`
    case: String,
    /// Whose network does what the kernel does, and what the other does instead.
    reason: String,
    /// On verdicts, in turmoil's world.
    effect: String,
    /// What shows, exactly.
    shows: Vec<String>,
}

impl Known {
    pub(crate) fn read() -> Known {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worlds/known.toml");
        toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("known.toml: {error}"))
    }

    /// What shows in a case, in the order of the comparison.
    pub(crate) fn of(&self, case: &str) -> Vec<String> {
        self.difference.iter().filter(|known| known.case == case).flat_map(|known| known.shows.clone()).collect()
    }

    /// Every entry is about a case that there is, says why, and there is one for each.
    pub(crate) fn check(&self, names: BTreeSet<String>) -> Result<(), Failed> {
        let mut seen = BTreeSet::new();
        for known in &self.difference {
            if !names.contains(&known.case) || !seen.insert(&known.case) {
                return Err(format!("{}: no such case, or twice", known.case).into());
            }
            if known.reason.is_empty() || known.effect.is_empty() || known.shows.is_empty() {
                return Err(format!("{}: reason, effect and what shows are needed", known.case).into());
            }
        }
        Ok(())
    }
}
