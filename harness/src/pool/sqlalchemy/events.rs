//! The pool events (<https://docs.sqlalchemy.org/en/20/core/events.html#sqlalchemy.events.PoolEvents>), for whoever listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use poolproof_sim::postgres::event::Pid;

/// An event of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolEvent {
    /// Which.
    pub kind: EventKind,
    /// The connection's backend; `None` for a record that has no connection any more.
    pub connection: Option<Pid>,
}

/// The kinds of pool events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The pool's first connection was made.
    FirstConnect,
    /// A connection was made.
    Connect,
    /// A connection is about to be handed out.
    Checkout,
    /// A connection is about to be reset.
    Reset,
    /// A record goes back to its pool.
    Checkin,
    /// A connection is about to be closed for what was found.
    Invalidate,
    /// A connection is to be closed at its next checkout.
    SoftInvalidate,
    /// A connection is about to be closed.
    Close,
    /// A connection that was taken out of its pool is about to be closed.
    CloseDetached,
    /// A connection was taken out of its pool.
    Detach,
}

impl EventKind {
    /// SQLAlchemy's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::FirstConnect => "first_connect",
            EventKind::Connect => "connect",
            EventKind::Checkout => "checkout",
            EventKind::Reset => "reset",
            EventKind::Checkin => "checkin",
            EventKind::Invalidate => "invalidate",
            EventKind::SoftInvalidate => "soft_invalidate",
            EventKind::Close => "close",
            EventKind::CloseDetached => "close_detached",
            EventKind::Detach => "detach",
        }
    }
}

/// Told of every event, in order.
pub type Listener = Arc<dyn Fn(PoolEvent) + Send + Sync>;

/// The listeners of one pool. A pool's successor has the same listener, and a first connection of its own.
pub(super) struct Events {
    listener: Option<Listener>,
    connected: AtomicBool,
}

impl Events {
    pub(super) fn new(listener: Option<Listener>) -> Events {
        Events { listener, connected: AtomicBool::new(false) }
    }

    pub(super) fn successor(&self) -> Events {
        Events::new(self.listener.clone())
    }

    pub(super) fn emit(&self, kind: EventKind, connection: Option<Pid>) {
        if let Some(listener) = &self.listener {
            listener(PoolEvent { kind, connection });
        }
    }

    /// `first_connect` once, then `connect`.
    pub(super) fn connected(&self, connection: Pid) {
        if !self.connected.swap(true, Ordering::Relaxed) {
            self.emit(EventKind::FirstConnect, Some(connection));
        }
        self.emit(EventKind::Connect, Some(connection));
    }
}
