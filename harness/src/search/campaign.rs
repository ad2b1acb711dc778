//! A search: inputs run by workers, what is new kept, what breaks shrunk and handed over.
//!
//! Each job has a seat with a worker of its own and asks for a few inputs at a time. With one job a search is a function of
//! its seed: input n depends on the seed and on the corpus at that point. With more, the order in which results come in
//! decides what the corpus is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::findings::{Findings, Found};
use super::found;
use super::known;
use super::mechanism::Mechanism;
use super::shrink::{Sought, shrink};
use super::source::{Corpus, Input, Source};
use super::state::{Folder, ResultLine, SoFar, Subject};
use super::trial::{Aim, Answer, End, Recipe, Seen, Trial};
use crate::campaign::{Options, Seat};
use crate::pool::Adapter;
use crate::scenario::model::Scenario;
use crate::scenario::print;

/// What is searched, and how far.
pub(crate) struct Plan {
    /// The pool.
    pub(crate) pool: Arc<dyn Adapter>,
    /// What is searched, as the folder has it.
    pub(crate) subject: Subject,
    /// The pool that a witness must be innocent with: of a planted bug the one that it is planted in.
    pub(crate) innocent: Option<String>,
    /// The most inputs, those of earlier parts of the search included.
    pub(crate) runs: Option<u64>,
    /// The longest time.
    pub(crate) time: Option<Duration>,
    /// Where the state is kept, if it is.
    pub(crate) state: Option<PathBuf>,
    /// How runs are carried out.
    pub(crate) options: Options,
    /// The most runs that a witness is shrunk in.
    pub(crate) shrink_runs: u32,
    /// The search is over with its first finding.
    pub(crate) first_only: bool,
}

/// What a search is told while it goes on.
pub(crate) enum News<'a> {
    /// So many inputs have been run, and this many marks reached.
    Progress { runs: u64, of: Option<u64>, marks: usize, findings: usize },
    /// A finding is new, or has a smaller witness.
    Found(&'a Found),
}

/// What came of a search.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// Inputs that were run, those of earlier parts included.
    pub(crate) runs: u64,
    /// Inputs that were run this time.
    pub(crate) runs_now: u64,
    /// How long it took this time.
    pub(crate) took: Duration,
    /// How many inputs ended in which way.
    pub(crate) ends: BTreeMap<String, u64>,
    /// What is new, by the input that reached it first.
    pub(crate) corpus: Corpus,
    /// What was found.
    pub(crate) found: Vec<Found>,
    /// Where each finding's file is.
    pub(crate) paths: Vec<PathBuf>,
    /// A bug of poolproof's own, if one showed.
    pub(crate) bug: Option<String>,
    /// Why it ended early, if it did.
    pub(crate) gave_up: Option<String>,
}

/// So many inputs a worker is asked for at once: one where a run is reproducible in a process of its own only.
pub(super) const AT_ONCE: usize = if cfg!(tokio_unstable) { 16 } else { 1 };

/// So many lost workers are enough: a pool that hangs all the time hangs.
const LOSSES: u32 = 12;

/// Searches until the plan's end, or until it is told to stop.
///
/// # Errors
/// That the folder can't be used, or no worker be started, as a sentence.
pub(crate) fn search(
    plan: &Plan,
    source: Box<dyn Source>,
    stop: &AtomicBool,
    news: &mut (dyn FnMut(&News<'_>) + Send),
) -> Result<Summary, String> {
    let opened = plan.state.as_ref().map(|root| Folder::open(root, &plan.subject)).transpose()?;
    let (folder, so_far) = opened.map_or((None, SoFar::default()), |(folder, so_far)| (Some(folder), so_far));
    let done = so_far.ends.values().sum();
    let hunt = Hunt {
        source,
        next: so_far.next,
        gaps: so_far.gaps,
        corpus: so_far.corpus,
        findings: Findings::new(so_far.found),
        ends: so_far.ends,
        folder,
        begun: done,
        done,
        losses: 0,
        bug: None,
        gave_up: None,
        exhausted: false,
        failed: None,
        news,
    };
    let shared = Shared { plan, stop, started: Instant::now(), hunt: Mutex::new(hunt), known: Mutex::new(None) };
    std::thread::scope(|scope| {
        for _ in 0..plan.options.jobs.max(1) {
            scope.spawn(|| {
                let mut seat = Seat::new(&plan.options);
                if let Err(error) = shared.work(&mut seat) {
                    shared.lock().failed.get_or_insert(format!("can't go on: {error}"));
                    shared.stop.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    let took = shared.started.elapsed();
    let hunt = shared.hunt.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failed) = hunt.failed {
        return Err(failed);
    }
    let found = hunt.findings.all().to_vec();
    Ok(Summary {
        runs: hunt.done,
        runs_now: hunt.done - done,
        took,
        ends: hunt.ends,
        corpus: hunt.corpus,
        paths: hunt.folder.map(|folder| found.iter().map(|found| folder.path_of(found)).collect()).unwrap_or_default(),
        found,
        bug: hunt.bug,
        gave_up: hunt.gave_up,
    })
}

/// What the jobs of a search share.
struct Shared<'a> {
    plan: &'a Plan,
    stop: &'a AtomicBool,
    started: Instant,
    hunt: Mutex<Hunt<'a>>,
    /// What is known of the pool already, once somebody has asked.
    known: Mutex<Option<Vec<known::KnownBug>>>,
}

/// The state of a search.
struct Hunt<'a> {
    source: Box<dyn Source>,
    next: u64,
    gaps: VecDeque<u64>,
    corpus: Corpus,
    findings: Findings,
    ends: BTreeMap<String, u64>,
    folder: Option<Folder>,
    /// Inputs that were given out, and that came back.
    begun: u64,
    done: u64,
    losses: u32,
    bug: Option<String>,
    gave_up: Option<String>,
    exhausted: bool,
    failed: Option<String>,
    news: &'a mut (dyn FnMut(&News<'_>) + Send),
}

/// An input on its way through a search.
#[derive(Clone)]
struct Numbered {
    number: u64,
    input: Input,
}

/// An input that shows something worth shrinking.
struct Suspect {
    number: u64,
    recipe: Recipe,
    key: String,
}

impl<'a> Shared<'a> {
    fn lock(&self) -> MutexGuard<'_, Hunt<'a>> {
        self.hunt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a job does until there is no more to do.
    fn work(&self, seat: &mut Seat<'_>) -> io::Result<()> {
        while let Some(batch) = self.next_batch() {
            for suspect in self.look(seat, &batch)? {
                if !self.has_enough() {
                    self.follow(seat, &suspect)?;
                }
            }
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.plan.time.is_some_and(|time| self.started.elapsed() >= time)
    }

    /// Whether the first finding is there, and no more are wanted.
    fn has_enough(&self) -> bool {
        self.plan.first_only && !self.lock().findings.all().is_empty()
    }

    fn next_batch(&self) -> Option<Vec<Numbered>> {
        if self.has_enough() || self.is_over() {
            return None;
        }
        let mut hunt = self.lock();
        if hunt.bug.is_some() || hunt.gave_up.is_some() {
            return None;
        }
        let left = self.plan.runs.map_or(u64::MAX, |runs| runs.saturating_sub(hunt.begun));
        // Where workers are lost, an input that is lost with others costs their time too.
        let most = if hunt.losses > 0 { 1 } else { AT_ONCE };
        let mut batch = Vec::new();
        while batch.len() < most && (batch.len() as u64) < left && !hunt.exhausted {
            let Hunt { source, next, gaps, corpus, exhausted, .. } = &mut *hunt;
            let number = gaps.pop_front().unwrap_or_else(|| {
                *next += 1;
                *next - 1
            });
            match source.input(number, corpus) {
                Some(input) => batch.push(Numbered { number, input }),
                None => *exhausted = true,
            }
        }
        hunt.begun += batch.len() as u64;
        (!batch.is_empty()).then_some(batch)
    }

    fn trial(&self, inputs: Vec<Recipe>, aim: Aim) -> Trial {
        Trial { pool: self.plan.pool.name().to_owned(), inputs, aim }
    }

    /// Runs inputs, and records what they come to. Gives those that are worth a closer look.
    fn look(&self, seat: &mut Seat<'_>, batch: &[Numbered]) -> io::Result<Vec<Suspect>> {
        let recipes = batch.iter().map(|numbered| numbered.input.recipe.clone()).collect();
        match seat.run(batch[0].number, &self.trial(recipes, Aim::Look))? {
            Answer::Looked(seen) => self.record(batch, seen),
            Answer::Lost(seen) if batch.len() == 1 => self.record(batch, vec![*seen]),
            // One of them took the worker with it: which, is seen when they are run one by one.
            _ => {
                self.lock().losses += 1;
                let mut suspects = Vec::new();
                for one in batch {
                    // Each that is lost takes its time: where one is enough, no other is looked at.
                    if self.is_over() || self.plan.first_only && !suspects.is_empty() {
                        break;
                    }
                    suspects.extend(self.look(seat, std::slice::from_ref(one))?);
                }
                Ok(suspects)
            }
        }
    }

    fn record(&self, batch: &[Numbered], seen: Vec<Seen>) -> io::Result<Vec<Suspect>> {
        let capabilities = self.plan.pool.capabilities();
        let mut hunt = self.lock();
        let mut lines = Vec::new();
        let mut suspects = Vec::new();
        for (Numbered { number, input }, seen) in batch.iter().zip(seen) {
            let (end, why) = match &seen.end {
                End::Pass => ("pass", None),
                End::Violated => ("violated", None),
                End::Unknown(why) => ("unknown", Some(why.clone())),
                End::Invalid(_) => ("invalid", None),
                End::Bug(why) => ("bug", Some(why.clone())),
            };
            if let End::Bug(bug) = &seen.end {
                hunt.bug.get_or_insert(format!("run {number}: {bug}"));
            }
            *hunt.ends.entry(end.to_owned()).or_default() += 1;
            hunt.done += 1;
            let fresh: Vec<String> =
                seen.marks.iter().filter(|mark| !hunt.corpus.marks.contains_key(*mark)).cloned().collect();
            if !fresh.is_empty()
                && let Ok(made) = input.recipe.make(&capabilities)
            {
                let file: Arc<str> = Arc::from(print(&made.scenario));
                if let Some(folder) = &mut hunt.folder {
                    folder.keep(*number, &fresh, &file)?;
                }
                hunt.corpus.marks.extend(fresh.iter().map(|mark| (mark.clone(), *number)));
                hunt.corpus.kept.push((*number, file));
            }
            let keys: Vec<String> = seen.breaches.iter().map(|breach| breach.mechanism.key()).collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            if let Some(key) = hunt.findings.suspect(&keys) {
                suspects.push(Suspect { number: *number, recipe: input.recipe.clone(), key: key.to_owned() });
            }
            if seen.end == End::Violated && seen.features.is_empty() {
                // Only a lost run has none.
                hunt.losses += 1;
            }
            lines.push(ResultLine {
                run: *number,
                features: seen.features,
                from: input.from,
                end: end.to_owned(),
                why,
                violates: seen.breaches.iter().map(|breach| breach.mechanism.invariant.clone()).collect(),
                marks: fresh.len(),
            });
        }
        if let Some(folder) = &mut hunt.folder {
            folder.results(&lines)?;
        }
        if hunt.losses >= LOSSES {
            hunt.gave_up = Some(format!("{LOSSES} workers were lost: the pool hangs or crashes again and again"));
        }
        let (runs, marks, findings) = (hunt.done, hunt.corpus.marks.len(), hunt.findings.all().len());
        let of = self.plan.runs.or(hunt.source.total());
        (hunt.news)(&News::Progress { runs, of, marks, findings });
        Ok(suspects)
    }

    /// Shrinks what an input shows, and hands it over as a file.
    fn follow(&self, seat: &mut Seat<'_>, suspect: &Suspect) -> io::Result<()> {
        let Ok(made) = suspect.recipe.make(&self.plan.pool.capabilities()) else { return Ok(()) };
        let sought = Sought {
            pool: self.plan.pool.name(),
            capabilities: self.plan.pool.capabilities(),
            key: &suspect.key,
            innocent: self.plan.innocent.as_deref(),
            runs: self.plan.shrink_runs,
        };
        let stopped = || self.stop.load(Ordering::Relaxed);
        let (small, runs) = shrink(&made.scenario, &sought, |trial| {
            // Who stops a search does not want to wait: what is left is as small as it is by now.
            if stopped() && trial.inputs.len() > 1 { Ok(Answer::First(None, 0)) } else { seat.run(0, trial) }
        })?;
        // What doesn't show it again, or is the scenario's own doing, is no finding.
        let Some(scenario) = small else { return Ok(()) };
        let recipe = Recipe::Given(Arc::from(print(&scenario)));
        let answer = seat.run(0, &self.trial(vec![recipe], Aim::Tell { key: suspect.key.clone() }))?;
        let Some((story, seen)) = answer.told() else { return Ok(()) };
        let Some(breach) = seen.breaches.iter().find(|breach| breach.mechanism.key() == suspect.key) else {
            return Ok(());
        };
        let known = self.known(seat, &seen)?;
        let witness = Witness { scenario: &scenario, story: &story, seen: &seen, plan: self.plan };
        let found = Found {
            name: name(self.plan.pool.name(), &breach.mechanism),
            invariant: breach.mechanism.invariant.clone(),
            sentence: breach.sentence.clone(),
            key: suspect.key.clone(),
            shows: seen.breaches.iter().map(|breach| breach.mechanism.key()).collect(),
            fingerprint: breach.mechanism.fingerprint(),
            first: suspect.number,
            count: 1,
            shrunk_in: runs,
            lines: found::lines_besides_story(&witness.file("name", &breach.sentence)),
            known,
            file: String::new(),
        };
        let mut hunt = self.lock();
        let Hunt { findings, folder, news, .. } = &mut *hunt;
        if let Some(place) = findings.add(found) {
            let new = findings.write(place, |name| witness.file(name, &breach.sentence)).clone();
            if let Some(folder) = folder {
                folder.found(findings.all(), &new)?;
            }
            news(&News::Found(&new));
        }
        Ok(())
    }

    /// The file of a known bug of this pool that looks the same.
    fn known(&self, seat: &mut Seat<'_>, seen: &Seen) -> io::Result<Option<String>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(known::of(&*self.plan.pool, seat)?);
        }
        let shows = |bug: &&known::KnownBug| bug.keys.iter().any(|key| seen.shows(key));
        Ok(known.as_ref().and_then(|all| all.iter().find(shows)).map(|bug| bug.file.clone()))
    }
}

/// A shrunk input, from which a file is made.
struct Witness<'a> {
    scenario: &'a Scenario,
    story: &'a [String],
    seen: &'a Seen,
    plan: &'a Plan,
}

impl Witness<'_> {
    fn file(&self, name: &str, sentence: &str) -> String {
        let violates: BTreeSet<String> =
            self.seen.breaches.iter().map(|breach| breach.mechanism.invariant.clone()).collect();
        let invariant = sentence.split(' ').next().unwrap_or_default();
        let pool = &self.plan.pool;
        let lost = [format!("The run never came to its end: {sentence}.")];
        found::file(&found::Finding {
            scenario: self.scenario,
            name,
            pool: pool.name(),
            version: pool.version(),
            title: &format!("{} violates {invariant}", pool.name()),
            story: if self.story.is_empty() { &lost } else { self.story },
            violates: &violates,
        })
    }
}

/// `planted-churn-demand`
fn name(pool: &str, mechanism: &Mechanism) -> String {
    format!("{}-{}", pool.replace(':', "-"), mechanism.invariant)
}
