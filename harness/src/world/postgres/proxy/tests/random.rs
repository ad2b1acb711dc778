//! Sessions of random statements: what the tap knows is what the simulated server knows, after each of them.

use super::*;
use poolproof_sim::postgres::event::Gone;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

// Without constraints: what a statement wrote before it failed is not seen. Nor does a Bind fail, which would be told as a
// statement.
const TABLE: &str = "CREATE TABLE t (id int, n int); INSERT INTO t VALUES (1, 0), (2, 0);";

const STATEMENTS: [&str; 40] = [
    "BEGIN",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "COMMIT",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "SAVEPOINT b",
    "ROLLBACK TO a",
    "ROLLBACK TO SAVEPOINT b",
    "RELEASE a",
    "UPDATE t SET n = n + 1 WHERE id = 1",
    "UPDATE t SET n = n + 1 WHERE id = 99",
    "DELETE FROM t WHERE id = 2",
    "INSERT INTO t VALUES (2, 0)",
    "INSERT INTO t VALUES (1, 0)",
    "SELECT n FROM t",
    "SELECT 1 / (n - n) FROM t",
    "SELECT nothing",
    "UPDATE t SET n = 3 WHERE id = 1; SELECT 1 / 0",
    "BEGIN; UPDATE t SET n = 4 WHERE id = 1",
    "UPDATE t SET n = 5 WHERE id = 1; COMMIT",
    "SELECT 1; SELECT 2",
    "",
    "-- nothing",
    "SET work_mem = '1MB'",
    "SET LOCAL work_mem = '2MB'",
    "SET application_name = 'other'; SET TimeZone = 'UTC'",
    "RESET work_mem",
    "RESET ALL",
    "LISTEN jobs",
    "UNLISTEN *",
    "CREATE TEMP TABLE scratch (id int)",
    "DROP TABLE scratch",
    "PREPARE q AS SELECT 1",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_unlock(1)",
    "SELECT pg_try_advisory_lock(2)",
];

#[tokio::test]
async fn the_tap_knows_what_the_server_knows() {
    for seed in 0..30 {
        let mut entropy = ChaCha8Rng::seed_from_u64(seed);
        let pg = Postgres::start(TABLE).await;
        let (client, driver) = pg.client().await;
        let pid = pg.pid();
        let mut done = Vec::new();
        for _ in 0..40 {
            let sql = *STATEMENTS.choose(&mut entropy).expect("there are some");
            let extended = entropy.random_bool(0.3);
            done.push((sql, extended));
            // Whether it succeeds is the server's business.
            if extended {
                let _ = client.query(sql, &[]).await;
            } else {
                let _ = client.batch_execute(sql).await;
            }
            // A prepared statement that was dropped is closed when the driver next writes.
            if !extended {
                let (truth, tapped) = (pg.truth_of(pid), pg.tapped_of(pid));
                assert_eq!(truth, tapped, "seed {seed}: the server's own report, and the tap's, after {done:#?}");
            }
        }
        drop(client);
        driver.await.expect("it ends");
        let events = pg.agree().await;
        assert!(matches!(events.last(), Some(ServerEvent::Gone { reason: Gone::Terminate, .. })), "{done:?}");
    }
}
