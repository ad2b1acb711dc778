//! sqlx 0.9.0: the whole of it, with sqlx-postgres' `PgConnection`, over sockets of this host. Time is real here.

use sqlx_core::connection::Connection as _;
use sqlx_core::error::Error;
use sqlx_core::executor::Executor;
use sqlx_core::pool::{Pool, PoolOptions};
use sqlx_postgres::{PgConnectOptions, PgSslMode, Postgres};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// How long what should not come is waited for.
const WHILE: Duration = Duration::from_millis(200);

/// A server that starts sessions, and answers Sync and simple queries with the transaction status that PostgreSQL would
/// have.
#[derive(Default)]
struct Backends {
    sessions: AtomicU32,
    /// Sessions up to this one no longer answer.
    silent: AtomicU32,
    /// Sessions up to this one have ended.
    ended: AtomicU32,
    /// A session is started after this.
    startup: Mutex<Duration>,
    /// Each simple query, with the transaction status before it.
    log: Mutex<Vec<(char, String)>>,
}

impl Backends {
    async fn listen() -> (Arc<Backends>, PgConnectOptions) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("app");
        (Backends::serve_at(listener), options.ssl_mode(PgSslMode::Disable))
    }

    fn serve_at(listener: TcpListener) -> Arc<Backends> {
        let backends = Arc::new(Backends::default());
        let served = Arc::clone(&backends);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let session = served.sessions.fetch_add(1, Ordering::SeqCst) + 1;
                let served = Arc::clone(&served);
                tokio::spawn(async move { drop(served.serve(session, socket).await) });
            }
        });
        backends
    }

    async fn serve(&self, session: u32, mut socket: TcpStream) -> io::Result<()> {
        let len = socket.read_u32().await? as usize;
        socket.read_exact(&mut vec![0; len - 4]).await?;
        let startup = *self.startup.lock();
        sleep(startup).await;
        socket.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I").await?;
        let mut status = b'I';
        loop {
            let kind = tokio::select! {
                kind = socket.read_u8() => kind?,
                () = self.end_of(session) => return Ok(()),
            };
            let len = socket.read_u32().await? as usize;
            let mut body = vec![0; len - 4];
            socket.read_exact(&mut body).await?;
            let mut answer = Vec::new();
            match kind {
                b'Q' => {
                    let text = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                    let before = char::from(status);
                    match text.as_str() {
                        "BEGIN" => status = b'T',
                        "ROLLBACK" | "COMMIT" => status = b'I',
                        _ => {}
                    }
                    self.log.lock().push((before, text));
                    answer.extend_from_slice(b"C\0\0\0\x07OK\0");
                }
                b'S' => {}
                _ => return Ok(()),
            }
            answer.extend_from_slice(&[b'Z', 0, 0, 0, 5, status]);
            while self.silent.load(Ordering::SeqCst) >= session {
                sleep(Duration::from_millis(1)).await;
            }
            socket.write_all(&answer).await?;
        }
    }

    async fn end_of(&self, session: u32) {
        while self.ended.load(Ordering::SeqCst) < session {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn log(&self) -> Vec<(char, String)> {
        std::mem::take(&mut self.log.lock())
    }
}

fn options() -> PoolOptions<Postgres> {
    PoolOptions::new().max_connections(1).acquire_timeout(WHILE)
}

/// Opens a connection, and waits until it is idle.
async fn lend_once(pool: &Pool<Postgres>) {
    drop(pool.acquire().await.unwrap());
    while pool.num_idle() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// `Floating::return_to_pool` (sqlx-core's pool/connection.rs) awaits `ping` without a timeout, in a task that keeps the
/// semaphore's permit (`DecrementSizeGuard`).
#[tokio::test]
async fn a_return_that_nobody_answers_takes_a_place_for_ever() {
    let (backends, server) = Backends::listen().await;
    let pool = options().connect_lazy_with(server);
    let lease = pool.acquire().await.unwrap();
    // Silent from now on, without a FIN. New sessions would be answered.
    backends.silent.store(1, Ordering::SeqCst);
    drop(lease);
    for _ in 0..3 {
        assert!(matches!(pool.acquire().await.err(), Some(Error::PoolTimedOut)));
    }
    assert_eq!((pool.size(), pool.num_idle()), (1, 0), "nobody has it");
    assert_eq!(backends.sessions.load(Ordering::SeqCst), 1, "and none was dialled in its place");
}

/// `PoolInner::acquire` (sqlx-core's pool/inner.rs) returns what it popped when `test_before_acquire` is off. With it, a ping
/// finds the end of the stream.
#[tokio::test]
async fn hands_out_what_has_ended() {
    for (test_before_acquire, works) in [(false, false), (true, true)] {
        let (backends, server) = Backends::listen().await;
        let pool: Pool<Postgres> = options().test_before_acquire(test_before_acquire).connect_lazy_with(server);
        lend_once(&pool).await;
        backends.ended.store(1, Ordering::SeqCst);
        sleep(WHILE).await;
        let mut lease = pool.acquire().await.unwrap();
        assert_eq!(lease.ping().await.is_ok(), works);
    }
}

/// `PgTransactionManager::begin` (sqlx-postgres' transaction.rs) counts the transaction once BEGIN is answered. Dropped before
/// that, nothing is rolled back, since the depth is 0; and the ping in `Floating::return_to_pool` doesn't look at the
/// transaction status that answers it.
#[tokio::test]
async fn a_cancelled_begin_leaves_a_transaction_to_the_next() {
    let (backends, server) = Backends::listen().await;
    let pool = options().test_before_acquire(false).connect_lazy_with(server);
    lend_once(&pool).await;
    backends.silent.store(1, Ordering::SeqCst); // Slow, say.
    assert!(timeout(WHILE / 2, pool.begin()).await.is_err());
    backends.silent.store(0, Ordering::SeqCst);
    let mut lease = pool.acquire().await.unwrap();
    lease.execute("INSERT").await.unwrap();
    drop(lease);
    assert_eq!(backends.log(), [('I', "BEGIN".to_owned()), ('T', "INSERT".to_owned())], "never committed");
}

/// `PoolInner::acquire` (sqlx-core's pool/inner.rs) dials in its own future: when `acquire_timeout` ends it, the dial is
/// dropped, and the next caller begins anew. A server that takes a little longer than the timeout is never reached.
#[tokio::test]
async fn a_dial_ends_with_its_caller() {
    let (backends, server) = Backends::listen().await;
    *backends.startup.lock() = WHILE + WHILE / 2;
    let pool = options().test_before_acquire(false).connect_lazy_with(server);
    for dials in 1..=4 {
        assert!(matches!(pool.acquire().await.err(), Some(Error::PoolTimedOut)));
        assert_eq!((backends.sessions.load(Ordering::SeqCst), pool.size()), (dials, 0));
    }
}

/// `PoolConnection::drop` (sqlx-core's pool/connection.rs) spawns `return_to_pool`, whose ping takes a round trip. Meanwhile
/// nothing is idle, and an acquire dials.
#[tokio::test]
async fn dials_while_a_connection_is_on_its_way_back() {
    let (backends, server) = Backends::listen().await;
    let pool = options().max_connections(2).connect_lazy_with(server);
    drop(pool.acquire().await.unwrap());
    drop(pool.acquire().await.unwrap());
    assert_eq!(backends.sessions.load(Ordering::SeqCst), 2, "never was more than 1 wanted at once");
}

/// `PoolInner::connect` (sqlx-core's pool/inner.rs) sleeps between refused dials, each time twice as long, up to a fifth of the
/// timeout; nothing wakes it. Those who come later dial at once.
#[tokio::test]
async fn the_first_to_come_sleeps_on_while_others_are_served() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken); // Now a dial there is refused.
    let server = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(address.port()).username("app");
    let options = options().max_connections(2).acquire_timeout(Duration::from_secs(30));
    let pool = options.connect_lazy_with(server.ssl_mode(PgSslMode::Disable));
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    sleep(Duration::from_millis(1500)).await; // It sleeps from 1.27 s to 2.55 s.
    let _backends = Backends::serve_at(TcpListener::bind(address).await.unwrap());
    for _ in 0..20 {
        drop(pool.acquire().await.unwrap());
    }
    assert!(!first.is_finished(), "twenty were served, and the first still waits");
    first.await.unwrap().unwrap();
}

/// `spawn_maintenance_tasks` (pool/inner.rs) of a pool with a timeout or lifetime dials up to `min_connections` only right after
/// it has closed a connection for its age.
#[tokio::test]
async fn a_lazy_pool_has_its_minimum_after_a_reaping_only() {
    let (_backends, server) = Backends::listen().await;
    let lazy = |lifetime| {
        let options = PoolOptions::<Postgres>::new().max_connections(5).min_connections(3);
        options.idle_timeout(None).max_lifetime(lifetime).connect_lazy_with(server.clone())
    };
    let is_full = async |pool: &Pool<Postgres>| {
        while pool.size() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(20);
    timeout(patience, is_full(&lazy(None))).await.unwrap();
    let long = lazy(Some(HOUR));
    lend_once(&long).await;
    assert!(timeout(WHILE, is_full(&long)).await.is_err());
    assert_eq!(long.size(), 1);
    let short = lazy(Some(WHILE / 4));
    lend_once(&short).await;
    timeout(patience, is_full(&short)).await.unwrap();
}

/// `spawn_maintenance_tasks` (pool/inner.rs) puts back what is not idle for long enough by `PoolInner::release`, from where on it
/// is idle anew.
#[tokio::test]
async fn the_reaper_begins_idle_times_anew() {
    let (_backends, server) = Backends::listen().await;
    let limit = Duration::from_millis(500);
    loop {
        let began = Instant::now();
        let options = PoolOptions::<Postgres>::new().max_connections(1).max_lifetime(None).idle_timeout(limit);
        let pool = options.connect_lazy_with(server.clone());
        sleep(limit / 4).await;
        lend_once(&pool).await;
        let idle_since = Instant::now();
        // The reaper looks after 0.5 s, when it has not been idle for as long, and after 1 s.
        sleep(limit * 3 / 2).await;
        let size = pool.size();
        if began.elapsed() > limit * 19 / 10 || idle_since - began > limit / 2 {
            continue; // This host is too busy.
        }
        assert_eq!(size, 1, "it has been idle for {:?}", idle_since.elapsed());
        let is_empty = async {
            while pool.size() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        return timeout(Duration::from_secs(20), is_empty).await.unwrap();
    }
}

/// `PoolInner::acquire` (pool/inner.rs) looks for an idle connection once, then awaits `connect` itself: what comes back meanwhile is
/// idle, and not for it.
#[tokio::test]
async fn waits_for_its_own_dial_beside_an_idle_connection() {
    let (backends, server) = Backends::listen().await;
    let options = PoolOptions::<Postgres>::new().max_connections(2).acquire_timeout(5 * WHILE);
    let pool = options.connect_lazy_with(server);
    *backends.startup.lock() = HOUR;
    let (first, ()) = tokio::join!(pool.acquire(), async {
        while backends.sessions.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(WHILE).await;
        *backends.startup.lock() = Duration::ZERO;
        lend_once(&pool).await;
    });
    assert!(matches!(first.err(), Some(Error::PoolTimedOut)));
    assert_eq!(pool.num_idle(), 1);
}

/// `PoolInner::connect` (pool/inner.rs) begins with a pause of 10 ms in each acquire, and caps it at a fifth of the time that this acquire
/// has left. In a queue each has little left when its turn to dial comes.
#[tokio::test]
async fn a_queue_in_an_outage_dials_in_a_storm() {
    // The backend that refuses: it starts up, as PostgreSQL says then.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dials = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&dials);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let len = socket.read_u32().await? as usize;
                socket.read_exact(&mut vec![0; len - 4]).await?;
                let body = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
                let mut answer = vec![b'E'];
                answer.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
                answer.extend_from_slice(body);
                socket.write_all(&answer).await
            });
        }
    });
    let server = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("app");
    let count = async |callers: u32| {
        dials.store(0, Ordering::SeqCst);
        let options = PoolOptions::<Postgres>::new().max_connections(1).acquire_timeout(Duration::from_secs(1));
        let pool = options.connect_lazy_with(server.clone().ssl_mode(PgSslMode::Disable));
        let mut all = Vec::new();
        for _ in 0..callers {
            let pool = pool.clone();
            all.push(tokio::spawn(async move { pool.acquire().await.is_ok() }));
            sleep(Duration::from_secs(1) / callers).await;
        }
        for caller in all {
            assert!(!caller.await.unwrap());
        }
        dials.load(Ordering::SeqCst)
    };
    // Alone after 0, 10, 30, 70, 150, 310, 510, 710 and 910 ms. The first of fifty as well; of the others each has 20 ms.
    let (alone, queue) = (count(1).await, count(50).await);
    assert!(alone < 12 && queue > 30, "{alone}, {queue}");
}

/// `spawn_maintenance_tasks` (pool/inner.rs) of a pool without a timeout or lifetime dials up to `min_connections` in a task that no
/// close ends, by `PoolInner::min_connections_maintenance` with a deadline of 300 s. `PoolInner::close` waits for its permit.
#[tokio::test]
async fn a_hung_dial_in_the_background_takes_a_place_and_stops_close() {
    let (backends, server) = Backends::listen().await;
    *backends.startup.lock() = HOUR;
    let pool = options().min_connections(1).idle_timeout(None).max_lifetime(None).connect_lazy_with(server);
    while backends.sessions.load(Ordering::SeqCst) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(WHILE).await;
    // New sessions would be answered from now on.
    *backends.startup.lock() = Duration::ZERO;
    for _ in 0..3 {
        assert!(matches!(pool.acquire().await.err(), Some(Error::PoolTimedOut)));
    }
    assert_eq!(backends.sessions.load(Ordering::SeqCst), 1);
    assert!(timeout(5 * WHILE, pool.close()).await.is_err());
}
