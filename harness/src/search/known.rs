//! Known bugs of a pool: what the shipped scenarios and the museum's declare, and how it looks in a run.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::trial::{Aim, Recipe, Trial, read};
use crate::campaign::Seat;
use crate::pool::Adapter;
use crate::scenario::{built_in, print};
use crate::verdict;

/// A bug that a file declares.
#[derive(Debug, Clone)]
pub(super) struct KnownBug {
    /// The file.
    pub(super) file: String,
    /// The keys that it shows with this pool.
    pub(super) keys: BTreeSet<String>,
}

/// Every known bug of this version of a pool. Each file is run once for each of its seeds: a bug is recognised by how it
/// looks, not by its invariant alone.
pub(super) fn of(pool: &dyn Adapter, seat: &mut Seat<'_>) -> io::Result<Vec<KnownBug>> {
    let mut all = Vec::new();
    for (path, text) in built_in::FILES.iter().chain(built_in::MUSEUM) {
        let Ok(scenario) = read(text) else { continue };
        let declared: Vec<&str> = scenario
            .expect
            .known
            .iter()
            .filter(|bug| verdict::known(&scenario, pool.name(), pool.version(), &bug.violates).is_some())
            .map(|bug| bug.violates.as_str())
            .collect();
        if declared.is_empty() {
            continue;
        }
        let mut keys = BTreeSet::new();
        for seed in &scenario.seeds {
            let mut one = scenario.clone();
            one.seeds = vec![*seed];
            let inputs = vec![Recipe::Given(Arc::from(print(&one)))];
            let trial = Trial { pool: pool.name().to_owned(), inputs, aim: Aim::Tell { key: String::new() } };
            let Some((_, seen)) = seat.run(0, &trial)?.told() else { continue };
            let mechanisms = seen.breaches.iter().map(|breach| &breach.mechanism);
            let of_the_bug = mechanisms.filter(|mechanism| declared.contains(&mechanism.invariant.as_str()));
            keys.extend(of_the_bug.map(super::mechanism::Mechanism::key));
        }
        all.push(KnownBug { file: Path::new(built_in::FOLDER).join(path).display().to_string(), keys });
    }
    Ok(all)
}
