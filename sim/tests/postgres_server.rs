//! The server's life, its slots, and what ends waits and sessions. Every expectation was observed on PostgreSQL 15.18 over
//! TCP, unless it says so.
#![expect(clippy::unwrap_used, reason = "tests")]

mod postgres_client;

use std::time::Duration;

use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{Gone, Lifecycle, ServerEvent};
use poolproof_sim::postgres::{Auth, Config, Database, Role, Server, Standby, StopMode, Version};
use postgres_client::*;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SHUTDOWN: &str = "E FATAL 57P01 terminating connection due to administrator command";
const IMMEDIATE: &str = "N WARNING 57P01 terminating connection due to immediate shutdown command";
const TOO_MANY: &str = "E FATAL 53300 sorry, too many clients already";
const RESERVED: &str =
    "E FATAL 53300 remaining connection slots are reserved for non-replication superuser connections";
const CANCELLED: &str = "E ERROR 57014 canceling statement due to user request";
const STATEMENT_TIMEOUT: &str = "E ERROR 57014 canceling statement due to statement timeout";
const NOTHING: [&str; 0] = [];

fn role(name: &str, connection_limit: Option<u32>) -> Role {
    Role { name: name.to_owned(), superuser: false, connection_limit, password: Some("secret".to_owned()) }
}

fn small() -> Config {
    let mut config = quick();
    config.max_connections = 5;
    config.roles.push(role("one", Some(1)));
    config.databases.push(Database { name: "one".to_owned(), connection_limit: Some(1) });
    config
}

async fn refusal(server: &Server, user: &str, database: &str) -> Vec<String> {
    Raw::begin(server, &[("user", user), ("database", database)]).await.until_ready().await
}

#[tokio::test(start_paused = true)]
async fn slots_run_out_in_postgresqls_order() {
    let (server, events) = server(small()).await;
    let mut sessions = vec![Raw::connect_as(&server, "app").await, Raw::connect_as(&server, "app").await];
    assert_eq!(refusal(&server, "app", "postgres").await, ["R 0", RESERVED, "FIN"]);
    assert_eq!(refusal(&server, "app", "nodb").await, ["R 0", RESERVED, "FIN"]);
    assert_eq!(
        refusal(&server, "nobody", "nodb").await,
        ["R 0", "E FATAL 28000 role \"nobody\" does not exist", "FIN"]
    );
    let nodb = ["R 0", "E FATAL 3D000 database \"nodb\" does not exist", "FIN"];
    assert_eq!(refusal(&server, "postgres", "nodb").await, nodb);
    for _ in 0..3 {
        sessions.push(Raw::connect(&server).await);
    }
    assert_eq!(server.counts().backends, 5);
    events.take();
    assert_eq!(refusal(&server, "postgres", "nodb").await, [TOO_MANY, "FIN"]);
    let peer = "10.0.0.9:4000".parse().unwrap();
    let code = SqlState::TOO_MANY_CONNECTIONS;
    assert_eq!(events.take(), [ServerEvent::Refused { pid: None, peer, code }]);
    drop(sessions);
    settle().await;
    assert_eq!(server.counts().backends, 0);
}

#[tokio::test(start_paused = true)]
async fn a_superuser_takes_an_applications_slot() {
    let (server, _) = server(small()).await;
    let _observer = Raw::connect(&server).await;
    let _one = Raw::connect_as(&server, "app").await;
    assert_eq!(refusal(&server, "app", "postgres").await, ["R 0", RESERVED, "FIN"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_attempt_holds_a_slot_for_a_moment() {
    let (server, _) = server(Config { fork_time: 2 * MS, ..small() }).await;
    let _sessions = [Raw::connect_as(&server, "app").await, Raw::connect_as(&server, "app").await];
    let mut herd = Vec::new();
    for _ in 0..6 {
        herd.push(Raw::begin(&server, &[("user", "app"), ("database", "postgres")]).await);
    }
    let mut answers = Vec::new();
    for raw in &mut herd {
        answers.push(raw.until_ready().await.iter().rev().nth(1).unwrap().clone());
    }
    assert_eq!(answers.iter().filter(|answer| *answer == RESERVED).count(), 3);
    assert_eq!(answers.iter().filter(|answer| *answer == TOO_MANY).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn limits_of_roles_and_databases() {
    let (server, _) = server(Config { max_connections: 20, ..small() }).await;
    let _one = Raw::connect_as(&server, "one").await;
    let role = "E FATAL 53300 too many connections for role \"one\"";
    assert_eq!(refusal(&server, "one", "nodb").await, ["R 0", role, "FIN"]);
    let mut app = Raw::begin(&server, &[("user", "app"), ("database", "one")]).await;
    assert_eq!(app.until_ready().await.last().unwrap(), "Z I");
    let database = "E FATAL 53300 too many connections for database \"one\"";
    assert_eq!(refusal(&server, "app", "one").await, ["R 0", database, "FIN"]);
    assert_eq!(refusal(&server, "postgres", "one").await.last().unwrap(), "Z I");
}

/// From the documentation and source of PostgreSQL 16; not observed.
#[tokio::test(start_paused = true)]
async fn reserved_slots_of_version_16() {
    let config = Config { version: Version::V16, reserved_connections: 1, ..small() };
    let (server, _) = server(config).await;
    let _one = Raw::connect_as(&server, "app").await;
    let text = "E FATAL 53300 remaining connection slots are reserved for roles with privileges of the \
                \"pg_use_reserved_connections\" role";
    assert_eq!(refusal(&server, "app", "postgres").await, ["R 0", text, "FIN"]);
    let _two = Raw::connect(&server).await;
    let text = "E FATAL 53300 remaining connection slots are reserved for roles with the SUPERUSER attribute";
    assert_eq!(refusal(&server, "app", "postgres").await, ["R 0", text, "FIN"]);
}

#[tokio::test(start_paused = true)]
async fn a_fast_stop_ends_every_session_with_57p01() {
    let (server, events) = server(quick()).await;
    let mut idle = Raw::connect(&server).await;
    let mut active = Raw::connect(&server).await;
    active.send(&query("SELECT pg_sleep(10)")).await;
    let mut failed = Raw::connect(&server).await;
    failed.query("BEGIN; SELECT 1/0").await;
    let mut batch = Raw::connect(&server).await;
    batch.exchange(&[parse("a", "SELECT 1"), sync()]).await;
    batch.send(&[bind("", "a", &[], &[], &[]), flush()].concat()).await;
    assert_eq!(batch.within(MS).await, ["2"]);
    let mut holder = Raw::connect(&server).await;
    holder.query("BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    let mut waiter = Raw::connect(&server).await;
    waiter.send(&query("SELECT pg_advisory_xact_lock(1)")).await;
    let mut half = Raw::connect(&server).await;
    half.send(b"Q\0\0").await;
    let mut silent = Raw::dial(&server);
    settle().await;
    server.stop(StopMode::Fast).await;
    assert_eq!(server.lifecycle(), Lifecycle::Down);
    for raw in [&mut idle, &mut active, &mut failed, &mut batch, &mut holder, &mut waiter, &mut half] {
        let replies = raw.until_ready().await;
        assert_eq!(replies[replies.len() - 2..], [SHUTDOWN, "FIN"]);
    }
    assert_eq!(silent.until_ready().await, ["FIN"]);
    let events = events.take();
    assert_eq!(events.last(), Some(&ServerEvent::Lifecycle(Lifecycle::Down)));
    let gone =
        |event: &&ServerEvent| matches!(event, ServerEvent::Gone { reason: Gone::Fatal(SqlState::ADMIN_SHUTDOWN), .. });
    assert_eq!(events.iter().filter(gone).count(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_smart_stop_waits() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let down = tokio::spawn(server.stop(StopMode::Smart));
    settle().await;
    let refused = ["E FATAL 57P03 the database system is shutting down", "FIN"];
    assert_eq!(refusal(&server, "postgres", "postgres").await, refused);
    assert_eq!(raw.query("SELECT 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
    tokio::time::sleep(3600 * 1000 * MS).await;
    assert!(!down.is_finished());
    drop(raw);
    down.await.unwrap();
    assert_eq!(server.lifecycle(), Lifecycle::Down);
}

#[tokio::test(start_paused = true)]
async fn an_immediate_stop_sends_notices_and_the_next_start_recovers() {
    let config = Config { startup_time: 100 * MS, recovery_time: 400 * MS, ..quick() };
    let (server, _) = server(config).await;
    let mut idle = Raw::connect(&server).await;
    let mut active = Raw::connect(&server).await;
    active.send(&query("SELECT pg_sleep(10)")).await;
    settle().await;
    server.stop(StopMode::Immediate).await;
    for raw in [&mut idle, &mut active] {
        let replies = raw.until_ready().await;
        assert_eq!(replies[replies.len() - 2..], [IMMEDIATE, "FIN"]);
    }
    server.start();
    let started = Instant::now();
    assert_eq!(
        refusal(&server, "postgres", "postgres").await,
        ["E FATAL 57P03 the database system is starting up", "FIN"]
    );
    tokio::time::sleep(200 * MS).await;
    let recovering = "E FATAL 57P03 the database system is not yet accepting connections \
                      | D: Consistent recovery state has not been yet reached.";
    assert_eq!(refusal(&server, "postgres", "postgres").await, [recovering, "FIN"]);
    server.lifecycle_watch().wait_for(|now| *now == Lifecycle::Running).await.unwrap();
    assert_eq!(started.elapsed(), 500 * MS);
    Raw::connect(&server).await;
}

#[tokio::test(start_paused = true)]
async fn the_death_of_one_backend_ends_all() {
    let (server, events) = server(quick()).await;
    let mut writer = Raw::connect(&server).await;
    writer.query("CREATE TABLE t (a int)").await;
    writer.query("INSERT INTO t VALUES (1)").await;
    writer.query("BEGIN; INSERT INTO t VALUES (2)").await;
    let mut victim = Raw::connect(&server).await;
    let mut other = Raw::connect(&server).await;
    events.take();
    assert!(server.kill_backend(victim.pid));
    assert_eq!(refusal(&server, "postgres", "postgres").await[0][..12], *"E FATAL 57P0");
    assert_eq!(victim.until_ready().await, ["FIN"]);
    let notice = "N WARNING 57P02 terminating connection because of crash of another server process \
                  | D: The postmaster has commanded this server process to roll back the current transaction and \
                  exit, because another server process exited abnormally and possibly corrupted shared memory. \
                  | H: In a moment you should be able to reconnect to the database and repeat your command.";
    assert_eq!(other.until_ready().await, [notice, "FIN"]);
    assert_eq!(writer.until_ready().await, [notice, "FIN"]);
    server.lifecycle_watch().wait_for(|now| *now == Lifecycle::Running).await.unwrap();
    assert_eq!(server.query("SELECT count(*) FROM t").unwrap(), [[Some("1".to_owned())]]);
    let events = events.take();
    let killed = ServerEvent::Gone { pid: victim.pid, reason: Gone::Killed };
    let crashed = ServerEvent::Gone { pid: other.pid, reason: Gone::Crash(SqlState::CRASH_SHUTDOWN) };
    assert!(events.contains(&killed) && events.contains(&crashed), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn sigkill_and_power_loss_say_nothing() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&query("SELECT pg_sleep(10)")).await;
    settle().await;
    server.kill();
    assert_eq!(raw.until_ready().await, ["FIN"]);
    assert_eq!(server.lifecycle(), Lifecycle::Down);
    assert_eq!(Raw::begin(&server, &[("user", "postgres")]).await.until_ready().await, ["FIN"]);
}

#[tokio::test(start_paused = true)]
async fn pg_terminate_backend_in_any_state() {
    let (server, _) = server(quick()).await;
    let mut idle = Raw::connect(&server).await;
    let mut active = Raw::connect(&server).await;
    active.send(&query("SELECT pg_sleep(10)")).await;
    settle().await;
    assert!(server.terminate(idle.pid) && server.terminate(active.pid) && !server.terminate(99_999));
    for raw in [&mut idle, &mut active] {
        let replies = raw.until_ready().await;
        assert_eq!(replies[replies.len() - 2..], [SHUTDOWN, "FIN"]);
    }
    let mut own = Raw::connect(&server).await;
    assert_eq!(own.query("SELECT pg_terminate_backend(pg_backend_pid())").await[2..], [SHUTDOWN, "FIN"]);
}

/// Observed with `prlimit --as` set on a backend in a transaction: ERROR 53200, and 25P02 until the ROLLBACK.
#[tokio::test(start_paused = true)]
async fn a_backend_without_memory_fails_one_message_and_goes_on() {
    const NO_MEMORY: &str =
        "53200 out of memory | D: Failed on request of size 8192 in memory context \"MessageContext\".";
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let client = server.backends()[0].peer;
    raw.query("BEGIN").await;
    server.starve(client);
    assert_eq!(raw.query("SELECT 1").await, [format!("E ERROR {NO_MEMORY}").as_str(), "Z E"]);
    assert!(raw.query("SELECT 1").await[0].starts_with("E ERROR 25P02"));
    assert_eq!(raw.query("ROLLBACK").await, ["C ROLLBACK", "Z I"]);
    // All of the batch is skipped with the message that failed.
    server.starve(client);
    let batch = [parse("", "SELECT 1"), bind("", "", &[], &[], &[]), execute("", 0), sync()];
    assert_eq!(raw.exchange(&batch).await, [format!("E ERROR {NO_MEMORY}").as_str(), "Z I"]);
    assert_eq!(raw.query("SELECT 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
    // A startup has no session that could go on.
    drop(raw);
    settle().await;
    server.starve(client);
    let mut late = Raw::begin(&server, &[("user", "postgres")]).await;
    assert_eq!(late.until_ready().await, [format!("E FATAL {NO_MEMORY}").as_str(), "FIN"]);
    Raw::connect(&server).await;
}

async fn cancel(server: &Server, pid: i32, secret: i32) {
    let mut raw = Raw::dial(server);
    let body = [80_877_102_i32.to_be_bytes(), pid.to_be_bytes(), secret.to_be_bytes()].concat();
    raw.send(&packet(&body)).await;
    assert_eq!(raw.until_ready().await, ["FIN"]);
}

#[tokio::test(start_paused = true)]
async fn cancel_requests() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let (pid, secret) = (raw.pid, raw.secret);
    cancel(&server, pid, secret).await;
    assert_eq!(raw.query("SELECT 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
    raw.query("BEGIN").await;
    cancel(&server, pid, secret).await;
    raw.send(&query("SELECT pg_sleep(10)")).await;
    settle().await;
    cancel(&server, pid, secret.wrapping_add(1)).await;
    assert_eq!(raw.within(MS).await, NOTHING);
    cancel(&server, pid, secret).await;
    let replies = raw.until_ready().await;
    assert_eq!(replies[replies.len() - 2..], [CANCELLED, "Z E"]);
    raw.query("ROLLBACK").await;
    // Between the messages of a batch there is nothing to cancel either.
    raw.send(&[parse("", "SELECT 1"), flush()].concat()).await;
    assert_eq!(raw.within(MS).await, ["1"]);
    cancel(&server, pid, secret).await;
    let rest = [bind("", "", &[], &[], &[]), execute("", 0), sync()];
    assert_eq!(raw.exchange(&rest).await, ["2", "D 1", "C SELECT 1", "Z I"]);
    // A statement that cancels itself ends with its rows sent and no CommandComplete.
    assert_eq!(raw.query("SELECT pg_cancel_backend(pg_backend_pid()); SELECT 2").await[2..], [CANCELLED, "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn statement_timeout_counts_each_statement() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.query("SET statement_timeout = '200ms'").await;
    let began = Instant::now();
    let replies = raw.query("SELECT pg_sleep(5)").await;
    assert_eq!(replies[replies.len() - 2..], [STATEMENT_TIMEOUT, "Z I"]);
    assert_eq!(began.elapsed(), 200 * MS);
    assert_eq!(raw.query("SELECT pg_sleep(0.15); SELECT pg_sleep(0.15)").await.last().unwrap(), "Z I");
    let run = [bind("", "s", &[], &[], &[]), execute("", 0)].concat();
    let messages = [parse("s", "SELECT pg_sleep(0.15)"), run.clone(), run, sync()];
    assert!(!raw.exchange(&messages).await.iter().any(|reply| reply.starts_with("E ")));
    // It counts from Parse, but does not fire while the client is silent: the next message meets it.
    raw.send(&[parse("", "SELECT 1"), flush()].concat()).await;
    assert_eq!(raw.within(600 * MS).await, ["1"]);
    assert_eq!(raw.exchange(&[sync()]).await, [STATEMENT_TIMEOUT, "Z I"]);
    raw.send(&[parse("", "SELECT 1"), flush()].concat()).await;
    assert_eq!(raw.within(600 * MS).await, ["1"]);
    assert_eq!(raw.exchange(&[bind("", "", &[], &[], &[]), execute("", 0), sync()]).await, [STATEMENT_TIMEOUT, "Z I"]);
    let whole = [parse("", "SELECT 1"), bind("", "", &[], &[], &[]), execute("", 0), flush()].concat();
    raw.send(&whole).await;
    raw.within(600 * MS).await;
    assert_eq!(raw.exchange(&[sync()]).await, ["Z I"]);
}

#[tokio::test(start_paused = true)]
async fn idle_timeouts() {
    let (server, events) = server(quick()).await;
    let in_transaction = "E FATAL 25P03 terminating connection due to idle-in-transaction timeout";
    let session = "E FATAL 57P05 terminating connection due to idle-session timeout";
    for begin in ["BEGIN", "BEGIN; SELECT 1/0"] {
        let mut raw = Raw::connect(&server).await;
        raw.query("SET idle_in_transaction_session_timeout = '200ms'").await;
        assert_eq!(raw.within(1000 * MS).await, NOTHING);
        raw.query(begin).await;
        let began = Instant::now();
        assert_eq!(raw.until_ready().await, [in_transaction, "FIN"]);
        assert_eq!(began.elapsed(), 200 * MS);
    }
    let mut raw = Raw::connect(&server).await;
    raw.query("SET idle_session_timeout = '200ms'").await;
    raw.send(b"Q\0\0").await; // half a message is no message
    assert_eq!(raw.until_ready().await, [session, "FIN"]);
    let pid = raw.pid;
    let gone = ServerEvent::Gone { pid, reason: Gone::Fatal(SqlState::IDLE_SESSION_TIMEOUT) };
    assert_eq!(events.take().last(), Some(&gone));
    // From Parse to Sync neither fires.
    let mut raw = Raw::connect(&server).await;
    raw.query("SET idle_session_timeout = '200ms'; SET idle_in_transaction_session_timeout = '200ms'").await;
    raw.send(&[parse("", "SELECT 1"), flush()].concat()).await;
    assert_eq!(raw.within(600 * MS).await, ["1"]);
    assert_eq!(raw.exchange(&[sync()]).await, ["Z I"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_lock_ends_in_four_ways() {
    let (server, events) = server(quick()).await;
    let mut holder = Raw::connect(&server).await;
    let mut waiter = Raw::connect(&server).await;
    holder.query("BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    waiter.query("SET lock_timeout = '100ms'").await;
    events.take();
    let lock = "SELECT pg_advisory_xact_lock(1)";
    let began = Instant::now();
    let replies = waiter.query(lock).await;
    assert_eq!(replies[replies.len() - 2..], ["E ERROR 55P03 canceling statement due to lock timeout", "Z I"]);
    assert_eq!(began.elapsed(), 100 * MS);
    let seen = events.take();
    let on = "ExclusiveLock on advisory lock [5,0,1,1]".to_owned();
    assert!(seen.contains(&ServerEvent::Blocked { pid: waiter.pid, by: vec![holder.pid], on }), "{seen:?}");
    assert!(seen.contains(&ServerEvent::Unblocked { pid: waiter.pid }));
    waiter.query("SET lock_timeout = 0; SET statement_timeout = '100ms'").await;
    let replies = waiter.query(lock).await;
    assert_eq!(replies[replies.len() - 2..], [STATEMENT_TIMEOUT, "Z I"]);
    waiter.query("SET statement_timeout = 0").await;
    waiter.send(&query(lock)).await;
    settle().await;
    assert_eq!(server.counts().blocked, 1);
    assert!(server.cancel(waiter.pid));
    let replies = waiter.until_ready().await;
    assert_eq!(replies[replies.len() - 2..], [CANCELLED, "Z I"]);
    waiter.send(&query(lock)).await;
    assert_eq!(waiter.within(5000 * MS).await, NOTHING);
    holder.query("COMMIT").await;
    assert_eq!(waiter.until_ready().await.last().unwrap(), "Z I");
    assert_eq!(server.counts().blocked, 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_is_found_after_deadlock_timeout() {
    let (server, _) = server(quick()).await;
    let mut first = Raw::connect(&server).await;
    let mut second = Raw::connect(&server).await;
    first.query("BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    second.query("BEGIN; SELECT pg_advisory_xact_lock(2)").await;
    let began = Instant::now();
    first.send(&query("SELECT pg_advisory_xact_lock(2)")).await;
    tokio::time::sleep(100 * MS).await;
    second.send(&query("SELECT pg_advisory_xact_lock(1)")).await;
    let replies = first.until_ready().await;
    let (a, b) = (first.pid, second.pid);
    let error = format!(
        "E ERROR 40P01 deadlock detected | D: Process {a} waits for ExclusiveLock on advisory lock [5,0,2,1]; blocked \
         by process {b}.\nProcess {b} waits for ExclusiveLock on advisory lock [5,0,1,1]; blocked by process {a}. \
         | H: See server log for query details."
    );
    assert_eq!(replies[replies.len() - 2..], [error, "Z E".to_owned()]);
    assert_eq!(began.elapsed(), 1000 * MS);
    assert_eq!(second.until_ready().await.last().unwrap(), "Z T");
}

#[tokio::test(start_paused = true)]
async fn a_lock_waiter_whose_client_left_waits_on() {
    let (server, _) = server(quick()).await;
    let mut holder = Raw::connect(&server).await;
    holder.query("BEGIN; SELECT pg_advisory_xact_lock(1)").await;
    let mut waiter = Raw::connect(&server).await;
    waiter.send(&query("SELECT pg_advisory_xact_lock(1)")).await;
    settle().await;
    drop(waiter);
    tokio::time::sleep(3600 * 1000 * MS).await;
    assert_eq!(server.counts().backends, 2);
    holder.query("COMMIT").await;
    settle().await;
    assert_eq!(server.counts().backends, 1);
}

/// From the documentation of PostgreSQL 17; not observed.
#[tokio::test(start_paused = true)]
async fn transaction_timeout_of_version_17() {
    let (server, _) = server(Config { version: Version::V17, ..quick() }).await;
    let mut raw = Raw::connect(&server).await;
    raw.query("SET transaction_timeout = '300ms'").await;
    raw.query("BEGIN").await;
    let fatal = "E FATAL 25P04 terminating connection due to transaction timeout";
    assert_eq!(raw.within(1000 * MS).await, [fatal, "FIN"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_and_a_read_only_one() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    server.slow_down(250 * MS);
    let began = Instant::now();
    raw.query("SELECT 1").await;
    assert_eq!(began.elapsed(), 250 * MS);
    server.slow_down(Duration::ZERO);
    server.set_read_only(true);
    let replies = raw.query("SELECT 1").await;
    assert_eq!(replies[3..], ["S default_transaction_read_only on", "Z I"]);
}

/// A COMMIT can't be cancelled once it is written, nor does it fail though it counts: `CommitTransaction` holds interrupts off.
/// A termination comes when the client has its answer.
#[tokio::test(start_paused = true)]
async fn a_slow_commit_is_not_interrupted() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.query("CREATE TABLE t (a int)").await;
    let extended = [parse("", "COMMIT"), bind("", "", &[], &[], &[]), execute("", 0), sync()].concat();
    for (commit, terminated) in [(query("COMMIT"), false), (extended.clone(), false), (query("COMMIT"), true)] {
        let done = if commit == extended { ["1", "2", "C COMMIT", "Z I"].as_slice() } else { &["C COMMIT", "Z I"] };
        raw.query("BEGIN").await;
        raw.query("INSERT INTO t VALUES (1)").await;
        server.slow_down(250 * MS);
        let began = Instant::now();
        raw.send(&commit).await;
        assert_eq!(raw.within(100 * MS).await, NOTHING);
        assert!(if terminated { server.terminate(raw.pid) } else { server.cancel(raw.pid) });
        assert_eq!(raw.until_ready().await, done);
        assert_eq!(began.elapsed(), 250 * MS);
        server.slow_down(Duration::ZERO);
    }
    assert_eq!(raw.within(MS).await, [SHUTDOWN, "FIN"]);
    let mut other = Raw::connect(&server).await;
    assert_eq!(other.query("SELECT a FROM t").await[4..], ["C SELECT 3", "Z I"]);
    // What is killed meanwhile is not committed.
    other.query("BEGIN").await;
    other.query("INSERT INTO t VALUES (1)").await;
    server.slow_down(250 * MS);
    other.send(&query("COMMIT")).await;
    assert_eq!(other.within(100 * MS).await, NOTHING);
    server.kill();
    assert_eq!(other.until_ready().await, ["FIN"]);
}

#[tokio::test(start_paused = true)]
async fn a_standby_sees_commits_and_takes_writes_once_promoted() {
    let (primary, _) = server(quick()).await;
    let mut writer = Raw::connect(&primary).await;
    writer.query("CREATE TABLE t (a int)").await;
    let standby = Standby { hot_standby: true, promotion_time: 10 * MS };
    let config = Config { name: "standby".to_owned(), first_pid: 5000, standby: Some(standby), ..quick() };
    let standby = Server::standby_of(&primary, config, None).unwrap();
    standby.start();
    let mut reader = Raw::connect(&standby).await;
    writer.query("INSERT INTO t VALUES (1)").await;
    let count = |replies: Vec<String>| replies[1].clone();
    assert_eq!(count(reader.query("SELECT count(*) FROM t").await), "D 1");
    let error = "E ERROR 25006 cannot execute INSERT in a read-only transaction";
    assert_eq!(reader.query("INSERT INTO t VALUES (2)").await, [error, "Z I"]);
    writer.query("BEGIN; INSERT INTO t VALUES (3)").await;
    standby.promote();
    tokio::time::sleep(20 * MS).await;
    writer.query("COMMIT").await;
    assert_eq!(reader.query("INSERT INTO t VALUES (2)").await[0], "C INSERT 0 1");
    assert_eq!(count(reader.query("SELECT count(*) FROM t").await), "D 2");
    writer.query("INSERT INTO t VALUES (4)").await;
    assert_eq!(count(writer.query("SELECT count(*) FROM t").await), "D 3");
    assert_eq!(count(reader.query("SELECT count(*) FROM t").await), "D 2");
}

#[tokio::test(start_paused = true)]
async fn tokio_postgres_by_scram() {
    let mut config = Config { auth: Auth::ScramSha256, ..small() };
    config.max_connections = 20;
    let (server, _) = server(config).await;
    let connect = |password: &'static str| {
        let (ours, other) = tokio::io::duplex(1 << 16);
        let server = server.clone();
        tokio::spawn(async move { server.serve(other, "10.0.0.9:1".parse().unwrap()).await });
        async move {
            let mut config = tokio_postgres::Config::new();
            config.user("one").password(password).dbname("postgres");
            config.connect_raw(ours, tokio_postgres::NoTls).await
        }
    };
    let (client, connection) = connect("secret").await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT $1::int", &[&7_i32]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
    let error = connect("wrong").await.err().unwrap();
    assert_eq!(error.code().unwrap().code(), "28P01");
}
