//! The server's log, line by line.
//!
//! It is written to the standard error output, which can be followed on a local server and in a container alike, and
//! from the first line to the last; `jsonlog` needs the logging collector, whose files are out of reach when the server
//! is down. A prefix that no field can contain takes its place ([`PREFIX`]); [`Entry::to_jsonlog`] gives the same keys.

use std::time::Duration;

use poolproof_sim::postgres::event::{Lifecycle, Pid};

/// `log_line_prefix`. The unit separator can't be in a field: PostgreSQL keeps control characters out of names.
pub(super) const PREFIX: &str = "\x1f%n\x1f%p\x1f%b\x1f%a\x1f%r\x1f%e\x1f";

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, since 1970.
    pub time: Duration,
    /// The process that wrote it.
    pub pid: Pid,
    /// As in `pg_stat_activity`: `client backend`, `postmaster`, `startup`, …
    pub backend_type: String,
    /// What its client calls itself; empty if there is none.
    pub application_name: String,
    /// Its client's port.
    pub client_port: Option<u16>,
    /// SQLSTATE, `00000` where nothing is wrong.
    pub code: String,
    /// `LOG`, `ERROR`, `FATAL`, `PANIC`, `DETAIL`, …
    pub severity: String,
    /// The text; the first line of it.
    pub message: String,
}

impl Entry {
    /// Reads a line. `None`: it is no first line of an entry, or not the server's.
    #[must_use]
    pub fn parse(line: &str) -> Option<Entry> {
        let mut fields = line.strip_prefix('\x1f')?.splitn(7, '\x1f');
        let mut next = || fields.next();
        let time = next()?.parse().ok().and_then(|time| Duration::try_from_secs_f64(time).ok())?;
        let pid = next()?.parse().ok()?;
        let backend_type = next()?.to_owned();
        let application_name = next()?.to_owned();
        let remote = next()?;
        let client_port = remote.rsplit_once('(').and_then(|(_, port)| port.strip_suffix(')')?.parse().ok());
        let code = next()?.to_owned();
        let (severity, message) = next()?.split_once(": ")?;
        let message = message.trim_start().to_owned();
        Some(Entry {
            time,
            pid,
            backend_type,
            application_name,
            client_port,
            code,
            severity: severity.to_owned(),
            message,
        })
    }

    /// The line as `log_destination = jsonlog` has it, as far as it is known here.
    #[must_use]
    pub fn to_jsonlog(&self) -> String {
        serde_json::json!({
            "timestamp": self.time.as_secs_f64(),
            "pid": self.pid,
            "backend_type": self.backend_type,
            "application_name": self.application_name,
            "remote_port": self.client_port,
            "state_code": self.code,
            "error_severity": self.severity,
            "message": self.message,
        })
        .to_string()
    }

    /// What the server is doing from now on, if this line says so. `now` is what it was doing.
    #[must_use]
    pub fn lifecycle(&self, now: Lifecycle, hot_standby: bool) -> Option<Lifecycle> {
        let said = |start: &str| self.message.starts_with(start);
        match self.backend_type.as_str() {
            "postmaster" if said("listening on ") => Some(Lifecycle::StartingUp),
            "postmaster" if said("database system is ready to accept") => Some(Lifecycle::Running),
            "postmaster" if said("received ") && self.message.contains(" shutdown request") => {
                Some(Lifecycle::ShuttingDown)
            }
            // The crash of a backend; while it stops, a stop remains one.
            "postmaster" if said("terminating any other active server processes") => {
                (now != Lifecycle::ShuttingDown).then_some(Lifecycle::Recovering)
            }
            "postmaster" if said("all server processes terminated; reinitializing") => Some(Lifecycle::Recovering),
            "startup" if said("database system was interrupted") => Some(Lifecycle::Recovering),
            "startup" if said("database system was not properly shut down") => Some(Lifecycle::Recovering),
            // Without hot standby it never says that it is ready: it runs, and takes no sessions.
            "startup" if !hot_standby && said("consistent recovery state reached") => Some(Lifecycle::Running),
            _ => None,
        }
    }

    /// Whether it is a standby from now on, or a primary, if this line says so.
    #[must_use]
    pub fn in_recovery(&self) -> Option<bool> {
        match (self.backend_type.as_str(), self.message.as_str()) {
            ("startup", "entering standby mode") => Some(true),
            ("postmaster", "database system is ready to accept connections") => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, application: &str, remote: &str, rest: &str) -> String {
        format!("\x1f1700000000.125\x1f4711\x1f{kind}\x1f{application}\x1f{remote}\x1f57P01\x1f{rest}")
    }

    #[test]
    fn a_line_is_read() {
        let read = Entry::parse(&line("client backend", "web: (1)", "127.0.0.1(40000)", "FATAL:  terminating: now"));
        let read = read.expect("it is one");
        assert_eq!(read.time, Duration::from_millis(1_700_000_000_125));
        assert_eq!((read.pid, read.client_port), (4711, Some(40000)));
        assert_eq!((read.application_name.as_str(), read.code.as_str()), ("web: (1)", "57P01"));
        assert_eq!((read.severity.as_str(), read.message.as_str()), ("FATAL", "terminating: now"));
        let json: serde_json::Value = serde_json::from_str(&read.to_jsonlog()).expect("it is JSON");
        assert_eq!(json["error_severity"], "FATAL");
        assert_eq!(json["remote_port"], 40000);
    }

    #[test]
    fn what_is_no_first_line_is_none() {
        for odd in ["", "\tSELECT 2", "postgres: could not find the data", "\x1f1\x1f2\x1fpostmaster", "\x1fx\x1f"] {
            assert_eq!(Entry::parse(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn lines_tell_the_lifecycle() {
        let after = |now, kind: &str, text: &str| {
            Entry::parse(&line(kind, "", "", &format!("LOG:  {text}"))).expect("it is one").lifecycle(now, true)
        };
        use Lifecycle::{Down, Recovering, Running, ShuttingDown, StartingUp};
        assert_eq!(after(Down, "postmaster", "listening on IPv4 address \"127.0.0.1\", port 5432"), Some(StartingUp));
        assert_eq!(after(StartingUp, "startup", "database system was shut down at 2026-01-01"), None);
        assert_eq!(after(StartingUp, "startup", "database system was interrupted; last known up"), Some(Recovering));
        assert_eq!(after(Recovering, "postmaster", "database system is ready to accept connections"), Some(Running));
        assert_eq!(after(Running, "postmaster", "received fast shutdown request"), Some(ShuttingDown));
        let crash = "terminating any other active server processes";
        assert_eq!(after(Running, "postmaster", crash), Some(Recovering));
        assert_eq!(after(ShuttingDown, "postmaster", crash), None);
        // A client can write what it likes into the log.
        assert_eq!(after(Running, "client backend", "received fast shutdown request"), None);
    }
}
