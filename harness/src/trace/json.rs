//! The full trace: one JSON object a line, each with the time in milliseconds (to the microsecond), the event's number
//! and an `event` tag; keys always in the same order.

use std::io::{self, Write};

use poolproof_sim::postgres::event::{Gone, Lifecycle, ServerEvent, SessionReport};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::event::{Acquired, ActorEnd, Event, JobChange, Phase, SqlResult, What};
use crate::pool::Status;
use crate::scenario::model::PoolSettings;

/// Writes one event and a newline.
///
/// # Errors
/// What the writer reports.
pub fn write_line(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *out, event)?;
    out.write_all(b"\n")
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // A string, since a float would not keep every microsecond the same in every reader.
        let at = format!("{}.{:03}", self.at.as_millis(), self.at.subsec_micros() % 1000);
        map.serialize_entry("at", &at)?;
        map.serialize_entry("seq", &self.seq)?;
        map.serialize_entry("event", name(&self.what))?;
        fields(&self.what, &mut map)?;
        map.end()
    }
}

fn name(what: &What) -> &'static str {
    match what {
        What::Phase(_) => "phase",
        What::ProcessStart { .. } => "process_start",
        What::ProcessEnd { .. } => "process_end",
        What::PoolBuilt { .. } => "pool_built",
        What::PoolFailed { .. } => "pool_failed",
        What::PoolResized { .. } => "pool_resized",
        What::PoolDisposed { .. } => "pool_disposed",
        What::PoolClosing { .. } => "pool_closing",
        What::PoolClosed { .. } => "pool_closed",
        What::PoolCloseCancelled { .. } => "pool_close_cancelled",
        What::PoolDropped { .. } => "pool_dropped",
        What::PoolLost { .. } => "pool_lost",
        What::PoolStatus { .. } => "pool_status",
        What::Dial { .. } => "dial",
        What::DialFailed { .. } => "dial_failed",
        What::DialDropped { .. } => "dial_dropped",
        What::Connected { .. } => "connected",
        What::ConnBroken { .. } => "conn_broken",
        What::ConnClosed { .. } => "conn_closed",
        What::ActorStart { .. } => "actor_start",
        What::ActorEnd { .. } => "actor_end",
        What::AcquireStart { .. } => "acquire_start",
        What::AcquireEnd { .. } => "acquire_end",
        What::SqlStart { .. } => "sql_start",
        What::SqlEnd { .. } => "sql_end",
        What::Released { .. } => "released",
        What::Leaked { .. } => "leaked",
        What::Lost { .. } => "lost",
        What::Kept { .. } => "kept",
        What::Resumed { .. } => "resumed",
        What::Collected { .. } => "collected",
        What::Deadlocked { .. } => "deadlocked",
        What::Raised { .. } => "raised",
        What::Job { .. } => "job",
        What::Join { .. } => "join",
        What::ThreadBlocked { .. } => "thread_blocked",
        What::ThreadFree { .. } => "thread_free",
        What::Detached { .. } => "detached",
        What::Invalidated { .. } => "invalidated",
        What::DetachedDropped { .. } => "detached_dropped",
        What::StepCancelled { .. } => "step_cancelled",
        What::FaultBegin { .. } => "fault_begin",
        What::FaultEffect { .. } => "fault_effect",
        What::FaultEnd { .. } => "fault_end",
        What::TaskPanicked { .. } => "task_panicked",
        What::TasksLeft { .. } => "tasks_left",
        What::Server { event, .. } => match event {
            ServerEvent::Lifecycle(_) => "server_lifecycle",
            ServerEvent::Promoted => "server_promoted",
            ServerEvent::Forked { .. } => "backend_forked",
            ServerEvent::Refused { .. } => "backend_refused",
            ServerEvent::State { .. } => "backend_state",
            ServerEvent::Statement { .. } => "statement",
            ServerEvent::StatementEnd { .. } => "statement_end",
            ServerEvent::Blocked { .. } => "backend_blocked",
            ServerEvent::Unblocked { .. } => "backend_unblocked",
            ServerEvent::Committed { .. } => "committed",
            ServerEvent::RolledBack { .. } => "rolled_back",
            ServerEvent::Gone { .. } => "backend_gone",
        },
    }
}

fn fields<M: SerializeMap>(what: &What, map: &mut M) -> Result<(), M::Error> {
    match what {
        What::Phase(phase) => map.serialize_entry("phase", phase_name(*phase)),
        What::ProcessStart { process, app, seat } => {
            map.serialize_entry("process", &process.0)?;
            map.serialize_entry("app", &**app)?;
            map.serialize_entry("seat", seat)
        }
        What::ProcessEnd { process } => map.serialize_entry("process", &process.0),
        What::PoolBuilt { pool, process, max_size, own } => {
            map.serialize_entry("pool", &pool.0)?;
            map.serialize_entry("process", &process.0)?;
            let bound = (*max_size != PoolSettings::UNLIMITED).then_some(max_size);
            map.serialize_entry("max_size", &bound)?;
            map.serialize_entry("own", own)
        }
        What::PoolFailed { pool, process, message } => {
            map.serialize_entry("pool", &pool.0)?;
            map.serialize_entry("process", &process.0)?;
            map.serialize_entry("message", &**message)
        }
        What::PoolResized { pool, max_size } => {
            map.serialize_entry("pool", &pool.0)?;
            map.serialize_entry("max_size", max_size)
        }
        What::PoolClosing { pool }
        | What::PoolClosed { pool }
        | What::PoolCloseCancelled { pool }
        | What::PoolDropped { pool }
        | What::PoolDisposed { pool } => map.serialize_entry("pool", &pool.0),
        What::PoolLost { actor, pool } | What::Deadlocked { actor, pool } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("pool", &pool.0)
        }
        What::PoolStatus { pool, status } => {
            map.serialize_entry("pool", &pool.0)?;
            let Status { size, idle, in_use, waiting, max_size } = status;
            map.serialize_entry("size", size)?;
            map.serialize_entry("idle", idle)?;
            map.serialize_entry("in_use", in_use)?;
            map.serialize_entry("waiting", waiting)?;
            map.serialize_entry("max_size", max_size)
        }
        What::Dial { conn, pool } => {
            map.serialize_entry("conn", &conn.0)?;
            map.serialize_entry("pool", &pool.0)
        }
        What::DialFailed { conn, message, code } => {
            map.serialize_entry("conn", &conn.0)?;
            map.serialize_entry("message", &**message)?;
            map.serialize_entry("code", code)
        }
        What::DialDropped { conn } | What::ConnClosed { conn } | What::DetachedDropped { conn } => {
            map.serialize_entry("conn", &conn.0)
        }
        What::Connected { conn, pid } => {
            map.serialize_entry("conn", &conn.0)?;
            map.serialize_entry("pid", pid)
        }
        What::ConnBroken { conn, message } => {
            map.serialize_entry("conn", &conn.0)?;
            map.serialize_entry("message", &**message)
        }
        What::ActorStart { actor, workload, process } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("workload", &**workload)?;
            map.serialize_entry("process", &process.0)
        }
        What::ActorEnd { actor, end } => {
            map.serialize_entry("actor", &actor.0)?;
            let (end, message) = match end {
                ActorEnd::Done => ("done", None),
                ActorEnd::Failed => ("failed", None),
                ActorEnd::Abandoned => ("abandoned", None),
                ActorEnd::Panicked(message) => ("panicked", Some(message)),
                ActorEnd::Killed => ("killed", None),
                ActorEnd::Stopped => ("stopped", None),
                ActorEnd::GivenUp => ("given up", None),
            };
            map.serialize_entry("end", end)?;
            optional(map, "message", message)
        }
        What::AcquireStart { actor, pool } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("pool", &pool.0)
        }
        What::AcquireEnd { actor, pool, result } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("pool", &pool.0)?;
            acquired(result, map)
        }
        What::SqlStart { actor, conn, text } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("conn", &conn.0)?;
            map.serialize_entry("text", &**text)
        }
        What::SqlEnd { actor, conn, result } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("conn", &conn.0)?;
            let (result, detail) = match result {
                SqlResult::Ok => ("ok", None),
                SqlResult::Error(code) => ("error", Some(("code", code))),
                SqlResult::Broken(message) => ("broken", Some(("message", message))),
                SqlResult::Cancelled => ("cancelled", None),
            };
            map.serialize_entry("result", result)?;
            detail.map_or(Ok(()), |(key, value)| map.serialize_entry(key, value))
        }
        What::Released { actor, conn }
        | What::Leaked { actor, conn }
        | What::Lost { actor, conn }
        | What::Kept { actor, conn }
        | What::Resumed { actor, conn }
        | What::Detached { actor, conn }
        | What::Invalidated { actor, conn } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("conn", &conn.0)
        }
        What::Collected { process, leases, pools, asked } => {
            map.serialize_entry("process", &process.0)?;
            map.serialize_entry("leases", leases)?;
            map.serialize_entry("pools", pools)?;
            map.serialize_entry("asked", asked)
        }
        What::Raised { actor, class, message } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("class", class)?;
            map.serialize_entry("message", &**message)
        }
        What::Job { queue, job, actor, change, unfinished } => {
            map.serialize_entry("queue", &**queue)?;
            map.serialize_entry("job", &job.0)?;
            map.serialize_entry("actor", &actor.map(|actor| actor.0))?;
            job_change(change, map)?;
            map.serialize_entry("unfinished", unfinished)
        }
        What::Join { actor, queue, unfinished, over } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("queue", &**queue)?;
            map.serialize_entry("unfinished", unfinished)?;
            map.serialize_entry("over", over)
        }
        What::ThreadBlocked { actor } | What::ThreadFree { actor } => map.serialize_entry("actor", &actor.0),
        What::StepCancelled { actor, step } => {
            map.serialize_entry("actor", &actor.0)?;
            map.serialize_entry("step", &**step)
        }
        What::FaultBegin { index, text } | What::FaultEnd { index, text } => {
            map.serialize_entry("fault", index)?;
            map.serialize_entry("text", &**text)
        }
        What::FaultEffect { fault, text } => {
            map.serialize_entry("fault", fault)?;
            map.serialize_entry("text", &**text)
        }
        What::Server { server, event } => {
            map.serialize_entry("server", &**server)?;
            server_fields(event, map)
        }
        What::TaskPanicked { message } => map.serialize_entry("message", &**message),
        What::TasksLeft { count } => map.serialize_entry("count", count),
    }
}

fn job_change<M: SerializeMap>(change: &JobChange, map: &mut M) -> Result<(), M::Error> {
    let word = match change {
        JobChange::Put { .. } => "put",
        JobChange::Taken => "taken",
        JobChange::Done => "done",
        JobChange::DoneBadly => "done badly",
        JobChange::Retried { .. } => "retried",
        JobChange::Failed => "failed",
        JobChange::Redelivered => "redelivered",
        JobChange::Lost => "lost",
    };
    map.serialize_entry("change", word)?;
    match change {
        JobChange::Put { payload, after } => {
            map.serialize_entry("payload", &**payload)?;
            map.serialize_entry("after_ms", &after.as_millis())
        }
        JobChange::Retried { after, attempt } => {
            map.serialize_entry("attempt", attempt)?;
            map.serialize_entry("after_ms", &after.as_millis())
        }
        _ => Ok(()),
    }
}

fn acquired<M: SerializeMap>(result: &Acquired, map: &mut M) -> Result<(), M::Error> {
    match result {
        Acquired::Lease { conn, pid, session, unread } => {
            map.serialize_entry("result", "lease")?;
            map.serialize_entry("conn", &conn.0)?;
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("session", &session.as_ref().map(Session))?;
            map.serialize_entry("unread", unread)
        }
        Acquired::Error { kind, message } => {
            map.serialize_entry("result", "error")?;
            map.serialize_entry("kind", kind.as_str())?;
            map.serialize_entry("message", &**message)
        }
        Acquired::Deadline => map.serialize_entry("result", "deadline"),
        Acquired::Cancelled => map.serialize_entry("result", "cancelled"),
        Acquired::GivenUp => map.serialize_entry("result", "given up"),
        Acquired::Panicked(message) => {
            map.serialize_entry("result", "panicked")?;
            map.serialize_entry("message", message)
        }
    }
}

fn server_fields<M: SerializeMap>(event: &ServerEvent, map: &mut M) -> Result<(), M::Error> {
    match event {
        ServerEvent::Lifecycle(lifecycle) => map.serialize_entry("lifecycle", lifecycle_name(*lifecycle)),
        ServerEvent::Promoted => Ok(()),
        ServerEvent::Forked { pid, peer } => {
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("peer", &peer.to_string())
        }
        ServerEvent::Refused { pid, peer, code } => {
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("peer", &peer.to_string())?;
            map.serialize_entry("code", code.0)
        }
        ServerEvent::State { pid, state } => {
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("state", state.as_str())
        }
        ServerEvent::Statement { pid, text } => {
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("text", &**text)
        }
        ServerEvent::StatementEnd { pid, result } => {
            map.serialize_entry("pid", pid)?;
            match result {
                Ok(tag) => map.serialize_entry("tag", &**tag),
                Err(code) => map.serialize_entry("code", code.0),
            }
        }
        ServerEvent::Blocked { pid, by, on } => {
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("by", by)?;
            map.serialize_entry("on", on)
        }
        ServerEvent::Unblocked { pid } => map.serialize_entry("pid", pid),
        ServerEvent::Committed { pid, xid } | ServerEvent::RolledBack { pid, xid } => {
            map.serialize_entry("pid", pid)?;
            map.serialize_entry("xid", xid)
        }
        ServerEvent::Gone { pid, reason } => {
            map.serialize_entry("pid", pid)?;
            let (reason, detail) = gone(reason);
            map.serialize_entry("reason", reason)?;
            optional(map, "detail", detail.as_ref())
        }
    }
}

fn optional<M: SerializeMap>(map: &mut M, key: &'static str, value: Option<&String>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, value))
}

struct Session<'a>(&'a SessionReport);

impl Serialize for Session<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SessionReport { state, settings, prepared, temporary_tables, channels, advisory_locks, portals } = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("state", state.as_str())?;
        map.serialize_entry("settings", settings)?;
        map.serialize_entry("prepared", prepared)?;
        map.serialize_entry("temporary_tables", temporary_tables)?;
        map.serialize_entry("channels", channels)?;
        map.serialize_entry("advisory_locks", advisory_locks)?;
        map.serialize_entry("portals", portals)?;
        map.end()
    }
}

/// The word for a phase in traces.
#[must_use]
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Fault => "fault",
        Phase::Healing => "healing",
        Phase::Capacity => "capacity",
        Phase::Closing => "closing",
        Phase::End => "end",
    }
}

/// The words for a server's life in traces.
#[must_use]
pub fn lifecycle_name(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Down => "down",
        Lifecycle::StartingUp => "starting up",
        Lifecycle::Recovering => "recovering",
        Lifecycle::Running => "running",
        Lifecycle::ShuttingDown => "shutting down",
    }
}

fn gone(gone: &Gone) -> (&'static str, Option<String>) {
    match gone {
        Gone::Terminate => ("terminate", None),
        Gone::ClientClosed => ("client closed", None),
        Gone::SocketError(kind) => ("socket error", Some(format!("{kind:?}"))),
        Gone::Fatal(code) => ("fatal", Some(code.0.to_owned())),
        Gone::Crash(code) => ("crash", Some(code.0.to_owned())),
        Gone::Killed => ("killed", None),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::trace::event::{ActorId, ConnId, PoolId};

    #[test]
    fn keys_keep_their_order() {
        let result = Acquired::Lease { conn: ConnId(2), pid: 41, session: None, unread: 0 };
        let what = What::AcquireEnd { actor: ActorId(3), pool: PoolId(1), result };
        let mut out = Vec::new();
        write_line(&mut out, &Event { at: Duration::from_micros(12_004_567), seq: 9, what }).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"at\":\"12004.567\",\"seq\":9,\"event\":\"acquire_end\",\"actor\":3,\"pool\":1,\"result\":\"lease\",\
             \"conn\":2,\"pid\":41,\"session\":null,\"unread\":0}\n"
        );
    }
}
