//! What the published pools do, shown without poolproof: the pools from crates.io, a fake connection of a few lines, tokio's
//! paused clock (a real one for r2d2, which blocks threads). Each finding that a scenario declares (`[[expect.known]]`) has its test here and its section in
//! `scenarios/museum/README.md`. A test asserts the behaviour as it is in the locked version: when a release changes
//! it, the test fails, and the entry in the scenario can go.

#![expect(clippy::unwrap_used, reason = "tests")]

mod abandoned_statement;
#[cfg(feature = "bb8")]
mod bb8_0_9_1;
#[cfg(feature = "deadpool")]
mod deadpool_0_13_1;
#[cfg(feature = "deadpool")]
mod deadpool_postgres_0_14_2;
#[cfg(feature = "fast_pool")]
mod fast_pool_1_0_4;
#[cfg(feature = "mobc")]
mod mobc_0_9_0;
#[cfg(feature = "qp")]
mod qp_0_2_1;
#[cfg(feature = "r2d2")]
mod r2d2_0_8_10;
#[cfg(feature = "sqlx")]
mod sqlx_0_9_0;

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

/// A manager of most of the pools.
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
