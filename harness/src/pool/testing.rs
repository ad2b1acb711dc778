//! A tiny PostgreSQL over `tokio::io::duplex`, enough to test adapters and the reference pool by themselves: startup,
//! simple queries, transaction state, one kind of session state (`SET`), and switches to misbehave. The real simulated
//! server has the fidelity; this one has every backend's state in plain sight.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use poolproof_sim::postgres::event::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio_postgres::Config;

use super::connector::{Dialer, Dialling, Socket};
use super::{Adapter, Connector, Lease, Pool};
use crate::scenario::model::PoolSettings;
use crate::trace::event::PoolId;
use crate::trace::{Recorder, What};

/// What a dial meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Door {
    /// A session after `dial_takes`.
    #[default]
    Open,
    /// Connection refused, after `dial_takes`.
    Refused,
    /// The dial never ends.
    Lost,
    /// The stream opens, and nobody answers.
    Silent,
    /// The startup is answered with FATAL 53300.
    Full,
}

/// A backend as the test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    /// `I`, `T` or `E`.
    pub(crate) transaction: char,
    /// Whether `SET` was used since the last `DISCARD ALL`.
    pub(crate) dirty: bool,
}

#[derive(Default)]
struct State {
    door: Door,
    dial_takes: Duration,
    last_pid: Pid,
    backends: BTreeMap<Pid, Backend>,
    kills: BTreeMap<Pid, Arc<Notify>>,
    /// Backends that no longer answer.
    mute: bool,
    peak: usize,
    statements: Vec<String>,
}

/// The server, and the trace of those who dial it.
#[derive(Clone)]
pub(crate) struct TestServer {
    state: Arc<Mutex<State>>,
    recorder: Recorder,
}

impl TestServer {
    pub(crate) fn new() -> Self {
        let state = State { dial_takes: Duration::from_millis(2), last_pid: 100, ..State::default() };
        TestServer { state: Arc::new(Mutex::new(state)), recorder: Recorder::keeping() }
    }

    pub(crate) fn connector(&self) -> Connector {
        self.connector_with(|_| ())
    }

    pub(crate) fn connector_with(&self, change: impl FnOnce(&mut Config)) -> Connector {
        let mut config = Config::new();
        config.user("app").dbname("app");
        change(&mut config);
        Connector::new(config, Arc::new(self.clone()), self.recorder.clone(), PoolId(1))
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(crate) fn set_door(&self, door: Door) {
        self.state.lock().door = door;
    }

    pub(crate) fn set_mute(&self, mute: bool) {
        self.state.lock().mute = mute;
    }

    pub(crate) fn set_dial_takes(&self, dial_takes: Duration) {
        self.state.lock().dial_takes = dial_takes;
    }

    /// All backends alive, by pid.
    pub(crate) fn backends(&self) -> BTreeMap<Pid, Backend> {
        self.state.lock().backends.clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.state.lock().backends.len()
    }

    /// Most backends at any time.
    pub(crate) fn peak(&self) -> usize {
        self.state.lock().peak
    }

    /// Every statement that arrived, in order.
    pub(crate) fn statements(&self) -> Vec<String> {
        self.state.lock().statements.clone()
    }

    /// FATAL 57P01 and the end, for one backend.
    pub(crate) fn kill(&self, pid: Pid) {
        if let Some(kill) = self.state.lock().kills.get(&pid) {
            kill.notify_one();
        }
    }

    pub(crate) fn kill_all(&self) {
        for kill in self.state.lock().kills.values() {
            kill.notify_one();
        }
    }

    /// The trace so far.
    pub(crate) fn events(&self) -> Vec<What> {
        self.recorder.events().into_iter().map(|event| event.what).collect()
    }

    /// How many dials have begun.
    pub(crate) fn dials(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, What::Dial { .. })).count()
    }

    async fn serve(self, pid: Pid, mut io: DuplexStream) -> io::Result<()> {
        let kill = Arc::clone(&self.state.lock().kills[&pid]);
        let mut input = BytesMut::new();
        let mut output = BytesMut::new();
        let mut started = false;
        loop {
            while let Some(message) = take(&mut input, started) {
                if !started {
                    started = true;
                    put(&mut output, b'R', |o| o.put_i32(0));
                    put(&mut output, b'K', |o| {
                        o.put_i32(pid);
                        o.put_i32(7);
                    });
                    put(&mut output, b'Z', |o| o.put_u8(b'I'));
                    continue;
                }
                match message {
                    (b'Q', body) => {
                        let text = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                        if let Some(pause) = text.strip_prefix("SLEEP ") {
                            tokio::time::sleep(Duration::from_millis(pause.parse().unwrap())).await;
                        }
                        self.simple_query(pid, text, &mut output);
                    }
                    (b'S', _) => {
                        let status = self.state.lock().backends[&pid].transaction as u8;
                        put(&mut output, b'Z', |o| o.put_u8(status));
                    }
                    (b'X', _) => return Ok(()),
                    (other, _) => return Err(io::Error::other(format!("message {other}"))),
                }
            }
            if self.state.lock().mute {
                output.clear();
                std::future::pending::<()>().await;
            }
            io.write_all(&output).await?;
            output.clear();
            tokio::select! {
                read = io.read_buf(&mut input) => if read? == 0 { return Ok(()) },
                () = kill.notified() => {
                    error(&mut output, "FATAL", "57P01", "terminating connection due to administrator command");
                    io.write_all(&output).await?;
                    return Ok(());
                }
            }
        }
    }

    fn simple_query(&self, pid: Pid, text: String, output: &mut BytesMut) {
        let mut state = self.state.lock();
        let backend = state.backends.get_mut(&pid).expect("a backend that serves is listed");
        match (text.as_str(), backend.transaction) {
            ("", _) => put(output, b'I', |_| ()),
            ("ROLLBACK" | "COMMIT", _) => {
                backend.transaction = 'I';
                complete(output, &text);
            }
            ("FAIL", _) => {
                if backend.transaction == 'T' {
                    backend.transaction = 'E';
                }
                error(output, "ERROR", "22012", "division by zero");
            }
            (_, 'E') => error(output, "ERROR", "25P02", "current transaction is aborted"),
            ("BEGIN", _) => {
                backend.transaction = 'T';
                complete(output, "BEGIN");
            }
            ("DISCARD ALL", 'I') => {
                backend.dirty = false;
                complete(output, "DISCARD ALL");
            }
            ("DISCARD ALL", _) => error(output, "ERROR", "25001", "DISCARD ALL cannot run inside a transaction block"),
            (text, _) => {
                if text.starts_with("SET ") {
                    backend.dirty = true;
                }
                if text.contains("RESET ALL") {
                    backend.dirty = false;
                }
                complete(output, "OK");
            }
        }
        let status = backend.transaction as u8;
        put(output, b'Z', |o| o.put_u8(status));
        state.statements.push(text);
    }
}

impl Dialer for TestServer {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async move {
            let (takes, door) = {
                let state = self.state.lock();
                (state.dial_takes, state.door)
            };
            if door == Door::Lost {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(takes).await;
            if door == Door::Refused {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
            let server = self.clone();
            tokio::spawn(async move {
                match door {
                    Door::Silent => {
                        let mut sink = Vec::new();
                        let _ = theirs.read_to_end(&mut sink).await;
                    }
                    Door::Full => {
                        let mut output = BytesMut::new();
                        error(&mut output, "FATAL", "53300", "sorry, too many clients already");
                        let _ = theirs.write_all(&output).await;
                    }
                    Door::Open | Door::Refused | Door::Lost => {
                        let pid = server.fork();
                        let _ = server.clone().serve(pid, theirs).await;
                        server.gone(pid);
                    }
                }
            });
            Ok(Box::new(ours) as Box<dyn Socket>)
        })
    }
}

impl TestServer {
    fn fork(&self) -> Pid {
        let mut state = self.state.lock();
        state.last_pid += 1;
        let pid = state.last_pid;
        state.backends.insert(pid, Backend { transaction: 'I', dirty: false });
        state.kills.insert(pid, Arc::new(Notify::new()));
        state.peak = state.peak.max(state.backends.len());
        pid
    }

    fn gone(&self, pid: Pid) {
        let mut state = self.state.lock();
        state.backends.remove(&pid);
        state.kills.remove(&pid);
    }
}

/// A small pool: two connections, five seconds for an acquire.
pub(crate) fn settings() -> PoolSettings {
    PoolSettings { max_size: 2, acquire_timeout: Some(Duration::from_secs(5)), ..PoolSettings::default() }
}

/// Builds a pool over the server.
pub(crate) async fn build(adapter: &dyn Adapter, server: &TestServer, settings: &PoolSettings) -> Arc<dyn Pool> {
    adapter.build(settings, server.connector()).await.unwrap()
}

/// Runs a statement on a lease.
pub(crate) async fn sql(lease: &mut Box<dyn Lease>, text: &str) -> Result<(), tokio_postgres::Error> {
    lease.client().simple_query(text).await.map(|_| ())
}

/// Lets every task run until nothing more can without time passing, and a little time pass.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn take(input: &mut BytesMut, started: bool) -> Option<(u8, BytesMut)> {
    let header = usize::from(started);
    if input.len() < header + 4 {
        return None;
    }
    let len = (&input[header..header + 4]).get_u32() as usize;
    if input.len() < header + len {
        return None;
    }
    let kind = if started { input.get_u8() } else { 0 };
    input.advance(4);
    Some((kind, input.split_to(len - 4)))
}

fn put(output: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    output.put_u8(kind);
    let at = output.len();
    output.put_i32(0);
    body(output);
    let len = u32::try_from(output.len() - at).unwrap();
    output[at..at + 4].copy_from_slice(&len.to_be_bytes());
}

fn complete(output: &mut BytesMut, tag: &str) {
    put(output, b'C', |o| {
        o.put_slice(tag.as_bytes());
        o.put_u8(0);
    });
}

fn error(output: &mut BytesMut, severity: &str, code: &str, message: &str) {
    put(output, b'E', |o| {
        for (field, value) in [(b'S', severity), (b'C', code), (b'M', message)] {
            o.put_u8(field);
            o.put_slice(value.as_bytes());
            o.put_u8(0);
        }
        o.put_u8(0);
    });
}
