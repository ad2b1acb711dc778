//! Where a situation is played: the simulated world, what was seen there, and the steps that are not the pool's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof::pool::connector::{Connection, identify};
use poolproof::pool::{Caller, Connector};
use poolproof::scenario;
use poolproof::trace::Recorder;
use poolproof::world::sim::{HostDialer, LateObserver, PORT};
use poolproof::world::{SimWorld, World as _};
use poolproof_sim::net::{FlowFilter, PortMode};
use poolproof_sim::postgres::config::StopMode;
use poolproof_sim::postgres::event::Pid;
use serde_json::{Value, json};

/// What a step may take until all that follows from it has happened: some round trips of 2 ms.
pub(crate) const SETTLE: Duration = Duration::from_millis(30);

const WORLD: &str = r#"
title = "A situation"
story = "A situation of a pool."
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

/// A situation's world.
pub(crate) struct Stage {
    world: Arc<SimWorld>,
    connector: Connector,
    seen: Seen,
    /// Not the pool's: it locks the table.
    other_session: Option<Connection>,
}

/// Labels of connections, and events: what a listener keeps.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    labels: BTreeMap<Pid, String>,
    events: Vec<String>,
}

impl Seen {
    /// Notes an event of a connection. A connection that is new is called by its number.
    pub(crate) fn tell(&self, event: &str, connection: Option<Pid>) {
        if let Some(pid) = connection {
            let notes = &mut *self.0.lock();
            let label = format!("c{}", notes.labels.len() + 1);
            notes.labels.entry(pid).or_insert(label);
        }
        let told = format!("{event} {}", self.label(connection));
        self.0.lock().events.push(told);
    }

    /// A connection's name.
    pub(crate) fn label(&self, connection: Option<Pid>) -> String {
        connection.map_or_else(|| "none".to_owned(), |pid| self.0.lock().labels[&pid].clone())
    }

    fn pid(&self, label: &str) -> Pid {
        *self.0.lock().labels.iter().find(|(_, known)| *known == label).unwrap().0
    }
}

/// A step, and the thread that it names.
pub(crate) fn words(text: &str) -> (Vec<&str>, Option<Caller>) {
    let (text, thread) = match text.rsplit_once(" in ") {
        Some((rest, "main")) => (rest, Some(Caller::MAIN)),
        Some((rest, thread)) if thread.starts_with('t') => (rest, Some(Caller(thread[1..].parse().unwrap()))),
        _ => (text, None),
    };
    (text.splitn(3, ' ').collect(), thread)
}

impl Stage {
    pub(crate) async fn start() -> Stage {
        let scenario = Arc::new(scenario::parse("a situation", WORLD).unwrap());
        let world = SimWorld::new(&scenario, 1, Arc::new(LateObserver::<Recorder>::default())).unwrap();
        world.ready().await;
        let host = world.host("app", 0);
        let dialer = Arc::new(HostDialer::new(host, &world, Arc::new(AtomicBool::new(true))));
        let recorder = Recorder::keeping();
        let pool = recorder.next_pool();
        let connector = Connector::new(world.driver_config("app", "app"), dialer, recorder, pool);
        Stage { world, connector, seen: Seen::default(), other_session: None }
    }

    pub(crate) fn connector(&self) -> Connector {
        self.connector.clone()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// What a step showed, as a record tells it.
    pub(crate) fn told(&self, step: &str, outcome: &Value, status: &Value) -> Value {
        let backends = self.backends();
        let events = std::mem::take(&mut self.seen.0.lock().events);
        json!({ "step": step, "outcome": outcome, "status": status, "events": events, "backends": backends })
    }

    /// Label and state of each backend of the pool's, by label.
    fn backends(&self) -> Vec<String> {
        let other = self.other_session.as_ref().map(|session| identify(&session.client));
        let notes = self.seen.0.lock();
        let backends = self.world.primary.server.backends();
        let mut backends: Vec<(String, &str)> = backends
            .iter()
            .filter(|backend| Some(backend.pid) != other)
            .map(|backend| {
                let label = notes.labels.get(&backend.pid).cloned().unwrap_or_else(|| "unknown".to_owned());
                (label, backend.state.as_str())
            })
            .collect();
        backends.sort_by_key(|(label, _)| (label.len(), label.clone()));
        backends.iter().map(|(label, state)| format!("{label} {state}")).collect()
    }

    /// Does a step that is not the pool's. `pid` is that of the connection that a `terminate` names by its checkout.
    pub(crate) async fn perform(&mut self, words: &[&str], pid: Option<Pid>) {
        match *words {
            ["terminate", name] => {
                let pid = pid.unwrap_or_else(|| self.seen.pid(name));
                assert!(self.world.primary.server.terminate(pid), "there is no backend of {name}");
            }
            ["lock"] => {
                let session = self.connector.connect().await.unwrap();
                session.client.batch_execute("BEGIN; LOCK TABLE account").await.unwrap();
                self.other_session = Some(session);
            }
            ["unlock"] => {
                // Its backend is one of the pool's to whoever looks, until it is gone.
                self.other_session.as_ref().unwrap().client.batch_execute("ROLLBACK").await.unwrap();
            }
            ["limit", limit] => {
                let limit: i64 = limit.parse().unwrap();
                self.world.primary.server.limit_role("app", u32::try_from(limit).ok());
            }
            ["stop"] => self.stop().await,
            ["start"] => self.start_server().await,
            ["restart"] => {
                self.stop().await;
                self.start_server().await;
            }
            ["silence"] => self.port(PortMode::AcceptSilence),
            ["speak"] => {
                self.port(PortMode::Open);
                // Nothing but what was held is open in a situation that falls silent.
                self.world.net.reset_flows(&FlowFilter::all());
            }
            ["sleep", seconds] => tokio::time::sleep(Duration::from_secs_f64(seconds.parse().unwrap())).await,
            _ => panic!("`{}` is no step", words.join(" ")),
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

/// libpq's text for a failed connect; the driver here has others.
pub(crate) fn libpq_text(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}:  {}", error.severity(), error.message());
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "Connection refused".to_owned(),
        _ => "server closed the connection unexpectedly".to_owned(),
    }
}
