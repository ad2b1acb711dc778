//! What the network tells whoever watches it.

use std::net::SocketAddr;

/// One thing that happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// The client's end is established (`connect` returned).
    Opened {
        /// The client's address.
        client: SocketAddr,
        /// The server's address.
        server: SocketAddr,
    },
    /// Neither end exists any more.
    Closed {
        /// The client's address.
        client: SocketAddr,
        /// The server's address.
        server: SocketAddr,
    },
    /// One end got a RST.
    Reset {
        /// The end that got it.
        local: SocketAddr,
        /// Its peer.
        peer: SocketAddr,
    },
    /// One end gave up: keepalive or retransmission, or a connect without an answer.
    TimedOut {
        /// The end that gave up.
        local: SocketAddr,
        /// Its peer.
        peer: SocketAddr,
    },
    /// The network forgot the connection: from now on its segments are lost.
    Forgotten {
        /// The client's address.
        client: SocketAddr,
        /// The server's address.
        server: SocketAddr,
    },
}

/// Receives each event at the instant it happens, on the run's thread, with no lock of the network held.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn net_event(&self, event: NetEvent);
}
