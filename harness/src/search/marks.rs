//! Marks: interesting states that a run may come to. An input that reaches a new one is kept, and changed further.
//!
//! A mark has a name of two halves: `dial-failed/waiters` is a dial that failed while somebody waited. The first half is
//! something that happened to a pool (or a fault), the second what the pool was like just before. Beside these there are
//! `saw/57P01`, what callers were told, and `together/released+acquire-cancelled`, two things in the same millisecond.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::pool::{Capabilities, PoolErrorKind};
use crate::scenario::model::Scenario;
use crate::scenario::{FAULTS, fault_name};
use crate::trace::event::{Acquired, ActorEnd, Event, Phase, PoolId, SqlResult, What};
use crate::trace::view::{Class, PoolView, View};

/// What happens to pools, by the names of marks.
const KINDS: &[&str] = &[
    "acquired",
    "dial",
    "dial-failed",
    "dial-dropped",
    "connected",
    "broken",
    "closed",
    "released",
    "acquire-cancelled",
    "acquire-deadline",
    "acquire-timeout",
    "acquire-error",
    "statement-cancelled",
    "statement-failed",
    "statement-lost",
    "abandoned",
    "panicked",
    "killed",
    "detached",
    "invalidated",
    "resized",
    "closing",
    "dropped",
];

/// What a pool is like.
const STATES: &[&str] =
    &["waiters", "crowd", "dialling", "lease", "idle", "busy", "dead", "full", "room", "transaction", "faulty"];

/// What callers and dials are told by servers and pools, as far as it can be listed.
const SEEN: &[&str] = &[
    "22012", "53300", "57014", "57P01", "57P02", "57P03", "25P02", "25P03", "broken", "timeout", "connect", "check",
    "closed", "other", "panicked",
];

/// What [`KINDS`] a pool can't come to that can't do this.
fn can_happen(kind: &str, can: &Capabilities) -> bool {
    match kind {
        "detached" => can.detach,
        "invalidated" => can.invalidate,
        "resized" => can.resize,
        "closing" => can.close,
        "acquire-timeout" => can.acquire_timeout,
        _ => true,
    }
}

/// Every mark that has a name, for a pool that can do this. Not all can be reached with every pool, and some with none.
pub(crate) fn all(can: &Capabilities) -> BTreeSet<String> {
    let kinds = || KINDS.iter().filter(|kind| can_happen(kind, can));
    let faults = FAULTS.iter().map(|fault| fault.name).filter(|name| can.manager || !name.starts_with("manager."));
    let with_states = |kind: &str| STATES.iter().map(|state| format!("{kind}/{state}")).collect::<Vec<_>>();
    let pairs = kinds()
        .enumerate()
        .flat_map(|(place, one)| kinds().skip(place).map(move |other| format!("together/{one}+{other}")));
    let mut all: BTreeSet<String> = kinds().flat_map(|kind| with_states(kind)).chain(pairs).collect();
    all.extend(faults.flat_map(with_states));
    all.extend(SEEN.iter().map(|seen| format!("saw/{seen}")));
    all
}

/// The marks that these events reach.
pub(crate) fn reached(events: &[Event], scenario: &Scenario) -> BTreeSet<String> {
    let mut marks = Marks {
        view: View::new(scenario),
        states: vec![0; KINDS.len()],
        together: vec![0; KINDS.len()],
        faults: BTreeMap::new(),
        saw: BTreeSet::new(),
        now: Moment::default(),
    };
    for event in events {
        // What poolproof asks of the pools afterwards is no state that an input brought about.
        if let What::Phase(Phase::Capacity) = event.what {
            break;
        }
        marks.take(event, scenario);
        marks.view.apply(event.at, &event.what);
    }
    marks.names()
}

/// What has happened in this millisecond.
#[derive(Default)]
struct Moment {
    at: Duration,
    kinds: Vec<(PoolId, usize)>,
}

/// A bit for each of [`STATES`], or of [`KINDS`]: names are made at the end, since most events bring nothing new.
type Bits = u32;

struct Marks {
    view: View,
    /// For each kind the states in which it happened, and the kinds with which.
    states: Vec<Bits>,
    together: Vec<Bits>,
    faults: BTreeMap<&'static str, Bits>,
    saw: BTreeSet<String>,
    now: Moment,
}

fn bits(bits: Bits, names: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    names.iter().enumerate().filter(move |(place, _)| bits & (1 << place) != 0).map(|(_, name)| *name)
}

impl Marks {
    fn names(self) -> BTreeSet<String> {
        let mut names = self.saw;
        for (kind, (states, others)) in KINDS.iter().zip(self.states.iter().zip(&self.together)) {
            names.extend(bits(*states, STATES).map(|state| format!("{kind}/{state}")));
            names.extend(bits(*others, KINDS).map(|other| format!("together/{kind}+{other}")));
        }
        for (fault, states) in self.faults {
            names.extend(bits(states, STATES).map(|state| format!("{fault}/{state}")));
        }
        names
    }

    fn take(&mut self, event: &Event, scenario: &Scenario) {
        match &event.what {
            What::FaultBegin { index, .. } => {
                let Some(fault) = scenario.faults.get(*index) else { return };
                let states = self.view.pools().fold(0, |states, (_, pool)| states | self.states(pool));
                *self.faults.entry(fault_name(&fault.action)).or_default() |= states;
            }
            What::SqlEnd { result: SqlResult::Error(code), .. } | What::DialFailed { code: Some(code), .. } => {
                self.saw(code);
            }
            What::SqlEnd { result: SqlResult::Broken(_), .. } => self.saw("broken"),
            What::AcquireEnd { result: Acquired::Error { kind, .. }, .. } => self.saw(kind.as_str()),
            What::AcquireEnd { result: Acquired::Panicked(_), .. } => self.saw("panicked"),
            _ => {}
        }
        let Some((pool, kind)) = self.happened(&event.what) else { return };
        let Some(kind) = KINDS.iter().position(|known| *known == kind) else { return };
        if let Some(view) = self.view.pool(pool) {
            self.states[kind] |= self.states(view);
        }
        if self.now.at.as_millis() != event.at.as_millis() {
            self.now = Moment { at: event.at, kinds: Vec::new() };
        }
        for (other, before) in &self.now.kinds {
            if *other == pool {
                self.together[kind.min(*before)] |= 1 << kind.max(*before);
            }
        }
        if !self.now.kinds.contains(&(pool, kind)) {
            self.now.kinds.push((pool, kind));
        }
    }

    fn saw(&mut self, what: &str) {
        if !self.saw.iter().any(|saw| saw.strip_prefix("saw/") == Some(what)) {
            self.saw.insert(format!("saw/{what}"));
        }
    }

    /// Which pool something happened to, and what.
    fn happened(&self, what: &What) -> Option<(PoolId, &'static str)> {
        let of_conn = |conn| self.view.conn(conn).map(|conn| conn.pool);
        let of_actor = |actor| {
            let actor = self.view.actor(actor)?;
            actor.waiting.map(|(pool, _)| pool).or_else(|| actor.held.and_then(of_conn))
        };
        Some(match what {
            What::Dial { pool, .. } => (*pool, "dial"),
            What::DialFailed { conn, .. } => (of_conn(*conn)?, "dial-failed"),
            What::DialDropped { conn } => (of_conn(*conn)?, "dial-dropped"),
            What::Connected { conn, .. } => (of_conn(*conn)?, "connected"),
            What::ConnBroken { conn, .. } => (of_conn(*conn)?, "broken"),
            What::ConnClosed { conn } => (of_conn(*conn)?, "closed"),
            What::Released { conn, .. } => (of_conn(*conn)?, "released"),
            What::Detached { conn, .. } => (of_conn(*conn)?, "detached"),
            What::Invalidated { conn, .. } => (of_conn(*conn)?, "invalidated"),
            What::PoolResized { pool, .. } => (*pool, "resized"),
            What::PoolClosing { pool } => (*pool, "closing"),
            What::PoolDropped { pool } => (*pool, "dropped"),
            What::AcquireEnd { pool, result, .. } => {
                let kind = match result {
                    Acquired::Lease { .. } => "acquired",
                    Acquired::Cancelled => "acquire-cancelled",
                    Acquired::Deadline => "acquire-deadline",
                    Acquired::Error { kind: PoolErrorKind::Timeout, .. } => "acquire-timeout",
                    Acquired::Error { .. } => "acquire-error",
                    Acquired::GivenUp | Acquired::Panicked(_) => return None,
                };
                (*pool, kind)
            }
            What::SqlEnd { conn, result, .. } => {
                let kind = match result {
                    SqlResult::Ok => return None,
                    SqlResult::Cancelled => "statement-cancelled",
                    SqlResult::Error(_) => "statement-failed",
                    SqlResult::Broken(_) => "statement-lost",
                };
                (of_conn(*conn)?, kind)
            }
            What::ActorEnd { actor, end } => {
                let kind = match end {
                    ActorEnd::Done | ActorEnd::Failed | ActorEnd::GivenUp => return None,
                    ActorEnd::Abandoned => "abandoned",
                    ActorEnd::Panicked(_) => "panicked",
                    ActorEnd::Killed | ActorEnd::Stopped => "killed",
                };
                (of_actor(*actor)?, kind)
            }
            _ => return None,
        })
    }

    /// What the pool is like now: bits in the order of [`STATES`].
    fn states(&self, pool: &PoolView) -> Bits {
        let size = pool.open() + pool.dialling();
        let all = [
            pool.waiting > 0,
            pool.waiting > 2,
            pool.dialling() > 0,
            pool.in_use() > 0,
            pool.count(Class::Idle) > 0,
            pool.count(Class::Busy) > 0,
            pool.count(Class::Dead) + pool.count(Class::Broken) > 0,
            size >= pool.max_size,
            size < pool.max_size,
            self.view.totals.in_transaction > 0,
            !self.view.is_healthy(),
        ];
        all.into_iter().enumerate().fold(0, |bits, (place, is)| bits | (Bits::from(is) << place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Adapter, reference::Reference};

    #[test]
    fn every_mark_that_a_table_names_is_listed() {
        let all = all(&Reference.capabilities());
        for mark in ["dial-failed/waiters", "net.refuse/dialling", "saw/57P01", "together/released+acquire-cancelled"] {
            assert!(all.contains(mark), "{mark}");
        }
        assert!(!all.iter().any(|mark| mark.starts_with("manager.")));
    }
}
