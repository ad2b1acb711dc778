//! What the published pools do, shown without poolproof: the pools from crates.io, a fake connection of a few lines, tokio's
//! paused clock. Each finding that a scenario declares (`[[expect.known]]`) has its test here and its section in
//! `scenarios/museum/README.md`. A test asserts the behaviour as it is in the locked version: when a release changes
//! it, the test fails, and the entry in the scenario can go.
//!
//! bb8 reads `std::time::Instant`, which tokio's paused clock does not move: where its reaper is looked at, real
//! milliseconds pass.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

const HOUR: Duration = Duration::from_secs(3600);

/// What a dial, or a question on a connection, meets.
#[derive(Clone, Copy)]
enum Answer {
    After(Duration),
    Refused,
    Never,
}

impl Answer {
    async fn wait(self) -> io::Result<()> {
        match self {
            Answer::After(time) => {
                sleep(time).await;
                Ok(())
            }
            Answer::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Answer::Never => pending().await,
        }
    }
}

/// A server: how it answers, and how often it was dialled.
struct Server {
    dial: Mutex<Answer>,
    check: Mutex<Answer>,
    dials: AtomicU32,
}

/// A manager of either pool.
#[derive(Clone)]
struct Manager(Arc<Server>);

/// A connection, and whether its driver knows it to be broken.
#[derive(Debug, Clone, Default)]
struct Connection {
    broken: Arc<AtomicBool>,
}

impl Manager {
    fn new() -> Manager {
        let soon = Answer::After(Duration::from_millis(10));
        Manager(Arc::new(Server { dial: Mutex::new(soon), check: Mutex::new(soon), dials: AtomicU32::new(0) }))
    }

    fn dials(&self) -> u32 {
        self.0.dials.load(Ordering::Relaxed)
    }

    fn set_dial(&self, answer: Answer) {
        *self.0.dial.lock() = answer;
    }

    fn set_check(&self, answer: Answer) {
        *self.0.check.lock() = answer;
    }

    async fn dial(&self) -> io::Result<Connection> {
        self.0.dials.fetch_add(1, Ordering::Relaxed);
        let answer = *self.0.dial.lock();
        answer.wait().await?;
        Ok(Connection::default())
    }

    async fn check(&self, connection: &Connection) -> io::Result<()> {
        let answer = *self.0.check.lock();
        answer.wait().await?;
        if connection.broken.load(Ordering::Relaxed) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

mod bb8_0_9_1 {
    use bb8::{ManageConnection, Pool, RunError};

    use super::*;

    impl ManageConnection for Manager {
        type Connection = Connection;
        type Error = io::Error;

        async fn connect(&self) -> io::Result<Connection> {
            self.dial().await
        }

        async fn is_valid(&self, connection: &mut Connection) -> io::Result<()> {
            self.check(connection).await
        }

        fn has_broken(&self, connection: &mut Connection) -> bool {
            connection.broken.load(Ordering::Relaxed)
        }
    }

    /// `PoolInner::get` (inner.rs) returns what `Getting::get` (internals.rs) popped; `has_broken` is asked in
    /// `PoolInner::put_back` only.
    #[tokio::test(start_paused = true)]
    async fn hands_out_what_its_driver_knows_to_be_broken() {
        for (test_on_check_out, broken) in [(false, true), (true, false)] {
            let pool = Pool::builder().test_on_check_out(test_on_check_out).build(Manager::new()).await.unwrap();
            let first = pool.get().await.unwrap().clone();
            first.broken.store(true, Ordering::Relaxed); // While it is idle in the pool.
            assert_eq!(pool.get().await.unwrap().broken.load(Ordering::Relaxed), broken);
        }
    }

    /// `PoolInner::get` (inner.rs) calls `record_get_started` before it waits and `record_get` after; a future dropped
    /// between the two is counted once. `Statistics::pending_gets` (api.rs) is their difference.
    #[tokio::test(start_paused = true)]
    async fn counts_a_cancelled_get_as_pending_for_ever() {
        let pool = Pool::builder().max_size(1).build(Manager::new()).await.unwrap();
        let held = pool.get().await.unwrap();
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(1), pool.get()).await.is_err());
        }
        drop(held);
        drop(pool.get().await.unwrap());
        sleep(HOUR).await;
        assert_eq!(pool.state().statistics.pending_gets(), 3, "nobody waits");
    }

    /// `PoolInner::add_connection` (inner.rs) awaits `connect` without a timeout, in a task that outlives the `get`; its
    /// approval stays in `pending_conns` (`PoolInternals::approvals`, internals.rs) and fills `max_size`.
    #[tokio::test(start_paused = true)]
    async fn a_hung_dial_takes_a_place_for_ever() {
        let manager = Manager::new();
        let pool = Pool::builder()
            .max_size(2)
            .connection_timeout(Duration::from_secs(5))
            .build(manager.clone())
            .await
            .unwrap();
        manager.set_dial(Answer::Never);
        let (first, second) = tokio::join!(pool.get(), pool.get());
        assert!(matches!((first.err(), second.err()), (Some(RunError::TimedOut), Some(RunError::TimedOut))));
        manager.set_dial(Answer::After(Duration::from_millis(10)));
        for _ in 0..3 {
            sleep(HOUR).await;
            assert!(matches!(pool.get().await.err(), Some(RunError::TimedOut)));
        }
        assert_eq!(manager.dials(), 2);
        assert_eq!(pool.state().connections, 0);
    }

    /// `PoolInner::add_connection` (inner.rs) sleeps between failed dials, twice as long each time up to half of
    /// `connection_timeout`; nothing wakes it when another dial succeeds or somebody asks again, and the sleeper keeps
    /// its approval, so that nobody dials in its stead.
    #[tokio::test(start_paused = true)]
    async fn sleeps_on_after_the_server_is_back() {
        let manager = Manager::new();
        let pool = Pool::builder()
            .max_size(2)
            .connection_timeout(Duration::from_secs(10))
            .build(manager.clone())
            .await
            .unwrap();
        manager.set_dial(Answer::Refused);
        let began = Instant::now();
        let get = async |after| {
            sleep(Duration::from_millis(after)).await;
            let lease = pool.get().await.unwrap();
            (began.elapsed().as_millis() / 100, lease)
        };
        let (first, second, ()) = tokio::join!(get(0), get(500), async {
            sleep(Duration::from_secs(3)).await;
            manager.set_dial(Answer::After(Duration::from_millis(10)));
        });
        // One dials after 0, 0.4, 1.2, 2.8 and 6.0 s, the other after 0.5, 0.9, 1.7, 3.3 s.
        assert_eq!((first.0, second.0), (33, 60));
        assert_eq!(manager.dials(), 9);
    }

    /// `Getting::get` (internals.rs) approves a dial while `in_flight > pending_conns`, and a `get` that is testing its
    /// connection is in flight as well. A `Notify` permit that nobody waited for (`PoolInternals::put`) sends the next
    /// `get` through it twice.
    #[tokio::test(start_paused = true)]
    async fn dials_for_those_who_have_a_connection() {
        let manager = Manager::new();
        let pool = Pool::builder().build(manager.clone()).await.unwrap();
        drop(pool.get().await.unwrap());
        let (first, second) = tokio::join!(pool.get(), pool.get());
        assert!(first.is_ok() && second.is_ok());
        sleep(HOUR).await;
        assert_eq!((manager.dials(), pool.state().connections), (3, 3), "never were more than 2 wanted at once");
    }

    /// `PoolInner::get` (inner.rs): when the timeout drops the future in `is_valid`, `PooledConnection::drop` (api.rs)
    /// puts the connection back in the state `Present`. `put_back` keeps what has not yet told that it is broken.
    #[tokio::test(start_paused = true)]
    async fn keeps_a_connection_whose_check_was_never_answered() {
        let manager = Manager::new();
        let pool = Pool::builder().connection_timeout(Duration::from_secs(3)).build(manager.clone()).await.unwrap();
        drop(pool.get().await.unwrap());
        manager.set_check(Answer::Never);
        for _ in 0..10 {
            assert!(matches!(pool.get().await.err(), Some(RunError::TimedOut)));
            assert_eq!(pool.state().idle_connections, 1, "the next caller gets it again");
        }
        assert_eq!(manager.dials(), 1, "there is room for nine more");
    }

    /// `PoolInternals::reap` (internals.rs) closes what is idle for too long, then dials up to `min_idle` anew, though
    /// `Builder::idle_timeout` (api.rs) says "idle connections in excess of `min_idle`".
    #[tokio::test(start_paused = true)]
    async fn idle_timeout_does_not_spare_min_idle() {
        let manager = Manager::new();
        let idle = Duration::from_millis(1);
        let pool = Pool::builder().min_idle(1).idle_timeout(idle).build(manager.clone()).await.unwrap();
        std::thread::sleep(2 * idle);
        sleep(Duration::from_secs(31)).await;
        assert_eq!(pool.state().statistics.connections_closed_idle_timeout, 1);
        assert_eq!((manager.dials(), pool.state().idle_connections), (2, 1));
    }
}

mod deadpool_0_13_1 {
    use deadpool::Runtime;
    use deadpool::managed::{self, Metrics, Pool, PoolError, RecycleResult, TimeoutType, Timeouts};

    use super::*;

    impl managed::Manager for Manager {
        type Type = Connection;
        type Error = io::Error;

        async fn create(&self) -> io::Result<Connection> {
            self.dial().await
        }

        async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<io::Error> {
            Ok(self.check(connection).await?)
        }
    }

    /// `Pool::timeout_get` (managed/pool.rs) has a timeout for each phase, `try_recycle` one for each idle connection,
    /// and none for the whole.
    #[tokio::test(start_paused = true)]
    async fn timeouts_of_the_phases_add_up() {
        let manager = Manager::new();
        let limit = Some(Duration::from_secs(3));
        let timeouts = Timeouts { wait: limit, create: limit, recycle: limit };
        let pool: Pool<Manager> =
            Pool::builder(manager.clone()).max_size(2).timeouts(timeouts).runtime(Runtime::Tokio1).build().unwrap();
        let (first, second) = (pool.get().await.unwrap(), pool.get().await.unwrap());
        manager.set_check(Answer::Never);
        manager.set_dial(Answer::Never);

        // 2.9 s for a place, twice 3 s for the dead ones, 3 s for a dial.
        let began = Instant::now();
        let (result, ()) = tokio::join!(pool.get(), async {
            sleep(Duration::from_millis(2900)).await;
            drop((first, second));
        });
        assert!(matches!(result.err(), Some(PoolError::Timeout(TimeoutType::Create))));
        assert_eq!(began.elapsed().as_millis() / 100, 119);
    }
}

mod deadpool_postgres_0_14_2 {
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
}
