//! What becomes of a statement whose caller is dropped, with tokio-postgres 0.7.18: it runs on, and the connection goes back to the
//! pool. The server here answers a simple query of `SLEEP 5000` after five seconds, as PostgreSQL does `SELECT pg_sleep(5)`, and
//! others at once.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::*;

/// A server, and the sockets that its clients have open.
#[derive(Clone, Default)]
struct Postgres(Arc<Sockets>);

#[derive(Default)]
struct Sockets {
    open: AtomicU32,
    most: AtomicU32,
    dials: AtomicU32,
}

/// One that is open.
struct Socket(Arc<Sockets>);

impl Socket {
    fn open(sockets: Arc<Sockets>) -> Socket {
        let open = sockets.open.fetch_add(1, Ordering::Relaxed) + 1;
        sockets.most.fetch_max(open, Ordering::Relaxed);
        Socket(sockets)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Postgres {
    async fn serve(mut io: DuplexStream) -> io::Result<()> {
        let len = io.read_u32().await? as usize;
        io.read_exact(&mut vec![0; len - 4]).await?;
        io.write_all(b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I").await?;
        while io.read_u8().await? == b'Q' {
            let len = io.read_u32().await? as usize;
            let mut body = vec![0; len - 4];
            io.read_exact(&mut body).await?;
            let text = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
            if let Some(millis) = text.strip_prefix("SLEEP ") {
                sleep(Duration::from_millis(millis.parse().unwrap())).await;
            }
            io.write_all(b"I\0\0\0\x04Z\0\0\0\x05I").await?;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        Ok(self.connect_with_task().await?.0)
    }

    async fn connect_with_task(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let sockets = Arc::clone(&self.0);
        sockets.dials.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = tokio::io::duplex(4096);
        tokio::spawn(Postgres::serve(theirs));
        let (client, connection) = Config::new().user("app").connect_raw(ours, NoTls).await?;
        let socket = Socket::open(sockets);
        let task = tokio::spawn(async move {
            drop(connection.await);
            drop(socket);
        });
        Ok((client, task))
    }

    fn most_at_once(&self) -> u32 {
        self.0.most.load(Ordering::Relaxed)
    }
}

/// A caller is dropped in the middle of a statement of five seconds.
async fn abandon(client: &Client) {
    assert!(timeout(Duration::from_millis(10), client.simple_query("SLEEP 5000")).await.is_err());
}

/// The pool's only connection is lent at once to the next one, whose statement waits for the end of the former one's.
macro_rules! the_next_one_waits_behind_it {
    ($get:expr) => {{
        let lease = $get;
        abandon(&lease).await;
        drop(lease);
        sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        let lease = $get;
        assert!(began.elapsed() < Duration::from_millis(10), "it is lent as if it were free");
        lease.simple_query("SELECT 1").await.unwrap();
        assert_eq!(began.elapsed().as_millis() / 100, 49, "almost five seconds for a SELECT 1");
    }};
}

/// With a check and a timeout of a second the next one gets nothing, and its connection is given up: it no longer counts, and
/// another is dialled while the server still has it.
macro_rules! what_is_given_up_is_still_open {
    ($postgres:expr, $get:expr) => {{
        let lease = $get.await.unwrap();
        abandon(&lease).await;
        drop(lease);
        sleep(Duration::from_millis(10)).await;
        assert!($get.await.is_err());
        let lease = $get.await.unwrap();
        lease.simple_query("SELECT 1").await.unwrap();
        assert_eq!($postgres.most_at_once(), 2, "the pool may have one connection");
    }};
}

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

#[cfg(feature = "bb8")]
mod bb8_0_9_1 {
    use bb8::{ManageConnection, Pool};

    use super::*;

    impl ManageConnection for Postgres {
        type Connection = Client;
        type Error = tokio_postgres::Error;

        async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
            Postgres::connect(self).await
        }

        async fn is_valid(&self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
            client.simple_query("").await.map(drop)
        }

        fn has_broken(&self, client: &mut Client) -> bool {
            client.is_closed()
        }
    }

    /// `PoolInner::put_back` (inner.rs) asks `has_broken`, which is about the socket.
    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_behind_it() {
        let pool = Pool::builder().max_size(1).test_on_check_out(false).build(Postgres::default()).await.unwrap();
        the_next_one_waits_behind_it!(pool.get().await.unwrap());
    }
}

#[cfg(feature = "deadpool")]
mod deadpool_postgres_0_14_2 {
    use std::pin::Pin;

    use deadpool_postgres::{Connect, ManagerConfig, Pool, RecyclingMethod};
    use tokio_postgres::Error;

    use super::*;

    impl Connect for Postgres {
        fn connect(
            &self,
            _: &Config,
        ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
            Box::pin(Postgres::connect_with_task(self))
        }
    }

    fn pool(postgres: &Postgres, recycling_method: RecyclingMethod) -> Pool {
        let config = ManagerConfig { recycling_method };
        let manager = deadpool_postgres::Manager::from_connect(Config::new(), postgres.clone(), config);
        Pool::builder(manager).max_size(1).build().unwrap()
    }

    /// `Manager::recycle` (lib.rs) asks `is_closed` alone, by `RecyclingMethod::Fast`.
    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_behind_it() {
        let pool = pool(&Postgres::default(), RecyclingMethod::Fast);
        the_next_one_waits_behind_it!(pool.get().await.unwrap());
    }

    /// `ClientWrapper::drop` (lib.rs) aborts the driver's task, and the socket is closed with it.
    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_closed() {
        let postgres = Postgres::default();
        let pool = pool(&postgres, RecyclingMethod::Verified);
        let lease = pool.get().await.unwrap();
        abandon(&lease).await;
        drop(lease);
        assert!(timeout(Duration::from_secs(1), pool.get()).await.is_err());
        let lease = pool.get().await.unwrap();
        lease.simple_query("SELECT 1").await.unwrap();
        assert_eq!((postgres.0.dials.load(Ordering::Relaxed), postgres.most_at_once()), (2, 1));
    }
}

#[cfg(feature = "fast_pool")]
mod fast_pool_1_0_4 {
    use fast_pool::Pool;

    use super::*;
    use crate::fast_pool_1_0_4::Text;

    struct Checks {
        postgres: Postgres,
        asks: bool,
    }

    impl fast_pool::Manager for Checks {
        type Connection = Client;
        type Error = Text;

        async fn connect(&self) -> Result<Client, Text> {
            self.postgres.connect().await.map_err(|error| Text::from(error.to_string().as_str()))
        }

        async fn check(&self, client: &mut Client) -> Result<(), Text> {
            if self.asks {
                client.simple_query("").await.map_err(|error| Text::from(error.to_string().as_str()))?;
            }
            Ok(())
        }
    }

    fn pool(postgres: &Postgres, asks: bool) -> Pool<Checks> {
        let pool = Pool::new(Checks { postgres: postgres.clone(), asks });
        pool.set_max_open(1);
        pool.set_timeout_wait(SECOND);
        pool
    }

    /// `ConnectionGuard::drop` (guard.rs) sends the connection back, whatever state it is in.
    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_behind_it() {
        let pool = pool(&Postgres::default(), false);
        the_next_one_waits_behind_it!(pool.get().await.unwrap());
    }

    /// The timeout drops the future of `Pool::get_timeout` (pool.rs) in `check`, and the guard with it, unchecked: the connection is
    /// dropped, and counts no more.
    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_still_open() {
        let postgres = Postgres::default();
        let pool = pool(&postgres, true);
        what_is_given_up_is_still_open!(postgres, pool.get());
    }
}

#[cfg(feature = "mobc")]
mod mobc_0_9_0 {
    use mobc::{Pool, async_trait};

    use super::*;

    #[async_trait]
    impl mobc::Manager for Postgres {
        type Connection = Client;
        type Error = tokio_postgres::Error;

        async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
            Postgres::connect(self).await
        }

        async fn check(&self, client: Client) -> Result<Client, tokio_postgres::Error> {
            client.simple_query("").await?;
            Ok(client)
        }
    }

    fn pool(postgres: &Postgres, checks: bool) -> Pool<Postgres> {
        Pool::builder().max_open(1).test_on_check_out(checks).get_timeout(SECOND).build(postgres.clone())
    }

    /// `recycle_conn` (lib.rs) asks `Manager::validate`, which mobc-postgres leaves at yes.
    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_behind_it() {
        let pool = pool(&Postgres::default(), false);
        the_next_one_waits_behind_it!(pool.get().await.unwrap());
    }

    /// `get_timeout` drops the future of `Pool::get_ctx` (lib.rs) in `Manager::check`, which owns the connection by then.
    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_still_open() {
        let postgres = Postgres::default();
        let pool = pool(&postgres, true);
        what_is_given_up_is_still_open!(postgres, pool.get());
    }
}

#[cfg(feature = "qp")]
mod qp_0_2_1 {
    use qp::resource::Manage;
    use qp::{Pool, async_trait};

    use super::*;

    struct Validates {
        postgres: Postgres,
        asks: bool,
    }

    #[async_trait]
    impl Manage for Validates {
        type Output = Client;
        type Error = tokio_postgres::Error;

        async fn try_create(&self) -> Result<Client, tokio_postgres::Error> {
            self.postgres.connect().await
        }

        async fn validate(&self, client: &Client) -> bool {
            !client.is_closed() && (!self.asks || client.simple_query("").await.is_ok())
        }
    }

    fn pool(postgres: &Postgres, asks: bool) -> Pool<Validates> {
        Pool::new(Validates { postgres: postgres.clone(), asks }, 1)
    }

    /// qp-postgres' `validate` asks `is_closed` alone.
    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_behind_it() {
        let pool = pool(&Postgres::default(), false);
        the_next_one_waits_behind_it!(pool.acquire().await.unwrap());
    }

    /// A caller that gives up drops the future of `Inner::acquire` (pool.rs) in `validate`, and the resource with it.
    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_is_still_open() {
        let postgres = Postgres::default();
        let pool = pool(&postgres, true);
        let within_a_second = async || timeout(Duration::from_secs(1), pool.acquire()).await.ok()?.ok();
        what_is_given_up_is_still_open!(postgres, async { within_a_second().await.ok_or(()) });
    }
}
