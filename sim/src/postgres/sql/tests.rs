//! The engine driven by hand: several sessions, no sockets, no clock.
#![expect(clippy::unwrap_used, reason = "tests")]

mod answers;
mod locking;
mod model;
mod speed;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::error::PgError;
use super::super::event::Pid;
use super::*;

/// A host where time stands still until told.
#[derive(Default)]
struct FakeHost {
    elapsed: RefCell<Duration>,
    cancelled: RefCell<Vec<Pid>>,
    standby: bool,
}

impl Host for FakeHost {
    fn activity(&self) -> Vec<ActivityRow> {
        (100..103)
            .map(|pid| ActivityRow {
                pid,
                usename: Some("postgres".to_owned()),
                datname: Some("postgres".to_owned()),
                application_name: "test".to_owned(),
                client_addr: Some("127.0.0.1:4000".parse().unwrap()),
                backend_start: Duration::ZERO,
                xact_start: None,
                query_start: None,
                state_change: None,
                wait_event_type: None,
                wait_event: None,
                state: Some(super::super::event::BackendState::Idle),
                backend_xid: None,
                query: "".into(),
                backend_type: "client backend",
            })
            .collect()
    }
    fn terminate(&self, _pid: Pid) -> bool {
        true
    }
    fn cancel(&self, pid: Pid) -> bool {
        self.cancelled.borrow_mut().push(pid);
        true
    }
    fn now_us(&self) -> i64 {
        846_000_000_000_000 + i64::try_from(self.elapsed.borrow().as_micros()).unwrap()
    }
    fn elapsed(&self) -> Duration {
        *self.elapsed.borrow()
    }
    fn postmaster_start(&self) -> Duration {
        Duration::ZERO
    }
    fn in_recovery(&self) -> bool {
        self.standby
    }
}

/// What became of a query so far.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Now {
    /// It waits for a lock.
    Waits,
    /// Its lines: rows, notices, tags, or an error; the last is the transaction status.
    Done(Vec<String>),
}

/// A query under way.
struct Running {
    statements: Vec<Arc<Statement>>,
    at: usize,
    exec: Option<Execution>,
    lines: Vec<String>,
}

/// A cluster with sessions by number.
struct Lab {
    engine: Engine,
    host: FakeHost,
    sessions: BTreeMap<usize, Session>,
    running: BTreeMap<usize, Running>,
}

fn status_letter(status: TransactionStatus) -> &'static str {
    match status {
        TransactionStatus::Idle => "I",
        TransactionStatus::InTransaction => "T",
        TransactionStatus::Failed => "E",
    }
}

fn error_line(error: &PgError) -> String {
    let mut line = format!("{} {}: {}", error.severity.as_str(), error.code, error.message);
    if let Some(detail) = &error.detail {
        line.push_str(&format!(" | {detail}"));
    }
    if let Some(hint) = &error.hint {
        line.push_str(&format!(" | hint: {hint}"));
    }
    if let Some(position) = error.position {
        line.push_str(&format!(" @{position}"));
    }
    line.replace('\n', "\\n")
}

impl Lab {
    fn new() -> Lab {
        let role = |name: &str, superuser| RoleOptions { name: name.to_owned(), superuser, connection_limit: -1 };
        let options = EngineOptions {
            version: "15.18".to_owned(),
            databases: vec![("postgres".to_owned(), -1)],
            roles: vec![role("postgres", true), role("app", false)],
            costs: vec![StatementCost {
                like: "%/* slow */%".to_owned(),
                takes: Duration::from_millis(20),
                per_row: Duration::from_millis(1),
            }],
            seed: 1,
            settings: Vec::new(),
        };
        Lab {
            engine: Engine::new(options).unwrap(),
            host: FakeHost::default(),
            sessions: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    fn open(&mut self, number: usize) -> &mut Session {
        let engine = &mut self.engine;
        self.sessions.entry(number).or_insert_with(|| {
            engine
                .open_session(SessionOptions {
                    pid: 100 + Pid::try_from(number).unwrap(),
                    user: "postgres".to_owned(),
                    database: "postgres".to_owned(),
                    settings: vec![("application_name".to_owned(), "test".to_owned())],
                })
                .unwrap()
        })
    }

    /// A simple query; returns when it is complete or waits.
    fn send(&mut self, number: usize, sql: &str) -> Now {
        self.open(number);
        let mut running = Running { statements: Vec::new(), at: 0, exec: None, lines: Vec::new() };
        match self.engine.parse(sql) {
            Ok(script) => running.statements = script.statements.clone(),
            Err(error) => {
                let session = self.sessions.get_mut(&number).unwrap();
                self.engine.statement_begin(&self.host, session, Framing::Single);
                self.engine.abort(session);
                running.lines.push(error_line(&error));
            }
        }
        self.running.insert(number, running);
        self.go_on(number)
    }

    /// Goes on with a query whose lock was granted.
    fn go_on(&mut self, number: usize) -> Now {
        let mut running = self.running.remove(&number).unwrap();
        let session = self.sessions.get_mut(&number).unwrap();
        let multi = running.statements.len() > 1;
        while running.at < running.statements.len() {
            let statement = running.statements[running.at].clone();
            if running.exec.is_none() {
                let framing = if multi { Framing::Multi } else { Framing::Single };
                self.engine.statement_begin(&self.host, session, framing);
                running.exec = Some(self.engine.start(session, &statement, &[], Vec::new()));
            }
            match self.engine.step(&self.host, session, running.exec.as_mut().unwrap()) {
                Ok(Step::Wait) => {
                    self.running.insert(number, running);
                    return Now::Waits;
                }
                Ok(Step::Sleep(time)) => *self.host.elapsed.borrow_mut() += time,
                Ok(Step::Done(output)) => {
                    for notice in &output.notices {
                        running.lines.push(error_line(notice));
                    }
                    if let Some(rows) = output.rows.filter(|rows| output.fails.is_none() || !rows.rows.is_empty()) {
                        let head: Vec<String> = rows
                            .columns
                            .iter()
                            .map(|column| format!("{}:{}", column.name, column.kind.internal_name()))
                            .collect();
                        running.lines.push(format!("({})", head.join(", ")));
                        for row in rows.rows {
                            let cells: Vec<String> = row
                                .iter()
                                .zip(rows.columns.iter())
                                .map(
                                    |(value, column)| {
                                        if value.is_null() { "NULL".to_owned() } else { value.to_text(column.kind) }
                                    },
                                )
                                .collect();
                            running.lines.push(format!(": {}", cells.join("|").replace('\n', "\\n")));
                        }
                    }
                    if let Some(error) = output.fails {
                        running.lines.push(error_line(&error));
                        self.engine.abort(session);
                        break;
                    }
                    running.lines.push(output.tag.to_string());
                    running.exec = None;
                    running.at += 1;
                    if statement.is_transaction_control() || running.at == running.statements.len() {
                        self.engine.commit_implicit(&self.host, session).unwrap();
                    }
                }
                Err(error) => {
                    running.lines.push(error_line(&error));
                    self.engine.abort(session);
                    break;
                }
            }
        }
        running.lines.push(status_letter(session.status()).to_owned());
        Now::Done(running.lines)
    }

    /// As [`Lab::send`]; it must not wait. Without the status.
    fn run(&mut self, number: usize, sql: &str) -> Vec<String> {
        match self.send(number, sql) {
            Now::Done(mut lines) => {
                lines.pop();
                lines
            }
            Now::Waits => panic!("{sql} waits"),
        }
    }

    /// Takes up everybody whose lock was granted; gives what became of them, in order.
    fn settle(&mut self) -> Vec<(usize, Now)> {
        let mut out = Vec::new();
        loop {
            let granted = self.engine.take_granted();
            if granted.is_empty() {
                return out;
            }
            for pid in granted {
                let number = usize::try_from(pid - 100).unwrap();
                if self.running.contains_key(&number) {
                    let now = self.go_on(number);
                    out.push((number, now));
                }
            }
        }
    }

    /// The cells of a one-column query.
    fn cells(&mut self, number: usize, sql: &str) -> Vec<String> {
        let mut lines = self.run(number, sql);
        lines.pop();
        lines.remove(0);
        lines.into_iter().map(|line| line[2..].to_owned()).collect()
    }
}
