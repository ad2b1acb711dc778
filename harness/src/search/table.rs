//! How soon planted bugs are found, guided and plain, over several seeds: the proof that searching works.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use super::campaign::{Plan, search};
use super::source::{Guidance, Random};
use super::state::Subject;
use crate::campaign::Options;
use crate::pool::Adapter;

/// What is tried.
pub(crate) struct Table {
    /// The pools, each with a bug.
    pub(crate) pools: Vec<Arc<dyn Adapter>>,
    /// The seeds of the searches.
    pub(crate) seeds: Vec<u64>,
    /// The most inputs of a search.
    pub(crate) runs: u64,
    /// Searches at once; each has one job, so that it is a function of its seed.
    pub(crate) jobs: usize,
    /// How runs are carried out.
    pub(crate) options: Options,
}

/// How soon a pool's bug was found.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// The pool.
    pub(crate) pool: &'static str,
    /// The inputs that it took, one number for each seed; `None` where it was not found.
    pub(crate) guided: Vec<Option<u64>>,
    /// The same without features, guidance or changes.
    pub(crate) plain: Vec<Option<u64>>,
    /// The invariants by which it was found.
    pub(crate) invariants: Vec<String>,
}

impl Table {
    /// Does all searches. `each` is told of each that is over.
    ///
    /// # Errors
    /// That no worker can be started, as a sentence.
    pub(crate) fn fill(&self, stop: &AtomicBool, each: &(dyn Fn() + Sync)) -> Result<Vec<Row>, String> {
        let blank = |pool: &Arc<dyn Adapter>| Row {
            pool: pool.name(),
            guided: vec![None; self.seeds.len()],
            plain: vec![None; self.seeds.len()],
            invariants: Vec::new(),
        };
        let rows: Mutex<Vec<Row>> = Mutex::new(self.pools.iter().map(blank).collect());
        let mut todo = VecDeque::new();
        for pool in 0..self.pools.len() {
            for seed in 0..self.seeds.len() {
                todo.extend([Guidance::Guided, Guidance::Plain].map(|guidance| (pool, seed, guidance)));
            }
        }
        let todo = Mutex::new(todo);
        let failed: Mutex<Option<String>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some((pool, seed, guidance)) = next else { return };
                        match self.one(&self.pools[pool], self.seeds[seed], guidance, stop) {
                            Ok(found) => {
                                let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                                let row = &mut rows[pool];
                                let column =
                                    if guidance == Guidance::Guided { &mut row.guided } else { &mut row.plain };
                                column[seed] = found.as_ref().map(|(runs, _)| *runs);
                                if let Some((_, invariant)) = found
                                    && !row.invariants.contains(&invariant)
                                {
                                    row.invariants.push(invariant);
                                    row.invariants.sort_unstable();
                                }
                                each();
                            }
                            Err(error) => {
                                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                                todo.lock().unwrap_or_else(PoisonError::into_inner).clear();
                            }
                        }
                    }
                });
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(rows.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// How many inputs one search needs, and by which invariant it finds something.
    fn one(
        &self,
        pool: &Arc<dyn Adapter>,
        seed: u64,
        guidance: Guidance,
        stop: &AtomicBool,
    ) -> Result<Option<(u64, String)>, String> {
        let subject = Subject {
            format: 1,
            pool: pool.name().to_owned(),
            version: pool.version().to_owned(),
            seed,
            strategy: guidance,
            from: None,
            neighbours: None,
        };
        let plan = Plan {
            pool: Arc::clone(pool),
            subject,
            innocent: Some("reference".to_owned()),
            runs: Some(self.runs),
            time: None,
            state: None,
            options: Options { jobs: 1, ..self.options.clone() },
            // That it shows again, and not with the pool without the bug, is enough.
            shrink_runs: 0,
            first_only: true,
        };
        let source = Box::new(Random { seed, guidance, from: None });
        let summary = search(&plan, source, stop, &mut |_| {})?;
        if let Some(bug) = summary.bug {
            return Err(format!("{}: {bug}", pool.name()));
        }
        Ok(summary.found.first().map(|found| (found.first + 1, found.invariant.clone())))
    }
}

/// The median of a column, and its worst; `None` is worse than any number.
pub(crate) fn median_and_worst(column: &[Option<u64>]) -> (Option<u64>, Option<u64>) {
    let mut sorted: Vec<u64> = column.iter().map(|runs| runs.unwrap_or(u64::MAX)).collect();
    sorted.sort_unstable();
    let known = |runs: Option<&u64>| runs.copied().filter(|runs| *runs < u64::MAX);
    (known(sorted.get(sorted.len().saturating_sub(1) / 2)), known(sorted.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_found_is_worse_than_any_number() {
        assert_eq!(median_and_worst(&[Some(5), Some(1), Some(9)]), (Some(5), Some(9)));
        assert_eq!(median_and_worst(&[Some(5), None, Some(1)]), (Some(5), None));
        assert_eq!(median_and_worst(&[None, None, Some(1)]), (None, None));
    }
}
