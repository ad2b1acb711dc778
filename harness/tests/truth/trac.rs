//! Does a situation's steps with the models of Trac's pools, in virtual time, and tells what each step shows, as the recorder
//! does with the real ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use poolproof::pool::Caller;
use poolproof::pool::sqlalchemy::DbapiError;
use poolproof::pool::trac::{CloseError, Config, ConnectionPool, Error, PooledConnection, Trac};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::stage::{SETTLE, Stage, libpq_text, words};

/// Does the steps; each is told as the records tell it.
pub(crate) async fn drive(which: Trac, config: Config, steps: &[String]) -> Vec<Value> {
    let stage = Stage::start().await;
    let seen = stage.seen();
    let config = Config { listener: Some(Arc::new(move |what, pid| seen.tell(what, Some(pid)))), ..config };
    let timeout = config.timeout.filter(|_| which == Trac::Of2006);
    let pool = ConnectionPool::new(which, config, stage.connector());
    let mut driver = Driver {
        stage,
        which,
        pool,
        timeout,
        taken: BTreeMap::new(),
        owners: BTreeMap::new(),
        pending: BTreeMap::new(),
        lost: Vec::new(),
        threads: 1000,
    };
    let mut told = Vec::new();
    for step in steps {
        told.push(driver.step(step).await);
    }
    told
}

struct Driver {
    stage: Stage,
    which: Trac,
    pool: ConnectionPool,
    timeout: Option<Duration>,
    taken: BTreeMap<String, PooledConnection>,
    owners: BTreeMap<String, Caller>,
    pending: BTreeMap<String, Pending>,
    lost: Vec<PooledConnection>,
    threads: u32,
}

/// A checkout in a thread of its own.
struct Pending {
    task: JoinHandle<(Result<PooledConnection, Error>, Duration)>,
    waits: bool,
}

impl Driver {
    async fn step(&mut self, text: &str) -> Value {
        let outcome = self.perform(text).await;
        tokio::time::sleep(SETTLE).await;
        let status = self.pool.status();
        let status = match self.which {
            Trac::Today => json!({ "active": status.in_use, "pooled": status.idle, "waiting": status.waiting }),
            Trac::Of2006 => json!({
                "active": status.in_use,
                "dormant": status.idle,
                "size": status.size,
                "waiting": status.waiting,
            }),
        };
        self.stage.told(text, &outcome, &status)
    }

    async fn perform(&mut self, text: &str) -> Value {
        let (words, thread) = words(text);
        // Only a model with a mistake gets here: its checkout has failed.
        if let ["checkin" | "sql" | "ask" | "commit" | "drop" | "lose", name, ..] = words[..]
            && !self.taken.contains_key(name)
        {
            return json!({ "error": format!("nothing is checked out as {name}") });
        }
        match words[..] {
            ["checkout", name] => {
                let thread = thread.unwrap_or(Caller::MAIN);
                self.owners.insert(name.to_owned(), thread);
                let (result, took) = thread.scope(checkout(self.pool.clone())).await;
                self.checked_out(name, result, took, false)
            }
            ["waiting" | "dialling", "checkout", name] => {
                self.threads += 1;
                self.begin_checkout(name, Caller(self.threads), words[0] == "waiting").await
            }
            ["begin", "checkout", name] => self.begin_checkout(name, thread.unwrap_or(Caller::MAIN), false).await,
            ["join", name] => {
                let Pending { task, waits } = self.pending.remove(name).unwrap();
                let (result, took) = task.await.unwrap();
                self.checked_out(name, result, took, waits)
            }
            ["checkin", name] => {
                let caller = self.caller(name, thread);
                close_outcome(caller.scope(self.taken.get_mut(name).unwrap().close()).await)
            }
            ["sql", name, statement] => {
                let told = self.execute(name, thread, statement).await;
                if told.is_object() { told } else { Value::Null }
            }
            ["ask", name, statement] => self.execute(name, thread, statement).await,
            ["commit", name] => statement_outcome(self.taken[name].commit().await.map(|()| None)),
            ["drop", name] => {
                let _calls = self.caller(name, thread).enter();
                self.taken.remove(name);
                Value::Null
            }
            ["lose", name] => {
                self.lost.extend(self.taken.remove(name));
                Value::Null
            }
            ["collect"] => {
                let _calls = thread.unwrap_or(Caller::MAIN).enter();
                self.lost.clear();
                Value::Null
            }
            ["shutdown"] => {
                self.pool.shutdown().await;
                Value::Null
            }
            _ => {
                let pid = words.get(1).and_then(|name| self.taken.get(*name)).and_then(PooledConnection::pid);
                self.stage.perform(&words, pid).await;
                Value::Null
            }
        }
    }

    /// Who does a step: the thread that it names, else the one that checked the connection out.
    fn caller(&self, name: &str, thread: Option<Caller>) -> Caller {
        thread.or_else(|| self.owners.get(name).copied()).unwrap_or(Caller::MAIN)
    }

    async fn begin_checkout(&mut self, name: &str, thread: Caller, waits: bool) -> Value {
        let before = self.pool.waiting();
        self.owners.insert(name.to_owned(), thread);
        let task = tokio::spawn(thread.scope(checkout(self.pool.clone())));
        tokio::time::sleep(SETTLE).await;
        self.pending.insert(name.to_owned(), Pending { task, waits });
        if (self.pool.waiting() > before) == waits {
            Value::Null
        } else {
            json!({ "error": format!("waiting for a return: {}", !waits) })
        }
    }

    fn checked_out(
        &mut self,
        name: &str,
        result: Result<PooledConnection, Error>,
        took: Duration,
        waited: bool,
    ) -> Value {
        let taken = match result {
            Ok(taken) => taken,
            Err(error) => return connect_error(&error),
        };
        let label = self.stage.seen().label(taken.pid());
        self.taken.insert(name.to_owned(), taken);
        if self.timeout.is_some_and(|timeout| took >= timeout) {
            json!({ "got": label, "waited": "timeout" })
        } else if waited {
            json!({ "got": label, "waited": "part" })
        } else {
            json!(label)
        }
    }

    async fn execute(&mut self, name: &str, thread: Option<Caller>, statement: &str) -> Value {
        let caller = self.caller(name, thread);
        statement_outcome(caller.scope(self.taken[name].execute(statement)).await)
    }
}

async fn checkout(pool: ConnectionPool) -> (Result<PooledConnection, Error>, Duration) {
    let began = Instant::now();
    let result = pool.get_cnx().await;
    (result, began.elapsed())
}

fn statement_outcome(result: Result<Option<String>, DbapiError>) -> Value {
    match result {
        Ok(value) => json!(value),
        Err(error) => statement_error(&error),
    }
}

fn statement_error(error: &DbapiError) -> Value {
    match error {
        DbapiError::Driver(driver) if !error.is_disconnect() => {
            let error = driver.as_db_error().unwrap();
            json!({ "error": error.code().code(), "text": error.message() })
        }
        _ => json!({ "error": "disconnect" }),
    }
}

fn close_outcome(result: Result<(), CloseError>) -> Value {
    match result {
        Ok(()) => Value::Null,
        Err(CloseError::Assertion) => json!({ "error": "AssertionError" }),
        Err(CloseError::Driver(error)) => statement_error(&error),
    }
}

/// As Trac and psycopg2 would say it. How many seconds it took is no part of a record.
fn connect_error(error: &Error) -> Value {
    let (class, text) = match error {
        Error::Timeout { message, .. } => {
            let (before, rest) = message.split_once("within ").unwrap();
            let (_, after) = rest.split_once(" seconds").unwrap();
            ("TimeoutError", format!("{before}within … seconds{after}"))
        }
        Error::Connect(error) => ("OperationalError", libpq_text(error)),
    };
    json!({ "error": class, "text": text })
}
