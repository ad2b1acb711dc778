//! What a real PostgreSQL does to its clients, through the protocol: the list of what was observed on PostgreSQL 15, and
//! where each point is tested.
//!
//! | outcome | tests |
//! | --- | --- |
//! | startup, trust | `postgres_session::startup_reports_thirteen_settings`, `postgres_network::a_startup_and_a_query_take_their_round_trips` |
//! | only reserved slots left | `postgres_server::slots_run_out_in_postgresqls_order` |
//! | no slot at all | `postgres_server::slots_run_out_in_postgresqls_order` |
//! | limit of a role or database | `postgres_server::limits_of_roles_and_databases` |
//! | unknown database / role | `postgres_server::slots_run_out_in_postgresqls_order` |
//! | starting, recovering, stopping | [`three_texts_of_57p03`], `postgres_server::a_smart_stop_waits` |
//! | not listening | `postgres_network::a_fast_stop_reaches_clients_as_fatal_and_fin` |
//! | authentication_timeout | `postgres_session::a_silent_client_is_dropped_without_a_word` |
//! | fast stop, pg_terminate_backend | `postgres_server::a_fast_stop_ends_every_session_with_57p01`, `postgres_server::pg_terminate_backend_in_any_state`, `postgres_network::a_backend_that_cannot_write_is_ended_without_a_word` |
//! | immediate stop | `postgres_server::an_immediate_stop_sends_notices_and_the_next_start_recovers`, `postgres_network::an_immediate_stop_reaches_clients_as_a_notice_and_fin` |
//! | one backend dies: the victim, the others | `postgres_server::the_death_of_one_backend_ends_all` |
//! | smart stop | `postgres_server::a_smart_stop_waits`, `postgres_network::connects_during_a_smart_stop_are_refused_in_words_and_those_in_the_backlog_at_the_end_by_rst` |
//! | cancel while active; while idle or with a wrong key | `postgres_server::cancel_requests`, `postgres_network::a_cancel_request_travels_on_its_own_connection` |
//! | statement_timeout, lock_timeout, NOWAIT | `postgres_server::waiting_for_a_lock_ends_in_four_ways`, [`errors_of_a_wait_say_what_it_was_doing`], [`nowait_and_skip_locked`] |
//! | idle timeouts | `postgres_server::idle_timeouts` |
//! | deadlock | `postgres_server::a_deadlock_is_found_after_deadlock_timeout`, [`a_deadlock_of_rows_fails_one_and_lets_the_other_go_on`] |
//! | statement, COMMIT in a failed transaction | `postgres_session::a_failed_transaction_takes_only_its_end` |
//! | BEGIN inside, COMMIT outside a transaction | [`begin_inside_and_commit_outside_a_transaction_warn`] |
//! | DISCARD ALL in a transaction | [`discard_all_refuses_to_run_in_a_transaction`] |
//! | write on a read-only standby | [`a_standby_refuses_to_write`], `postgres_server::a_standby_sees_commits_and_takes_writes_once_promoted` |
//! | after a FIN from the server | `postgres_network::after_a_fin_from_the_server_the_first_send_succeeds_and_the_next_fails` |
//!
//! | semantics | tests |
//! | --- | --- |
//! | reserved slots count free slots | `postgres_server::a_superuser_takes_an_applications_slot` |
//! | immediate stop and crash send notices | `postgres_network::an_immediate_stop_reaches_clients_as_a_notice_and_fin` |
//! | a client gone with FIN: noticed when idle, not when active | `postgres_network::a_fin_is_noticed_at_once_when_idle_or_idle_in_a_transaction`, `an_insert_under_way_commits_though_its_client_left`, `a_lock_waiter_whose_client_left_waits_gets_the_lock_and_commits` |
//! | client_connection_check_interval | `postgres_network::client_connection_check_interval_ends_an_active_backend_and_a_lock_waiter` |
//! | half-open | `postgres_network::half_open_backends_live_with_their_locks_until_the_keepalive_gives_up`, `an_active_half_open_backend_lives_at_least_to_the_end_of_its_statement`, `a_forgotten_flow_is_half_open_on_both_sides` |
//! | a client that faces a black hole | `net::tests`: `keepalive_does_not_help_with_unacknowledged_data`, `keepalive_finds_a_black_hole_out`, `a_user_timeout_ends_it_sooner` |
//! | when the deadlock check runs | [`the_victim_is_whose_check_comes_first_after_the_cycle_exists`], `postgres::locks::tests::a_deadlock_is_described_from_its_victim_on` |
//! | table locks queue | [`a_select_queues_behind_a_waiting_alter_and_goes_on_when_it_gives_up`], [`a_session_that_holds_a_lock_may_overtake`] |
//! | row locks: first in, first out after ROLLBACK | [`row_waiters_go_on_in_order_after_a_rollback`] |
//! | from Parse to Sync | [`from_parse_to_sync_a_session_is_active_and_holds_its_locks`], `postgres_server::statement_timeout_counts_each_statement` |
//! | what ROLLBACK undoes | [`rollback_undoes_set_temporary_tables_and_listen_but_not_advisory_locks_or_prepare`] |
//! | RESET ALL and DISCARD ALL | [`reset_all_resets_settings_only`], [`discard_all_clears_everything`] |
//! | RowDescription before errors of rows and waits | [`a_query_is_described_when_it_begins_to_run`], [`an_error_of_a_row_comes_after_t_and_one_of_a_constant_before`] |
//! | a refused attempt holds a slot | `postgres_server::a_refused_attempt_holds_a_slot_for_a_moment`, `postgres_network::a_herd_gets_a_few_too_many_clients` |
#![expect(clippy::unwrap_used, reason = "tests")]

mod postgres_client;

use std::time::Duration;

use poolproof_sim::postgres::event::Lifecycle;
use poolproof_sim::postgres::sql::StatementCost;
use poolproof_sim::postgres::{Config, Server, Standby, StopMode};
use postgres_client::*;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const CANCELLED: &str = "E ERROR 57014 canceling statement due to user request";
const NOTHING: [&str; 0] = [];

/// A table of five rows (id, v), as the observations were made on.
fn with_table() -> Config {
    Config {
        initial_sql:
            "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, g FROM generate_series(1, 5) g"
                .to_owned(),
        ..quick()
    }
}

async fn three(server: &Server) -> [Raw; 3] {
    [Raw::connect(server).await, Raw::connect(server).await, Raw::connect(server).await]
}

/// Sends a query and checks that it waits.
async fn blocks(raw: &mut Raw, sql: &str) {
    raw.send(&query(sql)).await;
    assert_eq!(raw.within(10 * MS).await, NOTHING, "{sql}");
}

/// The list above names tests that exist.
#[test]
fn every_test_on_the_list_exists() {
    let sources = [
        include_str!("postgres_behaviour.rs"),
        include_str!("postgres_network.rs"),
        include_str!("postgres_server.rs"),
        include_str!("postgres_session.rs"),
        include_str!("../src/net/tests/dead_ends.rs"),
        include_str!("../src/net/tests/partitions.rs"),
        include_str!("../src/postgres/locks/tests.rs"),
    ];
    let mut rows = 0;
    for row in sources[0].lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let Some(tests) = row.split(" | ").nth(1).filter(|tests| tests.contains('`')) else {
            continue; // a heading
        };
        rows += 1;
        for name in tests.split('`').skip(1).step_by(2).filter(|name| *name != "net::tests") {
            let name = name.rsplit("::").next().unwrap();
            let found = sources.iter().any(|source| source.contains(&format!("fn {name}(")));
            assert!(found, "{name} is on the list and nowhere else");
        }
    }
    assert_eq!(rows, 35);
}

#[tokio::test(start_paused = true)]
async fn three_texts_of_57p03() {
    let server = Server::new(Config { startup_time: 100 * MS, recovery_time: 100 * MS, ..quick() }, None).unwrap();
    let refusal = async |user: &str| Raw::begin(&server, &[("user", user)]).await.until_ready().await;
    server.start();
    for user in ["app", "postgres"] {
        assert_eq!(refusal(user).await, ["E FATAL 57P03 the database system is starting up", "FIN"]);
    }
    let mut lifecycle = server.lifecycle_watch();
    lifecycle.wait_for(|now| *now == Lifecycle::Running).await.unwrap();
    let session = Raw::connect(&server).await;
    assert!(server.kill_backend(session.pid));
    settle().await;
    let recovering = "E FATAL 57P03 the database system is not yet accepting connections | D: Consistent recovery state \
                      has not been yet reached.";
    assert_eq!(refusal("postgres").await, [recovering, "FIN"]);
    lifecycle.wait_for(|now| *now == Lifecycle::Running).await.unwrap();
    let _session = Raw::connect(&server).await;
    drop(server.stop(StopMode::Smart));
    assert_eq!(refusal("postgres").await, ["E FATAL 57P03 the database system is shutting down", "FIN"]);
}

/// From `postmaster.c` (`CAC_NOTCONSISTENT` with `hot_standby` off).
#[tokio::test(start_paused = true)]
async fn a_standby_without_hot_standby_takes_no_session() {
    let (primary, _) = server(with_table()).await;
    let standby = Standby { hot_standby: false, promotion_time: 50 * MS };
    let config = Config { name: "standby".to_owned(), standby: Some(standby), first_pid: 5000, ..quick() };
    let standby = Server::standby_of(&primary, config, None).unwrap();
    standby.start();
    let refused =
        ["E FATAL 57P03 the database system is not accepting connections | D: Hot standby mode is disabled.", "FIN"];
    assert_eq!(Raw::begin(&standby, &[("user", "postgres")]).await.until_ready().await, refused);
    standby.promote();
    tokio::time::sleep(51 * MS).await;
    let mut raw = Raw::connect(&standby).await;
    assert_eq!(raw.query("UPDATE t SET v = 0 WHERE id = 1").await, ["C UPDATE 1", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn a_standby_refuses_to_write() {
    let (primary, _) = server(with_table()).await;
    let standby = Standby { hot_standby: true, promotion_time: Duration::ZERO };
    let config = Config { name: "standby".to_owned(), standby: Some(standby), first_pid: 5000, ..quick() };
    let standby = Server::standby_of(&primary, config, None).unwrap();
    standby.start();
    let mut raw = Raw::connect(&standby).await;
    let refused =
        |what: &str| [format!("E ERROR 25006 cannot execute {what} in a read-only transaction"), "Z I".into()];
    assert_eq!(raw.query("INSERT INTO t VALUES (9, 9)").await, refused("INSERT"));
    assert_eq!(raw.query("UPDATE t SET v = 0").await, refused("UPDATE"));
    assert_eq!(raw.query("SELECT * FROM t FOR UPDATE").await, refused("SELECT FOR UPDATE"));
    assert_eq!(raw.query("CREATE TABLE u (a int)").await, refused("CREATE TABLE"));
    assert_eq!(raw.query("SELECT v FROM t WHERE id = 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn begin_inside_and_commit_outside_a_transaction_warn() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let none = "N WARNING 25P01 there is no transaction in progress";
    assert_eq!(raw.query("COMMIT").await, [none, "C COMMIT", "Z I"]);
    assert_eq!(raw.query("ROLLBACK").await, [none, "C ROLLBACK", "Z I"]);
    raw.query("BEGIN").await;
    let already = "N WARNING 25001 there is already a transaction in progress";
    assert_eq!(raw.query("BEGIN").await, [already, "C BEGIN", "Z T"]);
}

#[tokio::test(start_paused = true)]
async fn discard_all_refuses_to_run_in_a_transaction() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let refused = "E ERROR 25001 DISCARD ALL cannot run inside a transaction block";
    raw.query("BEGIN").await;
    assert_eq!(raw.query("DISCARD ALL").await, [refused, "Z E"]);
    raw.query("ROLLBACK").await;
    assert_eq!(raw.query("SELECT 1; DISCARD ALL").await, ["T 1", "D 1", "C SELECT 1", refused, "Z I"]);
    assert_eq!(raw.query("DISCARD ALL; SELECT 1").await, [refused, "Z I"]);
    assert_eq!(raw.query("DISCARD ALL").await, ["C DISCARD ALL", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn a_query_is_described_when_it_begins_to_run() {
    let cost = StatementCost { like: "%costly%".to_owned(), takes: 60_000 * MS, per_row: Duration::ZERO };
    let (server, _) = server(Config { costs: vec![cost], ..with_table() }).await;
    let [mut raw, mut holder, _] = three(&server).await;
    // Waiting for time, a row, an advisory lock: T, and then the error.
    holder.query("BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE; SELECT pg_advisory_xact_lock(1)").await;
    let locking = format!("{CANCELLED} | W: while locking tuple (0,1) in relation \"t\"");
    for (sql, columns, error) in [
        ("SELECT pg_sleep(10)", "T 1", CANCELLED),
        ("SELECT v /* costly */ FROM t", "T 1", CANCELLED),
        ("SELECT * FROM t WHERE id = 1 FOR UPDATE", "T 2", locking.as_str()),
        ("SELECT pg_advisory_lock(1)", "T 1", CANCELLED),
    ] {
        blocks(&mut raw, sql).await;
        assert!(server.cancel(raw.pid));
        assert_eq!(raw.until_ready().await, [columns, error, "Z I"], "{sql}");
    }
    let nowait = "E ERROR 55P03 could not obtain lock on row in relation \"t\"";
    assert_eq!(raw.query("SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT").await, ["T 2", nowait, "Z I"]);
    // RETURNING is collected before it is described.
    for (sql, doing) in [
        ("UPDATE t SET v = 0 WHERE id = 1 RETURNING *", "updating"),
        ("DELETE FROM t WHERE id = 1 RETURNING v", "deleting"),
    ] {
        blocks(&mut raw, sql).await;
        assert!(server.cancel(raw.pid));
        let error = format!("{CANCELLED} | W: while {doing} tuple (0,1) in relation \"t\"");
        assert_eq!(raw.until_ready().await, [error, "Z I".to_owned()], "{sql}");
    }
    // A table lock belongs to the analysis.
    holder.query("ROLLBACK; BEGIN; LOCK TABLE t").await;
    blocks(&mut raw, "SELECT * FROM t").await;
    assert!(server.cancel(raw.pid));
    assert_eq!(raw.until_ready().await, [CANCELLED, "Z I"]);
    // In the extended protocol it is Describe's answer.
    let sleep = [parse("", "SELECT pg_sleep(10)"), bind("", "", &[], &[], &[]), execute("", 0), sync()].concat();
    raw.send(&sleep).await;
    settle().await;
    assert!(server.cancel(raw.pid));
    assert_eq!(raw.until_ready().await, ["1", "2", CANCELLED, "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_row_comes_after_t_and_one_of_a_constant_before() {
    let (server, _) = server(with_table()).await;
    let mut raw = Raw::connect(&server).await;
    let division = "E ERROR 22012 division by zero";
    for sql in [
        "SELECT 1 / (v - 1) FROM t WHERE id = 1",
        "SELECT 1 / count(*) FROM t WHERE false",
        "SELECT CASE WHEN v > 0 THEN 1 / (v - v) END FROM t",
        "SELECT v / 0 FROM t",
        "SELECT random() / 0",
    ] {
        assert_eq!(raw.query(sql).await, ["T 1", division, "Z I"], "{sql}");
    }
    assert_eq!(raw.query("SELECT * FROM t WHERE 1 / (v - 1) = 1").await, ["T 2", division, "Z I"]);
    for sql in [
        "SELECT 1/0",
        "SELECT 1/0 FROM t",
        "SELECT 1 WHERE 1/0 = 1",
        "SELECT length('a') / 0",
        "SELECT (1/0)::text FROM t",
        "SELECT pg_sleep(0), 1/0",
        "VALUES (1/0)",
        "UPDATE t SET v = 1 / (v - 1) RETURNING id",
    ] {
        assert_eq!(raw.query(sql).await, [division, "Z I"], "{sql}");
    }
    assert_eq!(raw.query("SELECT coalesce(1, 1/0)").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
    assert_eq!(raw.query("SELECT * FROM nosuch").await, ["E ERROR 42P01 relation \"nosuch\" does not exist", "Z I"]);
    let setting = "E ERROR 42704 unrecognized configuration parameter \"nosuch\"";
    assert_eq!(raw.query("SHOW nosuch").await, [setting, "Z I"]);
    assert_eq!(raw.query("SELECT current_setting('nosuch')").await, ["T 1", setting, "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn termination_while_waiting_says_what_for() {
    let (server, _) = server(with_table()).await;
    let [mut raw, mut holder, _] = three(&server).await;
    holder.query("BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    blocks(&mut raw, "SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    assert!(server.terminate(raw.pid));
    let fatal = "E FATAL 57P01 terminating connection due to administrator command | W: while locking tuple (0,1) in \
                 relation \"t\"";
    assert_eq!(raw.until_ready().await, ["T 2", fatal, "FIN"]);
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_wait_say_what_it_was_doing() {
    let (server, _) = server(with_table()).await;
    let [mut raw, mut holder, mut second] = three(&server).await;
    raw.query("SET lock_timeout = '100ms'").await;
    holder.query("BEGIN; UPDATE t SET v = v WHERE id = 1; INSERT INTO t VALUES (9, 9)").await;
    let timeout = "E ERROR 55P03 canceling statement due to lock timeout";
    for (sql, context) in [
        ("UPDATE t SET v = 1 WHERE id = 1", "while updating tuple (0,1) in relation \"t\""),
        ("DELETE FROM t WHERE id = 1", "while deleting tuple (0,1) in relation \"t\""),
        ("INSERT INTO t VALUES (9, 1)", "while inserting index tuple (0,7) in relation \"t_pkey\""),
        // Looking for a conflict first, it names the row that is in the way.
        ("INSERT INTO t VALUES (9, 1) ON CONFLICT DO NOTHING", "while inserting index tuple (0,6) in relation \"t\""),
        (
            "INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET v = 3",
            "while inserting index tuple (0,1) in relation \"t\"",
        ),
    ] {
        assert_eq!(raw.query(sql).await, [format!("{timeout} | W: {context}"), "Z I".to_owned()], "{sql}");
    }
    // Who is second in the row's queue waits for the place, and says nothing.
    blocks(&mut second, "UPDATE t SET v = 2 WHERE id = 1").await;
    assert_eq!(raw.query("UPDATE t SET v = 3 WHERE id = 1").await, [timeout, "Z I"]);
    raw.query("SET lock_timeout = 0; SET statement_timeout = '50ms'").await;
    assert_eq!(
        raw.query("SELECT * FROM t WHERE id = 1 FOR SHARE").await,
        ["T 2", "E ERROR 57014 canceling statement due to statement timeout", "Z I"]
    );
    raw.query("SET statement_timeout = 0; SET lock_timeout = '100ms'").await;
    assert!(server.cancel(second.pid));
    second.until_ready().await;
    holder.query("ROLLBACK; BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    let upsert = raw.query("INSERT INTO t VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET v = 3").await;
    assert_eq!(upsert[0], format!("{timeout} | W: while locking tuple (0,1) in relation \"t\""));
    // No context outlives its wait.
    assert_eq!(raw.query("SELECT 1/0").await, ["E ERROR 22012 division by zero", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn a_deadlock_of_rows_fails_one_and_lets_the_other_go_on() {
    let (server, _) = server(with_table()).await;
    let [mut first, mut second, _] = three(&server).await;
    first.query("BEGIN; UPDATE t SET v = v WHERE id = 1").await;
    second.query("BEGIN; UPDATE t SET v = v WHERE id = 2").await;
    blocks(&mut first, "UPDATE t SET v = v WHERE id = 2").await;
    second.send(&query("UPDATE t SET v = v WHERE id = 1")).await;
    let replies = first.until_ready().await;
    let (before, context) = replies[0].split_once(" | W: ").unwrap();
    assert!(before.starts_with("E ERROR 40P01 deadlock detected | D: Process "), "{before}");
    assert_eq!(context, "while updating tuple (0,2) in relation \"t\"");
    assert_eq!(replies[1..], ["Z E"]);
    assert_eq!(second.within(10 * MS).await, ["C UPDATE 1", "Z T"], "the victim's locks are gone before its ROLLBACK");
}

#[tokio::test(start_paused = true)]
async fn the_victim_is_whose_check_comes_first_after_the_cycle_exists() {
    let (server, _) = server(with_table()).await;
    let [mut first, mut second, _] = three(&server).await;
    first.query("BEGIN; UPDATE t SET v = v WHERE id = 1").await;
    second.query("BEGIN; UPDATE t SET v = v WHERE id = 2").await;
    blocks(&mut first, "UPDATE t SET v = v WHERE id = 2").await;
    // The first one's only check is over before there is a cycle.
    tokio::time::sleep(1500 * MS).await;
    let began = Instant::now();
    let replies = second.query("UPDATE t SET v = v WHERE id = 1").await;
    assert!(replies[0].starts_with("E ERROR 40P01"), "{replies:?}");
    assert_eq!(began.elapsed(), 1000 * MS);
    assert_eq!(first.until_ready().await, ["C UPDATE 1", "Z T"]);
}

#[tokio::test(start_paused = true)]
async fn nowait_and_skip_locked() {
    let (server, _) = server(with_table()).await;
    let [mut holder, mut raw, _] = three(&server).await;
    holder.query("BEGIN; SELECT * FROM t WHERE id = 1 FOR UPDATE").await;
    let row = "E ERROR 55P03 could not obtain lock on row in relation \"t\"";
    assert_eq!(raw.query("SELECT * FROM t WHERE id = 1 FOR UPDATE NOWAIT").await, ["T 2", row, "Z I"]);
    assert_eq!(
        raw.query("SELECT id FROM t ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED").await,
        ["T 1", "D 2", "D 3", "C SELECT 2", "Z I"]
    );
    let table = "E ERROR 55P03 could not obtain lock on relation \"t\"";
    assert_eq!(raw.query("BEGIN; LOCK TABLE t NOWAIT").await, ["C BEGIN", table, "Z E"]);
}

#[tokio::test(start_paused = true)]
async fn row_waiters_go_on_in_order_after_a_rollback() {
    let (server, _) = server(with_table()).await;
    let mut holder = Raw::connect(&server).await;
    holder.query("BEGIN; UPDATE t SET v = 100 WHERE id = 1").await;
    let mut waiters = Vec::new();
    for number in 1..=4 {
        let mut waiter = Raw::connect(&server).await;
        waiter.query("BEGIN").await;
        blocks(&mut waiter, &format!("UPDATE t SET v = v * 10 + {number} WHERE id = 1")).await;
        waiters.push(waiter);
    }
    assert_eq!(server.counts().blocked, 4);
    holder.query("ROLLBACK").await;
    for waiter in &mut waiters {
        assert_eq!(waiter.within(MS).await, ["C UPDATE 1", "Z T"]);
        waiter.query("ROLLBACK").await;
    }
    assert_eq!(server.counts().blocked, 0);
    assert_eq!(server.query("SELECT v FROM t WHERE id = 1").unwrap(), [[Some("1".to_owned())]]);
}

#[tokio::test(start_paused = true)]
async fn a_select_queues_behind_a_waiting_alter_and_goes_on_when_it_gives_up() {
    let (server, _) = server(with_table()).await;
    let [mut reader, mut ddl, mut other] = three(&server).await;
    reader.query("BEGIN; SELECT count(*) FROM t").await;
    ddl.query("SET lock_timeout = '1s'").await;
    blocks(&mut ddl, "ALTER TABLE t ADD COLUMN w int").await;
    blocks(&mut other, "SELECT count(*) FROM t").await;
    assert_eq!(server.counts().blocked, 2);
    // The SELECT of a prepared statement waits as it is parsed.
    let mut extended = Raw::connect(&server).await;
    extended.send(&[parse("", "SELECT v FROM t"), flush()].concat()).await;
    assert_eq!(extended.within(10 * MS).await, NOTHING);
    let began = Instant::now();
    assert_eq!(ddl.until_ready().await, ["E ERROR 55P03 canceling statement due to lock timeout", "Z I"]);
    assert_eq!(other.until_ready().await, ["T 1", "D 5", "C SELECT 1", "Z I"]);
    assert_eq!(extended.within(MS).await, ["1"]);
    assert!(began.elapsed() < 1000 * MS, "at once, not when the reader ends");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_holds_a_lock_may_overtake() {
    let (server, _) = server(with_table()).await;
    let [mut reader, mut ddl, _] = three(&server).await;
    reader.query("BEGIN; SELECT count(*) FROM t").await;
    blocks(&mut ddl, "ALTER TABLE t ADD COLUMN w int").await;
    assert_eq!(reader.query("SELECT count(*) FROM t").await, ["T 1", "D 5", "C SELECT 1", "Z T"]);
    assert_eq!(reader.query("UPDATE t SET v = 0 WHERE id = 1").await, ["C UPDATE 1", "Z T"]);
    reader.query("COMMIT").await;
    assert_eq!(ddl.until_ready().await, ["C ALTER TABLE", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn from_parse_to_sync_a_session_is_active_and_holds_its_locks() {
    let (server, _) = server(with_table()).await;
    let [mut raw, mut observer, mut ddl] = three(&server).await;
    raw.query("SET idle_in_transaction_session_timeout = '100ms'; SET idle_session_timeout = '100ms'").await;
    raw.send(&[parse("s", "SELECT v FROM t"), flush()].concat()).await;
    assert_eq!(raw.within(1000 * MS).await, ["1"], "and no timeout");
    let activity = format!("SELECT state, wait_event FROM pg_stat_activity WHERE pid = {}", raw.pid);
    assert_eq!(observer.query(&activity).await[1], "D active,ClientRead");
    let locked = "E ERROR 55P03 could not obtain lock on relation \"t\"";
    assert_eq!(ddl.query("BEGIN; LOCK TABLE t NOWAIT").await, ["C BEGIN", locked, "Z E"]);
    ddl.query("ROLLBACK").await;
    assert_eq!(raw.exchange(&[sync()]).await, ["Z I"]);
    raw.query("SET idle_session_timeout = 0").await;
    ddl.query("BEGIN; LOCK TABLE t").await;
    // Bind and Describe lock again.
    raw.send(&[bind("", "s", &[], &[], &[]), flush()].concat()).await;
    assert_eq!(raw.within(MS).await, NOTHING);
    assert!(server.cancel(raw.pid));
    assert_eq!(raw.exchange(&[sync()]).await, [CANCELLED, "Z I"]);
    raw.send(&[describe(b'S', "s"), flush()].concat()).await;
    settle().await;
    assert!(server.cancel(raw.pid));
    assert_eq!(raw.exchange(&[sync()]).await, ["t 0", CANCELLED, "Z I"]);
    ddl.query("ROLLBACK").await;
    assert_eq!(raw.exchange(&[describe(b'S', "s"), sync()]).await, ["t 0", "T 1", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn rollback_undoes_set_temporary_tables_and_listen_but_not_advisory_locks_or_prepare() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.query("BEGIN").await;
    raw.query("SET work_mem = '8MB'; CREATE TEMP TABLE mine (a int); LISTEN ear").await;
    raw.query("SELECT pg_advisory_lock(7); PREPARE p AS SELECT 1").await;
    raw.query("ROLLBACK").await;
    let report = server.session_report(raw.pid).unwrap();
    assert!(report.temporary_tables.is_empty() && report.channels.is_empty(), "{report:?}");
    assert_eq!((report.prepared.len(), report.advisory_locks), (1, 1), "{report:?}");
    assert_eq!(raw.query("SHOW work_mem").await[1], "D 4MB");
    assert_eq!(raw.query("EXECUTE p").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
}

/// Everything that a session can leave behind.
async fn litter(raw: &mut Raw) {
    raw.query("SET work_mem = '8MB'; SET ROLE app; CREATE TEMP TABLE mine (a int); LISTEN ear").await;
    raw.query("SELECT pg_advisory_lock(7); PREPARE p AS SELECT 1").await;
}

#[tokio::test(start_paused = true)]
async fn reset_all_resets_settings_only() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    litter(&mut raw).await;
    assert_eq!(raw.query("RESET ALL").await, ["C RESET", "Z I"]);
    assert_eq!(raw.query("SHOW work_mem").await[1], "D 4MB");
    assert_eq!(raw.query("SELECT current_user").await[1], "D app");
    let report = server.session_report(raw.pid).unwrap();
    assert_eq!((report.temporary_tables.len(), report.channels.len()), (1, 1), "{report:?}");
    assert_eq!((report.prepared.len(), report.advisory_locks), (1, 1), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn discard_all_clears_everything() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    litter(&mut raw).await;
    raw.query("DISCARD ALL").await;
    assert_eq!(raw.query("SHOW work_mem").await[1], "D 4MB");
    assert_eq!(raw.query("SELECT current_user").await[1], "D postgres");
    let report = server.session_report(raw.pid).unwrap();
    assert!(report.temporary_tables.is_empty() && report.channels.is_empty(), "{report:?}");
    assert!(report.prepared.is_empty() && report.advisory_locks == 0, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn old_protocols_are_answered_in_their_own_format() {
    use tokio::io::AsyncReadExt;
    let (server, _) = server(quick()).await;
    for (major, text) in [(2, "2.0"), (1, "1.0")] {
        let mut raw = Raw::dial(&server);
        raw.send(&startup(major, 0, &[])).await;
        let mut answer = String::new();
        raw.socket.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, format!("EFATAL:  unsupported frontend protocol {text}: server supports 3.0 to 3.0\n\0"));
    }
}
