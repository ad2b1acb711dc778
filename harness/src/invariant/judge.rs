//! What all invariants share: what a judge is, what it is told, and how a violation is put.
//!
//! A judge sees an event twice if it wants: *before* the [`View`] has taken it into account (what held until now?), and
//! *after*. It names the kinds of events it wants, so that an event costs only those that care. Conditions that last are
//! judged when they end, or at the end of the run: no timer, no scan.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use poolproof_sim::postgres::event::{Pid, ServerEvent};
use serde::{Deserialize, Deserializer, Serialize};

use crate::pool::Capabilities;
use crate::scenario::model::{BoundValue, Scenario};
use crate::trace::event::{ActorId, ConnId, Event, PoolId, ProcessId, What};
use crate::trace::view::View;

/// An invariant's name and meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its name, as scenarios write it.
    pub name: &'static str,
    /// One sentence.
    pub meaning: &'static str,
    /// The bound it has when a scenario gives none, in words.
    pub bound: &'static str,
    /// The capability without which a pool is not judged by it, as scenarios write it.
    pub needs: Option<&'static str>,
    /// What a scenario's own bound for it is.
    pub takes: Takes,
}

/// What the bound of an invariant is, as scenarios write it in `holds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// It has none: it holds or does not.
    Nothing,
    /// `within DURATION`
    Time,
    /// `at most COUNT`
    Count,
}

/// Judges one invariant over one run.
pub trait Judge: Send {
    /// Which invariant.
    fn meta(&self) -> &'static Meta;

    /// The kinds of events it wants to see before the view has them, and after.
    fn wants(&self) -> Wants;

    /// An event is about to be taken into account.
    fn before(&mut self, _event: &Event, _view: &View, _out: &mut Violations) {}

    /// An event was taken into account.
    fn after(&mut self, _event: &Event, _view: &View, _out: &mut Violations) {}

    /// The run is over.
    fn finish(&mut self, _view: &View, _out: &mut Violations) {}
}

/// The kinds of events that a judge wants.
#[derive(Debug, Clone, Copy)]
pub struct Wants {
    /// Before the view.
    pub before: &'static [Kind],
    /// After it.
    pub after: &'static [Kind],
}

/// What judges are made from.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What the pool can do.
    pub capabilities: Capabilities,
    /// The bounds that the scenario gives.
    pub bounds: Vec<(String, BoundValue)>,
    /// A round trip of the scenario's network at its worst, without faults.
    pub round_trip: Duration,
    /// The time a server takes to make a connection ready.
    pub fork_time: Duration,
    /// How late things may be seen in a world in real time; zero elsewhere.
    pub lateness: Duration,
    /// Workloads with a step that panics on purpose.
    pub panicking: Vec<String>,
}

impl Terms {
    /// Of this scenario, for a pool that can do this.
    #[must_use]
    pub fn new(scenario: &Scenario, capabilities: Capabilities) -> Terms {
        Terms {
            capabilities,
            bounds: scenario.expect.bounds.iter().map(|bound| (bound.invariant.clone(), bound.value)).collect(),
            round_trip: (scenario.network.latency + scenario.network.jitter) * 2 + scenario.expect.lateness,
            fork_time: scenario.server.fork_time,
            lateness: scenario.expect.lateness,
            panicking: scenario
                .workloads
                .iter()
                .filter(|(_, workload)| panics(&workload.steps))
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    /// The scenario's bound in time for this invariant, or the default.
    #[must_use]
    pub fn within(&self, invariant: &str, default: Duration) -> Duration {
        self.given_within(invariant).unwrap_or(default)
    }

    /// The scenario's bound in time for this invariant, if it gives one.
    #[must_use]
    pub fn given_within(&self, invariant: &str) -> Option<Duration> {
        self.bounds.iter().find_map(|(name, value)| match value {
            BoundValue::Within(bound) if name == invariant => Some(*bound),
            _ => None,
        })
    }

    /// The scenario's bound as a number for this invariant, if it gives one.
    #[must_use]
    pub fn at_most(&self, invariant: &str) -> Option<u64> {
        self.bounds.iter().find_map(|(name, value)| match value {
            BoundValue::AtMost(bound) if name == invariant => Some(*bound),
            _ => None,
        })
    }

    /// How long what a pool does at once may take: a second, and a dial with a few round trips.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(1) + self.round_trip * 8 + self.fork_time
    }
}

fn panics(steps: &[crate::scenario::model::Step]) -> bool {
    use crate::scenario::model::Action;
    steps.iter().any(|step| match &step.action {
        Action::Panic => true,
        Action::Repeat { steps, .. } | Action::While { steps, .. } => panics(steps),
        _ => false,
    })
}

/// Whom a violation concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// An actor.
    Actor(ActorId),
    /// A pool.
    Pool(PoolId),
    /// A process.
    Process(ProcessId),
    /// The run as a whole.
    Run,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Actor(ActorId(id)) => write!(f, "actor {id}"),
            Who::Pool(PoolId(id)) => write!(f, "pool {id}"),
            Who::Process(ProcessId(id)) => write!(f, "process {id}"),
            Who::Run => f.write_str("run"),
        }
    }
}

/// An invariant's name. (A type of its own, since serde takes a `&'static str` field for one borrowed from the input.)
pub type Name = &'static str;

/// Where an invariant broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The invariant.
    #[serde(deserialize_with = "known_name")]
    pub invariant: Name,
    /// When, in virtual time since the run's start.
    pub at: Duration,
    /// Who.
    pub who: Who,
    /// Which connection.
    pub conn: Option<ConnId>,
    /// Its backend.
    pub pid: Option<Pid>,
    /// What was expected and what was seen, in one sentence.
    pub sentence: String,
}

impl Violation {
    /// Of an invariant, by somebody, at a time.
    pub fn new(meta: &'static Meta, at: Duration, who: Who, sentence: impl Into<String>) -> Violation {
        Violation { invariant: meta.name, at, who, conn: None, pid: None, sentence: sentence.into() }
    }

    /// On this connection.
    #[must_use]
    pub fn on(mut self, conn: ConnId, view: &View) -> Violation {
        self.conn = Some(conn);
        self.pid = view.conn(conn).and_then(|conn| conn.pid);
        self
    }

    /// The run made no progress: seen from outside, by whoever runs it.
    #[must_use]
    pub fn stall(at: Duration, sentence: impl Into<String>) -> Violation {
        Violation::new(&super::no_stall::META, at, Who::Run, sentence)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, {}", self.invariant, seconds(self.at), self.who)?;
        if let Some(ConnId(conn)) = self.conn {
            write!(f, ", connection {conn}")?;
        }
        if let Some(pid) = self.pid {
            write!(f, " (backend {pid})")?;
        }
        write!(f, ": {}", self.sentence)
    }
}

/// An invariant's name, from a report of another process.
fn known_name<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(from)?;
    let known = super::all().iter().find(|meta| meta.name == name);
    known.map(|meta| meta.name).ok_or_else(|| serde::de::Error::custom(format!("there is no invariant {name}")))
}

/// Counts by invariant, from a report of another process.
pub(crate) fn known_names<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<&'static str, u64>, D::Error> {
    #[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
    struct Known(#[serde(deserialize_with = "known_name")] Name);
    let counts = BTreeMap::<Known, u64>::deserialize(from)?;
    Ok(counts.into_iter().map(|(Known(name), count)| (name, count)).collect())
}

/// A time as traces write it: `12.040 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{}.{:03} s", time.as_secs(), time.subsec_millis())
}

/// The violations of a run: all are counted, of each invariant the first few are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Violations {
    list: Vec<Violation>,
    counts: BTreeMap<&'static str, u64>,
    total: u64,
}

/// How many violations of one invariant are kept.
pub const KEPT: u64 = 20;

impl Violations {
    /// Adds one; `tell` is called only if it is kept.
    pub fn add(&mut self, meta: &'static Meta, tell: impl FnOnce() -> Violation) {
        self.total += 1;
        let count = self.counts.entry(meta.name).or_default();
        *count += 1;
        if *count <= KEPT {
            self.list.push(tell());
        }
    }

    /// Adds one that is already told.
    pub fn push(&mut self, violation: Violation) {
        self.total += 1;
        let count = self.counts.entry(violation.invariant).or_default();
        *count += 1;
        if *count <= KEPT {
            self.list.push(violation);
        }
    }

    /// Those that were kept, in the order in which they were found.
    #[must_use]
    pub fn list(&self) -> &[Violation] {
        &self.list
    }

    /// How many there were, by invariant.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// The kinds of events, for the choice of who sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are named as the events are")]
pub enum Kind {
    Phase,
    Process,
    PoolBuilt,
    PoolResized,
    PoolEnd,
    PoolStatus,
    Dial,
    DialEnd,
    Connected,
    ConnBroken,
    ConnClosed,
    ActorStart,
    ActorEnd,
    AcquireStart,
    AcquireEnd,
    SqlStart,
    SqlEnd,
    Released,
    Invalidated,
    Leaked,
    Resumed,
    Collected,
    Detached,
    Raised,
    Job,
    Thread,
    Cancelled,
    Fault,
    Lifecycle,
    State,
    Statement,
    StatementEnd,
    Commit,
    Gone,
    OtherServer,
    Task,
}

/// How many kinds there are.
pub const KINDS: usize = Kind::Task as usize + 1;

impl Kind {
    /// Of an event.
    #[must_use]
    pub fn of(what: &What) -> Kind {
        match what {
            What::Phase(_) => Kind::Phase,
            What::ProcessStart { .. } | What::ProcessEnd { .. } => Kind::Process,
            What::PoolBuilt { .. } | What::PoolFailed { .. } => Kind::PoolBuilt,
            What::PoolResized { .. } => Kind::PoolResized,
            What::PoolClosing { .. }
            | What::PoolClosed { .. }
            | What::PoolCloseCancelled { .. }
            | What::PoolDropped { .. }
            | What::PoolDisposed { .. }
            | What::PoolLost { .. } => Kind::PoolEnd,
            What::PoolStatus { .. } => Kind::PoolStatus,
            What::Dial { .. } => Kind::Dial,
            What::DialFailed { .. } | What::DialDropped { .. } => Kind::DialEnd,
            What::Connected { .. } => Kind::Connected,
            What::ConnBroken { .. } => Kind::ConnBroken,
            What::ConnClosed { .. } | What::DetachedDropped { .. } => Kind::ConnClosed,
            What::ActorStart { .. } => Kind::ActorStart,
            What::ActorEnd { .. } => Kind::ActorEnd,
            What::AcquireStart { .. } => Kind::AcquireStart,
            What::AcquireEnd { .. } => Kind::AcquireEnd,
            What::SqlStart { .. } => Kind::SqlStart,
            What::SqlEnd { .. } => Kind::SqlEnd,
            What::Released { .. } => Kind::Released,
            What::Invalidated { .. } => Kind::Invalidated,
            What::Leaked { .. } | What::Lost { .. } | What::Kept { .. } => Kind::Leaked,
            What::Resumed { .. } => Kind::Resumed,
            What::Raised { .. } | What::Deadlocked { .. } => Kind::Raised,
            What::Job { .. } | What::Join { .. } => Kind::Job,
            What::ThreadBlocked { .. } | What::ThreadFree { .. } => Kind::Thread,
            What::Collected { .. } => Kind::Collected,
            What::Detached { .. } => Kind::Detached,
            What::StepCancelled { .. } => Kind::Cancelled,
            What::FaultBegin { .. } | What::FaultEffect { .. } | What::FaultEnd { .. } => Kind::Fault,
            What::TaskPanicked { .. } | What::TasksLeft { .. } => Kind::Task,
            What::Server { event, .. } => match event {
                ServerEvent::Lifecycle(_) | ServerEvent::Promoted => Kind::Lifecycle,
                ServerEvent::State { .. } => Kind::State,
                ServerEvent::Statement { .. } => Kind::Statement,
                ServerEvent::StatementEnd { .. } => Kind::StatementEnd,
                ServerEvent::Committed { .. } | ServerEvent::RolledBack { .. } => Kind::Commit,
                ServerEvent::Gone { .. } | ServerEvent::Refused { .. } => Kind::Gone,
                ServerEvent::Forked { .. } | ServerEvent::Blocked { .. } | ServerEvent::Unblocked { .. } => {
                    Kind::OtherServer
                }
            },
        }
    }
}

/// All judges of a run.
pub struct Jury {
    judges: Vec<Box<dyn Judge>>,
    before: [Vec<u8>; KINDS],
    after: [Vec<u8>; KINDS],
    violations: Violations,
}

impl Jury {
    /// With these judges.
    #[must_use]
    pub fn new(judges: Vec<Box<dyn Judge>>) -> Jury {
        let mut before = [const { Vec::new() }; KINDS];
        let mut after = [const { Vec::new() }; KINDS];
        for (place, judge) in (0..).zip(&judges) {
            let wants = judge.wants();
            wants.before.iter().for_each(|&kind| before[kind as usize].push(place));
            wants.after.iter().for_each(|&kind| after[kind as usize].push(place));
        }
        Jury { judges, before, after, violations: Violations::default() }
    }

    /// Before the view takes the event into account.
    pub fn before(&mut self, kind: Kind, event: &Event, view: &View) {
        for &place in &self.before[kind as usize] {
            self.judges[usize::from(place)].before(event, view, &mut self.violations);
        }
    }

    /// After.
    pub fn after(&mut self, kind: Kind, event: &Event, view: &View) {
        for &place in &self.after[kind as usize] {
            self.judges[usize::from(place)].after(event, view, &mut self.violations);
        }
    }

    /// The run is over.
    pub fn finish(&mut self, view: &View) {
        for judge in &mut self.judges {
            judge.finish(view, &mut self.violations);
        }
    }

    /// What was found so far.
    #[must_use]
    pub fn violations(&self) -> &Violations {
        &self.violations
    }

    /// Adds what was found from outside.
    pub fn add(&mut self, violation: Violation) {
        self.violations.push(violation);
    }
}
