//! What a server's log tells of its backends, if it is written as JSON: `log_destination = 'jsonlog'`, from PostgreSQL 15 on.
//! <https://www.postgresql.org/docs/15/runtime-config-logging.html#RUNTIME-CONFIG-LOGGING-JSONLOG>
//!
//! Used are FATAL and PANIC of client backends, the reports of broken clients, the postmaster's report of a process that crashed,
//! `log_disconnections` and `log_lock_waits`. The texts are those of `lc_messages = 'C'`.

use std::io;

use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{Gone, Pid};
use serde::Deserialize;

use super::wire::sqlstate;

/// One thing that a line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A backend is about to end, or has ended, for this reason.
    End {
        /// The backend.
        pid: Pid,
        /// Why.
        reason: Gone,
    },
    /// A session is over.
    Disconnected {
        /// The backend.
        pid: Pid,
    },
    /// A backend has waited for a lock for `deadlock_timeout`.
    Waits {
        /// The backend.
        pid: Pid,
        /// Who holds the lock.
        by: Vec<Pid>,
        /// "ShareLock on transaction 731"
        on: String,
    },
    /// A backend got the lock that it waited for.
    Granted {
        /// The backend.
        pid: Pid,
    },
}

/// The fields of a line that are used.
#[derive(Debug, Deserialize)]
struct Line {
    pid: Pid,
    #[serde(default)]
    error_severity: String,
    #[serde(default)]
    state_code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    backend_type: String,
}

/// What a line tells; most tell nothing of interest, and what is no JSON neither.
#[must_use]
pub fn fact(line: &str) -> Option<Fact> {
    let line: Line = serde_json::from_str(line).ok()?;
    let (pid, message) = (line.pid, line.message.as_str());
    let end = |reason| Some(Fact::End { pid, reason });
    if line.backend_type == "postmaster" {
        let rest = message.strip_prefix("server process (PID ")?;
        let (pid, how) = rest.split_once(") ")?;
        let crashed = how.starts_with("was terminated by") || how.starts_with("exited with exit code");
        return pid.parse().ok().filter(|_| crashed).map(|pid| Fact::End { pid, reason: Gone::Killed });
    }
    match line.error_severity.as_str() {
        "FATAL" | "PANIC" => return end(Gone::Fatal(sqlstate(&line.state_code))),
        "WARNING" => {
            let code = sqlstate(&line.state_code);
            let crash = code == SqlState::ADMIN_SHUTDOWN || code == SqlState::CRASH_SHUTDOWN;
            return end(Gone::Crash(code)).filter(|_| crash);
        }
        "LOG" => {}
        _ => return None,
    }
    let broken = message
        .strip_prefix("could not receive data from client: ")
        .or_else(|| message.strip_prefix("could not send data to client: "));
    if let Some(error) = broken {
        return end(Gone::SocketError(match error {
            "Connection reset by peer" => io::ErrorKind::ConnectionReset,
            "Broken pipe" => io::ErrorKind::BrokenPipe,
            "Connection timed out" => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        }));
    }
    if message.starts_with("unexpected EOF on client connection") {
        return end(Gone::ClientClosed);
    }
    if message.starts_with("disconnection: ") {
        return Some(Fact::Disconnected { pid });
    }
    let (pid, what) = message.strip_prefix("process ")?.split_once(' ')?;
    let pid = pid.parse().ok()?;
    if let Some(on) = what.strip_prefix("still waiting for ") {
        let on = on.rsplit_once(" after ")?.0.to_owned();
        return Some(Fact::Waits { pid, by: holders(&line.detail), on });
    }
    what.starts_with("acquired ").then_some(Fact::Granted { pid })
}

/// The pids of "Process holding the lock: 1. Wait queue: 2." or "Processes holding the lock: 1, 2. …".
fn holders(detail: &str) -> Vec<Pid> {
    let list = detail.split_once("holding the lock: ").map_or("", |(_, rest)| rest);
    let list = list.split('.').next().unwrap_or_default();
    let mut pids: Vec<Pid> = list.split(", ").filter_map(|pid| pid.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(severity: &str, code: &str, message: &str, detail: &str, of: &str) -> Option<Fact> {
        fact(&format!(
            r#"{{"timestamp":"2026-01-01","pid":7,"error_severity":"{severity}","state_code":"{code}","message":"{message}","detail":"{detail}","backend_type":"{of}"}}"#
        ))
    }

    #[test]
    fn lines_are_read() {
        let end = |pid, reason| Some(Fact::End { pid, reason });
        let client = "client backend";
        assert_eq!(
            line("FATAL", "57P01", "terminating connection due to administrator command", "", client),
            end(7, Gone::Fatal(SqlState::ADMIN_SHUTDOWN))
        );
        assert_eq!(
            line("LOG", "00000", "server process (PID 42) was terminated by signal 9: Killed", "", "postmaster"),
            end(42, Gone::Killed)
        );
        assert_eq!(
            line("LOG", "08006", "could not receive data from client: Connection reset by peer", "", client),
            end(7, Gone::SocketError(io::ErrorKind::ConnectionReset))
        );
        assert_eq!(
            line("LOG", "08006", "unexpected EOF on client connection with an open transaction", "", client),
            end(7, Gone::ClientClosed)
        );
        assert_eq!(
            line(
                "LOG",
                "00000",
                "process 7 still waiting for ShareLock on transaction 731 after 1000.123 ms",
                "Processes holding the lock: 9, 8. Wait queue: 7.",
                client
            ),
            Some(Fact::Waits { pid: 7, by: vec![8, 9], on: "ShareLock on transaction 731".to_owned() })
        );
        assert_eq!(
            line("LOG", "00000", "process 7 acquired ShareLock on transaction 731 after 1500 ms", "", client),
            Some(Fact::Granted { pid: 7 })
        );
        assert_eq!(
            line("LOG", "00000", "disconnection: session time: 0:00:01 user=app", "", client),
            Some(Fact::Disconnected { pid: 7 })
        );
        assert_eq!(line("ERROR", "42601", "syntax error", "", client), None);
        assert_eq!(line("LOG", "00000", "checkpoint starting: time", "", "checkpointer"), None);
        assert_eq!(fact("2026-01-01 LOG: text"), None);
    }
}
