//! What poolproof is compared with: no world at all (the ceiling), and turmoil, beside our network alone.

use std::time::{Duration, Instant};

use poolproof_sim::net::{Host, Link, Net, SocketOptions};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{Client, Config, NoTls};

use crate::stopwatch::{Spent, Stopwatch, process_cpu};
use crate::toy_server;

fn config() -> Config {
    let mut config = Config::new();
    config.user("app").dbname("app");
    config
}

/// `SELECT 1`, by the call that poolproof's actors make.
async fn query(client: &Client) {
    client.batch_execute("SELECT 1").await.expect("the toy server answers every query");
}

/// tokio-postgres over `tokio::io::duplex` with the toy server: `tasks` tasks, each with a connection of its own, do
/// `queries` in all.
pub fn ceiling(tasks: u64, queries: u64) -> Spent {
    on_a_thread(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime needs nothing of the system").block_on(async move {
            let mut clients = Vec::new();
            for _ in 0..tasks {
                let (near, far) = tokio::io::duplex(64 * 1024);
                tokio::spawn(toy_server::serve(far));
                let (client, connection) = config().connect_raw(near, NoTls).await.expect("the toy server takes all");
                tokio::spawn(connection);
                clients.push(client);
            }
            let watch = Stopwatch::start();
            let tasks: Vec<_> = clients
                .into_iter()
                .map(|client| {
                    tokio::spawn(async move {
                        for _ in 0..queries / tasks {
                            query(&client).await;
                        }
                        client
                    })
                })
                .collect();
            for task in tasks {
                drop(task.await.expect("no query fails"));
            }
            watch.read()
        })
    })
}

/// [`ceiling`] on so many threads at once, by the wall clock: what the machine gives to threads that share nothing. CPU time
/// is that of the process.
pub fn ceiling_on(threads: u64, tasks: u64, queries: u64) -> Spent {
    let (wall, cpu) = (Instant::now(), process_cpu());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| ceiling(tasks, queries / threads));
        }
    });
    Spent { wall: wall.elapsed(), cpu: process_cpu().saturating_sub(cpu) }
}

/// The load of [`crate::load::Load`] on turmoil: bb8 in one host, the toy server in another, ticks of 1 ms and a latency
/// of 1 ms. The toy server does less than poolproof's, and nothing is watched: the comparison favours turmoil.
pub fn turmoil(actors: u64, queries: u64, connections: u32) -> Spent {
    on_a_thread(move || {
        let latency = Duration::from_millis(1);
        let mut sim = turmoil::Builder::new()
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(latency)
            .max_message_latency(latency)
            .simulation_duration(Duration::from_hours(24))
            .tcp_capacity(4096)
            .rng_seed(1)
            .build();
        sim.host("server", || async {
            let listener = turmoil::net::TcpListener::bind(("0.0.0.0", 5432)).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::spawn(toy_server::serve(stream));
            }
        });
        sim.client("app", async move {
            pooled(Manager(Via::Turmoil), actors, queries, connections).await;
            Ok(())
        });
        let watch = Stopwatch::start();
        sim.run().expect("nothing fails in it");
        watch.read()
    })
}

/// The same on poolproof's network: what the two networks cost, everything else being equal.
pub fn own_network(actors: u64, queries: u64, connections: u32) -> Spent {
    let ran = poolproof_sim::runtime::run(1, async move || {
        let net = Net::new(1);
        net.set_default_link(Link { latency: Duration::from_millis(1), jitter: Duration::ZERO, bandwidth: None });
        let (server, app) = (net.add_host("server"), net.add_host("app"));
        net.set_name("server", &server);
        let listener = server.listen(5432, 4096).expect("the port is free");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(toy_server::serve(stream));
            }
        });
        let watch = Stopwatch::start();
        pooled(Manager(Via::Ours(app)), actors, queries, connections).await;
        watch.read()
    });
    ran.expect("the load doesn't panic")
}

/// bb8 with so many connections, and actors that do so many queries in all.
async fn pooled(manager: Manager, actors: u64, queries: u64, connections: u32) {
    let pool = bb8::Pool::builder()
        .max_size(connections)
        .test_on_check_out(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .build(manager)
        .await
        .expect("the server is up");
    let tasks: Vec<_> = (0..actors)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for _ in 0..queries / actors {
                    query(&pool.get().await.expect("the server is up")).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no query fails");
    }
}

/// What is dialled over.
enum Via {
    Turmoil,
    Ours(Host),
}

struct Manager(Via);

impl bb8::ManageConnection for Manager {
    type Connection = Client;
    type Error = std::io::Error;

    async fn connect(&self) -> Result<Client, std::io::Error> {
        match &self.0 {
            Via::Turmoil => start(turmoil::net::TcpStream::connect(("server", 5432)).await?).await,
            Via::Ours(host) => start(host.connect("server", 5432, &SocketOptions::default()).await?).await,
        }
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), std::io::Error> {
        client.batch_execute("").await.map_err(std::io::Error::other)
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

async fn start<S>(stream: S) -> Result<Client, std::io::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = config().connect_raw(stream, NoTls).await.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    Ok(client)
}

/// A fresh thread, as every run of ours has.
fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(work).join().expect("the work doesn't panic")
}
