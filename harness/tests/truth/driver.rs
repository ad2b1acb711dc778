//! Does a situation's steps with the model of SQLAlchemy, in virtual time, and tells what each step shows, as the recorder does
//! with the real library.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use poolproof::pool::Caller;
use poolproof::pool::sqlalchemy::{Config, DbapiError, Engine, Error, Fairy, Flaw, Listener};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::stage::{SETTLE, Stage, libpq_text, words};

/// Does the steps; each is told as the records tell it.
pub(crate) async fn drive(config: Config, steps: &[String], flaw: Option<Flaw>) -> Vec<Value> {
    let mut driver = Driver::start(config, flaw).await;
    let mut told = Vec::new();
    for step in steps {
        told.push(driver.step(step).await);
    }
    told
}

struct Driver {
    stage: Stage,
    engine: Arc<Engine>,
    config: Config,
    fairies: BTreeMap<String, Arc<Fairy>>,
    owners: BTreeMap<String, Caller>,
    pending: BTreeMap<String, Pending>,
    lost: Vec<Arc<Fairy>>,
    threads: u32,
}

/// A step in a thread of its own.
struct Pending {
    task: JoinHandle<Ended>,
    waits: bool,
}

/// What came of it.
enum Ended {
    Checkout(Result<Arc<Fairy>, Error>, Duration),
    Statement(Result<Option<String>, DbapiError>),
    Nothing,
}

impl Driver {
    async fn start(config: Config, flaw: Option<Flaw>) -> Driver {
        let stage = Stage::start().await;
        let seen = stage.seen();
        let listener: Listener = Arc::new(move |event| seen.tell(event.kind.as_str(), event.connection));
        let engine = Arc::new(Engine::flawed(config.clone(), stage.connector(), Some(listener), flaw));
        Driver {
            stage,
            engine,
            config,
            fairies: BTreeMap::new(),
            owners: BTreeMap::new(),
            pending: BTreeMap::new(),
            lost: Vec::new(),
            threads: 1000,
        }
    }

    async fn step(&mut self, text: &str) -> Value {
        let outcome = self.perform(text).await;
        tokio::time::sleep(SETTLE).await;
        let status = self.engine.counters().map(|counters| {
            json!({
                "size": counters.size,
                "checkedin": counters.checked_in,
                "checkedout": counters.checked_out,
                "overflow": counters.overflow,
            })
        });
        self.stage.told(text, &outcome, &json!(status))
    }

    async fn perform(&mut self, text: &str) -> Value {
        let (words, thread) = words(text);
        // Only a model with a mistake gets here: its checkout has failed.
        if let ["checkin" | "sql" | "ask" | "commit" | "rollback" | "invalidate" | "detach" | "drop" | "lose", name, ..]
        | ["soft", "invalidate", name] = words[..]
            && !self.fairies.contains_key(name)
        {
            return json!({ "error": format!("nothing is checked out as {name}") });
        }
        match words[..] {
            ["checkout", name] => self.checkout(name, thread.unwrap_or(Caller::MAIN)).await,
            ["waiting", "checkout", name] => self.begin_checkout(name, true).await,
            ["dialling", "checkout", name] => self.begin_checkout(name, false).await,
            ["join", name] => self.join(name).await,
            ["begin", what, rest] => {
                self.begin(what, rest, thread).await;
                Value::Null
            }
            ["checkin", name] => {
                let fairy = Arc::clone(&self.fairies[name]);
                self.caller(name, thread).scope(fairy.close()).await;
                Value::Null
            }
            ["sql", name, statement] => {
                let told = self.execute(name, thread, statement).await;
                if told.is_object() { told } else { Value::Null }
            }
            ["ask", name, statement] => self.execute(name, thread, statement).await,
            ["commit", name] => {
                let result = self.fairies[name].commit().await;
                self.statement_outcome(name, result.map(|()| None))
            }
            ["rollback", name] => {
                let result = self.fairies[name].rollback().await;
                self.statement_outcome(name, result.map(|()| None))
            }
            ["invalidate", name] => {
                let fairy = Arc::clone(&self.fairies[name]);
                self.caller(name, thread).scope(fairy.invalidate()).await;
                Value::Null
            }
            ["soft", "invalidate", name] => {
                self.fairies[name].soft_invalidate();
                Value::Null
            }
            ["detach", name] => {
                let _calls = self.caller(name, thread).enter();
                self.fairies[name].detach();
                Value::Null
            }
            ["drop", name] => {
                let _calls = self.caller(name, thread).enter();
                self.fairies.remove(name).unwrap();
                Value::Null
            }
            ["lose", name] => {
                self.lost.push(self.fairies.remove(name).unwrap());
                Value::Null
            }
            ["collect"] => {
                // What a lost fairy refers to is reachable until its callback has run.
                self.engine.collect();
                self.lost.clear();
                Value::Null
            }
            ["dispose"] => {
                self.engine.dispose(true).await;
                Value::Null
            }
            ["dispose", "without", "closing"] => {
                self.engine.dispose(false).await;
                Value::Null
            }
            _ => {
                let pid = words.get(1).and_then(|name| self.fairies.get(*name)).map(|fairy| fairy.pid().unwrap());
                self.stage.perform(&words, pid).await;
                Value::Null
            }
        }
    }

    /// Who does a step: the thread that it names, else the one that checked the connection out.
    fn caller(&self, name: &str, thread: Option<Caller>) -> Caller {
        thread.or_else(|| self.owners.get(name).copied()).unwrap_or(Caller::MAIN)
    }

    async fn checkout(&mut self, name: &str, thread: Caller) -> Value {
        self.owners.insert(name.to_owned(), thread);
        let began = Instant::now();
        let result = thread.scope(self.engine.connect()).await;
        self.checked_out(name, result, began.elapsed(), false)
    }

    async fn begin_checkout(&mut self, name: &str, waits: bool) -> Value {
        let before = self.engine.waiting();
        self.threads += 1;
        self.spawn(name, waits, Caller(self.threads), checkout(Arc::clone(&self.engine)));
        tokio::time::sleep(SETTLE).await;
        if (self.engine.waiting() > before) == waits {
            Value::Null
        } else {
            json!({ "error": format!("waiting in the queue: {}", !waits) })
        }
    }

    /// Does a step in the thread that would do it, which blocks; `join` tells what came of it.
    async fn begin(&mut self, what: &str, rest: &str, thread: Option<Caller>) {
        let (name, statement) = rest.split_once(' ').unwrap_or((rest, ""));
        let fairy = self.fairies.get(name).cloned();
        let caller = self.caller(name, thread);
        let (engine, statement) = (Arc::clone(&self.engine), statement.to_owned());
        match (what, fairy) {
            ("checkout", _) => {
                self.owners.insert(name.to_owned(), caller);
                self.spawn(name, false, caller, checkout(engine));
            }
            ("dispose", _) => self.spawn(name, false, caller, async move {
                engine.dispose(true).await;
                Ended::Nothing
            }),
            ("sql", Some(fairy)) => self.spawn(name, false, caller, async move {
                Ended::Statement(fairy.execute(&statement).await.map(|_| None))
            }),
            ("checkin", Some(fairy)) => self.spawn(name, false, caller, async move {
                fairy.close().await;
                Ended::Nothing
            }),
            ("invalidate", Some(fairy)) => self.spawn(name, false, caller, async move {
                fairy.invalidate().await;
                Ended::Nothing
            }),
            _ => panic!("`begin {what} {rest}` is no step"),
        }
    }

    fn spawn(&mut self, name: &str, waits: bool, caller: Caller, step: impl Future<Output = Ended> + Send + 'static) {
        let task = tokio::spawn(caller.scope(step));
        self.pending.insert(name.to_owned(), Pending { task, waits });
    }

    async fn join(&mut self, name: &str) -> Value {
        let Pending { task, waits } = self.pending.remove(name).unwrap();
        match task.await.unwrap() {
            Ended::Checkout(result, took) => self.checked_out(name, result, took, waits),
            Ended::Statement(result) => {
                let _calls = self.caller(name, None).enter();
                self.statement_outcome(name, result)
            }
            Ended::Nothing => Value::Null,
        }
    }

    fn checked_out(&mut self, name: &str, result: Result<Arc<Fairy>, Error>, took: Duration, waited: bool) -> Value {
        let fairy = match result {
            Ok(fairy) => fairy,
            Err(error) => return connect_error(&error),
        };
        let label = self.stage.seen().label(fairy.pid());
        self.fairies.insert(name.to_owned(), fairy);
        if self.config.timeout.is_some_and(|timeout| took >= timeout && !timeout.is_zero()) {
            json!({ "got": label, "waited": "timeout" })
        } else if waited {
            json!({ "got": label, "waited": "part" })
        } else {
            json!(label)
        }
    }

    async fn execute(&mut self, name: &str, thread: Option<Caller>, statement: &str) -> Value {
        let fairy = Arc::clone(&self.fairies[name]);
        let result = self.caller(name, thread).scope(fairy.execute(statement)).await;
        let _calls = self.caller(name, thread).enter();
        self.statement_outcome(name, result)
    }

    fn statement_outcome(&self, name: &str, result: Result<Option<String>, DbapiError>) -> Value {
        match result {
            Ok(value) => json!(value),
            Err(error) if error.is_disconnect() => {
                self.engine.disconnected(&self.fairies[name]);
                json!({ "error": "disconnect" })
            }
            Err(DbapiError::Driver(error)) => {
                let error = error.as_db_error().unwrap();
                json!({ "error": error.code().code(), "text": error.message() })
            }
            Err(error) => json!({ "error": "ProgrammingError", "text": error.to_string() }),
        }
    }
}

async fn checkout(engine: Arc<Engine>) -> Ended {
    let began = Instant::now();
    let result = engine.connect().await;
    Ended::Checkout(result, began.elapsed())
}

/// As psycopg2 would say it.
fn connect_error(error: &Error) -> Value {
    let (class, text) = match error {
        Error::Timeout { .. } => ("TimeoutError", error.to_string()),
        Error::Connect(error) => ("OperationalError", libpq_text(error)),
        Error::Ping(DbapiError::InsideTransaction) => ("ProgrammingError", error.to_string()),
        Error::Ping(_) => ("OperationalError", error.to_string()),
        Error::Exhausted => ("InvalidRequestError", error.to_string()),
    };
    json!({ "error": class, "text": text })
}
