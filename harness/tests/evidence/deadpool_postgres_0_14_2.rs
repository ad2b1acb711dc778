//! deadpool-postgres 0.14.2.

use std::pin::Pin;

use deadpool_postgres::{Connect, ManagerConfig, Pool, RecyclingMethod};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error, NoTls};

use super::*;

/// The statements that the one backend got, in order.
#[derive(Clone, Default)]
struct Backend(Arc<Mutex<Vec<String>>>);

impl Backend {
    /// Answers each simple query with an empty result and the transaction status that PostgreSQL would have.
    async fn serve(self, mut io: DuplexStream) -> io::Result<()> {
        let len = io.read_u32().await? as usize;
        io.read_exact(&mut vec![0; len - 4]).await?;
        io.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I").await?;
        let mut status = b'I';
        while io.read_u8().await? == b'Q' {
            let len = io.read_u32().await? as usize;
            let mut body = vec![0; len - 4];
            io.read_exact(&mut body).await?;
            let text = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
            for statement in text.split(';').map(str::trim) {
                match statement {
                    "BEGIN" => status = b'T',
                    "ROLLBACK" | "COMMIT" | "ABORT" | "END" => status = b'I',
                    _ => {}
                }
            }
            self.0.lock().push(text);
            io.write_all(&[b'I', 0, 0, 0, 4, b'Z', 0, 0, 0, 5, status]).await?;
            self.0.lock().push(format!("status {}", char::from(status)));
        }
        Ok(())
    }

    fn pool(&self, recycling_method: RecyclingMethod) -> Pool {
        let config = ManagerConfig { recycling_method };
        let manager = deadpool_postgres::Manager::from_connect(Config::new(), self.clone(), config);
        Pool::builder(manager).max_size(1).build().unwrap()
    }

    /// What it was asked since the last look, and the status after it.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Connect for Backend {
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(self.clone().serve(theirs));
            let (client, connection) = Config::new().user("app").connect_raw(ours, NoTls).await?;
            let task = tokio::spawn(async move { drop(connection.await) });
            Ok((client, task))
        })
    }
}

/// `Object::drop` (deadpool's managed/object.rs) only queues the connection (`PoolInner::return_object`);
/// `Manager::recycle` (lib.rs), which sends the SQL, is called by `Pool::try_recycle` in the next `get`.
#[tokio::test(start_paused = true)]
async fn resets_at_the_next_hand_out_only() {
    let backend = Backend::default();
    let pool = backend.pool(RecyclingMethod::Custom("ROLLBACK".to_owned()));
    let client = pool.get().await.unwrap();
    client.simple_query("BEGIN").await.unwrap();
    drop(client);
    sleep(HOUR).await;
    assert_eq!(backend.log(), ["BEGIN", "status T"], "its locks are held for an hour");
    drop(pool.get().await.unwrap());
    assert_eq!(backend.log(), ["ROLLBACK", "status I"]);
}

/// `RecyclingMethod::DISCARD_SQL` (config.rs) has no ROLLBACK, and each of its statements may be run in a
/// transaction: it "guarantees a pristine connection", and hands out an open transaction. (`DISCARD ALL`, which it
/// stands for, would fail there, and the connection be closed.) What the next one writes is lost with it.
#[tokio::test(start_paused = true)]
async fn clean_leaves_a_transaction_open() {
    let backend = Backend::default();
    let pool = backend.pool(RecyclingMethod::Clean);
    let client = pool.get().await.unwrap();
    client.simple_query("BEGIN").await.unwrap();
    drop(client);
    backend.log();
    let client = pool.get().await.unwrap();
    client.simple_query("INSERT").await.unwrap();
    let clean = RecyclingMethod::Clean.query().unwrap();
    assert_eq!(backend.log(), [clean, "status T", "INSERT", "status T"]);
    let words = clean.to_uppercase();
    assert!(!["ROLLBACK", "ABORT", "COMMIT", "END;"].iter().any(|end| words.contains(end)), "{clean}");
}
