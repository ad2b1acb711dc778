//! What happens in a shrunk run, in sentences: the story of the file that a finding is handed over as.

use std::time::Duration;

use crate::invariant::Violation;
use crate::invariant::judge::seconds;
use crate::scenario::model::Scenario;
use crate::trace::event::{Acquired, ActorEnd, ActorId, Event, Phase, PoolId, SqlResult, What};
use crate::trace::recorder::IntMap;
use crate::trace::view::View;

/// The most sentences of a story. What is left out is in its middle.
const MOST: usize = 18;

/// Tells what led to a violation.
pub(super) fn story(violation: &Violation, events: &[Event], scenario: &Scenario) -> Vec<String> {
    let pool = super::mechanism::pool_of(violation, events);
    let mut teller = Teller { view: View::new(scenario), pool, lines: Vec::new(), names: IntMap::default() };
    for event in events.iter().take_while(|event| event.at <= violation.at) {
        if event.what == What::Phase(Phase::Capacity) {
            teller.say(event.at, "every caller has ended, and the pool is asked for all its connections".to_owned());
            break;
        }
        teller.take(event);
        teller.view.apply(event.at, &event.what);
    }
    let mut lines = teller.told();
    if lines.len() > MOST {
        let left_out = lines.len() - MOST;
        lines.splice(MOST / 3..MOST / 3 + left_out, [format!("({left_out} more such things happen.)")]);
    }
    let who = match violation.who {
        crate::invariant::Who::Actor(actor) => format!("{}: ", teller.name(actor)),
        _ => String::new(),
    };
    lines.push(format!("Then {} is violated: {who}{}.", violation.invariant, violation.sentence));
    lines
}

struct Teller {
    view: View,
    pool: Option<PoolId>,
    lines: Vec<(Duration, String)>,
    names: IntMap<u32, String>,
}

impl Teller {
    fn say(&mut self, at: Duration, text: String) {
        self.lines.push((at, text));
    }

    /// A sentence for each instant.
    fn told(&mut self) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        let mut last = None;
        for (at, text) in self.lines.drain(..) {
            match told.last_mut().filter(|_| last == Some(at.as_millis())) {
                // Of many things in one instant the first few are enough.
                Some(line) if line.ends_with(" …") => {}
                Some(line) if line.len() > 300 => line.push_str(" …"),
                Some(line) => {
                    line.pop();
                    line.push_str(&format!("; {text}."));
                }
                None => told.push(format!("At {} {text}.", seconds(at))),
            }
            last = Some(at.as_millis());
        }
        told
    }

    /// `the caller of first`, `caller 3 of first`
    fn name(&self, actor: ActorId) -> String {
        self.names.get(&actor.0).cloned().unwrap_or_else(|| format!("caller {}", actor.0))
    }

    fn is_its(&self, pool: Option<PoolId>) -> bool {
        self.pool.is_none() || pool == self.pool
    }

    fn take(&mut self, Event { at, what, .. }: &Event) {
        let at = *at;
        let of_conn = |conn| self.view.conn(conn).map(|conn| conn.pool);
        let text = match what {
            What::ActorStart { actor, workload, .. } => {
                self.names.insert(actor.0, format!("caller {} ({workload})", actor.0));
                return;
            }
            What::FaultBegin { text, .. } => text.to_string(),
            What::FaultEnd { text, .. } => text.to_string(),
            What::Phase(Phase::Healing) => "traffic and faults end".to_owned(),
            What::AcquireStart { actor, pool } if self.is_its(Some(*pool)) => {
                let full = self.view.pool(*pool).is_some_and(|pool| pool.in_use() >= pool.max_size);
                let waits = if full { ", all of which are lent" } else { "" };
                format!("{} asks for a connection{waits}", self.name(*actor))
            }
            What::AcquireEnd { actor, pool, result } if self.is_its(Some(*pool)) => {
                let name = self.name(*actor);
                match result {
                    Acquired::Lease { conn, .. } => format!("{name} gets connection {}", conn.0),
                    Acquired::Error { kind, message } => format!("{name} gets an error ({}: {message})", kind.as_str()),
                    Acquired::Deadline => format!("{name} gives up at its own deadline"),
                    Acquired::Cancelled => format!("{name} drops its acquire"),
                    Acquired::GivenUp => format!("{name} still waits, and is given up"),
                    Acquired::Panicked(_) => format!("the acquire of {name} panics"),
                }
            }
            What::Dial { conn, pool } if self.is_its(Some(*pool)) => format!("connection {} is dialled", conn.0),
            What::DialFailed { conn, message, .. } if self.is_its(of_conn(*conn)) => {
                format!("the dial of connection {} fails ({message})", conn.0)
            }
            What::DialDropped { conn } if self.is_its(of_conn(*conn)) => {
                format!("the pool drops the dial of connection {}", conn.0)
            }
            What::Connected { conn, .. } if self.is_its(of_conn(*conn)) => format!("connection {} is open", conn.0),
            What::ConnBroken { conn, message } if self.is_its(of_conn(*conn)) => {
                format!("connection {} breaks ({message})", conn.0)
            }
            What::ConnClosed { conn } if self.is_its(of_conn(*conn)) => {
                format!("the pool closes connection {}", conn.0)
            }
            What::Released { actor, conn } if self.is_its(of_conn(*conn)) => {
                format!("{} returns connection {}", self.name(*actor), conn.0)
            }
            What::Detached { actor, conn } if self.is_its(of_conn(*conn)) => {
                format!("{} takes connection {} out of the pool", self.name(*actor), conn.0)
            }
            What::Invalidated { actor, conn } if self.is_its(of_conn(*conn)) => {
                format!("{} has connection {} closed", self.name(*actor), conn.0)
            }
            What::SqlEnd { actor, conn, result } if self.is_its(of_conn(*conn)) => match result {
                SqlResult::Ok => return,
                SqlResult::Error(code) => format!("a statement of {} fails ({code})", self.name(*actor)),
                SqlResult::Broken(_) => format!("a statement of {} is lost", self.name(*actor)),
                SqlResult::Cancelled => format!("{} drops a statement that runs", self.name(*actor)),
            },
            What::ActorEnd { actor, end } => match end {
                ActorEnd::Done | ActorEnd::Failed | ActorEnd::GivenUp => return,
                ActorEnd::Abandoned => format!("{} is dropped in the middle", self.name(*actor)),
                ActorEnd::Panicked(_) => format!("{} panics", self.name(*actor)),
                ActorEnd::Killed | ActorEnd::Stopped => format!("{} is killed", self.name(*actor)),
            },
            What::PoolBuilt { pool, max_size, own: true, .. } if self.is_its(Some(*pool)) => {
                format!("a pool of {max_size} is built")
            }
            What::PoolResized { pool, max_size } if self.is_its(Some(*pool)) => {
                format!("the pool is resized to {max_size}")
            }
            What::PoolClosing { pool } if self.is_its(Some(*pool)) => "the pool is being closed".to_owned(),
            What::PoolCloseCancelled { pool } if self.is_its(Some(*pool)) => "the close is cancelled".to_owned(),
            What::PoolDropped { pool } if self.is_its(Some(*pool)) => "the pool is dropped".to_owned(),
            What::TaskPanicked { message } => {
                format!("a task of the pool panics ({})", message.lines().next().unwrap_or_default())
            }
            _ => return,
        };
        self.say(at, text);
    }
}
