//! The lines of a story that tell what an application does to itself: what it loses, keeps, queues and raises.

use super::{Worth, exact};
use crate::trace::event::{JobChange, What};

/// A line: its worth, who, and what.
pub(super) type Told = (Worth, &'static str, String);

/// The line for an event, if it is one of the application's.
pub(super) fn line(what: &What) -> Option<Told> {
    Some(match what {
        What::Leaked { .. } => (Worth::Trouble, "actor", "leaked its lease".to_owned()),
        What::Lost { .. } => (Worth::Trouble, "actor", "lost its lease in a reference cycle".to_owned()),
        What::Kept { .. } => (Worth::Trouble, "actor", "ended; its thread's session keeps the connection".to_owned()),
        What::PoolLost { .. } => (Worth::Trouble, "actor", "lost its pool in a reference cycle".to_owned()),
        What::Collected { leases: 0, pools: 0, .. } | What::Resumed { .. } => return None,
        What::Collected { leases, pools, asked, .. } => {
            let found = match (leases, pools) {
                (leases, 0) => some(*leases, "lost lease"),
                (0, pools) => some(*pools, "lost pool"),
                (leases, pools) => format!("{} and {}", some(*leases, "lost lease"), some(*pools, "lost pool")),
            };
            let why = if *asked { "is asked to run" } else { "runs at its threshold" };
            (Worth::Turn, "collector", format!("{why}, and finds {found}"))
        }
        What::Deadlocked { .. } => {
            (Worth::Trouble, "collector", "runs inside an acquire, and waits for its own thread's lock".to_owned())
        }
        What::Raised { class, message, .. } => (Worth::Trouble, "actor", format!("{class}: {message}")),
        What::Job { queue, change, unfinished, .. } => return Some(job(queue, change, *unfinished)),
        What::Join { queue, unfinished, over, .. } => {
            let text = if *over {
                format!("{queue} has no unfinished job any more: the join returns")
            } else {
                format!("joins {queue}: waits until none of {} is left", some(*unfinished, "unfinished job"))
            };
            (Worth::Turn, "actor", text)
        }
        What::ThreadBlocked { .. } => {
            (Worth::Trouble, "actor", "can't run: another one's statement blocks the thread".to_owned())
        }
        _ => return None,
    })
}

fn job(queue: &str, change: &JobChange, unfinished: u32) -> Told {
    match change {
        JobChange::Put { after, .. } if after.is_zero() => (Worth::Detail, "actor", format!("put a job in {queue}")),
        JobChange::Put { after, .. } => {
            (Worth::Detail, "actor", format!("put a job in {queue}, due in {}", exact(*after)))
        }
        JobChange::Taken => (Worth::Detail, "actor", format!("took a job of {queue}")),
        JobChange::Done => (Worth::Detail, "actor", format!("has done its job of {queue}")),
        JobChange::DoneBadly => {
            (Worth::Trouble, "actor", format!("marked its job of {queue} as done, though a step failed"))
        }
        JobChange::Retried { after, .. } => {
            (Worth::Trouble, "actor", format!("failed: its job of {queue} comes again in {}", exact(*after)))
        }
        JobChange::Failed => (Worth::Trouble, "actor", format!("failed: its job of {queue} is given up")),
        JobChange::Redelivered => {
            (Worth::Trouble, "queue", format!("{queue} delivers a job again whose worker is gone"))
        }
        JobChange::Lost => {
            let left = some(unfinished, "unfinished job");
            (Worth::Trouble, "queue", format!("{queue}: a job's worker is gone, nobody has it ({left})"))
        }
    }
}

fn some(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
