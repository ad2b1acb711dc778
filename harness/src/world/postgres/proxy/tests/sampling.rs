//! What samples and the log tell, beside what the tap tells. The server is a script.

use super::*;
use crate::world::postgres::proxy::sampler::{Asks, Sampler};
use async_trait::async_trait;
use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{BackendState, Gone};

/// Answers what it is told to.
#[derive(Default)]
struct Script {
    rows: Mutex<Vec<Vec<Option<String>>>>,
    /// Happens between question and answer.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[async_trait]
impl Asks for Script {
    async fn query(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
        assert_eq!(sql, super::super::sampler::ACTIVITY);
        let rows = self.rows.lock().clone();
        let meanwhile = self.meanwhile.lock().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
            // Time for the proxy to carry what was sent.
            tokio::time::sleep(ms(100)).await;
        }
        Ok(rows)
    }
}

impl Script {
    fn answer(&self, state: &str, waits: Option<(&str, &str)>) {
        let text = |text: &str| Some(text.to_owned());
        let wait = waits.map(|_| "Lock".to_owned());
        let (by, on) = (waits.and_then(|waits| text(waits.0)), waits.and_then(|waits| text(waits.1)));
        *self.rows.lock() = vec![vec![text("7"), text(state), wait, by, on]];
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

/// A session of backend 7, idle; the server is played by the test.
struct Case {
    proxy: Proxy,
    told: Arc<Events>,
    script: Arc<Script>,
    sampler: Sampler,
    app: SeatStream,
    server: TcpStream,
}

impl Case {
    async fn new() -> Case {
        let listening = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let told = Arc::new(Events::default());
        let proxy = proxy(Arc::clone(&told) as Arc<dyn Observer>, listening.local_addr().expect("bound"));
        // A RST is not held back.
        proxy.set_checks_clients("primary", true);
        let mut app = proxy.seat("web-1").dial("db", &SocketOptions::default()).await.expect("it connects");
        let (mut server, _) = listening.accept().await.expect("accepted");
        carry(&mut app, &mut server, b"\0\0\0\x0e\0\x03\0\0user\0\0").await;
        let greeting = [message(b'R', &[0; 4]), message(b'K', &[0, 0, 0, 7, 0, 0, 0, 1]), message(b'Z', b"I")].concat();
        carry(&mut server, &mut app, &greeting).await;
        let script = Arc::new(Script::default());
        let sampler = Sampler::new(&proxy, "primary", Arc::clone(&script) as Arc<dyn Asks>);
        let mut case = Case { proxy, told, script, sampler, app, server };
        assert_eq!(case.new_events().len(), 2, "forked, idle");
        case
    }

    fn new_events(&mut self) -> Vec<ServerEvent> {
        std::mem::take(&mut self.told.0.lock())
    }

    async fn sample(&mut self) -> Vec<ServerEvent> {
        self.sampler.sample().await.expect("it answers");
        self.new_events()
    }

    async fn query(&mut self) {
        carry(&mut self.app, &mut self.server, &message(b'Q', b"UPDATE t SET n = 1\0")).await;
        assert_eq!(self.new_events().len(), 2, "active, a statement");
    }

    async fn finish(&mut self) {
        let done = [message(b'C', b"UPDATE 1\0"), message(b'Z', b"I")].concat();
        carry(&mut self.server, &mut self.app, &done).await;
    }
}

const ON: &str = "ShareLock on transaction 731";

fn blocked() -> ServerEvent {
    ServerEvent::Blocked { pid: 7, by: vec![8, 9], on: ON.to_owned() }
}

#[tokio::test]
async fn a_wait_for_a_lock_is_told_once_and_ends() {
    let mut case = Case::new().await;
    case.query().await;
    case.script.answer("active", Some(("9,8,9", ON)));
    assert_eq!(case.sample().await, [blocked()]);
    assert_eq!(case.sample().await, []);
    case.script.answer("active", None);
    assert_eq!(case.sample().await, [ServerEvent::Unblocked { pid: 7 }]);
    case.script.answer("active", Some(("9,8", ON)));
    assert_eq!(case.sample().await, [blocked()]);
    case.finish().await;
    let events = case.new_events();
    let [unblocked, committed, end, idle] = events.as_slice() else { panic!("{events:?}") };
    let expected = (&ServerEvent::Unblocked { pid: 7 }, &ServerEvent::Committed { pid: 7, xid: 0 });
    assert_eq!((unblocked, committed), expected);
    assert!(matches!((end, idle), (ServerEvent::StatementEnd { result: Ok(_), .. }, ServerEvent::State { .. })));
}

#[tokio::test]
async fn a_sample_that_is_older_than_the_taps_news_counts_for_nothing() {
    let mut case = Case::new().await;
    case.query().await;
    case.script.answer("active", Some(("8", ON)));
    let server = case.server;
    let std = server.into_std().expect("std");
    let late = std.try_clone().expect("cloned");
    case.server = TcpStream::from_std(std).expect("back");
    *case.script.meanwhile.lock() = Some(Box::new(move || {
        let done = [message(b'C', b"UPDATE 1\0"), message(b'Z', b"I")].concat();
        std::io::Write::write_all(&mut &late, &done).expect("it takes bytes");
    }));
    let events = case.sample().await;
    assert!(!events.contains(&blocked()), "{events:?}");
    assert_eq!(events.len(), 3, "committed, the statement's end, idle");
    // Idle, whatever a confused sample says.
    assert_eq!(case.sample().await, []);
}

#[tokio::test]
async fn a_backend_that_outlives_its_socket_is_followed_by_samples() {
    let mut case = Case::new().await;
    case.query().await;
    case.proxy.reset_flows(None, None);
    until("the flow is gone", || case.proxy.flows() == 0).await;
    assert_eq!(case.new_events(), [], "it is busy, and does not know yet");
    case.script.answer("active", None);
    assert_eq!(case.sample().await, []);
    assert_eq!(case.proxy.session(7).map(|report| report.state), Some(BackendState::Active));
    case.script.rows.lock().clear();
    let events = case.sample().await;
    let reset = Gone::SocketError(io::ErrorKind::ConnectionReset);
    assert_eq!(events.last(), Some(&ServerEvent::Gone { pid: 7, reason: reset }));
    assert_eq!(case.proxy.session(7), None);
}

#[tokio::test]
async fn a_backend_that_ended_in_silence_is_missed_twice() {
    let mut case = Case::new().await;
    case.proxy.forget_flows(None, None);
    assert_eq!(case.sample().await, [], "its end may be on its way");
    assert_eq!(case.sample().await, [ServerEvent::Gone { pid: 7, reason: Gone::Killed }]);
}

#[tokio::test]
async fn the_log_knows_reasons_and_waits() {
    let mut case = Case::new().await;
    case.query().await;
    case.proxy.log_line(&format!(
        r#"{{"pid":7,"error_severity":"LOG","backend_type":"client backend","message":"process 7 still waiting for {ON} after 1000.1 ms","detail":"Processes holding the lock: 9, 8. Wait queue: 7."}}"#
    ));
    assert_eq!(case.new_events(), [blocked()]);
    case.proxy.log_line(
        r#"{"pid":7,"error_severity":"FATAL","state_code":"57P01","backend_type":"client backend","message":"terminating"}"#,
    );
    // Its last words are lost.
    case.server.shutdown().await.expect("closed");
    until("it is told", || case.told.0.lock().iter().any(|event| matches!(event, ServerEvent::Gone { .. }))).await;
    let events = case.new_events();
    assert_eq!(events.last(), Some(&ServerEvent::Gone { pid: 7, reason: Gone::Fatal(SqlState::ADMIN_SHUTDOWN) }));
}

#[tokio::test]
async fn with_its_last_word_a_session_is_over() {
    let mut case = Case::new().await;
    case.query().await;
    assert_eq!(case.proxy.session(7).map(|session| session.state), Some(BackendState::Active));
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    carry(&mut case.server, &mut case.app, &fatal).await;
    assert_eq!(case.proxy.session(7), None, "its process has yet to exit, but no statement runs on it");
    let ended = ServerEvent::StatementEnd { pid: 7, result: Err(SqlState::ADMIN_SHUTDOWN) };
    assert_eq!(case.new_events(), [ended], "the end of the process is told when it comes");
}

#[tokio::test]
async fn the_end_of_a_backend_without_power_is_seen_behind_its_last_answer() {
    let mut case = Case::new().await;
    case.query().await;
    case.proxy.set_powered("primary", false);
    let done = [message(b'C', b"UPDATE 1\0"), message(b'Z', b"I")].concat();
    case.server.write_all(&done).await.expect("it takes bytes");
    tokio::time::sleep(ms(100)).await;
    case.server.shutdown().await.expect("closed");
    let told = Arc::clone(&case.told);
    until("its end", || told.0.lock().iter().any(|event| matches!(event, ServerEvent::Gone { pid: 7, .. }))).await;
}
