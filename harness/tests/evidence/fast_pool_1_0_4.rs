//! fast_pool 1.0.4.

use fast_pool::Pool;

use super::*;

/// The error that fast_pool makes of a text.
#[derive(Debug, PartialEq)]
pub(super) struct Text(String);

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.to_owned())
    }
}

impl fast_pool::Manager for Manager {
    type Connection = Connection;
    type Error = Text;

    async fn connect(&self) -> Result<Connection, Text> {
        self.dial().await.map_err(|error| Text(error.to_string()))
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), Text> {
        Manager::check(self, connection).await.map_err(|error| Text(error.to_string()))
    }
}

fn pool(manager: &Manager, max_open: u64) -> Pool<Manager> {
    let pool = Pool::new(manager.clone());
    pool.set_max_open(max_open);
    pool
}

/// `Pool::get_timeout` (pool.rs) reads no timeout as none at all: `unwrap_or_default` is zero.
#[tokio::test(start_paused = true)]
async fn no_timeout_is_a_timeout_of_nothing() {
    let pool = pool(&Manager::new(), 1);
    pool.set_timeout_wait(None);
    assert_eq!(pool.get().await.err(), Some(Text::from("get_timeout")));
}

/// `Pool::get_timeout` (pool.rs) looks once whether there is room to dial, then waits on the channel of idle connections.
/// When a connection is dropped instead of returned, and its caller's own dial fails, there is room, and nobody tells the
/// one that waits.
#[tokio::test(start_paused = true)]
async fn a_waiter_does_not_learn_of_room_to_dial() {
    let manager = Manager::new();
    let pool = pool(&manager, 1);
    let held = pool.get().await.unwrap();
    held.broken.store(true, Ordering::Relaxed);
    // Two wait. The first gets the broken connection, drops it, and dials in vain.
    manager.set_dial(Answer::Refused);
    let (first, second, ()) = tokio::join!(pool.get(), pool.get(), async {
        sleep(Duration::from_secs(1)).await;
        drop(held);
        sleep(Duration::from_secs(1)).await;
        manager.set_dial(Answer::After(Duration::from_millis(10)));
    });
    assert_eq!(first.err(), Some(Text::from("connection refused")));
    assert_eq!(second.err(), Some(Text::from("get_timeout")), "for 28 s there was a server, and room for a connection");
    assert_eq!(pool.state().connections, 0);
}

/// `Pool::get_timeout` (pool.rs) dials whenever there are fewer than `max_open`, before it looks for an idle one.
#[tokio::test(start_paused = true)]
async fn dials_though_a_connection_is_idle() {
    let manager = Manager::new();
    let pool = pool(&manager, 5);
    for _ in 0..20 {
        drop(pool.get().await.unwrap());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((manager.dials(), pool.state().idle), (5, 5), "never was more than 1 wanted at once");
}

/// `Pool::get_timeout` (pool.rs) puts what it has dialled at the end of the channel, and takes what is at its head: with a dead
/// connection there, it waits for the answer to a check while the new one is idle.
#[tokio::test(start_paused = true)]
async fn waits_for_a_dead_connection_beside_the_one_it_dialled() {
    let manager = Manager::new();
    let pool = pool(&manager, 2);
    pool.set_timeout_wait(Some(Duration::from_secs(3)));
    drop(pool.get().await.unwrap());
    manager.set_check(Answer::Never);
    assert_eq!(pool.get().await.err(), Some(Text::from("get_timeout")));
    assert_eq!((manager.dials(), pool.state().idle), (2, 1));
}

/// `ConnectionGuard::drop` (guard.rs) sends the connection to the end of the channel, where `Pool::get_timeout` (pool.rs)
/// receives from: flume wakes the first of those that wait, and gives the connection to whoever receives first. Who has just
/// returned one does so before the woken one is polled.
#[tokio::test(start_paused = true)]
async fn serves_who_comes_back_before_who_waits() {
    let pool = pool(&Manager::new(), 1);
    let hog = tokio::spawn({
        let pool = pool.clone();
        async move {
            for _ in 0..10_000 {
                let lease = pool.get().await.unwrap();
                sleep(Duration::from_millis(20)).await;
                drop(lease);
            }
        }
    });
    sleep(Duration::from_millis(1)).await;
    let began = Instant::now();
    assert_eq!(pool.get().await.err(), Some(Text::from("get_timeout")));
    assert_eq!(began.elapsed(), Duration::from_secs(30), "the connection came back 1 000 times meanwhile");
    assert!(!hog.is_finished());
}

/// `Pool::set_max_open` (pool.rs) closes what is idle; `Pool::recycle` asks `max_idle` alone, so that what comes back is kept
/// and lent again.
#[tokio::test(start_paused = true)]
async fn a_smaller_max_open_does_not_bind_what_is_out() {
    let manager = Manager::new();
    let pool = pool(&manager, 3);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(pool.get().await.unwrap());
    }
    pool.set_max_open(2);
    for _ in 0..20 {
        drop(held.remove(0));
        held.push(pool.get().await.unwrap());
    }
    assert_eq!((pool.get_max_open(), held.len(), manager.dials()), (2, 3, 3));
}

/// `Pool::set_max_open` (pool.rs) lowers `max_idle`, and never raises it: a pool that has grown again closes what comes back.
#[tokio::test(start_paused = true)]
async fn a_larger_max_open_leaves_max_idle_where_it_is() {
    let manager = Manager::new();
    let pool = pool(&manager, 4);
    pool.set_max_open(2);
    pool.set_max_open(4);
    for _ in 0..10 {
        let _all = (pool.get().await, pool.get().await, pool.get().await, pool.get().await);
    }
    assert_eq!((pool.get_max_idle_conns(), manager.dials()), (2, 4 + 9 * 2));
}

/// `Pool::get_timeout` (pool.rs) awaits its own `connect` before it looks at the channel of idle connections.
#[tokio::test(start_paused = true)]
async fn waits_for_its_own_dial_beside_an_idle_connection() {
    let manager = Manager::new();
    let pool = pool(&manager, 2);
    manager.set_dial(Answer::Never);
    let (first, ()) = tokio::join!(pool.get(), async {
        sleep(Duration::from_secs(1)).await;
        manager.set_dial(Answer::After(Duration::from_millis(10)));
        drop(pool.get().await.unwrap());
    });
    assert_eq!(first.err(), Some(Text::from("get_timeout")));
    assert_eq!((manager.dials(), pool.state().idle), (2, 1), "for 29 s one was idle");
}
