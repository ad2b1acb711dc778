//! Does a situation's steps with the model, in virtual time, and tells what each step shows, as the recorder does with the
//! real library.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof::pool::sqlalchemy::{Config, DbapiError, Engine, Error, Fairy, Flaw, Listener};
use poolproof::pool::{Caller, Connector};
use poolproof::scenario;
use poolproof::trace::Recorder;
use poolproof::world::SimWorld;
use poolproof::world::sim::{HostDialer, LateObserver, PORT};
use poolproof_sim::net::{FlowFilter, PortMode};
use poolproof_sim::postgres::config::StopMode;
use poolproof_sim::postgres::event::Pid;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::situation::Situation;

/// What a step may take until all that follows from it has happened: some round trips of 2 ms.
const SETTLE: Duration = Duration::from_millis(30);

const WORLD: &str = r#"
title = "A situation"
story = "A situation of SQLAlchemy's pools."
[server]
sql = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
INSERT INTO account VALUES (1, 100), (2, 100), (3, 100);
"""
[app.app]
[workload.nothing]
app = "app"
arrive = { at = ["1s"] }
steps = ["hold 1s"]
[expect]
until = "2s"
"#;

/// Drives a situation; each step is told as the records tell it.
pub(crate) fn drive(situation: &Situation, flaw: Option<Flaw>) -> Vec<Value> {
    let (config, steps) = (situation.config(), situation.steps.clone());
    let name = situation.name.clone();
    poolproof_sim::runtime::run(1, async move || {
        let mut driver = Driver::start(config, flaw).await;
        let mut told = Vec::new();
        for step in steps {
            told.push(driver.step(&step).await);
        }
        told
    })
    .unwrap_or_else(|failure| panic!("{name}: {failure}"))
}

/// Labels and events, as the listener keeps them.
#[derive(Default)]
struct Seen {
    labels: BTreeMap<Pid, String>,
    events: Vec<String>,
}

impl Seen {
    fn label(&self, pid: Option<Pid>) -> String {
        pid.map_or_else(|| "none".to_owned(), |pid| self.labels[&pid].clone())
    }
}

struct Driver {
    world: Arc<SimWorld>,
    engine: Arc<Engine>,
    config: Config,
    seen: Arc<Mutex<Seen>>,
    fairies: BTreeMap<String, Arc<Fairy>>,
    owners: BTreeMap<String, Caller>,
    pending: BTreeMap<String, Pending>,
    lost: Vec<Arc<Fairy>>,
    threads: u32,
}

/// A checkout in a thread of its own.
struct Pending {
    task: JoinHandle<(Result<Arc<Fairy>, Error>, Duration)>,
    waits: bool,
}

impl Driver {
    async fn start(config: Config, flaw: Option<Flaw>) -> Driver {
        let scenario = Arc::new(scenario::parse("a situation", WORLD).unwrap());
        let world = SimWorld::new(&scenario, 1, Arc::new(LateObserver::<Recorder>::default())).unwrap();
        world.ready().await;
        let host = world.host("app", 0);
        let dialer = Arc::new(HostDialer::new(host, &world, Arc::new(AtomicBool::new(true))));
        let recorder = Recorder::keeping();
        let pool = recorder.next_pool();
        let connector = Connector::new(world.driver_config("app", "app"), dialer, recorder, pool);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let listener: Listener = {
            let seen = Arc::clone(&seen);
            Arc::new(move |event| {
                let mut seen = seen.lock();
                if let Some(pid) = event.connection {
                    let label = format!("c{}", seen.labels.len() + 1);
                    seen.labels.entry(pid).or_insert(label);
                }
                let told = format!("{} {}", event.kind.as_str(), seen.label(event.connection));
                seen.events.push(told);
            })
        };
        let engine = Arc::new(Engine::flawed(config.clone(), connector, Some(listener), flaw));
        Driver {
            world,
            engine,
            config,
            seen,
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
        let backends = self.backends();
        let events = std::mem::take(&mut self.seen.lock().events);
        json!({ "step": text, "outcome": outcome, "status": status, "events": events, "backends": backends })
    }

    /// Label and state of each backend, by label.
    fn backends(&self) -> Vec<String> {
        let seen = self.seen.lock();
        let mut backends: Vec<(String, &str)> = self
            .world
            .primary
            .server
            .backends()
            .iter()
            .map(|backend| {
                let label = seen.labels.get(&backend.pid).cloned().unwrap_or_else(|| "unknown".to_owned());
                (label, backend.state.as_str())
            })
            .collect();
        backends.sort_by_key(|(label, _)| (label.len(), label.clone()));
        backends.iter().map(|(label, state)| format!("{label} {state}")).collect()
    }

    async fn perform(&mut self, text: &str) -> Value {
        let (text, thread) = match text.rsplit_once(" in ") {
            Some((rest, "main")) => (rest, Some(Caller::MAIN)),
            Some((rest, thread)) if thread.starts_with('t') => (rest, Some(Caller(thread[1..].parse().unwrap()))),
            _ => (text, None),
        };
        let words: Vec<&str> = text.splitn(3, ' ').collect();
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
                let _calls = self.caller(name, thread).enter();
                self.fairies[name].invalidate(false);
                Value::Null
            }
            ["soft", "invalidate", name] => {
                self.fairies[name].invalidate(true);
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
                self.engine.dispose(true);
                Value::Null
            }
            ["dispose", "without", "closing"] => {
                self.engine.dispose(false);
                Value::Null
            }
            ["terminate", name] => {
                let pid = match self.fairies.get(name) {
                    Some(fairy) => fairy.pid().unwrap(),
                    None => *self.seen.lock().labels.iter().find(|(_, label)| *label == name).unwrap().0,
                };
                assert!(self.world.primary.server.terminate(pid), "there is no backend of {name}");
                Value::Null
            }
            ["limit", limit] => {
                let limit: i64 = limit.parse().unwrap();
                self.world.primary.server.limit_role("app", u32::try_from(limit).ok());
                Value::Null
            }
            ["stop"] => {
                self.stop().await;
                Value::Null
            }
            ["start"] => {
                self.start_server().await;
                Value::Null
            }
            ["restart"] => {
                self.stop().await;
                self.start_server().await;
                Value::Null
            }
            ["silence"] => {
                self.port(PortMode::AcceptSilence);
                Value::Null
            }
            ["speak"] => {
                self.port(PortMode::Open);
                // Nothing but what was held is open in a situation that falls silent.
                self.world.net.reset_flows(&FlowFilter::all());
                Value::Null
            }
            ["sleep", seconds] => {
                tokio::time::sleep(Duration::from_secs_f64(seconds.parse().unwrap())).await;
                Value::Null
            }
            _ => panic!("`{text}` is no step"),
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
        let (engine, before) = (Arc::clone(&self.engine), self.engine.waiting());
        self.threads += 1;
        let thread = Caller(self.threads);
        let task = tokio::spawn(thread.scope(async move {
            let began = Instant::now();
            let result = engine.connect().await;
            (result, began.elapsed())
        }));
        tokio::time::sleep(SETTLE).await;
        self.pending.insert(name.to_owned(), Pending { task, waits });
        if (self.engine.waiting() > before) == waits {
            Value::Null
        } else {
            json!({ "error": format!("waiting in the queue: {}", !waits) })
        }
    }

    async fn join(&mut self, name: &str) -> Value {
        let Pending { task, waits } = self.pending.remove(name).unwrap();
        let (result, took) = task.await.unwrap();
        self.checked_out(name, result, took, waits)
    }

    fn checked_out(&mut self, name: &str, result: Result<Arc<Fairy>, Error>, took: Duration, waited: bool) -> Value {
        let fairy = match result {
            Ok(fairy) => fairy,
            Err(error) => return connect_error(&error),
        };
        let label = self.seen.lock().label(fairy.pid());
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

    async fn stop(&self) {
        self.world.primary.server.stop(StopMode::Fast).await;
    }

    async fn start_server(&self) {
        self.world.primary.start().expect("it was stopped");
        self.world.ready().await;
    }

    fn port(&self, mode: PortMode) {
        self.world.net.set_port_mode(&self.world.primary.host(), PORT, mode);
    }
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

/// libpq's text for a failed connect; the driver here has others.
fn libpq_text(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}:  {}", error.severity(), error.message());
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "Connection refused".to_owned(),
        _ => "server closed the connection unexpectedly".to_owned(),
    }
}
