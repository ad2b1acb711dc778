//! The way between one seat and one server: its door, its conditions now, and the connects that are under way on it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolproof_sim::net::Link;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::door::Door;
use super::socket::AppEnd;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the app to the server.
    Up,
    /// From the server to the app.
    Down,
}

/// The conditions of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Road {
    pub(super) link: Link,
    /// What leaves for the server is lost.
    pub(super) up_blocked: bool,
    /// What leaves for the app is lost.
    pub(super) down_blocked: bool,
    /// A firewall forgets a flow that was idle for so long.
    pub(super) idle_timeout: Option<Duration>,
}

impl Road {
    pub(super) fn blocked(&self, way: Way) -> bool {
        match way {
            Way::Up => self.up_blocked,
            Way::Down => self.down_blocked,
        }
    }
}

/// A path.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) seat: Arc<str>,
    pub(super) upstream: Arc<str>,
    pub(super) door: Door,
    pub(super) road: watch::Sender<Road>,
    /// Connects by [`super::Seat::dial`], by the address that they come from.
    pub(super) expected: Mutex<BTreeMap<SocketAddr, Expected>>,
    /// When the bandwidth has room again, up and down.
    free_at: Mutex<[Option<Instant>; 2]>,
    entropy: Mutex<ChaCha8Rng>,
}

/// What is known of a connect before it arrives at the door.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) app: Arc<AppEnd>,
    /// The server was dialled already.
    pub(super) server: Option<TcpStream>,
    /// Dropped when it has arrived.
    pub(super) arrived: oneshot::Sender<()>,
}

impl Path {
    pub(super) fn new(seat: Arc<str>, upstream: Arc<str>, door: Door, road: Road, seed: u64) -> Path {
        Path {
            seat,
            upstream,
            door,
            road: watch::Sender::new(road),
            expected: Mutex::default(),
            free_at: Mutex::default(),
            entropy: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
        }
    }

    /// How long something that leaves now is on its way.
    pub(super) fn delay(&self, link: &Link) -> Duration {
        if link.jitter.is_zero() {
            return link.latency;
        }
        link.latency + link.jitter.mul_f64(self.entropy.lock().random_range(0.0..=1.0))
    }

    /// When so many bytes have left, if they leave as soon as the bandwidth lets them.
    pub(super) fn left_at(&self, way: Way, bytes: usize) -> Option<Instant> {
        let per_second = self.road.borrow().link.bandwidth?;
        let takes = Duration::from_secs_f64(bytes as f64 / per_second.max(1) as f64);
        let mut free_at = self.free_at.lock();
        let free = &mut free_at[match way {
            Way::Up => 0,
            Way::Down => 1,
        }];
        let now = Instant::now();
        let left = free.map_or(now, |free| free.max(now)) + takes;
        *free = Some(left);
        Some(left)
    }
}
