//! What the tap tells is what the simulated server tells of the same session.
//!
//! The differences are those that [`super::super::tap`] names: a pid is known only from BackendKeyData on, and `xid` never.

use super::*;
use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{BackendState, Gone, Pid, SessionReport};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0);";

/// What can be compared of the server's own events: without the forks of startups that are refused, and transaction ids.
fn comparable(events: &[ServerEvent]) -> Vec<ServerEvent> {
    let refused = |pid: Pid| {
        events.iter().any(|event| matches!(event, ServerEvent::Refused { pid: Some(refused), .. } if *refused == pid))
    };
    let kept = events.iter().filter(|event| match event {
        ServerEvent::Lifecycle(_) => false,
        ServerEvent::Forked { pid, .. } => !refused(*pid),
        _ => true,
    });
    kept.map(|event| match event.clone() {
        ServerEvent::Committed { pid, .. } => ServerEvent::Committed { pid, xid: 0 },
        ServerEvent::RolledBack { pid, .. } => ServerEvent::RolledBack { pid, xid: 0 },
        ServerEvent::Refused { peer, code, .. } => ServerEvent::Refused { pid: None, peer, code },
        other => other,
    })
    .collect()
}

fn of_pid(event: &ServerEvent) -> Option<Pid> {
    match event {
        ServerEvent::Forked { pid, .. }
        | ServerEvent::State { pid, .. }
        | ServerEvent::Statement { pid, .. }
        | ServerEvent::StatementEnd { pid, .. }
        | ServerEvent::Blocked { pid, .. }
        | ServerEvent::Unblocked { pid }
        | ServerEvent::Committed { pid, .. }
        | ServerEvent::RolledBack { pid, .. }
        | ServerEvent::Gone { pid, .. } => Some(*pid),
        _ => None,
    }
}

impl Postgres {
    pub(super) async fn client(&self) -> (Client, tokio::task::JoinHandle<()>) {
        self.try_client("app").await.expect("it connects")
    }

    async fn try_client(&self, user: &str) -> Result<(Client, tokio::task::JoinHandle<()>), tokio_postgres::Error> {
        let stream = self.proxy.seat("web-1").dial("db", &SocketOptions::default()).await.expect("it connects");
        let mut config = tokio_postgres::Config::new();
        config.user(user).dbname("app").application_name("test");
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok((client, driver))
    }

    /// The pid of the only session.
    pub(super) fn pid(&self) -> Pid {
        self.tapped.0.lock().iter().rev().find_map(of_pid).expect("there is a session")
    }

    /// Waits until both have told that the backends are gone, and compares all that was told.
    pub(super) async fn agree(&self) -> Vec<ServerEvent> {
        let over = |events: &Events| {
            let events = events.0.lock();
            let count = |kind: fn(&ServerEvent) -> bool| events.iter().filter(|event| kind(event)).count();
            let forked = count(|event| matches!(event, ServerEvent::Forked { .. }));
            let refused = count(|event| matches!(event, ServerEvent::Refused { pid: Some(_), .. }));
            forked == count(|event| matches!(event, ServerEvent::Gone { .. })) + refused
        };
        until("every backend is gone", || over(&self.truth) && over(&self.tapped)).await;
        let (truth, tapped) = (comparable(&self.truth.0.lock()), self.tapped.0.lock().clone());
        let same = truth.iter().zip(&tapped).take_while(|(truth, tapped)| truth == tapped).count();
        let from = same.saturating_sub(5);
        assert_eq!(truth[from..], tapped[from..], "the server's own events, and the tap's, from event {from} on");
        tapped
    }

    /// What the server itself says of a session.
    pub(super) fn truth_of(&self, pid: Pid) -> SessionReport {
        sorted(self.server.session_report(pid).expect("it lives"))
    }

    /// What the proxy says of it.
    pub(super) fn tapped_of(&self, pid: Pid) -> SessionReport {
        sorted(self.proxy.session(pid).expect("it is known"))
    }

    /// Compares the two.
    fn agree_on(&self, pid: Pid) -> SessionReport {
        let tapped = self.tapped_of(pid);
        assert_eq!(self.truth_of(pid), tapped, "the server's own report, and the tap's");
        tapped
    }
}

/// The order of settings tells nothing.
fn sorted(mut report: SessionReport) -> SessionReport {
    report.settings.sort();
    report
}

#[tokio::test]
async fn statements_and_transactions() {
    let pg = Postgres::start(TABLE).await;
    let (mut client, driver) = pg.client().await;
    client.simple_query("SELECT 1").await.expect("simple");
    client.simple_query("").await.expect("empty");
    client
        .simple_query("UPDATE t SET n = 1 WHERE id = 1; SELECT 2; DELETE FROM t WHERE id = 9")
        .await
        .expect("several");
    client.simple_query("UPDATE t SET n = 1 WHERE id = 9").await.expect("nothing written");
    client.execute("UPDATE t SET n = n + $1 WHERE id = 2", &[&1i32]).await.expect("extended");
    client.query("SELECT * FROM t", &[]).await.expect("rows");
    client.simple_query("SELEC").await.expect_err("no SQL");
    client.query("SELECT nothing FROM t", &[]).await.expect_err("no such column");
    client.simple_query("SELECT 1; SELECT 1 / 0; SELECT 3").await.expect_err("the second fails");
    client.execute("SELECT 1 / (n - n) FROM t", &[]).await.expect_err("division by zero");
    let transaction = client.transaction().await.expect("begin");
    transaction.execute("INSERT INTO t VALUES (3, 0)", &[]).await.expect("written");
    transaction.commit().await.expect("commit");
    let transaction = client.transaction().await.expect("begin");
    transaction.execute("INSERT INTO t VALUES (4, 0)", &[]).await.expect("written");
    transaction.execute("INSERT INTO t VALUES (4, 0)", &[]).await.expect_err("a duplicate");
    transaction.query("SELECT 1", &[]).await.expect_err("the transaction is aborted");
    transaction.rollback().await.expect("rollback");
    client.batch_execute("BEGIN; INSERT INTO t VALUES (5, 0); SAVEPOINT s").await.expect("a savepoint");
    client.batch_execute("INSERT INTO t VALUES (5, 0)").await.expect_err("a duplicate");
    client.batch_execute("ROLLBACK TO s").await.expect("back");
    client.batch_execute("COMMIT").await.expect("commit");
    client.batch_execute("BEGIN; INSERT INTO t VALUES (6, 0); ROLLBACK").await.expect("rolled back");
    drop(client);
    driver.await.expect("it ends");
    let events = pg.agree().await;
    let count = |kind: fn(&ServerEvent) -> bool| events.iter().filter(|event| kind(event)).count();
    assert_eq!(count(|event| matches!(event, ServerEvent::Committed { .. })), 4);
    assert_eq!(count(|event| matches!(event, ServerEvent::RolledBack { .. })), 2);
    assert!(matches!(events.last(), Some(ServerEvent::Gone { reason: Gone::Terminate, .. })), "{events:?}");
}

#[tokio::test]
async fn a_pipeline_is_told_in_the_servers_order() {
    let pg = Postgres::start(TABLE).await;
    let (client, driver) = pg.client().await;
    let update = client.prepare("UPDATE t SET n = n + 1 WHERE id = $1").await.expect("prepared");
    let wrong = client.prepare("SELECT 1 / (id - id) FROM t").await.expect("prepared");
    let (one, failed, two, simple) = tokio::join!(
        client.execute(&update, &[&1i32]),
        client.execute(&wrong, &[]),
        client.execute(&update, &[&2i32]),
        client.simple_query("SELECT 7"),
    );
    assert_eq!((one.ok(), failed.is_err(), two.ok()), (Some(1), true, Some(1)));
    assert!(matches!(simple.expect("simple").as_slice(), [.., SimpleQueryMessage::CommandComplete(1)]));
    drop((client, update, wrong));
    driver.await.expect("it ends");
    pg.agree().await;
}

#[tokio::test]
async fn what_a_session_leaves_behind() {
    let pg = Postgres::start(TABLE).await;
    let (client, _driver) = pg.client().await;
    let pid = pg.pid();
    pg.agree_on(pid);
    for (sql, left) in [
        ("SET work_mem = '64MB'", "work_mem"),
        ("SET TimeZone = 'UTC'", ""),
        ("SET application_name = 'else'", "application_name"),
        ("LISTEN jobs; LISTEN more", "more"),
        ("UNLISTEN more", ""),
        ("CREATE TEMP TABLE scratch (id int)", "scratch"),
        ("PREPARE q AS SELECT 1", "\"q\""),
        ("SELECT pg_advisory_lock(1); SELECT pg_try_advisory_lock(2)", "advisory_locks: 2"),
        ("SELECT pg_advisory_unlock(1)", "advisory_locks: 1"),
        ("BEGIN; SET statement_timeout = 5000; LISTEN other", "IdleInTransaction"),
        ("ROLLBACK", ""),
        ("BEGIN; SET LOCAL statement_timeout = 5000; DROP TABLE scratch; COMMIT", ""),
        ("RESET work_mem", ""),
        ("BEGIN; SAVEPOINT s; SET work_mem = '1MB'; ROLLBACK TO s; COMMIT", ""),
        ("DEALLOCATE q", ""),
        ("RESET ALL", "jobs"),
    ] {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let report = pg.agree_on(pid);
        assert!(format!("{report:?}").contains(left), "{sql}: {report:?}");
    }
    let prepared = client.prepare("SELECT n FROM t").await.expect("prepared");
    assert!(!pg.agree_on(pid).prepared.is_empty());
    client.batch_execute("DISCARD ALL").await.expect("clean");
    assert_eq!(pg.agree_on(pid).prepared, Vec::<String>::new());
    drop(prepared);
}

#[tokio::test]
async fn refused_startups() {
    let pg = Postgres::start(TABLE).await;
    let error = pg.try_client("nobody").await.map(drop).expect_err("no such role");
    assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some("28000"));
    until("it is told", || !pg.tapped.0.lock().is_empty()).await;
    let events = pg.agree().await;
    assert!(
        matches!(events.as_slice(), [ServerEvent::Refused { pid: None, code: SqlState("28000"), .. }]),
        "{events:?}"
    );
}

#[tokio::test]
async fn the_reasons_of_ends() {
    let pg = Postgres::start(TABLE).await;
    let last = |events: &[ServerEvent]| match events.last() {
        Some(ServerEvent::Gone { reason, .. }) => reason.clone(),
        other => panic!("{other:?}"),
    };
    // Without Terminate.
    let (_client, driver) = pg.client().await;
    driver.abort();
    assert_eq!(last(&pg.agree().await), Gone::ClientClosed);
    // By the administrator, in a transaction that wrote.
    let (client, _driver) = pg.client().await;
    client.batch_execute("BEGIN; UPDATE t SET n = 9").await.expect("written");
    pg.server.terminate(pg.pid());
    assert_eq!(last(&pg.agree().await), Gone::Fatal(SqlState::ADMIN_SHUTDOWN));
    // In a statement.
    let (client, _driver) = pg.client().await;
    let (slept, ()) = tokio::join!(client.batch_execute("SELECT pg_sleep(60)"), async {
        until("it sleeps", || pg.truth.0.lock().iter().any(is_sleep)).await;
        pg.server.terminate(pg.pid());
    });
    slept.expect_err("terminated");
    assert_eq!(last(&pg.agree().await), Gone::Fatal(SqlState::ADMIN_SHUTDOWN));
    // By the crash of another.
    let (one, _driver) = pg.client().await;
    let victim = pg.pid();
    let (two, _other) = pg.client().await;
    pg.server.kill_backend(victim);
    until("both are gone", || {
        let gone = pg.tapped.0.lock().iter().filter(|event| matches!(event, ServerEvent::Gone { .. })).count();
        gone == 5
    })
    .await;
    let told = pg.tapped.0.lock().clone();
    assert!(told.contains(&ServerEvent::Gone { pid: victim, reason: Gone::Killed }), "{told:?}");
    let crash = Gone::Crash(SqlState::CRASH_SHUTDOWN);
    assert!(told.iter().any(|event| matches!(event, ServerEvent::Gone { reason, .. } if *reason == crash)), "{told:?}");
    drop((one, two));
}

fn is_sleep(event: &ServerEvent) -> bool {
    matches!(event, ServerEvent::Statement { text, .. } if text.contains("pg_sleep"))
}

#[tokio::test]
async fn a_reset_ends_an_idle_backend() {
    let pg = Postgres::start(TABLE).await;
    let (_client, _driver) = pg.client().await;
    pg.proxy.reset_flows(None, None);
    let events = pg.agree().await;
    let reset = Gone::SocketError(io::ErrorKind::ConnectionReset);
    assert!(matches!(events.last(), Some(ServerEvent::Gone { reason, .. }) if *reason == reset), "{events:?}");
}

#[tokio::test]
async fn a_busy_backend_ends_its_statement_before_it_notices_a_reset() {
    let pg = Postgres::start(TABLE).await;
    let (client, _driver) = pg.client().await;
    let (broke, ()) = tokio::join!(client.batch_execute("UPDATE t SET n = 7; SELECT pg_sleep(1.5)"), async {
        until("it sleeps", || pg.truth.0.lock().iter().any(is_sleep)).await;
        pg.proxy.reset_flows(None, None);
    });
    assert!(broke.is_err_and(|error| error.is_closed() || std::error::Error::source(&error).is_some()));
    assert!(!pg.tapped.0.lock().iter().any(|event| matches!(event, ServerEvent::Gone { .. })), "the app knows first");
    let events = pg.agree().await;
    assert!(events.iter().any(|event| matches!(event, ServerEvent::Committed { .. })), "{events:?}");
}

#[tokio::test]
async fn an_event_is_told_before_the_app_can_know() {
    let pg = Postgres::start(TABLE).await;
    let (client, _driver) = pg.client().await;
    let pid = pg.pid();
    for n in 0..50 {
        client.execute("UPDATE t SET n = $1 WHERE id = 1", &[&n]).await.expect("written");
        let told = pg.tapped.0.lock().clone();
        let committed = told.iter().filter(|event| matches!(event, ServerEvent::Committed { .. })).count();
        assert_eq!(committed, usize::try_from(n).expect("small") + 1);
        assert_eq!(pg.proxy.session(pid).map(|report| report.state), Some(BackendState::Idle));
        assert_eq!(told.last(), Some(&ServerEvent::State { pid, state: BackendState::Idle }));
    }
}

#[tokio::test]
async fn a_statement_is_told_while_it_runs() {
    let pg = Postgres::start(TABLE).await;
    let (client, driver) = pg.client().await;
    let sleep = client.prepare("SELECT pg_sleep($1)").await.expect("prepared");
    let (slept, ()) = tokio::join!(client.execute(&sleep, &[&0.5f64]), async {
        until("it sleeps", || pg.truth.0.lock().iter().any(is_sleep)).await;
        assert!(pg.tapped.0.lock().iter().any(is_sleep), "the tap knows, too");
    });
    slept.expect("it ends");
    drop((client, sleep));
    driver.await.expect("it ends");
    pg.agree().await;
}

#[tokio::test]
async fn unread_bytes_are_counted() {
    let pg = Postgres::start("CREATE TABLE big (v text); INSERT INTO big VALUES ('0123456789')").await;
    let mut app = pg.proxy.seat("web-1").dial("db", &SocketOptions::default()).await.expect("it connects");
    let startup = b"\0\x03\0\0user\0app\0database\0app\0\0";
    let length = u32::try_from(startup.len() + 4).expect("short").to_be_bytes();
    app.write_all(&[&length[..], startup].concat()).await.expect("startup");
    until("it is idle", || {
        pg.tapped.0.lock().iter().any(|event| matches!(event, ServerEvent::State { state: BackendState::Idle, .. }))
    })
    .await;
    let pid = pg.pid();
    until("all has arrived", || pg.proxy.unread(pid) > 100).await;
    let mut greeting = vec![0; 4096];
    let mut read = 0;
    while pg.proxy.unread(pid) > 0 {
        read += app.read(&mut greeting).await.expect("it reads");
    }
    assert!(read > 100);
    app.write_all(b"Q\0\0\0\x18SELECT v FROM big  \0").await.expect("query");
    until("the answer is there", || pg.proxy.unread(pid) > 20).await;
    assert_eq!(app.read(&mut greeting[..5]).await.expect("it reads"), 5);
    assert!(pg.proxy.unread(pid) > 15);
}
