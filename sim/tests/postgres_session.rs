//! The protocol, message by message. Every expectation was observed on PostgreSQL 15.18 over TCP, unless it says so.
#![expect(clippy::unwrap_used, reason = "tests")]

mod postgres_client;

use std::time::Duration;

use poolproof_sim::postgres::Config;
use poolproof_sim::postgres::error::SqlState;
use poolproof_sim::postgres::event::{Gone, ServerEvent};
use postgres_client::*;

const SYNTAX: &str = "E ERROR 42601 syntax error at or near \"SELEC\"";
const ABORTED: &str = "E ERROR 25P02 current transaction is aborted, commands ignored until end of transaction block";

#[tokio::test(start_paused = true)]
async fn startup_reports_thirteen_settings() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::begin(&server, &[("user", "postgres"), ("application_name", "x")]).await;
    let replies = raw.until_ready().await;
    let names: Vec<&str> = replies.iter().filter_map(|reply| reply.strip_prefix("S ")?.split(' ').next()).collect();
    assert_eq!(replies[0], "R 0");
    let expected = [
        "application_name",
        "client_encoding",
        "DateStyle",
        "default_transaction_read_only",
        "in_hot_standby",
        "integer_datetimes",
        "IntervalStyle",
        "is_superuser",
        "server_encoding",
        "server_version",
        "session_authorization",
        "standard_conforming_strings",
        "TimeZone",
    ];
    assert_eq!(names, expected);
    assert_eq!(replies[14..], ["K", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn encryption_is_refused_and_then_the_startup_goes_on() {
    use tokio::io::AsyncReadExt;
    let (server, _) = server(quick()).await;
    let mut raw = Raw::dial(&server);
    for code in [80_877_103_u32, 80_877_104] {
        raw.send(&packet(&code.to_be_bytes())).await;
        assert_eq!(raw.socket.read_u8().await.unwrap(), b'N');
    }
    raw.send(&startup(3, 0, &[("user", "postgres")])).await;
    assert_eq!(raw.until_ready().await.last().unwrap(), "Z I");
}

#[tokio::test(start_paused = true)]
async fn a_second_ssl_request_is_a_strange_version() {
    use tokio::io::AsyncReadExt;
    let (server, _) = server(quick()).await;
    let mut raw = Raw::dial(&server);
    raw.send(&packet(&80_877_103_u32.to_be_bytes())).await;
    assert_eq!(raw.socket.read_u8().await.unwrap(), b'N');
    raw.send(&packet(&80_877_103_u32.to_be_bytes())).await;
    assert_eq!(
        raw.until_ready().await,
        ["E FATAL 0A000 unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0", "FIN"]
    );
}

#[tokio::test(start_paused = true)]
async fn broken_first_packets() {
    let (server, _) = server(quick()).await;
    let silent: [&[u8]; 3] = [&4_u32.to_be_bytes(), &20_000_u32.to_be_bytes(), b"GET / HTTP/1.0\r\n\r\n"];
    for bytes in silent {
        let mut raw = Raw::dial(&server);
        raw.send(bytes).await;
        assert_eq!(raw.until_ready().await, ["FIN"]);
    }
    let mut raw = Raw::dial(&server);
    raw.send(&startup(3, 0, &[("database", "postgres")])).await;
    let expected = "E FATAL 28000 no PostgreSQL user name specified in startup packet";
    assert_eq!(raw.until_ready().await, [expected, "FIN"]);
    let mut raw = Raw::dial(&server);
    raw.send(&startup(4, 0, &[("user", "postgres")])).await;
    let expected = "E FATAL 0A000 unsupported frontend protocol 4.0: server supports 3.0 to 3.0";
    assert_eq!(raw.until_ready().await, [expected, "FIN"]);
}

#[tokio::test(start_paused = true)]
async fn newer_minor_versions_are_negotiated_down() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::dial(&server);
    raw.send(&startup(3, 2, &[("user", "postgres"), ("_pq_.x", "1")])).await;
    let replies = raw.until_ready().await;
    let expected = [0, 3, 0, 0, 0, 0, 0, 1, b'_', b'p', b'q', b'_', b'.', b'x', 0];
    assert_eq!(replies[0], format!("v {expected:?}"));
    assert_eq!(replies[1], "R 0");
    assert_eq!(replies.last().unwrap(), "Z I");
}

#[tokio::test(start_paused = true)]
async fn settings_of_the_startup_packet() {
    let (server, _) = server(quick()).await;
    let parameters = [("user", "postgres"), ("options", r"-c statement_timeout=5s -c application_name=a\ b")];
    let mut raw = Raw::begin(&server, &parameters).await;
    assert_eq!(raw.until_ready().await[1], "S application_name a b");
    for (name, value, error) in [
        ("nosuch", "x", "42704 unrecognized configuration parameter \"nosuch\""),
        ("statement_timeout", "abc", "22023 invalid value for parameter \"statement_timeout\": \"abc\""),
    ] {
        let mut raw = Raw::begin(&server, &[("user", "postgres"), (name, value)]).await;
        assert_eq!(raw.until_ready().await, ["R 0", &format!("E FATAL {error}"), "FIN"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped_without_a_word() {
    let (server, events) = server(quick()).await;
    let mut silent = Raw::dial(&server);
    let mut half = Raw::dial(&server);
    half.send(b"\0\0").await;
    assert_eq!(silent.within(Duration::from_secs(59)).await, Vec::<String>::new());
    assert_eq!(silent.within(Duration::from_secs(2)).await, ["FIN"]);
    assert_eq!(half.within(Duration::from_secs(2)).await, ["FIN"]);
    assert_eq!(events.take(), []);
}

#[tokio::test(start_paused = true)]
async fn simple_queries() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    assert_eq!(raw.query("").await, ["I", "Z I"]);
    assert_eq!(raw.query(" ; ;").await, ["I", "Z I"]);
    let both = ["T 1", "D 1", "C SELECT 1", "T 1", "D 2", "C SELECT 1", "Z I"];
    assert_eq!(raw.query("SELECT 1; SELECT 2").await, both);
    let stopped = ["T 1", "D 1", "C SELECT 1", "E ERROR 22012 division by zero", "Z I"];
    assert_eq!(raw.query("SELECT 1; SELECT 1/0; SELECT 2").await, stopped);
    assert_eq!(raw.query("SELEC 1").await, [SYNTAX, "Z I"]);
    assert_eq!(raw.query("BEGIN; SELECT 1/0").await, ["C BEGIN", "E ERROR 22012 division by zero", "Z E"]);
    assert_eq!(raw.query("SELECT 1").await, [ABORTED, "Z E"]);
    assert_eq!(raw.query("COMMIT").await, ["C ROLLBACK", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn missing_names_and_doubled_names() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.exchange(&[parse("a", "SELECT 1"), sync()]).await;
    let cases: Vec<(Vec<Vec<u8>>, Vec<&str>)> = vec![
        (vec![bind("", "zz", &[], &[], &[])], vec!["E ERROR 26000 prepared statement \"zz\" does not exist"]),
        (vec![bind("", "", &[], &[], &[])], vec!["E ERROR 26000 unnamed prepared statement does not exist"]),
        (vec![parse("a", "SELECT 2")], vec!["E ERROR 42P05 prepared statement \"a\" already exists"]),
        (vec![describe(b'S', "zz")], vec!["E ERROR 26000 prepared statement \"zz\" does not exist"]),
        (vec![describe(b'P', "zz")], vec!["E ERROR 34000 portal \"zz\" does not exist"]),
        (vec![describe(b'X', "zz")], vec!["E ERROR 08P01 invalid DESCRIBE message subtype 88"]),
        (vec![close(b'X', "zz")], vec!["E ERROR 08P01 invalid CLOSE message subtype 88"]),
        (vec![close(b'S', "zz"), close(b'P', "zz")], vec!["3", "3"]),
        (vec![execute("zz", 0)], vec!["E ERROR 34000 portal \"zz\" does not exist"]),
        (
            vec![bind("p", "a", &[], &[], &[]), bind("p", "a", &[], &[], &[])],
            vec!["2", "E ERROR 42P03 cursor \"p\" already exists"],
        ),
        (
            vec![parse("", "SELECT 1; SELECT 2")],
            vec!["E ERROR 42601 cannot insert multiple commands into a prepared statement"],
        ),
    ];
    for (mut messages, mut expected) in cases {
        messages.push(sync());
        expected.push("Z I");
        assert_eq!(raw.exchange(&messages).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_and_formats() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.exchange(&[parse("b", "SELECT $1::int"), sync()]).await;
    let one: &[Option<&[u8]>] = &[Some(b"1")];
    let x: &[Option<&[u8]>] = &[Some(b"x")];
    let long: &[Option<&[u8]>] = &[Some(b"xxxxxxxx")];
    let binary: &[Option<&[u8]>] = &[Some(&[0, 0, 0, 7])];
    type Case<'a> = (&'a [i16], &'a [Option<&'a [u8]>], &'a [i16], &'a [&'a str]);
    let cases: &[Case] = &[
        (&[], &[], &[], &["E ERROR 08P01 bind message supplies 0 parameters, but prepared statement \"b\" requires 1"]),
        (&[0, 0], one, &[], &["E ERROR 08P01 bind message has 2 parameter formats but 1 parameters"]),
        (&[5], one, &[], &["E ERROR 22023 unsupported format code: 5 | W: unnamed portal parameter $1"]),
        (&[0], one, &[0, 0], &["E ERROR 08P01 bind message has 2 result formats but query has 1 columns"]),
        (&[0], one, &[9], &["2", "E ERROR 22023 unsupported format code: 9"]),
        (
            &[0],
            x,
            &[],
            &["E ERROR 22P02 invalid input syntax for type integer: \"x\" | W: unnamed portal parameter $1 = '...'"],
        ),
        (&[1], x, &[], &["E ERROR 08P01 insufficient data left in message | W: unnamed portal parameter $1"]),
        (
            &[1],
            long,
            &[],
            &["E ERROR 22P03 incorrect binary data format in bind parameter 1 | W: unnamed portal parameter $1"],
        ),
        (&[0], one, &[1], &["2", "D \\x00\\x00\\x00\\x01", "C SELECT 1"]),
        (&[1], binary, &[], &["2", "D 7", "C SELECT 1"]),
    ];
    for (formats, parameters, results, expected) in cases {
        let messages = [bind("", "b", formats, parameters, results), execute("", 0), sync()];
        let replies = raw.exchange(&messages).await;
        assert_eq!(replies[..replies.len() - 1], **expected);
        assert_eq!(replies.last().unwrap(), "Z I");
    }
}

#[tokio::test(start_paused = true)]
async fn row_limits() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.exchange(&[parse("g", "SELECT * FROM generate_series(1, 5)"), sync()]).await;
    let five =
        [bind("p", "g", &[], &[], &[]), execute("p", 2), execute("p", 2), execute("p", 2), execute("p", 2), sync()];
    let expected = ["2", "D 1", "D 2", "s", "D 3", "D 4", "s", "D 5", "C SELECT 1", "C SELECT 0", "Z I"];
    assert_eq!(raw.exchange(&five).await, expected);
    let exact = [bind("p", "g", &[], &[], &[]), execute("p", 5), execute("p", 5), sync()];
    let expected = ["2", "D 1", "D 2", "D 3", "D 4", "D 5", "s", "C SELECT 0", "Z I"];
    assert_eq!(raw.exchange(&exact).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_rows_before_a_failing_row_are_sent() {
    const FAILS: &str = "E ERROR 22012 division by zero";
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let failing = "SELECT 10 / (n - 3) FROM generate_series(1, 5) g(n)";
    assert_eq!(raw.query(failing).await, ["T 1", "D -5", "D -10", FAILS, "Z I"]);
    raw.query("BEGIN").await;
    assert_eq!(raw.query(failing).await, ["T 1", "D -5", "D -10", FAILS, "Z E"]);
    raw.query("ROLLBACK").await;
    for (limits, expected) in [
        (&[0][..], &["D -5", "D -10", FAILS][..]),
        (&[1, 1, 1], &["D -5", "s", "D -10", "s", FAILS]),
        (&[2, 0], &["D -5", "D -10", "s", FAILS]),
        (&[3], &["D -5", "D -10", FAILS]),
        (&[1, 0], &["D -5", "s", "D -10", FAILS]),
        // Nobody asked for the row that fails.
        (&[2], &["D -5", "D -10", "s"]),
    ] {
        let mut messages = vec![parse("", failing), bind("", "", &[], &[], &[])];
        messages.extend(limits.iter().map(|&limit| execute("", limit)));
        messages.push(sync());
        assert_eq!(raw.exchange(&messages).await, [&["1", "2"][..], expected, &["Z I"]].concat(), "{limits:?}");
    }
    // What comes first in the row takes its time first.
    let began = tokio::time::Instant::now();
    let slow = "SELECT pg_sleep(0.3), 10 / (n - 1) FROM generate_series(1, 1) g(n)";
    assert_eq!(raw.query(slow).await, ["T 2", FAILS, "Z I"]);
    assert_eq!(began.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn portals_end_with_their_transaction() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.exchange(&[parse("a", "SELECT 1"), sync()]).await;
    assert_eq!(raw.exchange(&[bind("p", "a", &[], &[], &[]), sync()]).await, ["2", "Z I"]);
    let gone = ["E ERROR 34000 portal \"p\" does not exist", "Z I"];
    assert_eq!(raw.exchange(&[execute("p", 0), sync()]).await, gone);
    raw.query("BEGIN").await;
    assert_eq!(raw.exchange(&[bind("p", "a", &[], &[], &[]), sync()]).await, ["2", "Z T"]);
    assert_eq!(server.session_report(raw.pid).unwrap().portals, ["p"]);
    assert_eq!(raw.exchange(&[execute("p", 0), sync()]).await, ["D 1", "C SELECT 1", "Z T"]);
    raw.query("COMMIT").await;
    assert_eq!(raw.exchange(&[execute("p", 0), sync()]).await, gone);
}

#[tokio::test(start_paused = true)]
async fn an_error_skips_to_sync() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    // Everything but Sync and Terminate is discarded, a simple query included.
    let messages = [parse("", "SELEC"), query("SELECT 1"), parse("", "SELECT 1"), flush(), sync()];
    assert_eq!(raw.exchange(&messages).await, [SYNTAX, "Z I"]);
    assert_eq!(raw.exchange(&[sync()]).await, ["Z I"]);
    // The statement before the error is undone with it, and what follows Sync is a new batch.
    let messages = [parse("", "SELECT 1/0"), bind("", "", &[], &[], &[]), execute("", 0), sync(), query("SELECT 2")];
    raw.send(&messages.concat()).await;
    assert_eq!(raw.until_ready().await.last().unwrap(), "Z I");
    assert_eq!(raw.until_ready().await, ["T 1", "D 2", "C SELECT 1", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_parse_drops_the_unnamed_statement_and_so_does_a_simple_query() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let unnamed = ["E ERROR 26000 unnamed prepared statement does not exist", "Z I"];
    raw.exchange(&[parse("", "SELECT 1"), sync()]).await;
    assert_eq!(raw.exchange(&[parse("", "SELEC"), sync()]).await, [SYNTAX, "Z I"]);
    assert_eq!(raw.exchange(&[bind("", "", &[], &[], &[]), sync()]).await, unnamed);
    raw.exchange(&[parse("", "SELECT 1"), sync()]).await;
    raw.query("SELECT 7").await;
    assert_eq!(raw.exchange(&[bind("", "", &[], &[], &[]), sync()]).await, unnamed);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_is_one_implicit_transaction() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.query("CREATE TABLE t (a int)").await;
    let run = |sql: &str| [parse("", sql), bind("", "", &[], &[], &[]), execute("", 0)].concat();
    let messages = [run("INSERT INTO t VALUES (1)"), run("SELECT 1/0"), sync()];
    let replies = raw.exchange(&messages).await;
    assert_eq!(replies[..3], ["1", "2", "C INSERT 0 1"]);
    assert_eq!(raw.query("SELECT count(*) FROM t").await[1], "D 0");
    let messages = [run("INSERT INTO t VALUES (1)"), sync(), run("SELECT 1/0"), sync()];
    raw.exchange(&messages).await;
    raw.until_ready().await;
    assert_eq!(raw.query("SELECT count(*) FROM t").await[1], "D 1");
}

#[tokio::test(start_paused = true)]
async fn empty_statements_in_the_extended_protocol() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let messages =
        [parse("", ""), bind("", "", &[], &[], &[]), describe(b'S', ""), describe(b'P', ""), execute("", 0), sync()];
    assert_eq!(raw.exchange(&messages).await, ["1", "2", "t 0", "n", "n", "I", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_transaction_takes_only_its_end() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    raw.exchange(&[parse("a", "SELECT 1"), sync()]).await;
    raw.query("BEGIN; SELECT 1/0").await;
    for messages in
        [[parse("", "SELECT 1"), sync()], [bind("", "a", &[], &[], &[]), sync()], [describe(b'S', "a"), sync()]]
    {
        assert_eq!(raw.exchange(&messages).await, [ABORTED, "Z E"]);
    }
    assert_eq!(raw.exchange(&[close(b'S', "a"), sync()]).await, ["3", "Z E"]);
    let rollback = [parse("", "ROLLBACK"), bind("", "", &[], &[], &[]), describe(b'P', ""), execute("", 0), sync()];
    assert_eq!(raw.exchange(&rollback).await, ["1", "2", "n", "C ROLLBACK", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn malformed_messages() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let cases: Vec<(Vec<Vec<u8>>, &str)> = vec![
        (vec![message(b'S', b"xx")], "08P01 invalid message format"),
        (vec![message(b'Q', b"select 1")], "08P01 invalid string in message"),
        (vec![message(b'Q', b"select 1\0xx")], "08P01 invalid message format"),
        (vec![message(b'P', b"a\0select 1\0\0"), sync()], "08P01 insufficient data left in message"),
        (vec![message(b'P', b"\0select 1\0\0\0zz"), sync()], "08P01 invalid message format"),
        (vec![message(b'Q', b"select '\xff\xfe'\0")], "22021 invalid byte sequence for encoding \"UTF8\": 0xff"),
        // Observed as 42883 for an unknown function; here no function can be called this way.
        (vec![message(b'F', &[0; 10])], "0A000 poolproof's server does not support the FunctionCall message"),
    ];
    for (messages, error) in cases {
        assert_eq!(raw.exchange(&messages).await, [format!("E ERROR {error}"), "Z I".to_owned()]);
    }
    // What is left of a failed COPY is ignored.
    let messages = [message(b'd', b"xx"), message(b'c', b""), message(b'f', b"x\0"), query("SELECT 1")];
    assert_eq!(raw.exchange(&messages).await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn broken_streams_end_the_session() {
    let (server, events) = server(quick()).await;
    let cases: [(&[u8], &[&str]); 5] = [
        (b"z\0\0\0\x04", &["E FATAL 08P01 invalid frontend message type 122", "FIN"]),
        (b"p\0\0\0\x05x", &["E FATAL 08P01 invalid frontend message type 112", "FIN"]),
        (b"Q\0\0\0\x02", &["FIN"]),
        (b"Q\x7f\xff\xff\xff", &["FIN"]),
        (b"S\0\xff\xff\xff", &["FIN"]),
    ];
    for (bytes, expected) in cases {
        let mut raw = Raw::connect(&server).await;
        raw.send(bytes).await;
        assert_eq!(raw.until_ready().await, expected);
    }
    // Also while a batch is skipped.
    let mut raw = Raw::connect(&server).await;
    raw.send(&[parse("", "SELEC"), message(b'z', b"x")].concat()).await;
    let expected = [SYNTAX, "E FATAL 08P01 invalid frontend message type 122", "FIN"];
    assert_eq!(raw.until_ready().await, expected);
    events.take();
    let mut raw = Raw::connect(&server).await;
    let pid = raw.pid;
    raw.send(&[parse("", "SELEC"), message(b'X', b"")].concat()).await;
    assert_eq!(raw.until_ready().await, [SYNTAX, "FIN"]);
    let gone = ServerEvent::Gone { pid, reason: Gone::Terminate };
    assert_eq!(events.take().last(), Some(&gone));
}

#[tokio::test(start_paused = true)]
async fn parameter_status_tells_what_differs_at_ready_for_query() {
    let (server, _) = server(quick()).await;
    let mut raw = Raw::connect(&server).await;
    let twice = raw.query("SET application_name = 'x'; SELECT 1").await;
    assert_eq!(twice, ["C SET", "T 1", "D 1", "C SELECT 1", "S application_name x", "Z I"]);
    assert_eq!(raw.query("SET application_name = 'x'").await, ["C SET", "Z I"]);
    let back = raw.query("SET application_name = 'z'; SET application_name = 'x'").await;
    assert_eq!(back, ["C SET", "C SET", "Z I"]);
    let undone = raw.query("SET application_name = 'w'; SELECT 1/0").await;
    assert_eq!(undone, ["C SET", "E ERROR 22012 division by zero", "Z I"]);
    assert_eq!(
        raw.query("BEGIN; SET application_name = 'y'").await,
        ["C BEGIN", "C SET", "S application_name y", "Z T"]
    );
    assert_eq!(raw.query("ROLLBACK").await, ["C ROLLBACK", "S application_name x", "Z I"]);
    let extended = [parse("", "SET application_name = 'e'"), bind("", "", &[], &[], &[]), execute("", 0), flush()];
    raw.send(&extended.concat()).await;
    assert_eq!(raw.within(Duration::from_millis(10)).await, ["1", "2", "C SET"]);
    assert_eq!(raw.exchange(&[sync()]).await, ["S application_name e", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn notifications_wait_for_the_end_of_the_transaction() {
    let (server, _) = server(quick()).await;
    let mut ear = Raw::connect(&server).await;
    let mut mouth = Raw::connect(&server).await;
    ear.query("LISTEN a").await;
    assert_eq!(ear.query("NOTIFY a, 'self'").await, ["C NOTIFY", "A a self", "Z I"]);
    mouth.query("NOTIFY a, 'idle'").await;
    assert_eq!(ear.within(Duration::from_millis(1)).await, ["A a idle"]);
    ear.query("BEGIN").await;
    mouth.query("NOTIFY a, 'later'").await;
    assert_eq!(ear.within(Duration::from_millis(1)).await, Vec::<String>::new());
    assert_eq!(ear.query("COMMIT").await, ["C COMMIT", "A a later", "Z I"]);
    ear.send(&[parse("", "SELECT 1"), flush()].concat()).await;
    mouth.query("NOTIFY a, 'batch'").await;
    assert_eq!(ear.within(Duration::from_millis(1)).await, ["1"]);
    assert_eq!(ear.exchange(&[sync()]).await, ["A a batch", "Z I"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_noticed_when_idle_but_not_when_active() {
    let (server, events) = server(quick()).await;
    let idle = Raw::connect(&server).await;
    let in_transaction = {
        let mut raw = Raw::connect(&server).await;
        raw.query("BEGIN").await;
        raw
    };
    let mut active = Raw::connect(&server).await;
    active.query("CREATE TABLE t (a int)").await;
    active.send(&query("SELECT pg_sleep(5); INSERT INTO t VALUES (1)")).await;
    settle().await;
    drop((idle, in_transaction, active));
    settle().await;
    assert_eq!(server.counts().backends, 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(server.counts().backends, 0);
    assert_eq!(server.query("SELECT count(*) FROM t").unwrap(), [[Some("1".to_owned())]]);
    assert!(events.take().iter().any(|event| matches!(event, ServerEvent::Committed { .. })));
}

#[tokio::test(start_paused = true)]
async fn events_of_one_statement() {
    use poolproof_sim::postgres::event::BackendState;
    let (server, events) = server(Config { fork_time: Duration::from_millis(2), ..quick() }).await;
    let mut raw = Raw::connect(&server).await;
    let (pid, peer) = (raw.pid, "10.0.0.9:4000".parse().unwrap());
    raw.query("SELECT 1").await;
    raw.query("SELECT 1/0").await;
    raw.send(&message(b'X', b"")).await;
    assert_eq!(raw.until_ready().await, ["FIN"]);
    let state = |state| ServerEvent::State { pid, state };
    let expected = [
        ServerEvent::Forked { pid, peer },
        state(BackendState::Idle),
        state(BackendState::Active),
        ServerEvent::Statement { pid, text: "SELECT 1".into() },
        ServerEvent::StatementEnd { pid, result: Ok("SELECT 1".into()) },
        state(BackendState::Idle),
        state(BackendState::Active),
        ServerEvent::Statement { pid, text: "SELECT 1/0".into() },
        ServerEvent::StatementEnd { pid, result: Err(SqlState::DIVISION_BY_ZERO) },
        state(BackendState::Idle),
        ServerEvent::Gone { pid, reason: Gone::Terminate },
    ];
    assert_eq!(events.take(), expected);
}
