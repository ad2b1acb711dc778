//! How many `SELECT 1` a second the server answers, with tokio-postgres over an in-memory pipe and no pool. Run it with
//! `cargo test --release -p poolproof-sim --test postgres_speed -- --ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use poolproof_sim::postgres::event::{Observer, ServerEvent};
use poolproof_sim::postgres::{Config, Server};

struct Count(std::sync::atomic::AtomicU64);

impl Observer for Count {
    fn server_event(&self, _: &str, _: ServerEvent) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

const QUERIES: u32 = 200_000;
const DATA: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v int NOT NULL);
    INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g";

async fn connect(observer: Option<Arc<dyn Observer>>) -> tokio_postgres::Client {
    let config = Config { startup_time: Duration::ZERO, initial_sql: DATA.to_owned(), ..Config::default() };
    let server = Server::new(config, observer).unwrap();
    server.start();
    let (ours, other) = tokio::io::duplex(1 << 16);
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(other, "10.0.0.9:1".parse().unwrap()).await });
    let mut config = tokio_postgres::Config::new();
    config.user("postgres").dbname("postgres");
    let (client, connection) = config.connect_raw(ours, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// By simple queries of one kind.
#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn kinds() {
    let client = connect(Some(Arc::new(Count(0.into())))).await;
    for sql in ["SELECT 1", "SELECT v FROM t WHERE id = 5000", "UPDATE t SET v = v + 1 WHERE id = 5000"] {
        client.simple_query(sql).await.unwrap();
        let began = std::time::Instant::now();
        for _ in 0..QUERIES {
            client.simple_query(sql).await.unwrap();
        }
        println!("{sql}: {:?} each", began.elapsed() / QUERIES);
    }
}

async fn measure(observer: Option<Arc<dyn Observer>>, setting: &str) -> (f64, f64) {
    let client = connect(observer).await;
    client.batch_execute(setting).await.unwrap();
    let began = std::time::Instant::now();
    for _ in 0..QUERIES {
        client.simple_query("SELECT 1").await.unwrap();
    }
    let simple = f64::from(QUERIES) / began.elapsed().as_secs_f64();
    let statement = client.prepare("SELECT 1").await.unwrap();
    let began = std::time::Instant::now();
    for _ in 0..QUERIES {
        client.query_one(&statement, &[]).await.unwrap();
    }
    (simple, f64::from(QUERIES) / began.elapsed().as_secs_f64())
}

#[tokio::test(start_paused = true)]
#[ignore = "a measurement"]
async fn select_1() {
    for (name, observer, setting) in [
        ("plain", None, ""),
        ("statement_timeout on", None, "SET statement_timeout = '30s'"),
        ("observed", Some(Arc::new(Count(0.into())) as Arc<dyn Observer>), ""),
    ] {
        let (simple, prepared) = measure(observer, setting).await;
        println!("{name}: {simple:.0} simple, {prepared:.0} prepared a second");
    }
}
