//! The figures of a run: what is counted and measured, whatever the verdict.
//!
//! Times are collected in a histogram of fixed buckets, eight to a power of two, so that a long run needs no more memory
//! than a short one and a quantile is the same wherever it is computed; it is at most one eighth too high.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Acquired, ActorEnd, Event, JobChange, Phase, SqlResult, What};
use super::pace::Pace;
use super::refused::Refused;
use super::told::Texts;
use super::view::{Peaks, View};
use crate::scenario::model::FigureUnit;

/// Durations, counted in buckets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    worst: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; 64 * 8], count: 0, worst: Duration::ZERO }
    }
}

impl Histogram {
    /// Adds one.
    pub fn add(&mut self, value: Duration) {
        let micros = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)] += 1;
        self.count += 1;
        self.worst = self.worst.max(value);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The longest.
    #[must_use]
    pub fn worst(&self) -> Duration {
        self.worst
    }

    /// The duration that this share of them (0.5 is the median) does not exceed, rounded up to its bucket's end.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank"
        )]
        let rank = ((self.count as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (place, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(bucket_end(place)).min(self.worst);
            }
        }
        Duration::ZERO
    }
}

fn bucket(micros: u64) -> usize {
    if micros < 8 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let power = 63 - micros.leading_zeros();
    let eighth = (micros >> (power - 3)) & 7;
    (power as usize - 2) * 8 + usize::try_from(eighth).unwrap_or(0)
}

fn bucket_end(place: usize) -> u64 {
    if place < 8 {
        return place as u64;
    }
    let (power, eighth) = (place / 8 + 2, (place % 8) as u64);
    let width = 1_u64 << (power - 3);
    ((8 + eighth) << (power - 3)).saturating_add(width - 1)
}

/// How the world came back after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comeback {
    /// When the world was whole again.
    pub at: Duration,
    /// How long it had not been.
    pub outage: Duration,
    /// When somebody first asked for a connection or sent a statement after it, before the next fault; when somebody waited
    /// already, that moment itself.
    pub asked: Option<Duration>,
    /// From when somebody asked to the end of the first statement begun after that moment.
    pub first_success: Option<Duration>,
    /// From then to the last failed acquire or broken statement before the next fault; zero when there was none.
    pub full_capacity: Duration,
    /// From when somebody asked to the first moment without a waiting acquire, a dial or a blocked backend.
    pub quiet: Option<Duration>,
}

/// When something came that was waited for. Never is worse than any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    /// After so long.
    After(Duration),
    /// It did not come.
    Never,
}

impl Came {
    fn of(time: Option<Duration>) -> Came {
        time.map_or(Came::Never, Came::After)
    }

    /// `None`: never.
    #[must_use]
    pub fn time(self) -> Option<Duration> {
        match self {
            Came::After(time) => Some(time),
            Came::Never => None,
        }
    }
}

/// How the world came back, over all outages of a run after which somebody asked for something: the worst of each, from when
/// somebody asked. `None` when there was no such outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// To the first success.
    pub first_success: Option<Came>,
    /// To the last failure, from when the world was whole again.
    pub full_capacity: Option<Duration>,
    /// To a quiet server.
    pub quiet: Option<Came>,
}

/// What is counted and measured in a run, of its traffic: until every actor has ended. What poolproof itself asks of the pools
/// afterwards is not in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The most of each thing at once.
    pub peaks: Peaks,
    /// Connections opened.
    pub connections_opened: u64,
    /// Actors started.
    pub actors: u64,
    /// Acquires that ended with a lease.
    pub acquires_ok: u64,
    /// Statements acknowledged.
    pub statements_ok: u64,
    /// Failures by kind: `timeout`, `connect`, `check`, `closed`, `other`, `deadline`, `panicked` for acquires, an
    /// SQLSTATE or `broken` for statements, `dial` for failed dials, the class of what an application raised.
    pub errors: BTreeMap<String, u64>,
    /// Jobs put in queues.
    pub jobs: u64,
    /// Jobs done, without a failed step.
    pub jobs_done: u64,
    /// Steps and acquires that the scenario cancelled.
    pub cancelled: u64,
    /// How long acquires took that ended with a lease or an error of the pool.
    pub waits: Histogram,
    /// How long acknowledged statements took.
    pub statements: Histogram,
    /// How the world came back, each time.
    pub comebacks: Vec<Comeback>,
    /// Statements acknowledged while the world was faulty.
    pub faulty_ok: u64,
    /// How long the world was faulty, in the fault phase.
    pub faulty_for: Duration,
    /// How long the fault phase was.
    pub fault_phase: Duration,
    /// Virtual time of the whole run.
    pub virtual_time: Duration,
    /// How many actors were done over time, and how long they took.
    pub pace: Pace,
    /// The texts of errors.
    pub texts: Texts,
    /// Statements that the server could not take.
    pub refused: Refused,
    /// Events.
    pub events: u64,
    faulty_since: Option<Duration>,
    // Healing is over: what ends from now on was ended by poolproof.
    given_up: bool,
    // Every actor has ended.
    over: bool,
}

/// At most so many comebacks are kept; more are not told apart by anybody.
const COMEBACKS: usize = 64;

impl Figures {
    /// Nothing yet, with this pace.
    #[must_use]
    pub fn telling(pace: Pace) -> Figures {
        Figures { pace, ..Figures::default() }
    }

    /// Takes an event into account that the view has taken.
    pub fn take(&mut self, event: &Event, view: &View) {
        if self.over {
            return;
        }
        if let What::Phase(Phase::Capacity | Phase::Closing | Phase::End) = event.what {
            self.health(event.at, view);
            self.total(view);
            self.over = true;
            return;
        }
        self.texts.take(event.at, &event.what);
        self.pace.take(event.at, &event.what, view);
        match &event.what {
            What::AcquireEnd { result, .. } => self.acquired(result, event.at, view),
            What::SqlEnd { result, .. } => match result {
                SqlResult::Ok => {
                    self.statements_ok += 1;
                    self.refused.succeeded(view.text.as_ref());
                    self.statements.add(view.took);
                    if view.phase == Phase::Fault && !view.is_healthy() {
                        self.faulty_ok += 1;
                    }
                    if let Some(last) = self.comebacks.last_mut()
                        && last.first_success.is_none()
                        && view.is_healthy()
                        && event.at.saturating_sub(view.took) >= last.at
                    {
                        let asked = *last.asked.get_or_insert(event.at.saturating_sub(view.took));
                        last.first_success = Some(event.at.saturating_sub(asked));
                    }
                }
                SqlResult::Error(code) => {
                    self.error(code);
                    self.refused.failed(code, view.text.as_ref());
                }
                SqlResult::Broken(_) => {
                    self.error("broken");
                    self.failed(event.at, view);
                }
                SqlResult::Cancelled => self.cancelled += 1,
            },
            What::DialFailed { .. } => self.error("dial"),
            What::Raised { class, .. } => self.error(class),
            What::Job { change: JobChange::Put { .. }, .. } => self.jobs += 1,
            What::Job { change: JobChange::Done, .. } => self.jobs_done += 1,
            What::ActorStart { .. } => self.actors += 1,
            What::AcquireStart { .. } => self.asked(event.at, view),
            What::ActorEnd { end: ActorEnd::GivenUp, .. } => self.given_up = true,
            What::Phase(Phase::Healing) => self.fault_phase = event.at,
            What::FaultBegin { .. }
            | What::FaultEffect { .. }
            | What::FaultEnd { .. }
            | What::Phase(_)
            | What::Server { .. } => {}
            _ => return self.quiet(event.at, view),
        }
        self.health(event.at, view);
        self.quiet(event.at, view);
    }

    fn acquired(&mut self, result: &Acquired, at: Duration, view: &View) {
        match result {
            Acquired::Lease { .. } => {
                self.acquires_ok += 1;
                self.waits.add(view.waited);
            }
            Acquired::Error { kind, .. } => {
                self.error(kind.as_str());
                self.waits.add(view.waited);
                self.failed(at, view);
            }
            Acquired::Deadline => {
                self.error("deadline");
                self.failed(at, view);
            }
            Acquired::Cancelled => self.cancelled += 1,
            Acquired::GivenUp => {
                self.given_up = true;
                self.waits.add(view.waited);
            }
            Acquired::Panicked(_) => self.error("panicked"),
        }
    }

    fn asked(&mut self, at: Duration, view: &View) {
        if view.is_healthy()
            && let Some(last) = self.comebacks.last_mut()
        {
            last.asked.get_or_insert(at);
        }
    }

    fn error(&mut self, kind: &str) {
        match self.errors.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(kind.to_owned(), 1);
            }
        }
    }

    fn failed(&mut self, at: Duration, view: &View) {
        if view.is_healthy()
            && let Some(last) = self.comebacks.last_mut()
        {
            last.asked.get_or_insert(last.at);
            last.full_capacity = at.saturating_sub(last.at);
            last.quiet = None;
        }
    }

    fn health(&mut self, at: Duration, view: &View) {
        match (self.faulty_since, view.healthy_since) {
            (None, None) => self.faulty_since = Some(at),
            (Some(since), Some(_)) => {
                self.faulty_since = None;
                if view.phase == Phase::Fault || matches!(self.fault_phase, phase if phase == at) {
                    self.faulty_for += at.saturating_sub(since);
                }
                // The first start of a server is no comeback.
                if since > Duration::ZERO && self.comebacks.len() < COMEBACKS {
                    self.comebacks.push(Comeback {
                        at,
                        outage: at.saturating_sub(since),
                        asked: (view.totals.waiting > 0).then_some(at),
                        first_success: None,
                        full_capacity: Duration::ZERO,
                        quiet: None,
                    });
                }
            }
            _ => {}
        }
    }

    fn quiet(&mut self, at: Duration, view: &View) {
        if let Some(last) = self.comebacks.last_mut()
            && last.quiet.is_none()
            && at > last.at
            && !self.given_up
            && view.is_healthy()
        {
            let totals = &view.totals;
            if totals.waiting == 0 && totals.dialling == 0 && totals.blocked == 0 && last.first_success.is_some() {
                last.quiet = Some(at.saturating_sub(last.asked.unwrap_or(last.at)));
            }
        }
    }

    /// What the view has counted so far.
    fn total(&mut self, view: &View) {
        self.peaks = view.peaks;
        self.connections_opened = view.opened;
    }

    /// The run is over.
    pub fn finish(&mut self, view: &View) {
        if !self.over {
            self.total(view);
        }
        self.virtual_time = view.now;
        self.refused.finish();
        if self.fault_phase.is_zero() {
            self.fault_phase = view.now;
        }
    }

    /// Statements a second while the world was faulty, as a share of those while it was not, in the fault phase; `None`
    /// when it never was.
    #[must_use]
    pub fn goodput_share(&self) -> Option<f64> {
        let healthy_for = self.fault_phase.saturating_sub(self.faulty_for).as_secs_f64();
        let faulty_for = self.faulty_for.as_secs_f64();
        let healthy_ok = self.statements_ok.saturating_sub(self.faulty_ok);
        if faulty_for == 0.0 || healthy_for == 0.0 || healthy_ok == 0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = (self.faulty_ok as f64 / faulty_for) / (healthy_ok as f64 / healthy_for);
        Some(share)
    }

    /// How the world came back, over all outages: the worst of each. An outage after which nobody asked is left out.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        let asked = || self.comebacks.iter().filter(|back| back.asked.is_some());
        Recovery {
            first_success: asked().map(|back| Came::of(back.first_success)).max(),
            full_capacity: asked().map(|back| back.full_capacity).max(),
            quiet: asked().map(|back| Came::of(back.quiet)).max(),
        }
    }

    /// Whether this figure has no number because what was waited for never came.
    #[must_use]
    pub fn never(&self, name: &str) -> bool {
        match name {
            "recovery.first_success" => self.recovery().first_success == Some(Came::Never),
            "recovery.quiet" => self.recovery().quiet == Some(Came::Never),
            _ => false,
        }
    }

    /// A figure by the name that scenarios use; durations in seconds. `None` when there is no such figure, when nothing
    /// was measured (`recovery.first_success` of a run without an outage), and when what was waited for never came.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "figures are small")]
        let number = |count: u64| Some(count as f64);
        let time = |time: Duration| Some(time.as_secs_f64());
        if let Some(kind) = name.strip_prefix("errors.") {
            return number(self.errors.get(kind).copied().unwrap_or_default());
        }
        if let Some(workload) = name.strip_prefix("took.") {
            return time(self.pace.took(workload)?);
        }
        if let Some(which) = name.strip_prefix("done_a_minute.") {
            return number(self.pace.done_a_minute(which, self.fault_phase)?);
        }
        match name {
            "peak_connections" => number(self.peaks.connections.into()),
            "peak_dialling" => number(self.peaks.dialling.into()),
            "peak_backends" => number(self.peaks.backends.into()),
            "peak_in_transaction" => number(self.peaks.in_transaction.into()),
            "peak_blocked" => number(self.peaks.blocked.into()),
            "peak_orphans" => number(self.peaks.orphans.into()),
            "peak_waiting" => number(self.peaks.waiting.into()),
            "peak_in_use" => number(self.peaks.in_use.into()),
            "connections_opened" => number(self.connections_opened),
            "actors" => number(self.actors),
            "acquires" => number(self.acquires_ok),
            "statements" => number(self.statements_ok),
            "jobs" => number(self.jobs),
            "jobs_done" => number(self.jobs_done),
            "errors" => number(self.errors.values().sum()),
            "cancelled" => number(self.cancelled),
            "wait.worst" => time(self.waits.worst()),
            "wait.median" => time(self.waits.quantile(0.5)),
            "wait.p99" => time(self.waits.quantile(0.99)),
            "statement.worst" => time(self.statements.worst()),
            "statement.median" => time(self.statements.quantile(0.5)),
            "recovery.first_success" => time(self.recovery().first_success?.time()?),
            "recovery.full_capacity" => time(self.recovery().full_capacity?),
            "recovery.quiet" => time(self.recovery().quiet?.time()?),
            "goodput_share" => self.goodput_share(),
            "virtual_time" => time(self.virtual_time),
            _ => None,
        }
    }
}

/// What a figure's number is.
#[must_use]
pub fn unit(name: &str) -> FigureUnit {
    match name {
        "virtual_time" => FigureUnit::Seconds,
        "goodput_share" => FigureUnit::Share,
        _ if ["wait.", "statement.", "recovery.", "took."].iter().any(|kind| name.starts_with(kind)) => {
            FigureUnit::Seconds
        }
        _ => FigureUnit::Count,
    }
}

/// The figures that [`Figures::get`] knows, beside `errors.KIND` and `took.WORKLOAD`.
pub const NAMES: &[&str] = &[
    "peak_connections",
    "peak_dialling",
    "peak_backends",
    "peak_in_transaction",
    "peak_blocked",
    "peak_orphans",
    "peak_waiting",
    "peak_in_use",
    "connections_opened",
    "actors",
    "acquires",
    "statements",
    "jobs",
    "jobs_done",
    "errors",
    "cancelled",
    "wait.worst",
    "wait.median",
    "wait.p99",
    "statement.worst",
    "statement.median",
    "recovery.first_success",
    "recovery.full_capacity",
    "recovery.quiet",
    "goodput_share",
    "done_a_minute.first",
    "done_a_minute.last",
    "done_a_minute.least",
    "done_a_minute.most",
    "virtual_time",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_an_eighth_too_high() {
        let mut times = Histogram::default();
        for millis in 1..=1000 {
            times.add(Duration::from_millis(millis));
        }
        for (share, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let told = times.quantile(share).as_secs_f64() * 1000.0;
            assert!(told >= exact && told <= exact * 1.126, "{share}: {told}");
        }
        assert_eq!(times.worst(), Duration::from_secs(1));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for micros in (0..100_000).chain([u64::MAX / 3, u64::MAX]) {
            let place = bucket(micros);
            assert!(micros <= bucket_end(place), "{micros}");
            assert!(place == 0 || micros > bucket_end(place - 1), "{micros}");
        }
    }

    #[test]
    fn an_outage_without_a_success_is_the_worst() {
        use crate::invariant::testing::Case;
        use crate::pool::PoolErrorKind;
        use poolproof_sim::postgres::event::Lifecycle;
        let outage = |case: &mut Case, at: u64| {
            case.at(at).lifecycle(Lifecycle::Down).at(at + 100).lifecycle(Lifecycle::Running);
        };
        let mut case = Case::new();
        case.at(10).asks(1).open(1).gets(1, 1);
        outage(&mut case, 1_000);
        case.at(1_200).sql(1, 1, "x").at(1_210).sql_ends(1, 1, SqlResult::Ok);
        assert_eq!(
            case.figures.recovery().first_success,
            Some(Came::After(Duration::from_millis(10))),
            "nobody asked before"
        );
        // Nobody asks after this one.
        outage(&mut case, 2_000);
        assert_eq!(case.figures.get("recovery.first_success"), Some(0.01));
        outage(&mut case, 3_000);
        case.at(3_200).asks(2).at(3_300).fails(2, PoolErrorKind::Timeout);
        assert_eq!(case.figures.recovery().first_success, Some(Came::Never));
        assert_eq!(case.figures.recovery().full_capacity, Some(Duration::from_millis(200)));
        assert_eq!(case.figures.get("recovery.first_success"), None);
        assert!(case.figures.never("recovery.first_success") && !case.figures.never("recovery.full_capacity"));
    }

    #[test]
    fn what_healing_gave_up_is_no_recovery_and_what_probes_do_is_no_traffic() {
        use crate::invariant::testing::Case;
        use crate::pool::PoolErrorKind;
        use crate::trace::event::{ActorId, PoolId};
        use poolproof_sim::postgres::event::Lifecycle;
        let mut case = Case::new();
        case.at(1_000).lifecycle(Lifecycle::Down).at(2_000).lifecycle(Lifecycle::Running).at(2_100).asks(1);
        case.at(3_000).phase(Phase::Healing).at(9_000);
        let result = Acquired::GivenUp;
        case.happens(What::AcquireEnd { actor: ActorId(1), pool: PoolId(1), result }).ends(1, ActorEnd::GivenUp);
        case.at(14_000).phase(Phase::Capacity).asks(2).at(14_500).fails(2, PoolErrorKind::Timeout);
        case.asks(3).open(1).gets(3, 1).phase(Phase::Closing).phase(Phase::End).over();
        let figures = &case.figures;
        assert_eq!(figures.recovery().quiet, Some(Came::Never));
        assert_eq!((figures.waits.worst(), figures.cancelled), (Duration::from_millis(6_900), 0));
        assert_eq!((figures.acquires_ok, figures.errors.len(), figures.connections_opened), (0, 0, 0));
        assert_eq!((figures.peaks.waiting, figures.peaks.in_use), (1, 0));
    }

    #[test]
    fn names_are_known() {
        let figures = Figures::default();
        let unmeasured = [
            "done_a_minute.first",
            "done_a_minute.last",
            "done_a_minute.least",
            "done_a_minute.most",
            "recovery.first_success",
            "recovery.full_capacity",
            "recovery.quiet",
            "goodput_share",
        ];
        for name in NAMES {
            assert!(figures.get(name).is_some() || unmeasured.contains(name), "{name}");
        }
        assert_eq!(figures.get("errors.timeout"), Some(0.0));
        assert_eq!(figures.get("peak_conections"), None);
    }
}
