//! How a violation came about, without the numbers: what tells one bug from another.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::invariant::{Violation, Who};
use crate::scenario::fault_name;
use crate::scenario::model::Scenario;
use crate::trace::event::{Acquired, ActorEnd, ActorId, ConnId, Event, Phase, PoolId, SqlResult, What};
use crate::trace::recorder::IntMap;

/// The mechanism of a violation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Mechanism {
    /// The invariant.
    pub(crate) invariant: String,
    /// What was seen, as its sentence has it, without numbers and texts.
    pub(crate) how: String,
    /// What else happened to the same pool before: failures, cancellations, faults.
    pub(crate) involved: BTreeSet<String>,
}

impl Mechanism {
    /// Of a violation in a run of these events. `scenario` is what was run; faults are named by it.
    pub(crate) fn of(violation: &Violation, events: &[Event], scenario: Option<&Scenario>) -> Mechanism {
        Mechanism {
            invariant: violation.invariant.to_owned(),
            how: without_numbers(&violation.sentence),
            involved: involved(violation, events, scenario),
        }
    }

    /// What stays the same while a witness is shrunk: the invariant, and what was seen.
    pub(crate) fn key(&self) -> String {
        format!("{}: {}", self.invariant, self.how)
    }

    /// What tells one finding from another, of shrunk witnesses.
    pub(crate) fn fingerprint(&self) -> String {
        let involved: Vec<&str> = self.involved.iter().map(String::as_str).collect();
        format!(
            "{} ({})",
            self.key(),
            if involved.is_empty() { "nothing else".to_owned() } else { involved.join(", ") }
        )
    }
}

/// A sentence with `#` for each number with its unit, and `"…"` for each quoted text. What stands behind the colon of an
/// error's kind is somebody else's text, and left out.
fn without_numbers(sentence: &str) -> String {
    let mut out = String::new();
    let mut chars = sentence.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                while chars.next_if(|c| *c != '"').is_some() {}
                chars.next();
                out.push_str("\"…\"");
            }
            '0'..='9' => {
                while chars.next_if(|c| c.is_ascii_digit() || *c == '.').is_some() {}
                if !out.ends_with('#') {
                    out.push('#');
                }
            }
            c => out.push(c),
        }
    }
    for unit in ["# ms", "# s", "#ms", "#s", "#ns", "#µs", "#th", "#st", "#nd", "#rd"] {
        out = out
            .replace(&format!("{unit} "), "# ")
            .replace(&format!("{unit},"), "#,")
            .replace(&format!("{unit};"), "#;");
        if let Some(stem) = out.strip_suffix(unit) {
            out = format!("{stem}#");
        }
    }
    // An acquire's error has the driver's text in it: `(timeout: no connection within 1s; the last dial …)`.
    for kind in ["(timeout: ", "(connect: ", "(check: ", "(closed: ", "(other: "] {
        if let Some(at) = out.find(kind) {
            out.truncate(at + kind.len() - 2);
            out.push(')');
        }
    }
    out
}

/// Who is a pool's own, while a run's events go by.
#[derive(Default)]
struct Members {
    actors: IntMap<u32, PoolId>,
    conns: IntMap<u32, PoolId>,
}

impl Members {
    fn take(&mut self, what: &What) {
        match what {
            What::AcquireStart { actor, pool } => drop(self.actors.insert(actor.0, *pool)),
            What::Dial { conn, pool } => drop(self.conns.insert(conn.0, *pool)),
            _ => {}
        }
    }

    fn of_actor(&self, actor: ActorId) -> Option<PoolId> {
        self.actors.get(&actor.0).copied()
    }

    fn of_conn(&self, conn: ConnId) -> Option<PoolId> {
        self.conns.get(&conn.0).copied()
    }
}

/// The pool that a violation is about; `None` when it is about none, or about all.
pub(super) fn pool_of(violation: &Violation, events: &[Event]) -> Option<PoolId> {
    let mut members = Members::default();
    for event in events.iter().take_while(|event| event.at <= violation.at) {
        members.take(&event.what);
    }
    match violation.who {
        Who::Pool(pool) => Some(pool),
        Who::Actor(actor) => members.of_actor(actor),
        Who::Process(_) | Who::Run => violation.conn.and_then(|conn| members.of_conn(conn)),
    }
}

/// What happened to the violation's pool before it, in the fault phase, beside what always happens.
fn involved(violation: &Violation, events: &[Event], scenario: Option<&Scenario>) -> BTreeSet<String> {
    let pool = pool_of(violation, events);
    let is_its = |of: Option<PoolId>| pool.is_none() || of == pool;
    let mut members = Members::default();
    let mut found = BTreeSet::new();
    let before =
        events.iter().take_while(|event| event.at <= violation.at && event.what != What::Phase(Phase::Healing));
    for Event { what, .. } in before {
        members.take(what);
        let told: Option<(&str, bool)> = match what {
            What::FaultBegin { index, .. } => {
                scenario.and_then(|scenario| scenario.faults.get(*index)).map(|fault| (fault_name(&fault.action), true))
            }
            What::DialFailed { conn, .. } => Some(("a failed dial", is_its(members.of_conn(*conn)))),
            What::DialDropped { conn } => Some(("a dropped dial", is_its(members.of_conn(*conn)))),
            What::ConnBroken { conn, .. } => Some(("a broken connection", is_its(members.of_conn(*conn)))),
            What::AcquireEnd { pool: of, result, .. } => {
                let kind = match result {
                    Acquired::Lease { .. } | Acquired::GivenUp => None,
                    Acquired::Error { .. } => Some("a failed acquire"),
                    Acquired::Deadline => Some("an acquire at its caller's deadline"),
                    Acquired::Cancelled => Some("a cancelled acquire"),
                    Acquired::Panicked(_) => Some("a panic in acquire"),
                };
                kind.map(|kind| (kind, is_its(Some(*of))))
            }
            What::SqlEnd { conn, result, .. } => {
                let kind = match result {
                    SqlResult::Ok => None,
                    SqlResult::Error(_) => Some("a failed statement"),
                    SqlResult::Broken(_) => Some("a lost statement"),
                    SqlResult::Cancelled => Some("a cancelled statement"),
                };
                kind.map(|kind| (kind, is_its(members.of_conn(*conn))))
            }
            What::ActorEnd { actor, end } => {
                let kind = match end {
                    ActorEnd::Done | ActorEnd::Failed | ActorEnd::GivenUp => None,
                    ActorEnd::Abandoned => Some("a dropped caller"),
                    ActorEnd::Panicked(_) => Some("a panic"),
                    ActorEnd::Killed | ActorEnd::Stopped => Some("a killed caller"),
                };
                kind.map(|kind| (kind, is_its(members.of_actor(*actor))))
            }
            What::PoolResized { pool: of, .. } => Some(("a resize", is_its(Some(*of)))),
            What::PoolClosing { pool: of } => Some(("a close", is_its(Some(*of)))),
            What::PoolCloseCancelled { pool: of } => Some(("a cancelled close", is_its(Some(*of)))),
            What::PoolDropped { pool: of } => Some(("a dropped pool", is_its(Some(*of)))),
            What::Detached { conn, .. } => Some(("a detached connection", is_its(members.of_conn(*conn)))),
            What::Invalidated { conn, .. } => Some(("an invalidated connection", is_its(members.of_conn(*conn)))),
            _ => None,
        };
        if let Some((what, true)) = told {
            found.insert(what.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_make_no_difference() {
        for (sentence, how) in [
            (
                "actor 12 had been waiting for pool 1 since 0.100 s, for 3.001 s, while connection 3 was idle since 2.000 s",
                "actor # had been waiting for pool # since #, for #, while connection # was idle since #",
            ),
            ("\"INSERT INTO t VALUES (1)\" was sent once", "\"…\" was sent once"),
            (
                "it lent 0, then an acquire failed after 1.000 s (timeout: no connection within 1s)",
                "it lent #, then an acquire failed after # (timeout)",
            ),
        ] {
            assert_eq!(without_numbers(sentence), how);
        }
    }
}
