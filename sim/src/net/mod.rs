//! A simulated TCP network: streams with Linux's timers, event-driven, so that idle virtual time costs nothing.
//!
//! Modelled: hosts with names and addresses; links with latency, jitter and bandwidth; the handshake with its losses,
//! refusal and backlog; data with send and receive buffers; FIN, RST and half-open ends; retransmission with backoff,
//! `tcp_retries2`, `tcp_orphan_retries`, `TCP_USER_TIMEOUT` and keepalive; partitions, forgetful firewalls, process death,
//! power loss, DNS re-pointing.
//!
//! Left out, since pools don't meet it: packets and their sizes, congestion control and slow start, fast retransmission, delayed ACKs,
//! buffer tuning, `TIME_WAIT` and `FIN_WAIT_2` timeouts (ports are never reused), urgent data, simultaneous open. ICMP errors are
//! never sent: what is lost is lost silently.
//!
//! Time: events are ordered by microsecond, and happen when tokio's timer, which counts whole milliseconds, lets them: at the
//! next whole millisecond. Without latency, jitter and bandwidth a write is in the peer's buffer at once and no timer
//! is involved. Events of the same microsecond on different streams are ordered by the seed.
//!
//! | module | its story |
//! | --- | --- |
//! | `net` | the network: hosts, names, links, buffers |
//! | `host` | a host: connect, listen, death and power |
//! | `listener`, `stream` | the sockets a program holds |
//! | `fault` | partitions, forgotten and reset connections, ports |
//! | `flow` | the state of one connection |
//! | `handshake`, `tcp` | what TCP does with it |
//! | `timers` | Linux's numbers |
//! | `events`, `world` | the queue of what will happen, and the task that lets it happen |
//! | `link`, `observe` | paths, reports |

mod events;
mod fault;
mod flow;
mod handshake;
mod host;
mod link;
mod listener;
#[expect(clippy::module_inception, reason = "the type Net lives in it")]
mod net;
mod observe;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod timers;
mod world;

pub use fault::{FlowFilter, PortMode};
pub use flow::StreamState;
pub use host::Host;
pub use link::{Direction, Link};
pub use listener::Listener;
pub use net::{FlowInfo, Net};
pub use observe::{NetEvent, Observer};
pub use stream::{Stream, StreamHandle};
pub use timers::{Keepalive, SocketOptions};
