//! The network as a whole.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::flow::StreamState;
use super::host::Host;
use super::link::{Direction, Link};
use super::observe::Observer;
use super::world::{HostState, Shared};

/// The first port a kernel gives to a client here. (Linux begins at 32768 and picks at random.)
const FIRST_EPHEMERAL_PORT: u16 = 1025;

/// A network of hosts. Cheap to clone; all clones are the same network.
///
/// It may be made anywhere, but is used inside one tokio runtime, where it runs one task of its own from the first
/// delayed segment on.
#[derive(Clone)]
pub struct Net {
    pub(crate) shared: Arc<Shared>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

/// What [`Net::flows`] says of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowInfo {
    /// Names the connection; grows with each connect.
    pub serial: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// The server's address.
    pub server: SocketAddr,
    /// Time since the connect began.
    pub age: Duration,
    /// The client's end.
    pub client_state: StreamState,
    /// The server's end.
    pub server_state: StreamState,
    /// The network drops its segments.
    pub forgotten: bool,
}

impl Net {
    /// A network without hosts. The seed decides jitter, and the order of what happens in the same microsecond.
    #[must_use]
    pub fn new(seed: u64) -> Net {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // A stream of its own, whatever else is drawn from the same seed.
        random.set_stream(u64::from_le_bytes(*b"tcp  net"));
        Net { shared: Shared::new(random) }
    }

    /// Tasks of the runtime that are the network's own: its driver, once there was something to drive.
    #[must_use]
    pub fn own_tasks(&self) -> usize {
        self.shared.with(|w| usize::from(w.driver.running))
    }

    /// A new host with a running process, known to every other by this name.
    ///
    /// # Panics
    /// When the name is taken, or after 65 534 hosts.
    #[must_use]
    pub fn add_host(&self, name: &str) -> Host {
        let (index, ip) = self.shared.with(|w| {
            let index = w.hosts.len();
            let number = u16::try_from(index + 1).expect("a network has at most 65 534 hosts");
            let ip = IpAddr::V4(Ipv4Addr::new(10, 0, (number >> 8) as u8, (number & 255) as u8));
            assert!(w.names.insert(name.to_owned(), index).is_none(), "two hosts named {name}");
            w.hosts.push(HostState {
                ip,
                powered: true,
                incarnation: 0,
                dead: false,
                next_port: FIRST_EPHEMERAL_PORT,
                dns_ttl: Duration::ZERO,
                dns_cache: Default::default(),
                modes: Default::default(),
                listeners: Default::default(),
            });
            (index, ip)
        });
        Host::new(Arc::clone(&self.shared), index, 0, name.into(), ip)
    }

    /// Points a DNS name at a host from now on. Hosts with a TTL go on using what they cached.
    pub fn set_name(&self, name: &str, host: &Host) {
        self.shared.with(|w| w.names.insert(name.to_owned(), host.index));
    }

    /// The link between two hosts, in one direction or both. What is on its way keeps its arrival.
    pub fn set_link(&self, a: &Host, b: &Host, direction: Direction, link: Link) {
        self.shared.with(|w| {
            w.links.insert((a.index, b.index), link);
            if direction == Direction::Both {
                w.links.insert((b.index, a.index), link);
            }
            w.refresh_all();
        });
    }

    /// The link between hosts for which none is set. Without this, nothing is delayed. A host reaches itself without
    /// delay.
    pub fn set_default_link(&self, link: Link) {
        self.shared.with(|w| {
            w.default_link = link;
            w.refresh_all();
        });
    }

    /// Bytes a sender keeps unacknowledged (`SO_SNDBUF`), and bytes a receiver keeps unread (`SO_RCVBUF`, and with it the
    /// window), for all sockets. 64 KiB each by default; Linux tunes them up to some megabytes as it goes.
    pub fn set_buffers(&self, send: usize, receive: usize) {
        self.shared.with(|w| {
            w.send_buffer = send.max(1);
            w.receive_buffer = receive.max(1);
        });
    }

    /// Reports events to `observer` from now on.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.shared.with(|w| w.observers.push(observer));
    }

    /// How many events are queued. An idle network whose links are whole has none.
    #[must_use]
    pub fn pending_events(&self) -> usize {
        self.shared.with(|w| w.queue.len())
    }
}
