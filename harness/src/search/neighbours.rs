//! All neighbours of a scenario file: the same scenario with one thing changed at one place, for each of its places.
//!
//! Which places there are is counted in a run of the file itself ([`crate::census`], and the trace's instants). So the list is
//! a function of file, seed and pool, and a search of it is over when its last neighbour was run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::source::{Corpus, Input, Source};
use super::trial::{Aim, Answer, End, Places, Recipe, Trial, read};
use crate::campaign::{Options, Seat};
use crate::scenario::model::{
    Action, AtMessage, BackendFilter, Cancel, Direction, Fault, FaultAction, MessagePlace, Processes, Scenario,
    ServerName, Step, StopMode, each_step, each_step_mut,
};
use crate::scenario::{action_text, can_wait, print};
use crate::world::sentence;

/// Where neighbours differ from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Every {
    /// One step of one actor is cancelled: instead of its first poll, and after each wake before the next poll.
    Poll,
    /// One more fault, at each instant of the run at which anything happens, and a millisecond later.
    Moment,
    /// Something befalls a connection before and after each protocol message.
    Message,
}

impl Every {
    fn name(self) -> &'static str {
        match self {
            Every::Poll => "poll",
            Every::Moment => "moment",
            Every::Message => "message",
        }
    }
}

/// Which neighbours are wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Where they differ.
    pub(crate) every: Vec<Every>,
    /// How many other orders of events each seed is run in, beside its own.
    pub(crate) interleavings: u32,
    /// The seeds.
    pub(crate) seeds: Vec<u64>,
    /// The most neighbours of one kind, seed and order. Where there are more, so many are taken, evenly.
    pub(crate) most: usize,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// The file itself.
    Nothing,
    /// A step of a workload is cancelled.
    Cancel { workload: String, place: u32, cancel: Cancel },
    /// One more fault.
    Fault(Fault),
}

/// The neighbours of a file.
pub(crate) struct Neighbours {
    /// The file in each of its seeds and orders.
    bases: Vec<Scenario>,
    all: Vec<(usize, Change)>,
    /// How many places of each kind that is wanted there are in all bases, and at how many of them there is a neighbour.
    counts: Vec<(usize, usize)>,
    /// How many there are of what; before it a line for each base whose places can't be counted.
    pub(crate) told: Vec<String>,
}

/// The times of what is done in a moment. Shorter than what waits for it, long enough to be noticed.
const BRIEFLY: Duration = Duration::from_millis(100);
const FOR_A_WHILE: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

impl Neighbours {
    /// Counts the places of a file with this pool, and lists its neighbours.
    ///
    /// # Errors
    /// Why they can't be counted, as a sentence.
    pub(crate) fn of(file: &str, wanted: &Wanted, pool: &str, options: &Options) -> Result<Neighbours, String> {
        let mut seat = Seat::new(options);
        Neighbours::counted(file, wanted, |base| {
            count(base, pool, &mut seat).map_err(|error| format!("can't go on: {error}"))
        })
    }

    /// The same, with what counts the places of a scenario: an error ends it all, an inner one is why there are none.
    fn counted(
        file: &str,
        wanted: &Wanted,
        mut count: impl FnMut(&Scenario) -> Result<Result<Places, String>, String>,
    ) -> Result<Neighbours, String> {
        let given = read(file)?;
        let counts = vec![(0, 0); wanted.every.len()];
        let mut found = Neighbours { bases: Vec::new(), all: Vec::new(), counts, told: Vec::new() };
        for seed in &wanted.seeds {
            for order in 0..=wanted.interleavings {
                let mut base = Scenario { seeds: vec![*seed], ..given.clone() };
                if order > 0 {
                    base.interleave = Some(order.into());
                    // Every other one with a network that is not always equally fast.
                    if order % 2 == 0 {
                        base.network.jitter = base.network.jitter.max(MS);
                    }
                }
                let base = read(&print(&base))?;
                let places = match count(&base)? {
                    Ok(places) => places,
                    Err(why) => {
                        found.told.push(format!("seed {seed}: only the file itself: {why}"));
                        Places::default()
                    }
                };
                found.add(base, &places, wanted);
            }
        }
        found.tell(wanted);
        Ok(found)
    }

    fn add(&mut self, base: Scenario, places: &Places, wanted: &Wanted) {
        let place = self.bases.len();
        self.all.push((place, Change::Nothing));
        for (every, (there, taken)) in wanted.every.iter().zip(&mut self.counts) {
            let all = match every {
                Every::Poll => every_poll(&base, places),
                Every::Moment => every_moment(&base, places),
                Every::Message => every_message(places),
            };
            let (count, kept) = (all.len(), all.len().min(wanted.most));
            *there += count;
            *taken += kept;
            self.all.extend((0..kept).map(|n| (place, all[n * count / kept].clone())));
        }
        self.bases.push(base);
    }

    /// How many there are of what.
    fn tell(&mut self, wanted: &Wanted) {
        let (seeds, orders) = (wanted.seeds.len(), wanted.interleavings + 1);
        let mut text = match self.bases.len() {
            1 => "the file itself".to_owned(),
            all => format!("the file itself {all} times (seeds: {seeds}, orders of each: {orders})"),
        };
        for (every, (there, taken)) in wanted.every.iter().zip(&self.counts) {
            let name = every.name();
            let _ = if taken < there {
                write!(text, ", {taken} of the {there} of every {name} (taken evenly; --most takes more)")
            } else {
                write!(text, ", {taken} of every {name}")
            };
        }
        self.told.push(format!("{text}: {} runs", self.all.len()));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.all.len() as u64
    }
}

impl Source for Neighbours {
    fn input(&mut self, number: u64, _: &Corpus) -> Option<Input> {
        let (base, change) = self.all.get(usize::try_from(number).ok()?)?;
        let mut scenario = self.bases[*base].clone();
        let name = change.apply(&mut scenario);
        let recipe = Recipe::Neighbour { file: Arc::from(print(&scenario)), name };
        Some(Input { recipe, from: None })
    }

    fn total(&self) -> Option<u64> {
        Some(self.len())
    }
}

impl Change {
    /// Makes it. Gives its name.
    fn apply(&self, scenario: &mut Scenario) -> String {
        match self {
            Change::Nothing => "given".to_owned(),
            Change::Cancel { workload: name, place, cancel } => {
                let Some(workload) = scenario.workloads.get_mut(name) else { return String::new() };
                // In the order of [`crate::census::Census::steps`].
                let mut next = 0;
                let mut text = String::new();
                let mut cut = |step: &mut Step| {
                    if next == *place {
                        step.cancel = Some(*cancel);
                        text = match &step.action {
                            Action::Repeat { times, .. } => format!("repeat {times}"),
                            Action::While { queue, .. } => format!("while {queue}"),
                            action => action_text(action),
                        };
                    }
                    next += 1;
                };
                each_step_mut(&mut workload.steps, &mut cut);
                each_step_mut(&mut workload.finally, &mut cut);
                let moment = match cancel {
                    Cancel::AtPollOf { actor, poll } => format!("poll {poll} of actor {actor}"),
                    Cancel::AtWakeOf { actor, wake } => format!("wake {wake} of actor {actor}"),
                    other => format!("{other:?}"),
                };
                format!("{name} cancelled at {moment}: {text}")
            }
            Change::Fault(fault) => {
                scenario.faults.push(fault.clone());
                let text = sentence::begin(&fault.action);
                if fault.at.is_zero() { text } else { format!("{} ms: {text}", fault.at.as_millis()) }
            }
        }
    }
}

/// Counts the places of a scenario; a sentence why not, if its run can't be judged.
fn count(base: &Scenario, pool: &str, seat: &mut Seat<'_>) -> io::Result<Result<Places, String>> {
    let inputs = vec![Recipe::Given(Arc::from(print(base)))];
    let answer = seat.run(0, &Trial { pool: pool.to_owned(), inputs, aim: Aim::Count })?;
    Ok(match answer {
        Answer::Counted(places) => Ok(places),
        Answer::Lost(seen) => Err(match seen.end {
            End::Unknown(why) | End::Bug(why) | End::Invalid(why) => why,
            End::Pass | End::Violated => "the pool hangs or crashes in it".to_owned(),
        }),
        _ => Err("the worker answers another question".to_owned()),
    })
}

/// Each step that may wait and has no cancellation, of each actor, at each of its moments. Dropped after the n-th wake is
/// dropped instead of poll n + 1, so that each moment is there once.
fn every_poll(base: &Scenario, places: &Places) -> Vec<Change> {
    let mut free = BTreeSet::new();
    for (name, workload) in &base.workloads {
        let mut next = 0;
        let mut look = |step: &Step| {
            if step.cancel.is_none() && can_wait(&step.action) {
                free.insert((name.clone(), next));
            }
            next += 1;
        };
        each_step(&workload.steps, &mut look);
        each_step(&workload.finally, &mut look);
    }
    let mut all = Vec::new();
    for (workload, place, actor, wakes) in &places.steps {
        let Ok(actor) = u32::try_from(*actor) else { continue };
        if !free.contains(&(workload.clone(), *place)) {
            continue;
        }
        let moments = (1..=*wakes).map(|wake| Cancel::AtWakeOf { actor, wake });
        all.extend(std::iter::once(Cancel::AtPollOf { actor, poll: 1 }).chain(moments).map(|cancel| Change::Cancel {
            workload: workload.clone(),
            place: *place,
            cancel,
        }));
    }
    all
}

/// Each fault that fits, at each instant and a millisecond later.
fn every_moment(base: &Scenario, places: &Places) -> Vec<Change> {
    let millis: BTreeSet<u64> = places.instants.iter().flat_map(|at| [*at, *at + 1]).collect();
    let times = millis.into_iter().map(Duration::from_millis).filter(|at| *at < base.expect.until);
    let actions = fitting(base);
    times
        .flat_map(|at| actions.iter().map(move |action| (at, action.clone())))
        .map(|(at, action)| Change::Fault(Fault { at, every: None, action }))
        .collect()
}

/// The faults that make sense in a scenario. One that ends the server's life for a while is left out where the file does so
/// itself: a server that is down is not stopped once more.
fn fitting(base: &Scenario) -> Vec<FaultAction> {
    let (server, filter) = (ServerName::Primary, BackendFilter::default());
    let mut all = vec![
        FaultAction::NetReset { older_than: None, app: None },
        FaultAction::NetForget { older_than: None, app: None },
        FaultAction::NetRefuse { lasts: Some(BRIEFLY) },
        FaultAction::NetPartition { app: None, direction: Direction::Both, lasts: Some(FOR_A_WHILE) },
        FaultAction::ServerTerminate { server, filter: filter.clone() },
    ];
    if !base.faults.iter().any(|fault| fault.action.is_of_a_servers_life()) {
        all.push(FaultAction::ServerCrashBackend { server, filter });
        all.push(FaultAction::ServerRestart { server, mode: StopMode::Fast, down_for: BRIEFLY });
    }
    let apps = base.apps.iter().filter(|(_, app)| app.processes != Processes::PerRequest);
    all.extend(apps.map(|(name, _)| FaultAction::AppKill {
        app: name.clone(),
        process: None,
        older_than: None,
        restart_after: Some(BRIEFLY),
    }));
    all
}

/// Each thing that may befall a connection, before and after each message of both directions.
fn every_message(places: &Places) -> Vec<Change> {
    let whats = AtMessage::ALL.map(|what| match what {
        AtMessage::Delay(_) => AtMessage::Delay(FOR_A_WHILE),
        what => what,
    });
    let mut all = Vec::new();
    for &(connection, to_server, count) in &places.messages {
        for (message, after) in (1..=count).flat_map(|message| [(message, false), (message, true)]) {
            let place = MessagePlace { connection, to_server, message, after };
            all.extend(whats.map(|what| {
                let action = FaultAction::NetMessage { place, what };
                Change::Fault(Fault { at: Duration::ZERO, every: None, action })
            }));
        }
    }
    all
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::search::trial::count_places;

    /// The parameters that PostgreSQL 15 reports at a session's start.
    const PARAMETERS: usize = 13;

    const FILE: &str = r#"
title = "Two and one connection"
story = "One waits for the other."
seeds = [7]
[app.web]
pool = { max_size = 1 }
[workload.caller]
app = "web"
arrive = { at = ["0s", "10ms"] }
steps = ["acquire", "sql SELECT 1", "hold 20ms", "release"]
[expect]
until = "1s"
"#;

    fn wanted(every: &[Every], interleavings: u32) -> Wanted {
        Wanted { every: every.to_vec(), interleavings, seeds: vec![7], most: 10_000 }
    }

    fn list(wanted: &Wanted) -> Neighbours {
        let adapter = crate::pool::by_name("reference").unwrap();
        let count = |base: &Scenario| {
            Ok(Ok(count_places(&Recipe::Given(Arc::from(print(base))), &adapter).map_err(|end| format!("{end:?}"))?))
        };
        Neighbours::counted(FILE, wanted, count).unwrap()
    }

    fn neighbours(every: &[Every], interleavings: u32) -> Vec<Input> {
        let mut all = list(&wanted(every, interleavings));
        let inputs: Vec<Input> = (0..).map_while(|number| all.input(number, &Corpus::default())).collect();
        assert_eq!(inputs.len() as u64, all.len());
        inputs
    }

    fn names(inputs: &[Input]) -> Vec<String> {
        let name = |input: &Input| match &input.recipe {
            Recipe::Neighbour { name, .. } => name.clone(),
            other => panic!("{other:?}"),
        };
        inputs.iter().map(name).collect()
    }

    #[test]
    fn every_poll_has_each_moment_of_each_actor_once() {
        let inputs = neighbours(&[Every::Poll], 0);
        let names = names(&inputs);
        // The second caller is woken once, by the release; a statement once, by its answer; a hold once, by its timer.
        let second: Vec<&String> = names.iter().filter(|name| name.contains("of actor 2")).collect();
        assert_eq!(
            second,
            [
                "caller cancelled at poll 1 of actor 2: acquire",
                "caller cancelled at wake 1 of actor 2: acquire",
                "caller cancelled at poll 1 of actor 2: sql SELECT 1",
                "caller cancelled at wake 1 of actor 2: sql SELECT 1",
                "caller cancelled at poll 1 of actor 2: hold 20ms",
                "caller cancelled at wake 1 of actor 2: hold 20ms",
            ]
        );
        let distinct: BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
        for input in &inputs {
            let Recipe::Neighbour { file, .. } = &input.recipe else { panic!() };
            read(file).unwrap();
        }
    }

    #[test]
    fn every_message_has_each_message_in_six_ways_on_both_sides() {
        let names = names(&neighbours(&[Every::Message], 0));
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &names[1..] {
            let whose = if name.contains("the app's") { "app" } else { "server" };
            *counts.entry(whose).or_default() += 1;
        }
        // StartupMessage; for each lease Query, and the pool's own Sync at its end. What the run itself does after its fault phase
        // has no neighbours.
        assert_eq!(counts["app"], (1 + 2 * 2) * 12, "{names:#?}");
        // AuthenticationOk, the ParameterStatus messages, BackendKeyData, ReadyForQuery; for each lease RowDescription, DataRow,
        // CommandComplete, and ReadyForQuery twice.
        assert_eq!(counts["server"], (1 + PARAMETERS + 2 + 2 * 5) * 12, "{names:#?}");
    }

    #[test]
    fn every_moment_has_each_fault_at_each_instant_and_a_millisecond_later() {
        let inputs = neighbours(&[Every::Moment], 0);
        let mut times: BTreeMap<Duration, usize> = BTreeMap::new();
        for input in &inputs[1..] {
            let Recipe::Neighbour { file, .. } = &input.recipe else { panic!() };
            *times.entry(read(file).unwrap().faults[0].at).or_default() += 1;
        }
        assert!(times.values().all(|count| *count == 8), "{times:?}");
        for at in [0, 1, 10, 11] {
            assert!(times.contains_key(&Duration::from_millis(at)), "{times:?}");
        }
    }

    #[test]
    fn other_orders_have_neighbours_of_their_own_and_the_list_is_the_same_each_time() {
        let inputs = neighbours(&[Every::Poll], 3);
        assert_eq!(inputs, neighbours(&[Every::Poll], 3));
        let itself = names(&inputs).iter().filter(|name| *name == "given").count();
        assert_eq!(itself, 4);
    }

    #[test]
    fn too_many_are_thinned_evenly_and_that_is_told() {
        let all = list(&Wanted { most: 5, ..wanted(&[Every::Message], 0) });
        assert_eq!(all.len(), 6);
        assert!(all.told[0].contains("5 of the "), "{:?}", all.told);
    }
}
