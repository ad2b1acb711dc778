//! The server behind the simulated network: what clients on other hosts meet, and when. Links take 1 ms each way, so that a
//! round trip is 2 ms; what the server does takes no time unless a test says so.
#![expect(clippy::unwrap_used, reason = "tests")]

mod postgres_client;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::net::{Direction, FlowFilter, Host, Link, Net, SocketOptions, Stream};
use poolproof_sim::postgres::event::{Gone, Lifecycle, ServerEvent};
use poolproof_sim::postgres::sql::StatementCost;
use poolproof_sim::postgres::{Config, Server, StopMode};
use postgres_client::*;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 5432;
const SHUTDOWN: &str = "E FATAL 57P01 terminating connection due to administrator command";
const IMMEDIATE: &str = "N WARNING 57P01 terminating connection due to immediate shutdown command";
const TOO_MANY: &str = "E FATAL 53300 sorry, too many clients already";
const RESERVED: &str =
    "E FATAL 53300 remaining connection slots are reserved for non-replication superuser connections";
const STOPPING: &str = "E FATAL 57P03 the database system is shutting down";
/// Linux's defaults: 7200 s of silence, then 9 probes 75 s apart.
const KEEPALIVE: Duration = Duration::from_secs(7200 + 9 * 75);

/// A server on one host, clients on another.
struct Site {
    net: Net,
    db: Host,
    web: Host,
    server: Server,
    events: Arc<Events>,
    epoch: Instant,
}

impl Site {
    async fn new(config: Config) -> Site {
        let epoch = Instant::now();
        let net = Net::new(1);
        net.set_default_link(Link::with_latency(MS));
        let (db, web) = (net.add_host("db"), net.add_host("web"));
        let (server, events) = server(config).await;
        open_port(&db, &server, 128);
        Site { net, db, web, server, events, epoch }
    }

    async fn dial(&self) -> std::io::Result<Stream> {
        self.web.connect("db", PORT, &SocketOptions::default()).await
    }

    async fn connect_as(&self, user: &str) -> Raw<Stream> {
        let mut raw = self.begin(user).await;
        assert_eq!(raw.until_ready().await.last().unwrap(), "Z I");
        raw
    }

    async fn connect(&self) -> Raw<Stream> {
        self.connect_as("postgres").await
    }

    async fn begin(&self, user: &str) -> Raw<Stream> {
        let mut raw = Raw::over(self.dial().await.unwrap());
        raw.send(&startup(3, 0, &[("user", user), ("database", "postgres")])).await;
        raw
    }

    async fn client(&self, user: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let stream = self.dial().await.unwrap();
        let mut config = tokio_postgres::Config::new();
        let (client, connection) =
            config.user(user).dbname("postgres").connect_raw(stream, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// The client's host loses its power; the handle of the next boot is not needed.
    fn cut_client(&self) {
        self.web.power_off();
    }

    fn gone(&self) -> Vec<(i32, Gone)> {
        let gone = |event| match event {
            ServerEvent::Gone { pid, reason } => Some((pid, reason)),
            _ => None,
        };
        let mut gone: Vec<_> = self.events.take().into_iter().filter_map(gone).collect();
        gone.sort_by_key(|(pid, _)| *pid); // what happens in one instant has no order
        gone
    }

    fn cell(&self, sql: &str) -> Option<String> {
        self.server.query(sql).unwrap().remove(0).remove(0)
    }
}

/// Serves whoever connects, while the server is not down.
fn open_port(host: &Host, server: &Server, backlog: usize) {
    let mut listener = host.listen(PORT, backlog).unwrap();
    listener.set_accepted_options(SocketOptions::postgres_server());
    let server = server.clone();
    tokio::spawn(async move {
        let mut lifecycle = server.lifecycle_watch();
        loop {
            tokio::select! {
                biased;
                _ = lifecycle.wait_for(|now| *now == Lifecycle::Down) => return,
                accepted = listener.accept() => {
                    let Ok((stream, peer)) = accepted else { return };
                    let server = server.clone();
                    tokio::spawn(async move { server.serve(stream, peer).await });
                }
            }
        }
    });
}

fn slow_insert() -> Config {
    let cost = |like: &str| StatementCost { like: like.to_owned(), takes: 5 * SECOND, per_row: Duration::ZERO };
    Config {
        costs: vec![cost("INSERT INTO slow%")],
        initial_sql:
            "CREATE TABLE slow (a int); CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)"
                .to_owned(),
        ..quick()
    }
}

#[tokio::test(start_paused = true)]
async fn a_startup_and_a_query_take_their_round_trips() {
    let site = Site::new(Config { fork_time: 2 * MS, ..quick() }).await;
    let stream = site.dial().await.unwrap();
    assert_eq!(site.epoch.elapsed(), 2 * MS, "the handshake");
    let mut raw = Raw::over(stream);
    raw.send(&startup(3, 0, &[("user", "app")])).await;
    assert_eq!(raw.until_ready().await.last().unwrap(), "Z I");
    assert_eq!(site.epoch.elapsed(), 6 * MS, "a round trip and the fork");
    raw.query("SELECT 1").await;
    assert_eq!(site.epoch.elapsed(), 8 * MS);
    let client = site.client("app").await.unwrap();
    let began = Instant::now();
    let row = client.query_one("SELECT $1::int + 1", &[&1_i32]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 2);
    assert_eq!(began.elapsed(), 4 * MS, "Parse, then Bind and Execute");
}

#[tokio::test(start_paused = true)]
async fn after_a_fin_from_the_server_the_first_send_succeeds_and_the_next_fails() {
    let site = Site::new(quick()).await;
    let mut raw = site.connect().await;
    assert!(site.server.terminate(raw.pid));
    tokio::time::sleep(10 * MS).await;
    raw.socket.write_all(&query("SELECT 1")).await.unwrap();
    tokio::time::sleep(10 * MS).await;
    let error = raw.socket.write_all(&query("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_fin_is_noticed_at_once_when_idle_or_idle_in_a_transaction() {
    let site = Site::new(slow_insert()).await;
    let idle = site.connect().await;
    let mut in_transaction = site.connect().await;
    in_transaction.query("BEGIN; UPDATE t SET v = 9").await;
    site.events.take();
    let pids = [idle.pid, in_transaction.pid];
    drop((idle, in_transaction));
    tokio::time::sleep(MS).await;
    settle().await;
    assert_eq!(site.gone(), pids.map(|pid| (pid, Gone::ClientClosed)), "when the FIN arrives");
    assert_eq!(site.cell("SELECT v FROM t FOR UPDATE NOWAIT").unwrap(), "0");
}

#[tokio::test(start_paused = true)]
async fn an_insert_under_way_commits_though_its_client_left() {
    let site = Site::new(slow_insert()).await;
    let mut raw = site.connect().await;
    raw.send(&query("INSERT INTO slow VALUES (1)")).await;
    tokio::time::sleep(SECOND).await;
    drop(raw);
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(site.server.counts().backends, 1);
    assert_eq!(site.cell("SELECT count(*) FROM slow").unwrap(), "0");
    tokio::time::sleep(1001 * MS).await;
    settle().await;
    assert_eq!(site.server.counts().backends, 0);
    assert_eq!(site.cell("SELECT count(*) FROM slow").unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_lock_waiter_whose_client_left_waits_gets_the_lock_and_commits() {
    let site = Site::new(slow_insert()).await;
    let mut holder = site.connect().await;
    holder.query("BEGIN; UPDATE t SET v = v + 1").await;
    let mut waiter = site.connect().await;
    waiter.send(&query("UPDATE t SET v = v + 10")).await;
    tokio::time::sleep(SECOND).await;
    drop(waiter);
    tokio::time::sleep(3600 * SECOND).await;
    assert_eq!(site.server.counts().blocked, 1);
    holder.query("COMMIT").await;
    tokio::time::sleep(MS).await;
    assert_eq!(site.server.counts().backends, 1);
    assert_eq!(site.cell("SELECT v FROM t").unwrap(), "11");
}

#[tokio::test(start_paused = true)]
async fn client_connection_check_interval_ends_an_active_backend_and_a_lock_waiter() {
    let site = Site::new(slow_insert()).await;
    let mut holder = site.connect().await;
    holder.query("BEGIN; UPDATE t SET v = v + 1").await;
    let mut sleeper = site.connect().await;
    let mut waiter = site.connect().await;
    for raw in [&mut sleeper, &mut waiter] {
        raw.query("SET client_connection_check_interval = '200ms'").await;
    }
    sleeper.send(&query("INSERT INTO slow VALUES (1)")).await;
    waiter.send(&query("UPDATE t SET v = v + 10")).await;
    tokio::time::sleep(250 * MS).await; // both began 249 ms ago
    site.events.take();
    let pids = [sleeper.pid, waiter.pid];
    drop((sleeper, waiter));
    tokio::time::sleep(150 * MS).await;
    assert_eq!(site.gone(), []);
    tokio::time::sleep(MS).await;
    settle().await;
    assert_eq!(site.gone(), pids.map(|pid| (pid, Gone::ClientClosed)), "400 ms after they began");
    holder.query("COMMIT").await;
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(site.cell("SELECT v FROM t").unwrap(), "1");
    assert_eq!(site.cell("SELECT count(*) FROM slow").unwrap(), "0");
}

#[tokio::test(start_paused = true)]
async fn client_connection_check_interval_finds_nothing_half_open() {
    let site = Site::new(slow_insert()).await;
    let mut raw = site.connect().await;
    raw.query("SET client_connection_check_interval = '200ms'").await;
    raw.send(&query("INSERT INTO slow VALUES (1)")).await;
    tokio::time::sleep(10 * MS).await;
    site.cut_client();
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(site.server.counts().backends, 1);
    assert_eq!(site.cell("SELECT count(*) FROM slow").unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn half_open_backends_live_with_their_locks_until_the_keepalive_gives_up() {
    let site = Site::new(slow_insert()).await;
    let mut raw = site.connect().await;
    raw.query("BEGIN; UPDATE t SET v = 9").await;
    let last_heard = Instant::now() - MS;
    site.cut_client();
    let other = site.net.add_host("other");
    let mut waiter = Raw::over(other.connect("db", PORT, &SocketOptions::default()).await.unwrap());
    waiter.send(&startup(3, 0, &[("user", "postgres")])).await;
    waiter.until_ready().await;
    site.events.take();
    waiter.send(&query("UPDATE t SET v = v + 1")).await;
    tokio::time::sleep_until(last_heard + KEEPALIVE - 2 * SECOND).await;
    assert_eq!((site.server.counts().backends, site.server.counts().blocked), (2, 1));
    assert_eq!(waiter.until_ready().await, ["C UPDATE 1", "Z I"]);
    let late = last_heard.elapsed() - KEEPALIVE;
    assert!(late <= 5 * MS, "{late:?}");
    assert_eq!(site.gone(), [(raw.pid, Gone::SocketError(ErrorKind::TimedOut))]);
    assert_eq!(site.cell("SELECT v FROM t").unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_flow_is_half_open_on_both_sides() {
    let site = Site::new(slow_insert()).await;
    let mut raw = site.connect().await;
    raw.query("BEGIN; UPDATE t SET v = 9").await;
    assert_eq!(site.net.forget_flows(&FlowFilter::all()), 1);
    // The client's next statement disappears; it waits for ever, as a client without TCP_USER_TIMEOUT nearly does.
    raw.send(&query("COMMIT")).await;
    assert_eq!(raw.within(600 * SECOND).await, [""; 0]);
    assert_eq!(site.server.counts().in_transaction, 1);
    let fresh = site.client("app").await;
    assert!(fresh.is_ok(), "new connections work");
    tokio::time::sleep(KEEPALIVE).await;
    assert_eq!(site.server.counts().in_transaction, 0);
    assert_eq!(site.cell("SELECT v FROM t").unwrap(), "0");
}

#[tokio::test(start_paused = true)]
async fn an_active_half_open_backend_lives_at_least_to_the_end_of_its_statement() {
    let site = Site::new(slow_insert()).await;
    let mut raw = site.connect().await;
    // Its keepalive gives up long before the statement ends, and nobody looks.
    raw.query("SET tcp_keepalives_idle = 1; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 1").await;
    raw.send(&query("INSERT INTO slow VALUES (1)")).await;
    tokio::time::sleep(10 * MS).await;
    site.cut_client();
    tokio::time::sleep(4900 * MS).await;
    assert_eq!(site.server.counts().backends, 1);
    tokio::time::sleep(200 * MS).await;
    assert_eq!(site.server.counts().backends, 0);
    assert_eq!(site.cell("SELECT count(*) FROM slow").unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn the_servers_keepalive_settings_count() {
    let site = Site::new(quick()).await;
    let mut default = site.connect().await;
    let mut short = site.connect().await;
    short.query("SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3").await;
    let heard = Instant::now() - MS;
    default.query("SET tcp_keepalives_idle = 0").await;
    site.events.take();
    site.cut_client();
    tokio::time::sleep_until(heard + 89 * SECOND).await;
    assert_eq!(site.server.counts().backends, 2);
    tokio::time::sleep_until(heard + 90 * SECOND + 5 * MS).await;
    assert_eq!(site.gone(), [(short.pid, Gone::SocketError(ErrorKind::TimedOut))]);
    tokio::time::sleep_until(heard + KEEPALIVE + 10 * MS).await;
    assert_eq!(site.gone(), [(default.pid, Gone::SocketError(ErrorKind::TimedOut))]);
}

#[tokio::test(start_paused = true)]
async fn half_open_backends_hold_their_slots() {
    let site = Site::new(Config { max_connections: 5, ..quick() }).await;
    let _lost = [site.connect_as("app").await, site.connect_as("app").await];
    site.net.forget_flows(&FlowFilter::all());
    let mut next = site.begin("app").await;
    assert_eq!(next.until_ready().await, ["R 0", RESERVED, "FIN"]);
    tokio::time::sleep(KEEPALIVE).await;
    site.connect_as("app").await;
}

#[tokio::test(start_paused = true)]
async fn a_herd_gets_a_few_too_many_clients() {
    let site = Site::new(Config { max_connections: 5, fork_time: 2 * MS, ..quick() }).await;
    let _sessions = [site.connect_as("app").await, site.connect_as("app").await];
    let herd: Vec<_> = futures_all((0..8).map(|_| site.client("app"))).await;
    let mut messages: Vec<String> = herd
        .into_iter()
        .map(|result| result.err().unwrap())
        .map(|error| error.as_db_error().unwrap().message().to_owned())
        .collect();
    messages.sort();
    let (too_many, reserved) = (&TOO_MANY["E FATAL 53300 ".len()..], &RESERVED["E FATAL 53300 ".len()..]);
    assert_eq!(messages.iter().filter(|message| *message == reserved).count(), 3);
    assert_eq!(messages.iter().filter(|message| *message == too_many).count(), 5);
    tokio::time::sleep(10 * MS).await;
    assert_eq!(site.server.counts().backends, 2);
}

/// Polls all of them to their ends, on one task.
async fn futures_all<F: std::future::Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        match futures.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    futures.into_iter().map(|(_, output)| output.unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_fast_stop_reaches_clients_as_fatal_and_fin() {
    let site = Site::new(quick()).await;
    let mut idle = site.connect().await;
    let client = site.client("app").await.unwrap();
    let began = Instant::now();
    let stopped = site.server.stop(StopMode::Fast);
    assert_eq!(idle.until_ready().await, [SHUTDOWN, "FIN"]);
    assert_eq!(began.elapsed(), MS, "one way");
    stopped.await;
    tokio::time::sleep(5 * MS).await;
    assert!(client.is_closed());
    assert_eq!(site.dial().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn an_immediate_stop_reaches_clients_as_a_notice_and_fin() {
    let site = Site::new(quick()).await;
    let mut idle = site.connect().await;
    let client = site.client("app").await.unwrap();
    let asked = Instant::now();
    let query = tokio::spawn(async move { client.simple_query("SELECT pg_sleep(60)").await.unwrap_err() });
    tokio::time::sleep(10 * MS).await;
    site.server.stop(StopMode::Immediate).await;
    assert_eq!(idle.until_ready().await, [IMMEDIATE, "FIN"]);
    let error = query.await.unwrap();
    assert!(error.is_closed() && error.as_db_error().is_none(), "an unexplained end of stream: {error}");
    assert_eq!(asked.elapsed(), 11 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_killed_server_says_nothing() {
    let site = Site::new(quick()).await;
    let mut idle = site.connect().await;
    let mut active = site.connect().await;
    active.send(&query("SELECT pg_sleep(60)")).await;
    tokio::time::sleep(10 * MS).await;
    site.server.kill();
    assert_eq!(idle.until_ready().await, ["FIN"]);
    assert_eq!(active.until_ready().await, ["FIN"]);
    assert_eq!(site.dial().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_servers_power_loss_leaves_its_clients_half_open() {
    let site = Site::new(quick()).await;
    let mut raw = site.connect().await;
    site.db.power_off();
    site.server.power_loss();
    assert_eq!(raw.within(10 * SECOND).await, [""; 0]);
    // Until the host is back and answers what it does not know with a RST.
    let db = site.db.power_on();
    site.server.start();
    open_port(&db, &site.server, 128);
    raw.send(&query("SELECT 1")).await;
    assert_eq!(raw.until_ready().await, ["FIN"]);
    let server = &site.server;
    server.lifecycle_watch().wait_for(|now| *now == Lifecycle::Running).await.unwrap();
    assert!(site.client("app").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn connects_during_a_smart_stop_are_refused_in_words_and_those_in_the_backlog_at_the_end_by_rst() {
    let site = Site::new(quick()).await;
    let mut last = site.connect().await;
    let stopped = site.server.stop(StopMode::Smart);
    assert_eq!(last.query("SELECT 1").await, ["T 1", "D 1", "C SELECT 1", "Z I"]);
    assert_eq!(site.begin("postgres").await.until_ready().await, [STOPPING, "FIN"]);
    last.send(&message(b'X', b"")).await;
    assert_eq!(last.until_ready().await, ["FIN"]);
    stopped.await;
    tokio::time::sleep(MS).await;
    assert_eq!(site.dial().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);

    // A server that does not accept any more: the kernel completes the handshake, and closing the socket ends it.
    let listener = site.db.listen(PORT, 8).unwrap();
    let mut waiting = site.begin("postgres").await;
    drop(listener);
    assert_eq!(waiting.until_ready().await, ["FIN"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_cannot_write_is_ended_without_a_word() {
    let site = Site::new(quick()).await;
    let mut raw = site.connect().await;
    raw.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 2000)")).await;
    tokio::time::sleep(SECOND).await;
    site.events.take();
    assert!(site.server.terminate(raw.pid));
    tokio::time::sleep(MS).await;
    assert_eq!(site.gone(), [(raw.pid, Gone::Fatal(poolproof_sim::postgres::error::SqlState::ADMIN_SHUTDOWN))]);
    let replies = raw.until_end_or_half_a_message().await;
    assert!(replies.len() > 1 && replies.len() < 2000);
    assert!(replies.iter().all(|reply| !reply.starts_with('E')), "observed: rows, and then FIN");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_while_the_client_does_not_read_ends_the_statement_at_the_next_row() {
    let site = Site::new(quick()).await;
    let mut raw = site.connect().await;
    raw.send(&query("SELECT repeat('x', 1000) FROM generate_series(1, 2000)")).await;
    tokio::time::sleep(SECOND).await;
    assert!(site.server.cancel(raw.pid));
    let replies = raw.until_ready().await;
    assert!(replies.len() > 3 && replies.len() < 2000, "{}", replies.len());
    let end = ["E ERROR 57014 canceling statement due to user request", "Z I"];
    assert_eq!(replies[replies.len() - 2..], end);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_request_travels_on_its_own_connection() {
    let site = Site::new(quick()).await;
    let mut raw = site.connect().await;
    raw.send(&query("SELECT pg_sleep(60)")).await;
    tokio::time::sleep(10 * MS).await;
    let began = Instant::now();
    let mut other = site.dial().await.unwrap();
    let body = [80_877_102_i32, raw.pid, raw.secret].map(i32::to_be_bytes).concat();
    other.write_all(&packet(&body)).await.unwrap();
    assert_eq!(raw.until_ready().await, ["T 1", "E ERROR 57014 canceling statement due to user request", "Z I"]);
    assert_eq!(began.elapsed(), 4 * MS, "handshake, request, answer");
}

#[tokio::test(start_paused = true)]
async fn a_partition_delays_and_a_statement_is_done_once() {
    let site = Site::new(slow_insert()).await;
    let mut raw = site.connect().await;
    site.net.partition(&site.web, &site.db, Direction::Both);
    raw.send(&query("UPDATE t SET v = v + 1")).await;
    tokio::time::sleep(10 * SECOND).await;
    site.net.heal_all();
    assert_eq!(raw.until_ready().await, ["C UPDATE 1", "Z I"]);
    assert_eq!(site.cell("SELECT v FROM t").unwrap(), "1");
}

/// Idle, interval (seconds), count and user timeout (ms).
type Keepalive = (u32, u32, u32, u32);

/// What a session asked of its socket, in order.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Keepalive>>>);

/// A socket that remembers its keepalive.
struct Remembering(tokio::io::DuplexStream, Asked);

mod remembering {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Remembering;

    impl AsyncRead for Remembering {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Remembering {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    impl poolproof_sim::postgres::Socket for Remembering {
        fn set_keepalive(&mut self, idle_s: u32, interval_s: u32, count: u32, user_timeout_ms: u32) {
            self.1.0.lock().push((idle_s, interval_s, count, user_timeout_ms));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_socket_is_told_of_keepalive_settings_when_they_change() {
    let (server, _) = server(quick()).await;
    let asked = Asked::default();
    let (socket, other) = tokio::io::duplex(1 << 16);
    let (serving, theirs) = (server.clone(), asked.clone());
    tokio::spawn(async move {
        serving.serve(Remembering(other, theirs), "10.0.0.9:4000".parse().unwrap()).await;
    });
    let mut raw = Raw::over(socket);
    raw.send(&startup(3, 0, &[("user", "postgres")])).await;
    raw.until_ready().await;
    raw.query("SELECT 1").await;
    raw.query("SET tcp_keepalives_idle = 60").await;
    raw.query("SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3").await;
    raw.query("SET tcp_user_timeout = '5s'").await;
    raw.query("SET work_mem = '8MB'").await;
    raw.query("RESET ALL").await;
    // Each SET at once, as its assign hook does.
    let expected = [(60, 0, 0, 0), (60, 10, 0, 0), (60, 10, 3, 0), (60, 10, 3, 5000), (0, 0, 0, 0)];
    assert_eq!(*asked.0.lock(), expected);
}
